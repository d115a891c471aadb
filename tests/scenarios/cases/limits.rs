//! Rollouts that the Deployment's own conditions tell the wrong story about.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::health::{HEALTH_PORT, HealthServer};
use testkit::scene::PATIENCE;
use testkit::shop::{BEHAVIOUR, Behaviour};
use testkit::{Scene, User, shop};

use crate::kubectl::{SUCCESS, both, ensure_no_checks, kubectl, status, twin, undo};
use crate::situation::{
    deploy_all, deploy_stuck, lift_quota, quota, start_rolling_out, wait_until_available,
};
use crate::stage::{
    APP, REQUEST, condition, ensure_answers, ensure_ended, number, progress, scene, text,
};

/// What the Deployment controller says when it gives up.
const GAVE_UP: &str = "ProgressDeadlineExceeded";

/// No pod is let in any more when the bad version comes, so that the Deployment controller gives it
/// up. It will not call the old version a failure before its pods are let in, nor anything else.
async fn given_up(scene: &Scene) -> Result<()> {
    let version = |version: &str| {
        shop::deployment(APP)
            .replicas(1)
            .progress_deadline(3)
            .set("/spec/strategy", json!({"type": "Recreate"}))
            .version(version)
    };
    scene.deploy(version("v1")).await?;
    quota(scene, "pods", 0).await?;
    scene.apply_deployment(version("v2")).await?;
    scene
        .wait_for_deployment(APP, |deployment| {
            condition(deployment, "Progressing") == Some(GAVE_UP)
        })
        .await?;
    Ok(())
}

/// The old version is asked for and seen, and the failure of the bad one is still shown.
async fn ensure_stale(scene: &Scene) -> Result<()> {
    let seen = |deployment: &Value| {
        number(deployment, "/status/observedGeneration")
            == number(deployment, "/metadata/generation")
    };
    let deployment = scene.wait_for_deployment(APP, seen).await?;
    ensure!(text(&deployment, "/spec/template/spec/containers/0/image").ends_with(":v1"));
    let reason = condition(&deployment, "Progressing");
    ensure!(reason == Some(GAVE_UP), "it is {reason:?}");
    Ok(())
}

#[tokio::test]
async fn case_46_the_failure_of_the_bad_version_is_not_ours() -> Result<()> {
    let (scene, twin) = (scene("case-46").await?, twin("case-46").await?);
    both(&scene, &twin, given_up).await?;
    start_rolling_out(&scene).await?;
    ensure_stale(&scene).await?;
    lift_quota(&scene).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));

    undo(&twin, &[]).await?.ensure_to("v1")?;
    ensure_stale(&twin).await?;
    let given_up = status(&twin, PATIENCE, &[]).await?;
    given_up.ensure_error("exceeded its progress deadline")?;
    lift_quota(&twin).await?;
    wait_until_available(&twin).await?;
    let kubectl = format!(
        "`rollout status`: {}, of a rollback that then succeeds",
        given_up.complaint()
    );
    record(46, &kubectl, "goes on waiting, and `Succeeded`")
}

/// The Deployment controller waits for ever: what happened before was a success, and nothing moves.
#[tokio::test]
async fn case_47_pods_that_are_refused_fail_by_our_deadline() -> Result<()> {
    const THEIRS: u32 = 2;
    let (scene, twin) = (scene("case-47").await?, twin("case-47").await?);
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 6}}))
        .await?;
    both(&scene, &twin, async |scene| {
        for version in ["v1", "v2"] {
            let deployment = shop::deployment(APP).progress_deadline(THEIRS);
            scene.deploy(deployment.version(version)).await?;
        }
        quota(scene, "pods", 2).await
    })
    .await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutTimedOut)?;
    assert!(
        outcome.message.contains("exceeded quota"),
        "{}",
        outcome.message
    );
    let hung = scene.deployment(APP).await?;
    assert_ne!(condition(&hung, "Progressing"), Some(GAVE_UP));

    undo(&twin, &[]).await?.ensure_to("v1")?;
    let waited = status(&twin, Duration::from_secs(6), &[]).await?;
    waited.ensure_error("timed out waiting")?;
    let said = waited.said();
    ensure!(
        !said.contains("quota") && !said.contains("progress deadline"),
        "{said}"
    );
    let kubectl = "`rollout status` waits on, three times the Deployment's own deadline in this \
                   test, and does not say why";
    let ours =
        "`Failed` with reason `RolloutTimedOut` at the request's deadline, quoting the quota";
    record(47, kubectl, ours)
}

#[tokio::test]
async fn case_55_crashes_of_the_bad_version_are_not_ours() -> Result<()> {
    let (scene, twin) = (scene("case-55").await?, twin("case-55").await?);
    both(&scene, &twin, crashing).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));

    undo(&twin, &[]).await?.ensure_to("v1")?;
    status(&twin, PATIENCE, &[]).await?.ensure_ok(SUCCESS)?;
    record(55, &format!("`rollout status`: `{SUCCESS}`"), "`Succeeded`")
}

/// The pods of version 2 crash, those of version 1 will need a moment.
async fn crashing(scene: &Scene) -> Result<()> {
    let slow = shop::deployment(APP).ready_after(Duration::from_secs(2));
    scene.deploy(slow.version("v1")).await?;
    deploy_all(scene, &["v2"]).await?;
    let crash = [(BEHAVIOUR, Behaviour::Crash.as_str())];
    let client = scene.client(User::Admin).await?;
    shop::annotate_pods(&client, scene.ns(), APP, &crash).await?;
    scene
        .wait_for_deployment(APP, |deployment| {
            condition(deployment, "Available") == Some("MinimumReplicasUnavailable")
        })
        .await?;
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
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.plan(REQUEST).await?;
    // For the report: what the bad version says, once, while the plan is made.
    assert_eq!(bad.paths(), ["/health/ready", "/health/ready"]);
    scene.approve(REQUEST, User::Approver).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::RolledBack)?;
    assert_eq!(good.paths(), ["/health/ready", "/health/ready"]);
    assert_eq!(bad.paths().len(), 2);

    ensure_no_checks(&scene).await?;
    let kubectl =
        "no such feature: neither `rollout undo` nor `rollout status` asks the application";
    record(
        61,
        kubectl,
        "each pod of the old version; those of the bad one once, before the write",
    )
}

#[tokio::test]
async fn case_66_our_deadline_does_not_need_theirs() -> Result<()> {
    const NEVER: u32 = 2_147_483_647;
    let (scene, twin) = (scene("case-66").await?, twin("case-66").await?);
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 3}}))
        .await?;
    let endless = || shop::deployment(APP).progress_deadline(NEVER);
    both(&scene, &twin, async |scene| {
        deploy_stuck(scene, endless().version("v1")).await?;
        scene.deploy(endless().version("v2")).await
    })
    .await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutTimedOut)?;
    let rollout = progress(&request)?.rollout.context("no rollout")?;
    assert!(outcome.at >= rollout.deadline);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(&scene, &[200])?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    let waited = status(&twin, Duration::from_secs(3), &[]).await?;
    waited.ensure_error("timed out waiting")?;
    let help = kubectl(&twin, &["rollout", "status", "--help"]).await?;
    help.ensure_ok("zero means never")?;
    let kubectl = "`rollout status` waits until its own `--timeout`; without one it has no end";
    let ours = "`Failed` with reason `RolloutTimedOut` at the request's deadline";
    record(66, kubectl, ours)
}
