//! Deployments and `ReplicaSets` as the API server serves them, byte for byte: typed structs would drop
//! the fields that are newer than they are.

use k8s_openapi::api::apps::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{GetParams, ListParams};
use kube::core::{Request, Selector};
use kube::{Client, Resource};
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

/// One `ReplicaSet`, or `None`.
pub async fn replica_set(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<ReplicaSet>> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    Ok(get(client, url, name).await?.map(ReplicaSet))
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

/// The `ReplicaSets` that the Deployment's selector finds, whoever controls them.
pub async fn replica_sets(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
) -> kube::Result<Vec<ReplicaSet>> {
    let Some(selector) = selector(deployment) else {
        return Ok(Vec::new());
    };
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let request = Request::new(url)
        .list(&ListParams::default().labels_from(&selector))
        .map_err(kube::Error::BuildRequest)?;
    let mut list = client.request::<Value>(request).await?;
    Ok(match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items.into_iter().map(ReplicaSet).collect(),
        Some(_) | None => Vec::new(),
    })
}

fn selector(deployment: &Deployment) -> Option<Selector> {
    let selector = deployment.0.pointer("/spec/selector")?.clone();
    serde_json::from_value::<LabelSelector>(selector)
        .ok()?
        .try_into()
        .ok()
}
