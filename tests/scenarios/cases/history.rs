//! Histories that are not as tidy as one revision after the other.

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use rollback_api::{RESTARTED_AT, REVISION, Reason, Word};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    APP, REQUEST, annotate_replica_set, condition, delete_deployment, deploy_all, deploy_stuck,
    deployments, ensure_answers, ensure_ended, ensure_nothing_written, number, patch, planned,
    quota, replica_set, scene, text,
};

/// Rolls back, which has to succeed, and says to which tag and what the plan notes.
async fn roll_back_to(scene: &Scene, name: &str, to: Value) -> Result<(String, String)> {
    let (request, outcome) = scene.roll_back(name, APP, to).await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    let image = scene.image(APP).await?;
    let (_, tag) = image.rsplit_once(':').context("an image without tag")?;
    Ok((tag.to_owned(), planned(&request)?.notes.join("; ")))
}

/// Asks for the previous version, which has to end before there is a plan.
async fn ensure_refused(scene: &Scene, to: Value, reason: Reason) -> Result<String> {
    scene.ask(REQUEST, APP, to).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Refused, reason)?;
    ensure_nothing_written(scene).await?;
    Ok(outcome.message)
}

fn restarted(version: &str, at: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP)
        .version(version)
        .template_annotation(RESTARTED_AT, at)
}

#[tokio::test]
async fn case_05_what_was_rolled_back_is_not_previous() -> Result<()> {
    let scene = scene("case-05").await?;
    deploy_all(&scene, &["v1", "v2", "v3"]).await?;
    let previous = json!({"previous": {}});
    let first = roll_back_to(&scene, "first", previous.clone()).await?;
    assert_eq!(first, ("v2".to_owned(), String::new()));
    let (tag, notes) = roll_back_to(&scene, "second", previous).await?;
    assert_eq!(tag, "v1");
    assert!(notes.contains("revision 3 is known to be bad"), "{notes}");
    // Unless it is named.
    let (tag, _) = roll_back_to(&scene, "third", json!({"revision": 3})).await?;
    assert_eq!(tag, "v3");
    Ok(())
}

#[tokio::test]
async fn case_07_a_renumbered_revision_is_found_by_its_old_number() -> Result<()> {
    let scene = scene("case-07").await?;
    deploy_all(&scene, &["v1", "v2", "v1", "v3"]).await?;
    let (tag, notes) = roll_back_to(&scene, REQUEST, json!({"revision": 1})).await?;
    assert_eq!(tag, "v1");
    assert!(notes.contains("is revision 3 now"), "{notes}");
    Ok(())
}

#[tokio::test]
async fn case_08_a_restart_is_no_version() -> Result<()> {
    let scene = scene("case-08").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    for at in ["2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"] {
        scene.deploy(restarted("v2", at)).await?;
    }
    assert_eq!(scene.replica_sets(APP).await?.len(), 4);
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    Ok(())
}

#[tokio::test]
async fn case_09_a_revision_before_a_restart_is_equivalent() -> Result<()> {
    let scene = scene("case-09").await?;
    deploy_all(&scene, &["v1"]).await?;
    scene
        .deploy(restarted("v1", "2026-01-01T10:00:00Z"))
        .await?;
    scene.ask(REQUEST, APP, json!({"revision": 1})).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Equivalent)?;
    ensure_nothing_written(&scene).await
}

/// Version 3 has no `ReplicaSet` yet, because it waits for the pods of version 2 to end.
#[tokio::test]
async fn case_10_previous_of_a_version_that_waits_to_start() -> Result<()> {
    let scene = scene("case-10").await?;
    let recreate = |version: &str| {
        shop::deployment(APP)
            .version(version)
            .set("/spec/strategy", json!({"type": "Recreate"}))
    };
    scene.deploy(recreate("v1")).await?;
    scene.deploy(recreate("v2")).await?;
    hold_pods(&scene, json!(["testkit.broxiva.com/hold"])).await?;
    scene.apply_deployment(recreate("v3")).await?;
    eventually("v2 is scaled down", PATIENCE, async || {
        let set = replica_set(&scene, "v2").await?;
        ensure!(number(&set, "/status/replicas") == 0, "not yet");
        Ok(())
    })
    .await?;
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    hold_pods(&scene, Value::Null).await
}

async fn hold_pods(scene: &Scene, finalizers: Value) -> Result<()> {
    let api = shop::api(&scene.client(User::Admin).await?, scene.ns(), "v1", "Pod");
    let hold = json!({"metadata": {"finalizers": finalizers}});
    for pod in api.list(&ListParams::default()).await?.items {
        let name = pod.metadata.name.unwrap_or_default();
        let patched = api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&hold))
            .await;
        match patched {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Version 3 never gets a `ReplicaSet`, because the quota of `ReplicaSets` is full; going back to
/// version 2 needs none. The Deployment controller does not even say that it has seen version 3.
#[tokio::test]
async fn case_11_12_and_68_previous_of_a_version_that_cannot_start() -> Result<()> {
    let scene = scene("case-11").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    quota(&scene, "count/replicasets.apps", 2).await?;
    scene
        .apply_deployment(shop::deployment(APP).version("v3"))
        .await?;
    let stuck = scene
        .wait_for_deployment(APP, |deployment| {
            condition(deployment, "Progressing") == Some("ReplicaSetCreateError")
        })
        .await?;
    assert!(number(&stuck, "/status/observedGeneration") < number(&stuck, "/metadata/generation"));
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    ensure_answers(&scene, &[200])
}

#[tokio::test]
async fn case_13_a_replica_set_without_number_is_not_previous() -> Result<()> {
    let scene = scene("case-13").await?;
    deploy_all(&scene, &["v1", "v2", "v3"]).await?;
    annotate_replica_set(&scene, "v2", REVISION, None).await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    Ok(())
}

#[tokio::test]
async fn case_14_an_unreadable_number_is_skipped_and_said() -> Result<()> {
    let scene = scene("case-14").await?;
    deploy_all(&scene, &["v1", "v2", "v3"]).await?;
    annotate_replica_set(&scene, "v2", REVISION, Some("abc")).await?;
    let skipped = replica_set(&scene, "v2").await?;
    let (tag, notes) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    assert!(notes.contains(text(&skipped, "/metadata/name")), "{notes}");
    Ok(())
}

#[tokio::test]
async fn case_15_a_number_that_two_have_is_ambiguous() -> Result<()> {
    let scene = scene("case-15").await?;
    deploy_all(&scene, &["v1", "v2", "v3"]).await?;
    annotate_replica_set(&scene, "v1", REVISION, Some("2")).await?;
    let message = ensure_refused(&scene, json!({"revision": 2}), Reason::Ambiguous).await?;
    for tag in ["v1", "v2"] {
        let set = replica_set(&scene, tag).await?;
        assert!(message.contains(text(&set, "/metadata/name")), "{message}");
    }
    scene.ask("too", APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end("too").await?;
    ensure_ended(&outcome, Word::Refused, Reason::Ambiguous)
}

#[tokio::test]
async fn case_16_a_replica_set_of_somebody_else_is_no_history() -> Result<()> {
    let scene = scene("case-16").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let client = scene.client(User::Admin).await?;
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "somebody-else"},
    });
    let owner = shop::apply(&client, scene.ns(), &owner).await?;
    let v2 = replica_set(&scene, "v2").await?;
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
    assert_eq!(scene.replica_sets(APP).await?.len(), 3);
    ensure_refused(&scene, json!({"revision": 9}), Reason::RevisionNotFound).await?;
    let (tag, _) = roll_back_to(&scene, "previous", json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    Ok(())
}

#[tokio::test]
async fn case_18_adopted_replica_sets_are_history() -> Result<()> {
    let scene = scene("case-18").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let api = deployments(&scene).await?;
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
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    deploy_all(&scene, &["v2"]).await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn case_19_a_replica_set_that_is_being_deleted_is_no_history() -> Result<()> {
    let scene = scene("case-19").await?;
    deploy_all(&scene, &["v1", "v2", "v3"]).await?;
    let set = replica_set(&scene, "v2").await?;
    let name = text(&set, "/metadata/name");
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    let ours = hold(json!(["testkit.broxiva.com/hold"]));
    patch(&scene, "apps/v1", "ReplicaSet", name, &ours).await?;
    let client = scene.client(User::Admin).await?;
    shop::api(&client, scene.ns(), "apps/v1", "ReplicaSet")
        .delete(name, &DeleteParams::default())
        .await?;
    let deleting = replica_set(&scene, "v2").await?;
    assert!(deleting.pointer("/metadata/deletionTimestamp").is_some());
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    patch(&scene, "apps/v1", "ReplicaSet", name, &hold(Value::Null)).await
}

/// While the bad version has not come up, the one before it is kept; after that nothing is.
#[tokio::test]
async fn case_21_without_history_there_is_a_way_back_from_a_failed_rollout_only() -> Result<()> {
    let scene = scene("case-21").await?;
    let forgetful = |version: &str| {
        shop::deployment(APP)
            .version(version)
            .set("/spec/revisionHistoryLimit", json!(0))
    };
    scene.deploy(forgetful("v1")).await?;
    deploy_stuck(&scene, forgetful("v2")).await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    scene.deploy(forgetful("v3")).await?;
    eventually("the history is pruned", PATIENCE, async || {
        let sets = scene.replica_sets(APP).await?;
        ensure!(sets.len() == 1, "{} ReplicaSets", sets.len());
        Ok(())
    })
    .await?;
    scene.ask("too-late", APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end("too-late").await?;
    ensure_ended(&outcome, Word::Refused, Reason::NoHistory)?;
    ensure_answers(&scene, &[200])
}

/// The hash of a template depends on the template alone, so a first life of the Deployment tells
/// which name the `ReplicaSet` of version 3 will want.
#[tokio::test]
async fn case_69_a_taken_name_does_not_matter() -> Result<()> {
    let scene = scene("case-69").await?;
    deploy_all(&scene, &["v3"]).await?;
    let wanted = replica_set(&scene, "v3").await?;
    delete_deployment(&scene).await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let old = replica_set(&scene, "v2").await?;
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
    deploy_all(&scene, &["v3"]).await?;
    let collided = scene.deployment(APP).await?;
    assert_eq!(number(&collided, "/status/collisionCount"), 1);
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v2");
    let reused = replica_set(&scene, "v2").await?;
    assert_eq!(reused["metadata"]["uid"], old["metadata"]["uid"]);
    Ok(())
}
