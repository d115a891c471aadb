//! What is read of a version that is on trial.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client, Resource};
use rollback_api::policy::Triggers;
use rollback_api::{POLICY_NAME, RevisionLedger, RevisionLedgerSpec, RollbackPolicy};
use rollback_core::observed::{Deployment, ReplicaSet};
use serde_json::Value;

use super::{Error, raw, reading};

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
}

/// `None` when the Deployment is gone, or there is no policy: then nothing comes by itself.
pub async fn live(client: &Client, namespace: &str, name: &str) -> Result<Option<Live>, Error> {
    let policies: Api<RollbackPolicy> = Api::namespaced(client.clone(), namespace);
    let ledgers: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    let (policy, deployment, ledger) = futures::join!(
        policies.get_opt(POLICY_NAME),
        raw::deployment(client, namespace, name),
        ledgers.get_opt(name),
    );
    let policy = reading("the RollbackPolicy", policy)?;
    let deployment = reading("the Deployment", deployment)?;
    let ledger = reading("the RevisionLedger", ledger)?;
    let (Some(policy), Some(deployment)) = (policy, deployment) else {
        return Ok(None);
    };
    let sets = raw::replica_sets(client, namespace, &deployment).await;
    Ok(Some(Live {
        replica_sets: reading("the ReplicaSets", sets)?,
        deployment,
        ledger: ledger.map(|ledger| ledger.spec),
        triggers: policy.spec.triggers,
    }))
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
    reading("the pods", raw::list(client, url, &labelled).await)
}

/// Which pods are those of a Deployment.
pub fn selector(deployment: &Deployment) -> Option<Selector> {
    raw::selector(deployment)
}
