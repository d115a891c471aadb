//! `ReplicaSets` whose numbers, names or owners are not as they should be.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, PropagationPolicy};
use rollback_api::{REVISION, Reason, RequestState};
use serde_json::json;
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::kubectl::{both, twin, undo};
use crate::situation::{annotate_replica_set, delete_deployment, deploy_all};
use crate::stage::{
    APP, REQUEST, deployments, ensure_ended, number, refused, replica_set, roll_back_to, scene,
    text,
};

/// Three versions, of which one has another revision annotation, or none.
async fn renumbered(scene: &Scene, tag: &str, number: Option<&str>) -> Result<()> {
    deploy_all(scene, &["v1", "v2", "v3"]).await?;
    annotate_replica_set(scene, tag, REVISION, number).await
}

#[tokio::test]
async fn case_13_a_replica_set_without_number_is_not_previous() -> Result<()> {
    let (scene, twin) = (scene("case-13").await?, twin("case-13").await?);
    both(&scene, &twin, async |scene| {
        renumbered(scene, "v2", None).await
    })
    .await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    record(13, &undo.outcome(), "back to v1")
}

#[tokio::test]
async fn case_14_an_unreadable_number_is_skipped_and_said() -> Result<()> {
    let (scene, twin) = (scene("case-14").await?, twin("case-14").await?);
    both(&scene, &twin, async |scene| {
        renumbered(scene, "v2", Some("abc")).await
    })
    .await?;
    let skipped = replica_set(&scene, "v2").await?;
    let (tag, notes) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    assert!(notes.contains(text(&skipped, "/metadata/name")), "{notes}");

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let skipped = replica_set(&twin, "v2").await?;
    let said = undo.ran.said();
    ensure!(!said.contains(text(&skipped, "/metadata/name")), "{said}");
    let kubectl = format!("{}, without a word about what it skipped", undo.outcome());
    record(
        14,
        &kubectl,
        "back to v1, and the plan names the ReplicaSet that it skipped",
    )
}

#[tokio::test]
async fn case_15_a_number_that_two_have_is_ambiguous() -> Result<()> {
    let (scene, twin) = (scene("case-15").await?, twin("case-15").await?);
    both(&scene, &twin, async |scene| {
        renumbered(scene, "v1", Some("2")).await
    })
    .await?;
    let message = refused(&scene, json!({"revision": 2}), Reason::Ambiguous).await?;
    for tag in ["v1", "v2"] {
        let set = replica_set(&scene, tag).await?;
        assert!(message.contains(text(&set, "/metadata/name")), "{message}");
    }
    scene.ask("too", APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end("too").await?;
    ensure_ended(&outcome, RequestState::Refused, Reason::Ambiguous)?;

    let undo = undo(&twin, &["--to-revision=2"]).await?;
    undo.ensure_to("v1")?;
    let kubectl = format!(
        "{}, without a word about v2, which is revision 2 too",
        undo.outcome()
    );
    record(
        15,
        &kubectl,
        "`Refused` with reason `Ambiguous`, naming both",
    )
}

#[tokio::test]
async fn case_16_a_replica_set_of_somebody_else_is_no_history() -> Result<()> {
    let (scene, twin) = (scene("case-16").await?, twin("case-16").await?);
    both(&scene, &twin, with_a_foreign_replica_set).await?;
    refused(&scene, json!({"revision": 9}), Reason::RevisionNotFound).await?;
    let (tag, _) = roll_back_to(&scene, "previous", json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");

    let named = undo(&twin, &["--to-revision=9"]).await?;
    named.ensure_error("unable to find specified revision 9 in history")?;
    let previous = undo(&twin, &[]).await?;
    previous.ensure_to("v1")?;
    let kubectl = format!(
        "asked for it: {}; asked for the previous one: {}",
        named.outcome(),
        previous.outcome()
    );
    let ours = "asked for it: `Refused` with reason `RevisionNotFound`; \
                asked for the previous one: back to v1";
    record(16, &kubectl, ours)
}

async fn with_a_foreign_replica_set(scene: &Scene) -> Result<()> {
    deploy_all(scene, &["v1", "v2"]).await?;
    let client = scene.client(User::Admin).await?;
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "somebody-else"},
    });
    let owner = shop::apply(&client, scene.ns(), &owner).await?;
    let v2 = replica_set(scene, "v2").await?;
    let mut foreign = shop::deployment(APP).version("v9").replicas(0).build();
    foreign["kind"] = json!("ReplicaSet");
    foreign["spec"] = json!({
        "replicas": 0,
        "selector": foreign["spec"]["selector"],
        "template": foreign["spec"]["template"],
    });
    foreign["metadata"] = json!({
        "name": format!("{APP}-foreign"),
        "labels": v2["metadata"]["labels"],
        "annotations": {REVISION: "9"},
        "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "somebody-else",
            "uid": owner.metadata.uid, "controller": true,
        }],
    });
    shop::apply(&client, scene.ns(), &foreign).await?;
    ensure!(scene.replica_sets(APP).await?.len() == 3);
    Ok(())
}

#[tokio::test]
async fn case_18_adopted_replica_sets_are_history() -> Result<()> {
    let (scene, twin) = (scene("case-18").await?, twin("case-18").await?);
    both(&scene, &twin, adopted).await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    record(18, &undo.outcome(), "back to v1")
}

async fn adopted(scene: &Scene) -> Result<()> {
    deploy_all(scene, &["v1", "v2"]).await?;
    let api = deployments(scene).await?;
    let orphaning = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    api.delete(APP, &orphaning).await?;
    eventually("the Deployment is gone", PATIENCE, async || {
        ensure!(api.get_opt(APP).await?.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    ensure!(scene.replica_sets(APP).await?.len() == 2);
    deploy_all(scene, &["v2"]).await
}

/// The hash of a template depends on the template alone, so a first life of the Deployment tells
/// which name the `ReplicaSet` of version 3 will want.
#[tokio::test]
async fn case_69_a_taken_name_does_not_matter() -> Result<()> {
    let (scene, twin) = (scene("case-69").await?, twin("case-69").await?);
    both(&scene, &twin, collided).await?;
    let old = replica_set(&scene, "v2").await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    let reused = replica_set(&scene, "v2").await?;
    assert_eq!(reused["metadata"]["uid"], old["metadata"]["uid"]);

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v2")?;
    record(69, &undo.outcome(), "back to v2, with its old ReplicaSet")
}

async fn collided(scene: &Scene) -> Result<()> {
    deploy_all(scene, &["v3"]).await?;
    let wanted = replica_set(scene, "v3").await?;
    delete_deployment(scene).await?;
    deploy_all(scene, &["v1", "v2"]).await?;
    let old = replica_set(scene, "v2").await?;
    let taken = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": wanted["metadata"]["name"]},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"planted": "true"}},
            "template": {
                "metadata": {"labels": {"planted": "true"}},
                "spec": old["spec"]["template"]["spec"],
            },
        },
    });
    shop::apply(&scene.client(User::Admin).await?, scene.ns(), &taken).await?;
    deploy_all(scene, &["v3"]).await?;
    let collided = scene.deployment(APP).await?;
    ensure!(number(&collided, "/status/collisionCount") == 1);
    Ok(())
}
