//! What the one write changes, and what it leaves alone.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use rollback_api::{CHANGE_CAUSE, POD_TEMPLATE_HASH, REVISION, Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually, shop};

use crate::kubectl::{both, twin, undo};
use crate::situation::wait_until_available;
use crate::stage::{
    APP, REQUEST, annotation, attempts, ensure_answers, ensure_ended, number, replica_set, scene,
    template,
};

/// Everything but what a rollback may change and what the API server keeps for itself.
fn the_rest(deployment: &Value) -> Value {
    let mut rest = deployment.clone();
    if let Some(object) = rest.as_object_mut() {
        object.remove("status");
    }
    if let Some(spec) = rest["spec"].as_object_mut() {
        spec.remove("template");
    }
    if let Some(metadata) = rest["metadata"].as_object_mut() {
        for own in ["generation", "managedFields", "resourceVersion"] {
            metadata.remove(own);
        }
    }
    if let Some(annotations) = rest["metadata"]["annotations"].as_object_mut() {
        for ours in [CHANGE_CAUSE, REVISION] {
            annotations.remove(ours);
        }
    }
    rest
}

/// A bad version that changed everything that it could, and an old one.
async fn all_changed(scene: &Scene) -> Result<()> {
    let v1 = shop::deployment(APP)
        .version("v1")
        .env("FLAG", "old")
        .label("tier", "web");
    scene.deploy(v1).await?;
    let v2 = shop::deployment(APP)
        .version("v2")
        .env("FLAG", "new")
        .env("ADDED", "true")
        .replicas(3)
        .progress_deadline(42)
        .label("tier", "backend")
        .label("team", "checkout")
        .annotation(CONTACT, "checkout@broxiva.example")
        .set("/spec/minReadySeconds", json!(1))
        .set("/spec/revisionHistoryLimit", json!(7))
        .set(
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}),
        );
    scene.deploy(v2).await?;
    Ok(())
}

const CONTACT: &str = "broxiva.com/contact";

#[tokio::test]
async fn case_27_only_the_template_and_the_change_cause_change() -> Result<()> {
    let (scene, twin) = (scene("case-27").await?, twin("case-27").await?);
    both(&scene, &twin, all_changed).await?;
    let before = scene.deployment(APP).await?;
    let old = replica_set(&scene, "v1").await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;

    let after = scene.deployment(APP).await?;
    assert_eq!(the_rest(&after), the_rest(&before));
    assert_eq!(template(&after), template(&old));
    assert_eq!(
        number(&after, "/metadata/generation"),
        number(&before, "/metadata/generation") + 1
    );
    let cause = annotation(&after, CHANGE_CAUSE).context("no change-cause")?;
    assert!(
        cause.contains(&request.uid().unwrap_or_default()),
        "{cause}"
    );

    ensure_exact_patch(&scene, &before, &old, cause)?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    for untouched in ["/metadata/labels", "/spec/replicas", "/spec/strategy"] {
        assert_eq!(
            undo.after.pointer(untouched),
            undo.before.pointer(untouched)
        );
    }
    assert!(annotation(&undo.before, CONTACT).is_some());
    assert_eq!(annotation(&undo.after, CONTACT), None);
    let kubectl = "the template, but all annotations too: those of the old ReplicaSet, \
                   so that what v2 added is lost";
    record(
        27,
        kubectl,
        "the template and the change-cause, nothing else",
    )
}

/// The one write of the controller tests what it relies on and says what it changes, no more.
fn ensure_exact_patch(scene: &Scene, before: &Value, old: &Value, cause: &str) -> Result<()> {
    ensure_answers(scene, &[200])?;
    let Some(patches) = attempts(scene)? else {
        return Ok(());
    };
    let body = patches[0].request_object.clone().context("no body")?;
    let expected = json!([
        {"op": "test", "path": "/metadata/uid", "value": before["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": before["metadata"]["generation"]},
        {"op": "replace", "path": "/spec/template", "value": template(old)},
        {"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": cause},
    ]);
    assert_eq!(body, expected);
    Ok(())
}

#[tokio::test]
async fn case_28_the_hash_of_the_replica_set_stays_out_of_the_deployment() -> Result<()> {
    let (scene, twin) = (scene("case-28").await?, twin("case-28").await?);
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    let old = replica_set(&scene, "v1").await?;
    let hash = |object: &Value| {
        let labels = object.pointer("/spec/template/metadata/labels");
        labels.and_then(|labels| labels.get(POD_TEMPLATE_HASH).cloned())
    };
    assert!(hash(&old).is_some());
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(hash(&scene.deployment(APP).await?), None);
    // With the hash in it, the template would have needed a ReplicaSet of its own.
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    let reused = replica_set(&scene, "v1").await?;
    assert_eq!(reused["metadata"]["uid"], old["metadata"]["uid"]);

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    assert_eq!(hash(&undo.after), None);
    wait_until_available(&twin).await?;
    assert_eq!(twin.replica_sets(APP).await?.len(), 2);
    let same = "the label is left out and the old ReplicaSet is used again";
    record(28, same, same)
}

const ADDED: &str = "meta.helm.sh/release-name";
const DELETED: &str = "broxiva.com/experiment";

/// The old `ReplicaSet` remembers an annotation that the Deployment has forgotten, and does not know
/// one that it has now.
async fn annotated_otherwise(scene: &Scene) -> Result<()> {
    let v1 = shop::deployment(APP).version("v1");
    scene.deploy(v1.annotation(DELETED, "blue")).await?;
    let v2 = shop::deployment(APP).version("v2");
    scene.deploy(v2.annotation(ADDED, "shop")).await?;
    let old = replica_set(scene, "v1").await?;
    ensure!(annotation(&old, DELETED) == Some("blue"));
    ensure!(annotation(&old, ADDED).is_none());
    Ok(())
}

#[tokio::test]
async fn case_29_an_annotation_that_was_added_stays() -> Result<()> {
    let (scene, twin) = (scene("case-29").await?, twin("case-29").await?);
    both(&scene, &twin, annotated_otherwise).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(
        annotation(&scene.deployment(APP).await?, ADDED),
        Some("shop")
    );

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    assert_eq!(annotation(&undo.before, ADDED), Some("shop"));
    assert_eq!(annotation(&undo.after, ADDED), None);
    record(
        29,
        &format!("`{ADDED}` is lost"),
        &format!("`{ADDED}` stays"),
    )
}

#[tokio::test]
async fn case_30_an_annotation_that_was_deleted_does_not_come_back() -> Result<()> {
    let (scene, twin) = (scene("case-30").await?, twin("case-30").await?);
    both(&scene, &twin, annotated_otherwise).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(annotation(&scene.deployment(APP).await?, DELETED), None);

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    assert_eq!(annotation(&undo.before, DELETED), None);
    assert_eq!(annotation(&undo.after, DELETED), Some("blue"));
    record(30, "it comes back", "it stays deleted")
}

#[tokio::test]
async fn case_31_the_change_cause_names_the_rollback() -> Result<()> {
    let (scene, twin) = (scene("case-31").await?, twin("case-31").await?);
    both(&scene, &twin, async |scene| {
        for (version, cause) in [("v1", "release 1"), ("v2", "release 2, the bad one")] {
            let version = shop::deployment(APP).version(version);
            scene
                .deploy(version.annotation(CHANGE_CAUSE, cause))
                .await?;
        }
        Ok(())
    })
    .await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let uid = request.uid().context("no uid")?;
    let expected = format!("rollback to revision 1 by RollbackRequest {REQUEST} ({uid})");
    let after = scene.deployment(APP).await?;
    assert_eq!(annotation(&after, CHANGE_CAUSE), Some(&*expected));
    eventually("the ReplicaSet says so too", PATIENCE, async || {
        let set = replica_set(&scene, "v1").await?;
        let cause = annotation(&set, CHANGE_CAUSE);
        ensure!(cause == Some(&*expected), "it says {cause:?}");
        Ok(())
    })
    .await?;
    let bad = replica_set(&scene, "v2").await?;
    assert_eq!(
        annotation(&bad, CHANGE_CAUSE),
        Some("release 2, the bad one")
    );

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    assert_eq!(annotation(&undo.after, CHANGE_CAUSE), Some("release 1"));
    let kubectl = "that of the old version, as if there had been no rollback";
    record(31, kubectl, "names the rollback and the request")
}
