//! Why pods of the old version do not come up. Fake nodes show crashes and pulls; Events are written in the place of a kubelet.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rollback_api::status::{Cause, CauseKind};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::shop::{Behaviour, deployment};
use testkit::{Scene, User, eventually};

use crate::stage::{ends, scene, target};

/// Something that nobody may read in a status.
const SECRET: &str = "hunter2hunter2";

/// A rollback of `api` to a version that behaves so.
async fn rolling_out(name: &str, policy: Value, behaviour: Behaviour) -> Result<Scene> {
    let scene = scene(name).await?;
    scene.policy(policy).await?;
    let old = deployment("api").version("v1").behaviour(behaviour);
    scene.apply_deployment(old).await?;
    eventually("the first revision is there", PATIENCE, async || {
        ensure!(scene.replica_sets("api").await?.len() == 1);
        Ok(())
    })
    .await?;
    // The Deployment controller must not give up before us.
    let bad = deployment("api").version("v2").progress_deadline(600);
    scene.deploy(bad).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    scene.wait_for("api-5xx", "RollingOut").await?;
    Ok(scene)
}

async fn named(scene: &Scene, kind: CauseKind) -> Result<Cause> {
    eventually("the cause is named", PATIENCE, async || {
        let rollout = target(scene, "api-5xx").await?.rollout;
        let cause = rollout.and_then(|it| it.cause).context("no cause")?;
        ensure!(cause.kind == kind, "{cause:?}");
        Ok(cause)
    })
    .await
}

/// A running pod of the version that is coming up.
async fn new_pod(scene: &Scene) -> Result<Pod> {
    let plan = scene.status("api-5xx").await?.plan.context("no plan")?;
    let set = plan.targets[0].source_name().context("no ReplicaSet")?;
    let api: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    eventually("a pod runs", PATIENCE, async || {
        let pods = api.list(&ListParams::default()).await?;
        let is_new = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            pod.name_any().starts_with(&format!("{set}-")) && phase == Some("Running")
        };
        pods.items.into_iter().find(is_new).context("there is none")
    })
    .await
}

async fn say_unhealthy(scene: &Scene, pod: &Pod, message: &str) -> Result<()> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": format!("{}.probe", pod.name_any()), "namespace": scene.ns()},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": scene.ns(), "name": pod.name_any(),
            "uid": pod.uid(), "fieldPath": "spec.containers{app}"},
        "type": "Warning", "reason": "Unhealthy", "message": message, "count": 1,
        "firstTimestamp": now.to_string(), "lastTimestamp": now.to_string(), "source": {"component": "kubelet"},
    }))?;
    let api: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    api.create(&PostParams::default(), &event).await?;
    Ok(())
}

/// A failing probe is told at once and ends nothing: the deadline does, long after the grace of other causes.
#[tokio::test]
async fn a_probe_that_fails_is_told_and_ends_nothing() -> Result<()> {
    let policy = json!({"rollout": {"timeoutSeconds": 15, "graceSeconds": 1}});
    let scene = rolling_out("unready", policy, Behaviour::NeverReady).await?;
    let pod = new_pod(&scene).await?;
    let message = format!("Readiness probe failed: HTTP probe failed: password={SECRET}");
    say_unhealthy(&scene, &pod, &message).await?;
    let cause = named(&scene, CauseKind::Unready).await?;
    ensure!(cause.pod == Some(pod.name_any()), "{cause:?}");
    ensure!(
        cause
            .message
            .starts_with("container app runs and is not ready: ")
    );
    let told = ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::RolloutTimedOut,
    )
    .await?;
    ensure!(told.contains("Unready"), "{told}");
    let everything = serde_json::to_string(&scene.status("api-5xx").await?)?;
    ensure!(!everything.contains(SECRET), "{everything}");
    Ok(())
}

/// What a container said before it crashed is told, without what looks like a secret.
#[tokio::test]
async fn a_crash_is_told_with_the_last_words() -> Result<()> {
    let policy = json!({"rollout": {"timeoutSeconds": 60, "graceSeconds": 5}});
    let scene = rolling_out("last-words", policy, Behaviour::NeverReady).await?;
    let pod = new_pod(&scene).await?;
    let status = json!({"status": {"containerStatuses": [{"name": "app", "image": "a:v1", "imageID": "", "ready": false,
        "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": format!("password={SECRET}")}}}]}});
    let api: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    api.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Merge(status),
    )
    .await?;
    let cause = named(&scene, CauseKind::CrashLoop).await?;
    let words = cause.last_words.context("no last words")?;
    ensure!(!words.contains(SECRET), "{words}");
    let told = ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::RolloutFailed,
    )
    .await?;
    ensure!(told.contains("It said last: "), "{told}");
    ensure!(!told.contains(SECRET), "{told}");
    Ok(())
}

/// The policy asks for logs, and nobody gave the controller the power to read them: it says whom to ask, and goes on.
#[tokio::test]
async fn a_log_that_may_not_be_read_is_said_and_stops_nothing() -> Result<()> {
    let policy = json!({"rollout": {"timeoutSeconds": 60, "graceSeconds": 3, "logTailLines": 10}});
    let scene = rolling_out("no-logs", policy, Behaviour::Crash).await?;
    named(&scene, CauseKind::CrashLoop).await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::RolloutFailed,
    )
    .await?;
    let warnings = target(&scene, "api-5xx").await?.warnings;
    let said = warnings.iter().any(|it| it.contains("rollback-read-logs"));
    ensure!(said, "{warnings:?}");
    Ok(())
}

/// Pods of the bad version that crash say nothing about the old one.
#[tokio::test]
async fn pods_of_the_bad_version_are_not_blamed() -> Result<()> {
    let scene = scene("not-blamed").await?;
    let slow = deployment("api")
        .version("v1")
        .ready_after(Duration::from_secs(5));
    scene.deploy(slow).await?;
    let bad = deployment("api").version("v2").behaviour(Behaviour::Crash);
    scene.apply_deployment(bad).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    let (request, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    let audit = scene.cluster.audit().context("no audit log")?;
    let blamed = audit.events(scene.ns())?.into_iter().any(|event| {
        let body = event.request_object.unwrap_or_default();
        event.name == request.name_any()
            && body.pointer("/status/targets/0/rollout/cause").is_some()
    });
    ensure!(!blamed, "the old version was blamed for the bad one");
    Ok(())
}
