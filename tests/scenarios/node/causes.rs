//! Old versions that do not come up, each for another cause, as a real kubelet, scheduler or quota tells it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use rollback_api::status::{Cause, CauseKind};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::HEALTH_PORT;
use testkit::node::app::{APP, NO_IMAGE, version};
use testkit::scene::PATIENCE;
use testkit::shop::DeploymentBuilder;
use testkit::{Scene, User, eventually, node, shop};

use crate::stage::{
    REQUEST, delay, deploy_unwell, ensure_ended, ensure_one_patch, roll_back, scene, target,
};

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";
/// How long a trouble may last until the rollback counts as failed, in seconds.
const GRACE: i64 = 4;
/// What a container says last.
const LAST_WORDS: &str = "no database at db:5432, password=hunter2-on-the-node";
/// From the first word of the node to the status that names the trouble, on a machine that is busy.
const SOON: SignedDuration = SignedDuration::from_secs(5);

/// A trouble of the old version.
pub struct Trouble<'a> {
    /// What it has to be called.
    pub kind: CauseKind,
    /// Words by which it is known when a node, the scheduler or the quota tells of it.
    pub shown_by: &'a [&'a str],
    /// What the status has to say.
    pub says: &'a [&'a str],
}

/// The old version as a container that says its last words and ends.
pub fn dies(exit_code: &str) -> DeploymentBuilder {
    version("v1")
        .set(&format!("{CONTAINER}/args"), json!(["run"]))
        .env("EXIT_CODE", exit_code)
        .env("LAST_WORDS", LAST_WORDS)
}

/// A stage on which a trouble ends a rollback after the grace.
pub async fn strict_scene(name: &str) -> Result<Option<Scene>> {
    let Some(scene) = scene(name).await? else {
        return Ok(None);
    };
    scene
        .policy(json!({"rollout": {"graceSeconds": GRACE}}))
        .await?;
    Ok(Some(scene))
}

/// Rolls back from a good version to one that was never well, and expects the trouble to be named.
pub async fn is_named(scene: &Scene, old: DeploymentBuilder, trouble: &Trouble<'_>) -> Result<()> {
    deploy_unwell(scene, old).await?;
    scene.deploy(version("v2")).await?;
    roll_back(scene).await?;
    ensure_named(scene, trouble).await
}

/// The trouble is named soon, and the rollback fails because of it: at the deadline when only Events tell of it, which
/// anybody could have made up.
async fn ensure_named(scene: &Scene, trouble: &Trouble<'_>) -> Result<()> {
    let first = eventually("the status names the trouble", PATIENCE, async || {
        let cause = cause(scene).await?.context("it names nothing")?;
        ensure!(cause.kind == trouble.kind, "it is {cause:?}");
        Ok(cause)
    })
    .await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    let reason = if trouble.kind == CauseKind::Volume {
        Reason::RolloutTimedOut
    } else {
        Reason::RolloutFailed
    };
    ensure_ended(&outcome, RequestState::Failed, reason)?;
    for words in trouble.says {
        ensure!(outcome.message.contains(words), "{outcome:?}");
    }
    ensure!(
        !outcome.message.contains("hunter2"),
        "it repeats a secret that a container said: {outcome:?}"
    );
    let target = target(&request)?;
    let last = target.rollout.and_then(|rollout| rollout.cause);
    let last = last.context("the cause is forgotten")?;
    ensure!(last.kind == trouble.kind, "{last:?} after {first:?}");
    ensure!(last.since == first.since, "it flapped: {first:?}, {last:?}");
    ensure_one_patch(scene)?;
    let reverted = target.reverted_at.context("not reverted")?;
    let delay = delay(scene, reverted, trouble.shown_by, trouble.kind)?;
    let kind = trouble.kind;
    node::tell(&format!(
        "{kind:?} in {}: named {} ms after it showed; {}",
        scene.ns(),
        delay.as_millis(),
        last.message
    ));
    ensure!(delay < SOON, "named only after {delay:?}");
    Ok(())
}

async fn cause(scene: &Scene) -> Result<Option<Cause>> {
    let request = scene.request(REQUEST).await?;
    Ok(target(&request)?.rollout.and_then(|rollout| rollout.cause))
}

/// Puts an object into the namespace.
async fn put(scene: &Scene, object: &Value) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    shop::apply(&client, scene.ns(), object).await?;
    Ok(())
}

const CRASHES: [&str; 2] = ["CrashLoopBackOff", "\"restartCount\":1"];

#[tokio::test]
async fn a_container_that_crashes() -> Result<()> {
    let Some(scene) = strict_scene("crash").await? else {
        return Ok(());
    };
    let trouble = Trouble {
        kind: CauseKind::CrashLoop,
        shown_by: &CRASHES,
        says: &[
            "container app crashes",
            "last exit code 3",
            "no database at db:5432",
        ],
    };
    is_named(&scene, dies("3"), &trouble).await
}

#[tokio::test]
async fn an_init_container_that_crashes() -> Result<()> {
    let Some(scene) = strict_scene("init-crash").await? else {
        return Ok(());
    };
    let migrate = json!([{
        "name": "migrate", "image": "registry.broxiva.example/shop:v3", "args": ["run"],
        "env": [{"name": "EXIT_CODE", "value": "7"}, {"name": "LAST_WORDS", "value": LAST_WORDS}],
    }]);
    let old = version("v1").set(&format!("{POD}/initContainers"), migrate);
    let trouble = Trouble {
        kind: CauseKind::CrashLoop,
        shown_by: &CRASHES,
        says: &["init container migrate crashes", "last exit code 7"],
    };
    is_named(&scene, old, &trouble).await
}

/// The kubelet kills what does not start in time; the program ends when it is told to, with exit code 0.
#[tokio::test]
async fn a_startup_probe_that_never_passes() -> Result<()> {
    let Some(scene) = strict_scene("startup").await? else {
        return Ok(());
    };
    let probe = json!({
        "httpGet": {"path": "/health/live", "port": HEALTH_PORT},
        "periodSeconds": 1, "failureThreshold": 1,
    });
    let old = version("v1")
        .env("FAIL_LIVE", "1")
        .set(&format!("{CONTAINER}/startupProbe"), probe);
    let trouble = Trouble {
        kind: CauseKind::CrashLoop,
        shown_by: &["CrashLoopBackOff"],
        says: &["container app crashes"],
    };
    is_named(&scene, old, &trouble).await
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled() -> Result<()> {
    let Some(scene) = strict_scene("image").await? else {
        return Ok(());
    };
    let trouble = Trouble {
        kind: CauseKind::ImagePull,
        shown_by: &["ErrImagePull", "ImagePullBackOff"],
        says: &[NO_IMAGE, "cannot be pulled", "connection refused"],
    };
    is_named(&scene, version("v1").image(NO_IMAGE), &trouble).await
}

#[tokio::test]
async fn a_key_that_its_secret_does_not_have() -> Result<()> {
    let Some(scene) = strict_scene("secret-key").await? else {
        return Ok(());
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "database"}, "stringData": {"user": "shop"},
    });
    put(&scene, &secret).await?;
    let env = json!([{"name": "PASSWORD", "valueFrom": {
        "secretKeyRef": {"name": "database", "key": "password"},
    }}]);
    let trouble = Trouble {
        kind: CauseKind::Config,
        shown_by: &["CreateContainerConfigError"],
        says: &["CreateContainerConfigError", "couldn't find key password"],
    };
    let old = version("v1").set(&format!("{CONTAINER}/env"), env);
    is_named(&scene, old, &trouble).await
}

/// The key was there when the plan was made and when it was approved. It goes while an init container runs.
#[tokio::test]
async fn a_key_that_goes_while_the_pod_starts() -> Result<()> {
    let Some(scene) = strict_scene("map-key").await? else {
        return Ok(());
    };
    let map = |key: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "settings"}, "data": {key: "fast"},
        })
    };
    put(&scene, &map("mode")).await?;
    let env = json!([{"name": "MODE", "valueFrom": {
        "configMapKeyRef": {"name": "settings", "key": "mode"},
    }}]);
    let slow = json!([{
        "name": "warm-up", "image": "registry.broxiva.example/shop:v3", "args": ["run"],
        "env": [{"name": "WAIT_MS", "value": "6000"}],
    }]);
    let old = version("v1")
        .set(&format!("{CONTAINER}/env"), env)
        .set(&format!("{POD}/initContainers"), slow);
    scene.deploy(old).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    scene.wait_for(REQUEST, "RollingOut").await?;
    put(&scene, &map("another")).await?;
    let trouble = Trouble {
        kind: CauseKind::Config,
        shown_by: &["CreateContainerConfigError"],
        says: &["CreateContainerConfigError", "couldn't find key mode"],
    };
    ensure_named(&scene, &trouble).await
}

/// The controller may not look at Secrets here, so that only the kubelet can know.
#[tokio::test]
async fn a_volume_of_a_secret_that_is_not_there() -> Result<()> {
    let Some(scene) = strict_scene("volume").await? else {
        return Ok(());
    };
    scene
        .policy(json!({"rollout": {"graceSeconds": GRACE, "timeoutSeconds": 30}}))
        .await?;
    let volumes = json!([{"name": "tls", "secret": {"secretName": "nowhere"}}]);
    let mounts = json!([{"name": "tls", "mountPath": "/tls"}]);
    let old = version("v1")
        .set(&format!("{POD}/volumes"), volumes)
        .set(&format!("{CONTAINER}/volumeMounts"), mounts);
    let trouble = Trouble {
        kind: CauseKind::Volume,
        shown_by: &["FailedMount"],
        says: &["FailedMount", "secret \"nowhere\" not found"],
    };
    is_named(&scene, old, &trouble).await
}

#[tokio::test]
async fn a_pod_that_is_too_large_for_the_node() -> Result<()> {
    let Some(scene) = strict_scene("too-large").await? else {
        return Ok(());
    };
    let huge = json!({"requests": {"cpu": "1000"}});
    let old = version("v1").set(&format!("{CONTAINER}/resources"), huge);
    let trouble = Trouble {
        kind: CauseKind::Unschedulable,
        shown_by: &["Unschedulable"],
        says: &["Insufficient cpu"],
    };
    is_named(&scene, old, &trouble).await
}

/// The old version is well; the namespace is full.
#[tokio::test]
async fn a_quota_that_leaves_no_room() -> Result<()> {
    let Some(scene) = strict_scene("quota").await? else {
        return Ok(());
    };
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}},
    });
    put(&scene, &quota).await?;
    let client = scene.client(User::Admin).await?;
    let quotas = shop::api(&client, scene.ns(), "v1", "ResourceQuota");
    eventually(
        "the quota is used up",
        Duration::from_secs(30),
        async || {
            let used = quotas.get("full").await?.data;
            ensure!(
                used.pointer("/status/used/pods") == Some(&json!("1")),
                "{used}"
            );
            Ok(())
        },
    )
    .await?;
    roll_back(&scene).await?;
    let trouble = Trouble {
        kind: CauseKind::Refused,
        shown_by: &["exceeded quota"],
        says: &["exceeded quota: full", "pods=1"],
    };
    ensure_named(&scene, &trouble).await?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    Ok(())
}
