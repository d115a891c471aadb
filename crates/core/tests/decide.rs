//! The whole way, step by step, and every guard on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::assigning_clones,
    clippy::format_collect,
    clippy::type_complexity,
    reason = "tables are long, and what is wrong in a test ends it"
)]

mod world;

use rollback_api::ledger::Claim;
use rollback_api::status::Progressing;
use rollback_api::{CANCELLED_BY, Reason, RevisionLedgerSpec, Word};
use rollback_core::artifact::backup_name;
use rollback_core::observed::{Access, Deployment, Rejection, Rival, Seen};
use rollback_core::step::{Phase, Revert, Step};
use serde_json::{Value, json};
use world::{
    DEPLOYMENT, REQUEST, REQUESTER, Scene, annotate, approve, at, deployment, digest, patch,
    replica_set, seen, set_progressing, sets, template,
};

const CAUSE: &str =
    "rollback to revision 1 by RollbackRequest api-5xx (7c9c41d6-8a9c-4c0e-9d3b-5d9b6f1f2a10)";

/// The name of a step.
fn name(step: &Step) -> &'static str {
    match step {
        Step::Wait { .. } => "Wait",
        Step::Again => "Again",
        Step::Claim { .. } => "Claim",
        Step::BackUp(_) => "BackUp",
        Step::Revert(_) => "Revert",
        Step::Publish(_) => "Publish",
        Step::Release { .. } => "Release",
        Step::DropFinalizer => "DropFinalizer",
        Step::Done => "Done",
    }
}

fn revert(scene: &Scene) -> Revert {
    match scene.decide().step {
        Step::Revert(revert) => revert,
        step => panic!("{step:?}"),
    }
}

/// Waits, and looks again after so many seconds.
fn waits(scene: &Scene, seconds: i64) {
    let now = scene.now.as_second() - at(0).as_second();
    let step = scene.decide().step;
    assert_eq!(
        step,
        Step::Wait {
            until: Some(at(now + seconds))
        }
    );
}

fn claimed_by(request: &str, uid: &str) -> RevisionLedgerSpec {
    RevisionLedgerSpec {
        deployment_uid: DEPLOYMENT.to_owned(),
        claim: Some(Claim {
            request: request.to_owned(),
            request_uid: uid.to_owned(),
        }),
        rollbacks: Vec::new(),
    }
}

#[test]
fn the_way_of_a_request_that_ends_well() {
    let mut scene = Scene::default();
    let mut way = Vec::new();
    for _ in 0..30 {
        let step = scene.pass();
        way.push(format!("{} {}", scene.word(), name(&step)));
        match (scene.phase(), &step) {
            (Phase::AwaitingApproval, Step::Wait { .. }) => {
                approve(&mut scene.request, "bob@broxiva.com");
            }
            (Phase::RollingOut, Step::Wait { .. }) => scene.roll_out(),
            (_, Step::Done) => break,
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
    let ledger = scene.observed.ledger.found().unwrap();
    assert_eq!(ledger.claim, None);
    let rollback = &ledger.rollbacks[0];
    assert_eq!(
        (rollback.request.as_str(), rollback.request_uid.as_str()),
        ("api-5xx", REQUEST)
    );
    assert_eq!(rollback.from_digest, digest("v2"));
    assert_eq!(rollback.to_digest, digest("v1"));
    assert_eq!(rollback.outcome, Word::Succeeded);
    assert_eq!(Some(rollback.at), scene.status().targets[0].reverted_at);
    // The same request made again does nothing, whatever runs then.
    let mut again = Scene::default();
    again.observed.ledger = scene.observed.ledger.clone();
    again.request.metadata.uid = Some("another".to_owned());
    again.ends(Word::Succeeded, Reason::AlreadyRolledBack);
}

#[test]
fn case_27_28_29_30_31_the_patch_of_the_revert() {
    let scene = Scene::default().intended();
    let Revert { deployment, patch } = revert(&scene);
    assert_eq!(deployment, "api");
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
        revert(&scene).patch,
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
    patch::apply(&mut annotated, &revert(&scene).patch).unwrap_err();
    let mut bare = scene.deployment().clone();
    patch::apply(&mut bare, &revert(&scene).patch).unwrap();
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
    let mut scene = Scene::default().intended();
    scene.edit(|d| {
        d["metadata"]["generation"] = json!(9);
        d["spec"]["replicas"] = json!(7);
    });
    assert_eq!(revert(&scene).patch[1]["value"], json!(9));
    assert_eq!(scene.status().approvals.len(), 1);
    scene.until(Phase::RollingOut);
    assert_eq!(scene.deployment()["spec"]["replicas"], json!(7));
}

#[test]
fn case_32_40_a_refusal_is_final_for_the_same_patch_only() {
    let scene = Scene::default().intended();
    let mut refused = scene.clone();
    refused.observed.rejection = Some(Rejection {
        patch: revert(&scene).patch,
        code: 422,
        message: "spec.template.spec.containers: Required value.".to_owned(),
    });
    let mut moved = refused.clone();
    let outcome = refused.ends(Word::Failed, Reason::PatchRejected);
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
    assert_eq!(name(&moved.decide().step), "Revert");
}

#[test]
fn case_06_a_crash_after_the_intent_or_the_write_changes_nothing() {
    // The intent is stored, the write never happened: it is written.
    let scene = Scene::default().intended();
    assert_eq!(name(&scene.decide().step), "Revert");
    // The write happened, nobody lived to say so: it is seen, and not resolved again.
    let mut scene = scene;
    let step = scene.decide().step;
    scene.act(&step);
    scene.observed.replica_sets = sets([replica_set("v1", "3"), replica_set("v2", "2")]);
    let decision = scene.decide();
    assert_eq!(decision.step, Step::Again);
    assert_eq!(Phase::of(&decision.status), Phase::RollingOut);
    assert_eq!(decision.status.targets[0].reverted_at, Some(at(5)));
    assert_eq!(
        decision.status.targets[0]
            .rollout
            .as_ref()
            .unwrap()
            .deadline,
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
fn somebody_else_was_faster() {
    for mut scene in [Scene::default(), Scene::default().approved()] {
        scene.until(scene.phase().max(Phase::AwaitingApproval));
        scene.deploy(&template("v1"));
        let outcome = scene.ends(Word::Succeeded, Reason::NoOp);
        assert!(outcome.message.contains("somebody else was faster"));
        assert_eq!(scene.status().targets[0].reverted_at, None);
        assert!(
            scene
                .observed
                .ledger
                .found()
                .is_none_or(|ledger| ledger.rollbacks.is_empty())
        );
    }
    // With our change-cause on it, it was us, even when the intent was taken back meanwhile.
    let mut scene = Scene::default().approved();
    scene.deploy(&template("v1"));
    scene.edit(|d| d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(CAUSE));
    scene.pass();
    assert_eq!(scene.phase(), Phase::RollingOut);
    // A request without a UID wrote nothing.
    let mut scene = Scene::default().approved();
    scene.request.metadata.uid = None;
    assert!(
        !Deployment(json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "x"}}}))
            .was_reverted_by("")
    );
}

#[test]
fn another_version_supersedes_at_every_point_before_the_write() {
    let mut awaiting = Scene::default();
    awaiting.until(Phase::AwaitingApproval);
    for (mut scene, reason) in [
        (awaiting, Reason::NotLive),
        (Scene::default().approved(), Reason::NotLive),
        (Scene::default().intended(), Reason::TemplateChanged),
    ] {
        scene.deploy(&template("v3"));
        scene.ends(Word::Superseded, reason);
        let intended = scene.status().targets[0].revert.is_some();
        let remembered = scene
            .observed
            .ledger
            .found()
            .map_or(0, |ledger| ledger.rollbacks.len());
        // After the intent the write may have been made and overwritten: better once too often.
        assert_eq!(remembered, usize::from(intended));
        assert_eq!(scene.deployment()["spec"]["template"], template("v3"));
        assert!(
            scene
                .observed
                .ledger
                .found()
                .is_none_or(|ledger| ledger.claim.is_none())
        );
    }
}

#[test]
fn a_write_that_somebody_changed_again_is_not_repeated() {
    let written = {
        let mut scene = Scene::default().intended();
        let step = scene.decide().step;
        scene.act(&step);
        scene
    };
    // The bad version is back before we have looked, as with a GitOps tool; its own annotations are not.
    let mut kept = written.clone();
    kept.deploy(&template("v2"));
    // Or with all its annotations, but the Deployment controller has copied ours to the ReplicaSet.
    let mut copied = written.clone();
    copied.deploy(&template("v2"));
    copied
        .edit(|d| d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!("deploy v2"));
    copied.observed.replica_sets[0].0["metadata"]["annotations"]["kubernetes.io/change-cause"] =
        json!(CAUSE);
    // Or another version.
    let mut other = written;
    other.deploy(&template("v3"));
    for mut scene in [kept, copied, other] {
        let before = scene.deployment().clone();
        let outcome = scene.ends(Word::Superseded, Reason::TemplateChanged);
        assert!(
            outcome.message.contains("after it was rolled back"),
            "{}",
            outcome.message
        );
        assert_eq!(scene.deployment(), &before);
        let rollbacks = &scene.observed.ledger.found().unwrap().rollbacks;
        assert_eq!(
            rollbacks.len(),
            1,
            "it is remembered, so that the request made again does nothing"
        );
        assert_eq!(rollbacks[0].outcome, Word::Superseded);
    }
    // What a `ReplicaSet` of somebody else says is nothing.
    let mut scene = Scene::default().intended();
    let mut foreign = replica_set("v0", "7");
    foreign["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(CAUSE);
    foreign["metadata"]["ownerReferences"][0]["uid"] = json!("d-2");
    scene.observed.replica_sets.extend(sets([foreign]));
    assert_eq!(name(&scene.decide().step), "Revert");
}

/// Two changes of others between the write and the next look can wash away every trace of it.
#[test]
#[ignore = "status.targets[].revert has to know the generation that the write was made for"]
fn a_write_without_a_trace_is_not_repeated() {
    let mut scene = Scene::default().intended();
    let step = scene.decide().step;
    scene.act(&step);
    for version in ["v1", "v2"] {
        scene.deploy(&template(version));
        let cause = json!(format!("deploy {version}"));
        scene.edit(|d| d["metadata"]["annotations"]["kubernetes.io/change-cause"] = cause);
    }
    assert_ne!(name(&scene.decide().step), "Revert");
}

#[test]
fn case_17_53_another_deployment_of_this_name_is_gone() {
    let mut awaiting = Scene::default();
    awaiting.until(Phase::AwaitingApproval);
    for mut scene in [
        awaiting,
        Scene::default().approved(),
        Scene::default().intended(),
    ] {
        let intended = scene.phase() == Phase::Reverting;
        for again in [Seen::Absent, {
            let mut object = deployment("v2");
            object["metadata"]["uid"] = json!("d-2");
            seen(object)
        }] {
            let mut scene = scene.clone();
            scene.observed.deployment = again;
            let outcome = scene.ends(Word::Failed, Reason::TargetGone);
            assert_eq!(
                outcome.message.contains("Nothing was changed"),
                !intended,
                "{}",
                outcome.message
            );
        }
        scene.observed.deployment = Seen::Unknown;
        waits(&scene, 1);
    }
}

#[test]
fn a_guard_that_goes_away_before_the_write_voids_the_approvals() {
    let mut scene = Scene::default().intended();
    scene.observed.guard.missing.push("x".to_owned());
    let decision = scene.decide();
    assert_eq!(decision.step, Step::Again);
    assert!(decision.status.approvals.is_empty());
    assert_eq!(Phase::of(&decision.status), Phase::AwaitingApproval);
    assert!(decision.status.targets[0].revert.is_none());
}

#[test]
fn what_is_not_known_is_waited_for() {
    type Blind = fn(&mut Scene);
    let mut planning = Scene::default();
    planning.observed.deployment = Seen::Unknown;
    waits(&planning, 1);
    let approved = Scene::default().approved();
    let claimed = {
        let mut scene = approved.clone();
        scene.pass();
        scene
    };
    let intended = Scene::default().intended();
    let cases: [(&str, &Scene, Blind); 6] = [
        ("ledger", &approved, |scene| {
            scene.observed.ledger = Seen::Unknown;
        }),
        ("access", &approved, |scene| {
            scene.observed.access = Seen::Unknown;
        }),
        ("no access", &approved, |scene| {
            scene.observed.access = Seen::Absent;
        }),
        ("backup", &claimed, |scene| {
            scene.observed.backup = Seen::Unknown;
        }),
        ("ledger at the write", &intended, |scene| {
            scene.observed.ledger = Seen::Unknown;
        }),
        ("access at the write", &intended, |scene| {
            scene.observed.access = Seen::Unknown;
        }),
    ];
    for (what, scene, blind) in cases {
        let mut scene = scene.clone();
        blind(&mut scene);
        let step = scene.decide().step;
        assert_eq!(step, Step::Wait { until: Some(at(6)) }, "{what}");
    }
    // No policy would be that of production, no ledger a clean record: not so when they were not read.
    let staging = Scene::staging();
    let mut awaiting = Scene::staging();
    awaiting.until(Phase::AwaitingApproval);
    let cases: [(&str, &Scene, Blind); 5] = [
        ("policy", &staging, |scene| {
            scene.observed.policy = Seen::Unknown;
        }),
        ("ledger", &staging, |scene| {
            scene.observed.ledger = Seen::Unknown;
        }),
        ("opted in", &staging, |scene| {
            scene.observed.opted_in = Seen::Unknown;
        }),
        ("policy at the approval", &awaiting, |scene| {
            scene.observed.policy = Seen::Unknown;
        }),
        ("policy at the write", &intended, |scene| {
            scene.observed.policy = Seen::Unknown;
        }),
    ];
    for (what, scene, blind) in cases {
        let mut scene = scene.clone();
        blind(&mut scene);
        let decision = scene.decide();
        assert_eq!(decision.step, Step::Wait { until: Some(at(6)) }, "{what}");
        assert_eq!(decision.status.plan, scene.status().plan, "{what}");
    }
    let reverted = {
        let mut scene = Scene::default().reverted();
        scene.observed.deployment = Seen::Unknown;
        scene
    };
    waits(&reverted, 1);
}

#[test]
fn case_44_a_claim_of_another_request_is_respected() {
    let theirs = Seen::Found(claimed_by("other", "r-2"));
    let rival = |active| {
        Seen::Found(Rival {
            name: "other".to_owned(),
            active,
        })
    };
    for scene in [Scene::default().approved(), Scene::default().intended()] {
        let phase = scene.phase();
        let mut scene = scene;
        scene.observed.ledger = theirs.clone();
        for busy in [rival(true), Seen::Unknown] {
            scene.observed.rival = busy;
            waits(&scene, 5);
            scene.commit();
            let status = scene.status();
            let ready = &status.conditions[0];
            assert!(
                ready.message.contains("Waiting for RollbackRequest other"),
                "{phase:?} {}",
                ready.message
            );
        }
        for gone in [rival(false), Seen::Absent] {
            scene.observed.rival = gone;
            let Step::Claim { deployment, ledger } = scene.decide().step else {
                panic!("{phase:?}");
            };
            assert_eq!(deployment, "api");
            assert_eq!(ledger, claimed_by("api-5xx", REQUEST));
        }
    }
    // Waiting does not keep it from expiring or being cancelled.
    let mut scene = Scene::default().approved();
    scene.observed.ledger = theirs;
    scene.observed.rival = rival(true);
    let mut late = scene.clone();
    late.now = at(3600);
    late.ends(Word::Expired, Reason::NotApprovedInTime);
    annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    scene.ends(Word::Cancelled, Reason::CancelledByUser);
    assert_eq!(
        scene.observed.ledger,
        Seen::Found(claimed_by("other", "r-2")),
        "theirs is not released"
    );
}

#[test]
fn a_claim_that_was_lost_is_taken_again_and_the_memory_kept() {
    let mut done = Scene::default().rolled_out();
    done.settle();
    let rollbacks = done.observed.ledger.found().unwrap().rollbacks.clone();
    let mut scene = Scene::default().intended();
    for lost in [
        Seen::Absent,
        Seen::Found(RevisionLedgerSpec {
            claim: None,
            rollbacks: rollbacks.clone(),
            ..claimed_by("", "")
        }),
    ] {
        let kept = lost
            .found()
            .map_or_else(Vec::new, |ledger| ledger.rollbacks.clone());
        scene.observed.ledger = lost;
        let Step::Claim { ledger, .. } = scene.decide().step else {
            panic!("it claims again");
        };
        assert_eq!(
            ledger,
            RevisionLedgerSpec {
                rollbacks: kept,
                ..claimed_by("api-5xx", REQUEST)
            }
        );
    }
    // A ledger of a Deployment that had this name before is no memory of this one.
    scene.observed.ledger = Seen::Found(RevisionLedgerSpec {
        deployment_uid: "d-0".to_owned(),
        rollbacks,
        ..claimed_by("other", "r-2")
    });
    let Step::Claim { ledger, .. } = scene.decide().step else {
        panic!("it claims");
    };
    assert_eq!(ledger, claimed_by("api-5xx", REQUEST));
}

#[test]
fn case_36_38_64_a_deployment_that_must_not_be_touched_any_more() {
    for scene in [Scene::default().approved(), Scene::default().intended()] {
        for (reason, edit) in [
            (
                Reason::Paused,
                (|d| d["spec"]["paused"] = json!(true)) as fn(&mut Value),
            ),
            (Reason::DeploymentDeleting, |d| {
                d["metadata"]["deletionTimestamp"] = json!("now");
            }),
            (Reason::LegacyRollback, |d| {
                d["metadata"]["annotations"]["deprecated.deployment.rollback.to"] = json!("0");
            }),
        ] {
            let mut scene = scene.clone();
            scene.edit(edit);
            scene.ends(Word::Refused, reason);
            assert_eq!(scene.deployment()["spec"]["template"], template("v2"));
        }
    }
    // While people think it may be paused: they may still resume it.
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    scene.edit(|d| d["spec"]["paused"] = json!(true));
    scene.settle();
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
}

#[test]
fn who_may_not_do_it_may_not_have_it_done() {
    for mut scene in [Scene::default().approved(), Scene::default().intended()] {
        scene.observed.access = Seen::Found(Access::Denied {
            who: "eve\u{1b}".to_owned(),
            what: "patch deployments.apps/api".to_owned(),
        });
        let outcome = scene.ends(Word::Refused, Reason::Forbidden);
        assert!(
            outcome
                .message
                .starts_with("eve  may not patch deployments.apps/api, so"),
            "{}",
            outcome.message
        );
    }
}

#[test]
fn case_21_65_the_revision_that_was_approved_must_still_be_it() {
    let claimed = {
        let mut scene = Scene::default().approved();
        scene.pass();
        scene
    };
    for scene in [claimed, Scene::default().intended()] {
        let mut pruned = scene.clone();
        pruned.observed.replica_sets.remove(0);
        let outcome = pruned.ends(Word::Refused, Reason::HistoryPruned);
        assert!(outcome.message.contains("revisionHistoryLimit"));
        // One with the same name, number and template, but made again, is not it.
        let mut again = scene.clone();
        again.observed.replica_sets[0].0["metadata"]["uid"] = json!("rs-again");
        again.ends(Word::Refused, Reason::HistoryPruned);
        let mut dying = scene.clone();
        dying.observed.replica_sets[0].0["metadata"]["deletionTimestamp"] = json!("now");
        dying.ends(Word::Refused, Reason::HistoryPruned);
        let mut edited = scene.clone();
        edited.observed.replica_sets[0].0["spec"]["template"]["spec"]["containers"][0]["image"] =
            json!("evil");
        let outcome = edited.ends(Word::Refused, Reason::DigestMismatch);
        assert!(outcome.message.contains("api-v1"));
        // Renumbered, it is still it.
        let mut renumbered = scene;
        renumbered.observed.replica_sets[0].0["metadata"]["annotations"] =
            json!({"deployment.kubernetes.io/revision": "17"});
        renumbered.until(Phase::RollingOut);
    }
}

#[test]
fn the_backup_comes_before_the_intent() {
    let mut scene = Scene::default().approved();
    assert_eq!(scene.status().targets[0].name, "api");
    // One message for all of it, so that no commit is spent on the steps between.
    let counted = scene.status();
    assert_eq!(
        counted.conditions[0].message,
        "Approved; claiming and saving Deployment api."
    );
    assert_eq!(name(&scene.pass()), "Claim");
    assert_eq!(scene.status(), counted);
    scene.now = at(7);
    let Step::BackUp(backup) = scene.commit() else {
        panic!("it saves");
    };
    assert_eq!(
        scene.status().targets[0].backup,
        None,
        "it is not there before it is seen"
    );
    assert_eq!(scene.status(), counted);
    // A write that is lost is made again, and is the same write.
    assert_eq!(scene.commit(), Step::BackUp(backup.clone()));
    scene.observed.backup = Seen::Found(at(8));
    assert_eq!(name(&scene.commit()), "Revert");
    let saved = scene.status().targets[0].backup.clone().unwrap();
    assert_eq!(
        (saved.config_map.as_str(), saved.at),
        (backup.name.as_str(), at(8))
    );
    assert_eq!(backup.name, backup_name(&scene.request, "api"));
}

#[test]
fn a_spec_that_changed_or_a_requester_whom_nobody_knows_is_refused() {
    for generation in [0, 2, 3] {
        let mut scene = Scene::default();
        scene.request.metadata.generation = Some(generation);
        scene.ends(Word::Refused, Reason::SpecChanged);
        let mut scene = Scene::default().approved();
        scene.request.metadata.generation = Some(generation);
        scene.ends(Word::Refused, Reason::SpecChanged);
    }
    for requester in [None, Some(world::person(""))] {
        let mut scene = Scene::default();
        scene.request.spec.requested_by = requester;
        scene.ends(Word::Refused, Reason::RequesterUnknown);
    }
}

#[test]
fn a_dry_run_publishes_the_plan_and_leaves_nothing() {
    let mut scene = Scene::new(&json!({"dryRun": true}));
    let outcome = scene.ends(Word::Succeeded, Reason::DryRun);
    let status = scene.status();
    assert!(outcome.message.contains(&status.plan.unwrap().digest));
    assert_eq!(
        (status.incident, &scene.observed.ledger),
        (None, &Seen::Absent)
    );
    assert_eq!(scene.deployment(), &deployment("v2"));
    assert_eq!(scene.request.metadata.finalizers, None);
}

#[test]
fn waiting_looks_again_at_the_minute_and_at_the_expiry() {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    waits(&scene, 60);
    scene.now = at(3590);
    waits(&scene, 10);
    let mut scene = Scene::default().reverted();
    scene.now = at(100);
    assert_eq!(
        scene.decide().step,
        Step::Wait {
            until: Some(at(305))
        }
    );
}

#[test]
fn what_is_counted_is_kept() {
    let mut scene = Scene::default().reverted();
    scene.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        world::set_counts(d, 4, 2, 1);
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
    let outcome = scene.ends(Word::Failed, Reason::RolloutTimedOut);
    for part in [
        "The old template stays in place",
        "kubectl describe rbr api-5xx",
    ] {
        assert!(outcome.message.contains(part), "{}", outcome.message);
    }
    assert_eq!(scene.deployment()["spec"]["template"], template("v1"));
    let rollbacks = &scene.observed.ledger.found().unwrap().rollbacks;
    assert_eq!(rollbacks[0].outcome, Word::Failed);
}

#[test]
fn case_60_changed_again_while_it_is_checked() {
    let checks = json!({"verification": {"http": [{"name": "live", "port": 1, "path": "/"}]}});
    let scene = Scene::default().with_policy(checks).rolled_out();
    let mut superseded = scene.clone();
    superseded.deploy(&template("v2"));
    superseded.ends(Word::Superseded, Reason::TemplateChanged);
    let mut gone = scene.clone();
    gone.observed.deployment = Seen::Absent;
    gone.ends(Word::Failed, Reason::TargetGone);
    // Pods that come and go, or a Deployment that cannot be read, are the business of the checks.
    for blur in [Seen::Unknown, {
        let mut object = scene.deployment().clone();
        world::set_counts(&mut object, 3, 3, 1);
        seen(object)
    }] {
        let mut scene = scene.clone();
        scene.observed.deployment = blur;
        scene.probe(200);
        scene.pass();
        assert_eq!(scene.phase(), Phase::Verifying);
        assert_eq!(
            scene.status().targets[0]
                .verification
                .clone()
                .unwrap()
                .checks[0]
                .rounds,
            1
        );
    }
}

#[test]
fn after_the_end_the_report_the_claim_and_the_finalizer() {
    let mut scene = Scene::default().rolled_out();
    scene.commit();
    assert_eq!(scene.word(), "Succeeded/Unverified");
    // Whatever is said now, it stays as it ended.
    annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    scene.now = at(99_999);
    let ended = scene.outcome();
    let Step::Publish(report) = scene.commit() else {
        panic!("it reports");
    };
    for lost in [Seen::Unknown, Seen::Absent] {
        scene.observed.incident = lost;
        assert_eq!(scene.commit(), Step::Publish(report.clone()));
        assert_eq!(scene.status().incident, None);
    }
    scene.observed.incident = Seen::Found(at(200));
    let Step::Release { deployment, ledger } = scene.commit() else {
        panic!("it releases");
    };
    let incident = scene.status().incident.unwrap();
    assert_eq!(
        (incident.config_map.as_str(), incident.at),
        (report.name.as_str(), at(200))
    );
    assert_eq!((deployment.as_str(), ledger.claim.as_ref()), ("api", None));
    // Once written, the report is not looked for again.
    scene.observed.incident = Seen::Unknown;
    assert_eq!(name(&scene.commit()), "Release");
    scene.act(&Step::Release { deployment, ledger });
    assert_eq!(scene.commit(), Step::DropFinalizer);
    scene.request.metadata.finalizers = Some(vec!["somebody.else/holds".to_owned()]);
    assert_eq!(scene.commit(), Step::Done);
    assert_eq!(scene.outcome(), ended);
}

#[test]
fn a_claim_that_cannot_be_read_is_not_forgotten() {
    let mut scene = Scene::default().rolled_out();
    scene.commit();
    let step = scene.commit();
    scene.act(&step);
    scene.observed.ledger = Seen::Unknown;
    let step = scene.commit();
    assert!(matches!(step, Step::Wait { until: Some(_) }), "{step:?}");
}

#[test]
fn only_a_write_is_remembered() {
    let mut scene = Scene::default().approved();
    scene.pass();
    assert!(scene.observed.ledger.found().unwrap().claim.is_some());
    annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    scene.ends(Word::Cancelled, Reason::CancelledByUser);
    let ledger = scene.observed.ledger.found().unwrap();
    assert_eq!((&ledger.claim, ledger.rollbacks.len()), (&None, 0));
}

#[test]
fn a_ledger_remembers_fifty() {
    let mut done = Scene::default().rolled_out();
    done.settle();
    let mut ledger = done.observed.ledger.found().unwrap().clone();
    let one = ledger.rollbacks[0].clone();
    ledger.rollbacks = (0..50)
        .map(|number| {
            let mut rollback = one.clone();
            rollback.request = format!("r{number}");
            rollback.from_digest = format!("sha256:{number}");
            rollback
        })
        .collect();
    let mut scene = Scene::default();
    scene.observed.ledger = Seen::Found(ledger);
    let mut scene = scene.rolled_out();
    scene.settle();
    let rollbacks = &scene.observed.ledger.found().unwrap().rollbacks;
    assert_eq!(rollbacks.len(), 50);
    assert_eq!(
        (
            rollbacks[0].request.as_str(),
            rollbacks[49].request.as_str()
        ),
        ("r1", "api-5xx")
    );
}

#[test]
fn a_version_that_was_restored_well_is_not_bad_any_more() {
    // v2 -> v1, then v1 -> v2 on purpose: v1 is the bad one now.
    let mut scene = Scene::default().rolled_out();
    scene.settle();
    let mut back = Scene::new(&json!({"targets": [{"name": "api", "to": {"revision": 2}}]}));
    back.request.metadata.name = Some("back".to_owned());
    back.observed.ledger = scene.observed.ledger.clone();
    back.observed.deployment = seen(deployment("v1"));
    let mut back = back.rolled_out();
    back.settle();
    assert_eq!(back.outcome().word, Word::Succeeded);
    let ledger = back.observed.ledger.found();
    assert_eq!(
        rollback_core::ledger::bad_templates(ledger, DEPLOYMENT),
        [digest("v1")]
    );
    // Had it failed, both would be.
    let mut failed = ledger.unwrap().clone();
    failed.rollbacks[1].outcome = Word::Failed;
    assert_eq!(
        rollback_core::ledger::bad_templates(Some(&failed), DEPLOYMENT),
        [digest("v2"), digest("v1")]
    );
    assert!(rollback_core::ledger::bad_templates(Some(&failed), "d-2").is_empty());
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
