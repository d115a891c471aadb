//! What the old template refers to may go between the plan and the approval.

use anyhow::{Result, ensure};
use rollback_api::Reason;
use serde_json::{Value, json};
use testkit::{Scene, User, shop};

use crate::stage::{
    APP, REQUEST, create, delete, ensure_reverts, goes_on, image_of, plan_of, previous, progress,
    refused, scene,
};

const SAYS: [&str; 2] = [
    "ConfigMap settings (container app envFrom)",
    "not there any more",
];

async fn settings(scene: &Scene) -> Result<()> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings"}, "data": {"mode": "fast"},
    });
    create(scene, &map).await.map(|_| ())
}

/// A version that needs the settings, or one that does not.
fn version(tag: &str, needs_settings: bool) -> shop::DeploymentBuilder {
    let version = shop::deployment(APP).version(tag);
    if !needs_settings {
        return version;
    }
    let from = json!([{"configMapRef": {"name": "settings"}}]);
    version.set("/spec/template/spec/containers/0/envFrom", from)
}

/// The plan is published; then the settings go, and only then somebody approves.
async fn settings_go_after_the_plan(scene: &Scene, name: &str, to: Value) -> Result<()> {
    plan_of(scene, name, to).await?;
    delete(scene, "v1", "ConfigMap", "settings").await?;
    scene.approve(name, User::Approver).await?;
    refused(scene, name, Reason::ReferenceMissing, &SAYS).await?;
    let request = scene.request(name).await?;
    let progress = progress(&request)?;
    ensure!(
        progress.revert.is_none() && progress.backup.is_none(),
        "{progress:?}"
    );
    let saved = scene.artifacts("backup", name).await?;
    ensure!(saved.is_empty(), "it was saved");
    Ok(())
}

#[tokio::test]
async fn of_an_old_revision() -> Result<()> {
    let scene = scene("gone-revision").await?;
    settings(&scene).await?;
    scene.deploy(version("v1", true)).await?;
    scene.deploy(version("v2", false)).await?;
    settings_go_after_the_plan(&scene, REQUEST, previous()).await?;
    ensure_reverts(&scene, 0)?;
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    Ok(())
}

#[tokio::test]
async fn of_a_backup() -> Result<()> {
    let scene = scene("gone-backup").await?;
    settings(&scene).await?;
    scene.deploy(version("v1", false)).await?;
    scene.deploy(version("v2", true)).await?;
    plan_of(&scene, REQUEST, previous()).await?;
    let done = goes_on(&scene, REQUEST).await?;
    let backup = progress(&done)?.backup.map(|backup| backup.config_map);
    settings_go_after_the_plan(&scene, "undo", json!({"backup": backup})).await?;
    ensure_reverts(&scene, 1)?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    Ok(())
}

#[tokio::test]
async fn of_a_new_image() -> Result<()> {
    let scene = scene("gone-image").await?;
    settings(&scene).await?;
    scene.deploy(version("v1", true)).await?;
    let to = json!({"image": {"image": image_of("v0"), "allowNew": true}});
    settings_go_after_the_plan(&scene, REQUEST, to).await?;
    ensure_reverts(&scene, 0)?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    Ok(())
}
