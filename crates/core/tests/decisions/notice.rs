//! Events: one for each fact, with a name that is the same however often it is told.

use std::collections::BTreeSet;

use crate::world::{Move, REQUEST, Scene, annotate, approve, planned_target};
use rollback_api::RollbackRequestStatus;
use rollback_core::report::notice::{Notice, describe, notices};
use serde_json::json;

fn names(status: &RollbackRequestStatus) -> Vec<String> {
    notices(status)
        .iter()
        .map(|notice| notice.event_name("api-5xx", REQUEST))
        .collect()
}

fn reasons(status: &RollbackRequestStatus) -> Vec<&'static str> {
    notices(status).iter().map(|notice| notice.reason).collect()
}

/// Every status from the request to its end, and how it was reached.
fn life(mut scene: Scene) -> Vec<RollbackRequestStatus> {
    let mut statuses = vec![scene.status()];
    for round in 0..40 {
        if round == 3 {
            approve(&mut scene.request, "bob@broxiva.com");
        }
        if round == 15 {
            scene.roll_out();
        }
        let step = scene.pass();
        statuses.push(scene.status());
        scene.now += jiff::SignedDuration::from_millis(1500);
        if step == Move::Done {
            return statuses;
        }
    }
    panic!("it does not end: {}", scene.state());
}

#[test]
fn the_story_of_a_rollback_in_order() {
    let statuses = life(Scene::default());
    let last = statuses.last().unwrap();
    assert_eq!(
        reasons(last),
        [
            "Planned",
            "Approved",
            "BackedUp",
            "Reverted",
            "RolledOut",
            "Succeeded",
            "Reported"
        ]
    );
    assert!(notices(last).iter().all(|notice| !notice.warning));
    assert!(
        notices(last)
            .windows(2)
            .all(|pair| pair[0].at <= pair[1].at)
    );
    assert!(notices(&RollbackRequestStatus::default()).is_empty());
}

#[test]
fn what_a_pass_tells_is_the_difference_and_nothing_is_told_twice() {
    let statuses = life(Scene::default());
    let mut told = BTreeSet::new();
    for pair in statuses.windows(2) {
        let (before, after) = (names(&pair[0]), names(&pair[1]));
        for name in &before {
            assert!(after.contains(name), "a fact was taken back");
        }
        for name in after.iter().filter(|name| !before.contains(name)) {
            assert!(told.insert(name.clone()), "{name} is told twice");
        }
    }
    assert_eq!(told.len(), 7);
}

#[test]
fn a_renewed_plan_is_told_again() {
    let mut scene = Scene::default().approved();
    let before = names(&scene.status());
    scene.observed.guard.present[0].generation += 1;
    scene.now = crate::world::at(9);
    scene.pass();
    let status = scene.status();
    assert_eq!(reasons(&status), ["Planned"]);
    assert!(!before.contains(&names(&status)[0]));
}

#[test]
fn an_end_that_needs_somebody_is_a_warning() {
    for (key, state) in [
        (rollback_api::DENIED_BY, "Denied"),
        (rollback_api::CANCELLED_BY, "Cancelled"),
    ] {
        let mut scene = Scene::default();
        annotate(&mut scene.request, key, "bob");
        scene.settle();
        let all = notices(&scene.status());
        assert_eq!((all[0].reason, all[0].warning), (state, true));
        assert!(all[0].note.contains("bob"));
    }
}

#[test]
fn every_end_has_an_action() {
    for (state, action) in [
        ("Succeeded", "Finish"),
        ("Failed", "Finish"),
        ("Refused", "Finish"),
        ("Superseded", "Finish"),
        ("Denied", "Approve"),
        ("Expired", "Approve"),
        ("Cancelled", "Approve"),
        ("Planning", "Plan"),
        ("AwaitingApproval", "Approve"),
        ("BackingUp", "BackUp"),
        ("Reverting", "Revert"),
        ("RollingOut", "RollOut"),
        ("Verifying", "Verify"),
    ] {
        let status: RollbackRequestStatus = serde_json::from_value(json!({"outcome": {
            "result": state, "reason": "NoOp", "effect": "None", "message": "m", "at": "2026-11-23T14:00:00Z",
        }}))
        .unwrap();
        assert_eq!(notices(&status)[0].action, action, "{state}");
    }
}

fn is_dns_subdomain(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(edge)
                && label.ends_with(edge)
                && label.chars().all(|c| edge(c) || c == '-')
        })
}

#[test]
fn event_names_are_valid_for_every_valid_request_name() {
    let statuses = life(Scene::default());
    let all = notices(statuses.last().unwrap());
    let long = "a".repeat(253);
    let dashed = format!("{}{}z", "a".repeat(198), "-".repeat(54));
    let dotted = format!("{}.{}", "a".repeat(199), "b".repeat(53));
    for request in ["a", "0", "api-5xx", "a.b.c", &long, &dashed, &dotted] {
        assert!(is_dns_subdomain(request), "{request}");
        let names: BTreeSet<String> = all
            .iter()
            .map(|notice| notice.event_name(request, REQUEST))
            .collect();
        assert_eq!(names.len(), all.len());
        for name in names {
            assert!(is_dns_subdomain(&name), "{name}");
            assert!(name.starts_with(&request[..request.len().min(198)]));
        }
    }
}

#[test]
fn the_key_is_the_fact() {
    let notice = Notice {
        key: None,
        at: crate::world::at(0),
        warning: false,
        reason: "Planned",
        action: "Plan",
        note: "n".to_owned(),
    };
    let name = notice.event_name("api", REQUEST);
    // Written down, because a changed key tells every old fact again.
    assert_eq!(name, "api.8b5ccbe5b5b29438");
    let others = [
        Notice {
            at: crate::world::at(1),
            ..notice.clone()
        },
        Notice {
            reason: "Approved",
            ..notice.clone()
        },
        Notice {
            note: "m".to_owned(),
            ..notice.clone()
        },
    ];
    for other in others {
        assert_ne!(other.event_name("api", REQUEST), name);
    }
    assert_ne!(notice.event_name("api", "another uid"), name);
}

#[test]
fn notes_fit_and_are_clean() {
    let mut scene = Scene::default();
    annotate(
        &mut scene.request,
        rollback_api::DENIED_BY,
        "bob\n\u{202e}\u{1b}",
    );
    annotate(
        &mut scene.request,
        rollback_api::DENIED_REASON,
        &"ä\n".repeat(100_000),
    );
    scene.settle();
    for notice in notices(&scene.status()) {
        assert!(notice.note.len() <= 1024, "{}", notice.note.len());
        assert!(!notice.note.chars().any(char::is_control));
    }
}

#[test]
fn a_target_in_a_line() {
    let mut target = planned_target();
    assert_eq!(describe(&target), "api: revision 2 -> 1 (no image changes)");
    target.from.revision = None;
    target.images = serde_json::from_value(json!([
        {"container": "api", "from": "a:2", "to": "a:1"},
        {"container": "new", "from": "n:1"},
        {"container": "old", "to": "o:1"},
    ]))
    .unwrap();
    assert_eq!(
        describe(&target),
        "api: revision ? -> 1 (api: a:2 -> a:1, new: n:1 -> none, old: none -> o:1)"
    );
}
