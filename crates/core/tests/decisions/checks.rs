//! Checks of every kind: what is well, what is not, and what nobody could tell.

use crate::world::{Scene, at, policy, request};
use rollback_api::policy::HttpCheck;
use rollback_api::status::{CheckKind, Finding, JobEnd, JobStage, JobStatus, Rules};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::phase::Phase;
use rollback_core::health::{ChecksResult, begin, due, fold, fold_jobs, measured, verdict, wake};
use rollback_core::observed::{Answer, Found, HttpAnswer, NoAnswer, PodState, Reading};
use serde_json::{Value, json};

fn rules(verification: Value) -> Rules {
    rollback_core::plan::rules::rules(
        &request(&json!({})),
        Some(&policy(json!({"verification": verification}))),
        false,
    )
}

/// What one round of the only check found, in one word and in words.
fn finding(verification: Value, kind: CheckKind, found: Found) -> (Finding, String) {
    let rules = rules(verification);
    let name = begin(&rules, at(0)).checks[0].name.clone();
    let reading = Reading {
        kind,
        check: name,
        at: at(1),
        found,
    };
    let all = measured(&rules, &[reading]);
    (all[0].finding, all[0].result.clone())
}

fn heard(status: u16, body_matches: Option<bool>) -> Result<HttpAnswer, NoAnswer> {
    Ok(HttpAnswer {
        status,
        body_matches,
    })
}

fn pod(name: &str, result: Result<HttpAnswer, NoAnswer>) -> Answer {
    Answer {
        pod: name.to_owned(),
        result,
    }
}

#[test]
fn an_answer_is_judged_by_its_status_and_its_body() {
    let plain = json!({"http": [{"name": "live", "port": 80, "preset": "Live"}]});
    let body = json!({"http": [{"name": "live", "port": 80, "path": "/", "bodyContains": "ok"}]});
    let unasked = || Err(NoAnswer::NotAsked("not allowed".to_owned()));
    let unanswered = || Err(NoAnswer::Unanswered("no answer in time".to_owned()));
    let table = [
        (&plain, vec![heard(200, None)], Finding::Pass),
        (&plain, vec![heard(500, None)], Finding::Fail),
        (&plain, vec![heard(302, None)], Finding::Fail),
        (&plain, vec![unanswered()], Finding::Fail),
        (&plain, vec![unasked()], Finding::Unknown),
        (&plain, vec![], Finding::Unknown),
        (&plain, vec![heard(200, None), unasked()], Finding::Unknown),
        (&plain, vec![heard(500, None), unasked()], Finding::Fail),
        (&body, vec![heard(200, Some(true))], Finding::Pass),
        (&body, vec![heard(200, Some(false))], Finding::Fail),
        (&body, vec![heard(200, None)], Finding::Fail),
        (&body, vec![heard(404, Some(true))], Finding::Fail),
    ];
    for (index, (check, results, expected)) in table.into_iter().enumerate() {
        let answers = results
            .into_iter()
            .map(|result| pod("api-1", result))
            .collect();
        let (found, words) = finding(check.clone(), CheckKind::Http, Found::Answers(answers));
        assert_eq!(found, expected, "{index}: {words}");
    }
}

#[test]
fn a_service_that_leads_to_none_of_the_new_pods_tells_nothing() {
    let check =
        json!({"http": [{"name": "live", "port": 80, "service": "shop", "preset": "Ready"}]});
    let (found, words) = finding(check, CheckKind::Http, Found::Answers(Vec::new()));
    assert_eq!(found, Finding::Unknown);
    assert_eq!(words, "Service shop leads to none of the new pods");
}

#[test]
fn a_number_lies_between_its_bounds_or_tells_nothing() {
    let check = |fields: Value| {
        let mut check = json!({"name": "number"});
        check
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"prometheus": {"url": "http://prometheus:9090", "checks": [check]}})
    };
    let table = [
        (json!({"preset": "ErrorRate"}), Ok(0.0), Finding::Pass),
        (json!({"preset": "ErrorRate"}), Ok(0.01), Finding::Pass),
        (json!({"preset": "ErrorRate"}), Ok(0.010_001), Finding::Fail),
        (json!({"preset": "Latency"}), Ok(2000.0), Finding::Pass),
        (json!({"preset": "Latency"}), Ok(2000.1), Finding::Fail),
        (
            json!({"preset": "Latency", "atMost": 300}),
            Ok(301.0),
            Finding::Fail,
        ),
        (json!({"preset": "Restarts"}), Ok(3.0), Finding::Pass),
        (json!({"preset": "Restarts"}), Ok(3.5), Finding::Fail),
        (json!({"preset": "Throughput"}), Ok(0.5), Finding::Pass),
        (json!({"preset": "Throughput"}), Ok(0.49), Finding::Fail),
        (json!({"query": "up", "atLeast": 1}), Ok(1.0), Finding::Pass),
        (json!({"query": "up", "atLeast": 1}), Ok(0.0), Finding::Fail),
        (json!({"query": "up"}), Ok(1.0), Finding::Unknown),
        (
            json!({"preset": "ErrorRate"}),
            Ok(f64::NAN),
            Finding::Unknown,
        ),
        (
            json!({"preset": "Throughput"}),
            Ok(f64::INFINITY),
            Finding::Unknown,
        ),
        (
            json!({"preset": "ErrorRate"}),
            Err("no number".to_owned()),
            Finding::Unknown,
        ),
    ];
    for (fields, number, expected) in table {
        let (found, words) = finding(
            check(fields.clone()),
            CheckKind::Prometheus,
            Found::Number(number.clone()),
        );
        assert_eq!(found, expected, "{fields} {number:?}: {words}");
    }
    let (_, words) = finding(
        check(json!({"preset": "ErrorRate"})),
        CheckKind::Prometheus,
        Found::Number(Ok(0.034_567_89)),
    );
    assert_eq!(words, "0.034568 (at most 0.01)");
}

#[test]
fn pods_are_ready_and_do_not_restart() {
    let check = json!({"pods": {"maxRestarts": 1}});
    let state = |ready, restarts| PodState {
        name: "api-1".to_owned(),
        ready,
        restarts,
    };
    let table = [
        (vec![state(true, 0), state(true, 1)], Finding::Pass),
        (vec![state(true, 1), state(true, 1)], Finding::Fail),
        (vec![state(true, 0), state(false, 0)], Finding::Fail),
        (vec![], Finding::Unknown),
    ];
    for (pods, expected) in table {
        let (found, words) = finding(check.clone(), CheckKind::Pods, Found::Pods(pods));
        assert_eq!(found, expected, "{words}");
    }
}

#[test]
fn what_was_found_for_another_kind_of_check_tells_nothing() {
    let check = json!({"pods": {}});
    let (found, _) = finding(check, CheckKind::Pods, Found::Number(Ok(0.0)));
    assert_eq!(found, Finding::Unknown);
}

fn smoke(on_failure: &str) -> Rules {
    rules(json!({"timeoutSeconds": 60, "jobs": [
        {"name": "smoke", "podSpec": {"containers": []}, "timeoutSeconds": 300, "onFailure": on_failure}
    ]}))
}

fn ended(succeeded: bool) -> JobStatus {
    JobStatus {
        stage: JobStage::Smoke,
        name: "smoke".to_owned(),
        job: "rollback-smoke".to_owned(),
        intended_at: at(0),
        end: Some(JobEnd {
            at: at(10),
            succeeded,
            exit_code: Some(i32::from(!succeeded)),
            message: "it ended".to_owned(),
            log: Vec::new(),
        }),
    }
}

#[test]
fn a_smoke_test_has_its_own_time_and_decides_when_it_ends() {
    let rules = smoke("Veto");
    let mut status = begin(&rules, at(0));
    assert_eq!(status.deadline, at(330), "it gets its time and some slack");
    assert_eq!(due(&rules, &status, at(1)).count(), 0, "nobody asks it");
    assert_eq!(wake(&rules, &status, at(1)), at(330));
    assert!(matches!(
        verdict(&rules, &status, at(329)),
        ChecksResult::Checking(_)
    ));
    assert!(matches!(
        verdict(&rules, &status, at(330)),
        ChecksResult::Unknown(_)
    ));
    fold_jobs(&rules, &mut status, &[ended(false)]);
    let ChecksResult::Failed(message) = verdict(&rules, &status, at(11)) else {
        panic!("it runs once");
    };
    assert!(message.contains("exit code 1"), "{message}");
    let mut status = begin(&rules, at(0));
    fold_jobs(&rules, &mut status, &[ended(true)]);
    assert_eq!(verdict(&rules, &status, at(11)), ChecksResult::Passed);
}

#[test]
fn a_smoke_test_that_may_fail_stays_a_failure_and_keeps_nobody() {
    let rules = smoke("Warn");
    let mut status = begin(&rules, at(0));
    fold_jobs(&rules, &mut status, &[ended(false)]);
    assert_eq!(verdict(&rules, &status, at(11)), ChecksResult::Passed);
    assert_eq!(status.checks[0].finding, Finding::Fail);
}

#[test]
fn the_checks_of_a_request_come_on_top_and_replace_nothing() {
    let of_policy = json!({"verification": {"soakSeconds": 60,
        "http": [{"name": "live", "port": 80, "preset": "Live"}]}});
    let asks = |checks: Value| json!({"verification": checks});
    let own = json!({"http": [{"name": "cart", "port": 80, "path": "/cart"}], "soakSeconds": 10});
    let mut scene = Scene::new(&asks(own)).with_policy(of_policy.clone());
    scene.until(Phase::AwaitingApproval);
    let rules = scene.status().plan.unwrap().rules;
    let names: Vec<&str> = rules
        .http
        .iter()
        .map(|check: &HttpCheck| check.name.as_str())
        .collect();
    assert_eq!((names, rules.soak_seconds), (vec!["live", "cart"], 60));
    let same = json!({"http": [{"name": "live", "port": 81, "path": "/"}]});
    let mut scene = Scene::new(&asks(same)).with_policy(of_policy);
    let outcome = scene.ends(RequestState::Refused, Reason::Unsupported);
    assert!(
        outcome.message.contains("spec.verification.http[0].name"),
        "{outcome:?}"
    );
}

#[test]
fn what_the_checks_say_of_the_bad_version_is_kept() {
    let checks =
        json!({"verification": {"http": [{"name": "live", "port": 80, "preset": "Live"}]}});
    let mut scene = Scene::default().with_policy(checks);
    let now = scene.now;
    scene.of("api").readings = vec![Reading {
        kind: CheckKind::Http,
        check: "live".to_owned(),
        at: now,
        found: Found::Answers(vec![pod("api-9", heard(503, None))]),
    }];
    scene.until(Phase::AwaitingApproval);
    let before = &scene.status().targets[0].before;
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].finding, Finding::Fail);
    assert!(before[0].result.contains("answered 503"), "{before:?}");
}

#[test]
fn two_kinds_of_check_may_have_one_name() {
    let rules = rules(json!({
        "http": [{"name": "pods", "port": 80, "preset": "Live", "consecutiveSuccesses": 1}],
        "pods": {"consecutiveSuccesses": 1},
    }));
    let mut status = begin(&rules, at(0));
    let reading = Reading {
        kind: CheckKind::Http,
        check: "pods".to_owned(),
        at: at(1),
        found: Found::Answers(vec![pod("api-1", heard(200, None))]),
    };
    fold(&rules, &mut status, &[reading]);
    assert!(status.checks[0].passed_at.is_some() && status.checks[1].passed_at.is_none());
}
