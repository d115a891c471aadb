//! An image that was never there: only on demand.

use anyhow::{Result, ensure};
use rollback_api::Reason;
use rollback_api::status::{ImageChange, Source};
use serde_json::{Value, json};
use testkit::{Scene, shop};

use crate::stage::{
    APP, REQUEST, ensure_nothing_written, ensure_reverts, goes_on, image_of, plan_of, refused,
    says_all, scene, template,
};

const PROXY: &str = "registry.broxiva.example/proxy";

fn wish(image: &str, container: Option<&str>, allow_new: bool) -> Value {
    let mut wish = json!({"image": image, "allowNew": allow_new});
    if let Some(container) = container {
        wish["container"] = json!(container);
    }
    json!({"image": wish})
}

/// Deploys the API with a second container and an init container.
async fn deploy_several(scene: &Scene, tag: &str) -> Result<()> {
    let containers = json!([
        {"name": "app", "image": image_of(tag), "env": [{"name": "MODE", "value": "fast"}]},
        {"name": "proxy", "image": format!("{PROXY}:v7")},
    ]);
    let init = json!([{"name": "migrate", "image": "registry.broxiva.example/migrate:v3"}]);
    let version = shop::deployment(APP)
        .set("/spec/template/spec/containers", containers)
        .set("/spec/template/spec/initContainers", init);
    scene.deploy(version).await?;
    Ok(())
}

/// The images of the Deployment, and that nothing else differs from before.
async fn ensure_only(scene: &Scene, before: &Value, pointer: &str, image: &str) -> Result<()> {
    let mut expected = template(before);
    if let Some(place) = expected.pointer_mut(pointer) {
        *place = json!(image);
    }
    assert_eq!(template(&scene.deployment(APP).await?), expected);
    Ok(())
}

#[tokio::test]
async fn the_only_container_gets_it() -> Result<()> {
    let scene = scene("new-image").await?;
    let version = shop::deployment(APP).version("v1").env("MODE", "fast");
    let before = scene.deploy(version).await?;
    let target = plan_of(&scene, REQUEST, wish(&image_of("v0"), None, true)).await?;
    assert_eq!(target.source, Source::NewImage);
    assert_eq!((&target.source_ref, target.to.revision), (&None, None));
    let change = ImageChange {
        container: "app".to_owned(),
        from: Some(image_of("v1")),
        to: Some(image_of("v0")),
    };
    assert_eq!(target.images, [change]);
    says_all(
        &target.notes.join(" "),
        &["no revision has this image", "container app"],
    )?;
    let ended = goes_on(&scene, REQUEST).await?;
    let summary = ended.status.and_then(|status| status.summary);
    let to = summary.map(|summary| summary.to).unwrap_or_default();
    assert_eq!(to, "a new image (v0)");
    ensure_only(&scene, &before, "/spec/containers/0/image", &image_of("v0")).await?;
    ensure_reverts(&scene, 1)
}

#[tokio::test]
async fn one_of_several_containers_gets_it() -> Result<()> {
    let scene = scene("new-images").await?;
    deploy_several(&scene, "v1").await?;
    let before = scene.deployment(APP).await?;
    let newer = format!("{PROXY}:v8");
    // By the repository of its image, then by its name, and an init container by its name.
    plan_of(&scene, REQUEST, wish(&newer, None, true)).await?;
    goes_on(&scene, REQUEST).await?;
    ensure_only(&scene, &before, "/spec/containers/1/image", &newer).await?;

    let before = scene.deployment(APP).await?;
    let other = "registry.broxiva.example/other-api:v1";
    plan_of(&scene, "named", wish(other, Some("app"), true)).await?;
    goes_on(&scene, "named").await?;
    ensure_only(&scene, &before, "/spec/containers/0/image", other).await?;

    let before = scene.deployment(APP).await?;
    let migrate = "registry.broxiva.example/migrate:v2";
    plan_of(&scene, "init", wish(migrate, Some("migrate"), true)).await?;
    goes_on(&scene, "init").await?;
    ensure_only(&scene, &before, "/spec/initContainers/0/image", migrate).await?;
    ensure_reverts(&scene, 3)
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() -> Result<()> {
    let scene = scene("new-image-no").await?;
    deploy_several(&scene, "v1").await?;
    let stranger = "registry.broxiva.example/stranger:v1";
    let cases = [
        (
            "not-allowed",
            wish(&image_of("v0"), None, false),
            Reason::ImageNotInHistory,
            image_of("v1"),
        ),
        (
            "whose",
            wish(stranger, None, true),
            Reason::Ambiguous,
            "Say which one is meant with container".to_owned(),
        ),
        (
            "nowhere",
            wish(stranger, Some("web"), true),
            Reason::ImageNotInHistory,
            "Its containers: app, migrate, proxy".to_owned(),
        ),
    ];
    for (name, to, reason, says) in cases {
        scene.ask(name, APP, to).await?;
        refused(&scene, name, reason, &["spec.targets[0].to.image", &says]).await?;
    }
    ensure_nothing_written(&scene)
}

/// What is in the history comes from there, with everything that belongs to it.
#[tokio::test]
async fn an_image_in_the_history_is_not_new() -> Result<()> {
    let scene = scene("known-image").await?;
    let old = shop::deployment(APP).version("v1").env("MODE", "slow");
    let old = scene.deploy(old).await?;
    scene
        .deploy(shop::deployment(APP).version("v2").env("MODE", "fast"))
        .await?;
    let target = plan_of(&scene, REQUEST, wish(&image_of("v1"), None, true)).await?;
    assert_eq!(
        (target.source, target.to.revision),
        (Source::ReplicaSet, Some(1))
    );
    ensure!(target.notes.is_empty(), "{:?}", target.notes);
    goes_on(&scene, REQUEST).await?;
    assert_eq!(template(&scene.deployment(APP).await?), template(&old));
    Ok(())
}
