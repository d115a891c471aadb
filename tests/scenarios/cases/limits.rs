//! Rollouts that the Deployment's own conditions tell the wrong story about.

use std::time::Duration;

use anyhow::{Context, Result};
use rollback_api::{Reason, Word};
use serde_json::json;
use testkit::health::{HEALTH_PORT, HealthServer};
use testkit::shop::{BEHAVIOUR, Behaviour};
use testkit::{User, shop};

use crate::stage::{
    APP, REQUEST, condition, deploy_all, deploy_stuck, ensure_answers, ensure_ended, progress,
    quota, scene,
};

#[tokio::test]
async fn case_46_the_failure_of_the_bad_version_is_not_ours() -> Result<()> {
    let scene = scene("case-46").await?;
    let impatient = || {
        shop::deployment(APP)
            .replicas(1)
            .progress_deadline(3)
            .set("/spec/strategy", json!({"type": "Recreate"}))
    };
    let slow = impatient().ready_after(Duration::from_secs(2));
    scene.deploy(slow.version("v1")).await?;
    deploy_stuck(&scene, impatient().version("v2")).await?;
    scene
        .wait_for_deployment(APP, |deployment| {
            condition(deployment, "Progressing") == Some("ProgressDeadlineExceeded")
        })
        .await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));
    Ok(())
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
