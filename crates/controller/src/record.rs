//! Records the evidence about each Deployment in its ledger, whether anybody ever asks for a rollback or not.
//!
//! Nothing is polled: a Deployment that does not change costs nothing. A change is looked at about a second later, so
//! that one rollout is a few looks and not a hundred; a look reads the Deployment and its ledger live, decides
//! (`rollback_core::evidence`), and writes the `resourceVersion` that it has read. While a request holds the claim
//! nothing is written: what can be said then can be said afterwards, from the moment that was noticed, and a request
//! that is about to write must not lose races against bookkeeping.

mod news;
mod queue;
mod scope;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use rollback_api::policy::Ledger;
use rollback_api::{LIFT, LIFTED_BY, RevisionLedger};
use rollback_core::evidence::{Lift, Look, Notice};
use rollback_core::ledger::current;
use rollback_core::observed::Deployment;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::ledger;
use crate::observe::{self, evidence};
use news::{Name, News};
use queue::{End, Queue};
use scope::{Scope, Scopes};

/// How many looks are under way at the same time.
const AT_ONCE: usize = 8;
/// How long after a change it is looked at, with all that changed meanwhile.
const PAUSE: Duration = Duration::from_secs(1);
/// How long after a permission may have changed it is asked about for the last time.
const LATER: Duration = Duration::from_secs(10);
/// How much later each one is looked at when all are: a start must not be felt by anybody.
const STEP: Duration = Duration::from_millis(10);
/// How long a look may take, whatever hangs.
const LIMIT: Duration = Duration::from_mins(1);
/// After how long a claim is looked at again that nobody gave back.
const CLAIMED: Duration = Duration::from_mins(10);
/// For how long after a watch failed it may still bring what happened before.
const DOUBT: Duration = Duration::from_mins(1);
/// How much later than computed, so that a clock that is read twice does not say too early.
const SLACK: Duration = Duration::from_millis(20);
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

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    /// Look at a Deployment.
    Look(Name),
    /// See whether a namespace is recorded by now.
    Check(String),
    /// The same once more: the authorizer learns of a permission on its own, perhaps later than we do.
    CheckAgain(String),
    /// Find the Deployments of a namespace that is recorded by now.
    Find(String),
}

impl Job {
    fn namespace(&self) -> &str {
        match self {
            Self::Look(name) => &name.namespace,
            Self::Check(namespace) | Self::CheckAgain(namespace) | Self::Find(namespace) => {
                namespace
            }
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
    /// These are its Deployments.
    Found(Vec<String>),
}

/// Records while this controller leads. Never ends.
pub async fn run(context: Arc<Context>, watches: Client, namespace: Option<String>) {
    if !context.gate.opened().await {
        std::future::pending::<()>().await;
    }
    loop {
        // A task of its own, so that reading large objects holds up no pass.
        let recording = follow(context.clone(), watches.clone(), namespace.clone());
        let end = AbortOnDropHandle::new(tokio::spawn(recording)).await;
        tracing::error!(?end, "nothing is recorded for a minute");
        tokio::time::sleep(RESTART).await;
    }
}

async fn follow(context: Arc<Context>, watches: Client, namespace: Option<String>) {
    let recorder = Recorder {
        context,
        scopes: Scopes::default(),
    };
    let mut news = news::watch(&watches, namespace.as_deref());
    let mut desk = Desk::new();
    let mut jobs = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(news) = news.next() => desk.take(news, &recorder.scopes),
            Some((job, notice, result)) = jobs.next() => {
                recorder.file(&mut desk, &job, notice, result);
            }
            (job, notice) = desk.queue.next(), if jobs.len() < AT_ONCE => {
                let notice = notice.unwrap_or_else(|| desk.nothing());
                jobs.push(recorder.work(job, notice));
            }
        }
    }
}

/// Where news become jobs.
struct Desk {
    queue: Queue<Job>,
    /// How many Deployments were listed since the list began; `None` when it has ended.
    listed: Option<u32>,
    /// Until when the watch of the Deployments may be late.
    doubt: Option<Instant>,
}

impl Desk {
    fn new() -> Self {
        Self {
            queue: Queue::new(),
            listed: Some(0),
            doubt: None,
        }
    }

    /// Nothing happened, as far as is known.
    fn nothing(&self) -> Notice {
        let doubtful = self.doubt.is_some_and(|until| Instant::now() < until);
        Notice {
            at: Timestamp::now(),
            dipped: false,
            gap: self.listed.is_some() || doubtful,
        }
    }

    fn take(&mut self, news: News, scopes: &Scopes) {
        match news {
            News::Listing => self.listed = Some(0),
            News::Listed => self.listed = None,
            News::Lost => self.doubt = Some(Instant::now() + DOUBT),
            News::Deployment { name, complete } => self.deployment(name, complete, scopes),
            News::Gone(name) => self.queue.forget(&Job::Look(name)),
            News::Ledger { name, lifts: false } => self.queue.let_go(&Job::Look(name), PAUSE),
            News::Ledger { name, lifts: true } | News::NoLedger(name) => {
                let (nothing, job) = (self.nothing(), Job::Look(name));
                self.queue.notice(&job, nothing, PAUSE);
                self.queue.let_go(&job, PAUSE);
            }
            News::Rules(namespace) => {
                scopes.expire(namespace.as_deref());
                if let Some(namespace) = namespace {
                    let (nothing, job) = (self.nothing(), Job::Check(namespace));
                    self.queue.notice(&job, nothing, PAUSE);
                }
            }
        }
    }

    fn deployment(&mut self, name: Name, complete: bool, scopes: &Scopes) {
        let delay = match &mut self.listed {
            None => PAUSE,
            Some(count) => {
                *count = count.saturating_add(1);
                PAUSE + STEP * *count
            }
        };
        // Should the namespace be recorded one day, all of it is looked at then.
        let unrecorded = scopes
            .fresh(&name.namespace)
            .is_some_and(|scope| !scope.records());
        if !unrecorded {
            let notice = Notice {
                dipped: !complete,
                ..self.nothing()
            };
            self.queue.notice(&Job::Look(name), notice, delay);
        }
    }

    /// All Deployments of a namespace of which it is not known what happened there.
    fn found(&mut self, namespace: &str, names: Vec<String>) {
        for (place, name) in (1_u32..).zip(names) {
            let namespace = namespace.to_owned();
            let notice = Notice {
                gap: true,
                ..self.nothing()
            };
            let job = Job::Look(Name { namespace, name });
            self.queue.notice(&job, notice, STEP * place);
        }
    }
}

/// Does the jobs.
struct Recorder {
    context: Arc<Context>,
    scopes: Scopes,
}

impl Recorder {
    async fn work(&self, job: Job, notice: Notice) -> (Job, Notice, Result<Next, Error>) {
        let work = async {
            match &job {
                Job::Look(name) => self.look(name, notice).await,
                Job::Check(namespace) | Job::CheckAgain(namespace) => self.check(namespace).await,
                Job::Find(namespace) => self.find(namespace).await,
            }
        };
        let result = tokio::time::timeout(LIMIT, work).await;
        let result = result.unwrap_or(Err(Error::TimedOut));
        (job, notice, result)
    }

    /// The scope of a namespace, and whether it is another one than before.
    async fn scope(&self, namespace: &str) -> Result<(Scope, Option<Scope>), Error> {
        match self.scopes.fresh(namespace) {
            Some(known) => Ok((known.clone(), Some(known))),
            None => self.ask(namespace).await,
        }
    }

    /// The same, asked now.
    async fn ask(&self, namespace: &str) -> Result<(Scope, Option<Scope>), Error> {
        let rules = evidence::rules(&self.context.client, namespace).await?;
        let scope = rules.map_or(Scope::Closed, Scope::Open);
        let before = self.scopes.learn(namespace, scope.clone());
        Ok((scope, before))
    }

    async fn check(&self, namespace: &str) -> Result<Next, Error> {
        let (scope, before) = self.ask(namespace).await?;
        Ok(match scope {
            Scope::Closed => Next::Closed,
            Scope::Open(_) if scope.records() && before.as_ref() != Some(&scope) => Next::Opened,
            Scope::Open(_) => Next::Change,
        })
    }

    async fn find(&self, namespace: &str) -> Result<Next, Error> {
        let names = evidence::names(&self.context.client, namespace).await?;
        Ok(Next::Found(names))
    }

    async fn look(&self, name: &Name, notice: Notice) -> Result<Next, Error> {
        let (scope, before) = self.scope(&name.namespace).await?;
        if scope.records() && before.is_some_and(|before| before != scope) {
            return Ok(Next::Opened);
        }
        let Scope::Open(rules) = scope else {
            return Ok(Next::Closed);
        };
        let asked = Timestamp::now();
        let client = &self.context.client;
        let (deployment, ledger) = evidence::pair(client, &name.namespace, &name.name).await?;
        let Some(deployment) = deployment.filter(|deployment| !deployment.is_deleting()) else {
            return Ok(Next::Change);
        };
        if self.is_claimed(name, &deployment, ledger.as_ref()).await? {
            return Ok(Next::Release);
        }
        self.record(name, &deployment, ledger.as_ref(), &rules, notice, asked)
            .await
    }

    /// Whether a request is at work on the Deployment, which is there to give back its claim.
    async fn is_claimed(
        &self,
        name: &Name,
        deployment: &Deployment,
        ledger: Option<&RevisionLedger>,
    ) -> Result<bool, Error> {
        let spec = current(ledger.map(|ledger| &ledger.spec), deployment.uid());
        match spec.and_then(|spec| spec.claim.as_ref()) {
            Some(claim) => {
                Ok(evidence::is_held(&self.context.client, &name.namespace, claim).await?)
            }
            None => Ok(false),
        }
    }

    async fn record(
        &self,
        name: &Name,
        deployment: &Deployment,
        ledger: Option<&RevisionLedger>,
        rules: &Ledger,
        notice: Notice,
        asked: Timestamp,
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
            pods = evidence::pods(client, &name.namespace, deployment).await?;
            look.pods = &pods;
        }
        let record = look.record();
        if let Some(spec) = &record.ledger {
            ledger::write(client, &name.namespace, &name.name, ledger, spec)
                .await
                .map_err(Error::Write)?;
        }
        Ok(record.again.map_or(Next::Change, Next::At))
    }

    /// What follows from what came of a job.
    fn file(&self, desk: &mut Desk, job: &Job, notice: Notice, result: Result<Next, Error>) {
        let end = match result {
            Ok(Next::Change) => End::Done(None),
            Ok(Next::Closed) => {
                if let Job::Check(namespace) = job {
                    let again = Job::CheckAgain(namespace.clone());
                    desk.queue.notice(&again, desk.nothing(), LATER);
                }
                End::Done(None)
            }
            Ok(Next::At(at)) => End::Done(Some(until(at))),
            Ok(Next::Release) => End::Held(notice, CLAIMED),
            Ok(Next::Opened) => {
                let nothing = desk.nothing();
                let find = Job::Find(job.namespace().to_owned());
                desk.queue.notice(&find, nothing, Duration::ZERO);
                End::Done(None)
            }
            Ok(Next::Found(names)) => {
                desk.found(job.namespace(), names);
                End::Done(None)
            }
            Err(error) if error.is_race() => End::Raced(notice, PAUSE),
            Err(error) => {
                self.complain(job, &error);
                End::Failed(notice)
            }
        };
        desk.queue.end(job, end, PAUSE);
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
    Duration::try_from(left).unwrap_or_default().min(LONGEST) + SLACK
}
