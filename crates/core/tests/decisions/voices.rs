//! Approvals that end: taken back, too old. And the one that needs no other.

use crate::world::{Move, REQUESTER, Scene, annotate, approve, at, claimed_by, policy, reason_of};
use rollback_api::{
    APPROVED_BY, BREAK_GLASS, BREAK_GLASS_LABEL, CHECKLIST, CONFIRM, PLAN, Reason, RequestState,
    WITHDRAWN_BY,
};
use rollback_core::approval::{breaks_glass, suffices};
use rollback_core::execution::artifact::{Artifact, ArtifactKind};
use rollback_core::execution::phase::Phase;
use rollback_core::observed::{Fetched, Rival};
use rollback_core::report;
use rollback_core::report::notice::notices;
use serde_json::{Value, json};

const BOB: &str = "bob@broxiva.com";
const CAT: &str = "cat@broxiva.com";
const WHY: &str = "nobody else answers the phone";

fn under(approvals: Value) -> Scene {
    let mut scene = Scene::default();
    scene.observed.policy = Fetched::Found(policy(json!({"approvals": approvals})));
    scene.until(Phase::AwaitingApproval);
    scene
}

fn counted(scene: &Scene) -> Vec<String> {
    let approvals = scene.status().approvals;
    approvals
        .into_iter()
        .map(|approval| approval.by.username)
        .collect()
}

/// As the guard asks for it: what stands in the mailbox goes with it.
fn withdraw(scene: &mut Scene, who: &str) {
    let annotations = scene.request.metadata.annotations.as_mut().unwrap();
    for key in [APPROVED_BY, CONFIRM, PLAN, CHECKLIST] {
        annotations.remove(key);
    }
    annotate(&mut scene.request, WITHDRAWN_BY, who);
}

#[test]
fn who_takes_an_approval_back_is_not_counted_and_nobody_else_is_touched() {
    let mut scene = under(json!({"required": 3}));
    for who in [BOB, CAT] {
        approve(&mut scene.request, who);
        scene.settle();
    }
    assert_eq!(counted(&scene), [BOB, CAT]);
    let digest = scene.status().plan.unwrap().digest;
    withdraw(&mut scene, BOB);
    scene.settle();
    assert_eq!(counted(&scene), [CAT]);
    assert_eq!(scene.status().plan.unwrap().digest, digest);
    // It stays so, whatever stands in the mailbox of others.
    approve(&mut scene.request, "dan@broxiva.com");
    scene.settle();
    assert_eq!(counted(&scene), [CAT, "dan@broxiva.com"]);
    // Bob after all.
    let annotations = scene.request.metadata.annotations.as_mut().unwrap();
    annotations.remove(WITHDRAWN_BY);
    approve(&mut scene.request, BOB);
    scene.until(Phase::RollingOut);
}

#[test]
fn what_was_begun_is_not_taken_back() {
    let mut scene = under(json!({})).approved();
    scene.until(Phase::Reverting);
    annotate(&mut scene.request, WITHDRAWN_BY, BOB);
    scene.until(Phase::RollingOut);
    assert_eq!(counted(&scene), [BOB]);
}

#[test]
fn an_approval_that_is_too_old_voids_all_and_is_not_counted_anew() {
    let mut scene = under(json!({"required": 2, "validForSeconds": 60}));
    scene.now = at(10);
    approve(&mut scene.request, BOB);
    scene.settle();
    let first = scene.status().plan.unwrap();
    assert_eq!((counted(&scene), first.round), (vec![BOB.to_owned()], 0));
    scene.now = at(69);
    scene.settle();
    assert_eq!(counted(&scene), [BOB]);
    scene.now = at(70);
    // What Bob typed still stands in the mailbox, as it does when the controller did not get to putting it away.
    approve(&mut scene.request, BOB);
    scene.settle();
    let second = scene.status().plan.unwrap();
    assert!(counted(&scene).is_empty());
    assert_eq!(second.round, 1);
    assert_ne!(second.digest, first.digest);
    assert_eq!(second.targets, first.targets);
    assert_eq!(reason_of(&scene.status(), "Approved"), "ApprovalInvalid");
    // Two in time.
    for who in [CAT, BOB] {
        approve(&mut scene.request, who);
        scene.pass_all();
    }
    scene.until(Phase::RollingOut);
}

/// Enough people approved, and the turn came too late: another request worked on the Deployment.
#[test]
fn approvals_grow_old_while_waiting_for_the_turn() {
    let mut scene = under(json!({"validForSeconds": 60}));
    scene.now = at(10);
    approve(&mut scene.request, BOB);
    scene.observed.targets[0].access = Fetched::Unknown;
    scene.settle();
    assert_eq!(scene.phase(), Phase::BackingUp);
    scene.now = at(70);
    scene.observed.targets[0].access = Fetched::Found(rollback_core::observed::Access::Allowed);
    scene.settle();
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
}

fn alone(scene: &mut Scene, why: &str) {
    approve(&mut scene.request, REQUESTER);
    annotate(&mut scene.request, CHECKLIST, "");
    annotate(&mut scene.request, BREAK_GLASS, why);
}

#[test]
fn one_who_breaks_the_glass_needs_nobody_and_everybody_hears_of_it() {
    let mut scene = under(json!({"required": 3, "breakGlass": true}));
    alone(&mut scene, WHY);
    scene.settle();
    let status = scene.status();
    let plan = status.plan.as_ref().unwrap();
    assert!(suffices(plan, &status.approvals) && breaks_glass(plan, &status.approvals));
    assert_eq!(reason_of(&status, "Approved"), "BreakGlass");
    assert_eq!(status.approvals[0].break_glass.as_deref(), Some(WHY));
    let told = notices(&status);
    let notice = told
        .iter()
        .find(|notice| notice.reason == "BreakGlass")
        .unwrap();
    assert!(notice.warning && notice.note.contains(WHY) && notice.note.contains(REQUESTER));
    let artifact = Artifact {
        kind: ArtifactKind::Incident,
        name: "x".to_owned(),
        workload: None,
        data: [].into(),
    };
    let label =
        |request| artifact.config_map(request)["metadata"]["labels"][BREAK_GLASS_LABEL].clone();
    assert_eq!(label(&scene.request), json!("true"));
    let mut ordinary = Scene::default().approved();
    ordinary.settle();
    assert_eq!(label(&ordinary.request), Value::Null);
}

/// The second approver does not come, and the first one goes on alone.
#[test]
fn who_was_counted_may_still_break_the_glass() {
    let mut scene = under(json!({"required": 2, "breakGlass": true}));
    approve(&mut scene.request, BOB);
    scene.settle();
    assert_eq!(counted(&scene), [BOB]);
    approve(&mut scene.request, BOB);
    annotate(&mut scene.request, BREAK_GLASS, WHY);
    scene.until(Phase::RollingOut);
    let approvals = scene.status().approvals;
    assert_eq!(approvals.len(), 1);
    assert_eq!(approvals[0].break_glass.as_deref(), Some(WHY));
}

#[test]
fn the_report_says_who_broke_the_glass_and_why() {
    let mut scene = under(json!({"breakGlass": true}));
    alone(&mut scene, "nobody else | answers the <b>phone</b>");
    scene.settle();
    let status = scene.status();
    let outcome = rollback_core::execution::outcome::end(
        RequestState::Failed,
        Reason::TargetGone,
        "It is gone.",
        at(90),
    )
    .with(rollback_api::status::Effect::Possible);
    let ended = rollback_api::RollbackRequestStatus {
        outcome: Some(outcome),
        ..status
    };
    scene.request.status = Some(ended.clone());
    let artifact = report::incident(&scene.request, &ended).unwrap();
    let page = artifact
        .data
        .iter()
        .find(|(name, _)| name.as_str().ends_with("md"))
        .unwrap()
        .1;
    assert!(page.contains("**The glass was broken**"), "{page}");
    assert!(page.contains("Escalate: the glass was broken"), "{page}");
    assert!(!page.contains("<b>"), "{page}");
}

#[test]
fn breaking_the_glass_takes_a_reason_and_the_permission_of_the_policy() {
    for (allowed, why, part) in [
        (false, WHY, "lets nobody approve alone"),
        (true, "  hurry    ", "without saying why"),
    ] {
        let mut scene = under(json!({"breakGlass": allowed}));
        alone(&mut scene, why);
        scene.settle();
        let status = scene.status();
        assert!(status.approvals.is_empty());
        let approved = status
            .conditions
            .iter()
            .find(|one| one.type_ == "Approved")
            .unwrap();
        assert!(approved.message.contains(part), "{}", approved.message);
    }
}

/// The permission is part of the plan: without it an approval that was given alone is worth nothing.
#[test]
fn the_glass_cannot_be_broken_after_the_policy_has_changed() {
    let mut scene = under(json!({"required": 2, "breakGlass": true}));
    alone(&mut scene, WHY);
    // Its turn does not come, because another request works on the Deployment.
    scene.seen().ledger = Fetched::Found(claimed_by("other", "r-2"));
    scene.seen().rival = Fetched::Found(Rival {
        name: "other".to_owned(),
        active: true,
        committed: true,
        unknown: None,
    });
    scene.settle();
    scene.observed.policy = Fetched::Found(policy(json!({"approvals": {"required": 2}})));
    let Move::Wait { .. } = scene.settle() else {
        panic!("it does not wait");
    };
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
    assert!(scene.status().approvals.is_empty());
}
