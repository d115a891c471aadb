//! Records the evidence about each Deployment in its ledger, whether anybody ever asks for a rollback or not.
//!
//! Nothing is polled: a Deployment that does not change costs nothing. A change is looked at about a second later, so
//! that one rollout is a few looks and not a hundred; a look reads the Deployment and its ledger live, decides
//! (`rollback_core::evidence`), and writes the `resourceVersion` that it has read. While a request holds the claim
//! nothing is written: what can be said then can be said afterwards, from the moment that was noticed, and a request
//! that is about to write must not lose races against bookkeeping.

mod queue;
mod recording;
mod schedule;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use rollback_api::policy::Ledger;
use rollback_api::{LIFT, LIFTED_BY, QUARANTINE_LABEL, RevisionLedger, RevisionLedgerSpec};
use rollback_core::evidence::{LedgerRules, Lift, Look, Notice, Record, orphaned};
use rollback_core::history::ledger::current;
use rollback_core::observed::Deployment;
use rollback_observe::evidence::Ledgers;
use rollback_observe::{self as observe, evidence};
use rollback_reads::budget::Budget;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use crate::analysis::Change;
use crate::context::Context;
use crate::{events, ledger};
use queue::End;
use recording::{Recording, RecordingCache};
use schedule::{Job, PAUSE, Schedule};
pub use watches::Name;
use watches::WatchEvent;

/// How many looks are under way at the same time.
const AT_ONCE: usize = 8;
/// How much memory what one look reads may take.
const MEMORY: usize = 4 << 20;
/// How long after a permission may have changed it is asked about for the last time.
const LATER: Duration = Duration::from_secs(10);
/// How long a look may take, whatever hangs.
const LIMIT: Duration = Duration::from_mins(1);
/// After how long a claim is looked at again that nobody gave back.
const CLAIMED: Duration = Duration::from_mins(10);
/// How much later than computed, so that a clock that is read twice does not say too early.
const SLACK: Duration = Duration::from_millis(20);
/// The shortest time between two looks that nothing has asked for.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time that is waited for anything; longer than any policy asks.
const LONGEST: Duration = Duration::from_hours(24 * 8);
/// After how long the recorder is started again, should it ever end.
const RESTART: Duration = Duration::from_mins(1);

/// Why something was not recorded. All of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be read.
    #[error("observing failed")]
    Observe(#[from] observe::Error),
    /// The ledger could not be written.
    #[error("writing the RevisionLedger")]
    Write(#[source] kube::Error),
    /// It took too long.
    #[error("the look did not end within {} seconds", LIMIT.as_secs())]
    TimedOut,
}

impl Error {
    /// Whether somebody else wrote first, or deleted. Nothing is wrong then: look again.
    fn is_race(&self) -> bool {
        self.answer()
            .is_some_and(|answer| answer.is_conflict() || answer.is_not_found())
    }

    /// Whether we may not write there, or no longer.
    fn is_forbidden(&self) -> bool {
        self.answer().is_some_and(kube::core::Status::is_forbidden)
    }

    /// What the API server said to the write.
    fn answer(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Write(kube::Error::Api(status)) => Some(status),
            Self::Write(_) | Self::Observe(_) | Self::TimedOut => None,
        }
    }
}

/// What comes of a job.
enum Next {
    /// Nothing before something changes.
    Change,
    /// Nothing before then.
    At(Timestamp),
    /// Nothing before the claim is given back.
    Release,
    /// The namespace is recorded, which it was not before, or by other rules.
    Opened,
    /// The namespace is not recorded.
    Closed,
    /// These are its Deployments that are looked at, and those with a quarantine.
    Found {
        /// Those that are recorded.
        recorded: Vec<String>,
        /// Those with a quarantine that admission looks at.
        quarantined: Vec<String>,
    },
}

/// Records while this controller leads. Never ends.
pub async fn run(
    context: Arc<Context>,
    watches: Client,
    namespace: Option<String>,
    changes: UnboundedSender<Change>,
) {
    if !context.leader.elected().await {
        std::future::pending::<()>().await;
    }
    loop {
        // A task of its own, so that reading large objects holds up no pass.
        let (watches, namespace) = (watches.clone(), namespace.clone());
        let recording = follow(context.clone(), watches, namespace, changes.clone());
        let end = AbortOnDropHandle::new(tokio::spawn(recording)).await;
        tracing::error!(?end, "nothing is recorded for a minute");
        tokio::time::sleep(RESTART).await;
    }
}

async fn follow(
    context: Arc<Context>,
    watches: Client,
    namespace: Option<String>,
    changes: UnboundedSender<Change>,
) {
    let recorder = Recorder {
        context,
        scopes: RecordingCache::default(),
    };
    let mut event = watches::watch(&watches, namespace.as_deref());
    let mut schedule = Schedule::new();
    let mut jobs = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(event) = event.next() => {
                // Nobody analyses any more when the controller stops.
                if let Some(change) = of_a_new_version(&event) {
                    let _ = changes.send(change);
                }
                schedule.take(event, &recorder.scopes);
            }
            Some((job, notice, result)) = jobs.next() => {
                recorder.file(&mut schedule, &job, notice, result);
            }
            (job, notice) = schedule.queue.next(), if jobs.len() < AT_ONCE => {
                let notice = notice.unwrap_or_else(|| schedule.nothing());
                jobs.push(recorder.work(job, notice));
            }
        }
    }
}

/// A Deployment that opts in has changed.
fn of_a_new_version(event: &WatchEvent) -> Option<Change> {
    match event {
        WatchEvent::Deployment {
            name,
            complete,
            automatic: Some(digest),
        } => Some(Change {
            name: name.clone(),
            digest: digest.clone(),
            complete: *complete,
        }),
        WatchEvent::Deployment {
            automatic: None, ..
        }
        | WatchEvent::Listing
        | WatchEvent::Listed
        | WatchEvent::Lost
        | WatchEvent::Gone(_)
        | WatchEvent::Ledger { .. }
        | WatchEvent::NoLedger(_)
        | WatchEvent::Rules(_) => None,
    }
}

/// Does the jobs.
struct Recorder {
    context: Arc<Context>,
    scopes: RecordingCache,
}

impl Recorder {
    async fn work(&self, job: Job, notice: Notice) -> (Job, Notice, Result<Next, Error>) {
        let work = async {
            match &job {
                Job::Look(name) => self.look(name, notice).await,
                Job::Quarantine(name) => self.quarantine(name, notice).await,
                Job::Check(namespace) | Job::CheckAgain(namespace) => self.check(namespace).await,
                Job::Find(namespace) => self.find(namespace).await,
            }
        };
        let result = tokio::time::timeout(LIMIT, work).await;
        let result = result.unwrap_or(Err(Error::TimedOut));
        (job, notice, result)
    }

    /// The scope of a namespace, and whether it is another one than before.
    async fn scope(&self, namespace: &str) -> Result<(Recording, Option<Recording>), Error> {
        match self.scopes.fresh(namespace) {
            Some(known) => Ok((known.clone(), Some(known))),
            None => self.ask(namespace).await,
        }
    }

    /// The same, asked now.
    async fn ask(&self, namespace: &str) -> Result<(Recording, Option<Recording>), Error> {
        let rules = evidence::rules(&self.context.client, namespace).await?;
        let scope = rules.map_or(Recording::Closed, Recording::Open);
        let before = self.scopes.learn(namespace, scope.clone());
        Ok((scope, before))
    }

    async fn check(&self, namespace: &str) -> Result<Next, Error> {
        let (scope, before) = self.ask(namespace).await?;
        Ok(match scope {
            Recording::Closed => Next::Closed,
            Recording::Open(_) if before.as_ref() != Some(&scope) => Next::Opened,
            Recording::Open(_) => Next::Change,
        })
    }

    async fn find(&self, namespace: &str) -> Result<Next, Error> {
        let client = &self.context.client;
        let records = self.scope(namespace).await?.0.records();
        let recorded = if records {
            evidence::names(client, namespace).await?
        } else {
            Vec::new()
        };
        let which = if records {
            Ledgers::Enforced
        } else {
            Ledgers::All
        };
        let quarantined = evidence::quarantined(client, namespace, which).await?;
        Ok(Next::Found {
            recorded,
            quarantined,
        })
    }

    async fn look(&self, name: &Name, notice: Notice) -> Result<Next, Error> {
        let (scope, before) = self.scope(&name.namespace).await?;
        if scope.records() && before.is_some_and(|before| before != scope) {
            return Ok(Next::Opened);
        }
        match scope {
            Recording::Open(rules) if rules.keep.record => self.visit(name, &rules, notice).await,
            Recording::Open(_) | Recording::Closed => Ok(Next::Closed),
        }
    }

    async fn quarantine(&self, name: &Name, notice: Notice) -> Result<Next, Error> {
        match self.scope(&name.namespace).await? {
            (Recording::Open(rules), _) => {
                let nothing_else = LedgerRules {
                    keep: Ledger {
                        record: false,
                        ..rules.keep
                    },
                    ..rules
                };
                self.visit(name, &nothing_else, notice).await
            }
            (Recording::Closed, _) => Ok(Next::Closed),
        }
    }

    async fn visit(&self, name: &Name, rules: &LedgerRules, notice: Notice) -> Result<Next, Error> {
        let asked = Timestamp::now();
        let client = &self.context.client;
        let budget = Budget::of(MEMORY);
        let (deployment, ledger) =
            evidence::pair(client, &name.namespace, &name.name, &budget).await?;
        let Some(deployment) = deployment.filter(|deployment| !deployment.is_deleting()) else {
            return self.orphaned(name, ledger.as_ref(), rules).await;
        };
        if self.is_claimed(name, &deployment, ledger.as_ref()).await? {
            return Ok(Next::Release);
        }
        let ledger = ledger.as_ref();
        self.record(name, &deployment, ledger, rules, notice, asked, &budget)
            .await
    }

    /// A ledger whose Deployment is gone: it is kept while admission looks at it.
    async fn orphaned(
        &self,
        name: &Name,
        ledger: Option<&RevisionLedger>,
        rules: &LedgerRules,
    ) -> Result<Next, Error> {
        let Some(ledger) = ledger.filter(|ledger| ledger.labels().contains_key(QUARANTINE_LABEL))
        else {
            return Ok(Next::Change);
        };
        if self.is_held(name, Some(&ledger.spec)).await? {
            return Ok(Next::Release);
        }
        let now = Timestamp::now();
        let record = orphaned(&ledger.spec, lift(ledger), rules.enforce, now);
        self.keep(name, Some(ledger), record).await
    }

    /// Writes what is new, and says when to look again.
    async fn keep(
        &self,
        name: &Name,
        ledger: Option<&RevisionLedger>,
        record: Record,
    ) -> Result<Next, Error> {
        if let Some(spec) = &record.ledger {
            ledger::write(&self.context.client, &name.namespace, ledger, spec)
                .await
                .map_err(Error::Write)?;
        }
        Ok(record.again.map_or(Next::Change, Next::At))
    }

    /// Whether a request is at work on the Deployment, which is there to give back its claim.
    async fn is_claimed(
        &self,
        name: &Name,
        deployment: &Deployment,
        ledger: Option<&RevisionLedger>,
    ) -> Result<bool, Error> {
        let spec = current(ledger.map(|ledger| &ledger.spec), deployment.uid());
        self.is_held(name, spec).await
    }

    /// Whether the request is there that holds the claim.
    async fn is_held(&self, name: &Name, spec: Option<&RevisionLedgerSpec>) -> Result<bool, Error> {
        match spec.and_then(|spec| spec.claim.as_ref()) {
            Some(claim) => {
                Ok(evidence::is_held(&self.context.client, &name.namespace, claim).await?)
            }
            None => Ok(false),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what one look knows")]
    async fn record(
        &self,
        name: &Name,
        deployment: &Deployment,
        ledger: Option<&RevisionLedger>,
        rules: &LedgerRules,
        notice: Notice,
        asked: Timestamp,
        budget: &Budget,
    ) -> Result<Next, Error> {
        let client = &self.context.client;
        let mut look = Look {
            deployment,
            pods: &[],
            ledger: ledger.map(|ledger| &ledger.spec),
            lift: ledger.and_then(lift),
            rules,
            notice,
            asked,
            now: Timestamp::now(),
        };
        let pods;
        if look.wants_pods() {
            pods = evidence::pods(client, &name.namespace, deployment, budget).await?;
            look.pods = &pods;
        }
        let record = look.record();
        if let Some(returned) = &record.returned {
            self.context.metrics.version_returned();
            tracing::warn!(%name, namespace = name.namespace, ?returned, "a version in quarantine was brought back");
            events::returned(&self.context, &name.namespace, deployment, returned).await;
        }
        self.keep(name, ledger, record).await
    }

    /// What follows from what came of a job.
    fn file(
        &self,
        schedule: &mut Schedule,
        job: &Job,
        notice: Notice,
        result: Result<Next, Error>,
    ) {
        let end = match result {
            Ok(Next::Change) => End::Done(None),
            Ok(Next::Closed) => {
                if let Job::Check(namespace) = job {
                    let again = Job::CheckAgain(namespace.clone());
                    schedule.queue.notice(&again, schedule.nothing(), LATER);
                }
                End::Done(None)
            }
            Ok(Next::At(at)) => End::Done(Some(until(at))),
            Ok(Next::Release) => End::Held(notice, CLAIMED),
            Ok(Next::Opened) => {
                let nothing = schedule.nothing();
                let find = Job::Find(job.namespace().to_owned());
                schedule.queue.notice(&find, nothing, Duration::ZERO);
                End::Done(None)
            }
            Ok(Next::Found {
                recorded,
                quarantined,
            }) => {
                schedule.found(job.namespace(), recorded, quarantined);
                End::Done(None)
            }
            Err(error) if error.is_race() => End::Raced(notice, PAUSE),
            Err(error) => {
                self.complain(job, &error);
                End::Failed(notice)
            }
        };
        schedule.queue.end(job, end, PAUSE);
    }

    fn complain(&self, job: &Job, error: &Error) {
        self.context.metrics.failed("record");
        if error.is_forbidden() {
            // Perhaps the namespace has opted out. Asked again, before it is tried again.
            self.scopes.expire(Some(job.namespace()));
        }
        let cause = std::error::Error::source(error).map(crate::reconcile::chain);
        tracing::warn!(?job, %error, cause, "evidence was not recorded and will be tried again");
    }
}

/// The quarantine that somebody lifts.
fn lift(ledger: &RevisionLedger) -> Option<Lift<'_>> {
    let annotations = ledger.annotations();
    Some(Lift {
        digest: annotations.get(LIFT)?,
        by: annotations.get(LIFTED_BY)?,
    })
}

fn until(at: Timestamp) -> Duration {
    let left = at.duration_since(Timestamp::now());
    let left = Duration::try_from(left).unwrap_or_default();
    // What is past already is looked at soon, and not over and over.
    left.clamp(SHORTEST, LONGEST) + SLACK
}
