//! Capacity for the old version: a Deployment that the policy names is scaled down, and gets back what it had.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::PostParams;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::shop::deployment;
use testkit::{Scene, User, eventually};

use crate::stage::{ends, roll_back, scene, target};

/// `api` and `reports` fill the quota of the namespace, so that the pods of the old version have no room.
async fn crowded(name: &str, granted: bool) -> Result<Scene> {
    let scene = scene(name).await?;
    let client = scene.client(User::Admin).await?;
    if granted {
        scene.grant("rollback-scale-down").await?;
    }
    scene
        .policy(json!({"capacity": {"scaleDown": [{"name": "reports"}]},
            "rollout": {"timeoutSeconds": 45, "graceSeconds": 40}}))
        .await?;
    scene.two_versions("api").await?;
    scene.deploy(deployment("reports").version("v1")).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(client, scene.ns());
    let quota = serde_json::from_value(json!({
        "metadata": {"name": "pods"}, "spec": {"hard": {"pods": "4"}},
    }))?;
    quotas.create(&PostParams::default(), &quota).await?;
    eventually("the quota counts the pods", PATIENCE, async || {
        let quota = quotas.get("pods").await?;
        let used = quota
            .status
            .and_then(|status| status.used?.get("pods").cloned());
        ensure!(used.as_ref().is_some_and(|used| used.0 == "4"), "{used:?}");
        Ok(())
    })
    .await?;
    Ok(scene)
}

fn replicas(deployment: &Value) -> i64 {
    let replicas = deployment.pointer("/spec/replicas");
    replicas.and_then(Value::as_i64).unwrap_or_default()
}

/// Whether the old version then comes up in time is up to the controller of `ReplicaSets`, which asks the quota ever more rarely.
#[tokio::test]
async fn capacity_is_freed_and_given_back() -> Result<()> {
    let scene = crowded("capacity", true).await?;
    roll_back(&scene, "api-5xx").await?;
    eventually("capacity is freed", PATIENCE, async || {
        let status = scene.status("api-5xx").await?;
        let scaled = status
            .scaled_down
            .first()
            .context("nothing was scaled down")?;
        ensure!(
            scaled.workload.name == "reports" && scaled.from == 2 && scaled.taken_at.is_some(),
            "{scaled:?}, {:?}",
            status.targets[0].warnings
        );
        ensure!(replicas(&scene.deployment("reports").await?) == 0);
        Ok(())
    })
    .await?;
    scene.wait_for_end("api-5xx").await?;
    let status = scene.status("api-5xx").await?;
    ensure!(
        status.scaled_down[0].restored_at.is_some(),
        "{:?}",
        status.scaled_down
    );
    ensure!(replicas(&scene.deployment("reports").await?) == 2);
    Ok(())
}

#[tokio::test]
async fn without_the_grant_nothing_is_made_smaller_and_it_is_told() -> Result<()> {
    let scene = crowded("capacity-denied", false).await?;
    roll_back(&scene, "api-5xx").await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::RolloutFailed,
    )
    .await?;
    ensure!(replicas(&scene.deployment("reports").await?) == 2);
    let warnings = target(&scene, "api-5xx").await?.warnings;
    ensure!(
        warnings.iter().any(|it| it.contains("rollback-scale-down")),
        "{warnings:?}"
    );
    Ok(())
}
