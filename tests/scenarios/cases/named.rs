//! Versions named by what they run: an image, or a version.

use anyhow::Result;
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::conformance::record;
use testkit::{Scene, shop};

use crate::kubectl::ensure_takes_numbers_only;
use crate::stage::{APP, REQUEST, ensure_answers, ensure_ended, planned, refused, scene, text};

/// All that kubectl has to say about the cases here.
const NUMBERS_ONLY: &str = "no such feature: `rollout undo` knows revision numbers only";

fn api(tag: &str) -> String {
    format!("registry.broxiva.example/{APP}:{tag}")
}

/// Deploys the API with this image.
async fn deploy_image(scene: &Scene, image: &str) -> Result<()> {
    scene
        .deploy(shop::deployment(APP).image(image))
        .await
        .map(|_| ())
}

/// Deploys the API with a second container.
async fn deploy_with_sidecar(scene: &Scene, tag: &str, sidecar: &str) -> Result<()> {
    let containers = json!([
        {"name": "app", "image": api(tag)},
        {"name": "sidecar", "image": sidecar},
    ]);
    let version = shop::deployment(APP).set("/spec/template/spec/containers", containers);
    scene.deploy(version).await.map(|_| ())
}

#[tokio::test]
async fn case_22_an_image_is_found_in_its_newest_revision() -> Result<()> {
    let scene = scene("case-22").await?;
    scene
        .deploy(shop::deployment(APP).version("v1").env("MODE", "slow"))
        .await?;
    scene
        .deploy(shop::deployment(APP).version("v1").env("MODE", "fast"))
        .await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"image": {"image": api("v1")}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(planned(&request)?.to.revision, Some(2));
    let deployment = scene.deployment(APP).await?;
    assert_eq!(
        text(&deployment, "/spec/template/spec/containers/0/image"),
        api("v1")
    );
    assert_eq!(
        text(&deployment, "/spec/template/spec/containers/0/env/0/value"),
        "fast"
    );
    ensure_answers(&scene, &[200])?;

    ensure_takes_numbers_only(&scene).await?;
    record(22, NUMBERS_ONLY, "the newest revision that has the image")
}

#[tokio::test]
async fn case_22_an_image_that_never_ran_is_not_patched_in() -> Result<()> {
    let scene = scene("case-22-none").await?;
    scene.two_versions(APP).await?;
    let message = refused(
        &scene,
        json!({"image": {"image": api("v9")}}),
        Reason::ImageNotInHistory,
    )
    .await?;
    assert!(message.contains(&api("v1")), "{message}");
    assert!(scene.image(APP).await?.ends_with(":v2"));
    Ok(())
}

#[tokio::test]
async fn case_23_a_container_is_found_by_the_repository_of_its_image() -> Result<()> {
    let scene = scene("case-23").await?;
    deploy_with_sidecar(&scene, "v1", "registry.broxiva.example/proxy:v7").await?;
    deploy_with_sidecar(&scene, "v2", "registry.broxiva.example/proxy:v7").await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"image": {"image": api("v1")}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(scene.image(APP).await?, api("v1"));
    Ok(())
}

#[tokio::test]
async fn case_23_two_containers_of_one_repository_are_not_guessed() -> Result<()> {
    let scene = scene("case-23-two").await?;
    deploy_with_sidecar(&scene, "v1", &api("v1")).await?;
    deploy_with_sidecar(&scene, "v2", &api("v1")).await?;
    let message = refused(
        &scene,
        json!({"image": {"image": api("v1")}}),
        Reason::Ambiguous,
    )
    .await?;
    assert!(message.contains("app, sidecar"), "{message}");
    let named = json!({"image": {"image": api("v1"), "container": "app"}});
    let (_, outcome) = scene.roll_back("named", APP, named).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(scene.image(APP).await?, api("v1"));

    ensure_takes_numbers_only(&scene).await?;
    let ours = "`Refused` with reason `Ambiguous` when two containers could be meant, \
                naming them; back to it once the container is named";
    record(23, NUMBERS_ONLY, ours)
}

#[tokio::test]
async fn case_25_an_image_is_what_it_means() -> Result<()> {
    let scene = scene("case-25").await?;
    let digest = "sha256:94d5b0e2b8f2e1bb5b3a95ef5bb5d3ce2c2d0c7ad6a0de2ba1d5ac2c6dd1e5ce";
    deploy_image(&scene, &format!("shop/api:v1@{digest}")).await?;
    deploy_image(&scene, "shop/api").await?;
    deploy_image(&scene, "shop/api:v3").await?;
    let latest = json!({"image": {"image": "index.docker.io/shop/api:latest"}});
    let (request, _) = scene.roll_back("by-tag", APP, latest).await?;
    assert_eq!(planned(&request)?.to.revision, Some(2));
    assert_eq!(scene.image(APP).await?, "shop/api");
    let pinned = json!({"image": {"image": format!("docker.io/shop/api@{digest}")}});
    let (request, _) = scene.roll_back("by-digest", APP, pinned).await?;
    assert_eq!(planned(&request)?.to.revision, Some(1));
    assert!(scene.image(APP).await?.ends_with(digest));

    ensure_takes_numbers_only(&scene).await?;
    let ours = "found by tag and by digest, with or without the registry that goes without saying";
    record(25, NUMBERS_ONLY, ours)
}

#[tokio::test]
async fn case_26_a_label_of_the_deployment_itself_is_no_version() -> Result<()> {
    let scene = scene("case-26").await?;
    for tag in ["a", "b"] {
        let version = shop::deployment(APP)
            .image(&api(tag))
            .label("app.kubernetes.io/version", "v2.1.5");
        scene.deploy(version).await?;
    }
    let message = refused(
        &scene,
        json!({"version": "v2.1.5"}),
        Reason::VersionNotInHistory,
    )
    .await?;
    assert!(message.contains("b, a"), "{message}");

    ensure_takes_numbers_only(&scene).await?;
    let ours = "`Refused` with reason `VersionNotInHistory`, naming the versions that there are";
    record(26, NUMBERS_ONLY, ours)
}

#[tokio::test]
async fn a_version_is_found_by_label_or_tag_with_or_without_v() -> Result<()> {
    let scene = scene("version").await?;
    scene
        .deploy(shop::deployment(APP).version("v2.1.5"))
        .await?;
    scene
        .deploy(shop::deployment(APP).image(&api("2.2.0")))
        .await?;
    scene
        .deploy(shop::deployment(APP).version("v2.3.0"))
        .await?;
    let (request, _) = scene
        .roll_back("by-label", APP, json!({"version": "2.1.5"}))
        .await?;
    assert_eq!(planned(&request)?.to.revision, Some(1));
    assert_eq!(scene.image(APP).await?, api("v2.1.5"));
    let (request, _) = scene
        .roll_back("by-tag", APP, json!({"version": "v2.2.0"}))
        .await?;
    assert_eq!(planned(&request)?.to.revision, Some(2));
    assert_eq!(scene.image(APP).await?, api("2.2.0"));
    Ok(())
}
