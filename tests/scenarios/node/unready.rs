//! A container that runs, and whose readiness probe fails: it is told at once, and ends nothing by itself.

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use rollback_api::status::CauseKind;
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::node::app::version;

use crate::stage::{REQUEST, delay, deploy_unwell, ensure_ended, roll_back, scene, target};

#[tokio::test]
async fn a_readiness_probe_that_fails() -> Result<()> {
    let Some(scene) = scene("unready").await? else {
        return Ok(());
    };
    scene
        .policy(json!({"rollout": {"graceSeconds": 2, "timeoutSeconds": 15}}))
        .await?;
    deploy_unwell(&scene, version("v1").env("FAIL_READY", "1")).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutTimedOut)?;
    let target = target(&request)?;
    let reverted = target.reverted_at.context("not reverted")?;
    let cause = target.rollout.and_then(|rollout| rollout.cause);
    let cause = cause.context("no cause is told")?;
    ensure!(
        cause.kind == CauseKind::Unready && cause.message.contains("Readiness probe failed"),
        "{cause:?}"
    );
    let delay = delay(
        &scene,
        reverted,
        &["Readiness probe failed"],
        CauseKind::Unready,
    )?;
    ensure!(
        delay < SignedDuration::from_secs(5),
        "named only after {delay:?}"
    );
    Ok(())
}
