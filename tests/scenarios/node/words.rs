//! What containers say: the log of one that crashes, and that of a smoke test; both without the secrets in it.

use anyhow::{Context, Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::Scene;
use testkit::node::app::version;

use crate::causes::dies;
use crate::stage::{REQUEST, deploy_unwell, ensure_ended, roll_back, scene, target};

const LINES: &str =
    "listening soon\nconnecting with token=hunter3-in-a-log\ncannot reach the database";

/// Neither the request nor its report holds a planted secret, nor does the controller's log.
async fn ensure_no_secret(scene: &Scene) -> Result<()> {
    let request = serde_json::to_string(&scene.request(REQUEST).await?.status)?;
    let incidents = serde_json::to_string(&scene.artifacts("incident", REQUEST).await?)?;
    ensure!(incidents.len() > 100, "there is no report");
    let log = scene.controller.as_ref().context("no controller")?.log();
    for (place, text) in [("status", request), ("report", incidents), ("log", log)] {
        ensure!(!text.contains("hunter"), "a secret is in the {place}");
    }
    Ok(())
}

#[tokio::test]
async fn the_log_of_a_container_that_crashes() -> Result<()> {
    let Some(scene) = scene("words").await? else {
        return Ok(());
    };
    scene.grant("rollback-read-logs").await?;
    scene
        .policy(json!({"rollout": {"graceSeconds": 8, "logTailLines": 5}}))
        .await?;
    deploy_unwell(&scene, dies("3").env("LINES", LINES)).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutFailed)?;
    let rollout = target(&request)?.rollout.context("no rollout")?;
    let words = rollout.cause.context("no cause")?.last_words;
    let words = words.context("nothing is quoted")?;
    ensure!(words.contains("cannot reach the database"), "{words}");
    ensure!(words.contains("[hidden]"), "{words}");
    ensure_no_secret(&scene).await
}

#[tokio::test]
async fn a_smoke_test_fails_and_its_log_is_kept() -> Result<()> {
    let Some(scene) = scene("smoke").await? else {
        return Ok(());
    };
    scene.grant("rollback-run-jobs").await?;
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let smoke = json!({
        "name": "smoke", "timeoutSeconds": 60, "logTailLines": 5,
        "imageOf": {"version": "Older", "container": "app"},
        "podSpec": {"containers": [{"name": "main", "args": ["run"], "env": [
            env("EXIT_CODE", "3"), env("LINES", LINES), env("DATABASE", "hunter4-in-a-variable"),
            env("PRINT_ENV", "DATABASE"),
        ]}]},
    });
    scene
        .policy(json!({"verification": {"jobs": [smoke]}}))
        .await?;
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::ChecksFailed)?;
    let jobs = target(&request)?.jobs;
    let end = jobs.first().and_then(|job| job.end.as_ref());
    let end = end.context("no Job has ended")?;
    ensure!(end.exit_code == Some(3) && !end.succeeded, "{end:?}");
    // All that this Job can say are values of its own variables, and those are hidden whatever they look like.
    let log = end.log.join("\n");
    ensure!(log.contains("[hidden]"), "{log}");
    ensure_no_secret(&scene).await
}
