//! Capacity for the old version: freed one Deployment after the other, given back at the end, and never forgotten.

use crate::world::{Scene, at, deployment_in, digest, set_counts, template_in};
use rollback_api::RequestState;
use rollback_core::decide::capacity::{candidates, is_wanted};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::Step;
use rollback_core::observed::{Deployment, Fetched};
use serde_json::{Value, json};

fn other(name: &str, replicas: i64) -> Fetched<Deployment> {
    let mut object = deployment_in(name, &template_in(name, "v1"));
    object["spec"]["replicas"] = json!(replicas);
    Fetched::Found(Deployment(object))
}

fn policy() -> Value {
    json!({"capacity": {"scaleDown": [
        {"name": "api"}, {"name": "reports"}, {"kind": "Deployment", "name": "batch"}, {"name": "gone"},
    ]}})
}

/// The old version's pods find no node; `reports` and `batch` may be scaled down.
fn crowded() -> Scene {
    let mut scene = Scene::default().with_policy(policy()).reverted();
    scene.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        set_counts(d, 3, 1, 2);
    });
    let sets = scene.target("api").replica_sets.clone();
    let set = sets
        .iter()
        .find(|set| set.template().digest() == digest("v1"))
        .unwrap();
    scene.of("api").pods = vec![json!({
        "metadata": {"name": "api-1", "ownerReferences": [{"controller": true, "uid": set.uid()}]},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/5 nodes are available: 5 Insufficient cpu."}]},
    })];
    scene.observed.capacity = [
        ("reports".to_owned(), other("reports", 2)),
        ("batch".to_owned(), other("batch", 5)),
        ("gone".to_owned(), Fetched::Absent),
    ]
    .into();
    scene
}

fn replicas(scene: &Scene, name: &str) -> i64 {
    scene.observed.capacity[name].found().unwrap().desired()
}

/// Carries out what was asked for, as the API server does: only while it is as the step says.
fn carry_out(scene: &mut Scene, steps: &[Step]) -> usize {
    let mut scaled = 0;
    for step in steps {
        match step {
            Step::Scale(scale) => {
                let seen = scene
                    .observed
                    .capacity
                    .get_mut(&scale.workload.name)
                    .unwrap();
                let Fetched::Found(Deployment(object)) = seen else {
                    continue;
                };
                if object["spec"]["replicas"] == json!(scale.from) {
                    object["spec"]["replicas"] = json!(scale.to);
                    scaled += 1;
                }
            }
            other => scene.act(other),
        }
    }
    scaled
}

/// Passes until nothing moves; how often something was scaled.
fn settle(scene: &mut Scene) -> usize {
    let mut scaled = 0;
    for _ in 0..60 {
        let before = scene.request.clone();
        let decision = scene.commit_all();
        scaled += carry_out(scene, &decision.steps);
        if decision.steps.is_empty() && before == scene.request {
            return scaled;
        }
    }
    panic!("it never comes to rest: {}", scene.state());
}

#[test]
fn nothing_is_made_smaller_unless_the_policy_names_it() {
    let mut scene = crowded();
    let plan = scene.status().plan.unwrap();
    assert!(!is_wanted(&plan, &scene.status()), "no cause is known yet");
    scene.pass();
    assert_eq!(
        candidates(&plan, &scene.status()),
        ["reports", "batch", "gone"],
        "never a target"
    );
    assert!(is_wanted(&plan, &scene.status()));
    let mut without = plan;
    without.rules.capacity.scale_down.clear();
    let mut status = scene.status();
    status.scaled_down.clear();
    status.plan = Some(without.clone());
    assert!(!is_wanted(&without, &status));
}

#[test]
fn capacity_is_freed_one_after_the_other_and_given_back() {
    let mut scene = crowded();
    assert_eq!(settle(&mut scene), 1);
    assert_eq!(
        (replicas(&scene, "reports"), replicas(&scene, "batch")),
        (0, 5)
    );
    let status = scene.status();
    assert_eq!(
        (status.scaled_down.len(), status.scaled_down[0].from),
        (1, 2)
    );
    // It does not suffice.
    scene.now = at(30);
    assert_eq!(settle(&mut scene), 1);
    assert_eq!(replicas(&scene, "batch"), 0);
    // Nothing is left that could be scaled down.
    scene.now = at(50);
    assert_eq!(settle(&mut scene), 0);
    scene.of("api").pods.clear();
    scene.roll_out();
    assert_eq!(settle(&mut scene), 2);
    assert_eq!(
        (replicas(&scene, "reports"), replicas(&scene, "batch")),
        (2, 5)
    );
    assert_eq!(scene.outcome().result, RequestState::Succeeded);
    assert!(
        scene
            .status()
            .scaled_down
            .iter()
            .all(|scaled| scaled.restored_at.is_some())
    );
    assert_eq!(scene.phase(), Phase::Ended);
}

#[test]
fn it_is_given_back_after_a_failure_too() {
    let mut scene = crowded();
    settle(&mut scene);
    scene.now = at(4000);
    settle(&mut scene);
    assert_eq!(scene.outcome().result, RequestState::Failed);
    assert_eq!(replicas(&scene, "reports"), 2);
}

#[test]
fn the_intent_comes_first_and_a_crash_repeats_nothing() {
    let mut scene = crowded();
    let mut times = 0;
    for _ in 0..8 {
        let decision = scene.commit_all();
        if let Some(Step::Scale(scale)) = decision.steps.first() {
            let scaled = &scene.status().scaled_down[0];
            assert_eq!(
                (&scaled.workload.name, scaled.from),
                (&scale.workload.name, scale.from),
                "intent first"
            );
            // The pass died before the write; the next one makes it, and then sees it.
            let again = scene.commit_all();
            assert_eq!(again.steps, decision.steps);
            times += carry_out(&mut scene, &again.steps);
        }
    }
    assert_eq!((times, replicas(&scene, "reports")), (1, 0));
}

#[test]
fn what_somebody_else_changed_is_theirs() {
    // Before it is scaled down.
    let mut scene = crowded();
    scene.pass();
    scene.pass();
    assert_eq!(scene.status().scaled_down.len(), 1);
    scene
        .observed
        .capacity
        .insert("reports".to_owned(), other("reports", 7));
    settle(&mut scene);
    assert_eq!(replicas(&scene, "reports"), 7);
    assert!(scene.status().scaled_down[0].taken_at.is_none());
    // Afterwards.
    let mut scene = crowded();
    settle(&mut scene);
    scene
        .observed
        .capacity
        .insert("reports".to_owned(), other("reports", 1));
    scene.of("api").pods.clear();
    scene.roll_out();
    settle(&mut scene);
    assert_eq!(replicas(&scene, "reports"), 1);
    // Another one with the same name.
    let mut scene = crowded();
    settle(&mut scene);
    let mut stranger = other("reports", 0);
    if let Fetched::Found(Deployment(object)) = &mut stranger {
        object["metadata"]["uid"] = json!("another");
    }
    scene
        .observed
        .capacity
        .insert("reports".to_owned(), stranger);
    scene.of("api").pods.clear();
    scene.roll_out();
    settle(&mut scene);
    assert_eq!(replicas(&scene, "reports"), 0);
}

#[test]
fn a_refusal_is_told_and_the_rollback_goes_on() {
    let mut scene = crowded();
    let refusals = [("reports", "forbidden"), ("batch", "forbidden")];
    scene.observed.capacity_refused = refusals
        .map(|(name, why)| (name.to_owned(), why.to_owned()))
        .into();
    assert_eq!(settle(&mut scene), 0);
    let warnings = &scene.status().targets[0].warnings;
    assert!(
        warnings.iter().any(|it| it.contains("rollback-scale-down")),
        "{warnings:?}"
    );
    scene.of("api").pods.clear();
    scene.roll_out();
    settle(&mut scene);
    assert_eq!(scene.outcome().result, RequestState::Succeeded);
}

#[test]
fn what_cannot_be_read_is_waited_for_before_the_request_lets_go() {
    let mut scene = crowded();
    settle(&mut scene);
    scene.of("api").pods.clear();
    scene.roll_out();
    let known = scene.observed.capacity.clone();
    scene.observed.capacity.clear();
    settle(&mut scene);
    assert!(scene.request.holds_finalizer(), "something is owed");
    assert!(scene.status().scaled_down[0].restored_at.is_none());
    scene.observed.capacity = known;
    settle(&mut scene);
    assert_eq!(replicas(&scene, "reports"), 2);
    assert!(!scene.request.holds_finalizer());
}
