//! Anybody who may create Events can make some up. They explain, and end nothing: what ends a rollout is what the status of
//! its pods shows, or its deadline.

use crate::world::{Scene, at, digest, set_counts};
use rollback_api::status::{Cause, CauseKind};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::phase::Phase;
use serde_json::{Value, json};

/// The old template is in place, and its pods come up slowly.
fn rolling(fields: &Value) -> Scene {
    let mut scene = Scene::new(fields).reverted();
    scene.edit(|deployment| {
        deployment["status"]["observedGeneration"] = deployment["metadata"]["generation"].clone();
        set_counts(deployment, 3, 3, 0);
    });
    scene
}

fn uid_of_set(scene: &Scene) -> String {
    let sets = &scene.target("api").replica_sets;
    let set = sets
        .iter()
        .find(|set| set.template().digest() == digest("v1"));
    set.unwrap().uid().to_owned()
}

/// Three pods of the old version with this status.
fn put(scene: &mut Scene, status: &Value) {
    let owner = uid_of_set(scene);
    let pod = |name: &str| {
        json!({
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
                "ownerReferences": [{"kind": "ReplicaSet", "controller": true, "uid": owner}]},
            "spec": {"nodeName": "node"}, "status": status,
        })
    };
    scene.seen().pods = ["a", "b", "c"].map(pod).to_vec();
}

/// What somebody says of each pod.
fn say(scene: &mut Scene, reason: &str, message: &str) {
    let event = |name: &str| {
        json!({
            "reason": reason, "message": message, "type": "Warning", "lastTimestamp": "2026-11-23T14:10:00Z",
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": name, "uid": format!("uid-{name}")},
        })
    };
    let events = ["a", "b", "c"].map(event);
    scene.seen().events.extend(events);
}

fn creating() -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "api", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}}}]})
}

fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [{"name": "api", "ready": false, "restartCount": 0,
        "state": {"running": {}}}]})
}

fn restarted(exit: i64) -> Value {
    json!({"phase": "Running", "containerStatuses": [{"name": "api", "ready": false, "restartCount": 1,
        "state": {"running": {}}, "lastState": {"terminated": {"exitCode": exit, "reason": "Error"}}}]})
}

fn unpullable() -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "api", "image": "api:v1", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}}]})
}

fn cause(scene: &Scene) -> Option<Cause> {
    let target = scene.status().targets.into_iter().next().unwrap();
    target.rollout.unwrap().cause
}

/// Status of the pods, what is said of them, and what kind that is.
fn lies() -> [(Value, &'static str, &'static str, CauseKind); 6] {
    let mount = "MountVolume.SetUp failed for volume \"tls\" : secret \"nowhere\" not found";
    [
        (creating(), "FailedMount", mount, CauseKind::Volume),
        (creating(), "FailedAttachVolume", "busy", CauseKind::Volume),
        (creating(), "FailedMapVolume", "busy", CauseKind::Volume),
        (
            json!({"phase": "Pending"}),
            "FailedMount",
            mount,
            CauseKind::Volume,
        ),
        (
            running(),
            "Unhealthy",
            "Liveness probe failed: refused",
            CauseKind::Unready,
        ),
        (
            restarted(137),
            "Unhealthy",
            "Startup probe failed: refused",
            CauseKind::Unready,
        ),
    ]
}

#[test]
fn an_event_ends_nothing_before_the_deadline() {
    for (status, reason, message, kind) in lies() {
        for fields in [json!({}), json!({"rollout": {"onFailure": "Restore"}})] {
            let mut scene = rolling(&fields);
            put(&mut scene, &status);
            say(&mut scene, reason, message);
            scene.settle();
            assert_eq!(cause(&scene).unwrap().kind, kind, "it is told");
            let deadline = scene.status().targets[0].rollout.clone().unwrap().deadline;
            scene.now = at(deadline.as_second() - at(0).as_second() - 1);
            scene.settle();
            assert_eq!(scene.phase(), Phase::RollingOut, "{reason}");
            scene.roll_out();
            scene.seen().pods.clear();
            scene.ends(RequestState::Succeeded, Reason::Unverified);
        }
    }
}

#[test]
fn the_deadline_ends_it_and_quotes_the_event() {
    for (status, reason, message, _) in lies() {
        let mut scene = rolling(&json!({}));
        put(&mut scene, &status);
        say(&mut scene, reason, message);
        scene.settle();
        scene.now = scene.status().targets[0].rollout.clone().unwrap().deadline;
        let outcome = scene.ends(RequestState::Failed, Reason::RolloutTimedOut);
        let quoted = rollback_core::message::redact::redact(message);
        assert!(
            outcome.message.contains(quoted.trim_end_matches('.')),
            "{}",
            outcome.message
        );
    }
}

/// The twin: the status of the pods shows that it does not come up.
#[test]
fn what_the_status_shows_ends_it_after_the_grace() {
    for (status, kind) in [
        (unpullable(), CauseKind::ImagePull),
        (restarted(1), CauseKind::CrashLoop),
    ] {
        let mut scene = rolling(&json!({}));
        put(&mut scene, &status);
        scene.settle();
        let since = cause(&scene).unwrap().since;
        let seconds = since.as_second() - at(0).as_second();
        scene.now = at(seconds + 59);
        scene.settle();
        assert_eq!(scene.phase(), Phase::RollingOut);
        scene.now = at(seconds + 60);
        scene.ends(RequestState::Failed, Reason::RolloutFailed);
        assert_eq!(cause(&scene).unwrap().kind, kind);
    }
}

/// No Event takes the place of what the status shows, however many pods somebody says it of.
#[test]
fn an_event_hides_nothing() {
    let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/3 nodes"}]});
    for (status, kind) in [
        (unpullable(), CauseKind::ImagePull),
        (unscheduled, CauseKind::Unschedulable),
        (restarted(1), CauseKind::CrashLoop),
    ] {
        let mut scene = rolling(&json!({}));
        put(&mut scene, &creating());
        scene.seen().pods[0]["status"] = status;
        for (_, reason, message, _) in lies() {
            say(&mut scene, reason, message);
        }
        scene.settle();
        assert_eq!(cause(&scene).unwrap().kind, kind);
    }
}
