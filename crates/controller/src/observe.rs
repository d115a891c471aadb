//! Reads: everything a decision may look at, and nothing that changes anything.
//!
//! Only what the present phase needs is read, live and not from a cache, because a write may follow.

mod access;
pub mod guard;
mod probe;
mod raw;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use rollback_api::status::PlannedTarget;
use rollback_api::{
    POLICY_NAME, REQUEST_UID_LABEL, RevisionLedger, RollbackPolicy, RollbackRequest,
    RollbackRequestStatus,
};
use rollback_core::ledger::{Holder, holder};
use rollback_core::observed::{Deployment, Guard, Observed, ReplicaSet, Rival, Seen};
use rollback_core::plan::target_name;
use rollback_core::step::Phase;
use rollback_core::{approval, artifact, health};

use crate::context::Context;

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
    /// A ConfigMap has the name that ours would have, and is not ours.
    #[error(
        "ConfigMap {0} exists but does not belong to this request; delete it, or this request cannot go on"
    )]
    Squatted(String),
}

/// Names what was being read when an error came.
fn reading<T>(what: &'static str, result: kube::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Read { what, source })
}

/// Objects as they were read, for the write that may follow.
#[derive(Debug, Default)]
pub struct Read {
    /// The ledger, with its `resourceVersion`.
    pub ledger: Option<RevisionLedger>,
}

/// The request as it is now; `None` when it is gone.
pub async fn request(
    client: &Client,
    cached: &RollbackRequest,
) -> Result<Option<RollbackRequest>, Error> {
    let api: Api<RollbackRequest> =
        Api::namespaced(client.clone(), &cached.namespace().unwrap_or_default());
    let live = reading("the RollbackRequest", api.get_opt(&cached.name_any()).await)?;
    Ok(live.filter(|live| live.uid() == cached.uid()))
}

/// Reads what the phase of `request` needs.
pub async fn observe(
    context: &Context,
    request: &RollbackRequest,
    now: Timestamp,
) -> Result<(Observed, Read), Error> {
    let (Some(namespace), Some(name)) = (request.namespace(), target_name(request)) else {
        return Ok(without_target());
    };
    let scope = Scope {
        context,
        request,
        namespace: &namespace,
        name,
    };
    match Phase::of(&request.status.clone().unwrap_or_default()) {
        Phase::Planning => scope.planning().await,
        Phase::AwaitingApproval => scope.awaiting_approval().await,
        Phase::BackingUp | Phase::Reverting => scope.writing(now).await,
        Phase::RollingOut => scope.rolling_out().await,
        Phase::Verifying => scope.verifying(now).await,
        Phase::Ended => scope.ended(now).await,
    }
}

/// A request that names no single Deployment is refused without looking at any.
fn without_target() -> (Observed, Read) {
    let observed = Observed {
        deployment: Seen::Absent,
        ..Observed::default()
    };
    (observed, Read::default())
}

/// One request and its Deployment.
struct Scope<'a> {
    context: &'a Context,
    request: &'a RollbackRequest,
    namespace: &'a str,
    name: &'a str,
}

impl Scope<'_> {
    fn client(&self) -> Client {
        self.context.client.clone()
    }

    async fn planning(&self) -> Result<(Observed, Read), Error> {
        let (opted_in, policy, ledger, deployment) = futures::try_join!(
            access::opted_in(&self.context.client, self.namespace),
            self.policy(),
            self.ledger(),
            self.deployment(),
        )?;
        let replica_sets = match deployment.found() {
            Some(deployment) => self.history(deployment).await?,
            None => Vec::new(),
        };
        let observed = Observed {
            opted_in: Seen::Found(opted_in),
            policy,
            guard: self.context.guard.seen(),
            ledger: spec_of(ledger.as_ref()),
            deployment,
            replica_sets,
            ..Observed::default()
        };
        Ok((observed, Read { ledger }))
    }

    async fn awaiting_approval(&self) -> Result<(Observed, Read), Error> {
        let (policy, deployment, replica_sets, guard) = futures::try_join!(
            self.policy(),
            self.deployment(),
            self.planned_replica_set(),
            self.guard(),
        )?;
        let observed = Observed {
            policy,
            deployment,
            replica_sets,
            guard,
            ..Observed::default()
        };
        Ok((observed, Read::default()))
    }

    async fn writing(&self, now: Timestamp) -> Result<(Observed, Read), Error> {
        let deployment = self.deployment().await?;
        if self.has_old_template(&deployment) {
            // The write is done; nothing else matters any more.
            let observed = Observed {
                deployment,
                ..Observed::default()
            };
            return Ok((observed, Read::default()));
        }
        let (policy, ledger, replica_sets, access, backup) = futures::try_join!(
            self.policy(),
            self.ledger(),
            self.planned_replica_set(),
            access::access(
                &self.context.client,
                self.request,
                self.namespace,
                self.name
            ),
            self.artifact(artifact::backup_name(self.request, self.name), now),
        )?;
        let rejection = self.request.uid().and_then(|uid| {
            self.context
                .remember(&uid, |memory| memory.rejection.clone())
        });
        let mut observed = Observed {
            policy,
            guard: self.context.guard.seen(),
            ledger: spec_of(ledger.as_ref()),
            deployment,
            replica_sets,
            access: Seen::Found(access),
            backup,
            rejection,
            ..Observed::default()
        };
        observed.rival = self.rival(&observed).await?;
        Ok((observed, Read { ledger }))
    }

    /// The `ReplicaSet` of the plan is nearly always the one that runs; the whole history is read only
    /// when it is not.
    async fn rolling_out(&self) -> Result<(Observed, Read), Error> {
        let (deployment, mut replica_sets) =
            futures::try_join!(self.deployment(), self.planned_replica_set())?;
        let holds = |set: &ReplicaSet| {
            let planned = self.planned();
            !set.is_deleting()
                && planned.is_some_and(|target| set.template().digest() == target.to_digest)
        };
        if let Some(deployment) = deployment
            .found()
            .filter(|_| !replica_sets.iter().any(holds))
        {
            replica_sets = self.history(deployment).await?;
        }
        let observed = Observed {
            deployment,
            replica_sets,
            ..Observed::default()
        };
        Ok((observed, Read::default()))
    }

    async fn verifying(&self, now: Timestamp) -> Result<(Observed, Read), Error> {
        let (mut observed, read) = self.rolling_out().await?;
        let status = self.request.status.clone().unwrap_or_default();
        if let Some((checks, replica_set)) = due_checks(&status, &observed, now) {
            let pods = probe::pods(&self.context.client, self.namespace, &replica_set).await?;
            observed.readings = probe::ask(self.context, &checks, &pods, now).await;
        }
        Ok((observed, read))
    }

    async fn ended(&self, now: Timestamp) -> Result<(Observed, Read), Error> {
        let status = self.request.status.clone().unwrap_or_default();
        let (Some(outcome), Some(_)) = (&status.outcome, &status.plan) else {
            return Ok((Observed::default(), Read::default()));
        };
        let incident = async {
            if status.incident.is_some() {
                return Ok(Seen::Unknown);
            }
            self.artifact(artifact::incident_name(self.request, outcome), now)
                .await
        };
        let (ledger, incident) = futures::try_join!(self.ledger(), incident)?;
        let observed = Observed {
            ledger: spec_of(ledger.as_ref()),
            incident,
            ..Observed::default()
        };
        Ok((observed, Read { ledger }))
    }

    /// The guard as the watches see it; as it is now when an approval is about to be counted.
    async fn guard(&self) -> Result<Guard, Error> {
        let counted = self
            .request
            .status
            .as_ref()
            .map(|status| status.approvals.as_slice());
        if approval::is_pending(self.request, counted.unwrap_or_default()) {
            return self.context.guard.confirmed(&self.context.client).await;
        }
        Ok(self.context.guard.seen())
    }

    async fn policy(&self) -> Result<Seen<rollback_api::RollbackPolicySpec>, Error> {
        let api: Api<RollbackPolicy> = Api::namespaced(self.client(), self.namespace);
        let policy = reading("the RollbackPolicy", api.get_opt(POLICY_NAME).await)?;
        Ok(policy.map_or(Seen::Absent, |policy| Seen::Found(policy.spec)))
    }

    async fn ledger(&self) -> Result<Option<RevisionLedger>, Error> {
        let api: Api<RevisionLedger> = Api::namespaced(self.client(), self.namespace);
        reading("the RevisionLedger", api.get_opt(self.name).await)
    }

    async fn deployment(&self) -> Result<Seen<Deployment>, Error> {
        let found = raw::deployment(&self.client(), self.namespace, self.name).await;
        Ok(reading("the Deployment", found)?.map_or(Seen::Absent, Seen::Found))
    }

    /// The `ReplicaSets` that the Deployment's selector finds.
    async fn history(&self, deployment: &Deployment) -> Result<Vec<ReplicaSet>, Error> {
        let sets = raw::replica_sets(&self.client(), self.namespace, deployment).await;
        reading("the ReplicaSets", sets)
    }

    /// The `ReplicaSet` of the plan, if it is still there.
    async fn planned_replica_set(&self) -> Result<Vec<ReplicaSet>, Error> {
        let Some(target) = self.planned() else {
            return Ok(Vec::new());
        };
        let set = raw::replica_set(&self.client(), self.namespace, &target.replica_set).await;
        Ok(reading("the ReplicaSet of the plan", set)?
            .into_iter()
            .collect())
    }

    fn planned(&self) -> Option<&PlannedTarget> {
        let plan = self.request.status.as_ref()?.plan.as_ref()?;
        plan.targets.first()
    }

    fn has_old_template(&self, deployment: &Seen<Deployment>) -> bool {
        deployment
            .found()
            .zip(self.planned())
            .is_some_and(|(deployment, target)| deployment.template().digest() == target.to_digest)
    }

    /// Whether a ConfigMap of ours is there.
    async fn artifact(&self, name: String, now: Timestamp) -> Result<Seen<Timestamp>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client(), self.namespace);
        let found: Option<PartialObjectMeta<ConfigMap>> =
            reading("a ConfigMap", api.get_metadata_opt(&name).await)?;
        match found {
            None => Ok(Seen::Absent),
            Some(found) if found.labels().get(REQUEST_UID_LABEL) == self.request.uid().as_ref() => {
                Ok(Seen::Found(now))
            }
            Some(_) => Err(Error::Squatted(name)),
        }
    }

    /// Another request that holds the claim.
    async fn rival(&self, observed: &Observed) -> Result<Seen<Rival>, Error> {
        let deployment_uid = observed.deployment.found().map_or("", Deployment::uid);
        let uid = self.request.uid().unwrap_or_default();
        let Holder::Other(claim) = holder(observed.ledger.found(), deployment_uid, &uid) else {
            return Ok(Seen::Unknown);
        };
        let api: Api<RollbackRequest> = Api::namespaced(self.client(), self.namespace);
        let rival = reading(
            "the RollbackRequest that holds the claim",
            api.get_opt(&claim.request).await,
        )?;
        Ok(rival
            .filter(|rival| rival.uid().as_ref() == Some(&claim.request_uid))
            .map_or(Seen::Absent, |rival| {
                let ended = rival
                    .status
                    .as_ref()
                    .is_some_and(|status| status.outcome.is_some());
                Seen::Found(Rival {
                    name: claim.request.clone(),
                    active: !ended,
                })
            }))
    }
}

fn spec_of(ledger: Option<&RevisionLedger>) -> Seen<rollback_api::RevisionLedgerSpec> {
    ledger.map_or(Seen::Absent, |ledger| Seen::Found(ledger.spec.clone()))
}

/// The checks that are due, and the `ReplicaSet` whose pods they ask.
fn due_checks(
    status: &RollbackRequestStatus,
    observed: &Observed,
    now: Timestamp,
) -> Option<(Vec<rollback_api::policy::HttpCheck>, ReplicaSet)> {
    let plan = status.plan.as_ref()?;
    let (target, progress) = (plan.targets.first()?, status.targets.first()?);
    let checks: Vec<_> = health::due(&plan.rules, progress.verification.as_ref()?, now)
        .cloned()
        .collect();
    let replica_set = observed.replica_sets.iter().find(|set| {
        set.controller_uid() == Some(&target.uid) && set.template().digest() == target.to_digest
    })?;
    (!checks.is_empty()).then(|| (checks, replica_set.clone()))
}
