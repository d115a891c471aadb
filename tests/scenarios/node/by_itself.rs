//! New versions on a real node: what a real kubelet says of a bad one brings its rollback by itself, and what it says of a
//! registry that is away does not.
//!
//! Each run is filmed. With `ROLLBACK_RECORD_EPISODES=1` the films are kept among the labelled episodes; nothing is rolled
//! back then, so that the films do not end with the trouble.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use rollback_api::{AUTOMATIC, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::health::HEALTH_PORT;
use testkit::node::app::{APP, NO_IMAGE, version};
use testkit::shop::DeploymentBuilder;
use testkit::{Scene, User, eventually};
use tokio::sync::watch;

use crate::stage::scene;

const CONTAINER: &str = "/spec/template/spec/containers/0";
/// How long a real node may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long a version that is not to blame is watched.
const QUIET: Duration = Duration::from_secs(30);

fn grace() -> Value {
    json!({"rolloutSeconds": 15, "unreadySeconds": 5, "crashSeconds": 3, "imagePullSeconds": 3})
}

/// `v1` is well and then `v2` comes; what becomes of it is said by `story`, and filmed meanwhile.
async fn film(
    name: &str,
    cause: &str,
    bad: DeploymentBuilder,
    story: impl AsyncFnOnce(&Scene) -> Result<()>,
) -> Result<()> {
    let Some(scene) = scene(name).await? else {
        return Ok(());
    };
    let client = scene.client(User::Admin).await?;
    scene.grant_to("rollback-watch", "rollback-trigger").await?;
    let triggers = json!({"watch": true, "approve": !is_recording(), "grace": grace()});
    scene.policy(json!({"triggers": triggers})).await?;
    scene
        .deploy(version("v1").annotation(AUTOMATIC, "enabled"))
        .await?;
    let (end, ended) = watch::channel(false);
    let camera = tokio::spawn(episodes::record::film(client, scene.ns().to_owned(), ended));
    scene
        .apply_deployment(bad.annotation(AUTOMATIC, "enabled"))
        .await?;
    let told = story(&scene).await;
    end.send(true)?;
    let frames = camera.await??;
    told?;
    if is_recording() {
        episodes::record::keep(cause, "node", "node-01", &grace(), &frames)?;
    }
    Ok(())
}

fn is_recording() -> bool {
    std::env::var_os("ROLLBACK_RECORD_EPISODES").is_some()
}

async fn requests(scene: &Scene) -> Result<Vec<RollbackRequest>> {
    let api = scene.requests(User::Admin).await?;
    Ok(api.list(&ListParams::default()).await?.items)
}

/// It is rolled back by itself, because of this.
async fn rolled_back(scene: &Scene, alert: &str) -> Result<()> {
    let request = eventually("a request came by itself", PATIENCE, async || {
        requests(scene).await?.pop().context("there is none")
    })
    .await?;
    let trigger = request.spec.trigger.clone().context("by a person?")?;
    ensure!(trigger.alert == alert, "{trigger:?}");
    if is_recording() {
        tokio::time::sleep(QUIET).await;
        return Ok(());
    }
    let name = request.metadata.name.unwrap_or_default();
    let (_, outcome) = scene.wait_for_end(&name).await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    println!("{alert}: {:?}", trigger.evidence);
    Ok(())
}

/// Nobody asks for anything.
async fn left_alone(scene: &Scene) -> Result<()> {
    tokio::time::sleep(QUIET).await;
    let asked = requests(scene).await?;
    ensure!(asked.is_empty(), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_version_that_crashes() -> Result<()> {
    let bad = version("v2")
        .set(&format!("{CONTAINER}/args"), json!(["run"]))
        .env("EXIT_CODE", "3");
    film("by-itself-crash", "crash-at-start", bad, async |scene| {
        rolled_back(scene, "CrashLoop").await
    })
    .await
}

#[tokio::test]
async fn a_version_that_a_liveness_probe_kills() -> Result<()> {
    let probe = json!({
        "httpGet": {"path": "/health/live", "port": HEALTH_PORT},
        "periodSeconds": 1, "failureThreshold": 1,
    });
    let bad = version("v2")
        .env("FAIL_LIVE", "1")
        .set(&format!("{CONTAINER}/livenessProbe"), probe);
    film("by-itself-live", "liveness-kills", bad, async |scene| {
        rolled_back(scene, "CrashLoop").await
    })
    .await
}

#[tokio::test]
async fn a_version_whose_image_is_missing() -> Result<()> {
    let bad = version("v2")
        .image("registry.broxiva.example/shop:v99")
        .set(&format!("{CONTAINER}/imagePullPolicy"), json!("Never"));
    film("by-itself-image", "image-missing", bad, async |scene| {
        rolled_back(scene, "ImagePull").await
    })
    .await
}

#[tokio::test]
async fn a_version_that_misses_a_secret() -> Result<()> {
    let env = json!([{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "password"}}}]);
    let bad = version("v2").set(&format!("{CONTAINER}/env"), env);
    film("by-itself-secret", "config-error-new", bad, async |scene| {
        rolled_back(scene, "ContainerConfig").await
    })
    .await
}

#[tokio::test]
async fn a_version_that_never_gets_ready() -> Result<()> {
    let bad = version("v2").env("FAIL_READY", "1");
    film("by-itself-ready", "never-ready", bad, async |scene| {
        rolled_back(scene, "RolloutStuck").await
    })
    .await
}

/// Nobody listens where the image would come from: that is not the fault of the version.
#[tokio::test]
async fn a_registry_that_is_away() -> Result<()> {
    let bad = version("v2").image(NO_IMAGE);
    let cause = "registry-outage-new-only";
    film("by-itself-registry", cause, bad, left_alone).await
}

#[tokio::test]
async fn a_version_that_is_well() -> Result<()> {
    film("by-itself-well", "good-release", version("v2"), left_alone).await
}
