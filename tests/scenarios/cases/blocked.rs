//! A newest version that has no `ReplicaSet`, because it is not let have one.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::{Scene, shop};

use crate::kubectl::{both, twin, undo};
use crate::situation::{deploy_all, quota, wait_until_available};
use crate::stage::{
    APP, REQUEST, condition, ensure_answers, number, replica_set, roll_back_to, scene,
};

/// Version 3 never gets a `ReplicaSet`, because the quota of `ReplicaSets` is full; going back to
/// version 2 needs none. The Deployment controller does not even say that it has seen version 3.
async fn cannot_start(scene: &Scene) -> Result<Value> {
    deploy_all(scene, &["v1", "v2"]).await?;
    quota(scene, "count/replicasets.apps", 2).await?;
    scene
        .apply_deployment(shop::deployment(APP).version("v3"))
        .await?;
    let stuck = scene
        .wait_for_deployment(APP, |deployment| {
            condition(deployment, "Progressing") == Some("ReplicaSetCreateError")
        })
        .await?;
    let sets = scene.replica_sets(APP).await?.len();
    ensure!(sets == 2, "v3 has a ReplicaSet: {sets}");
    Ok(stuck)
}

#[tokio::test]
async fn case_11_previous_of_a_version_that_cannot_start() -> Result<()> {
    let (scene, twin) = (scene("case-11").await?, twin("case-11").await?);
    both(&scene, &twin, cannot_start).await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    ensure_answers(&scene, &[200])?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let kubectl = format!("{}, one version too far", undo.outcome());
    record(11, &kubectl, "back to v2")
}

#[tokio::test]
async fn case_12_previous_is_relative_to_what_is_asked_for_not_to_what_was_seen() -> Result<()> {
    let (scene, twin) = (scene("case-12").await?, twin("case-12").await?);
    let stuck = both(&scene, &twin, cannot_start).await?;
    for deployment in [&stuck.0, &stuck.1] {
        assert!(
            number(deployment, "/status/observedGeneration")
                < number(deployment, "/metadata/generation")
        );
    }
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    ensure_answers(&scene, &[200])?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let kubectl = format!(
        "{}: it counts from the newest ReplicaSet, not from what the Deployment asks for",
        undo.outcome()
    );
    record(
        12,
        &kubectl,
        "back to v2: counted from what the Deployment asks for",
    )
}

#[tokio::test]
async fn case_68_going_back_needs_no_room_for_a_replica_set() -> Result<()> {
    let (scene, twin) = (scene("case-68").await?, twin("case-68").await?);
    both(&scene, &twin, cannot_start).await?;
    let old = replica_set(&scene, "v2").await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    let reused = replica_set(&scene, "v2").await?;
    assert_eq!(reused["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);

    let undo = undo(&twin, &["--to-revision=2"]).await?;
    undo.ensure_to("v2")?;
    wait_until_available(&twin).await?;
    let kubectl = format!("{} when it is named, which succeeds", undo.outcome());
    record(68, &kubectl, "back to v2, which succeeds")
}
