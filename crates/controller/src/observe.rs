//! Reads: everything a decision may look at, and nothing that changes anything.
//!
//! Only what the present phase needs is read, live and not from a cache, because a write may follow.

mod access;
mod guard;
mod probe;
mod raw;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use rollback_api::{
    POLICY_NAME, REQUEST_UID_LABEL, RevisionLedger, RollbackPolicy, RollbackRequest,
    RollbackRequestStatus,
};
use rollback_core::ledger::{Holder, holder};
use rollback_core::observed::{Deployment, Observed, ReplicaSet, Rival, Seen};
use rollback_core::plan::target_name;
use rollback_core::step::Phase;
use rollback_core::{artifact, health};

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
        let ((mut observed, read), opted_in) = futures::try_join!(
            self.state_before_revert(),
            access::opted_in(&self.context.client, self.namespace),
        )?;
        observed.opted_in = Seen::Found(opted_in);
        Ok((observed, read))
    }

    async fn awaiting_approval(&self) -> Result<(Observed, Read), Error> {
        self.state_before_revert().await
    }

    async fn writing(&self, now: Timestamp) -> Result<(Observed, Read), Error> {
        let ((mut observed, read), access, backup) = futures::try_join!(
            self.state_before_revert(),
            access::access(
                &self.context.client,
                self.request,
                self.namespace,
                self.name
            ),
            self.artifact(artifact::backup_name(self.request, self.name), now),
        )?;
        observed.access = Seen::Found(access);
        observed.backup = backup;
        observed.rival = self.rival(&observed).await?;
        observed.rejection = self.request.uid().and_then(|uid| {
            self.context
                .remember(&uid, |memory| memory.rejection.clone())
        });
        Ok((observed, read))
    }

    async fn rolling_out(&self) -> Result<(Observed, Read), Error> {
        let (deployment, replica_sets) = self.deployment().await?;
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

    /// What every phase before the revert looks at.
    async fn state_before_revert(&self) -> Result<(Observed, Read), Error> {
        let (policy, guard, (deployment, replica_sets), ledger) = futures::try_join!(
            self.policy(),
            guard::guard(&self.context.client),
            self.deployment(),
            self.ledger(),
        )?;
        let observed = Observed {
            policy,
            guard,
            deployment,
            replica_sets,
            ledger: spec_of(ledger.as_ref()),
            ..Observed::default()
        };
        Ok((observed, Read { ledger }))
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

    /// The Deployment and the `ReplicaSets` that its selector finds.
    async fn deployment(&self) -> Result<(Seen<Deployment>, Vec<ReplicaSet>), Error> {
        let deployment = reading(
            "the Deployment",
            raw::deployment(&self.client(), self.namespace, self.name).await,
        )?;
        let Some(deployment) = deployment else {
            return Ok((Seen::Absent, Vec::new()));
        };
        let sets = raw::replica_sets(&self.client(), self.namespace, &deployment).await;
        let replica_sets = reading("the ReplicaSets", sets)?;
        Ok((Seen::Found(deployment), replica_sets))
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
