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
mod jobs;
mod knowledge;
pub mod newer;
pub mod pace;
mod pods;
mod preflight;
mod raw;
mod service;
mod size;
mod target;
pub mod version;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::status::{Plan, PlannedTarget, TargetStatus};
use rollback_api::{
    LIFT, POLICY_NAME, RevisionLedger, RollbackPolicy, RollbackPolicySpec, RollbackRequest,
    RollbackRequestStatus,
};
use rollback_core::approval::{self, consent};
use rollback_core::decide::capacity;
use rollback_core::decide::crowd::no_place;
use rollback_core::execution::artifact;
use rollback_core::execution::phase::{FEW, Phase, TargetPhase, due, result};
use rollback_core::observed::{Deployment, Fetched, Guard, Observed, ObservedTarget};
use rollback_core::plan::rules;
use rollback_reads::bounded::{Bounded, Untyped};
use rollback_reads::budget::Budget;
use rollback_reads::is_too_large;
use rollback_reads::list::{self, Parts, What};

pub use jobs::not_granted;
pub use knowledge::{Knowledge, Memory};
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
    /// The ledgers with their `resourceVersion`, by the name of their Deployment.
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

/// What any client reads with.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Asks the API server.
    pub client: &'a Client,
    /// Asks pods, addresses outside and Prometheus for the checks.
    pub probe: &'a rollback_probe::Client,
}

/// Reads what the phase of `request` needs.
///
/// # Errors
/// Something could not be read, so nothing is known.
pub async fn observe(
    reader: Reader<'_>,
    knowledge: &Knowledge,
    request: &RollbackRequest,
    size: Size,
    now: Timestamp,
) -> Result<(Observed, Read), Error> {
    let budget = Budget::of(size.memory());
    let namespace = request.namespace().unwrap_or_default();
    let status = request.status.clone().unwrap_or_default();
    let scope = RequestScope {
        reader,
        request,
        namespace: &namespace,
        budget: &budget,
        size,
        now,
    };
    let pass = Pass {
        scope,
        knowledge,
        status: &status,
    };
    match (Phase::of(&status), &status.plan) {
        (Phase::Planning, _) | (_, None) => pass.planning().await,
        (
            Phase::AwaitingApproval
            | Phase::BackingUp
            | Phase::Reverting
            | Phase::RollingOut
            | Phase::Verifying
            | Phase::Restoring,
            Some(plan),
        ) => pass.working(plan).await,
        (Phase::Ended, Some(plan)) => pass.ended(plan).await,
    }
}

/// Whether an approval may be counted in this pass, so that the guard has to be known as it is now.
pub fn counts_approvals(request: &RollbackRequest) -> bool {
    let Some(status) = &request.status else {
        return false;
    };
    let unwritten = |progress: &TargetStatus| !TargetPhase::of(status, progress).is_written();
    status.outcome.is_none()
        && status.targets.iter().any(unwritten)
        && (approval::is_pending(request, &status.approvals) || pace::is_asked(request, status))
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
    async fn planning(&self) -> Result<(Observed, Read), Error> {
        if self.status.outcome.is_some() {
            // It ended before there was a plan: nothing is owed to any Deployment.
            return Ok((Observed::default(), Read::default()));
        }
        let crowd = self.knowledge.crowd;
        if crowd.is_some_and(|crowd| no_place(self.scope.request, crowd, self.scope.now).is_some())
        {
            // Nothing is read for it.
            let observed = Observed {
                crowd,
                ..Observed::default()
            };
            return Ok((observed, Read::default()));
        }
        let (observed, read) = self.scope.planning().await?;
        let observed = Observed {
            guard: self.knowledge.guard.clone(),
            crowd,
            ..observed
        };
        Ok((observed, read))
    }

    async fn working(&self, plan: &Plan) -> Result<(Observed, Read), Error> {
        let unwritten = |index: usize| {
            let progress = self.status.targets.get(index);
            progress.is_some_and(|progress| !TargetPhase::of(self.status, progress).is_written())
        };
        // What has begun goes on, whoever has approved what has not.
        let waiting = |index: usize| {
            let progress = self.status.targets.get(index);
            progress.is_some_and(|progress| {
                TargetPhase::of(self.status, progress) == TargetPhase::Waiting
            })
        };
        // Once everything is written, no rule can change anything any more.
        let (policy, guard) = if (0..plan.targets.len()).any(unwritten) {
            (self.scope.policy().await?, self.knowledge.guard.clone())
        } else {
            (Fetched::Unknown, Guard::default())
        };
        let mut observed = Observed {
            expedite: self.scope.expedite(&policy).await?,
            pace: self.pace().await?,
            policy,
            guard,
            targets: vec![ObservedTarget::default(); plan.targets.len()],
            ..Observed::default()
        };
        self.capacity(plan, &mut observed).await?;
        let parallelism = self.scope.request.rollout().parallelism;
        let mut indices = due(plan, self.status, parallelism);
        let awaiting = !approval::suffices(plan, &self.status.approvals);
        if awaiting && plan.targets.len() <= FEW {
            let others = (0..plan.targets.len()).filter(|index| unwritten(*index));
            indices.extend(
                others
                    .filter(|index| !indices.contains(index))
                    .collect::<Vec<_>>(),
            );
        } else if awaiting {
            self.waiting(plan, &mut observed).await?;
            indices.retain(|index| !waiting(*index));
        }
        let to_write = indices.iter().filter(|index| unwritten(**index)).count();
        let everywhere = if awaiting || to_write <= 1 {
            access::Everywhere::NotAsked
        } else {
            let RequestScope {
                reader,
                request,
                namespace,
                ..
            } = self.scope;
            access::everywhere(reader.client, request, namespace).await?
        };
        let reads: Vec<_> = indices
            .iter()
            .map(|index| self.target(plan, *index, awaiting, &everywhere))
            .collect();
        let mut read = Read::default();
        for (index, result) in indices.into_iter().zip(separately(reads).await?) {
            match result {
                Ok((seen, ledger)) => {
                    read.ledgers
                        .extend(ledger.map(|ledger| (seen.name.clone(), ledger)));
                    observed.targets[index] = seen;
                }
                Err(error) => {
                    read.failed.get_or_insert(error);
                }
            }
        }
        Ok((observed, read))
    }

    /// Many Deployments that wait for people: one list tells which of them still run what is bad.
    async fn waiting(&self, plan: &Plan, observed: &mut Observed) -> Result<(), Error> {
        let mut by_name = self.scope.by_name(plan).await?;
        for (seen, target) in observed.targets.iter_mut().zip(&plan.targets) {
            seen.name.clone_from(&target.name);
            seen.deployment = seen_or_absent(by_name.remove(&target.name));
        }
        Ok(())
    }

    async fn ended(&self, plan: &Plan) -> Result<(Observed, Read), Error> {
        let Some(outcome) = &self.status.outcome else {
            return Ok((Observed::default(), Read::default()));
        };
        let mut owed = Observed::default();
        self.capacity(plan, &mut owed).await?;
        if !owed.capacity.is_empty() {
            // What was taken is given back before anything else.
            return Ok((owed, Read::default()));
        }
        let mut incident = Fetched::Unknown;
        if self.status.incident.is_none() && !self.scope.request.spec.dry_run {
            let name = artifact::incident_name(self.scope.request, outcome.at);
            incident = self.scope.artifact(name).await?;
            if incident == Fetched::Absent {
                // The report comes first. What else is owed is looked at when it is there.
                let observed = Observed {
                    incident,
                    ..Observed::default()
                };
                return Ok((observed, Read::default()));
            }
        }
        let (ledgers, deployments) =
            futures::try_join!(self.scope.ledgers(plan), self.disowned(plan))?;
        let mut deployments = deployments.into_iter();
        let targets = plan
            .targets
            .iter()
            .map(|target| ObservedTarget {
                name: target.name.clone(),
                ledger: spec_of(ledgers.get(&target.name)),
                deployment: deployments.next().unwrap_or_default(),
                rejection: self.rejection(&target.name),
                ..ObservedTarget::default()
            })
            .collect();
        let observed = Observed {
            targets,
            incident,
            ..Observed::default()
        };
        let read = Read {
            ledgers,
            ..Read::default()
        };
        Ok((observed, read))
    }

    /// The Deployments whose fields are to be given up, when the rules ask for that.
    async fn disowned(&self, plan: &Plan) -> Result<Vec<Fetched<Deployment>>, Error> {
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
            let seen = |target: &PlannedTarget| by_name.remove(&target.name);
            return Ok(plan.targets.iter().map(seen).map(seen_or_absent).collect());
        }
        let read = |index: usize| async move {
            let ended = self.status.targets.get(index).and_then(result);
            match (ended, plan.targets.get(index)) {
                (Some(_), Some(target)) => self.scope.deployment(&target.name).await,
                (Some(_) | None, _) => Ok(Fetched::Unknown),
            }
        };
        all_of((0..plan.targets.len()).map(read).collect()).await
    }

    /// The Deployments that are scaled down, when that is wanted or something is owed to them.
    async fn capacity(&self, plan: &Plan, observed: &mut Observed) -> Result<(), Error> {
        if !capacity::is_wanted(plan, self.status) {
            return Ok(());
        }
        let ended = self.status.outcome.is_some();
        let mut names: BTreeSet<&str> = self
            .status
            .scaled_down
            .iter()
            .filter(|scaled| scaled.restored_at.is_none())
            .map(|scaled| scaled.deployment.as_str())
            .collect();
        if !ended {
            names.extend(capacity::candidates(plan, self.status));
        }
        let reads: Vec<_> = names
            .iter()
            .map(|name| self.scope.deployment(name))
            .collect();
        let found = all_of(reads).await?;
        observed.capacity = names.iter().map(ToString::to_string).zip(found).collect();
        observed
            .capacity_refused
            .clone_from(&self.knowledge.memory.refused_scale);
        Ok(())
    }
}

impl RequestScope<'_> {
    fn client(&self) -> Client {
        self.reader.client.clone()
    }

    /// What a plan is made of, but for what only the controller knows.
    async fn planning(&self) -> Result<(Observed, Read), Error> {
        let (opted_in, policy, (targets, read)) = futures::try_join!(
            access::opted_in(self.reader.client, self.namespace),
            self.policy(),
            find::targets(self),
        )?;
        let mut observed = Observed {
            opted_in: Fetched::Found(opted_in),
            policy,
            targets,
            ..Observed::default()
        };
        observed.expedite = self.expedite(&observed.policy).await?;
        observed.unlisted = self.unlisted(&observed);
        if opted_in {
            // A copy, because the plan's reads go on meanwhile; of nothing when there is nobody to ask.
            let asked = before::asked(self, &observed);
            let (seen, before) = futures::join!(
                preflight::all(self, &mut observed),
                before::readings(self, &asked)
            );
            seen?;
            for (target, readings) in observed.targets.iter_mut().zip(before) {
                target.readings = readings;
            }
        }
        Ok((observed, read))
    }

    /// The Deployments of the plan, out of all in the namespace.
    async fn by_name(&self, plan: &Plan) -> Result<BTreeMap<String, Deployment>, Error> {
        let names: BTreeSet<&str> = plan.targets.iter().map(|it| it.name.as_str()).collect();
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
            let names: BTreeSet<&str> = plan.targets.iter().map(|it| it.name.as_str()).collect();
            return self.all_ledgers(|name| names.contains(name)).await;
        }
        let reads: Vec<_> = plan
            .targets
            .iter()
            .map(|target| self.ledger(&target.name))
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

    async fn policy(&self) -> Result<Fetched<RollbackPolicySpec>, Error> {
        let api: Api<RollbackPolicy> = Api::namespaced(self.client(), self.namespace);
        let policy = reading("the RollbackPolicy", api.get_opt(POLICY_NAME).await)?;
        Ok(policy.map_or(Fetched::Absent, |policy| Fetched::Found(policy.spec)))
    }

    /// Why the Prometheus of the policy is not asked.
    fn unlisted(&self, observed: &Observed) -> Option<String> {
        let verification = &observed.policy.found()?.verification;
        let server = verification.prometheus.as_ref()?;
        let refusal = self.reader.probe.unlisted(&server.url)?;
        Some(refusal.to_string())
    }

    /// Whether the requester may expedite, when that makes a difference.
    async fn expedite(&self, policy: &Fetched<RollbackPolicySpec>) -> Result<Fetched<bool>, Error> {
        if *policy == Fetched::Unknown || !rules::makes_a_difference(self.request, policy.found()) {
            return Ok(Fetched::Unknown);
        }
        let client = self.reader.client;
        let may = access::may_expedite(client, self.request, self.namespace).await?;
        Ok(Fetched::Found(may))
    }

    async fn ledger(&self, name: &str) -> Result<Option<RevisionLedger>, Error> {
        let api: Api<RevisionLedger> = Api::namespaced(self.client(), self.namespace);
        reading("the RevisionLedger", api.get_opt(name).await)
    }

    async fn deployment(&self, name: &str) -> Result<Fetched<Deployment>, Error> {
        let found = raw::deployment(&self.client(), self.namespace, name, self.budget).await;
        Ok(reading("the Deployment", found)?.map_or(Fetched::Absent, Fetched::Found))
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

fn seen_or_absent(deployment: Option<Deployment>) -> Fetched<Deployment> {
    deployment.map_or(Fetched::Absent, Fetched::Found)
}

fn spec_of(ledger: Option<&RevisionLedger>) -> Fetched<rollback_api::RevisionLedgerSpec> {
    ledger.map_or(Fetched::Absent, |ledger| {
        Fetched::Found(ledger.spec.clone())
    })
}

/// The template whose quarantine somebody lifted.
fn lifted(ledger: Option<&RevisionLedger>) -> Option<String> {
    ledger?.annotations().get(LIFT).cloned()
}
