//! What a request that came by itself may ask for, whatever admission let pass; which request is the one that would be
//! asked for; and how many rollbacks a namespace has had without a person.

use crate::world::{Observed, made};
use crate::world::{Scene, at, digest, observed, request, seen};
use jiff::Timestamp;
use rollback_api::status::{BlockedBy, Effect, Outcome};
use rollback_api::{Identity, Reason, RequestState, RollbackRequest, RollbackRequestStatus};
use rollback_core::evidence::pace::Tally;
use rollback_core::evidence::trigger::{
    NAMES, RECEIVER, WATCH, difference, request_name, request_names,
};
use rollback_core::execution::outcome::Ending;
use rollback_core::execution::phase::Phase;
use rollback_core::observed::{Fetched, Pace};
use serde_json::{Value, json};

/// A policy that lets alerts ask and approves them.
fn rules() -> Value {
    json!({"triggers": {"sources": ["alerts"], "approve": true}})
}

/// The fields of a request that came by itself, about what runs.
fn by_itself() -> Value {
    json!({
        "targets": [{"kind": "Deployment", "name": "api", "from": {"templateDigest": digest("v2")}, "to": {"previous": {}}}],
        "reason": {"category": "HealthCheck", "summary": "it is down"},
        "trigger": {"source": "alerts", "alert": "Down", "id": "1", "startedAt": at(-60), "pendingSeconds": 0},
    })
}

/// The same, which goes there.
fn to(to: Value) -> Value {
    let mut fields = by_itself();
    fields["targets"][0]["to"] = to;
    fields
}

/// The same with one more field.
fn with(key: &str, value: Value) -> Value {
    let mut fields = by_itself();
    fields[key] = value;
    fields
}

fn world() -> Observed {
    Observed {
        policy: Fetched::Found(crate::world::policy(rules())),
        ..observed()
    }
}

/// Everything that only a person may ask for, and the field that a message names.
fn beyond() -> Vec<(&'static str, Value, &'static str)> {
    let mut no_from = by_itself();
    no_from["targets"][0]["from"] = Value::Null;
    let mut second = by_itself();
    let other =
        json!({"kind": "Deployment", "name": "web", "from": {"image": "x"}, "to": {"revision": 1}});
    second["targets"].as_array_mut().unwrap().push(other);
    let both = json!({"previous": {}, "image": {"image": "evil.example/x:1", "allowNew": true}});
    vec![
        (
            "a revision",
            to(json!({"revision": 1})),
            "spec.targets[0].to",
        ),
        (
            "a version",
            to(json!({"version": "v1"})),
            "spec.targets[0].to",
        ),
        (
            "an image",
            to(json!({"image": {"image": "registry.broxiva.example/api:v1"}})),
            "spec.targets[0].to",
        ),
        (
            "a new image",
            to(json!({"image": {"image": "evil.example/x:1", "allowNew": true}})),
            "spec.targets[0].to",
        ),
        (
            "a backup",
            to(json!({"backup": "rollback-backup-0123456789abcdef"})),
            "spec.targets[0].to",
        ),
        ("nothing", to(json!({})), "spec.targets[0].to"),
        ("two things", to(both), "spec.targets[0].to"),
        ("the second target", second, "spec.targets[1].to"),
        ("without from", no_from, "spec.targets[0].from"),
        (
            "checks",
            with("verification", json!({"soakSeconds": 0})),
            "spec.verification",
        ),
        (
            "rollout",
            with("rollout", json!({"onFailure": "Restore"})),
            "spec.rollout",
        ),
        ("a dry run", with("dryRun", json!(true)), "spec.dryRun"),
    ]
}

#[test]
fn what_slipped_past_admission_is_refused_by_the_plan() {
    for (what, fields, field) in beyond() {
        let outcome = made(&request(&fields), &world(), at(5))
            .unwrap_err()
            .with(Effect::None);
        assert_eq!(
            (outcome.result, outcome.reason),
            (RequestState::Refused, Reason::Forbidden),
            "{what}: {}",
            outcome.message
        );
        for part in [field, "Nothing was changed", "without spec.trigger"] {
            assert!(
                outcome.message.contains(part),
                "{what}: {}",
                outcome.message
            );
        }
    }
}

/// The twins: by itself to the previous version or the last good one, and anything by a person.
#[test]
fn what_goes_back_is_planned_and_people_ask_for_anything() {
    assert!(made(&request(&by_itself()), &world(), at(5)).is_ok());
    let outcome = made(&request(&to(json!({"lastKnownGood": {}}))), &world(), at(5));
    // Nothing is known to be good here, which is another matter.
    assert_eq!(outcome.unwrap_err().reason, Reason::NoKnownGood);
    for (what, mut fields, _) in beyond() {
        fields["trigger"] = Value::Null;
        let outcome = made(&request(&fields), &world(), at(5));
        let forbidden = |ending: &Ending| ending.reason == Reason::Forbidden;
        assert!(!outcome.is_err_and(|ending| forbidden(&ending)), "{what}");
    }
}

/// A plan that was made before that rule existed is for people.
#[test]
fn an_old_plan_of_what_only_a_person_may_ask_for_is_not_approved() {
    for field in ["verification", "rollout"] {
        let mut scene = Scene::new(&by_itself()).with_policy(rules());
        scene.observed.pace = Fetched::Unknown;
        scene.settle_all();
        assert_eq!(scene.phase(), Phase::AwaitingApproval);
        let more = request(&with("rollout", json!({"onFailure": "Restore"})));
        let checks = request(&with("verification", json!({"soakSeconds": 0})));
        if field == "rollout" {
            scene.request.spec.rollout = more.spec.rollout;
        } else {
            scene.request.spec.verification = checks.spec.verification;
        }
        scene.observed.pace = Fetched::Found(Pace {
            paused: Some(false),
            ..Pace::default()
        });
        scene.settle_all();
        let said = scene.status().auto_approval.expect("it has spoken");
        assert_eq!(
            said.blocked_by,
            Some(BlockedBy::NotAllowed),
            "{}",
            said.message
        );
        assert!(said.message.contains(field), "{}", said.message);
    }
}

/// A request as the API server serves it, asked for by this user.
fn stored(fields: &Value, by: &str) -> RollbackRequest {
    let mut request = request(fields);
    request.spec.requested_by = Some(Identity {
        username: by.to_owned(),
        ..Identity::default()
    });
    request
}

fn ended(mut request: RollbackRequest, reason: Reason) -> RollbackRequest {
    request.status = Some(RollbackRequestStatus {
        outcome: Some(Outcome {
            effect: Effect::Written,
            result: RequestState::Refused,
            reason,
            message: String::new(),
            by: None,
            at: at(0),
        }),
        ..RollbackRequestStatus::default()
    });
    request
}

/// Whoever of the two asked for the very same: nobody asks again.
#[test]
fn the_same_request_of_ours_is_the_answer() {
    let wanted = request(&by_itself());
    let ours = [RECEIVER, WATCH];
    let mut other_alert = by_itself();
    other_alert["trigger"]["source"] = json!("others");
    other_alert["trigger"]["id"] = json!("2");
    let last_good = to(json!({"lastKnownGood": {}}));
    for fields in [by_itself(), other_alert, last_good] {
        for by in ours {
            assert_eq!(difference(&stored(&fields, by), &wanted, &ours), None);
        }
    }
    for reason in [
        Reason::DidNotHelp,
        Reason::NotLive,
        Reason::SourceNotAllowed,
    ] {
        let there = ended(stored(&by_itself(), WATCH), reason);
        assert_eq!(difference(&there, &wanted, &ours), None, "{reason:?}");
    }
    let older = ended(stored(&by_itself(), WATCH), Reason::AlertOlderThanVersion);
    assert_eq!(difference(&older, &wanted, &ours), None);
}

#[test]
fn what_only_has_the_name_is_no_answer() {
    let wanted = request(&by_itself());
    let ours = [RECEIVER, WATCH];
    let no_trigger = with("trigger", Value::Null);
    let mut elsewhere = by_itself();
    elsewhere["targets"][0]["name"] = json!("web");
    let mut other_version = by_itself();
    other_version["targets"][0]["from"] = json!({"templateDigest": digest("v1")});
    let mut by_image = by_itself();
    by_image["targets"][0]["from"] = json!({"image": "registry.broxiva.example/api:v2"});
    let mut selected = by_itself();
    selected["targets"][0]["name"] = Value::Null;
    selected["targets"][0]["selector"] = json!({"matchLabels": {"app": "api"}});
    let claim = with(
        "reason",
        json!({"category": "Feature", "summary": "it is down"}),
    );
    let mut cases = vec![
        ("a person's", stored(&no_trigger, RECEIVER), "by itself"),
        (
            "a tenant's",
            stored(&by_itself(), "system:serviceaccount:shop:ci"),
            "system:serviceaccount:shop:ci",
        ),
        ("nobody's", stored(&by_itself(), ""), "asked for it"),
        (
            "of another Deployment",
            stored(&elsewhere, RECEIVER),
            "another Deployment",
        ),
        (
            "of another version",
            stored(&other_version, RECEIVER),
            "another version",
        ),
        (
            "of an image",
            stored(&by_image, RECEIVER),
            "another version",
        ),
        (
            "of a selector",
            stored(&selected, RECEIVER),
            "another Deployment",
        ),
        ("of another trouble", stored(&claim, RECEIVER), "trouble"),
    ];
    for (what, fields, _) in beyond() {
        cases.push((what, stored(&fields, RECEIVER), "more than to go back"));
    }
    let mut other_source = by_itself();
    other_source["trigger"]["source"] = json!("others");
    let refused = ended(stored(&other_source, RECEIVER), Reason::SourceNotAllowed);
    cases.push(("of a source that may not", refused, "may not ask here"));
    let mut older = by_itself();
    older["trigger"]["startedAt"] = json!(at(-600));
    let stale = ended(stored(&older, RECEIVER), Reason::AlertOlderThanVersion);
    cases.push(("of an older alert", stale, "older alert"));
    for (reason, what) in [
        (
            Reason::SourceNotAllowed,
            "r1: refused while the policy did not name the source",
        ),
        (Reason::NotApprovedInTime, "r1: let lie until it expired"),
    ] {
        // The same firing is answered; what fires anew is asked about again.
        let same = ended(stored(&by_itself(), RECEIVER), reason);
        assert_eq!(difference(&same, &wanted, &ours), None, "{what}");
        let there = ended(stored(&older, RECEIVER), reason);
        cases.push((what, there, "fires anew"));
    }
    for reason in [
        Reason::TooManyOpenRequests,
        Reason::Paused,
        Reason::NamespaceNotOptedIn,
        Reason::SelfHealingOwner,
    ] {
        let there = ended(stored(&by_itself(), RECEIVER), reason);
        cases.push(("refused for the moment", there, "may not hold any more"));
    }
    for (what, there, says) in cases {
        let why =
            difference(&there, &wanted, &ours).unwrap_or_else(|| panic!("{what} is the answer"));
        assert!(why.contains(says), "{what}: {why}");
    }
}

#[test]
fn there_is_another_name_when_one_is_taken() {
    use rollback_api::request::Category;
    let live = seen(crate::world::deployment("v2"));
    let live = live.found().unwrap();
    let names = request_names(live, Category::HealthCheck, "alerts");
    assert_eq!(names.len(), usize::from(NAMES));
    assert_eq!(names[0], request_name(live, Category::HealthCheck));
    assert_eq!(names, request_names(live, Category::HealthCheck, "alerts"));
    for (place, name) in names.iter().enumerate() {
        assert!(
            name.starts_with("auto-api-") && name.len() == names[0].len(),
            "{name}"
        );
        assert!(!names[..place].contains(name), "{names:?}");
        assert!(!request_names(live, Category::ErrorRate, "alerts").contains(name));
    }
}

/// What one source has asked for under its other names is not in the way of another source.
#[test]
fn the_other_names_are_each_source_s_own() {
    use rollback_api::request::Category;
    let live = seen(crate::world::deployment("v2"));
    let live = live.found().unwrap();
    let of = |source| request_names(live, Category::HealthCheck, source);
    assert_eq!(of("alerts")[0], of("controller")[0]);
    assert!(
        !of("alerts")[1..]
            .iter()
            .any(|name| of("controller").contains(name))
    );
}

fn rollback(uid: &str, when: Timestamp, automatic: bool) -> Value {
    json!({
        "request": "before", "requestUid": uid, "specDigest": "", "fromDigest": digest("v2"), "toDigest": digest("v1"),
        "at": when, "outcome": "Succeeded", "automatic": automatic, "verified": false,
    })
}

#[test]
fn rollbacks_without_a_person_are_counted_once_each() {
    let mut tally = Tally::at(at(0));
    let remembered = json!([
        rollback("u-1", at(-60), true),
        rollback("u-2", at(-3599), true),
        rollback("u-3", at(-3600), true),
        rollback("u-4", at(-60), false),
        // A clock that is ahead.
        rollback("u-5", at(60), true),
    ]);
    tally.ledger("api", Some(&remembered));
    tally.ledger("web", None);
    tally.ledger("web", Some(&json!([])));
    let approved =
        |when: Timestamp| json!({"planDigest": "", "message": "", "evidence": [], "at": when});
    tally.request("one", "u-1", Some(&approved(at(-70))));
    tally.request("six", "u-6", Some(&approved(at(-70))));
    tally.request("old", "u-7", Some(&approved(at(-3600))));
    let mut held_back = approved(at(-70));
    held_back["blockedBy"] = json!("CoolDown");
    tally.request("held-back", "u-8", Some(&held_back));
    tally.request("a-person's", "u-9", None);
    let pace = tally.pace(Some(false));
    assert_eq!((pace.recent, pace.unreadable.len()), (4, 0), "{pace:?}");
}

/// It may be about one, so it counts as one, and is named.
#[test]
fn what_cannot_be_read_counts_and_is_named() {
    let mut tally = Tally::at(at(0));
    let mut late = rollback("u-1", at(-9000), true);
    late["at"] = json!("9999-12-31T23:59:59Z");
    let mut nameless = rollback("u-1", at(-9000), true);
    nameless.as_object_mut().unwrap().remove("requestUid");
    for (name, rollbacks) in [
        ("late", json!([late])),
        ("nameless", json!([nameless])),
        ("none", json!("none")),
    ] {
        tally.ledger(name, Some(&rollbacks));
    }
    tally.request("odd", "u-2", Some(&json!({"at": "yesterday"})));
    let pace = tally.pace(Some(false));
    let named = [
        "RevisionLedger late",
        "RevisionLedger nameless",
        "RevisionLedger none",
        "RollbackRequest odd",
    ];
    assert_eq!(pace.unreadable, named);
    assert_eq!(pace.recent, 4);

    let mut scene = Scene::new(&by_itself()).with_policy(rules());
    scene.observed.pace = Fetched::Found(pace);
    scene.settle_all();
    let said = scene.status().auto_approval.expect("it has spoken");
    assert_eq!(
        said.blocked_by,
        Some(BlockedBy::HourlyLimit),
        "{}",
        said.message
    );
    for name in named {
        assert!(said.message.contains(name), "{}", said.message);
    }
}
