//! The rules in force: the policy, the decision matrix, and what a claim of the request is worth.

use crate::world::{Observed, made};
use crate::world::{at, observed, policy, request};
use rollback_api::policy::{ApprovalMode, Environment};
use rollback_api::request::Urgency;
use rollback_api::{Identity, Reason, RequestState, RollbackRequest};
use rollback_core::observed::Fetched;
use rollback_core::plan::rules;
use rollback_core::plan::rules::{approval_mode, is_hurried, makes_a_difference, rules, urgency};
use serde_json::{Value, json};

fn asking(category: &str, claimed: Option<&str>) -> Value {
    let mut fields = json!({"reason": {"category": category, "summary": "it is broken"}});
    if let Some(claimed) = claimed {
        fields["urgency"] = json!(claimed);
    }
    fields
}

#[test]
fn without_a_policy_those_of_production_hold() {
    let rules = rules(&request(&json!({})), None, false);
    assert_eq!(rules.environment, Environment::Production);
    assert_eq!(rules.confirm_phrase(), "ROLLBACK PRODUCTION");
    assert_eq!(rules.approvals.required, 1);
    assert!(rules.four_eyes() && !rules.approvals.break_glass);
    let names: Vec<&str> = rules
        .checklist()
        .iter()
        .map(|item| item.name.as_str())
        .collect();
    assert_eq!(names, ["incident-documented", "stakeholders-notified"]);
    let with = |value| rules::rules(&request(&json!({})), Some(&policy(value)), false);
    assert_eq!(with(json!({})), rules);
    let staging = with(json!({"environment": "staging"}));
    assert!(!staging.four_eyes() && staging.checklist().is_empty());
    assert!(with(json!({"environment": "staging", "approvals": {"fourEyes": true}})).four_eyes());
    assert!(!with(json!({"approvals": {"fourEyes": false}})).four_eyes());
    assert!(
        with(json!({"approvals": {"checklist": []}}))
            .checklist()
            .is_empty()
    );
}

/// Category, what is claimed, whether the requester may expedite, and what that is worth.
#[test]
fn an_urgency_above_that_of_the_category_is_only_a_claim() {
    use Urgency::{Critical, High, Immediate, Low, Medium};
    for (category, claimed, expedited, expected) in [
        ("HealthCheck", None, false, Immediate),
        ("ErrorRate", None, false, High),
        ("Latency", None, false, High),
        ("BusinessLogic", None, false, Medium),
        ("Security", None, false, Critical),
        ("Feature", None, false, Low),
        ("ErrorRate", Some("Low"), false, Low),
        ("ErrorRate", Some("High"), false, High),
        ("ErrorRate", Some("Critical"), false, High),
        ("ErrorRate", Some("Critical"), true, Critical),
        ("Feature", Some("Immediate"), false, Low),
        ("Feature", Some("Immediate"), true, Immediate),
        ("HealthCheck", Some("Medium"), true, Medium),
    ] {
        let request = request(&asking(category, claimed));
        assert_eq!(
            urgency(&request, None, expedited),
            expected,
            "{category} {claimed:?} {expedited}"
        );
    }
    let policy =
        policy(json!({"decisionMatrix": [{"category": "ErrorRate", "urgency": "Medium"}]}));
    let calm = request(&asking("ErrorRate", None));
    assert_eq!(urgency(&calm, Some(&policy), false), Medium);
    let hurried = request(&asking("ErrorRate", Some("High")));
    assert!(is_hurried(&hurried, Some(&policy)) && !is_hurried(&hurried, None));
}

/// What is required, by urgency, the claim, whether the requester may expedite, and how many then approve.
#[test]
fn a_claim_never_asks_for_fewer_people_than_the_policy() {
    let by_urgency =
        json!([{"urgency": "Critical", "required": 1}, {"urgency": "High", "required": 3}]);
    let policy = policy(json!({"approvals": {"required": 2, "byUrgency": by_urgency}}));
    for (category, claimed, expedited, expected) in [
        ("BusinessLogic", None, false, 2),
        // More people, by claim or by category.
        ("ErrorRate", None, false, 3),
        // What is less urgent than its category still asks for what the category asks for.
        ("ErrorRate", Some("Low"), false, 3),
        // Fewer only for who may expedite.
        ("Security", None, false, 2),
        ("Security", None, true, 1),
        ("BusinessLogic", Some("Critical"), true, 1),
        ("BusinessLogic", Some("Critical"), false, 2),
        ("HealthCheck", None, true, 2),
    ] {
        let request = request(&asking(category, claimed));
        let rules = rules(&request, Some(&policy), expedited);
        assert_eq!(
            rules.approvals.required, expected,
            "{category} {claimed:?} {expedited}"
        );
    }
}

const RECEIVER: &str = "system:serviceaccount:rollback-system:rollback-receiver";
const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";

/// A request of somebody in these groups, by itself or because of an alert.
fn asked_by(name: &str, groups: &[&str], trigger: bool) -> RollbackRequest {
    let mut fields = json!({});
    if trigger {
        fields["trigger"] = json!({
            "source": "alertmanager", "alert": "HighErrorRate", "id": "1", "startedAt": "2026-06-01T14:00:00Z",
        });
    }
    let mut request = request(&fields);
    request.spec.requested_by = Some(Identity {
        username: name.to_owned(),
        uid: None,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    });
    request
}

/// Who asks, in which group, because of an alert, and how many must approve where four eyes are asked for: one person
/// may stand behind a machine and approve what it asks for.
#[test]
fn behind_a_machine_there_may_be_the_one_who_approves() {
    for (who, group, trigger, expected) in [
        ("rita@broxiva.com", "sre", false, 1),
        // A name that only looks like one.
        ("rita:system:serviceaccount", "sre", false, 1),
        ("rita@broxiva.com", "sre", true, 2),
        (FLUX, "system:serviceaccounts", false, 2),
        // `edit` may act as any ServiceAccount of its namespace.
        ("system:serviceaccount:broxiva:robot", "sre", false, 2),
        ("system:serviceaccount:broxiva-other:robot", "sre", false, 2),
        (RECEIVER, "system:serviceaccounts", true, 2),
        ("robot", "system:serviceaccounts", false, 2),
        ("system:node:worker-1", "system:nodes", false, 2),
        ("worker-1", "system:nodes", false, 2),
        ("system:kube-controller-manager", "sre", false, 2),
        ("system:anonymous", "system:unauthenticated", false, 2),
        ("", "sre", false, 2),
    ] {
        let request = asked_by(who, &[group, "system:authenticated"], trigger);
        let with = |approvals: Value| {
            rules(
                &request,
                Some(&policy(json!({"approvals": approvals}))),
                false,
            )
        };
        assert_eq!(
            rules(&request, None, false).approvals.required,
            expected,
            "{who}"
        );
        let asked = with(json!({"fourEyes": true}));
        assert_eq!(asked.approvals.required, expected, "{who}");
        assert_eq!(asked.asked_by_machine.is_some(), expected == 2, "{who}");
        if let Some(machine) = &asked.asked_by_machine {
            let known = who.is_empty() || machine.contains(who);
            assert!(
                known && machine.contains("alertmanager") == trigger,
                "{machine}"
            );
        }
        // Who may approve the own request needs nobody behind whom to stand.
        let alone = with(json!({"fourEyes": false}));
        assert_eq!(
            (alone.approvals.required, alone.asked_by_machine),
            (1, None),
            "{who}"
        );
        assert_eq!(with(json!({"required": 3})).approvals.required, 3, "{who}");
        // The policy names it, or another one.
        let trusted = with(json!({"trustedMachines": [who]}));
        assert_eq!(trusted.approvals.required, 1, "{who}");
        let other =
            with(json!({"trustedMachines": ["system:serviceaccount:a:b", format!("{who}x")]}));
        assert_eq!(other.approvals.required, expected, "{who}");
        // One person may be enough at an urgency, and still is not behind a machine.
        let urgent = json!({"required": 2, "byUrgency": [{"urgency": "High", "required": 1}]});
        let policy = policy(json!({"approvals": urgent}));
        assert_eq!(
            rules(&request, Some(&policy), true).approvals.required,
            expected,
            "{who}"
        );
    }
}

#[test]
fn whether_somebody_may_expedite_is_asked_only_when_it_matters() {
    let fewer = json!({"approvals": {"required": 2, "byUrgency": [{"urgency": "Critical", "required": 1}]}});
    let more = json!({"approvals": {"required": 1, "byUrgency": [{"urgency": "Critical", "required": 2}]}});
    let freeze = json!({"freezeWindows": [{"name": "night", "schedule": "0 22 * * *", "durationMinutes": 60}]});
    for (what, category, claimed, rules, expected) in [
        ("nothing", "ErrorRate", None, json!({}), false),
        ("a claim", "ErrorRate", Some("Critical"), json!({}), true),
        ("fewer people", "Security", None, fewer.clone(), true),
        ("fewer, but not for this", "ErrorRate", None, fewer, false),
        ("more people", "Security", None, more, false),
        ("a freeze", "Security", None, freeze.clone(), true),
        ("a freeze and no hurry", "ErrorRate", None, freeze, false),
    ] {
        let request = request(&asking(category, claimed));
        let policy = policy(rules);
        assert_eq!(
            makes_a_difference(&request, Some(&policy)),
            expected,
            "{what}"
        );
        let with = |expedited| rules::rules(&request, Some(&policy), expedited);
        if !expected {
            assert_eq!(with(true), with(false), "{what}");
        }
        let unread = Observed {
            policy: Fetched::Found(policy.clone()),
            expedite: Fetched::Unknown,
            ..observed()
        };
        assert_eq!(unread.rules(&request).is_some(), !expected, "{what}");
    }
}

#[test]
fn more_hurry_than_allowed_is_refused_and_says_how_to_ask() {
    let hurried = request(&asking("ErrorRate", Some("Critical")));
    let world = |expedite| Observed {
        expedite,
        ..observed()
    };
    assert!(made(&hurried, &world(Fetched::Found(true)), at(5)).is_ok());
    let outcome = made(&hurried, &world(Fetched::Found(false)), at(5)).unwrap_err();
    assert_eq!(
        (outcome.result, outcome.reason),
        (RequestState::Refused, Reason::Forbidden)
    );
    for part in [
        "spec.urgency",
        "ErrorRate is High here",
        "expedite",
        "without spec.urgency",
    ] {
        assert!(outcome.text().contains(part), "{}", outcome.text());
    }
}

#[test]
fn the_matrix_can_be_overridden_both_ways() {
    let feature = request(&asking("Feature", None));
    let refused = made(&feature, &observed(), at(5)).unwrap_err();
    assert_eq!(refused.reason, Reason::HotfixForward);
    let overridden = policy(json!({"decisionMatrix": [
        {"category": "Feature", "approval": "Manual"}, {"category": "Latency", "approval": "Refused"},
    ]}));
    let world = Observed {
        policy: Fetched::Found(overridden.clone()),
        ..observed()
    };
    assert!(made(&feature, &world, at(5)).is_ok());
    let latency = request(&asking("Latency", None));
    let refused = made(&latency, &world, at(5)).unwrap_err();
    assert_eq!(refused.reason, Reason::HotfixForward);
    assert!(
        refused.text().contains("decisionMatrix"),
        "{}",
        refused.text()
    );
    let category = latency.spec.reason.category;
    assert_eq!(
        approval_mode(category, Some(&overridden)),
        ApprovalMode::Refused
    );
    assert_eq!(approval_mode(category, None), ApprovalMode::Manual);
}
