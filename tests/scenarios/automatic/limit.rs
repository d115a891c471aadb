//! The limit of the hour is counted from what nobody who asks can delete.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use kube::ResourceExt;
use kube::api::DeleteParams;
use rollback_api::status::BlockedBy;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::stage::{ends, held_back, named, next_second, requests, runs, scene, send};

/// Two Deployments in two versions each, and one rollback an hour without a person.
async fn one_an_hour(name: &str) -> Result<Scene> {
    let scene = scene(name, json!({"approve": true, "mostPerHour": 1})).await?;
    for version in ["v1", "v2"] {
        for name in ["api", "web"] {
            scene.deploy(named(name, version)).await?;
        }
    }
    next_second().await;
    Ok(scene)
}

#[tokio::test]
async fn who_deletes_what_has_ended_does_not_begin_the_hour_anew() -> Result<()> {
    let scene = one_an_hour("limit-deleted").await?;
    send(&scene, "api-down", "api", "HealthCheck").await?;
    ends(
        &scene,
        "api-down",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    let api = scene.requests(User::Requester).await?;
    for request in requests(&scene).await? {
        api.delete(&request.name_any(), &DeleteParams::default())
            .await?;
    }
    eventually("they are gone", PATIENCE, async || {
        let left = requests(&scene).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    send(&scene, "web-down", "web", "HealthCheck").await?;
    let said = held_back(&scene, "web-down", BlockedBy::HourlyLimit).await?;
    ensure!(said.contains("has had 1 rollbacks"), "{said}");
    ensure!(runs(&scene, "web", "v2").await?);
    Ok(())
}

/// What a person approved is no rollback without a person.
#[tokio::test]
async fn what_a_person_approved_does_not_count() -> Result<()> {
    let scene = one_an_hour("limit-person").await?;
    scene
        .roll_back("by-hand", "api", json!({"previous": {}}))
        .await?;
    send(&scene, "web-down", "web", "HealthCheck").await?;
    ends(
        &scene,
        "web-down",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure!(runs(&scene, "web", "v1").await?);
    Ok(())
}

/// A ledger that cannot be read may tell of one: it counts, and is named. Straight in the store, as an older schema may have
/// left it.
#[tokio::test]
async fn a_ledger_that_cannot_be_read_counts_and_is_named() -> Result<()> {
    let scene = one_an_hour("limit-unreadable").await?;
    scene
        .roll_back("by-hand", "api", json!({"previous": {}}))
        .await?;
    let key = format!(
        "/registry/rollback.broxiva.com/revisionledgers/{}/deployment-api",
        scene.ns()
    );
    let stored = etcd(&scene, "range", json!({"key": bytes(&key)})).await?;
    let stored = serde_json::from_value::<ByteString>(stored["kvs"][0]["value"].clone())?;
    let mut ledger: Value = serde_json::from_slice(&stored.0)?;
    let at = ledger.pointer_mut("/spec/rollbacks/0/at");
    *at.context("it remembers none")? = json!("9999-12-31T23:59:59Z");
    let put = json!({"key": bytes(&key), "value": bytes(&ledger.to_string())});
    etcd(&scene, "put", put).await?;
    send(&scene, "web-down", "web", "HealthCheck").await?;
    let said = held_back(&scene, "web-down", BlockedBy::HourlyLimit).await?;
    ensure!(said.contains("RevisionLedger deployment-api"), "{said}");
    etcd(&scene, "deleterange", json!({"key": bytes(&key)})).await?;
    Ok(())
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

async fn etcd(scene: &Scene, verb: &str, body: Value) -> Result<Value> {
    let url = format!("{}/v3/kv/{verb}", scene.cluster.etcd()?);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.post(url).body(body.to_string()).send().await?;
    ensure!(answer.status().is_success(), "etcd says {answer:?}");
    Ok(serde_json::from_str(&answer.text().await?)?)
}
