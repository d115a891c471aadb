//! What is read of a version that is under analysis.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client, Resource};
use rollback_api::policy::Triggers;
use rollback_api::{
    POLICY_NAME, REVISION, RevisionLedger, RevisionLedgerSpec, RollbackPolicy, WorkloadKind,
};
use rollback_core::history::ledger;
use rollback_core::observed::{Deployment, ReplicaSet};
use rollback_reads::budget::Budget;
use rollback_reads::history;
use serde_json::Value;

use super::{Error, raw, reading};

/// How much memory events about its pods may take.
const EVENTS: usize = 1 << 20;
/// How much memory one version under analysis may take, and its pods as much again.
pub const MEMORY: usize = 8 << 20;

/// A Deployment, what it has run, and the rules for it, as they are now.
pub struct Live {
    /// The Deployment.
    pub deployment: Deployment,
    /// Its `ReplicaSets`.
    pub replica_sets: Vec<ReplicaSet>,
    /// Its ledger.
    pub ledger: Option<RevisionLedgerSpec>,
    /// The rules of the namespace.
    pub triggers: Triggers,
    /// What the policy calls marks of restarts.
    pub marks: Vec<String>,
    /// How much memory this takes.
    pub memory: usize,
}

/// `None` when the Deployment is gone, or there is no policy: then nothing comes by itself.
pub async fn live(client: &Client, namespace: &str, name: &str) -> Result<Option<Live>, Error> {
    let budget = Budget::of(MEMORY);
    let policies: Api<RollbackPolicy> = Api::namespaced(client.clone(), namespace);
    let ledgers: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    let ledger_name = ledger::name(WorkloadKind::Deployment, name);
    let (policy, deployment, ledger) = futures::join!(
        policies.get_opt(POLICY_NAME),
        raw::deployment(client, namespace, name, &budget),
        ledgers.get_opt(&ledger_name),
    );
    let policy = reading("the RollbackPolicy", policy)?;
    let deployment = reading("the Deployment", deployment)?;
    let ledger = reading("the RevisionLedger", ledger)?;
    let (Some(policy), Some(deployment)) = (policy, deployment) else {
        return Ok(None);
    };
    let wish = raw::newest(&budget);
    let sets = history::history(client, namespace, &deployment, wish, &budget).await;
    Ok(Some(Live {
        replica_sets: judged(&deployment, reading("the ReplicaSets", sets)?.sets),
        deployment,
        memory: budget.taken(),
        ledger: ledger.map(|ledger| ledger.spec),
        triggers: policy.spec.triggers,
        marks: policy.spec.ledger.restart_marks,
    }))
}

/// Only the templates that are judged: of what is live, and of the version before it.
fn judged(deployment: &Deployment, sets: Vec<ReplicaSet>) -> Vec<ReplicaSet> {
    let number = |set: &ReplicaSet| {
        set.annotation(REVISION)
            .and_then(|it| it.parse::<i64>().ok())
    };
    let live = deployment.live_set(&sets).map(|set| set.uid().to_owned());
    let mut sets = sets;
    sets.sort_by_key(|set| std::cmp::Reverse(number(set)));
    for set in sets.iter_mut().skip(2) {
        if live.as_deref() != Some(set.uid())
            && let Some(fields) = set.0.as_object_mut()
        {
            fields.remove("spec");
        }
    }
    sets
}

/// The pods of a Deployment, of all its versions, as they are now.
pub async fn pods(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
) -> Result<Vec<Value>, Error> {
    let Some(selector) = raw::selector(deployment) else {
        return Ok(Vec::new());
    };
    let url = Pod::url_path(&(), Some(namespace));
    let labelled = ListParams::default().labels_from(&selector);
    let budget = Budget::of(MEMORY);
    reading("the pods", raw::all(client, url, &labelled, &budget).await)
}

/// Events about those of its pods that are not ready. They hold a rollback back and never bring one about, so that they
/// cannot be read is no reason to stop.
pub async fn events(client: &Client, namespace: &str, pods: &[Value]) -> Vec<Value> {
    let budget = Budget::of(EVENTS);
    crate::pods::events(client, namespace, pods, &budget).await
}

/// Which pods are those of a Deployment.
pub fn selector(deployment: &Deployment) -> Option<Selector> {
    raw::selector(deployment)
}
