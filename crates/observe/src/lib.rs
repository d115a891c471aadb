//! Reads: everything a decision may look at, and nothing that changes anything.
//!
//! Only what the present phase needs is read, live and not from a cache, because a write may follow.
//! Few Deployments are read by name, which is fast; many are read in one list, which is one request.
//! What the controller knows by itself, and nobody can read, comes in as values ([`Knowledge`]).

mod access;
mod before;
mod checks;
pub mod definitions;
pub mod evidence;
mod find;
pub mod guard;
pub mod holds;
mod jobs;
mod knowledge;
pub mod newer;
mod pace;
mod plan;
mod pods;
mod preflight;
mod raw;
mod service;
mod size;
mod target;
pub mod version;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::status::{Plan, PlannedTarget};
use rollback_api::{
    LIFT, POLICY_NAME, RevisionLedger, RevisionLedgerSpec, RollbackPolicy, RollbackPolicySpec,
    RollbackRequest, RollbackRequestStatus, WorkloadKind,
};
use rollback_core::approval::{self, consent};
use rollback_core::decide::crowd::no_place;
use rollback_core::decide::{automatic, capacity};
use rollback_core::execution::artifact;
use rollback_core::execution::phase::{FEW, Need, Stage, any_unwritten, needs, result};
use rollback_core::history::ledger;
use rollback_core::observed::view::{
    AwaitingView, Capacity, EndedTarget, EndedView, Live, PlanningView, RulesRead, Terms,
    WorkingView,
};
use rollback_core::observed::{Deployment, Fetched, Guard, TargetView, View};
use rollback_core::plan::rules;
use rollback_core::report;
use rollback_reads::bounded::{Bounded, Untyped};
use rollback_reads::budget::Budget;
use rollback_reads::is_too_large;
use rollback_reads::list::{self, Parts, What};

pub use access::who_am_i;
pub use jobs::not_granted;
pub use knowledge::{Knowledge, Memory};
use plan::Planner;
pub use plan::{Drafted, plan};
pub use size::Size;

/// How many Deployments are read at the same time.
const AT_ONCE: usize = 10;
/// How many ledgers one page of a list has.
const LEDGERS: u32 = 100;

/// A read that failed. Nothing is known then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer a read.
    #[error("reading {what}")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// It is not what its kind says.
    #[error("reading {what}")]
    Untyped {
        /// What was read.
        what: &'static str,
        /// Why not.
        #[source]
        source: Untyped,
    },
    /// There is more than one request may read.
    #[error(
        "reading {what}: it is more than one request may read; see Memory in docs/operating.md"
    )]
    TooMuch {
        /// What was read.
        what: &'static str,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// A ConfigMap has the name that ours would have, and is not ours.
    #[error(
        "ConfigMap {0} exists but does not belong to this request; delete it, or this request cannot go on"
    )]
    Squatted(String),
}

/// Names what was being read when an error came.
///
/// # Errors
/// The same error, with the name of what was read.
pub fn reading<T>(what: &'static str, result: kube::Result<T>) -> Result<T, Error> {
    result.map_err(|source| {
        if is_too_large(&source) {
            return Error::TooMuch { what, source };
        }
        Error::Read { what, source }
    })
}

/// Objects as they were read, for the write that may follow.
#[derive(Debug, Default)]
pub struct Read {
    /// The ledgers with their `resourceVersion`, by their name.
    pub ledgers: BTreeMap<String, RevisionLedger>,
    /// Why one of the Deployments could not be read, when others could.
    pub failed: Option<Error>,
}

/// The request as it is now; `None` when it is gone.
pub async fn request(
    client: &Client,
    cached: &RollbackRequest,
) -> Result<Option<newer::Served>, Error> {
    let namespace = cached.namespace().unwrap_or_default();
    let uid = cached.uid().unwrap_or_default();
    of_uid(
        client,
        &namespace,
        &cached.name_any(),
        &uid,
        "the RollbackRequest",
    )
    .await
}

/// The request of this name, if it has this UID.
async fn of_uid(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
    what: &'static str,
) -> Result<Option<newer::Served>, Error> {
    let api: Api<Bounded<RollbackRequest>> = Api::namespaced(client.clone(), namespace);
    let live = reading(what, api.get_opt(name).await)?;
    let live = live.filter(|live| live.metadata.uid.as_deref() == Some(uid));
    let live = live.map(newer::served).transpose();
    live.map_err(|source| Error::Untyped { what, source })
}

/// The guard, which may have to be read first.
pub type GuardRead<'a> = BoxFuture<'a, Result<Guard, Error>>;

/// What any client reads with.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Asks the API server.
    pub client: &'a Client,
    /// Asks pods, addresses outside and Prometheus for the checks.
    pub probe: &'a rollback_probe::Client,
}

/// Reads what the phase of `request` needs. `guard` is what makes approvals true, as only the controller knows it; it is
/// waited for beside the rules, and not at all where no approval matters.
///
/// # Errors
/// Something could not be read, so nothing is known.
pub async fn observe(
    reader: Reader<'_>,
    knowledge: &Knowledge,
    guard: GuardRead<'_>,
    request: &RollbackRequest,
    size: Size,
    now: Timestamp,
) -> Result<(View, Read), Error> {
    let budget = Budget::of(size.memory());
    let namespace = request.namespace().unwrap_or_default();
    let status = request.status.clone().unwrap_or_default();
    let scope = RequestScope {
        reader,
        request,
        namespace: &namespace,
        budget: &budget,
        size,
        is_installed: true,
        now,
    };
    let pass = Pass {
        scope,
        knowledge,
        status: &status,
    };
    let unwritten = Read::default();
    match Stage::of(&status) {
        Stage::Planning => Ok((pass.planning(guard).await?, unwritten)),
        Stage::Working(plan) => pass.working(plan, guard).await,
        // It ended before there was a plan: nothing is owed to any Deployment.
        Stage::Ended(None) => Ok((View::Ended(EndedView::Reporting), unwritten)),
        Stage::Ended(Some(plan)) => {
            let (view, read) = pass.ended(plan).await?;
            Ok((View::Ended(view), read))
        }
    }
}

/// Whether an approval may be counted in this pass, so that the guard has to be known as it is now.
pub fn counts_approvals(request: &RollbackRequest) -> bool {
    let Some(status) = &request.status else {
        return false;
    };
    let is_pending = approval::is_pending(request, &status.approvals);
    let is_open = status.outcome.is_none() && any_unwritten(status);
    is_open && (is_pending || automatic::is_asked(request, status))
}

/// One request, as anybody may read it.
#[derive(Clone, Copy)]
struct RequestScope<'a> {
    reader: Reader<'a>,
    request: &'a RollbackRequest,
    namespace: &'a str,
    /// What is left of the memory that the reads of this pass may take.
    budget: &'a Budget,
    size: Size,
    /// Whether the API server serves our kinds. A controller does not run where it does not.
    is_installed: bool,
    now: Timestamp,
}

/// One request in one pass of the controller.
#[derive(Clone, Copy)]
struct Pass<'a> {
    scope: RequestScope<'a>,
    knowledge: &'a Knowledge,
    status: &'a RollbackRequestStatus,
}

impl Pass<'_> {
    async fn planning(&self, guard: GuardRead<'_>) -> Result<View, Error> {
        let RequestScope { request, now, .. } = self.scope;
        let crowd = self.knowledge.crowd;
        if let Some(ending) = crowd.and_then(|crowd| no_place(request, crowd, now)) {
            // Nothing is read for it.
            return Ok(View::TurnedAway(ending));
        }
        let proposal = self.scope.proposal(Planner::Controller);
        let (read, guard) = futures::try_join!(proposal, guard)?;
        Ok(View::Planning(Box::new(PlanningView {
            rules: read.rules,
            guard,
            proposal: read.proposal,
            before: read.before,
        })))
    }

    async fn working(&self, plan: &Plan, guard: GuardRead<'_>) -> Result<(View, Read), Error> {
        let terms = self.terms(guard).await?;
        let capacity = self.capacity(plan).await?;
        let parallelism = self.scope.request.rollout().parallelism;
        let needs = needs(plan, self.status, parallelism);
        let listed = if needs.contains(&Need::Listed) {
            self.scope.by_name(plan).await?
        } else {
            BTreeMap::new()
        };
        let everywhere = self.everywhere(plan, &needs).await?;
        let due = || (0..).zip(&needs).filter(|(_, need)| !is_unasked(**need));
        let reads: Vec<_> = due()
            .map(|(index, need)| self.target(plan, index, *need, &everywhere))
            .collect();
        let mut results = separately(reads).await?.into_iter();
        let mut read = Read::default();
        let mut targets = Vec::new();
        for (target, need) in plan.targets.iter().zip(&needs) {
            targets.push(match need {
                Need::Nothing => TargetView::NotDue,
                Need::Listed => of_list(target, &listed),
                Need::Awaiting
                | Need::Writing
                | Need::RollingOut
                | Need::Verifying
                | Need::Retrying
                | Need::Restoring => read.take(results.next()),
            });
        }
        let view = WorkingView {
            terms,
            capacity,
            targets,
        };
        Ok((View::Working(Box::new(view)), read))
    }

    /// Once everything is written, no rule can change anything any more.
    async fn terms(&self, guard: GuardRead<'_>) -> Result<Option<Terms>, Error> {
        if !any_unwritten(self.status) {
            return Ok(None);
        }
        let (rules, guard) = futures::try_join!(self.scope.rules(Planner::Controller), guard)?;
        let pace = self.pace().await?;
        Ok(Some(Terms { rules, guard, pace }))
    }

    /// Asked once, when several may be written in this pass.
    async fn everywhere(&self, plan: &Plan, needs: &[Need]) -> Result<access::Everywhere, Error> {
        let to_write = needs.iter().filter(|need| **need == Need::Writing).count();
        if to_write <= 1 || !approval::suffices(plan, &self.status.approvals) {
            return Ok(access::Everywhere::NotAsked);
        }
        let RequestScope {
            reader,
            request,
            namespace,
            ..
        } = self.scope;
        access::everywhere(reader.client, request, namespace).await
    }

    async fn ended(&self, plan: &Plan) -> Result<(EndedView, Read), Error> {
        let Some(outcome) = &self.status.outcome else {
            return Ok((EndedView::Reporting, Read::default()));
        };
        let owed = self.capacity(plan).await?;
        if !owed.deployments.is_empty() {
            // What was taken is given back before anything else.
            return Ok((EndedView::GivingBack(owed), Read::default()));
        }
        let mut incident = None;
        if report::is_due(self.scope.request, self.status) {
            let name = artifact::incident_name(self.scope.request, outcome.at);
            incident = self.scope.artifact(name).await?;
            if incident.is_none() {
                // The report comes first. What else is owed is looked at when it is there.
                return Ok((EndedView::Reporting, Read::default()));
            }
        }
        let (ledgers, deployments) =
            futures::try_join!(self.scope.ledgers(plan), self.disowned(plan))?;
        let mut deployments = deployments.into_iter();
        let targets = plan.targets.iter().map(|target| EndedTarget {
            ledger: spec_of(ledgers.get(&ledger::name_of(&target.workload))),
            deployment: deployments.next().flatten(),
            rejection: self.own(&target.workload.name).rejection,
        });
        let targets = targets.collect();
        let read = Read {
            ledgers,
            ..Read::default()
        };
        Ok((EndedView::WindingUp { incident, targets }, read))
    }

    /// The Deployments whose fields are to be given up, when the rules ask for that.
    async fn disowned(&self, plan: &Plan) -> Result<Vec<Option<Deployment>>, Error> {
        let wanted = self
            .status
            .targets
            .iter()
            .filter_map(|progress| consent::rules(self.status, progress))
            .any(|rules| rules.rollout.release_ownership);
        if !wanted {
            return Ok(Vec::new());
        }
        if plan.targets.len() > FEW {
            let mut by_name = self.scope.by_name(plan).await?;
            let seen = |target: &PlannedTarget| by_name.remove(&target.workload.name);
            return Ok(plan.targets.iter().map(seen).collect());
        }
        let read = |index: usize| async move {
            let ended = self.status.targets.get(index).and_then(result);
            match (ended, plan.targets.get(index)) {
                (Some(_), Some(target)) => self.scope.deployment(&target.workload.name).await,
                (Some(_) | None, _) => Ok(None),
            }
        };
        all_of((0..plan.targets.len()).map(read).collect()).await
    }

    /// The Deployments that are scaled down, when that is wanted or something is owed to them.
    async fn capacity(&self, plan: &Plan) -> Result<Capacity, Error> {
        if !capacity::is_wanted(plan, self.status) {
            return Ok(Capacity::default());
        }
        let ended = self.status.outcome.is_some();
        let mut names: BTreeSet<&str> = self
            .status
            .scaled_down
            .iter()
            .filter(|scaled| scaled.restored_at.is_none())
            .map(|scaled| scaled.workload.name.as_str())
            .collect();
        if !ended {
            names.extend(capacity::candidates(plan, self.status));
        }
        let reads: Vec<_> = names
            .iter()
            .map(|name| self.scope.deployment(name))
            .collect();
        let found = all_of(reads).await?.into_iter();
        let found = found.map(|found| found.map_or(Fetched::Absent, Fetched::Found));
        Ok(Capacity {
            deployments: names.iter().map(ToString::to_string).zip(found).collect(),
            refused: self.knowledge.memory.refused_scale.clone(),
        })
    }
}

/// Whether it is not read by itself.
fn is_unasked(need: Need) -> bool {
    need == Need::Nothing || need == Need::Listed
}

/// Many Deployments wait for people: one list tells which of them still run what is bad.
fn of_list(target: &PlannedTarget, listed: &BTreeMap<String, Deployment>) -> TargetView {
    TargetView::Awaiting(AwaitingView {
        live: Live {
            name: target.workload.name.clone(),
            deployment: listed.get(&target.workload.name).cloned(),
        },
        ledger: Fetched::Unknown,
    })
}

impl Read {
    /// What was read of one target; that it could not be read is kept once.
    fn take(&mut self, read: Option<Result<target::Looked, Error>>) -> TargetView {
        match read {
            Some(Ok((seen, ledger))) => {
                self.ledgers
                    .extend(ledger.map(|ledger| (ledger.name_any(), ledger)));
                seen
            }
            Some(Err(error)) => {
                self.failed.get_or_insert(error);
                TargetView::Failed
            }
            None => TargetView::Failed,
        }
    }
}

impl RequestScope<'_> {
    fn client(&self) -> Client {
        self.reader.client.clone()
    }

    /// The Deployments of the plan, out of all in the namespace.
    async fn by_name(&self, plan: &Plan) -> Result<BTreeMap<String, Deployment>, Error> {
        let names: BTreeSet<&str> = plan
            .targets
            .iter()
            .map(|it| it.workload.name.as_str())
            .collect();
        let is_meant = |deployment: &Deployment| names.contains(deployment.name());
        let listed = raw::deployments(&self.client(), self.namespace, self.budget, is_meant).await;
        Ok(reading("the Deployments", listed)?
            .into_iter()
            .map(|deployment| (deployment.name().to_owned(), deployment))
            .collect())
    }

    /// The ledgers of the plan.
    async fn ledgers(&self, plan: &Plan) -> Result<BTreeMap<String, RevisionLedger>, Error> {
        if plan.targets.len() > FEW {
            let targets = plan.targets.iter();
            let names: BTreeSet<String> = targets.map(|it| ledger::name_of(&it.workload)).collect();
            return self.all_ledgers(|name| names.contains(name)).await;
        }
        let reads: Vec<_> = plan
            .targets
            .iter()
            .map(|target| self.ledger(&target.workload.name))
            .collect();
        let found = all_of(reads).await?.into_iter().flatten();
        Ok(found.map(|ledger| (ledger.name_any(), ledger)).collect())
    }

    /// The ledgers of the namespace that are wanted, page by page: each keeps whole templates.
    async fn all_ledgers(
        &self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, RevisionLedger>, Error> {
        let mut found = BTreeMap::new();
        if !self.is_installed {
            return Ok(found);
        }
        let mut ledgers = Parts::new(|ledger: RevisionLedger| {
            let name = ledger.name_any();
            if is_wanted(&name) {
                found.insert(name, ledger);
            }
        });
        let url = RevisionLedger::url_path(&(), Some(self.namespace));
        let pages = ListParams::default().limit(LEDGERS);
        let client = self.client();
        let end = list::pages(&client, &url, What::Whole, pages, &mut ledgers).await;
        reading("the RevisionLedgers", end.and_then(raw::whole))?;
        Ok(found)
    }

    /// The rules for the request, as they are now.
    async fn rules(&self, planner: Planner) -> Result<RulesRead, Error> {
        let policy = self.policy().await?;
        let client = self.reader.client;
        let expedited = rules::makes_a_difference(self.request, policy.as_ref())
            && match planner {
                Planner::Controller => {
                    access::may_expedite(client, self.request, self.namespace).await?
                }
                Planner::Client => access::may_i_expedite(client, self.namespace).await?,
            };
        Ok(RulesRead { policy, expedited })
    }

    /// The policy of the namespace.
    async fn policy(&self) -> Result<Option<RollbackPolicySpec>, Error> {
        if !self.is_installed {
            return Ok(None);
        }
        let api: Api<RollbackPolicy> = Api::namespaced(self.client(), self.namespace);
        let policy = reading("the RollbackPolicy", api.get_opt(POLICY_NAME).await)?;
        Ok(policy.map(|policy| policy.spec))
    }

    /// The ledger of the Deployment with this name.
    async fn ledger(&self, deployment: &str) -> Result<Option<RevisionLedger>, Error> {
        if !self.is_installed {
            return Ok(None);
        }
        let api: Api<RevisionLedger> = Api::namespaced(self.client(), self.namespace);
        let name = ledger::name(WorkloadKind::Deployment, deployment);
        reading("the RevisionLedger", api.get_opt(&name).await)
    }

    async fn deployment(&self, name: &str) -> Result<Option<Deployment>, Error> {
        let found = raw::deployment(self.reader.client, self.namespace, name, self.budget).await;
        reading("the Deployment", found)
    }

    async fn live(&self, name: &str) -> Result<Live, Error> {
        Ok(Live {
            name: name.to_owned(),
            deployment: self.deployment(name).await?,
        })
    }
}

/// Makes reads, some at the same time, and gives what they found in their order.
async fn all_of<T>(reads: Vec<impl Future<Output = Result<T, Error>>>) -> Result<Vec<T>, Error> {
    use futures::{StreamExt, TryStreamExt};
    futures::stream::iter(reads)
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

/// The same, but what one of them finds does not depend on the others. When none comes through, nothing is known.
async fn separately<T>(
    reads: Vec<impl Future<Output = Result<T, Error>>>,
) -> Result<Vec<Result<T, Error>>, Error> {
    use futures::StreamExt;
    let mut results: Vec<Result<T, Error>> = futures::stream::iter(reads)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let came_through = |result: &Result<T, Error>| match result {
        Ok(_) | Err(Error::Squatted(_) | Error::Untyped { .. }) => true,
        Err(Error::Read { .. } | Error::TooMuch { .. }) => false,
    };
    if results.is_empty() || results.iter().any(came_through) {
        return Ok(results);
    }
    results.swap_remove(0).map(|_| Vec::new())
}

fn spec_of(ledger: Option<&RevisionLedger>) -> Option<RevisionLedgerSpec> {
    ledger.map(|ledger| ledger.spec.clone())
}

/// The template whose quarantine somebody lifted.
fn lifted(ledger: Option<&RevisionLedger>) -> Option<String> {
    ledger?.annotations().get(LIFT).cloned()
}
