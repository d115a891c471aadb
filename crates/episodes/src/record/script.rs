//! What is played, and what the kubelet says meanwhile.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt as _;
use serde_json::{Value, json};
use testkit::shop::{self, BEHAVIOUR, Behaviour};

use super::{NAME, Play, Stage};

/// The graces of the recorded episodes, in seconds.
pub(super) const ROLLOUT: u64 = 20;
pub(super) const GRACE: u64 = 5;
/// So long a trouble lasts that has to be seen.
const LONG: u64 = GRACE + 22;
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// Cause, pods, and how it is played.
pub(super) const ALL: &[(&str, u32, Play)] = &[
    ("crash-at-start", 1, |it| {
        bad(it, Behaviour::Crash, LONG).boxed_local()
    }),
    ("crash-at-start", 3, |it| {
        bad(it, Behaviour::Crash, LONG).boxed_local()
    }),
    ("crash-at-start", 2, |it| recreate(it).boxed_local()),
    ("never-ready", 1, |it| {
        bad(it, Behaviour::NeverReady, ROLLOUT + 22).boxed_local()
    }),
    ("never-ready", 4, |it| {
        bad(it, Behaviour::NeverReady, ROLLOUT + 22).boxed_local()
    }),
    ("image-missing", 1, |it| says(it, not_found).boxed_local()),
    ("image-missing", 3, |it| says(it, not_found).boxed_local()),
    ("image-name-invalid", 1, |it| {
        says(it, invalid_name).boxed_local()
    }),
    ("config-error-new", 2, |it| says(it, no_key).boxed_local()),
    ("oom-killed", 2, |it| says(it, oom).boxed_local()),
    ("init-crash", 1, |it| init_crash(it).boxed_local()),
    ("one-of-two-containers", 2, |it| {
        one_of_two(it).boxed_local()
    }),
    ("too-large", 1, |it| too_large(it).boxed_local()),
    ("too-large", 3, |it| too_large(it).boxed_local()),
    ("ready-then-unready", 2, |it| {
        later(it, "never-ready").boxed_local()
    }),
    ("crash-after-ready", 1, |it| {
        later(it, "crash").boxed_local()
    }),
    ("crash-after-ready", 3, |it| {
        later(it, "crash").boxed_local()
    }),
    ("good-release", 3, |it| good(it, 1).boxed_local()),
    ("good-release", 6, |it| good(it, 2).boxed_local()),
    ("slow-start", 1, |it| good(it, 14).boxed_local()),
    ("slow-start", 3, |it| good(it, 10).boxed_local()),
    ("crash-once", 1, |it| crash_once(it).boxed_local()),
    ("flapping-readiness", 2, |it| flapping(it).boxed_local()),
    ("fixed-forward", 2, |it| fixed_forward(it).boxed_local()),
    ("registry-outage-new-only", 1, |it| {
        says(it, no_registry).boxed_local()
    }),
    ("registry-outage-new-only", 3, |it| {
        says(it, too_many).boxed_local()
    }),
    ("dependency-outage", 3, |it| dependency(it).boxed_local()),
    ("scale-up-by-hand", 1, |it| {
        scale_up(it, 4, "never-ready").boxed_local()
    }),
    ("scale-up-by-hand", 2, |it| {
        scale_up(it, 5, "never-ready").boxed_local()
    }),
    ("scale-to-zero", 3, |it| to_zero(it).boxed_local()),
    ("pod-deleted", 3, |it| pod_deleted(it).boxed_local()),
    ("paused", 2, |it| paused(it).boxed_local()),
    ("paused", 3, |it| paused_before(it).boxed_local()),
    ("manual-undo", 2, |it| undo(it, "never-ready").boxed_local()),
    ("manual-undo", 3, |it| undo(it, "crash").boxed_local()),
    ("manual-undo", 1, |it| undo(it, "ready").boxed_local()),
    ("first-revision", 2, |it| {
        first(it, Behaviour::Crash).boxed_local()
    }),
    ("first-revision", 1, |it| {
        first(it, Behaviour::NeverReady).boxed_local()
    }),
    ("hpa-during-rollout", 2, |it| hpa(it).boxed_local()),
];

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// A first version that is well.
async fn begin(stage: &Stage) -> Result<()> {
    stage.apply_and_wait(stage.version("v1")).await?;
    pause(3).await;
    Ok(())
}

async fn bad(stage: &Stage, behaviour: Behaviour, seconds: u64) -> Result<()> {
    begin(stage).await?;
    stage
        .apply(stage.version("v2").behaviour(behaviour))
        .await?;
    pause(seconds).await;
    Ok(())
}

async fn recreate(stage: &Stage) -> Result<()> {
    let strategy = json!({"type": "Recreate"});
    let version = |name: &str| stage.version(name).set("/spec/strategy", strategy.clone());
    stage.apply_and_wait(version("v1")).await?;
    pause(3).await;
    stage
        .apply(version("v2").behaviour(Behaviour::Crash))
        .await?;
    pause(LONG).await;
    Ok(())
}

async fn says(stage: &Stage, says: fn(i64, &str) -> Value) -> Result<()> {
    begin(stage).await?;
    stage
        .apply(stage.version("v2").behaviour(Behaviour::NeverReady))
        .await?;
    stage.kubelet("v2", LONG, says).await
}

async fn init_crash(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    let init = json!([{"name": "migrate", "image": "registry.broxiva.example/api:v2"}]);
    let version = stage.version("v2").behaviour(Behaviour::NeverReady);
    stage
        .apply(version.set("/spec/template/spec/initContainers", init))
        .await?;
    stage.kubelet("v2", LONG, init_crashes).await
}

async fn one_of_two(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    let two = json!([{"name": "app", "image": "registry.broxiva.example/api:v2"},
        {"name": "log", "image": "registry.broxiva.example/log:4"}]);
    let version = stage.version("v2").behaviour(Behaviour::NeverReady);
    stage
        .apply(version.set("/spec/template/spec/containers", two))
        .await?;
    stage.kubelet("v2", LONG, second_crashes).await
}

async fn too_large(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    let huge = json!({"requests": {"cpu": "5000"}});
    let version = stage.version("v2");
    stage
        .apply(version.set(&format!("{CONTAINER}/resources"), huge))
        .await?;
    pause(ROLLOUT + 22).await;
    Ok(())
}

/// Changes how all living pods behave.
async fn behave(stage: &Stage, behaviour: &str) -> Result<()> {
    let annotations = [(BEHAVIOUR, behaviour)];
    shop::annotate_pods(&stage.client, &stage.namespace, NAME, &annotations).await?;
    Ok(())
}

async fn later(stage: &Stage, behaviour: &str) -> Result<()> {
    begin(stage).await?;
    stage.apply_and_wait(stage.version("v2")).await?;
    pause(6).await;
    behave(stage, behaviour).await?;
    pause(LONG).await;
    Ok(())
}

async fn good(stage: &Stage, seconds: u64) -> Result<()> {
    begin(stage).await?;
    let version = stage
        .version("v2")
        .ready_after(Duration::from_secs(seconds));
    stage.apply(version).await?;
    pause(seconds * 4 + 8).await;
    Ok(())
}

async fn crash_once(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage
        .apply(stage.version("v2").behaviour(Behaviour::NeverReady))
        .await?;
    stage.kubelet("v2", 4, crashed_once).await?;
    behave(stage, "ready").await?;
    pause(12).await;
    Ok(())
}

async fn flapping(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage.apply_and_wait(stage.version("v2")).await?;
    for _ in 0..4 {
        pause(4).await;
        behave(stage, "never-ready").await?;
        pause(2).await;
        behave(stage, "ready").await?;
    }
    pause(6).await;
    Ok(())
}

async fn fixed_forward(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage
        .apply(stage.version("v2").behaviour(Behaviour::Crash))
        .await?;
    pause(3).await;
    stage.apply_and_wait(stage.version("v3")).await?;
    pause(15).await;
    Ok(())
}

/// Old and new pods are unready alike.
async fn dependency(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    let version = stage.version("v2").ready_after(Duration::from_secs(4));
    stage.apply(version).await?;
    pause(5).await;
    behave(stage, "never-ready").await?;
    for _ in 0..14 {
        pause(1).await;
        behave(stage, "never-ready").await?;
    }
    Ok(())
}

/// No template changes; what comes is in trouble.
async fn scale_up(stage: &Stage, replicas: u32, behaviour: &str) -> Result<()> {
    begin(stage).await?;
    stage.apply_and_wait(stage.version("v2")).await?;
    pause(4).await;
    let there = stage.pods().await?;
    stage
        .kubectl(&format!("scale deployment {NAME} --replicas={replicas}"))
        .await?;
    pause(2).await;
    for pod in stage.pods().await? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        if !there.iter().any(|it| it["metadata"]["name"] == name) {
            stage
                .kubectl(&format!(
                    "annotate pod {name} --overwrite {BEHAVIOUR}={behaviour}"
                ))
                .await?;
        }
    }
    pause(ROLLOUT + 8).await;
    Ok(())
}

async fn to_zero(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage.apply_and_wait(stage.version("v2")).await?;
    stage
        .kubectl(&format!("scale deployment {NAME} --replicas=0"))
        .await?;
    pause(20).await;
    Ok(())
}

async fn pod_deleted(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage
        .apply_and_wait(stage.version("v2").ready_after(Duration::from_secs(3)))
        .await?;
    for pod in stage.pods().await?.iter().take(2) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        stage
            .kubectl(&format!("delete pod {name} --wait=false"))
            .await?;
        pause(6).await;
    }
    pause(12).await;
    Ok(())
}

async fn paused(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage
        .apply(stage.version("v2").behaviour(Behaviour::Crash))
        .await?;
    pause(1).await;
    stage
        .kubectl(&format!("rollout pause deployment {NAME}"))
        .await?;
    pause(ROLLOUT + 8).await;
    Ok(())
}

async fn paused_before(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage
        .kubectl(&format!("rollout pause deployment {NAME}"))
        .await?;
    pause(1).await;
    stage
        .kubectl(&format!(
            "set image deployment {NAME} app=registry.broxiva.example/api:v2"
        ))
        .await?;
    pause(ROLLOUT + 8).await;
    Ok(())
}

/// `kubectl rollout undo`, and the pods of the older version are not well.
async fn undo(stage: &Stage, behaviour: &str) -> Result<()> {
    begin(stage).await?;
    stage.apply_and_wait(stage.version("v2")).await?;
    let newer = stage.pods().await?;
    pause(5).await;
    stage
        .kubectl(&format!("rollout undo deployment {NAME}"))
        .await?;
    for _ in 0..ROLLOUT + 6 {
        for pod in stage.pods().await? {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let known = newer.iter().any(|it| it["metadata"]["name"] == name);
            let is = &pod["metadata"]["annotations"][BEHAVIOUR];
            if !known && is != behaviour {
                // The pod may be gone by now.
                drop(
                    stage
                        .kubectl(&format!(
                            "annotate pod {name} --overwrite {BEHAVIOUR}={behaviour}"
                        ))
                        .await,
                );
            }
        }
        pause(1).await;
    }
    Ok(())
}

async fn first(stage: &Stage, behaviour: Behaviour) -> Result<()> {
    stage
        .apply(stage.version("v1").behaviour(behaviour))
        .await?;
    pause(ROLLOUT + 12).await;
    Ok(())
}

async fn hpa(stage: &Stage) -> Result<()> {
    begin(stage).await?;
    stage
        .apply(stage.version("v2").ready_after(Duration::from_secs(4)))
        .await?;
    for replicas in [3, 5, 4] {
        pause(3).await;
        stage
            .kubectl(&format!("scale deployment {NAME} --replicas={replicas}"))
            .await?;
    }
    pause(20).await;
    Ok(())
}

fn unready(containers: &Value) -> Value {
    json!({"phase": "Pending", "containerStatuses": containers})
}

fn waiting(name: &str, reason: &str, message: &str) -> Value {
    json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}, "running": null}})
}

/// `ErrImagePull` and `ImagePullBackOff` by turns.
fn pulls(age: i64, said: &str) -> Value {
    let image = "registry.broxiva.example/api:v2";
    let container = if age % 10 < 4 {
        waiting("app", "ErrImagePull", said)
    } else {
        let said = format!("Back-off pulling image \"{image}\": ErrImagePull: {said}");
        waiting("app", "ImagePullBackOff", &said)
    };
    unready(&json!([container]))
}

fn not_found(age: i64, _pod: &str) -> Value {
    pulls(
        age,
        "rpc error: code = NotFound desc = failed to pull and unpack image \"registry.broxiva.example/api:v2\": failed to resolve reference \"registry.broxiva.example/api:v2\": registry.broxiva.example/api:v2: not found",
    )
}

fn no_registry(age: i64, _pod: &str) -> Value {
    pulls(
        age,
        "failed to pull and unpack image \"registry.broxiva.example/api:v2\": failed to resolve reference \"registry.broxiva.example/api:v2\": failed to do request: Head \"https://registry.broxiva.example/v2/api/manifests/v2\": dial tcp 203.0.113.7:443: i/o timeout",
    )
}

fn too_many(age: i64, _pod: &str) -> Value {
    pulls(
        age,
        "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
    )
}

fn invalid_name(_age: i64, _pod: &str) -> Value {
    let said = crate::sim::words::invalid("registry.broxiva.example/API:v2");
    unready(&json!([waiting("app", "InvalidImageName", &said)]))
}

fn no_key(_age: i64, _pod: &str) -> Value {
    let said = "couldn't find key token in Secret shop/db";
    unready(&json!([waiting("app", "CreateContainerConfigError", said)]))
}

/// A container that has crashed more often the older the pod is.
fn crashing(name: &str, age: i64, pod: &str, code: i64, reason: &str) -> Value {
    let restarts = 1 + age / 5;
    let said = format!("back-off 10s restarting failed container={name} pod={pod}_shop(p)");
    let finished = jiff::Timestamp::now().as_second() - age % 5;
    let at =
        jiff::Timestamp::from_second(finished).map_or_else(|_| String::new(), |it| it.to_string());
    let mut shown = waiting(name, "CrashLoopBackOff", &said);
    shown["restartCount"] = json!(restarts);
    shown["lastState"] = json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": at, "finishedAt": at}});
    shown
}

fn oom(age: i64, pod: &str) -> Value {
    json!({"phase": "Running", "containerStatuses": [crashing("app", age, pod, 137, "OOMKilled")]})
}

fn second_crashes(age: i64, pod: &str) -> Value {
    let well = json!({"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}}});
    json!({"phase": "Running", "containerStatuses": [well, crashing("log", age, pod, 1, "Error")]})
}

fn init_crashes(age: i64, pod: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [waiting("app", "PodInitializing", "")],
        "initContainerStatuses": [crashing("migrate", age, pod, 1, "Error")]})
}

fn crashed_once(age: i64, pod: &str) -> Value {
    let mut shown = crashing("app", age.min(0), pod, 1, "Error");
    shown["state"] = json!({"waiting": null, "running": {}});
    json!({"phase": "Running", "containerStatuses": [shown]})
}
