//! A request is held by its finalizer before anything else is written for it.

use crate::world::Scene;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rollback_api::{FINALIZER, RollbackRequestStatus};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::{Next, Step};

/// A request that nobody has looked at yet.
fn new() -> Scene {
    let mut scene = Scene::default();
    scene.request.metadata.finalizers = None;
    scene
}

#[test]
fn the_finalizer_comes_first_and_alone() {
    let mut scene = new();
    let decision = scene.pass_all();
    assert_eq!(decision.steps, [Step::AddFinalizer]);
    assert_eq!(decision.next, Next::Again);
    let nothing = RollbackRequestStatus::default();
    assert_eq!(decision.status, nothing, "something is written before");
    assert_eq!(
        scene.request.metadata.finalizers,
        Some(vec![FINALIZER.to_owned()])
    );
    scene.until(Phase::AwaitingApproval);
    assert!(scene.status().plan.is_some());
}

#[test]
fn the_finalizers_of_others_are_no_hold() {
    let mut scene = new();
    scene.request.metadata.finalizers = Some(vec!["example.com/mine".to_owned()]);
    assert_eq!(scene.pass_all().steps, [Step::AddFinalizer]);
    assert_eq!(scene.request.metadata.finalizers.as_ref().unwrap().len(), 2);
}

/// Whoever takes it away by hand while the request goes on has it back before the next write.
#[test]
fn it_is_written_again_before_anything_else() {
    let mut planned = Scene::default();
    planned.until(Phase::AwaitingApproval);
    for mut scene in [
        planned,
        Scene::default().approved(),
        Scene::default().reverted(),
    ] {
        scene.request.metadata.finalizers = None;
        let before = scene.request.status.clone();
        let decision = scene.pass_all();
        assert_eq!(decision.steps, [Step::AddFinalizer]);
        assert_eq!(Some(decision.status), before);
    }
}

/// It is too late to hold what goes: the API server takes no new finalizer then, and nothing may be written without.
#[test]
fn what_goes_without_being_held_is_left_alone() {
    let mut scene = new();
    scene.request.metadata.finalizers = Some(vec!["example.com/mine".to_owned()]);
    scene.request.metadata.deletion_timestamp = Some(Time(scene.now));
    let decision = scene.pass_all();
    assert_eq!(decision.steps, []);
    assert_eq!(decision.next, Next::Wait { until: None });
    assert_eq!(decision.status, RollbackRequestStatus::default());
}
