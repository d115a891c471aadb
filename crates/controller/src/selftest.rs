//! Tries whether the guard holds, by forged attempts that are never carried out (`dryRun=All`).
//!
//! That a policy is there and says the right words does not prove that the API server obeys it: the admission plugin
//! may be switched off, or this controller may run under a name that the policies do not mean. So, while it leads, the
//! controller tries what it must never get: at start, when an object of the guard has changed, and every few minutes.
//! Each attempt has to be refused in the name of the policy that it is aimed at; one that is accepted is a hole, and
//! no approval counts. A refusal for another reason, such as a missing permission, proves nothing either way.

mod attempt;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::Store;
use rollback_api::RollbackRequest;

use crate::context::Context;
use attempt::{Answer, Attempt, Stage};

/// How often it is tried.
const PERIOD: Duration = Duration::from_mins(5);
/// How often while the guard has a hole, or the API server does not answer.
const PERIOD_OF_TROUBLE: Duration = Duration::from_secs(10);
/// How often it is looked, in memory, whether there is a first request to try it on.
const LOOK: Duration = Duration::from_secs(30);
/// How long after a change it is tried: the API server takes up a policy some time after it has accepted it.
const SETTLE: Duration = Duration::from_secs(2);

/// Tries while this controller leads. Never ends.
pub async fn run(context: Arc<Context>, requests: Store<RollbackRequest>, namespace: String) {
    if !context.gate.opened().await {
        std::future::pending::<()>().await;
    }
    context.guard.ready().await;
    // A store whose writer is gone is never ready; then the process is ending.
    let _ = requests.wait_until_ready().await;
    let mut changes = context.guard.objects();
    let mut tester = Tester {
        context,
        requests,
        namespace,
        accepted: BTreeMap::new(),
        untried: BTreeMap::new(),
        complete: false,
        had_request: false,
    };
    loop {
        changes.known();
        tester.round().await;
        tokio::select! {
            () = tester.due() => {}
            () = changes.next() => tokio::time::sleep(SETTLE).await,
        }
    }
}

struct Tester {
    context: Arc<Context>,
    requests: Store<RollbackRequest>,
    /// Where forged requests are created.
    namespace: String,
    /// Whether the attempt was accepted when it was last answered.
    accepted: BTreeMap<Attempt, bool>,
    /// Why attempts could not be made in the last round.
    untried: BTreeMap<Attempt, String>,
    /// Whether all attempts of the last round were answered.
    complete: bool,
    /// Whether there ever was a request with a plan to try it on.
    had_request: bool,
}

impl Tester {
    /// Waits until it is time again.
    async fn due(&self) {
        if !self.complete || !self.context.guard.seen().holes.is_empty() {
            return tokio::time::sleep(PERIOD_OF_TROUBLE).await;
        }
        let mut left = PERIOD;
        while !left.is_zero() && (self.had_request || !is_planned(self.request().as_deref())) {
            tokio::time::sleep(LOOK).await;
            left = left.saturating_sub(LOOK);
        }
    }

    /// The request to try it on: best one that has a plan and has not ended.
    fn request(&self) -> Option<Arc<RollbackRequest>> {
        self.requests.state().into_iter().max_by_key(|request| {
            let open = !has_ended(request);
            let planned = is_planned(Some(request));
            (open && planned, open, planned)
        })
    }

    async fn round(&mut self) {
        let request = self.request();
        self.had_request |= is_planned(request.as_deref());
        let stage = Stage {
            client: self.context.client.clone(),
            namespace: &self.namespace,
            request: request.as_deref(),
        };
        let guard = &self.context.guard;
        let attempts = Attempt::ALL
            .into_iter()
            .filter(|attempt| guard.expects(&attempt.place()))
            .map(|attempt| stage.make(attempt));
        let answers = futures::future::join_all(attempts).await;
        self.learn(answers);
        let accepted = self.accepted.iter().filter(|(_, accepted)| **accepted);
        let holes = accepted.map(|(attempt, _)| (attempt.place(), attempt.sentence()));
        self.context.guard.judge(holes.collect());
    }

    /// What was not answered leaves the last answer as it is.
    fn learn(&mut self, answers: Vec<(Attempt, Answer)>) {
        let mut untried = BTreeMap::new();
        self.complete = true;
        for (attempt, answer) in answers {
            match answer {
                Answer::Refused => {
                    self.accepted.insert(attempt, false);
                }
                Answer::Accepted => {
                    if self.accepted.insert(attempt, true) != Some(true) {
                        tracing::warn!(hole = attempt.sentence(), "a forged attempt was accepted");
                    }
                }
                Answer::Idle => {}
                Answer::Untried(why) => {
                    untried.insert(attempt, why);
                }
                Answer::Unreachable(why) => {
                    self.complete = false;
                    tracing::warn!(?attempt, why, "a forged attempt was not answered");
                }
            }
        }
        if untried != self.untried {
            tracing::info!(?untried, "these forged attempts could not be tried");
            self.untried = untried;
        }
        if self.complete {
            self.context.metrics.guard_tested(Timestamp::now());
        }
    }
}

fn has_ended(request: &RollbackRequest) -> bool {
    let status = request.status.as_ref();
    status.is_some_and(|status| status.outcome.is_some())
}

fn is_planned(request: Option<&RollbackRequest>) -> bool {
    let status = request.and_then(|request| request.status.as_ref());
    status.is_some_and(|status| status.plan.is_some())
}
