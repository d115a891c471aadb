//! Tries whether the guard holds, by forged attempts that are never carried out (`dryRun=All`).
//!
//! That a policy is there and says the right words does not prove that the API server obeys it: the admission plugin
//! may be switched off, or this controller may run under a name that the policies do not mean. So, while it leads, the
//! controller tries what it must never get: at start, when an object of the guard has changed, and every few minutes.
//! Each attempt has to be refused in the name of the policy that it is aimed at; one that is accepted is a hole, and
//! no approval counts. A refusal for another reason, such as a missing permission, proves nothing either way: what was
//! never answered since this controller leads is untested, which is a hole too.
//!
//! It is tried on objects that are there for nothing else, in the operator's own namespace ([`attempt`]): what a tenant
//! has in theirs says nothing about the guard, and must not switch approvals off for everybody.

mod attempt;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rollback_api::RollbackRequest;

use crate::context::Context;
use crate::guard::Tried;
use attempt::{Answer, Attempt, HOME, NAME, Stage};

/// How often it is tried.
const PERIOD: Duration = Duration::from_mins(5);
/// How often while the guard has a hole, the policies that stamp are not obeyed, or the API server does not answer.
const PERIOD_OF_TROUBLE: Duration = Duration::from_secs(10);
/// How soon while something was never answered, and nothing is known of it.
const SOON: Duration = Duration::from_secs(1);
/// For how long one round waits for a first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How soon it tries again meanwhile: somebody may have written the objects in between.
const RETRY: Duration = Duration::from_millis(200);
/// How long after a change it is tried: the API server takes up a policy some time after it has accepted it.
const SETTLE: Duration = Duration::from_secs(2);

/// Whether this request is the one that forged attempts are made on. It is never carried out, whoever made it.
pub fn is_its_own(request: &RollbackRequest) -> bool {
    let metadata = &request.metadata;
    metadata.namespace.as_deref() == Some(HOME) && metadata.name.as_deref() == Some(NAME)
}

/// Tries while this controller leads. Never ends.
pub async fn run(context: Arc<Context>) {
    if !context.leader.elected().await {
        std::future::pending::<()>().await;
    }
    context.guard.ready().await;
    let mut changes = context.guard.objects();
    let mut tester = Tester {
        context,
        accepted: BTreeMap::new(),
        stamps: None,
        untried: BTreeMap::new(),
        unanswered: BTreeMap::new(),
    };
    loop {
        changes.known();
        Box::pin(tester.round()).await;
        tokio::select! {
            () = tester.due() => {}
            () = changes.next() => tokio::time::sleep(SETTLE).await,
        }
    }
}

struct Tester {
    context: Arc<Context>,
    /// Whether the attempt was accepted when it was last answered.
    accepted: BTreeMap<Attempt, bool>,
    /// Whether the API server put a forged name right when that was last answered.
    stamps: Option<bool>,
    /// Why attempts could not be made in the last round.
    untried: BTreeMap<Attempt, String>,
    /// Why the API server did not answer attempts of the last round.
    unanswered: BTreeMap<Attempt, String>,
}

impl Tester {
    /// Waits until it is time again.
    async fn due(&self) {
        let is_complete = self.unanswered.is_empty();
        let wait = if self.nothing_is_known() {
            SOON
        } else if !is_complete
            || !self.context.guard.seen().holes.is_empty()
            || self.context.guard.is_stamp_disobeyed()
        {
            PERIOD_OF_TROUBLE
        } else {
            PERIOD
        };
        tokio::time::sleep(wait).await;
    }

    /// Whether the API server has never answered one of the attempts, and might the next time.
    fn nothing_is_known(&self) -> bool {
        let mut unanswered = self.unanswered.keys();
        unanswered.any(|attempt| !self.accepted.contains_key(attempt))
    }

    async fn round(&mut self) {
        let expected = Attempt::ALL.into_iter();
        let expected: Vec<Attempt> = expected
            .filter(|attempt| self.context.guard.expects(&attempt.place()))
            .collect();
        let began = Instant::now();
        loop {
            let stage = Stage::set(self.context.client.clone()).await;
            let attempts = expected.iter().map(|attempt| stage.make(*attempt));
            let answers = futures::future::join_all(attempts).await;
            self.learn(answers);
            if !self.nothing_is_known() || began.elapsed() > FIRST_ANSWER {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
        let holes = expected.into_iter().filter_map(|attempt| {
            let hole = match self.accepted.get(&attempt) {
                Some(false) => return None,
                Some(true) => attempt.sentence(),
                None => {
                    let why = self.untried.get(&attempt);
                    let why = why.or_else(|| self.unanswered.get(&attempt));
                    attempt.untested(why.map_or("", String::as_str))
                }
            };
            Some((attempt.place(), hole))
        });
        self.context.guard.judge(Tried {
            holes: holes.collect(),
            stamps: self.stamps,
        });
    }

    /// What was not answered leaves the last answer as it is.
    fn learn(&mut self, answers: Vec<(Attempt, Answer)>) {
        let mut untried = BTreeMap::new();
        self.unanswered.clear();
        for (attempt, answer) in answers {
            match answer {
                Answer::Refused => {
                    self.accepted.insert(attempt, false);
                    if attempt == Attempt::Name {
                        self.stamps = Some(false);
                    }
                }
                Answer::PutRight => {
                    self.accepted.insert(attempt, false);
                    if attempt == Attempt::Name {
                        self.stamps = Some(true);
                    }
                }
                Answer::Accepted => {
                    if self.accepted.insert(attempt, true) != Some(true) {
                        tracing::warn!(
                            hole = attempt.sentence(),
                            "admission guard self-test FAILED: {}",
                            attempt.failure()
                        );
                    }
                }
                Answer::Untried(why) => {
                    untried.insert(attempt, why);
                }
                Answer::Unreachable(why) => {
                    tracing::warn!(
                        ?attempt,
                        why,
                        "admission guard self-test: a forged attempt was not answered"
                    );
                    self.unanswered.insert(attempt, why);
                }
            }
        }
        if untried != self.untried {
            tracing::info!(
                ?untried,
                "admission guard self-test: these forged attempts could not be tried"
            );
            self.untried = untried;
        }
        if self.unanswered.is_empty() {
            self.context.metrics.guard_tested(Timestamp::now());
        }
    }
}
