//! Jobs of the policy: when they run, which image they get, what their end means, and what a crash does not repeat.

use crate::world::{Move, REQUEST, REQUESTER, Scene, annotate, approve, at, template};
use rollback_api::policy::JobTemplate;
use rollback_api::status::{JobRule, JobStage, JobStatus};
use rollback_api::{CANCELLED_BY, REQUEST_UID_LABEL, Reason, RequestState};
use rollback_core::execution::job::{self, Standing};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::Step;
use rollback_core::observed::{Fetched, JobState};
use serde_json::{Value, json};

const NEWER: &str = "registry.broxiva.com/shop/api:v2";
const OLDER: &str = "registry.broxiva.com/shop/api:v1";

/// A Job of a policy with these fields besides.
fn named(name: &str, more: Value) -> Value {
    let mut job = json!({
        "name": name,
        "podSpec": {"containers": [{"name": "main", "command": ["check"]}]},
        "imageOf": {"version": "Newer", "container": "api"},
        "timeoutSeconds": 60,
    });
    let Value::Object(more) = more else {
        panic!("no fields: {more}");
    };
    for (key, value) in more {
        job[key] = value;
    }
    job
}

fn hooks(before: &[Value], after: &[Value]) -> Value {
    json!({"environment": "staging", "hooks": {"preRollback": before, "postRollback": after}})
}

fn migration(more: Value) -> Value {
    json!({"environment": "staging", "dataGate": {
        "contact": "#dba", "migrationStatus": named("migrate", more),
    }})
}

fn smoke(jobs: &[Value]) -> Value {
    json!({"environment": "staging", "verification": {"jobs": jobs}})
}

/// The statuses of the Jobs of the only target.
fn jobs(scene: &Scene) -> Vec<JobStatus> {
    scene.status().targets[0].jobs.clone()
}

/// What the next pass sees of the Job that was begun last.
fn see(scene: &mut Scene, state: JobState) {
    let job = scene.seen().job.found().expect("a Job was begun").clone();
    scene.seen().job = Fetched::Found(rollback_core::observed::ObservedJob { state, ..job });
}

fn succeeded() -> JobState {
    JobState::Ended {
        succeeded: true,
        exit_code: Some(0),
        message: "it succeeded".to_owned(),
        log: Vec::new(),
    }
}

fn failed(code: i32) -> JobState {
    JobState::Ended {
        succeeded: false,
        exit_code: Some(code),
        message: "its container main failed".to_owned(),
        log: vec!["no".to_owned()],
    }
}

/// Passes until a Job is to be started; which, and with which image.
fn starts(scene: &mut Scene) -> (String, Option<String>) {
    for _ in 0..10 {
        let taken = scene.commit();
        if let Move::Write(Step::RunJob {
            rule, job, image, ..
        }) = &taken
        {
            let known = jobs(scene);
            let stored = known.iter().find(|known| known.job == *job).unwrap();
            assert_eq!(stored.end, None, "the intent is stored first");
            let (name, image) = (rule.name.clone(), image.clone());
            scene.take(&taken);
            return (name, image);
        }
        scene.take(&taken);
    }
    panic!("no Job is started: {}", scene.state());
}

/// Nothing was written to the Deployment.
fn is_untouched(scene: &Scene) -> bool {
    scene.deployment()["spec"]["template"] == template("v2")
}

#[test]
fn jobs_before_run_one_after_the_other_and_then_the_deployment_is_written() {
    let older = json!({"imageOf": {"version": "Older", "container": "api"}});
    let policy = hooks(&[named("drain", json!({})), named("dump", older)], &[]);
    let mut scene = Scene::default().with_policy(policy).approved();
    assert_eq!(starts(&mut scene), ("drain".into(), Some(NEWER.into())));
    assert_eq!(scene.phase(), Phase::BackingUp);
    assert!(scene.status().targets[0].backup.is_some());
    // It runs: nothing is done meanwhile, until it must have ended.
    scene.waits(60 + job::JOB_SLACK_SECONDS);
    see(&mut scene, succeeded());
    assert_eq!(starts(&mut scene), ("dump".into(), Some(OLDER.into())));
    assert!(is_untouched(&scene));
    see(&mut scene, succeeded());
    scene.until(Phase::RollingOut);
    let ends: Vec<_> = jobs(&scene)
        .into_iter()
        .map(|job| (job.stage, job.name, job.end.unwrap().succeeded))
        .collect();
    assert_eq!(
        ends,
        [
            (JobStage::PreRollback, "drain".to_owned(), true),
            (JobStage::PreRollback, "dump".to_owned(), true)
        ]
    );
}

#[test]
fn a_veto_changes_nothing_and_says_so() {
    let refused = JobState::Refused("the API server does not take it".to_owned());
    let table = [
        (failed(3), "its container main failed (exit code 3)"),
        (refused, "the API server does not take it"),
    ];
    for (state, says) in table {
        let policy = hooks(&[named("drain", json!({}))], &[]);
        let mut scene = Scene::default().with_policy(policy).approved();
        starts(&mut scene);
        see(&mut scene, state);
        let outcome = scene.ends(RequestState::Refused, Reason::HookVetoed);
        assert!(outcome.message.contains(says), "{}", outcome.message);
        assert!(outcome.message.contains("Nothing was changed."));
        let job = jobs(&scene).remove(0);
        assert!(outcome.message.contains(&job.job), "{}", outcome.message);
        assert!(!job.end.unwrap().succeeded);
        assert!(is_untouched(&scene));
        assert_eq!(
            scene.target("api").ledger.found().unwrap().claim,
            None,
            "the claim is given back"
        );
    }
}

#[test]
fn a_job_that_may_fail_is_told_once_and_the_rollback_goes_on() {
    let policy = hooks(&[named("drain", json!({"onFailure": "Warn"}))], &[]);
    let mut scene = Scene::default().with_policy(policy).approved();
    starts(&mut scene);
    see(&mut scene, failed(3));
    scene.until(Phase::RollingOut);
    scene.roll_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
    assert_eq!(
        scene.status().targets[0].warnings,
        [
            "PreRollback Job drain of Deployment api failed, and the policy goes on all the same: its container main failed (exit code 3)."
        ]
    );
}

#[test]
fn the_time_of_a_job_ends_it() {
    // Never seen to end, and never seen to be there.
    for state in [Some(JobState::Running), None] {
        let policy = hooks(&[named("drain", json!({}))], &[]);
        let mut scene = Scene::default().with_policy(policy).approved();
        starts(&mut scene);
        if state.is_none() {
            scene.seen().job = Fetched::Absent;
        }
        scene.now = at(5 + 60 + job::JOB_SLACK_SECONDS - 1);
        let early = scene.decide();
        match state {
            Some(_) => assert!(matches!(early, Move::Wait { .. }), "{early:?}"),
            None => assert!(matches!(early, Move::Write(Step::RunJob { .. }))),
        }
        scene.now = at(5 + 60 + job::JOB_SLACK_SECONDS);
        let outcome = scene.ends(RequestState::Refused, Reason::HookVetoed);
        let says = match state {
            Some(_) => "did not end within 60 seconds",
            None => "could not be started before",
        };
        assert!(outcome.message.contains(says), "{}", outcome.message);
    }
    // One that has ended in time although nobody looked has not failed.
    let policy = hooks(&[named("drain", json!({}))], &[]);
    let mut scene = Scene::default().with_policy(policy).approved();
    starts(&mut scene);
    see(&mut scene, succeeded());
    scene.now = at(1000);
    scene.until(Phase::RollingOut);
}

#[test]
fn what_was_not_read_is_no_end() {
    let policy = hooks(&[named("drain", json!({}))], &[]);
    let mut scene = Scene::default().with_policy(policy).approved();
    starts(&mut scene);
    scene.seen().job = Fetched::Unknown;
    for now in [6, 1000] {
        scene.now = at(now);
        scene.waits(1);
        assert_eq!(jobs(&scene)[0].end, None);
    }
}

#[test]
fn a_crash_at_any_point_starts_no_second_job() {
    let policy = hooks(&[named("drain", json!({}))], &[named("resume", json!({}))]);
    let mut scene = Scene::default().with_policy(policy).approved();
    let mut started = Vec::new();
    for pass in 0..60 {
        let taken = scene.commit();
        // The pass dies before the write: the next one decides the same.
        if let Move::Write(step @ Step::RunJob { job, .. }) = &taken {
            scene.seen().job = Fetched::Absent;
            assert_eq!(scene.decide(), Move::Write(step.clone()), "pass {pass}");
            started.push(job.clone());
        }
        scene.take(&taken);
        // The pass dies after the write: the Job is there, and the next one follows it.
        if matches!(taken, Move::Write(Step::RunJob { .. })) {
            assert!(matches!(scene.decide(), Move::Wait { .. }), "pass {pass}");
            see(&mut scene, succeeded());
        }
        if scene.phase() == Phase::RollingOut {
            scene.roll_out();
        }
    }
    let expected: Vec<String> = jobs(&scene).into_iter().map(|job| job.job).collect();
    assert_eq!(started, expected);
    assert_eq!(started.len(), 2);
    assert_eq!(scene.state(), "Succeeded/Unverified");
}

#[test]
fn after_the_checks_a_veto_fails_the_rollback_and_leaves_it_in_place() {
    let policy = hooks(&[], &[named("resume", json!({}))]);
    let mut scene = Scene::default().with_policy(policy).rolled_out();
    // What the newer version had is known from the plan alone by now.
    assert_eq!(starts(&mut scene), ("resume".into(), Some(NEWER.into())));
    see(&mut scene, failed(7));
    let outcome = scene.ends(RequestState::Failed, Reason::HookFailed);
    assert!(
        outcome.message.contains("PostRollback Job resume of Deployment api failed: its container main failed (exit code 7)"),
        "{}",
        outcome.message
    );
    assert!(!is_untouched(&scene));
}

#[test]
fn a_smoke_test_is_one_of_the_checks() {
    let older = json!({"imageOf": {"version": "Older", "container": "api"}});
    let table = [
        (succeeded(), RequestState::Succeeded, Reason::RolledBack),
        (failed(1), RequestState::Failed, Reason::ChecksFailed),
    ];
    for (job, end, reason) in table {
        let policy = smoke(&[named("login", older.clone()), named("cart", older.clone())]);
        let mut scene = Scene::default().with_policy(policy).rolled_out();
        assert_eq!(starts(&mut scene), ("login".into(), Some(OLDER.into())));
        see(&mut scene, job.clone());
        if reason == Reason::RolledBack {
            starts(&mut scene);
            see(&mut scene, job);
        }
        let outcome = scene.ends(end, reason);
        let count = if reason == Reason::RolledBack { 2 } else { 1 };
        assert_eq!(jobs(&scene).len(), count, "{}", outcome.message);
    }
}

#[test]
fn a_container_that_the_version_does_not_have_is_said_before_anything_is_started() {
    let of = json!({"imageOf": {"version": "Older", "container": "web"}});
    let policy = hooks(&[named("drain", of)], &[]);
    let mut scene = Scene::default().with_policy(policy).approved();
    let outcome = scene.ends(RequestState::Refused, Reason::HookVetoed);
    let says = "imageOf names container web and the older version has none of that name";
    assert!(outcome.message.contains(says), "{}", outcome.message);
    assert_eq!(scene.seen().job, Fetched::Unknown);
}

#[test]
fn a_migration_that_cannot_be_lived_with_asks_everybody_again_and_runs_once() {
    let mut scene = Scene::default()
        .with_policy(migration(json!({})))
        .approved();
    starts(&mut scene);
    let before = scene.status().plan.unwrap();
    see(&mut scene, failed(2));
    scene.until(Phase::BackingUp);
    for _ in 0..5 {
        scene.pass();
    }
    let plan = scene.status().plan.unwrap();
    assert_ne!(plan.digest, before.digest);
    let risk = plan.data_risk.as_ref().unwrap().message.clone();
    assert!(
        risk.contains("(exit code 2)") && risk.contains("#dba"),
        "{risk}"
    );
    assert!(scene.status().approvals.is_empty());
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
    assert!(is_untouched(&scene));
    // Somebody accepts it.
    approve(&mut scene.request, "bob@broxiva.com");
    annotate(
        &mut scene.request,
        rollback_api::ACCEPT_DATA_RISK,
        "the column is not read by v1",
    );
    scene.seen().job = Fetched::Unknown;
    scene.until(Phase::RollingOut);
    assert_eq!(jobs(&scene).len(), 1);
    assert_eq!(scene.status().plan.unwrap(), plan, "it is asked once");
}

#[test]
fn whoever_withdraws_while_a_job_runs_is_heard() {
    let policy = hooks(&[named("drain", json!({}))], &[]);
    let mut scene = Scene::default().with_policy(policy).approved();
    starts(&mut scene);
    annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    scene.ends(RequestState::Cancelled, Reason::CancelledByUser);
    assert!(is_untouched(&scene));
}

#[test]
fn a_dry_run_runs_nothing() {
    let policy = hooks(&[named("drain", json!({}))], &[]);
    let mut scene = Scene::new(&json!({"dryRun": true})).with_policy(policy);
    scene.ends(RequestState::Succeeded, Reason::DryRun);
    assert!(jobs(&scene).is_empty());
}

#[test]
fn another_pod_in_the_policy_is_another_job() {
    let with = |command: &str| {
        let pod = json!({"podSpec": {"containers": [{"name": "main", "command": [command]}]}});
        hooks(&[named("drain", pod)], &[])
    };
    let mut scene = Scene::default().with_policy(with("a")).approved();
    starts(&mut scene);
    let first = jobs(&scene).remove(0);
    see(&mut scene, succeeded());
    // The rules are others now, so everybody has to approve again, and what has ended counts for nothing.
    let mut scene = scene.with_policy(with("b"));
    scene.pass();
    assert!(scene.status().approvals.is_empty());
    scene.pass();
    approve(&mut scene.request, "bob@broxiva.com");
    starts(&mut scene);
    let second = jobs(&scene).remove(0);
    assert_ne!(first.job, second.job);
    assert_eq!(jobs(&scene).len(), 1);
    assert!(is_untouched(&scene));
}

#[test]
fn each_of_several_deployments_runs_its_own() {
    let policy = hooks(&[named("drain", json!({"imageOf": null}))], &[]);
    let parallel = json!({"rollout": {"parallelism": 2}});
    let mut scene = Scene::many(&["api", "web"], &parallel)
        .with_policy(policy)
        .approved();
    let mut started = Vec::new();
    for _ in 0..6 {
        for step in scene.pass_all().steps {
            if let Step::RunJob { workload, job, .. } = step {
                started.push((workload.name, job));
            }
        }
    }
    assert_eq!(started.len(), 2, "{started:?}");
    assert_eq!(
        (started[0].0.as_str(), started[1].0.as_str()),
        ("api", "web")
    );
    assert_ne!(started[0].1, started[1].1);
}

fn rule(name: &str) -> JobRule {
    JobRule {
        stage: JobStage::PreRollback,
        name: name.to_owned(),
        pod_digest: "sha256:1".to_owned(),
        service_account: Some("runner".to_owned()),
        containers: Vec::new(),
        image_of: None,
        timeout_seconds: 60,
        log_tail_lines: 5,
        on_failure: rollback_api::policy::OnJobFailure::Veto,
    }
}

#[test]
fn the_object_is_what_the_policy_says_and_what_it_cannot_say() {
    let scene = Scene::default();
    let long = "a".repeat(40);
    let policy = JobTemplate {
        name: long.clone(),
        pod_spec: json!({
            "restartPolicy": "Always",
            "serviceAccount": "old-name-of-the-field",
            "initContainers": [{"name": "one"}],
            "containers": [{"name": "two", "image": "own:1", "future": true}, {"name": "three", "image": ""}],
        }),
        ..JobTemplate::default()
    };
    let target = rollback_api::status::PlannedTarget::default();
    let name = job::name(&scene.request, &target, &rule(&long));
    assert!(name.len() <= 63, "{name}");
    let object = job::object(
        &scene.request,
        &target.workload,
        &rule(&long),
        &policy,
        &name,
        Some("of:2"),
    );
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["serviceAccountName"], "runner");
    assert_eq!(pod.get("serviceAccount"), None);
    assert_eq!(pod["initContainers"][0]["image"], "of:2");
    assert_eq!(pod["containers"][0]["image"], "own:1");
    assert_eq!(pod["containers"][0]["future"], true);
    assert_eq!(pod["containers"][1]["image"], "of:2");
    assert_eq!(object["spec"]["backoffLimit"], 0);
    assert_eq!(object["spec"]["activeDeadlineSeconds"], 60);
    assert_eq!(object["spec"]["ttlSecondsAfterFinished"], 86400);
    assert_eq!(object["metadata"]["labels"][REQUEST_UID_LABEL], REQUEST);
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], REQUEST);
}

#[test]
fn only_a_job_of_this_request_tells_and_only_its_own_pods() {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "m"});
    let object = |uid: &str, conditions: Vec<Value>| {
        json!({
            "metadata": {"uid": "j-1", "labels": {REQUEST_UID_LABEL: uid}},
            "status": {"conditions": conditions},
        })
    };
    let failed = Standing::Failed("R".into(), "m".into());
    let table = [
        (
            object("r-2", vec![condition("Complete", "True")]),
            Standing::Foreign,
        ),
        (
            json!({"status": {"conditions": [condition("Complete", "True")]}}),
            Standing::Foreign,
        ),
        (object(REQUEST, vec![]), Standing::Running),
        (
            object(REQUEST, vec![condition("Complete", "False")]),
            Standing::Running,
        ),
        (
            object(REQUEST, vec![condition("FailureTarget", "True")]),
            Standing::Running,
        ),
        (
            object(REQUEST, vec![condition("Complete", "True")]),
            Standing::Succeeded,
        ),
        (object(REQUEST, vec![condition("Failed", "True")]), failed),
    ];
    for (object, expected) in table {
        assert_eq!(job::standing(&object, REQUEST), expected, "{object}");
    }
    let pod = |owner: &str, code: i64| {
        json!({
            "metadata": {"name": format!("of-{owner}"), "ownerReferences": [{"uid": owner}]},
            "status": {"containerStatuses": [
                {"name": "fine", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                {"name": "main", "state": {"terminated": {"exitCode": code, "reason": "OOMKilled"}}},
            ]},
        })
    };
    let job = object(REQUEST, vec![condition("Failed", "True")]);
    assert_eq!(job::telling(&job, &[pod("j-2", 1)]), None);
    let telling = job::telling(&job, &[pod("j-2", 1), pod("j-1", 137)]).unwrap();
    assert_eq!(
        (
            telling.pod.as_str(),
            telling.container.as_str(),
            telling.exit_code
        ),
        ("of-j-1", "main", 137)
    );
    let standing = job::standing(&job, REQUEST);
    let ended = job::ended(&rule("x"), &job, &standing, Some(&telling), Vec::new());
    let JobState::Ended {
        succeeded,
        exit_code,
        message,
        ..
    } = ended
    else {
        panic!("{ended:?}");
    };
    assert_eq!((succeeded, exit_code), (false, Some(137)));
    assert_eq!(message, "its container main failed (OOMKilled)");
}

#[test]
fn what_a_job_says_has_none_of_its_values_in_it() {
    let job = json!({"spec": {"template": {"spec": {
        "initContainers": [{"env": [{"name": "A", "value": "hunter2hunter2"}]}],
        "containers": [{"env": [
            {"name": "B", "value": "hunter2"},
            {"name": "C", "value": "two-lined\nsecondpart"},
            {"name": "D", "value": "abc"},
            {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]}],
    }}}});
    let values = job::hidden(&job["spec"]["template"]["spec"]);
    let longest_first = [
        "two-lined\nsecondpart",
        "hunter2hunter2",
        "secondpart",
        "two-lined",
        "hunter2",
    ];
    assert_eq!(values, longest_first);
    let text = "pw hunter2hunter2\nx hunter2 y\ntwo-lined\nsecondpart\nlast hunt";
    for line in job::log_lines(text, true, &job) {
        for value in &values {
            assert!(!line.contains(value.as_str()), "{line}");
        }
        assert!(!line.contains("hunt"), "half a value is left: {line}");
    }
    let whole = job::log_lines("one\ntwo", false, &job);
    assert_eq!(whole.len(), 2);
    let said = job::fit("spec.env: Invalid value: \"hunter2\"", &values, 600);
    assert!(!said.contains("hunter2"), "{said}");
}
