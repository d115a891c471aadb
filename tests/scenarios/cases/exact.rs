//! The old template arrives exactly as it was, and it is known who wrote it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use rollback_api::{FIELD_MANAGER, Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::{Scene, shop};

use crate::kubectl::{both, twin, undo};
use crate::situation::deploy_all;
use crate::stage::{APP, REQUEST, ensure_ended, replica_set, scene, template, text};

/// The controller is compiled against types that are older than the server.
#[tokio::test]
async fn case_34_a_field_newer_than_our_types_survives() -> Result<()> {
    const FIELD: &str = "/spec/template/spec/evictionResponders";
    if testkit::is_older("a field that this one does not have") {
        return Ok(());
    }
    let responders = json!([{"name": "drain.broxiva.example/checkout", "priority": 10_000}]);
    let (scene, twin) = (scene("case-34").await?, twin("case-34").await?);
    both(&scene, &twin, async |scene| {
        let v1 = shop::deployment(APP).version("v1");
        let served = scene.deploy(v1.set(FIELD, responders.clone())).await?;
        ensure!(
            served.pointer(FIELD) == Some(&responders),
            "the server does not know the field"
        );
        Ok(())
    })
    .await?;
    let served = scene.deployment(APP).await?;
    // What a typed read and write would make of it.
    let typed: PodTemplateSpec = serde_json::from_value(served["spec"]["template"].clone())?;
    let lossy = serde_json::to_value(typed)?;
    assert_eq!(
        text(&lossy, "/spec/containers/0/image"),
        scene.image(APP).await?
    );
    assert_eq!(
        lossy.pointer("/spec/evictionResponders"),
        None,
        "the types know the field by now: take a newer one"
    );

    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v2"]).await
    })
    .await?;
    let bad = scene.deployment(APP).await?;
    assert_eq!(bad.pointer(FIELD), None);
    let old = replica_set(&scene, "v1").await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let after = scene.deployment(APP).await?;
    assert_eq!(after.pointer(FIELD), Some(&responders));
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    let reused = replica_set(&scene, "v1").await?;
    assert_eq!(reused["metadata"]["uid"], old["metadata"]["uid"]);

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    assert_eq!(undo.before.pointer(FIELD), None);
    assert_eq!(undo.after.pointer(FIELD), Some(&responders));
    let kubectl =
        "it survives, contrary to the mark: this kubectl (1.37.2) is as new as the server";
    record(
        34,
        kubectl,
        "it survives, though the controller's types do not know it",
    )
}

/// A server-side apply of the old version by its owner could remove them, a merge could not.
#[tokio::test]
async fn case_35_what_the_bad_version_added_is_gone() -> Result<()> {
    let (scene, twin) = (scene("case-35").await?, twin("case-35").await?);
    both(&scene, &twin, added_by_apply).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_nothing_added(&scene.deployment(APP).await?)?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    ensure_nothing_added(&undo.after)?;
    record(35, "all of it is gone", "all of it is gone")
}

async fn added_by_apply(scene: &Scene) -> Result<()> {
    let v1 = shop::deployment(APP).version("v1").env("KEPT", "1");
    scene.deploy(v1).await?;
    let v2 = shop::deployment(APP)
        .version("v2")
        .env("KEPT", "1")
        .env("ADDED", "2")
        .template_label("added", "true")
        .template_annotation("added", "true")
        .set(
            "/spec/template/spec/hostAliases",
            json!([{"ip": "127.0.0.9", "hostnames": ["added"]}]),
        )
        .set(
            "/spec/template/spec/initContainers",
            json!([{"name": "added", "image": "registry.broxiva.example/added:v2"}]),
        );
    let applied = scene.deploy(v2).await?;
    ensure!(template(&applied).to_string().contains("added"));
    Ok(())
}

fn ensure_nothing_added(deployment: &Value) -> Result<()> {
    let template = template(deployment);
    ensure!(!template.to_string().contains("added"), "{template}");
    ensure!(
        template.pointer("/spec/containers/0/env")
            == Some(&json!([{"name": "KEPT", "value": "1"}])),
        "{template}"
    );
    Ok(())
}

#[tokio::test]
async fn case_41_the_field_manager_is_always_the_same() -> Result<()> {
    let (scene, twin) = (scene("case-41").await?, twin("case-41").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2"]).await
    })
    .await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let after = scene.deployment(APP).await?;
    let ours = writers_of_the_image(&after)?;
    assert_eq!(ours, [(FIELD_MANAGER, "Update")]);

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let theirs = writers_of_the_image(&undo.after)?;
    let [(manager, operation)] = theirs.as_slice() else {
        anyhow::bail!("several wrote the image: {theirs:?}");
    };
    assert_eq!(*manager, "kubectl");
    let kubectl = format!("`{manager}` ({operation})");
    record(41, &kubectl, &format!("`{FIELD_MANAGER}` (Update)"))
}

/// Under which names the image was written, and how.
fn writers_of_the_image(deployment: &Value) -> Result<Vec<(&str, &str)>> {
    let image = "/fieldsV1/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"app\"}/f:image";
    let entries = deployment["metadata"]["managedFields"].as_array();
    Ok(entries
        .context("no managedFields")?
        .iter()
        .filter(|entry| entry.pointer(image).is_some())
        .map(|entry| (text(entry, "/manager"), text(entry, "/operation")))
        .collect())
}
