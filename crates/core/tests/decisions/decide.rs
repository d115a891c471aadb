//! The whole way, step by step, and every guard on it.

use crate::world::{
    CAUSE, DEPLOYMENT, Move, REQUEST, Scene, approve, at, deployment, digest, patch, replica_set,
    set_progressing, sets, template,
};
use jiff::SignedDuration;
use rollback_api::status::Progressing;
use rollback_api::{Reason, RequestState};
use rollback_core::decide::decide;
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::{Next, Revert, Step};
use rollback_core::observed::{Fetched, Rejection};
use serde_json::json;

#[test]
fn the_way_of_a_request_that_ends_well() {
    let mut scene = Scene::default();
    let mut way = Vec::new();
    for _ in 0..30 {
        let step = scene.pass();
        way.push(format!("{} {}", scene.state(), step.name()));
        match (scene.phase(), &step) {
            (Phase::AwaitingApproval, Move::Wait { .. }) => {
                approve(&mut scene.request, "bob@broxiva.com");
            }
            (Phase::RollingOut, Move::Wait { .. }) => scene.roll_out(),
            (_, Move::Done) => break,
            _ => {}
        }
    }
    assert_eq!(
        way,
        [
            "AwaitingApproval Again",
            "AwaitingApproval Wait",
            "BackingUp Again",
            "BackingUp Claim",
            "BackingUp BackUp",
            "Reverting Revert",
            "RollingOut Again",
            "RollingOut Wait",
            "Verifying Again",
            "Succeeded/Unverified Again",
            "Succeeded/Unverified Publish",
            "Succeeded/Unverified Release",
            "Succeeded/Unverified DropFinalizer",
            "Succeeded/Unverified Done",
        ]
    );
    let ledger = scene.observed.targets[0].ledger.found().unwrap();
    assert_eq!(ledger.claim, None);
    let rollback = &ledger.rollbacks[0];
    assert_eq!(
        (rollback.request.as_str(), rollback.request_uid.as_str()),
        ("api-5xx", REQUEST)
    );
    assert_eq!(rollback.from_digest, digest("v2"));
    assert_eq!(rollback.to_digest, digest("v1"));
    assert_eq!(rollback.outcome, RequestState::Succeeded);
    assert_eq!(Some(rollback.at), scene.status().targets[0].reverted_at);
    // The same request made again does nothing, whatever runs then.
    let mut again = Scene::default();
    again.observed.targets[0].ledger = scene.observed.targets[0].ledger.clone();
    again.request.metadata.uid = Some("another".to_owned());
    again.ends(RequestState::Succeeded, Reason::AlreadyRolledBack);
}

#[test]
fn case_27_28_29_30_31_the_patch_of_the_revert() {
    let scene = Scene::default().intended();
    let Revert { workload, patch } = scene.revert();
    assert_eq!(workload.to_string(), "Deployment/api");
    assert_eq!(
        patch,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": DEPLOYMENT},
            {"op": "test", "path": "/metadata/generation", "value": 4},
            {"op": "replace", "path": "/spec/template", "value": template("v1")},
            {"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": CAUSE},
        ])
    );
}

#[test]
fn the_patch_of_a_deployment_without_annotations() {
    let mut scene = Scene::default();
    scene.edit(|d| {
        d["metadata"].as_object_mut().unwrap().remove("annotations");
    });
    let scene = scene.intended();
    assert_eq!(
        scene.revert().patch,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": DEPLOYMENT},
            {"op": "test", "path": "/metadata/generation", "value": 4},
            {"op": "test", "path": "/metadata/annotations", "value": null},
            {"op": "add", "path": "/metadata/annotations", "value": {}},
            {"op": "replace", "path": "/spec/template", "value": template("v1")},
            {"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": CAUSE},
        ])
    );
    // Annotations that came meanwhile are not replaced.
    let mut annotated = deployment("v2");
    patch::apply(&mut annotated, &scene.revert().patch).unwrap_err();
    let mut bare = scene.deployment().clone();
    patch::apply(&mut bare, &scene.revert().patch).unwrap();
    assert_eq!(
        bare["metadata"]["annotations"],
        json!({"kubernetes.io/change-cause": CAUSE})
    );
}

#[test]
fn the_write_changes_the_template_and_the_change_cause_only() {
    let mut scene = Scene::default().intended();
    let before = scene.deployment().clone();
    scene.pass();
    let mut expected = before;
    expected["spec"]["template"] = template("v1");
    expected["metadata"]["generation"] = json!(5);
    expected["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(CAUSE);
    assert_eq!(scene.deployment(), &expected);
}

#[test]
fn case_33_another_size_is_another_generation_and_the_same_plan() {
    let scene = Scene::default().intended();
    let sent = scene.revert().patch;
    for generation in [5, 9] {
        let mut scene = scene.clone();
        scene.edit(|d| {
            d["metadata"]["generation"] = json!(generation);
            d["spec"]["replicas"] = json!(7);
        });
        // The write that was sent did not hold: its generation had passed.
        scene.seen().rejection = Some(Rejection {
            patch: sent.clone(),
            code: 422,
            message: "the server rejected our request due to an error in our request".to_owned(),
        });
        assert_eq!(scene.revert().patch[1]["value"], json!(generation));
        assert_eq!(scene.status().approvals.len(), 1);
        scene.until(Phase::RollingOut);
        assert_eq!(scene.deployment()["spec"]["replicas"], json!(7));
    }
}

/// A pass died between its intent and its write, or between the write and the next look. What was written since may
/// be the revert itself, made and taken back.
#[test]
fn a_write_in_doubt_is_not_made_again() {
    let scene = Scene::default().intended();
    for (generation, doubtful) in [(4, false), (5, false), (6, true), (9, true)] {
        let mut scene = scene.clone();
        scene.edit(|d| d["metadata"]["generation"] = json!(generation));
        if doubtful {
            let outcome = scene.ends(RequestState::Superseded, Reason::TemplateChanged);
            assert!(
                outcome.message.contains("nobody can tell"),
                "{}",
                outcome.message
            );
            assert_eq!(scene.deployment()["spec"]["template"], template("v2"));
            let ledger = scene.target("api").ledger.found().unwrap();
            assert_eq!(
                (&ledger.claim, ledger.rollbacks.len()),
                (&None, 1),
                "better remembered once too often"
            );
        } else {
            assert_eq!(scene.revert().patch[1]["value"], json!(generation));
        }
    }
    // A refusal of another generation than that of the intent says nothing about it.
    let mut other = scene.clone();
    let mut patch = scene.revert().patch;
    patch[1]["value"] = json!(3);
    other.seen().rejection = Some(Rejection {
        patch,
        code: 422,
        message: "no".to_owned(),
    });
    other.edit(|d| d["metadata"]["generation"] = json!(6));
    other.ends(RequestState::Superseded, Reason::TemplateChanged);
    // One of that generation says it, unless an attempt before it came through.
    let mut known = scene.clone();
    known.seen().rejection = Some(Rejection {
        patch: scene.revert().patch,
        code: 422,
        message: "no".to_owned(),
    });
    known.edit(|d| d["metadata"]["generation"] = json!(6));
    let mut second = known.clone();
    second.seen().accepted = Some(5);
    assert_eq!(known.revert().patch[1]["value"], json!(6));
    second.ends(RequestState::Superseded, Reason::TemplateChanged);
}

/// What another process intended, it may have done.
#[test]
fn a_refusal_shows_nothing_to_who_took_the_intent_over() {
    let refused = |mut scene: Scene| {
        scene.seen().rejection = Some(Rejection {
            patch: scene.revert().patch,
            code: 422,
            message: "no".to_owned(),
        });
        scene.edit(|d| d["metadata"]["generation"] = json!(6));
        scene
    };
    // A process that has just begun finds the intent, and says so before it writes.
    let mut heir = Scene::default().intended();
    let first = heir.clone();
    heir.seen().intended = None;
    let sent = heir.commit();
    assert!(matches!(sent, Move::Write(Step::Revert(_))));
    let intent = heir.status().targets[0].revert.clone().unwrap();
    assert!(intent.taken_over && intent.generation == 4);
    refused(heir.clone()).ends(RequestState::Superseded, Reason::TemplateChanged);
    // The one that had stored it lives as well, and is refused: it can have been the heir who was not.
    let mut late = heir.clone();
    late.seen().intended = Some(4);
    refused(late).ends(RequestState::Superseded, Reason::TemplateChanged);
    // Nobody came between: it was not written.
    assert_eq!(refused(first).revert().patch[1]["value"], json!(6));
    // For another generation it is the intent of who stores it now.
    heir.edit(|d| d["metadata"]["generation"] = json!(5));
    heir.commit();
    let intent = heir.status().targets[0].revert.clone().unwrap();
    assert!(!intent.taken_over && intent.generation == 5);
}

#[test]
fn case_32_40_a_refusal_is_final_for_the_same_patch_only() {
    let scene = Scene::default().intended();
    let mut refused = scene.clone();
    refused.observed.targets[0].rejection = Some(Rejection {
        patch: scene.revert().patch,
        code: 422,
        message: "spec.template.spec.containers: Required value.".to_owned(),
    });
    let mut moved = refused.clone();
    let outcome = refused.ends(RequestState::Failed, Reason::PatchRejected);
    assert!(
        outcome
            .message
            .contains("(HTTP 422): spec.template.spec.containers: Required value. Nothing"),
        "{}",
        outcome.message
    );
    assert_eq!(refused.deployment(), &deployment("v2"));
    // The failed test of a generation that has passed: read again, and write again.
    moved.edit(|d| d["metadata"]["generation"] = json!(5));
    assert_eq!(moved.decide().name(), "Revert");
}

#[test]
fn case_06_a_crash_after_the_intent_or_the_write_changes_nothing() {
    // The intent is stored, the write never happened: it is written.
    let scene = Scene::default().intended();
    assert_eq!(scene.decide().name(), "Revert");
    // The write happened, nobody lived to say so: it is seen, and not resolved again.
    let mut scene = scene;
    let step = scene.decide();
    scene.take(&step);
    scene.observed.targets[0].replica_sets = sets([replica_set("v1", "3"), replica_set("v2", "2")]);
    let status = scene.decided();
    assert_eq!(scene.decide(), Move::Again);
    assert_eq!(Phase::of(&status), Phase::RollingOut);
    assert_eq!(status.targets[0].reverted_at, Some(at(5)));
    assert_eq!(
        status.targets[0].rollout.as_ref().unwrap().deadline,
        at(305)
    );
}

#[test]
fn the_intent_keeps_what_was_said_before() {
    let mut scene = Scene::default();
    scene.edit(|d| {
        set_progressing(
            d,
            "False",
            "ProgressDeadlineExceeded",
            "2026-11-23T13:59:00Z",
        );
    });
    let scene = scene.intended();
    let said = Progressing {
        reason: "ProgressDeadlineExceeded".to_owned(),
        last_update_time: "2026-11-23T13:59:00Z".to_owned(),
    };
    let revert = scene.status().targets[0].revert.clone().unwrap();
    assert_eq!(
        (revert.intended_at, revert.progressing),
        (at(5), Some(said.clone()))
    );
    // What is said after the write but before the Deployment controller has seen it is of before, too.
    for (seen_by_controller, expected) in
        [(4, "NewReplicaSetCreated"), (5, "ProgressDeadlineExceeded")]
    {
        let mut scene = scene.clone();
        scene.pass();
        scene.edit(|d| {
            d["status"]["observedGeneration"] = json!(seen_by_controller);
            set_progressing(d, "True", "NewReplicaSetCreated", "2026-11-23T14:00:01Z");
        });
        scene.pass();
        let kept = scene.status().targets[0]
            .revert
            .clone()
            .unwrap()
            .progressing
            .unwrap();
        assert_eq!(kept.reason, expected, "{seen_by_controller}");
    }
}

#[test]
fn a_guard_that_goes_away_before_the_write_voids_the_approvals() {
    let mut scene = Scene::default().intended();
    scene.observed.guard.holes.push("x".to_owned());
    let status = scene.decided();
    assert_eq!(scene.decide(), Move::Again);
    assert!(status.approvals.is_empty());
    assert_eq!(Phase::of(&status), Phase::AwaitingApproval);
    assert!(status.targets[0].revert.is_none());
}

#[test]
fn what_is_not_known_is_waited_for() {
    type Blind = fn(&mut Scene);
    let mut planning = Scene::default();
    planning.observed.targets[0].deployment = Fetched::Unknown;
    planning.waits(1);
    let approved = Scene::default().approved();
    let claimed = {
        let mut scene = approved.clone();
        scene.pass();
        scene
    };
    let intended = Scene::default().intended();
    let cases: [(&str, &Scene, Blind); 6] = [
        ("ledger", &approved, |scene| {
            scene.observed.targets[0].ledger = Fetched::Unknown;
        }),
        ("access", &approved, |scene| {
            scene.observed.targets[0].access = Fetched::Unknown;
        }),
        ("no access", &approved, |scene| {
            scene.observed.targets[0].access = Fetched::Absent;
        }),
        ("backup", &claimed, |scene| {
            scene.observed.targets[0].backup = Fetched::Unknown;
        }),
        ("ledger at the write", &intended, |scene| {
            scene.observed.targets[0].ledger = Fetched::Unknown;
        }),
        ("access at the write", &intended, |scene| {
            scene.observed.targets[0].access = Fetched::Unknown;
        }),
    ];
    for (what, scene, blind) in cases {
        let mut scene = scene.clone();
        blind(&mut scene);
        let step = scene.decide();
        assert_eq!(step, Move::Wait { until: Some(at(6)) }, "{what}");
    }
    // No policy would be that of production, no ledger a clean record: not so when they were not read.
    let staging = Scene::staging();
    let mut awaiting = Scene::staging();
    awaiting.until(Phase::AwaitingApproval);
    let cases: [(&str, &Scene, Blind); 5] = [
        ("policy", &staging, |scene| {
            scene.observed.policy = Fetched::Unknown;
        }),
        ("ledger", &staging, |scene| {
            scene.observed.targets[0].ledger = Fetched::Unknown;
        }),
        ("opted in", &staging, |scene| {
            scene.observed.opted_in = Fetched::Unknown;
        }),
        ("policy at the approval", &awaiting, |scene| {
            scene.observed.policy = Fetched::Unknown;
        }),
        ("policy at the write", &intended, |scene| {
            scene.observed.policy = Fetched::Unknown;
        }),
    ];
    for (what, scene, blind) in cases {
        let mut scene = scene.clone();
        blind(&mut scene);
        assert_eq!(scene.decide(), Move::Wait { until: Some(at(6)) }, "{what}");
        assert_eq!(scene.decided().plan, scene.status().plan, "{what}");
    }
    let reverted = {
        let mut scene = Scene::default().reverted();
        scene.observed.targets[0].deployment = Fetched::Unknown;
        scene
    };
    reverted.waits(1);
}

#[test]
fn waiting_looks_again_at_the_minute_and_at_the_expiry() {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    scene.waits(60);
    scene.now = at(3590);
    scene.waits(10);
    let mut scene = Scene::default().reverted();
    scene.now = at(100);
    assert_eq!(
        scene.decide(),
        Move::Wait {
            until: Some(at(305))
        }
    );
}

/// What was read for another phase is no ground for anything, whatever it says.
#[test]
fn a_view_of_another_phase_is_read_again() {
    let mut awaiting = Scene::default();
    awaiting.until(Phase::AwaitingApproval);
    let mut ended = Scene::default().rolled_out();
    ended.until(Phase::Ended);
    // Each fits none of the others.
    let scenes = [
        Scene::default(),
        awaiting,
        Scene::default().reverted(),
        Scene::default().rolled_out(),
        ended,
    ];
    for (place, scene) in scenes.iter().enumerate() {
        let others = scenes.iter().enumerate();
        for (other, unfit) in others.filter(|(other, _)| *other != place) {
            let view = unfit.observed.view(&unfit.request, scene.now);
            let decision = decide(&scene.request, &view, scene.now);
            let next = Next::Wait {
                until: Some(scene.now + SignedDuration::from_secs(1)),
            };
            assert_eq!(
                (decision.next, decision.steps),
                (next, Vec::new()),
                "{place} {other}"
            );
            let (before, after) = (scene.status(), decision.status);
            assert_eq!(
                (after.plan, after.targets, after.outcome),
                (before.plan, before.targets, before.outcome),
                "{place} {other}"
            );
        }
    }
}
