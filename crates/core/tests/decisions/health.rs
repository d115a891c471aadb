//! Readings of checks, folded into what the status remembers.

use crate::world::{Move, Scene, answer, at, policy, reading, request};
use rollback_api::status::{Rules, VerificationStatus};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::phase::Phase;
use rollback_core::health::{ChecksResult, begin, due, fold, verdict, wake};
use rollback_core::observed::{Answer, NoAnswer, Reading};
use serde_json::{Value, json};

/// Rules with the checks `live` (two rounds, every 5 s) and `ready` (three rounds, every 10 s), 60 s in all.
fn rules() -> Rules {
    rollback_core::plan::rules::rules(
        &request(&json!({})),
        Some(&policy(json!({"verification": checks()}))),
        false,
    )
}

fn checks() -> Value {
    json!({"timeoutSeconds": 60, "http": [
        {"name": "live", "port": 8080, "path": "/health/live"},
        {"name": "ready", "port": 8080, "path": "/health/ready", "expectedStatus": 204,
         "consecutiveSuccesses": 3, "periodSeconds": 10},
    ]})
}

fn begun() -> (Rules, VerificationStatus) {
    let rules = rules();
    let status = begin(&rules, at(0));
    (rules, status)
}

fn round(check: &str, seconds: i64, codes: &[u16]) -> Reading {
    let answers = codes
        .iter()
        .enumerate()
        .map(|(index, code)| answer(&format!("api-{index}"), *code))
        .collect();
    reading(check, at(seconds), answers)
}

/// Good rounds in a row of `live` after these rounds.
fn live_after(rounds: &[Reading]) -> (i32, i32, bool) {
    let (rules, mut status) = begun();
    fold(&rules, &mut status, rounds);
    let live = &status.checks[0];
    (
        live.rounds,
        live.consecutive_successes,
        live.passed_at.is_some(),
    )
}

#[test]
fn it_begins_with_nothing_known() {
    let (rules, status) = begun();
    assert_eq!(status.deadline, at(60));
    let names: Vec<_> = status
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(names, ["live", "ready"]);
    assert!(
        status
            .checks
            .iter()
            .all(|check| check.rounds == 0 && check.passed_at.is_none())
    );
    let ChecksResult::Checking(message) = verdict(&rules, &status, at(0)) else {
        panic!("nothing is known");
    };
    assert!(
        message.contains(
            "check live (/health/live): 0 of 2 good rounds in a row, last: not asked yet"
        )
    );
}

#[test]
fn good_rounds_in_a_row_pass() {
    assert_eq!(live_after(&[round("live", 1, &[200])]), (1, 1, false));
    assert_eq!(
        live_after(&[round("live", 1, &[200]), round("live", 6, &[200, 200])]),
        (2, 2, true)
    );
}

#[test]
fn a_bad_round_starts_anew() {
    for bad in [200, 204, 301, 404, 500, 503, 599]
        .into_iter()
        .filter(|code| *code != 200)
    {
        assert_eq!(
            live_after(&[round("live", 1, &[200]), round("live", 6, &[bad])]),
            (2, 0, false),
            "{bad}"
        );
    }
    assert_eq!(
        live_after(&[
            round("live", 1, &[200]),
            round("live", 6, &[500]),
            round("live", 11, &[200]),
        ]),
        (3, 1, false)
    );
    // The expected status is that of the check, whatever others think is good.
    let (rules, mut status) = begun();
    fold(&rules, &mut status, &[round("ready", 1, &[200])]);
    assert_eq!(status.checks[1].consecutive_successes, 0);
    fold(&rules, &mut status, &[round("ready", 11, &[204])]);
    assert_eq!(status.checks[1].consecutive_successes, 1);
}

#[test]
fn one_bad_pod_makes_a_bad_round() {
    assert_eq!(
        live_after(&[round("live", 1, &[200, 200, 500])]),
        (1, 0, false)
    );
    let (rules, mut status) = begun();
    let silent = Answer {
        pod: "api-1".to_owned(),
        result: Err(NoAnswer::Unanswered(
            "connection\u{1b}[31m refused\n".to_owned(),
        )),
    };
    fold(
        &rules,
        &mut status,
        &[reading("live", at(1), vec![answer("api-0", 200), silent])],
    );
    let live = &status.checks[0];
    assert_eq!(live.consecutive_successes, 0);
    assert_eq!(
        live.last_result,
        "1 of 2 pods did not answer well: api-1: connection [31m refused "
    );
}

#[test]
fn no_pods_are_not_healthy() {
    assert_eq!(
        live_after(&[round("live", 1, &[200]), round("live", 6, &[])]),
        (2, 0, false)
    );
    let (rules, mut status) = begun();
    fold(&rules, &mut status, &[round("live", 1, &[])]);
    assert_eq!(status.checks[0].last_result, "no ready pod to ask");
}

#[test]
fn the_same_reading_twice_is_one_round() {
    let once = round("live", 6, &[200]);
    assert_eq!(
        live_after(&[once.clone(), once.clone(), once.clone()]),
        (1, 1, false)
    );
    // So is one that is older than the last.
    assert_eq!(
        live_after(&[once.clone(), round("live", 5, &[500])]),
        (1, 1, false)
    );
    assert_eq!(live_after(&[once, round("live", 7, &[200])]), (2, 2, true));
}

#[test]
fn a_passed_check_stays_passed() {
    let (rules, mut status) = begun();
    fold(
        &rules,
        &mut status,
        &[round("live", 1, &[200]), round("live", 6, &[200])],
    );
    let before = status.clone();
    assert_eq!(before.checks[0].passed_at, Some(at(6)));
    fold(&rules, &mut status, &[round("live", 11, &[500])]);
    assert_eq!(status, before);
}

#[test]
fn a_reading_of_no_check_is_dropped() {
    let (rules, mut status) = begun();
    let before = status.clone();
    fold(&rules, &mut status, &[round("other", 1, &[200])]);
    assert_eq!(status, before);
}

#[test]
fn every_check_must_pass() {
    let (rules, mut status) = begun();
    fold(
        &rules,
        &mut status,
        &[round("live", 1, &[200]), round("live", 6, &[200])],
    );
    let ChecksResult::Checking(message) = verdict(&rules, &status, at(6)) else {
        panic!("ready has not passed");
    };
    assert!(
        !message.contains("live ") && message.contains("check ready"),
        "{message}"
    );
    for seconds in [10, 20, 30] {
        fold(&rules, &mut status, &[round("ready", seconds, &[204])]);
    }
    assert_eq!(verdict(&rules, &status, at(30)), ChecksResult::Passed);
}

#[test]
fn a_check_that_the_status_does_not_know_is_not_healthy() {
    let (rules, mut status) = begun();
    status.checks.clear();
    assert_ne!(verdict(&rules, &status, at(10)), ChecksResult::Passed);
    assert!(matches!(
        verdict(&rules, &status, at(60)),
        ChecksResult::Unknown(_)
    ));
}

#[test]
fn the_deadline_is_a_point_in_time() {
    let (rules, status) = begun();
    assert!(matches!(
        verdict(&rules, &status, at(59)),
        ChecksResult::Checking(_)
    ));
    let ChecksResult::Unknown(message) = verdict(&rules, &status, at(60)) else {
        panic!("the time is over, and nobody was asked");
    };
    assert!(
        message.contains("check live") && message.contains("check ready"),
        "{message}"
    );
}

#[test]
fn due_and_wake_follow_the_periods() {
    let (rules, mut status) = begun();
    let names = |status: &VerificationStatus, seconds: i64| -> Vec<String> {
        due(&rules, status, at(seconds))
            .map(|check| check.name().to_owned())
            .collect()
    };
    assert_eq!(names(&status, 0), ["live", "ready"]);
    assert_eq!(wake(&rules, &status, at(3)), at(3));
    fold(
        &rules,
        &mut status,
        &[round("live", 0, &[200]), round("ready", 0, &[204])],
    );
    assert!(names(&status, 4).is_empty());
    assert_eq!(names(&status, 5), ["live"]);
    assert_eq!(names(&status, 10), ["live", "ready"]);
    assert_eq!(wake(&rules, &status, at(1)), at(5));
    fold(&rules, &mut status, &[round("live", 5, &[200])]);
    // live has passed and is asked no more.
    assert_eq!(names(&status, 100), ["ready"]);
    assert_eq!(wake(&rules, &status, at(6)), at(10));
    fold(&rules, &mut status, &[round("ready", 58, &[500])]);
    assert_eq!(
        wake(&rules, &status, at(58)),
        at(60),
        "the deadline comes first"
    );
    for seconds in [59, 60, 61] {
        fold(&rules, &mut status, &[round("ready", seconds, &[204])]);
    }
    assert!(names(&status, 1000).is_empty());
    assert_eq!(wake(&rules, &status, at(61)), at(60));
}

#[test]
fn many_bad_pods_do_not_flood_the_status() {
    let (rules, mut status) = begun();
    let answers = (0..5000)
        .map(|index| Answer {
            pod: format!("api-{index}"),
            result: Err(NoAnswer::Unanswered("x".repeat(10_000))),
        })
        .collect();
    fold(&rules, &mut status, &[reading("live", at(1), answers)]);
    let result = &status.checks[0].last_result;
    assert!(result.starts_with("5000 of 5000 pods did not answer well: api-0: x"));
    assert!(result.len() < 1000);
}

#[test]
fn checks_decide_the_end() {
    let scene = || {
        Scene::default()
            .with_policy(json!({"verification": checks()}))
            .rolled_out()
    };
    // Well.
    let mut well = scene();
    for _ in 0..20 {
        well.observed.targets[0].readings = ["live", "ready"]
            .map(|name| {
                round(
                    name,
                    well.now.as_second() - at(0).as_second(),
                    &[if name == "live" { 200 } else { 204 }],
                )
            })
            .to_vec();
        if well.phase() == Phase::Ended {
            break;
        }
        assert!(matches!(well.pass(), Move::Wait { .. } | Move::Again));
        well.now += jiff::SignedDuration::from_secs(5);
    }
    let outcome = well.ends(RequestState::Succeeded, Reason::RolledBack);
    assert!(
        outcome.message.contains("2 of 2 checks"),
        "{}",
        outcome.message
    );
    assert!(
        well.status().targets[0]
            .verification
            .clone()
            .unwrap()
            .completed_at
            .is_some()
    );
    // Not well.
    let mut ill = scene();
    ill.probe(500);
    let step = ill.pass();
    assert_eq!(
        step,
        Move::Wait {
            until: Some(at(10))
        }
    );
    ill.now += jiff::SignedDuration::from_secs(60);
    let outcome = ill.ends(RequestState::Failed, Reason::ChecksFailed);
    assert!(
        outcome.message.contains("not well either"),
        "{}",
        outcome.message
    );
    assert!(outcome.message.contains("Escalate"));
}
