//! Deployments and `ReplicaSets` as the API server serves them, byte for byte: typed structs would drop
//! the fields that are newer than they are.

use k8s_openapi::api::apps::v1;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{GetParams, ListParams};
use kube::core::{Request, Selector, Status};
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

/// One object as it is served, or `None`.
pub async fn get(client: &Client, url: String, name: &str) -> kube::Result<Option<Value>> {
    found(get_or_status(client, url, name).await)
}

/// One object as it is served, or what the API server says instead.
pub async fn get_or_status(client: &Client, url: String, name: &str) -> kube::Result<Value> {
    let request = Request::new(url)
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    client.request::<Value>(request).await
}

/// Whether it is an object that was not found, and not its kind.
pub fn names_an_object(status: &Status) -> bool {
    let details = status.details.as_ref();
    status.code == 404 && details.is_some_and(|details| !details.name.is_empty())
}

/// The metadata of one object, or `None`: for what is only asked whether it is there.
pub async fn get_metadata(client: &Client, url: String, name: &str) -> kube::Result<Option<Value>> {
    let request = Request::new(url)
        .get_metadata(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    found(client.request::<Value>(request).await)
}

fn found(result: kube::Result<Value>) -> kube::Result<Option<Value>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// All Deployments of the namespace.
pub async fn deployments(client: &Client, namespace: &str) -> kube::Result<Vec<Deployment>> {
    let url = v1::Deployment::url_path(&(), Some(namespace));
    let listed = list(client, url, &ListParams::default()).await?;
    Ok(listed.into_iter().map(Deployment).collect())
}

/// All `ReplicaSets` of the namespace.
pub async fn all_replica_sets(client: &Client, namespace: &str) -> kube::Result<Vec<ReplicaSet>> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let listed = list(client, url, &ListParams::default()).await?;
    Ok(listed.into_iter().map(ReplicaSet).collect())
}

/// Objects as they are served.
pub async fn list(
    client: &Client,
    url: String,
    parameters: &ListParams,
) -> kube::Result<Vec<Value>> {
    let request = Request::new(url)
        .list(parameters)
        .map_err(kube::Error::BuildRequest)?;
    let mut list = client.request::<Value>(request).await?;
    Ok(match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        Some(_) | None => Vec::new(),
    })
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
    let listed = list(client, url, &ListParams::default().labels_from(&selector)).await?;
    Ok(listed.into_iter().map(ReplicaSet).collect())
}

/// The pods that the Deployment's selector finds and that are on their way out.
pub async fn leaving_pods(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
) -> kube::Result<Vec<Value>> {
    let Some(selector) = selector(deployment) else {
        return Ok(Vec::new());
    };
    let url = Pod::url_path(&(), Some(namespace));
    let mut pods = list(client, url, &ListParams::default().labels_from(&selector)).await?;
    pods.retain(|pod| pod.pointer("/metadata/deletionTimestamp").is_some());
    Ok(pods)
}

/// Which objects a Deployment counts as its own.
pub fn selector(deployment: &Deployment) -> Option<Selector> {
    let selector = deployment.0.pointer("/spec/selector")?.clone();
    serde_json::from_value::<LabelSelector>(selector)
        .ok()?
        .try_into()
        .ok()
}
