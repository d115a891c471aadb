//! What may be done about a rollout that does not go on, and when.

use crate::world::{Move, Scene, replica_set, sets, uid_of};
use rollback_core::execution::step::Step;
use serde_json::{Value, json};

/// Scene times are seconds after 14:00; by 14:00:20 at the latest this pod should have been gone.
const GONE_BY: &str = "2026-11-23T14:00:20Z";

fn leaving(name: &str, owner: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
        "deletionTimestamp": GONE_BY, "deletionGracePeriodSeconds": 30,
        "ownerReferences": [{"kind": "ReplicaSet", "uid": owner, "controller": true}]}})
}

/// The old template is in place, and these pods are on their way out.
fn scene(policy: &Value, pods: Vec<Value>) -> Scene {
    let mut scene = Scene::default().with_policy(policy.clone()).reverted();
    let history = sets([replica_set("v1", "1"), replica_set("v2", "2")]);
    assert_eq!(history[1].controller_uid(), Some(uid_of("api").as_str()));
    scene.seen().leaving_from = history;
    scene.seen().leaving = pods;
    scene.settle();
    scene
}

fn allowed() -> Value {
    json!({"remedies": {"forceDeleteAfterSeconds": 60}})
}

fn deleted(taken: &Move) -> Option<&str> {
    match taken {
        Move::Write(Step::ForceDelete { pod, uid, workload }) => {
            assert_eq!(
                (uid, workload.name.as_str()),
                (&format!("uid-{pod}"), "api")
            );
            Some(pod)
        }
        _ => None,
    }
}

fn later(scene: &mut Scene, time: &str) {
    scene.now = time.parse().unwrap();
}

#[test]
fn a_pod_that_hangs_is_deleted_by_force_when_its_time_is_over() {
    let mut scene = scene(
        &allowed(),
        vec![leaving("old-a", "rs-v2"), leaving("old-b", "rs-v1")],
    );
    let due = "2026-11-23T14:01:20Z".parse().unwrap();
    assert_eq!(scene.decide(), Move::Wait { until: Some(due) });
    assert!(scene.status().targets[0].warnings.is_empty());
    later(&mut scene, "2026-11-23T14:01:20Z");
    // It is written down in the status that is committed before.
    let before = scene.decided().targets[0].warnings.clone();
    assert!(before[0].contains("Pod old-a hung"), "{before:?}");
    assert_eq!(deleted(&scene.pass()), Some("old-a"));
    // Nothing came of it: the same again, and nothing is told twice.
    assert_eq!(deleted(&scene.pass()), Some("old-a"));
    assert_eq!(scene.status().targets[0].warnings, before);
    // Only a finalizer keeps it: then deleting it again does nothing.
    scene.seen().leaving[0]["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    assert_eq!(deleted(&scene.pass()), Some("old-b"));
    scene.seen().leaving.clear();
    assert_eq!(deleted(&scene.pass()), None);
    assert_eq!(scene.status().targets[0].warnings.len(), 2);
}

#[test]
fn only_where_the_policy_says_so() {
    let mut scene = scene(&json!({}), vec![leaving("old-a", "rs-v2")]);
    later(&mut scene, "2026-11-23T14:02:00Z");
    assert_eq!(deleted(&scene.pass()), None);
}

#[test]
fn only_pods_of_this_deployment_that_are_on_their_way_out() {
    let adopted = {
        let mut pod = leaving("adopted", "rs-v2");
        pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
        pod
    };
    let living = {
        let mut pod = leaving("living", "rs-v2");
        pod["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("deletionTimestamp");
        pod
    };
    let pods = vec![
        leaving("foreign", "rs-of-another"),
        adopted,
        living,
        leaving("nobody", ""),
    ];
    let mut scene = scene(&allowed(), pods);
    // A ReplicaSet that the selector finds and another Deployment owns.
    let mut other = replica_set("v3", "3");
    other["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    scene.seen().leaving_from.extend(sets([other]));
    scene.seen().leaving.push(leaving("cousin", "rs-v3"));
    later(&mut scene, "2026-11-23T14:02:00Z");
    assert_eq!(deleted(&scene.pass()), None);
    assert!(scene.status().targets[0].warnings.is_empty());
}

#[test]
fn what_the_api_server_refuses_is_said_and_left() {
    let mut scene = scene(&allowed(), vec![leaving("old-a", "rs-v2")]);
    scene.seen().may_not_delete = true;
    later(&mut scene, "2026-11-23T14:02:00Z");
    assert_eq!(deleted(&scene.pass()), None);
    let warnings = scene.status().targets[0].warnings.clone();
    assert!(
        warnings[0].contains("rollback-force-delete"),
        "{warnings:?}"
    );
}
