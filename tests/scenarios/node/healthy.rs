//! Old versions that are well, and one that only looks well.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::HEALTH_PORT;
use testkit::node::app::{APP, version};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::stage::{REQUEST, ensure_ended, ensure_one_patch, roll_back, scene, target};

/// A policy that asks the pods whether they are well.
async fn ask_pods(scene: &Scene, path: &str, timeout: u32) -> Result<()> {
    let check = json!({"name": "shop", "port": HEALTH_PORT, "path": path, "periodSeconds": 1});
    scene
        .policy(json!({"verification": {"timeoutSeconds": timeout, "http": [check]}}))
        .await
}

/// The pods of a version that are not ending.
async fn pods(scene: &Scene, version: &str) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/version={version}"));
    let pods = api.list(&labelled).await?.items;
    Ok(pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect())
}

/// The new version comes up, is rolled out, and then dies again and again.
#[tokio::test]
async fn a_version_that_crashes_is_rolled_back_and_the_old_one_is_asked() -> Result<()> {
    let Some(scene) = scene("healthy").await? else {
        return Ok(());
    };
    ask_pods(&scene, "/health/ready", 30).await?;
    scene.deploy(version("v1").replicas(2)).await?;
    let dies = version("v2")
        .replicas(2)
        .env("CRASH_AFTER_MS", "4000")
        .env("EXIT_CODE", "3")
        .env("LAST_WORDS", "out of stock");
    scene.deploy(dies).await?;
    eventually("v2 crashes again and again", PATIENCE, async || {
        let pods = serde_json::to_value(pods(&scene, "v2").await?)?;
        let ends: Vec<&Value> = pods
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|pod| pod.pointer("/status/containerStatuses/0/lastState/terminated"))
            .collect();
        ensure!(
            ends.iter()
                .any(|end| end["exitCode"] == 3 && end["message"] == "out of stock"),
            "{ends:?}"
        );
        Ok(())
    })
    .await?;

    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    ensure!(outcome.reason != Reason::Unverified, "{outcome:?}");
    let target = target(&request)?;
    let checks = target.verification.context("nobody was asked")?.checks;
    ensure!(checks.len() == 1, "{checks:?}");
    ensure_one_patch(&scene)?;

    ensure!(scene.image(APP).await?.ends_with(":v1"));
    let pods = pods(&scene, "v1").await?;
    ensure!(pods.len() == 2, "{pods:?}");
    let versions = versions_of(&pods).await?;
    ensure!(versions == ["v1", "v1"], "{versions:?}");
    Ok(())
}

/// What each pod says its version is.
async fn versions_of(pods: &[Pod]) -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for pod in pods {
        let status = pod.status.as_ref().context("a pod without status")?;
        let ip = status.pod_ip.as_deref().context("a pod without address")?;
        let url = format!("http://{ip}:{HEALTH_PORT}/version");
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()?;
        versions.push(client.get(url).send().await?.text().await?);
    }
    Ok(versions)
}

/// The old version is ready as its own probe says, and not well as the policy asks.
#[tokio::test]
async fn an_old_version_that_answers_503_fails_the_checks() -> Result<()> {
    let Some(scene) = scene("checks").await? else {
        return Ok(());
    };
    ask_pods(&scene, "/health", 5).await?;
    let unwell = version("v1")
        .env("FAIL_HEALTH", "1")
        .env("BODY", "password=hunter2");
    scene.deploy(unwell).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::ChecksFailed)?;
    ensure!(
        outcome.message.contains("answered 503 instead of 200"),
        "{outcome:?}"
    );
    ensure!(!outcome.message.contains("hunter2"), "{outcome:?}");
    ensure!(scene.image(APP).await?.ends_with(":v1"), "it was undone");
    ensure_one_patch(&scene)
}
