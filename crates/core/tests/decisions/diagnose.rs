//! Why pods do not become available. Numbers in names are those of the cases in `rollback-semantics.md`.

use jiff::Timestamp;
use proptest::prelude::*;
use rollback_api::status::{Cause, CauseKind};
use rollback_core::health::diagnose::{End, cause, end_to_explain, quoting, speaks_in_events};
use rollback_core::message::redact::redact;
use rollback_core::observed::{LastLog, ReplicaSet};
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn replica_set() -> ReplicaSet {
    ReplicaSet(
        json!({"metadata": {"name": "api-v1", "uid": "rs"}, "spec": {"replicas": 3}, "status": {"replicas": 3}}),
    )
}

fn pod(name: &str, status: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
        "ownerReferences": [{"kind": "ReplicaSet", "uid": "rs", "controller": true}]}});
    pod["status"] = status;
    pod
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "api", "image": "a:v1", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}}}]})
}

/// A container that ended before.
fn ended(state: Value, restarts: i64, exit: i64, reason: &str) -> Value {
    let mut status = json!({"phase": "Running", "containerStatuses": [{"name": "api", "ready": false, "restartCount": restarts,
        "lastState": {"terminated": {"exitCode": exit, "reason": reason, "message": "s3cret log line"}}}]});
    status["containerStatuses"][0]["state"] = state;
    status
}

fn crashing() -> Value {
    ended(
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}),
        5,
        137,
        "OOMKilled",
    )
}

fn pending(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]})
}

fn event(pod: &str, reason: &str, message: &str, at: &str) -> Value {
    json!({"reason": reason, "message": message, "lastTimestamp": at, "metadata": {"namespace": "shop"},
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": format!("uid-{pod}")}})
}

fn told(pods: &[Value], events: &[Value]) -> Option<Cause> {
    cause(Some(&replica_set()), pods, events, None, at(100))
}

fn line(pods: &[Value], events: &[Value]) -> String {
    told(pods, events).map_or_else(String::new, |cause| {
        format!("{} {}", cause.kind.as_str(), cause.message)
    })
}

#[test]
fn one_pod() {
    let running = json!({"running": {}});
    let restarting = json!({"terminated": {"exitCode": 2, "reason": "Error"}});
    let mut ready = ended(running.clone(), 3, 1, "Error");
    ready["containerStatuses"][0]["ready"] = json!(true);
    let start_error = json!({"phase": "Running", "containerStatuses": [{"name": "api", "ready": false, "restartCount": 2,
        "state": {"waiting": {"reason": "RunContainerError", "message": "x"}},
        "lastState": {"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \"srv\": not found"}}}]});
    let cases = [
        (json!({}), ""),
        (
            json!({"containerStatuses": [{"name": "api", "ready": true, "state": {"running": {}}}]}),
            "",
        ),
        (
            crashing(),
            "CrashLoop container api crashes: 5 restarts, last exit code 137 (OOMKilled)",
        ),
        // Between two crashes it runs, and is not ready.
        (
            ended(running.clone(), 1, 1, "Error"),
            "CrashLoop container api crashes: 1 restart, last exit code 1 (Error)",
        ),
        (
            ended(restarting, 1, 1, "Error"),
            "CrashLoop container api crashes: 1 restart, last exit code 2 (Error)",
        ),
        (ready, ""),
        (ended(running.clone(), 1, 0, "Completed"), ""),
        (ended(running, 0, 1, "Error"), ""),
        (
            ended(
                json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                2,
                0,
                "Completed",
            ),
            "CrashLoop container api crashes: 2 restarts, last exit code 0 (Completed)",
        ),
        (
            start_error,
            "CrashLoop container api crashes: 2 restarts, last exit code 128 (StartError): exec: \"srv\": not found",
        ),
        (
            waiting("InvalidImageName", "bad"),
            "ImagePull container api: image a:v1 cannot be pulled: bad",
        ),
        (
            waiting("ErrImageNeverPull", ""),
            "ImagePull container api: image a:v1 cannot be pulled",
        ),
        (
            waiting("ImageInspectError", ""),
            "ImagePull container api: image a:v1 cannot be pulled",
        ),
        (
            waiting("CreateContainerConfigError", "secret \"db\" not found"),
            "Config container api: CreateContainerConfigError: secret \"db\" not found",
        ),
        (
            waiting("CreateContainerError", ""),
            "Config container api: CreateContainerError",
        ),
        (
            waiting("RunContainerError", "x"),
            "Config container api: RunContainerError: x",
        ),
        (waiting("ContainerCreating", ""), ""),
        (
            pending("Unschedulable", "0/3 nodes"),
            "Unschedulable Unschedulable: 0/3 nodes",
        ),
        (
            pending("SchedulingGated", ""),
            "Unschedulable SchedulingGated",
        ),
        (pending("SomethingElse", ""), ""),
    ];
    for (status, expected) in cases {
        let line = line(&[pod("p", status)], &[]);
        assert_eq!(line, expected);
        assert!(!line.contains("s3cret"));
    }
}

#[test]
fn case_54_init_containers_count() {
    let status = json!({"phase": "Pending",
        "initContainerStatuses": [{"name": "migrate", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
        "containerStatuses": [{"name": "api", "state": {"waiting": {"reason": "PodInitializing"}}}]});
    assert_eq!(
        line(&[pod("p", status)], &[]),
        "CrashLoop init container migrate crashes: 4 restarts, last exit code 1 (Error)"
    );
}

#[test]
fn case_55_only_pods_of_this_replica_set_are_blamed() {
    let mut other = pod("a", crashing());
    other["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    let mut adopted = pod("b", crashing());
    adopted["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    let mut leaving = pod("c", crashing());
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-23T14:00:00Z");
    let mut orphan = pod("d", crashing());
    orphan["metadata"]["ownerReferences"] = json!([]);
    let mut evicted = crashing();
    evicted["phase"] = json!("Failed");
    let pods = [other, adopted, leaving, orphan, pod("e", evicted)];
    assert_eq!(told(&pods, &[]), None);
    assert_eq!(cause(None, &[pod("p", crashing())], &[], None, at(1)), None);
    let nameless = ReplicaSet(json!({}));
    let mut unowned = pod("p", crashing());
    unowned["metadata"]["ownerReferences"][0]["uid"] = json!("");
    assert_eq!(cause(Some(&nameless), &[unowned], &[], None, at(1)), None);
}

#[test]
fn case_56_an_image_that_cannot_be_pulled_does_not_flap() {
    let error = "failed to pull and unpack image \"a:v1\": not found";
    let pulling = [pod("p", waiting("ErrImagePull", error))];
    let backing_off = [pod(
        "p",
        waiting(
            "ImagePullBackOff",
            &format!("Back-off pulling image \"a:v1\": ErrImagePull: {error}"),
        ),
    )];
    let terse = [pod(
        "p",
        waiting("ImagePullBackOff", "Back-off pulling image \"a:v1\""),
    )];
    let first = told(&pulling, &[]).unwrap();
    assert_eq!(first.kind, CauseKind::ImagePull);
    assert_eq!(
        first.message,
        format!("container api: image a:v1 cannot be pulled: {error}")
    );
    let mut before = first.clone();
    for pods in [&backing_off, &terse, &pulling, &terse] {
        let next = cause(Some(&replica_set()), pods, &[], Some(&before), at(200)).unwrap();
        assert_eq!(next, first);
        before = next;
    }
    let late = told(&terse, &[]).unwrap();
    assert_eq!(late.message, "container api: image a:v1 cannot be pulled");
    let better = cause(Some(&replica_set()), &pulling, &[], Some(&late), at(300)).unwrap();
    assert_eq!((better.message, better.since), (first.message, at(100)));
}

#[test]
fn case_57_a_volume_that_is_not_there_shows_in_events() {
    let pods = [pod("p", waiting("ContainerCreating", ""))];
    let events = [
        event(
            "p",
            "FailedMount",
            "secret \"tls\" not found",
            "2026-11-23T14:02:00Z",
        ),
        event("p", "FailedMount", "timed out", "2026-11-23T14:01:00Z"),
        event("p", "Scheduled", "ok", "2026-11-23T14:03:00Z"),
        event("q", "FailedMount", "of another pod", "2026-11-23T14:04:00Z"),
    ];
    assert_eq!(
        line(&pods, &events),
        "Volume FailedMount: secret \"tls\" not found"
    );
    assert_eq!(line(&pods, &events[2..]), "");
    // A pod of the same name that was there before.
    let mut former = event("p", "FailedMount", "x", "2026-11-23T14:02:00Z");
    former["involvedObject"]["uid"] = json!("former");
    assert_eq!(line(&pods, std::slice::from_ref(&former)), "");
    former["involvedObject"]
        .as_object_mut()
        .unwrap()
        .remove("uid");
    assert_eq!(line(&pods, &[former]), "Volume FailedMount: x");
    // The newer API of events, and a kubelet that has not answered yet.
    let newer = json!({"reason": "FailedAttachVolume", "note": "busy", "eventTime": "2026-11-23T14:02:00Z",
        "regarding": {"kind": "Pod", "name": "p", "uid": "uid-p"}});
    let silent = [pod("p", json!({"phase": "Pending"}))];
    assert_eq!(
        line(&silent, std::slice::from_ref(&newer)),
        "Volume FailedAttachVolume: busy"
    );
    // Mounted in the end.
    let running = [pod(
        "p",
        json!({"phase": "Running", "containerStatuses": [{"name": "api", "state": {"running": {}}}]}),
    )];
    assert_eq!(line(&running, &[newer]), "");
}

/// The kubelet's word about a probe of one container.
fn unhealthy(pod: &str, container: &str, message: &str) -> Value {
    let mut event = event(pod, "Unhealthy", message, "2026-11-23T14:02:00Z");
    event["involvedObject"]["fieldPath"] = json!(format!("spec.containers{{{container}}}"));
    event
}

/// Runs and is not ready.
fn starting(restarts: i64) -> Value {
    json!({"phase": "Running", "containerStatuses": [{"name": "api", "ready": false, "restartCount": restarts,
        "state": {"running": {}}}]})
}

#[test]
fn a_probe_that_fails_is_told_while_the_container_is_not_ready() {
    let said = "Readiness probe failed: HTTP probe failed with statuscode: 503";
    let events = [unhealthy("p", "api", said)];
    let told = told(&[pod("p", starting(0))], &events).unwrap();
    assert_eq!(told.kind, CauseKind::Unready);
    assert_eq!(told.pod.as_deref(), Some("p"));
    let expected = format!("container api runs and is not ready: {}", redact(said));
    assert_eq!(told.message, expected);
    assert_eq!(line(&[pod("p", starting(0))], &[]), "", "nobody said so");
    let mut ready = starting(0);
    ready["containerStatuses"][0]["ready"] = json!(true);
    assert_eq!(line(&[pod("p", ready)], &events), "");
    for foreign in [unhealthy("q", "api", said), unhealthy("p", "sidecar", said)] {
        assert_eq!(line(&[pod("p", starting(0))], &[foreign]), "");
    }
}

#[test]
fn what_a_probe_quotes_is_redacted() {
    let body = "Readiness probe failed: password=hunter2hunter2";
    let told = told(&[pod("p", starting(0))], &[unhealthy("p", "api", body)]).unwrap();
    assert!(!told.message.contains("hunter2"), "{}", told.message);
}

#[test]
fn a_probe_that_fails_explains_less_than_anything_else() {
    let events = ["a", "b", "c"].map(|pod| unhealthy(pod, "api", "Readiness probe failed: x"));
    let pods = [
        pod("a", starting(0)),
        pod("b", starting(0)),
        pod("c", starting(0)),
        pod("d", pending("Unschedulable", "0/3 nodes")),
    ];
    assert_eq!(told(&pods, &events).unwrap().kind, CauseKind::Unschedulable);
}

#[test]
fn a_restart_from_outside_is_no_crash_until_it_is_a_loop() {
    let killed = |state: Value| [pod("p", ended(state, 1, 137, "Error"))];
    let running = killed(json!({"running": {}}));
    let asked = [pod("p", ended(json!({"running": {}}), 1, 143, "Error"))];
    let crashed = [pod("p", ended(json!({"running": {}}), 1, 1, "Error"))];
    let too_large = [pod("p", ended(json!({"running": {}}), 1, 137, "OOMKilled"))];
    let backing_off = killed(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    let liveness = [unhealthy("p", "api", "Liveness probe failed: timeout")];
    let startup = [unhealthy("p", "api", "Startup probe failed: timeout")];
    let readiness = [unhealthy("p", "api", "Readiness probe failed: refused")];
    let kind = |pods: &[Value], events: &[Value]| told(pods, events).unwrap().kind;
    assert_eq!(kind(&running, &liveness), CauseKind::Unready);
    assert_eq!(kind(&running, &startup), CauseKind::Unready);
    assert_eq!(kind(&asked, &liveness), CauseKind::Unready);
    // Whatever an Event says: the status tells of it, and an Event only adds its words.
    assert_eq!(kind(&running, &readiness), CauseKind::Unready);
    assert_eq!(told(&running, &[]), None);
    for pods in [&crashed, &too_large] {
        for events in [&[][..], &liveness, &readiness] {
            assert_eq!(kind(pods, events), CauseKind::CrashLoop);
        }
    }
    assert_eq!(
        line(&crashed, &liveness),
        "CrashLoop container api crashes: 1 restart, last exit code 1 (Error). Liveness probe failed: timeout"
    );
    assert_eq!(kind(&backing_off, &liveness), CauseKind::CrashLoop);
    // And stays a loop while it runs between two crashes.
    let before = told(&backing_off, &liveness).unwrap();
    let set = replica_set();
    let after = cause(Some(&set), &running, &liveness, Some(&before), at(200)).unwrap();
    assert_eq!((after.kind, after.since), (CauseKind::CrashLoop, at(100)));
}

#[test]
fn the_kubelet_is_listened_to_while_a_pod_is_not_ready() {
    let bound = |status: Value| {
        let mut pod = pod("p", status);
        pod["spec"] = json!({"nodeName": "node"});
        pod
    };
    let mut ready = starting(0);
    ready["containerStatuses"][0]["ready"] = json!(true);
    assert!(speaks_in_events(&bound(starting(0))));
    assert!(speaks_in_events(&bound(json!({"phase": "Pending"}))));
    assert!(!speaks_in_events(&bound(ready)));
    assert!(!speaks_in_events(&pod("p", starting(0))), "on no node");
}

/// A crash that left these words in its termination log.
fn crashed_saying(words: &str) -> [Value; 1] {
    let mut status = crashing();
    status["containerStatuses"][0]["lastState"]["terminated"]["message"] = json!(words);
    [pod("p", status)]
}

#[test]
fn the_last_words_of_a_container_are_kept_apart_and_redacted() {
    let told_words = |words: &str| told(&crashed_saying(words), &[]).unwrap().last_words;
    let panic = "panic: no such table: orders";
    assert_eq!(told_words(panic), Some(redact(panic)));
    assert_eq!(told_words(""), None);
    let secret = told_words("DATABASE_PASSWORD=hunter2hunter2").unwrap();
    assert!(!secret.contains("hunter2"), "{secret}");
    // The words of the runtime stand in the message, and are no words of the container.
    let mut never = crashed_saying("exec: not found");
    never[0]["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] =
        json!("StartError");
    assert_eq!(told(&never, &[]).unwrap().last_words, None);
}

#[test]
fn the_log_takes_the_place_of_the_termination_log_of_the_same_pod() {
    let pods = crashed_saying("from the termination log");
    let set = replica_set();
    let end = end_to_explain(Some(&set), &pods, &[], None).unwrap();
    let expected = End {
        pod: "p".to_owned(),
        container: "api".to_owned(),
        restarts: 5,
    };
    assert_eq!(end, expected);
    let log = |pod: &str, text: &str| LastLog {
        end: End {
            pod: pod.to_owned(),
            ..end.clone()
        },
        text: text.to_owned(),
        forbidden: false,
    };
    let cause = told(&pods, &[]).unwrap();
    let own = cause.last_words.clone();
    let words = |log: Option<&LastLog>| quoting(cause.clone(), log).last_words;
    let line = "panic: at the disco";
    assert_eq!(words(Some(&log("p", line))), Some(redact(line)));
    for nothing in [None, Some(&log("p", "")), Some(&log("q", line))] {
        assert_eq!(words(nothing), own);
    }
    let cut = words(Some(&log("p", &"line of a log\n".repeat(500)))).unwrap();
    assert!(cut.chars().count() <= 500, "{cut}");
    let pull = told(&[pod("p", waiting("ErrImagePull", "x"))], &[]).unwrap();
    assert_eq!(quoting(pull, Some(&log("p", line))).last_words, None);
    let waits = [pod("p", waiting("ErrImagePull", "x"))];
    assert_eq!(end_to_explain(Some(&set), &waits, &[], None), None);
}

fn failing(desired: i64, there: i64) -> ReplicaSet {
    ReplicaSet(
        json!({"metadata": {"uid": "rs"}, "spec": {"replicas": desired},
        "status": {"replicas": there, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "pods \"api-x\" is forbidden: exceeded quota"}]}}),
    )
}

#[test]
fn case_47_pods_that_are_refused() {
    let refused = cause(Some(&failing(3, 0)), &[], &[], None, at(5)).unwrap();
    assert_eq!(refused.kind, CauseKind::Refused);
    assert_eq!(
        refused.message,
        "pods \"api-x\" is forbidden: exceeded quota"
    );
    assert_eq!((refused.pod, refused.since), (None, at(5)));
    let pods = [pod("p", crashing())];
    let kind = |set: &ReplicaSet| cause(Some(set), &pods, &[], None, at(5)).unwrap().kind;
    assert_eq!(
        kind(&failing(3, 1)),
        CauseKind::Refused,
        "two are refused, one crashes"
    );
    assert_eq!(
        kind(&failing(2, 1)),
        CauseKind::CrashLoop,
        "one each: the worse"
    );
    let mut over = failing(3, 0);
    over.0["status"]["conditions"][0]["status"] = json!("False");
    assert_eq!(cause(Some(&over), &[], &[], None, at(5)), None);
}

#[test]
fn the_choice_does_not_depend_on_the_order() {
    let pods = [
        pod("c", crashing()),
        pod("b", waiting("ErrImagePull", "x")),
        pod("a", waiting("ImagePullBackOff", "y")),
        pod("d", pending("Unschedulable", "z")),
    ];
    let mut reversed = pods.clone();
    reversed.reverse();
    let first = told(&pods, &[]).unwrap();
    assert_eq!(
        (first.kind, first.pod.as_deref()),
        (CauseKind::ImagePull, Some("a"))
    );
    assert_eq!(told(&reversed, &[]).unwrap(), first);
    let tie = [pods[3].clone(), pods[0].clone()];
    assert_eq!(told(&tie, &[]).unwrap().kind, CauseKind::CrashLoop);
}

#[test]
fn trouble_that_goes_on_keeps_its_time() {
    let mut before = told(&[pod("p", crashing())], &[]).unwrap();
    before.pod = Some("gone".to_owned());
    let same = cause(
        Some(&replica_set()),
        &[pod("p", crashing())],
        &[],
        Some(&before),
        at(500),
    )
    .unwrap();
    assert_eq!((same.since, same.pod.as_deref()), (at(100), Some("p")));
    let other = [pod("p", waiting("ErrImagePull", "x"))];
    let other = cause(Some(&replica_set()), &other, &[], Some(&before), at(500)).unwrap();
    assert_eq!(other.since, at(500));
    assert_eq!(
        cause(Some(&replica_set()), &[], &[], Some(&before), at(500)),
        None
    );
}

#[test]
fn messages_are_bounded_and_plain() {
    let long = format!("\u{1b}[2J{}", "x".repeat(5000));
    for status in [
        waiting("ErrImagePull", &long),
        waiting("CreateContainerConfigError", &long),
        pending("Unschedulable", &long),
    ] {
        let told = told(&[pod("p", status)], &[]).unwrap();
        assert_eq!(told.message.chars().count(), 500);
        assert!(!told.message.chars().any(char::is_control));
    }
}

/// No two pods have the same name.
fn named((index, mut pod): (usize, Value)) -> Value {
    if let Some(name) = pod.pointer_mut("/metadata/name") {
        *name = json!(format!("p{index}"));
    }
    pod
}

fn kinds() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(crashing()),
        Just(waiting("ImagePullBackOff", "Back-off: ErrImagePull: x")),
        Just(waiting("ContainerCreating", "")),
        Just(pending("Unschedulable", "0/3 nodes")),
    ]
    .prop_flat_map(|status| crate::hostile::spoiled(pod("p", status)))
}

proptest! {
    #![proptest_config(crate::hostile::config(256, "tests/diagnose.regressions"))]

    #[test]
    fn anything_is_looked_at(
        set in crate::hostile::spoiled(failing(3, 1).0),
        pods in proptest::collection::vec(kinds(), 0..4),
        events in proptest::collection::vec(crate::hostile::spoiled(event("p", "FailedMount", "x", "2026")), 0..3),
    ) {
        let set = ReplicaSet(set);
        let pods: Vec<Value> = pods.into_iter().enumerate().map(named).collect();
        let first = cause(Some(&set), &pods, &events, None, at(1));
        if let Some(first) = &first {
            prop_assert!(first.message.chars().count() <= 500);
            prop_assert!(!first.message.chars().any(char::is_control));
            prop_assert_eq!(first.since, at(1));
        }
        let again = cause(Some(&set), &pods, &events, first.as_ref(), at(2));
        let what = |cause: &Cause| (cause.kind, cause.since);
        prop_assert_eq!(again.as_ref().map(what), first.as_ref().map(what));
        // Once it is known to be a crash loop, a container that was killed from outside counts too, and that pod may come
        // first by its name. From then on nothing flaps.
        let once_more = cause(Some(&set), &pods, &events, again.as_ref(), at(3));
        prop_assert_eq!(once_more, again);
    }
}
