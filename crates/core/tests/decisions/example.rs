//! The report of a rich incident, as `docs/example-report.md` shows it: `UPDATE_EXAMPLE=1` writes it anew.

use std::fs;
use std::path::PathBuf;

use crate::world::{Scene, approve, at};
use rollback_api::policy::ChecklistItem;
use rollback_api::request::Category;
use rollback_api::status::{
    Cause, CauseKind, CheckKind, CheckStatus, DataRisk, Fallback, FallbackStatus, FallbackWhen,
    Finding, ImageChange, Intent, JobEnd, JobStage, JobStatus, Measured, RolloutStatus, Source,
    Taken, TemplateRef, VerificationStatus,
};
use rollback_api::{Reason, RollbackRequest, RollbackRequestStatus, WorkloadRef};
use rollback_core::message::redact::redact;
use rollback_core::report::notice::notices;
use rollback_core::report::{incident, review_due};
use serde_json::json;

fn check(
    name: &str,
    finding: Finding,
    result: &str,
    passed_at: Option<jiff::Timestamp>,
) -> CheckStatus {
    CheckStatus {
        kind: if name == "ready" {
            CheckKind::Http
        } else {
            CheckKind::Prometheus
        },
        name: name.to_owned(),
        rounds: 5,
        consecutive_successes: if passed_at.is_some() { 3 } else { 0 },
        last_at: Some(at(380)),
        finding,
        last_result: result.to_owned(),
        passed_at,
    }
}

fn job(
    stage: JobStage,
    name: &str,
    seconds: i64,
    exit_code: i32,
    message: &str,
    log: &[&str],
) -> JobStatus {
    JobStatus {
        stage,
        name: name.to_owned(),
        job: format!("rollback-{name}-5d9b6f1f"),
        intended_at: at(seconds - 10),
        end: Some(JobEnd {
            at: at(seconds),
            succeeded: exit_code == 0,
            exit_code: Some(exit_code),
            message: message.to_owned(),
            log: log.iter().map(|line| redact(line)).collect(),
        }),
    }
}

/// The plain rollback of the other tests, with everything that can happen to one.
fn rich() -> (RollbackRequest, RollbackRequestStatus) {
    let mut scene = Scene::new(&json!({
        "targets": [{"name": "api", "to": {"previous": {}}}],
        "reason": {
            "category": "ErrorRate",
            "summary": "5xx above 1 % since 13:48",
            "rootCause": "The new pool size exhausts the database connections.",
            "impact": "One in twenty orders fails.",
            "incidentUrl": "https://broxiva.example/incidents/17",
        },
    }))
    .with_policy(json!({"approvals": {"required": 2}}));
    scene.until(rollback_core::execution::phase::Phase::AwaitingApproval);
    scene.now = at(60);
    approve(&mut scene.request, "bob@broxiva.com");
    scene.settle();
    scene.now = at(90);
    approve(&mut scene.request, "cat@broxiva.com");
    scene.until(rollback_core::execution::phase::Phase::BackingUp);
    scene.now = at(95);
    scene.until(rollback_core::execution::phase::Phase::RollingOut);
    scene.now = at(120);
    scene.roll_out();
    scene.settle();
    assert_eq!(scene.request.spec.reason.category, Category::ErrorRate);

    let mut status = scene.status();
    let plan = status.plan.as_mut().unwrap();
    plan.rules.verification.soak_seconds = 60;
    plan.rules.verification.manual = Some(
        ["Log in with a test user", "Buy something and cancel it"]
            .map(|text| ChecklistItem {
                name: "item".to_owned(),
                text: text.to_owned(),
            })
            .to_vec(),
    );
    plan.data_risk = Some(DataRisk {
        message: "Deployment api: the running version brought schema 42, the one to go back to tolerates 40 and 41. It may not read what was written since. Ask dba@broxiva.example.".to_owned(),
    });
    plan.targets[0].from_since = Some(at(-900));
    plan.targets[0].fallbacks = vec![Fallback {
        when: FallbackWhen::Unwell,
        to: TemplateRef {
            revision: None,
            digest: format!("sha256:{}", "4".repeat(64)),
        },
        source: Source::NewImage,
        source_ref: None,
        images: vec![ImageChange {
            container: "api".to_owned(),
            from: Some("registry.broxiva.com/shop/api:v1".to_owned()),
            to: Some("registry.broxiva.com/shop/api:v1-rescue".to_owned()),
        }],
    }];
    status.approvals[0].accepts_data_risk =
        Some("Column orders.currency is nullable; agreed with the DBA on the phone.".to_owned());
    status.approvals[1].accepts_data_risk = Some("Seen, and agreed.".to_owned());
    for upon in &mut status.begun_upon {
        upon.approvals.clone_from(&status.approvals);
    }
    status.scaled_down = vec![Taken {
        workload: WorkloadRef::deployment("reports", "d-9"),
        from: 4,
        intended_at: at(130),
        taken_at: Some(at(131)),
        restored_at: Some(at(445)),
    }];

    let target = &mut status.targets[0];
    target.revert.as_mut().unwrap().intended_at = at(105);
    target.reverted_at = Some(at(106));
    target.before = [
        (
            "error-rate",
            "5xx are 4.20 % of all answers, the limit is 1.00 %",
        ),
        ("latency-p99", "2840 ms, the limit is 2000 ms"),
    ]
    .map(|(check, result)| Measured {
        kind: CheckKind::Prometheus,
        check: check.to_owned(),
        finding: Finding::Fail,
        result: result.to_owned(),
    })
    .to_vec();
    target.rollout = Some(RolloutStatus {
        deadline: at(406),
        desired_at_revert: None,
        most_available: None,
        progressed_at: None,
        desired: 4,
        updated: 2,
        available: 0,
        cause: Some(Cause {
            kind: CauseKind::CrashLoop,
            message: "container api exited with code 1, 3 times".to_owned(),
            pod: Some("api-7d9f8b6c5d-x2x9k".to_owned()),
            last_words: Some(redact(
                "Error: P1001: Can't reach database server at `db:5432`\nDATABASE_URL=postgresql://shop:hunter2@db:5432/shop",
            )),
            since: at(128),
        }),
        completed_at: None,
    });
    target.verification = None;
    target.fallback = Some(FallbackStatus {
        when: FallbackWhen::Unwell,
        reason: Reason::RolloutTimedOut,
        at: at(149),
        why: "api did not come up: CrashLoop".to_owned(),
        intent: Some(Intent {
            intended_at: at(150),
            generation: 4,
            taken_over: false,
            progressing: None,
        }),
        reverted_at: Some(at(151)),
        rollout: Some(RolloutStatus {
            deadline: at(451),
            desired_at_revert: None,
            most_available: None,
            progressed_at: None,
            desired: 4,
            updated: 4,
            available: 4,
            cause: None,
            completed_at: Some(at(190)),
        }),
        verification: Some(VerificationStatus {
            begun_at: Some(at(190)),
            deadline: at(490),
            checks: vec![
                check(
                    "ready",
                    Finding::Pass,
                    "4 of 4 pods answered 200",
                    Some(at(200)),
                ),
                check(
                    "error-rate",
                    Finding::Pass,
                    "5xx are 0.12 % of all answers, the limit is 1.00 %",
                    Some(at(380)),
                ),
                check(
                    "latency-p99",
                    Finding::Pass,
                    "310 ms, the limit is 2000 ms",
                    Some(at(380)),
                ),
            ],
            completed_at: Some(at(380)),
        }),
    });
    target.jobs = vec![
        job(
            JobStage::PreRollback,
            "drain-queues",
            100,
            0,
            "It succeeded.",
            &[],
        ),
        job(
            JobStage::Smoke,
            "smoke",
            370,
            0,
            "It succeeded.",
            &[
                "POST /login 200",
                "Authorization: Bearer abc123def456",
                "POST /checkout 200",
                "2 of 2 passed",
            ],
        ),
        job(
            JobStage::PostRollback,
            "warm-cache",
            440,
            2,
            "Its container ended with exit code 2; the policy only asks to be told.",
            &["redis: timeout"],
        ),
    ];
    let outcome = status.outcome.as_mut().unwrap();
    outcome.at = at(450);
    outcome.reason = Reason::RolledBack;
    "Rolled back to the fallback, and every check has passed.".clone_into(&mut outcome.message);
    status.incident = None;
    (scene.request, status)
}

fn documented(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

#[test]
fn the_documented_example_is_what_is_written() {
    let (request, status) = rich();
    let artifact = incident(&request, &status).unwrap();
    for (key, text) in &artifact.data {
        let extension = key.rsplit('.').next().unwrap();
        let path = documented(&format!("example-report.{extension}"));
        if std::env::var_os("UPDATE_EXAMPLE").is_some() {
            fs::write(&path, text).unwrap();
        }
        let documented = fs::read_to_string(&path).unwrap();
        assert_eq!(
            documented.trim_end(),
            text.trim_end(),
            "{} is another; UPDATE_EXAMPLE=1 writes it anew",
            path.display()
        );
    }
}

#[test]
fn a_rich_incident_tells_everything_and_no_secret() {
    let (request, status) = rich();
    let artifact = incident(&request, &status).unwrap();
    for (key, text) in &artifact.data {
        for part in [
            "tolerates 40 and 41",
            "agreed with the DBA",
            "4.20 %",
            "0.12 %",
            "P1001",
            "2 of 2 passed",
            "v1-rescue",
            "reports",
            "Buy something",
            "Log in with a test user",
            "CrashLoop",
        ] {
            assert!(text.contains(part), "{part} in {key}");
        }
        for secret in ["hunter2", "abc123def456"] {
            assert!(!text.contains(secret), "{secret} in {key}");
        }
    }
    let json = artifact
        .data
        .iter()
        .find(|(key, _)| key.rsplit('.').next() == Some("json"))
        .unwrap()
        .1;
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["secondsFromRequestToRecovery"], json!(380));
    assert_eq!(json["secondsFromBadVersionToRecovery"], json!(1280));
    let phases: Vec<(String, i64)> = json["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| {
            (
                phase["name"].as_str().unwrap().to_owned(),
                phase["milliseconds"].as_i64().unwrap() / 1000,
            )
        })
        .collect();
    let expected = [
        ("planning", 5),
        ("approval", 85),
        ("preparation", 15),
        ("write", 46),
        ("rollout", 39),
        ("verification", 190),
        ("soak", 70),
        ("all", 450),
    ];
    assert_eq!(
        phases,
        expected.map(|(name, seconds)| (name.to_owned(), seconds))
    );
}

#[test]
fn what_matters_is_told_once() {
    let (request, mut status) = rich();
    let reasons: Vec<&str> = notices(&status)
        .iter()
        .map(|notice| notice.reason)
        .collect();
    for reason in [
        "DataRiskAccepted",
        "JobFailed",
        "FallbackTried",
        "ScaledDown",
        "ScaledUp",
    ] {
        assert!(reasons.contains(&reason), "{reason} in {reasons:?}");
    }
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| **reason == "JobFailed")
            .count(),
        1,
        "those that succeed are no news"
    );

    status.targets[0].fallback = None;
    let named = |status: &RollbackRequestStatus| {
        let all = notices(status);
        let cause = all
            .iter()
            .find(|notice| notice.reason == "CauseFound")
            .unwrap();
        cause.event_name("api-5xx", request.metadata.uid.as_deref().unwrap())
    };
    let first = named(&status);
    let cause = status.targets[0]
        .rollout
        .as_mut()
        .unwrap()
        .cause
        .as_mut()
        .unwrap();
    cause.message = "container api exited with code 1, 9 times".to_owned();
    cause.since = at(170);
    assert_eq!(
        named(&status),
        first,
        "the same kind of trouble is the same Event"
    );
    status.targets[0]
        .rollout
        .as_mut()
        .unwrap()
        .cause
        .as_mut()
        .unwrap()
        .kind = CauseKind::ImagePull;
    assert_ne!(named(&status), first);
}

#[test]
fn the_review_is_due_when_the_policy_says() {
    let (_, mut status) = rich();
    let outcome = status.outcome.clone().unwrap();
    let plan = status.plan.as_mut().unwrap();
    plan.rules.report.review_within_seconds = 90;
    assert_eq!(review_due(plan, &outcome), at(540));
    plan.rules.report.review_within_seconds = 0;
    assert_eq!(review_due(plan, &outcome), at(450 + 48 * 3600));
}

#[test]
fn without_a_change_nobody_checks_by_hand_and_without_a_success_nothing_recovered() {
    let (request, mut status) = rich();
    status.outcome.as_mut().unwrap().result = rollback_api::RequestState::Failed;
    let page = |status: &RollbackRequestStatus| {
        let artifact = incident(&request, status).unwrap();
        artifact
            .data
            .into_iter()
            .find(|(key, _)| key.rsplit('.').next() == Some("md"))
            .unwrap()
            .1
    };
    assert!(!page(&status).contains("Time to recover"));
    assert!(page(&status).contains("checked by hand"));
    status.targets[0].reverted_at = None;
    assert!(!page(&status).contains("checked by hand"));
}
