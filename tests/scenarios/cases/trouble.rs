//! Pods of the old version that do not come up, and what is said of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::PostParams;
use rollback_api::status::{Cause, CauseKind, RiskKind, RolloutStatus};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::kubectl::{SUCCESS, both, kubectl, status, twin, undo, watch};
use crate::situation::{deploy_stuck, pods_of, say_of_pods, start_rolling_out};
use crate::stage::{APP, REQUEST, ensure_answers, ensure_ended, planned, progress, scene};

/// How long kubectl may wait for what does not come.
const A_WHILE: Duration = Duration::from_secs(2);
/// All that `kubectl rollout status` has to say about pods that do not come up.
const WAITS_SILENTLY: &str = "`rollout status` waits and does not say why";

fn version(version: &str) -> shop::DeploymentBuilder {
    // Long enough for the Deployment controller not to say anything.
    shop::deployment(APP)
        .version(version)
        .progress_deadline(600)
}

/// The rollback fails when a trouble lasts longer than this.
async fn grace(scene: &Scene, seconds: i64) -> Result<()> {
    scene
        .policy(json!({"rollout": {"graceSeconds": seconds}}))
        .await
}

/// `kubectl rollout status` after an undo waits, and says none of these words.
async fn ensure_waits_silently(twin: &Scene, reasons: &[&str]) -> Result<()> {
    let waited = status(twin, A_WHILE, &[]).await?;
    waited.ensure_error("timed out waiting")?;
    let said = waited.said();
    for reason in reasons {
        ensure!(!said.contains(reason), "{said}");
    }
    Ok(())
}

async fn rollout(scene: &Scene) -> Result<RolloutStatus> {
    let request = scene.request(REQUEST).await?;
    progress(&request)?.rollout.context("no rollout")
}

/// Waits until the request says that this kind of trouble is there. Meanwhile the test says on behalf of
/// the kubelet what there is to say.
async fn trouble(
    scene: &Scene,
    kind: CauseKind,
    say: impl AsyncFn() -> Result<()>,
) -> Result<Cause> {
    eventually("the request says what is wrong", PATIENCE, async || {
        say().await?;
        let cause = rollout(scene).await?.cause.context("it says nothing")?;
        ensure!(cause.kind == kind, "it is {cause:?}");
        Ok(cause)
    })
    .await
}

/// The request fails because of this trouble: after the grace, and long before its deadline.
async fn ensure_fails(scene: &Scene, cause: &Cause, grace: i64, says: &str) -> Result<()> {
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutFailed)?;
    ensure!(outcome.message.contains(says), "{}", outcome.message);
    let rollout = rollout(scene).await?;
    let last = rollout.cause.context("no cause")?;
    ensure!(
        (last.kind, last.since) == (cause.kind, cause.since),
        "{last:?}"
    );
    let lasted = outcome.at.duration_since(cause.since);
    ensure!(
        lasted >= SignedDuration::from_secs(grace),
        "failed after {lasted}"
    );
    ensure!(outcome.at < rollout.deadline, "{outcome:?}");
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(scene, &[200])
}

/// The nodes of the tests know no init containers that crash, so the test says it for them.
#[tokio::test]
async fn case_54_a_crash_loop_of_an_init_container_is_told_and_fails() -> Result<()> {
    let (scene, twin) = (scene("case-54").await?, twin("case-54").await?);
    grace(&scene, 3).await?;
    both(&scene, &twin, async |scene| {
        let init = json!([{"name": "migrate", "image": "registry.broxiva.example/migrate:v1"}]);
        let v1 = version("v1").set("/spec/template/spec/initContainers", init);
        deploy_stuck(scene, v1).await?;
        let v2 = version("v2").set("/spec/template/spec/initContainers", json!([]));
        scene.deploy(v2).await
    })
    .await?;
    let crash = json!({"initContainerStatuses": [{
        "name": "migrate", "image": "registry.broxiva.example/migrate:v1", "imageID": "",
        "ready": false, "restartCount": 5,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    }]});
    start_rolling_out(&scene).await?;
    let cause = trouble(&scene, CauseKind::CrashLoop, async || {
        say_of_pods(&scene, "v1", &crash).await.map(drop)
    })
    .await?;
    ensure!(
        cause.message.contains("init container migrate crashes"),
        "{cause:?}"
    );
    ensure!(cause.pod.is_some(), "{cause:?}");
    ensure_fails(&scene, &cause, 3, &cause.message).await?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    eventually("a pod of v1 crashes", PATIENCE, async || {
        say_of_pods(&twin, "v1", &crash).await.map(drop)
    })
    .await?;
    ensure_waits_silently(&twin, &["CrashLoopBackOff"]).await?;
    let crashing = serde_json::to_string(&pods_of(&twin, "v1").await?)?;
    ensure!(crashing.contains("CrashLoopBackOff"), "{crashing}");
    let ours = "says `CrashLoop`, which pod and which container; `Failed` with reason \
                `RolloutFailed` when that lasts longer than `graceSeconds`";
    record(54, WAITS_SILENTLY, ours)
}

/// The nodes of the tests do not take turns, so the test says it for them.
#[tokio::test]
async fn case_56_an_image_that_cannot_be_pulled_is_one_trouble() -> Result<()> {
    const GRACE: i64 = 8;
    let (scene, twin) = (scene("case-56").await?, twin("case-56").await?);
    grace(&scene, GRACE).await?;
    both(&scene, &twin, async |scene| {
        deploy_stuck(scene, version("v1")).await?;
        scene.deploy(version("v2")).await
    })
    .await?;
    let turns = [
        not_pulled("ErrImagePull", NOT_FOUND),
        not_pulled("ImagePullBackOff", "Back-off pulling image"),
    ];
    start_rolling_out(&scene).await?;
    let cause = trouble(&scene, CauseKind::ImagePull, async || {
        say_of_pods(&scene, "v1", &turns[0]).await.map(drop)
    })
    .await?;
    assert!(cause.message.ends_with(NOT_FOUND), "{cause:?}");
    let mut told = vec![cause.clone()];
    let mut taken = 0;
    eventually("the request has ended", PATIENCE, async || {
        for turn in turns.iter().rev() {
            say_of_pods(&scene, "v1", turn).await?;
            taken += 1;
            // Long enough to be looked at.
            for _ in 0..5 {
                told.push(rollout(&scene).await?.cause.context("no cause")?);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
        ensure!(scene.status(REQUEST).await?.outcome.is_some(), "not yet");
        Ok(())
    })
    .await?;
    assert!(told.iter().all(|other| *other == cause), "{told:?}");
    assert!(taken > 2, "they took turns {taken} times");
    ensure_fails(&scene, &cause, GRACE, &cause.message).await?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    eventually("a pod of v1 has no image", PATIENCE, async || {
        say_of_pods(&twin, "v1", &turns[1]).await.map(drop)
    })
    .await?;
    ensure_waits_silently(&twin, &["ImagePull", "ErrImage"]).await?;
    let pulling = serde_json::to_string(&pods_of(&twin, "v1").await?)?;
    ensure!(pulling.contains("ImagePullBackOff"), "{pulling}");
    let ours = "says `ImagePull` without a break, from the first time on; `Failed` with reason \
                `RolloutFailed` when that lasts longer than `graceSeconds`";
    record(56, WAITS_SILENTLY, ours)
}

const NOT_FOUND: &str = "manifest unknown";

fn not_pulled(reason: &str, message: &str) -> Value {
    let image = format!("registry.broxiva.example/{APP}:v1");
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "app", "image": image, "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]})
}

/// Only an event tells of the volume, and it comes when nothing else changes any more. Anybody could have made it up, so it
/// ends nothing; the deadline does, and quotes it.
#[tokio::test]
async fn case_57_a_volume_that_cannot_be_mounted_is_told() -> Result<()> {
    let (scene, twin) = (scene("case-57").await?, twin("case-57").await?);
    scene
        .policy(json!({"rollout": {"graceSeconds": 1, "timeoutSeconds": 20}}))
        .await?;
    both(&scene, &twin, async |scene| {
        let missing = json!([{"name": "tls", "secret": {"secretName": "nowhere"}}]);
        let v1 = version("v1").set("/spec/template/spec/volumes", missing);
        deploy_stuck(scene, v1).await?;
        let v2 = version("v2").set("/spec/template/spec/volumes", json!([]));
        scene.deploy(v2).await
    })
    .await?;
    let request = start_rolling_out(&scene).await?;
    // Secrets may not be looked at in this namespace, which the plan says.
    let risks = planned(&request)?.risks;
    let unseen = risks.iter().find(|risk| risk.kind == RiskKind::References);
    ensure!(
        unseen.is_some_and(|risk| risk.message.contains("Secret nowhere")),
        "{risks:?}"
    );
    let creating = json!({"phase": "Pending", "containerStatuses": [{
        "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}},
    }]});
    eventually("the pods wait for their containers", PATIENCE, async || {
        say_of_pods(&scene, "v1", &creating).await?;
        let pods = serde_json::to_string(&pods_of(&scene, "v1").await?)?;
        ensure!(!pods.contains("\"running\""), "{pods}");
        Ok(())
    })
    .await?;
    tokio::time::sleep(A_WHILE).await;
    ensure!(rollout(&scene).await?.cause.is_none());
    say_failed_mount(&scene).await?;
    let cause = trouble(&scene, CauseKind::Volume, async || Ok(())).await?;
    ensure!(cause.message.contains(FAILED_MOUNT), "{cause:?}");
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutTimedOut)?;
    ensure!(
        outcome.message.contains(FAILED_MOUNT),
        "{}",
        outcome.message
    );
    ensure!(outcome.at >= rollout(&scene).await?.deadline, "{outcome:?}");

    undo(&twin, &[]).await?.ensure_to("v1")?;
    ensure_waits_silently(&twin, &["nowhere", "tls", "FailedMount"]).await?;
    let ours = "says `Volume` and what the kubelet says in its event; `Failed` with reason \
                `RolloutTimedOut`, and these words, at the end of `timeoutSeconds`: anybody may write Events";
    record(57, WAITS_SILENTLY, ours)
}

pub const FAILED_MOUNT: &str =
    "MountVolume.SetUp failed for volume \"tls\" : secret \"nowhere\" not found";

/// An event about each pod of version 1, as a kubelet writes it.
async fn say_failed_mount(scene: &Scene) -> Result<()> {
    let mount = (User::Admin, "FailedMount", FAILED_MOUNT);
    say_in_events(scene, mount).await
}

/// The same of anything, by anybody.
pub async fn say_in_events(
    scene: &Scene,
    (user, reason, message): (User, &str, &str),
) -> Result<()> {
    let api: Api<Event> = Api::namespaced(scene.client(user).await?, scene.ns());
    for pod in pods_of(scene, "v1").await? {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let name = pod.metadata.name.unwrap_or_default();
        let event = json!({
            "metadata": {"name": format!("{name}.{}", reason.to_lowercase()), "namespace": scene.ns()},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": scene.ns(),
                "name": name, "uid": pod.metadata.uid,
            },
            "type": "Warning", "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now, "source": {"component": "kubelet"},
        });
        api.create(&PostParams::default(), &serde_json::from_value(event)?)
            .await?;
    }
    Ok(())
}

/// Version 1 wants a node that is kept for this namespace, of which there is none.
async fn picky(scene: &Scene) -> Result<()> {
    let picky = json!({"testkit.broxiva.com/node": "fake", "testkit.broxiva.com/for": scene.ns()});
    let v1 = version("v1").set("/spec/template/spec/nodeSelector", picky);
    scene.apply_deployment(v1).await?;
    let anywhere = json!({"testkit.broxiva.com/node": "fake"});
    let v2 = version("v2").set("/spec/template/spec/nodeSelector", anywhere);
    scene.deploy(v2).await?;
    Ok(())
}

/// Keeps a node for this namespace, or does not any more.
async fn keep_node(scene: &Scene, node: &str, keep: bool) -> Result<()> {
    let label = if keep {
        format!("testkit.broxiva.com/for={}", scene.ns())
    } else {
        "testkit.broxiva.com/for-".to_owned()
    };
    let ran = kubectl(scene, &["label", "node", node, &label, "--overwrite"]).await?;
    ran.ensure_ok("labeled")
}

#[tokio::test]
async fn case_58_no_node_for_a_while_is_no_failure() -> Result<()> {
    let (scene, twin) = (scene("case-58").await?, twin("case-58").await?);
    both(&scene, &twin, picky).await?;
    start_rolling_out(&scene).await?;
    let cause = trouble(&scene, CauseKind::Unschedulable, async || Ok(())).await?;
    ensure!(cause.message.contains("nodes are available"), "{cause:?}");
    ensure!(scene.status(REQUEST).await?.outcome.is_none());
    keep_node(&scene, "fake-2", true).await?;
    let ended = scene.wait_for_end(REQUEST).await;
    keep_node(&scene, "fake-2", false).await?;
    let (request, outcome) = ended?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(
        progress(&request)?.rollout.context("no rollout")?.cause,
        None
    );
    ensure_answers(&scene, &[200])?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    let watching = watch(&twin, &[]).await?;
    eventually("a pod finds no node", PATIENCE, async || {
        let found = serde_json::to_string(&pods_of(&twin, "v1").await?)?;
        ensure!(found.contains("Unschedulable"), "{found}");
        Ok(())
    })
    .await?;
    keep_node(&twin, "fake-1", true).await?;
    let ended = watching.end().await;
    keep_node(&twin, "fake-1", false).await?;
    let ended = ended?;
    ended.ensure_ok(SUCCESS)?;
    ensure!(!ended.said().contains("Unschedulable"));
    let kubectl = format!("`rollout status` waits, does not say why, and then `{SUCCESS}`");
    let ours = "says `Unschedulable` and why, and then `Succeeded`; `Failed` with reason \
                `RolloutFailed` only when it lasts longer than `graceSeconds`";
    record(58, &kubectl, ours)
}

#[tokio::test]
async fn case_58_no_node_for_too_long_is_a_failure() -> Result<()> {
    let scene = scene("case-58-long").await?;
    grace(&scene, 2).await?;
    picky(&scene).await?;
    start_rolling_out(&scene).await?;
    let cause = trouble(&scene, CauseKind::Unschedulable, async || Ok(())).await?;
    ensure_fails(&scene, &cause, 2, "nodes are available").await
}
