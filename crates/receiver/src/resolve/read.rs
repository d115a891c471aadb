//! Reads of Deployments, `ReplicaSets` and pods as the API server serves them: typed structs would drop the fields that are
//! newer than they are, and the digest of a template is over all of them.

use k8s_openapi::api::apps::v1;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{GetParams, ListParams};
use kube::core::{Request, Selector};
use kube::{Api, Client, Resource};
use rollback_api::{RevisionLedger, RevisionLedgerSpec};
use rollback_core::observed::{Deployment, ReplicaSet};
use serde_json::Value;

/// The Deployment, or `None`.
pub async fn deployment(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<Deployment>> {
    let url = v1::Deployment::url_path(&(), Some(namespace));
    Ok(get(client, url, name).await?.map(Deployment))
}

/// The pod, or `None`.
pub async fn pod(client: &Client, namespace: &str, name: &str) -> kube::Result<Option<Value>> {
    get(client, Pod::url_path(&(), Some(namespace)), name).await
}

/// The `ReplicaSets` that the Deployment's selector finds, whoever controls them.
pub async fn replica_sets(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
) -> kube::Result<Vec<ReplicaSet>> {
    let selector = deployment.0.pointer("/spec/selector").cloned();
    let selector = selector.and_then(|it| serde_json::from_value::<LabelSelector>(it).ok());
    let Some(selector) = selector.and_then(|it| Selector::try_from(it).ok()) else {
        return Ok(Vec::new());
    };
    list_sets(
        client,
        namespace,
        &ListParams::default().labels_from(&selector),
    )
    .await
}

/// One `ReplicaSet` by its name, or `None`; `list` is all that is granted.
pub async fn replica_set(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<ReplicaSet>> {
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = list_sets(client, namespace, &named).await?;
    Ok(found.into_iter().find(|set| set.name() == name))
}

/// What the controller remembers of the Deployment.
pub async fn ledger(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<RevisionLedgerSpec>> {
    let ledgers: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    Ok(ledgers.get_opt(name).await?.map(|ledger| ledger.spec))
}

async fn list_sets(
    client: &Client,
    namespace: &str,
    parameters: &ListParams,
) -> kube::Result<Vec<ReplicaSet>> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let request = Request::new(url)
        .list(parameters)
        .map_err(kube::Error::BuildRequest)?;
    let mut list = client.request::<Value>(request).await?;
    Ok(match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items.into_iter().map(ReplicaSet).collect(),
        Some(_) | None => Vec::new(),
    })
}

async fn get(client: &Client, url: String, name: &str) -> kube::Result<Option<Value>> {
    let request = Request::new(url)
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    match client.request::<Value>(request).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
