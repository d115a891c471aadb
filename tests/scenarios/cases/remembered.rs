//! What the ledger of a Deployment remembers of versions that the history does not tell about.

use anyhow::{Result, ensure};
use rollback_api::{Reason, Word};
use serde_json::json;
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually, shop};

use crate::kubectl::{both, twin, undo};
use crate::situation::{deploy_stuck, wait_until_available};
use crate::stage::{APP, REQUEST, ensure_answers, ensure_ended, roll_back_to, scene};

/// A version that leaves no history behind.
fn forgetful(version: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP)
        .version(version)
        .set("/spec/revisionHistoryLimit", json!(0))
}

/// The next version is rolled out, and nothing is left of those before.
async fn deploy_and_forget(scene: &Scene, version: &str) -> Result<()> {
    scene.deploy(forgetful(version)).await?;
    eventually("the history is pruned", PATIENCE, async || {
        let sets = scene.replica_sets(APP).await?;
        ensure!(sets.len() == 1, "{} ReplicaSets", sets.len());
        Ok(())
    })
    .await
}

/// While the bad version has not come up, the one before it is kept; after that nothing is.
#[tokio::test]
async fn case_21_without_history_there_is_a_way_back_from_a_failed_rollout_only() -> Result<()> {
    let (scene, twin) = (scene("case-21").await?, twin("case-21").await?);
    scene.policy(json!({"ledger": {"record": false}})).await?;
    both(&scene, &twin, async |scene| {
        scene.deploy(forgetful("v1")).await?;
        deploy_stuck(scene, forgetful("v2")).await
    })
    .await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    let failing = undo(&twin, &[]).await?;
    failing.ensure_to("v1")?;
    wait_until_available(&twin).await?;

    both(&scene, &twin, async |scene| {
        deploy_and_forget(scene, "v3").await
    })
    .await?;
    scene.ask("too-late", APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end("too-late").await?;
    ensure_ended(&outcome, Word::Refused, Reason::HistoryPruned)?;
    let limit = "spec.revisionHistoryLimit of the Deployment is 0";
    assert!(outcome.message.contains(limit), "{}", outcome.message);
    ensure_answers(&scene, &[200])?;

    let succeeded = undo(&twin, &[]).await?;
    succeeded.ensure_error("no rollout history found")?;
    let kubectl = format!(
        "during: {}; after: {}",
        failing.outcome(),
        succeeded.outcome()
    );
    let ours = "during: back to v1; after: `Refused` with reason `HistoryPruned`, naming the limit";
    record(21, &kubectl, ours)
}
