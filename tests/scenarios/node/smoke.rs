//! Jobs that succeed: one before the write and a smoke test afterwards, with their exit codes and what they said.

use anyhow::{Context, Result, ensure};
use rollback_api::status::JobStage;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::node::app::version;
use testkit::{User, shop};

use crate::stage::{REQUEST, ensure_ended, ensure_one_patch, roll_back, scene, target};

/// A Job with the image of a version, that says what the ConfigMap `words` has: values of its own variables are hidden.
fn job(name: &str, image_of: &str) -> Value {
    let lines =
        json!({"name": "LINES", "valueFrom": {"configMapKeyRef": {"name": "words", "key": name}}});
    json!({
        "name": name, "timeoutSeconds": 60, "logTailLines": 5,
        "imageOf": {"version": image_of, "container": "app"},
        "podSpec": {"containers": [{"name": "main", "args": ["run"], "env": [lines]}]},
    })
}

#[tokio::test]
async fn jobs_that_succeed_are_kept_with_their_exit_codes() -> Result<()> {
    let Some(scene) = scene("smoke-ok").await? else {
        return Ok(());
    };
    scene.grant("rollback-run-jobs").await?;
    let words = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"},
        "data": {"drain": "queue is empty", "smoke": "opened the cart\nall pages answer"},
    });
    shop::apply(&scene.client(User::Admin).await?, scene.ns(), &words).await?;
    scene
        .policy(json!({
            "hooks": {"preRollback": [job("drain", "Newer")]},
            "verification": {"jobs": [job("smoke", "Older")]},
        }))
        .await?;
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::RolledBack)?;
    ensure_one_patch(&scene)?;

    let target = target(&request)?;
    let reverted = target.reverted_at.context("not reverted")?;
    let expected = [
        (JobStage::PreRollback, "drain", vec!["queue is empty"]),
        (
            JobStage::Smoke,
            "smoke",
            vec!["opened the cart", "all pages answer"],
        ),
    ];
    ensure!(target.jobs.len() == expected.len(), "{:?}", target.jobs);
    for ((stage, name, log), job) in expected.into_iter().zip(&target.jobs) {
        ensure!(job.stage == stage && job.name == name, "{job:?}");
        let end = job.end.as_ref().context("it has not ended")?;
        ensure!(end.succeeded && end.exit_code == Some(0), "{end:?}");
        ensure!(end.log == log, "{end:?}");
        let early = stage == JobStage::PreRollback;
        ensure!((end.at <= reverted) == early, "{job:?}, {reverted}");
    }
    let report = serde_json::to_string(&scene.artifacts("incident", REQUEST).await?)?;
    for part in [
        "| `drain` | PreRollback | 0 | succeeded",
        "| `smoke` | Smoke | 0 | succeeded",
        "all pages answer",
    ] {
        ensure!(report.contains(part), "{part:?} is not in {report}");
    }
    Ok(())
}
