//! What one tenant can put into a namespace to be read by others: many `ReplicaSets`, each almost as large as an object may be.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::shop;

/// How many bytes one of them has, about.
pub const SIZE: usize = 1_150_000;
/// How many are made at the same time.
const AT_ONCE: usize = 4;

/// Makes so many `ReplicaSets` that the selector of this Deployment finds. `owned`: the Deployment takes them for its own
/// history, with the numbers from `first` on; otherwise something else controls them. Every third one has many small
/// things in it, the others few large ones.
pub async fn replica_sets(
    client: &Client,
    namespace: &str,
    deployment: &str,
    number: usize,
    first: Option<usize>,
) -> Result<()> {
    let owner = match first {
        Some(_) => Value::Null,
        None => json!([foreign_owner(client, namespace, deployment).await?]),
    };
    let sets = shop::api(client, namespace, "apps/v1", "ReplicaSet");
    stream::iter(0..number)
        .map(|place| {
            let number = first.map(|first| first + place);
            let set = replica_set(deployment, place, number, &owner);
            let sets = &sets;
            async move {
                let set = serde_json::from_value(set)?;
                sets.create(&PostParams::default(), &set).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn foreign_owner(client: &Client, namespace: &str, name: &str) -> Result<Value> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = serde_json::from_value(json!({"metadata": {"name": format!("owner-of-{name}")}}))?;
    let map = maps.create(&PostParams::default(), &map).await?;
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": map.name_any(), "uid": map.uid(), "controller": true,
    }))
}

fn replica_set(deployment: &str, place: usize, number: Option<usize>, owner: &Value) -> Value {
    let labels = json!({
        "app.kubernetes.io/name": deployment, "pod-template-hash": format!("flood{place}"),
    });
    let mut container = json!({"name": "app", "image": format!("registry.broxiva.example/{deployment}:flood{place}")});
    if place.is_multiple_of(3) {
        container["args"] = json!(vec!["x"; SIZE / 4]);
    } else {
        container["env"] = json!([{"name": "FLOOD", "value": "x".repeat(SIZE)}]);
    }
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("{deployment}-flood{place}"), "labels": labels, "annotations": {}},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    if !owner.is_null() {
        set["metadata"]["ownerReferences"] = owner.clone();
    }
    if let Some(number) = number {
        set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
            json!(number.to_string());
    }
    set
}
