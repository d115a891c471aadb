//! Reads of Deployments, `ReplicaSets` and pods as the API server serves them: typed structs would drop the fields that are
//! newer than they are, and the digest of a template is over all of them. Whoever may make such objects decides how many
//! and how large they are, so each read ends where its room does.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Resource};
use rollback_api::{RevisionLedger, RevisionLedgerSpec, WorkloadKind};
use rollback_core::history::ledger;
use rollback_core::observed::{Deployment, ReplicaSet};
use rollback_reads::budget::Budget;
use rollback_reads::get;
use rollback_reads::history::{self, Wish};
use serde_json::Value;

/// How much memory what is read about one Deployment may take.
pub const ROOM: usize = 6 << 20;
/// Of how many `ReplicaSets` the template is read to find the one that is live: what has the number of the Deployment,
/// and what was made just now.
const TEMPLATES: usize = 3;

/// The metadata of the pod, or `None`.
pub async fn pod(
    client: &Client,
    namespace: &str,
    name: &str,
    room: &Budget,
) -> kube::Result<Option<Value>> {
    let url = Pod::url_path(&(), Some(namespace));
    get::found(get::metadata(client, &url, name, room).await)
}

/// The `ReplicaSet` of what is live, if it is known.
pub async fn live_set(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
    room: &Budget,
) -> kube::Result<Vec<ReplicaSet>> {
    let wish = Wish {
        templates: TEMPLATES,
        memory: room.left(),
        revision: None,
        all_or_nothing: false,
    };
    let found = history::live(client, namespace, deployment, wish, room).await?;
    Ok(deployment
        .live_set(&found.sets)
        .cloned()
        .into_iter()
        .collect())
}

/// The metadata of one `ReplicaSet`, or `None`; `list` is all that is granted.
pub async fn replica_set(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<ReplicaSet>> {
    history::head(client, namespace, name).await
}

/// What the controller remembers of the Deployment.
pub async fn ledger(
    client: &Client,
    namespace: &str,
    deployment: &str,
) -> kube::Result<Option<RevisionLedgerSpec>> {
    let ledgers: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    let name = ledger::name(WorkloadKind::Deployment, deployment);
    Ok(ledgers.get_opt(&name).await?.map(|ledger| ledger.spec))
}
