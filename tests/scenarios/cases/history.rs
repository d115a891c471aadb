//! Histories that are not as tidy as one revision after the other.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use rollback_api::{RESTARTED_AT, Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::kubectl::{both, twin, undo};
use crate::situation::{deploy_all, hold_pods, patch, wait_for_revision, wait_until_available};
use crate::stage::{
    APP, REQUEST, ensure_ended, ensure_nothing_written, number, pods, replica_set, roll_back_to,
    scene, text,
};

fn restarted(version: &str, at: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP)
        .version(version)
        .template_annotation(RESTARTED_AT, at)
}

#[tokio::test]
async fn case_05_what_was_rolled_back_is_not_previous() -> Result<()> {
    let (scene, twin) = (scene("case-05").await?, twin("case-05").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2", "v3"]).await
    })
    .await?;
    let previous = json!({"previous": {}});
    let first = roll_back_to(&scene, "first", previous.clone()).await?;
    assert_eq!(first, ("v2".to_owned(), String::new()));
    let (tag, notes) = roll_back_to(&scene, "second", previous).await?;
    assert_eq!(tag, "v1");
    assert!(notes.contains("revision 3 is known to be bad"), "{notes}");
    // Unless it is named.
    let (tag, _) = roll_back_to(&scene, "third", json!({"revision": 3})).await?;
    assert_eq!(tag, "v3");

    undo(&twin, &[]).await?.ensure_to("v2")?;
    wait_for_revision(&twin, "v2", 4).await?;
    let second = undo(&twin, &[]).await?;
    second.ensure_to("v3")?;
    let kubectl = format!(
        "{}, the version that was rolled back first",
        second.outcome()
    );
    record(
        5,
        &kubectl,
        "back to v1: v3 is known to be bad; back to v3 only when it is named",
    )
}

#[tokio::test]
async fn case_07_a_renumbered_revision_is_found_by_its_old_number() -> Result<()> {
    let (scene, twin) = (scene("case-07").await?, twin("case-07").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2", "v1", "v3"]).await
    })
    .await?;
    let (tag, notes) = roll_back_to(&scene, REQUEST, json!({"revision": 1})).await?;
    assert_eq!(tag, "v1");
    assert!(notes.contains("is revision 3 now"), "{notes}");

    let undo = undo(&twin, &["--to-revision=1"]).await?;
    undo.ensure_error("unable to find specified revision 1 in history")?;
    let ours = "back to v1, and the plan says that it is revision 3 now";
    record(7, &undo.outcome(), ours)
}

#[tokio::test]
async fn case_08_a_restart_is_no_version() -> Result<()> {
    let (scene, twin) = (scene("case-08").await?, twin("case-08").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2"]).await?;
        for at in ["2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"] {
            scene.deploy(restarted("v2", at)).await?;
        }
        Ok(())
    })
    .await?;
    assert_eq!(scene.replica_sets(APP).await?.len(), 4);
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v2")?;
    let kubectl = format!("{}: the bad version, restarted", undo.outcome());
    record(8, &kubectl, "back to v1")
}

#[tokio::test]
async fn case_09_a_revision_before_a_restart_is_equivalent() -> Result<()> {
    let (scene, twin) = (scene("case-09").await?, twin("case-09").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1"]).await?;
        scene.deploy(restarted("v1", "2026-01-01T10:00:00Z")).await
    })
    .await?;
    scene.ask(REQUEST, APP, json!({"revision": 1})).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Equivalent)?;
    ensure_nothing_written(&scene).await?;

    let before = pods(&twin).await?;
    let undo = undo(&twin, &["--to-revision=1"]).await?;
    undo.ensure_to("v1")?;
    wait_until_available(&twin).await?;
    assert!(before.is_disjoint(&pods(&twin).await?), "{before:?}");
    let kubectl = format!(
        "{} from v1: every pod is replaced by one of the same version",
        undo.outcome()
    );
    let ours = "`Succeeded` with reason `Equivalent`, nothing written";
    record(9, &kubectl, ours)
}

/// Version 3 has no `ReplicaSet` yet, because it waits for the pods of version 2 to end.
#[tokio::test]
async fn case_10_previous_of_a_version_that_waits_to_start() -> Result<()> {
    let (scene, twin) = (scene("case-10").await?, twin("case-10").await?);
    both(&scene, &twin, waits_to_start).await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    both(&scene, &twin, async |scene| {
        hold_pods(scene, Value::Null).await
    })
    .await?;
    let kubectl = format!("{}, one version too far", undo.outcome());
    record(10, &kubectl, "back to v2")
}

async fn waits_to_start(scene: &Scene) -> Result<()> {
    let recreate = |version: &str| {
        shop::deployment(APP)
            .version(version)
            .set("/spec/strategy", json!({"type": "Recreate"}))
    };
    scene.deploy(recreate("v1")).await?;
    scene.deploy(recreate("v2")).await?;
    hold_pods(scene, json!(["testkit.broxiva.com/hold"])).await?;
    scene.apply_deployment(recreate("v3")).await?;
    eventually("v2 is scaled down", PATIENCE, async || {
        let set = replica_set(scene, "v2").await?;
        ensure!(number(&set, "/status/replicas") == 0, "not yet");
        Ok(())
    })
    .await?;
    let sets = scene.replica_sets(APP).await?.len();
    ensure!(sets == 2, "v3 has a ReplicaSet: {sets}");
    Ok(())
}

#[tokio::test]
async fn case_19_a_replica_set_that_is_being_deleted_is_no_history() -> Result<()> {
    let (scene, twin) = (scene("case-19").await?, twin("case-19").await?);
    let (name, _) = both(&scene, &twin, previous_is_deleted).await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");

    let deleting = replica_set(&twin, "v2").await?;
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v2")?;
    both(&scene, &twin, async |scene| {
        patch(scene, "apps/v1", "ReplicaSet", &name, &hold(&Value::Null)).await
    })
    .await?;
    eventually("the ReplicaSet is made anew", PATIENCE, async || {
        let anew = replica_set(&twin, "v2").await?;
        ensure!(anew["metadata"]["uid"] != deleting["metadata"]["uid"]);
        Ok(())
    })
    .await?;
    let kubectl = format!(
        "{}, whose ReplicaSet goes away and is made anew",
        undo.outcome()
    );
    record(
        19,
        &kubectl,
        "back to v1: what is being deleted is no history",
    )
}

fn hold(finalizers: &Value) -> Value {
    json!({"metadata": {"finalizers": finalizers}})
}

/// The `ReplicaSet` of version 2 is being deleted and does not go away. Gives its name.
async fn previous_is_deleted(scene: &Scene) -> Result<String> {
    deploy_all(scene, &["v1", "v2", "v3"]).await?;
    let set = replica_set(scene, "v2").await?;
    let name = text(&set, "/metadata/name");
    let ours = hold(&json!(["testkit.broxiva.com/hold"]));
    patch(scene, "apps/v1", "ReplicaSet", name, &ours).await?;
    let client = scene.client(User::Admin).await?;
    shop::api(&client, scene.ns(), "apps/v1", "ReplicaSet")
        .delete(name, &DeleteParams::default())
        .await?;
    let deleting = replica_set(scene, "v2").await?;
    ensure!(deleting.pointer("/metadata/deletionTimestamp").is_some());
    Ok(name.to_owned())
}
