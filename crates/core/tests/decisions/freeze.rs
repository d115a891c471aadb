//! Freeze windows: when one is open, what it holds back, and what an emergency is.

use crate::world::{Move, Scene, approve, deployment, policy};
use jiff::Timestamp;
use rollback_api::policy::FreezeWindow;
use rollback_core::approval::freeze::frozen;
use rollback_core::execution::phase::Phase;
use rollback_core::observed::Fetched;
use serde_json::{Value, json};

fn window(schedule: &str, zone: &str, minutes: i32) -> FreezeWindow {
    FreezeWindow {
        name: "night".to_owned(),
        schedule: schedule.to_owned(),
        time_zone: zone.to_owned(),
        duration_minutes: minutes,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Schedule, zone, minutes, the time, and the end of the window if it is open then.
#[test]
fn when_a_window_is_open() {
    for (schedule, zone, minutes, now, end) in [
        // Friday 18:00 for an hour; 2026-11-27 is a Friday.
        ("0 18 * * FRI", "UTC", 60, "2026-11-27T17:59:59Z", None),
        (
            "0 18 * * FRI",
            "UTC",
            60,
            "2026-11-27T18:00:00Z",
            Some("2026-11-27T19:00:00Z"),
        ),
        (
            "0 18 * * FRI",
            "UTC",
            60,
            "2026-11-27T18:59:59Z",
            Some("2026-11-27T19:00:00Z"),
        ),
        ("0 18 * * FRI", "UTC", 60, "2026-11-27T19:00:00Z", None),
        // By the clock of the zone.
        (
            "0 18 * * 5",
            "Europe/Berlin",
            60,
            "2026-11-27T17:30:00Z",
            Some("2026-11-27T18:00:00Z"),
        ),
        (
            "0 18 * * 5",
            "America/New_York",
            60,
            "2026-11-27T17:30:00Z",
            None,
        ),
        // Over midnight and over a weekend.
        (
            "0 18 * * FRI",
            "UTC",
            3600,
            "2026-11-29T05:00:00Z",
            Some("2026-11-30T06:00:00Z"),
        ),
        // Longer than its period: always open.
        (
            "0 * * * *",
            "UTC",
            120,
            "2026-11-27T18:59:59Z",
            Some("2026-11-27T20:00:00Z"),
        ),
        // The hour that summer time skips: the window begins when that hour is over.
        (
            "30 2 29 3 *",
            "Europe/Berlin",
            60,
            "2026-03-29T01:10:00Z",
            Some("2026-03-29T02:00:00Z"),
        ),
        // 30 February never comes.
        ("0 0 30 2 *", "UTC", 60, "2026-11-27T18:00:00Z", None),
        // Last Friday of the month.
        (
            "0 0 * * FRI#L",
            "UTC",
            1440,
            "2026-11-27T18:00:00Z",
            Some("2026-11-28T00:00:00Z"),
        ),
    ] {
        let open = frozen(&[window(schedule, zone, minutes)], at(now));
        let found = open.map(|open| open.until.unwrap());
        assert_eq!(found, end.map(at), "{schedule} {zone} at {now}");
    }
}

#[test]
fn of_several_windows_the_last_end_counts() {
    let windows = [
        window("0 18 * * *", "UTC", 60),
        window("30 18 * * *", "UTC", 60),
        window("0 6 * * *", "UTC", 60),
    ];
    let open = frozen(&windows, at("2026-11-27T18:45:00Z")).unwrap();
    assert_eq!(open.until, Ok(at("2026-11-27T19:30:00Z")));
    assert_eq!(frozen(&windows, at("2026-11-27T12:00:00Z")), None);
}

/// Somebody wanted a freeze, and nobody can tell that it is over.
#[test]
fn a_window_that_cannot_be_read_is_open() {
    for (schedule, zone, part) in [
        (
            "0 18 * * FRI",
            "Mars/Olympus",
            "timeZone: there is no zone Mars/Olympus",
        ),
        ("61 18 * * *", "UTC", "schedule: "),
        ("so be it * *", "UTC", "schedule: "),
        ("", "UTC", "schedule: "),
    ] {
        let open = frozen(&[window(schedule, zone, 60)], at("2026-11-27T18:45:00Z")).unwrap();
        let why = open.until.unwrap_err();
        assert!(why.contains(part), "{why}");
    }
}

/// Reason and message of the `Ready` condition.
fn ready(scene: &Scene) -> (String, String) {
    let status = scene.status();
    let mut conditions = status.conditions.into_iter();
    let ready = conditions
        .find(|condition| condition.type_ == "Ready")
        .unwrap();
    (ready.reason, ready.message)
}

/// A window that is always open, and more rules.
fn frozen_world(fields: &Value, approvals: Value) -> Scene {
    let mut scene = Scene::new(fields);
    scene.observed.policy = Fetched::Found(policy(json!({
        "approvals": approvals,
        "freezeWindows": [{"name": "black-friday", "schedule": "* * * * *", "durationMinutes": 60}],
    })));
    scene
}

#[test]
fn an_approved_request_waits_for_the_end_of_the_window() {
    let mut scene = frozen_world(&json!({}), json!({}));
    scene.until(Phase::AwaitingApproval);
    scene.settle();
    let (_, message) = ready(&scene);
    assert!(
        message.contains("Frozen by the window black-friday"),
        "{message}"
    );
    approve(&mut scene.request, "bob@broxiva.com");
    let Move::Wait { until: Some(_) } = scene.settle() else {
        panic!("it does not wait");
    };
    let (reason, message) = ready(&scene);
    assert_eq!(reason, "Frozen");
    for part in [
        "nothing is written before",
        "verb expedite",
        "urgency Critical",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(scene.phase(), Phase::BackingUp, "nothing was begun");
    // The window is taken away: that is another policy, and asks for another approval.
    scene.observed.policy = Fetched::Found(policy(json!({})));
    scene.settle();
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
    approve(&mut scene.request, "bob@broxiva.com");
    scene.until(Phase::RollingOut);
}

#[test]
fn an_emergency_goes_through_the_freeze() {
    // By somebody who may expedite.
    let critical = json!({"reason": {"category": "Security", "summary": "a hole"}});
    let mut scene = frozen_world(&critical, json!({})).approved();
    scene.until(Phase::RollingOut);
    // The same claim by somebody who may not.
    let mut scene = frozen_world(&critical, json!({}));
    scene.observed.expedite = Fetched::Found(false);
    let mut scene = scene.approved();
    scene.settle();
    assert_eq!(ready(&scene).0, "Frozen");
    // Somebody who may, and is in no hurry.
    let mut scene = frozen_world(&json!({}), json!({})).approved();
    scene.settle();
    assert_eq!(ready(&scene).0, "Frozen");
    // What everybody can see.
    let mut scene = frozen_world(&json!({}), json!({})).approved();
    let mut down = deployment("v2");
    down["status"]["conditions"] = json!([{"type": "Available", "status": "False"}]);
    scene.observed.targets[0].deployment = crate::world::seen(down);
    scene.until(Phase::RollingOut);
    // Alone, and past the rules.
    let mut scene = frozen_world(&json!({}), json!({"breakGlass": true}));
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, crate::world::REQUESTER);
    crate::world::annotate(
        &mut scene.request,
        rollback_api::BREAK_GLASS,
        "nobody else answers the phone",
    );
    scene.until(Phase::RollingOut);
}

#[test]
fn a_freeze_that_lasts_ends_in_the_expiry_and_says_so() {
    let mut scene = frozen_world(&json!({}), json!({"validForSeconds": 604_800})).approved();
    scene.settle();
    scene.now = crate::world::at(3700);
    scene.settle();
    let outcome = scene.status().outcome.unwrap();
    assert_eq!(outcome.result, rollback_api::RequestState::Expired);
    assert!(
        outcome.message.contains("freeze window"),
        "{}",
        outcome.message
    );
}
