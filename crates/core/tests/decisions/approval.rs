//! The mailbox: what is an approval and what is not, how many it takes, and how people say no.

use crate::world::{
    Move, REQUESTER, Scene, annotate, approve, at, condition_map, guard_policy, person, policy,
    reason_of,
};
use rollback_api::status::{Approval, Plan};
use rollback_api::{
    APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, BREAK_GLASS, CANCELLED_BY, CHECKLIST, CONFIRM,
    DENIED_BY, DENIED_REASON, PLAN, Reason, RequestState, RollbackRequest, WITHDRAWN_BY,
};
use rollback_core::approval::{self, Mailbox};
use rollback_core::execution::phase::Phase;
use rollback_core::observed::Fetched;
use serde_json::json;

const BOB: &str = "bob@broxiva.com";
const CAT: &str = "cat@broxiva.com";

/// A published plan of production, and its request with a valid approval of Bob in the mailbox.
fn valid() -> (RollbackRequest, Plan) {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, BOB);
    let plan = scene.status().plan.unwrap();
    (scene.request, plan)
}

fn approval_of(name: &str, plan: &Plan) -> Approval {
    Approval {
        automatic: false,
        by: person(name),
        plan_digest: plan.digest.clone(),
        at: at(60),
        checklist: plan
            .rules
            .checklist()
            .iter()
            .map(|item| item.name.clone())
            .collect(),
        break_glass: None,
        accepts_data_risk: None,
    }
}

#[test]
fn a_valid_approval_is_who_what_and_when() {
    let (request, plan) = valid();
    let Mailbox::Valid(approval) = approval::read(&request, &plan, &[], at(60)) else {
        panic!("it is valid");
    };
    assert_eq!(approval, approval_of(BOB, &plan));
}

#[test]
fn each_way_a_mailbox_is_invalid() {
    let cases: Vec<(&str, Vec<(&str, &str)>, &str)> = vec![
        ("no digest", vec![(PLAN, "")], "another plan"),
        ("another digest", vec![(PLAN, "sha256:00")], "another plan"),
        ("no phrase", vec![(CONFIRM, "")], "typed confirmation"),
        (
            "phrase of staging",
            vec![(CONFIRM, "ROLLBACK")],
            "typed confirmation",
        ),
        (
            "phrase in lower case",
            vec![(CONFIRM, "rollback production")],
            "typed confirmation",
        ),
        (
            "phrase and more",
            vec![(CONFIRM, "ROLLBACK PRODUCTION ")],
            "typed confirmation",
        ),
        (
            "nothing ticked",
            vec![(CHECKLIST, "")],
            "incident-documented (The incident is documented), stakeholders-notified",
        ),
        (
            "one item ticked",
            vec![(CHECKLIST, "incident-documented")],
            "open: stakeholders-notified",
        ),
        (
            "a typo in a tick",
            vec![(CHECKLIST, "incident-documented,stakeholder-notified")],
            "open: stakeholders-notified",
        ),
        (
            "alone where nobody may",
            vec![(BREAK_GLASS, "nobody else answers the phone")],
            "approvals.breakGlass",
        ),
        (
            "taken back",
            vec![(WITHDRAWN_BY, BOB)],
            "has taken the approval back",
        ),
        (
            "no groups",
            vec![(APPROVER_GROUPS, "")],
            "does not say which groups",
        ),
        (
            "empty groups",
            vec![(APPROVER_GROUPS, "\n\n")],
            "does not say which groups",
        ),
        (
            "only a uid",
            vec![(APPROVER_GROUPS, ""), (APPROVER_UID, "7")],
            "does not say which groups",
        ),
        (
            "a service account",
            vec![(APPROVED_BY, "system:serviceaccount:shop:ci")],
            "ServiceAccount",
        ),
        (
            "a service account by its group",
            vec![(APPROVER_GROUPS, "a\nsystem:serviceaccounts")],
            "ServiceAccount",
        ),
        (
            "the requester",
            vec![(APPROVED_BY, REQUESTER)],
            "asked for this rollback; in production somebody else has to approve",
        ),
    ];
    for (what, changes, expected) in cases {
        let (mut request, plan) = valid();
        for (key, value) in changes {
            annotate(&mut request, key, value);
        }
        match approval::read(&request, &plan, &[], at(60)) {
            Mailbox::Invalid(why) => assert!(why.contains(expected), "{what}: {why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn an_invalid_approval_waits_and_says_why() {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, BOB);
    annotate(&mut scene.request, CONFIRM, "yes");
    let step = scene.settle();
    assert!(matches!(step, Move::Wait { until: Some(_) }));
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
    let status = scene.status();
    assert!(status.approvals.is_empty());
    assert_eq!(reason_of(&status, "Approved"), "ApprovalInvalid");
    // Corrected, it counts.
    approve(&mut scene.request, BOB);
    scene.until(Phase::BackingUp);
}

#[test]
fn an_empty_mailbox_says_how_to_approve() {
    let mut scene = Scene::default();
    scene.settle();
    let status = scene.status();
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    let digest = status.plan.unwrap().digest;
    for part in [
        "kubectl annotate rbr api-5xx",
        "'ROLLBACK PRODUCTION'",
        &digest,
        "0 of 1",
    ] {
        assert!(ready.message.contains(part), "{}", ready.message);
    }
    for key in [APPROVED_BY, CONFIRM, PLAN] {
        assert!(
            ready.message.contains(&format!("{key}=")),
            "{}",
            ready.message
        );
    }
}

#[test]
fn only_a_name_is_an_approval() {
    let (mut request, plan) = valid();
    annotate(&mut request, APPROVED_BY, "");
    assert_eq!(approval::read(&request, &plan, &[], at(60)), Mailbox::Empty);
    request.metadata.annotations = None;
    assert_eq!(approval::read(&request, &plan, &[], at(60)), Mailbox::Empty);
}

#[test]
fn the_requester_may_approve_where_the_environment_says_so() {
    for (environment, may) in [
        ("production", false),
        ("staging", true),
        ("development", true),
    ] {
        let mut scene = Scene::default().with_policy(json!({"environment": environment}));
        scene.until(Phase::AwaitingApproval);
        approve(&mut scene.request, REQUESTER);
        scene.settle();
        assert_eq!(!scene.status().approvals.is_empty(), may, "{environment}");
    }
    // A requester whom nobody knows could be anybody.
    let (mut request, plan) = valid();
    request.spec.requested_by = None;
    assert!(matches!(
        approval::read(&request, &plan, &[], at(60)),
        Mailbox::Invalid(_)
    ));
}

#[test]
fn the_same_person_counts_once() {
    let mut scene = Scene::default().with_policy(json!({"approvals": {"required": 2}}));
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, BOB);
    scene.settle();
    assert_eq!(scene.status().approvals.len(), 1);
    // Taken back and given again, with another stamp.
    annotate(&mut scene.request, APPROVED_BY, "");
    scene.settle();
    approve(&mut scene.request, BOB);
    annotate(&mut scene.request, APPROVER_UID, "another uid");
    scene.now = at(120);
    scene.settle();
    assert_eq!(scene.status().approvals.len(), 1);
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
    approve(&mut scene.request, CAT);
    scene.until(Phase::BackingUp);
    let status = scene.status();
    let names: Vec<_> = status
        .approvals
        .iter()
        .map(|a| a.by.username.as_str())
        .collect();
    assert_eq!(names, [BOB, CAT]);
    assert_eq!(
        status.approved_by.as_deref(),
        Some("bob@broxiva.com,cat@broxiva.com")
    );
}

#[test]
fn a_latched_approval_needs_the_mailbox_no_more() {
    let mut scene = Scene::default().with_policy(json!({"approvals": {"required": 2}}));
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, BOB);
    scene.settle();
    scene.request.metadata.annotations = None;
    scene.settle();
    assert_eq!(scene.status().approvals.len(), 1);
    approve(&mut scene.request, CAT);
    scene.until(Phase::BackingUp);
    scene.request.metadata.annotations = None;
    scene.until(Phase::RollingOut);
}

#[test]
fn enough_is_counted_by_people_and_by_plan() {
    let (_, mut plan) = valid();
    let other = Plan {
        digest: "sha256:other".to_owned(),
        ..plan.clone()
    };
    let (bob, cat) = (approval_of(BOB, &plan), approval_of(CAT, &plan));
    let stale = approval_of(CAT, &other);
    for (required, counted, expected) in [
        (1, vec![], false),
        (1, vec![bob.clone()], true),
        (1, vec![stale.clone()], false),
        (2, vec![bob.clone()], false),
        (2, vec![bob.clone(), stale], false),
        (2, vec![bob.clone(), cat.clone()], true),
        (2, vec![bob.clone(), bob.clone()], false),
        (5, vec![bob.clone(), cat], false),
        // Rules without people are no rules.
        (0, vec![], false),
        (-1, vec![], false),
        (0, vec![bob], true),
    ] {
        plan.rules.approvals.required = required;
        let names: Vec<_> = counted
            .iter()
            .map(|a| (&a.by.username, &a.plan_digest))
            .collect();
        assert_eq!(
            approval::suffices(&plan, &counted),
            expected,
            "{required} {names:?}"
        );
    }
}

#[test]
fn a_renewed_plan_voids_approvals() {
    type Change = fn(&mut Scene);
    let changes: [(&str, Change); 4] = [
        ("the policy asks for more", |scene| {
            scene.observed.policy = Fetched::Found(policy(json!({"approvals": {"required": 2}})));
        }),
        ("the policy asks for less", |scene| {
            scene.observed.policy = Fetched::Found(policy(json!({"environment": "staging"})));
        }),
        ("the guard was changed", |scene| {
            scene.observed.guard.present[0] = guard_policy("approvals", 2);
        }),
        ("the guard was made again", |scene| {
            scene.observed.guard.present[1].uid = "another".to_owned();
        }),
    ];
    for (what, change) in changes {
        for phase in [Phase::AwaitingApproval, Phase::BackingUp, Phase::Reverting] {
            let mut scene = if phase == Phase::Reverting {
                Scene::default().intended()
            } else {
                Scene::default().approved()
            };
            if phase == Phase::AwaitingApproval {
                scene = Scene::default().with_policy(json!({"approvals": {"required": 3}}));
                scene.until(Phase::AwaitingApproval);
                approve(&mut scene.request, BOB);
                scene.settle();
            }
            assert_eq!(scene.phase(), phase, "{what}");
            let before = scene.status();
            assert_eq!(before.approvals.len(), 1);
            change(&mut scene);
            let step = scene.commit();
            assert_eq!(step, Move::Again, "{what} {phase:?}");
            let status = scene.status();
            assert_eq!(
                Phase::of(&status),
                Phase::AwaitingApproval,
                "{what} {phase:?}"
            );
            assert!(status.approvals.is_empty());
            assert!(!condition_map(&status).contains_key("Approved"));
            let (old, new) = (before.plan.unwrap(), status.plan.unwrap());
            assert_ne!(old.digest, new.digest);
            assert_eq!(old.targets, new.targets, "resolved once");
            // What Bob wrote about the old digest stays void.
            let digest = new.digest;
            scene.settle();
            assert!(scene.status().approvals.is_empty(), "{what} {phase:?}");
            assert_eq!(scene.status().plan.unwrap().digest, digest);
        }
    }
}

#[test]
fn no_approval_counts_while_the_guard_is_missing() {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, BOB);
    scene.observed.guard.holes = vec!["rollback-approvals".to_owned()];
    let step = scene.settle();
    assert!(matches!(step, Move::Wait { until: Some(until) } if until > scene.now));
    let status = scene.status();
    assert!(status.approvals.is_empty());
    assert_eq!(reason_of(&status, "Approved"), "GuardMissing");
    let ready = status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap();
    assert!(ready.message.contains("rollback-approvals"));
    // Nor does one that was counted before it went away: it is void, and must be given again.
    let mut scene = Scene::default().approved();
    scene.observed.guard.holes = vec!["rollback-approvals".to_owned()];
    assert_eq!(scene.pass(), Move::Again);
    assert!(scene.status().approvals.is_empty());
    for _ in 0..5 {
        assert!(matches!(scene.pass(), Move::Wait { .. }));
    }
    assert_eq!(scene.observed.targets[0].ledger, Fetched::Absent);
}

#[test]
fn withdrawing_ends_it() {
    type Say = fn(&mut RollbackRequest);
    let cancel: Say = |request| annotate(request, CANCELLED_BY, BOB);
    let deny: Say = |request| {
        annotate(request, DENIED_BY, BOB);
        annotate(request, DENIED_REASON, "it is the database");
    };
    let delete: Say = |request| {
        request.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(6)));
    };
    for (say, state, reason, by) in [
        (
            cancel,
            RequestState::Cancelled,
            Reason::CancelledByUser,
            Some(BOB),
        ),
        (
            deny,
            RequestState::Denied,
            Reason::DeniedByApprover,
            Some(BOB),
        ),
        (delete, RequestState::Cancelled, Reason::Deleted, None),
    ] {
        for mut scene in [
            Scene::default(),
            {
                let mut scene = Scene::default();
                scene.until(Phase::AwaitingApproval);
                scene
            },
            Scene::default().approved(),
        ] {
            let phase = scene.phase();
            say(&mut scene.request);
            let outcome = scene.ends(state, reason);
            assert_eq!(outcome.by.as_deref(), by, "{phase:?}");
            assert_eq!(scene.deployment(), &crate::world::deployment("v2"));
            assert_eq!(scene.request.metadata.finalizers, None);
        }
        // Once the intent is stored it is too late: the write may already be on its way.
        let mut scene = Scene::default().intended();
        say(&mut scene.request);
        scene.until(Phase::RollingOut);
    }
}

#[test]
fn a_denial_says_why_and_beats_an_approval() {
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, BOB);
    annotate(&mut scene.request, DENIED_BY, CAT);
    annotate(
        &mut scene.request,
        DENIED_REASON,
        "it is\nthe \u{1b}[31mdatabase",
    );
    let outcome = scene.ends(RequestState::Denied, Reason::DeniedByApprover);
    assert!(
        outcome.message.contains("it is the  [31mdatabase"),
        "{}",
        outcome.message
    );
    assert_eq!(condition_map(&scene.status())["Denied"].0, "True");
    let mut silent = Scene::default();
    annotate(&mut silent.request, DENIED_BY, CAT);
    let outcome = silent.ends(RequestState::Denied, Reason::DeniedByApprover);
    assert!(outcome.message.contains("no reason given"));
    // A reason without a name is nothing.
    let mut nobody = Scene::default();
    annotate(&mut nobody.request, DENIED_REASON, "no");
    nobody.until(Phase::AwaitingApproval);
}

#[test]
fn deletion_beats_cancelling_beats_denial() {
    let mut scene = Scene::default();
    annotate(&mut scene.request, DENIED_BY, BOB);
    annotate(&mut scene.request, CANCELLED_BY, BOB);
    let outcome = approval::withdrawn(&scene.request, at(5)).unwrap();
    assert_eq!(outcome.reason, Reason::CancelledByUser);
    scene.request.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(6)));
    let outcome = approval::withdrawn(&scene.request, at(5)).unwrap();
    assert_eq!(outcome.reason, Reason::Deleted);
}

#[test]
fn it_expires_on_the_second() {
    for mut scene in [
        {
            let mut scene = Scene::default();
            scene.until(Phase::AwaitingApproval);
            scene
        },
        Scene::default().approved(),
    ] {
        scene.now = at(3599);
        assert!(scene.clone().decided().outcome.is_none());
        scene.now = at(3600);
        scene.ends(RequestState::Expired, Reason::NotApprovedInTime);
    }
    let mut scene = Scene::default().intended();
    scene.now = at(7200);
    scene.until(Phase::RollingOut);
}
