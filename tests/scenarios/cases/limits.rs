//! Rollouts that the Deployment's own conditions tell the wrong story about.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kube::api::{WatchEvent, WatchParams};
use rollback_api::{Reason, Word};
use serde_json::{Value, json};
use testkit::health::{HEALTH_PORT, HealthServer};
use testkit::scene::PATIENCE;
use testkit::shop::{BEHAVIOUR, Behaviour};
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    APP, REQUEST, condition, deploy_all, deploy_stuck, deployments, ensure_answers, ensure_ended,
    number, progress, quota, scene, text,
};

#[tokio::test]
async fn case_46_the_failure_of_the_bad_version_is_not_ours() -> Result<()> {
    let scene = scene("case-46").await?;
    let impatient = || {
        shop::deployment(APP)
            .replicas(1)
            .progress_deadline(5)
            .set("/spec/strategy", json!({"type": "Recreate"}))
    };
    let slow = impatient().ready_after(Duration::from_secs(1));
    scene.deploy(slow.version("v1")).await?;
    deploy_stuck(&scene, impatient().version("v2")).await?;
    scene
        .wait_for_deployment(APP, |deployment| {
            condition(deployment, "Progressing") == Some("ProgressDeadlineExceeded")
        })
        .await?;
    let states = watch(&scene).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    // Whoever believed the condition would have called the rollback failed.
    let stale = |deployment: &Value| {
        text(deployment, "/spec/template/spec/containers/0/image").ends_with(":v1")
            && number(deployment, "/status/observedGeneration")
                == number(deployment, "/metadata/generation")
            && condition(deployment, "Progressing") == Some("ProgressDeadlineExceeded")
    };
    eventually("the failure was still shown", PATIENCE, async || {
        let seen = states.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(seen.iter().any(stale), "{} states without it", seen.len());
        Ok(())
    })
    .await
}

/// Every state of the Deployment from now on.
async fn watch(scene: &Scene) -> Result<Arc<Mutex<Vec<Value>>>> {
    let api = deployments(scene).await?;
    let from = api.get(APP).await?.metadata.resource_version;
    let only = WatchParams::default().fields(&format!("metadata.name={APP}"));
    let mut events = api
        .watch(&only, &from.context("no resourceVersion")?)
        .await?
        .boxed();
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&states);
    tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else {
                continue;
            };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.extend(serde_json::to_value(object));
        }
    });
    Ok(states)
}

/// The Deployment controller waits for ever: what happened before was a success, and nothing moves.
#[tokio::test]
async fn case_47_pods_that_are_refused_fail_by_our_deadline() -> Result<()> {
    let scene = scene("case-47").await?;
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 6}}))
        .await?;
    for version in ["v1", "v2"] {
        let deployment = shop::deployment(APP).progress_deadline(2);
        scene.deploy(deployment.version(version)).await?;
    }
    quota(&scene, "pods", 2).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Failed, Reason::RolloutTimedOut)?;
    assert!(
        outcome.message.contains("exceeded quota"),
        "{}",
        outcome.message
    );
    let hung = scene.deployment(APP).await?;
    assert_ne!(
        condition(&hung, "Progressing"),
        Some("ProgressDeadlineExceeded")
    );
    Ok(())
}

#[tokio::test]
async fn case_55_crashes_of_the_bad_version_are_not_ours() -> Result<()> {
    let scene = scene("case-55").await?;
    let slow = shop::deployment(APP).ready_after(Duration::from_secs(2));
    scene.deploy(slow.version("v1")).await?;
    deploy_all(&scene, &["v2"]).await?;
    let crash = [(BEHAVIOUR, Behaviour::Crash.as_str())];
    let client = scene.client(User::Admin).await?;
    shop::annotate_pods(&client, scene.ns(), APP, &crash).await?;
    scene
        .wait_for_deployment(APP, |deployment| {
            condition(deployment, "Available") == Some("MinimumReplicasUnavailable")
        })
        .await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));
    Ok(())
}

#[tokio::test]
async fn case_61_checks_ask_the_pods_of_the_old_version() -> Result<()> {
    let scene = scene("case-61").await?;
    let (good, bad) = (HealthServer::start().await?, HealthServer::start().await?);
    let check = json!({
        "name": "ready", "port": HEALTH_PORT, "path": "/health/ready",
        "consecutiveSuccesses": 1, "periodSeconds": 1,
    });
    scene
        .policy(json!({"verification": {"http": [check]}}))
        .await?;
    for (version, pods) in [("v1", &good), ("v2", &bad)] {
        let deployment = shop::deployment(APP).version(version);
        scene.deploy(deployment.pod_ip(&pods.ip())).await?;
    }
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::RolledBack)?;
    assert_eq!(good.paths(), ["/health/ready", "/health/ready"]);
    assert_eq!(bad.paths(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn case_66_our_deadline_does_not_need_theirs() -> Result<()> {
    const NEVER: u32 = 2_147_483_647;
    let scene = scene("case-66").await?;
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 3}}))
        .await?;
    let endless = || shop::deployment(APP).progress_deadline(NEVER);
    deploy_stuck(&scene, endless().version("v1")).await?;
    scene.deploy(endless().version("v2")).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Failed, Reason::RolloutTimedOut)?;
    let rollout = progress(&request)?.rollout.context("no rollout")?;
    assert!(outcome.at >= rollout.deadline);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(&scene, &[200])
}
