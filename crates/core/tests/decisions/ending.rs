//! From the write to the end, and what is owed after it.

use crate::world::{Move, REQUESTER, Scene, annotate, at, deployment, template};
use rollback_api::{CANCELLED_BY, Reason, RequestState};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::Step;
use rollback_core::observed::Fetched;
use serde_json::json;

#[test]
fn a_spec_that_changed_or_a_requester_whom_nobody_knows_is_refused() {
    for generation in [0, 2, 3] {
        let mut scene = Scene::default();
        scene.request.metadata.generation = Some(generation);
        scene.ends(RequestState::Refused, Reason::SpecChanged);
        let mut scene = Scene::default().approved();
        scene.request.metadata.generation = Some(generation);
        scene.ends(RequestState::Refused, Reason::SpecChanged);
    }
    for requester in [None, Some(crate::world::person(""))] {
        let mut scene = Scene::default();
        scene.request.spec.requested_by = requester;
        scene.ends(RequestState::Refused, Reason::RequesterUnknown);
    }
}

#[test]
fn a_dry_run_publishes_the_plan_and_leaves_nothing() {
    let mut scene = Scene::new(&json!({"dryRun": true}));
    let outcome = scene.ends(RequestState::Succeeded, Reason::DryRun);
    let status = scene.status();
    assert!(outcome.message.contains(&status.plan.unwrap().digest));
    assert_eq!(
        (status.incident, &scene.observed.targets[0].ledger),
        (None, &Fetched::Absent)
    );
    assert_eq!(scene.deployment(), &deployment("v2"));
    assert_eq!(scene.request.metadata.finalizers, None);
}

#[test]
fn what_is_counted_is_kept() {
    let mut scene = Scene::default().reverted();
    scene.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        crate::world::set_counts(d, 4, 2, 1);
    });
    scene.pass();
    let rollout = scene.status().targets[0].rollout.clone().unwrap();
    assert_eq!(
        (rollout.desired, rollout.updated, rollout.available),
        (3, 2, 1)
    );
    assert_eq!((rollout.deadline, rollout.completed_at), (at(305), None));
    scene.now = at(50);
    scene.roll_out();
    scene.pass();
    let status = scene.status();
    let rollout = status.targets[0].rollout.clone().unwrap();
    assert_eq!(
        (rollout.desired, rollout.updated, rollout.available),
        (3, 3, 3)
    );
    assert_eq!(
        (rollout.deadline, rollout.completed_at),
        (at(305), Some(at(50)))
    );
    assert_eq!(
        status.targets[0].verification.clone().unwrap().deadline,
        at(170)
    );
}

#[test]
fn failures_after_the_write_say_what_to_do() {
    let mut scene = Scene::default().reverted();
    scene.now = at(305);
    let outcome = scene.ends(RequestState::Failed, Reason::RolloutTimedOut);
    for part in [
        "The old template stays in place",
        "kubectl describe rbr api-5xx",
    ] {
        assert!(outcome.message.contains(part), "{}", outcome.message);
    }
    assert_eq!(scene.deployment()["spec"]["template"], template("v1"));
    let rollbacks = &scene.observed.targets[0].ledger.found().unwrap().rollbacks;
    assert_eq!(rollbacks[0].outcome, RequestState::Failed);
}

#[test]
fn after_the_end_the_report_the_claim_and_the_finalizer() {
    let mut scene = Scene::default().rolled_out();
    scene.commit();
    assert_eq!(scene.state(), "Succeeded/Unverified");
    // Whatever is said now, it stays as it ended.
    annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    scene.now = at(99_999);
    let ended = scene.outcome();
    let Move::Write(Step::Publish(report)) = scene.commit() else {
        panic!("it reports");
    };
    for lost in [Fetched::Unknown, Fetched::Absent] {
        scene.observed.incident = lost;
        assert_eq!(scene.commit(), Move::Write(Step::Publish(report.clone())));
        assert_eq!(scene.status().incident, None);
    }
    scene.observed.incident = Fetched::Found(at(200));
    let Move::Write(Step::Release(ledger)) = scene.commit() else {
        panic!("it releases");
    };
    let incident = scene.status().incident.unwrap();
    assert_eq!(
        (incident.config_map.as_str(), incident.at),
        (report.name.as_str(), at(200))
    );
    let of = ledger.target_ref.name.as_str();
    assert_eq!((of, ledger.claim.as_ref()), ("api", None));
    // Once written, the report is not looked for again.
    scene.observed.incident = Fetched::Unknown;
    assert_eq!(scene.commit().name(), "Release");
    scene.act(&Step::Release(ledger));
    assert_eq!(scene.commit(), Move::Write(Step::DropFinalizer));
    scene.request.metadata.finalizers = Some(vec!["somebody.else/holds".to_owned()]);
    assert_eq!(scene.commit(), Move::Done);
    assert_eq!(scene.outcome(), ended);
}

#[test]
fn observed_generation_is_that_of_the_request() {
    let mut scene = Scene::default();
    scene.commit();
    assert_eq!(scene.status().observed_generation, 1);
    scene.request.metadata.generation = Some(2);
    scene.settle();
    assert_eq!(scene.status().observed_generation, 2);
}

#[test]
fn a_status_that_makes_no_sense_is_planned_again() {
    let mut scene = Scene::default().approved();
    let mut status = scene.status();
    status.targets.clear();
    scene.request.status = Some(status.clone());
    assert_eq!(scene.phase(), Phase::Planning);
    scene.commit();
    assert!(
        scene.status().approvals.is_empty(),
        "approvals are of a plan"
    );
    status.plan.as_mut().unwrap().targets.clear();
    assert_eq!(Phase::of(&status), Phase::Planning);
}
