//! Why pods do not come up in real clusters, and whom the watch of a new version blames for it: docs/field-cases.md.

use jiff::Timestamp;
use rollback_api::policy::Triggers;
use rollback_api::status::{Cause, CauseKind};
use rollback_core::evidence::trigger::watch::{Finding, Look, Remembered, Trouble, judge};
use rollback_core::health::diagnose::{cause, is_conclusive};
use rollback_core::observed::{Deployment, ReplicaSet};
use serde_json::{Value, json};

use crate::world::{at, deployment, replica_set, set_counts, sets};

const GATE: &str = "target-health.elbv2.k8s.aws/k8s-shop-api-1";

fn pod(name: &str, set: &str, status: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "ownerReferences": [{"kind": "ReplicaSet", "uid": format!("rs-{set}"), "controller": true}]},
        "spec": {"nodeName": "n1"},
    });
    pod["status"] = status;
    pod
}

fn well(name: &str, set: &str) -> Value {
    pod(
        name,
        set,
        json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(-5000).to_string()}],
            "containerStatuses": [{"name": "api", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": at(-5000).to_string()}}}],
        }),
    )
}

/// The conditions of a pod whose containers are ready, and that is not.
fn conditions(ready_since: Timestamp) -> Value {
    json!([
        {"type": "ContainersReady", "status": "True", "lastTransitionTime": ready_since.to_string()},
        {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "lastTransitionTime": at(-900).to_string(),
            "message": "the status of pod readiness gate is not \"True\""},
    ])
}

fn running(name: &str, ready: bool) -> Value {
    json!({"name": name, "ready": ready, "restartCount": 0, "state": {"running": {"startedAt": at(-880).to_string()}}})
}

fn waiting(name: &str, reason: &str, message: &str) -> Value {
    json!({"name": name, "image": "i:1", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}})
}

/// A pod whose readiness gate has this condition.
fn gated(name: &str, set: &str, condition: Value) -> Value {
    let mut pod = pod(
        name,
        set,
        json!({"phase": "Running", "containerStatuses": [running("api", true)]}),
    );
    pod["spec"]["readinessGates"] = json!([{"conditionType": GATE}]);
    pod["status"]["conditions"] = conditions(at(-870));
    if !condition.is_null() {
        pod["status"]["conditions"]
            .as_array_mut()
            .unwrap()
            .push(condition);
    }
    pod
}

fn event(pod: &str, reason: &str, message: &str, when: Timestamp) -> Value {
    json!({"reason": reason, "message": message, "lastTimestamp": when.to_string(), "metadata": {"namespace": "shop"},
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": format!("uid-{pod}")}})
}

fn history() -> Vec<ReplicaSet> {
    let mut newer = replica_set("v2", "2");
    newer["metadata"]["creationTimestamp"] = json!(at(-900).to_string());
    sets([replica_set("v1", "1"), newer])
}

/// What the watch finds a quarter of an hour after the version went live, in looks a minute apart: when it fires, why.
fn watch(new: &[Value], events: &[Value]) -> Option<Trouble> {
    watch_of(|_| {}, new, events)
}

/// The same, of a version whose template is changed so besides.
fn watch_of(change: fn(&mut Value), new: &[Value], events: &[Value]) -> Option<Trouble> {
    let mut live = deployment("v2");
    change(&mut live["spec"]["template"]);
    set_counts(&mut live, 4, 1, 3);
    live["status"]["conditions"] = json!([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
        "lastUpdateTime": at(-890).to_string()}]);
    let (live, mut sets) = (Deployment(live), history());
    change(&mut sets[1].0["spec"]["template"]);
    let mut pods = vec![
        well("old-1", "v1"),
        well("old-2", "v1"),
        well("old-3", "v1"),
    ];
    pods.extend(new.iter().cloned());
    let mut known = Remembered::default();
    for second in (-840..=0).step_by(60) {
        let look = Look {
            deployment: &live,
            replica_sets: &sets,
            pods: &pods,
            events,
            ledger: None,
            rules: &Triggers::default(),
            marks: &[],
            known: &known,
            now: at(second),
        };
        let (finding, next) = judge(&look);
        known = next;
        if let Finding::Fire(fault) = finding {
            return Some(fault.trouble);
        }
    }
    None
}

fn why(pods: &[Value], events: &[Value]) -> Option<Cause> {
    let set = replica_set("v2", "2");
    cause(Some(&ReplicaSet(set)), pods, events, None, at(0))
}

#[test]
fn c1_a_shut_readiness_gate_fires_and_is_named() {
    let condition = json!({"type": GATE, "status": "False", "reason": "Target.FailedHealthChecks", "message": "Health checks failed"});
    let pods = [gated("new-1", "v2", condition)];
    assert_eq!(watch(&pods, &[]), Some(Trouble::Unready));
    let told = why(&pods, &[]).unwrap();
    assert_eq!(told.kind, CauseKind::Gate);
    assert!(
        told.message.contains(GATE) && told.message.contains("Health checks failed"),
        "{}",
        told.message
    );
    // As in the row: nothing but False.
    let pods = [gated(
        "new-1",
        "v2",
        json!({"type": GATE, "status": "False"}),
    )];
    assert_eq!(watch(&pods, &[]), Some(Trouble::Unready));
    assert!(why(&pods, &[]).unwrap().message.contains(GATE));
    // The load balancer looks for minutes: that ends no rollout.
    assert!(!is_conclusive(CauseKind::Gate));
}

/// aws-load-balancer-controller issues 3417, 1205, 2393: what opens the gate is slow, or away.
#[test]
fn c1_a_gate_that_nobody_opens_yet_is_not_the_version_s_fault() {
    for condition in [
        Value::Null,
        json!({"type": GATE, "status": "False", "reason": "Elb.RegistrationInProgress", "message": "Target registration is in progress"}),
        json!({"type": GATE, "status": "False", "reason": "Elb.InitialHealthChecking", "message": "Initial health checks in progress"}),
    ] {
        let pods = [gated("new-1", "v2", condition)];
        assert_eq!(watch(&pods, &[]), None, "{pods:?}");
        assert_eq!(why(&pods, &[]).unwrap().kind, CauseKind::Gate);
    }
    // ingress-gce issue 931, and what Amazon's load balancers say of targets that they have not taken up, or of
    // themselves.
    for condition in [
        json!({"type": GATE, "status": ""}),
        json!({"type": GATE, "status": "Unknown", "reason": "NotChecked"}),
        json!({"type": GATE, "status": "False", "reason": "LoadBalancerNegNotReady", "message": "Waiting for pod to become healthy in at least one of the NEG(s)"}),
        json!({"type": GATE, "status": "False", "reason": "Target.NotInUse", "message": "Target group is not configured to receive traffic from the load balancer"}),
        json!({"type": GATE, "status": "False", "reason": "Target.NotRegistered"}),
        json!({"type": GATE, "status": "False", "reason": "Elb.InternalError"}),
    ] {
        let pods = [gated("new-1", "v2", condition)];
        assert_eq!(watch(&pods, &[]), None, "{pods:?}");
    }
    // A gate that is open is none: then the node is lost.
    let pods = [gated(
        "new-1",
        "v2",
        json!({"type": GATE, "status": "True"}),
    )];
    assert_eq!(watch(&pods, &[]), None);
}

/// amazon-vpc-cni-k8s issues 59 and 281, kubesphere issue 5036, kubernetes issue 79368.
#[test]
fn c2_a_pod_without_a_sandbox_is_a_disturbance() {
    let mut status =
        json!({"phase": "Pending", "containerStatuses": [waiting("api", "ContainerCreating", "")]});
    status["conditions"] = json!([
        {"type": "PodReadyToStartContainers", "status": "False"},
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": at(-880).to_string()},
    ]);
    let pods = [pod("new-1", "v2", status.clone())];
    for (reason, message) in [
        (
            "FailedCreatePodSandBox",
            "plugin type=\"aws-cni\" failed (add): add cmd: failed to assign an IP address to container",
        ),
        (
            "FailedCreatePodSandBox",
            "plugin type=\"calico\" failed (add): cannot find a qualified ippool",
        ),
        (
            "NetworkNotReady",
            "network is not ready: container runtime network not ready: cni plugin not initialized",
        ),
        ("FailedPodSandBoxStatus", "rpc error: code = Unknown"),
    ] {
        let events = [event("new-1", reason, message, at(-60))];
        assert_eq!(watch(&pods, &events), None, "{reason}");
        let told = why(&pods, &events).unwrap();
        assert_eq!(told.kind, CauseKind::Sandbox);
        assert!(told.message.contains(message), "{}", told.message);
    }
    assert!(!is_conclusive(CauseKind::Sandbox));
    // Nothing is said of it: then it is held up by the version, as before.
    assert_eq!(watch(&pods, &[]), Some(Trouble::Stuck));
    // And so it is with a volume that the version brings.
    let volume = [event(
        "new-1",
        "FailedMount",
        "configmap \"api\" not found",
        at(-60),
    )];
    assert_eq!(watch(&pods, &volume), Some(Trouble::Stuck));
}

/// A sidecar that something puts into the pods: of the version is what stands in its template.
#[test]
fn c3_what_is_not_in_the_template_is_not_the_version_s_fault() {
    let not_ready = json!([{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": at(-880).to_string()}]);
    let with = |field: &str, injected: Value, own: Value| {
        let mut status =
            json!({"phase": "Running", "conditions": not_ready, "containerStatuses": [own]});
        match status[field].as_array_mut() {
            Some(list) => list.push(injected),
            None => status[field] = json!([injected]),
        }
        pod("new-1", "v2", status)
    };
    let crash = json!({"name": "istio-proxy", "ready": false, "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 255, "finishedAt": at(-30).to_string()}}});
    let init = json!({"name": "istio-init", "ready": false, "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1, "finishedAt": at(-30).to_string()}}});
    for (what, pod) in [
        (
            "istio-proxy crashes",
            with("containerStatuses", crash.clone(), running("api", true)),
        ),
        (
            "istio-proxy is not ready",
            with(
                "containerStatuses",
                running("istio-proxy", false),
                running("api", true),
            ),
        ),
        (
            "linkerd-proxy has no image",
            with(
                "containerStatuses",
                waiting("linkerd-proxy", "ImagePullBackOff", "not found"),
                running("api", true),
            ),
        ),
        (
            "istio-init crashes",
            with(
                "initContainerStatuses",
                init,
                waiting("api", "PodInitializing", ""),
            ),
        ),
        (
            "vault-agent-init waits",
            with(
                "initContainerStatuses",
                running("vault-agent-init", false),
                waiting("api", "PodInitializing", ""),
            ),
        ),
        (
            "dapr cannot be made",
            with(
                "containerStatuses",
                waiting(
                    "daprd",
                    "CreateContainerConfigError",
                    "secret \"x\" not found",
                ),
                running("api", true),
            ),
        ),
    ] {
        assert_eq!(watch(&[pod], &[]), None, "{what}");
    }
    // What is in the template is.
    let mut own = crash.clone();
    own["name"] = json!("api");
    let pod = with("containerStatuses", running("istio-proxy", true), own);
    assert_eq!(watch(&[pod], &[]), Some(Trouble::Crash));
    let told = why(
        &[with("containerStatuses", crash, running("api", true))],
        &[],
    )
    .unwrap();
    assert!(
        told.message.contains("not in the template"),
        "{}",
        told.message
    );
}

/// A pod that ran, was ready and is not any more, beside a container that is not of the template.
fn turned_unready(beside: Option<Value>) -> Value {
    let containers: Vec<Value> = [running("api", false)].into_iter().chain(beside).collect();
    pod(
        "new-1",
        "v2",
        json!({"phase": "Running", "containerStatuses": containers, "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(-890).to_string()},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": at(-800).to_string()},
        ]}),
    )
}

/// dapr/docs issue 2476: what is injected may wait for the version.
#[test]
fn c3_an_injected_container_that_waits_for_the_version_is_no_excuse() {
    let pod = turned_unready(Some(running("daprd", false)));
    assert_eq!(watch(&[pod], &[]), Some(Trouble::Unready));
}

/// What asks for the injection stands in the template.
#[test]
fn c3_a_version_that_asks_for_another_injection_is_not_excused() {
    let not_ready = json!([{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": at(-880).to_string()}]);
    let crash = json!({"name": "istio-proxy", "ready": false, "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 255, "finishedAt": at(-30).to_string()}}});
    let pods = [pod(
        "new-1",
        "v2",
        json!({"phase": "Running", "conditions": not_ready, "containerStatuses": [running("api", true), crash]}),
    )];
    let asks = |template: &mut Value| {
        template["metadata"]["annotations"] =
            json!({"proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"});
    };
    assert_eq!(watch_of(asks, &pods, &[]), Some(Trouble::Stuck));
    // A restart, and the digest of a configuration, ask for nothing.
    let marked = |template: &mut Value| {
        template["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-23T13:00:00Z", "checksum/config": "1"});
    };
    assert_eq!(watch_of(marked, &pods, &[]), None);
}

/// A version that asks for another runtime or network may have no sandbox because of that.
#[test]
fn c2_a_version_that_changes_its_sandbox_is_not_excused() {
    let mut status =
        json!({"phase": "Pending", "containerStatuses": [waiting("api", "ContainerCreating", "")]});
    status["conditions"] = json!([
        {"type": "PodReadyToStartContainers", "status": "False"},
        {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": at(-880).to_string()},
    ]);
    let pods = [pod("new-1", "v2", status)];
    let events = [event(
        "new-1",
        "FailedCreatePodSandBox",
        "no runtime for \"gvisor\" is configured",
        at(-60),
    )];
    assert_eq!(watch(&pods, &events), None);
    let changes: [fn(&mut Value); 3] = [
        |template| template["spec"]["runtimeClassName"] = json!("gvisor"),
        |template| template["spec"]["hostNetwork"] = json!(true),
        |template| {
            template["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/networks": "missing"});
        },
    ];
    for change in changes {
        assert_eq!(watch_of(change, &pods, &events), Some(Trouble::Stuck));
    }
    assert_eq!(
        watch_of(
            |template| template["spec"]["hostNetwork"] = json!(false),
            &pods,
            &events
        ),
        None
    );
}

/// A pod that has its node waits for none, whatever was said before.
#[test]
fn e2_a_node_that_came_is_no_excuse() {
    for reason in ["TriggeredScaleUp", "Nominated"] {
        let events = [event("new-1", reason, "a node comes", at(-60))];
        assert_eq!(
            watch(&[turned_unready(None)], &events),
            Some(Trouble::Unready),
            "{reason}"
        );
    }
}

/// Each word by which a kubelet says what a container waits for: kubernetes/pkg/kubelet (container, images,
/// kuberuntime), cri-api/pkg/errors.
#[test]
fn c4_every_word_of_a_kubelet_has_a_cause() {
    use CauseKind::{Config, CrashLoop, ImagePull, Sandbox};
    for (reason, kind, fires) in [
        ("CrashLoopBackOff", CrashLoop, Some(Trouble::Crash)),
        ("CreateContainerConfigError", Config, Some(Trouble::Config)),
        ("CreateContainerError", Config, Some(Trouble::Config)),
        ("PreCreateHookError", Config, Some(Trouble::Config)),
        ("PreStartHookError", Config, Some(Trouble::Config)),
        ("PostStartHookError", Config, Some(Trouble::Config)),
        ("RunContainerError", Config, Some(Trouble::Config)),
        ("RunInitContainerError", Config, Some(Trouble::Config)),
        ("VerifyNonRootError", Config, Some(Trouble::Config)),
        ("ErrImageVolumeMountFailed", Config, Some(Trouble::Config)),
        ("InvalidImageName", ImagePull, Some(Trouble::ImagePull)),
        ("ErrImageNeverPull", ImagePull, Some(Trouble::ImagePull)),
        (
            "SignatureValidationFailed",
            ImagePull,
            Some(Trouble::ImagePull),
        ),
        ("ErrImagePull", ImagePull, Some(Trouble::ImagePull)),
        ("ImagePullBackOff", ImagePull, Some(Trouble::ImagePull)),
        ("CreatePodSandboxError", Sandbox, None),
        ("ConfigPodSandboxError", Sandbox, None),
        ("KillPodSandboxError", Sandbox, None),
        ("SetupNetworkError", Sandbox, None),
    ] {
        let message = "manifest unknown";
        let status = json!({"phase": "Pending", "containerStatuses": [waiting("api", reason, message)],
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": at(-880).to_string()}]});
        let pods = [pod("new-1", "v2", status)];
        assert_eq!(watch(&pods, &[]), fires, "{reason}");
        let told = why(&pods, &[]).unwrap_or_else(|| panic!("{reason} has no cause"));
        assert_eq!(told.kind, kind, "{reason}");
        assert!(
            kind == CrashLoop || kind == ImagePull || told.message.contains(reason),
            "{}",
            told.message
        );
    }
}

/// Two words of one trouble take turns while the kubelet waits before it tries again.
#[test]
fn c4_a_cause_does_not_flap() {
    let state = |waiting: &str, restarts: i64| {
        let status = json!({"phase": "Running", "containerStatuses": [{"name": "api", "image": "i:1", "ready": false, "restartCount": restarts,
            "state": {"waiting": {"reason": waiting, "message": "x"}},
            "lastState": {"terminated": {"exitCode": 126, "reason": "Error"}}}]});
        [pod("new-1", "v2", status)]
    };
    for (one, other) in [
        ("PostStartHookError", "CrashLoopBackOff"),
        ("RunContainerError", "CrashLoopBackOff"),
        ("PreStartHookError", "CrashLoopBackOff"),
        ("ErrImagePull", "ImagePullBackOff"),
        ("CreateContainerError", "CreateContainerConfigError"),
    ] {
        let set = ReplicaSet(replica_set("v2", "2"));
        let first = cause(Some(&set), &state(one, 3), &[], None, at(0)).unwrap();
        let second = cause(Some(&set), &state(other, 3), &[], Some(&first), at(30)).unwrap();
        let third = cause(Some(&set), &state(one, 4), &[], Some(&second), at(60)).unwrap();
        assert_eq!(
            [second.kind, third.kind],
            [first.kind; 2],
            "{one} and {other}"
        );
        assert_eq!(third.since, at(0), "{one} and {other}");
    }
}

/// Autoscalers are waited for while they say that a node comes: cluster-autoscaler and Karpenter.
#[test]
fn e2_a_node_that_comes_is_waited_for() {
    let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu."}]});
    let pods = [pod("new-1", "v2", status)];
    let kind = |events: &[Value]| why(&pods, events).unwrap().kind;
    assert_eq!(kind(&[]), CauseKind::Unschedulable);
    assert!(is_conclusive(CauseKind::Unschedulable) && !is_conclusive(CauseKind::AwaitingNode));
    for (reason, message) in [
        (
            "TriggeredScaleUp",
            "pod triggered scale-up: [{pool-1 3->4 (max: 10)}]",
        ),
        (
            "Nominated",
            "Pod should schedule on: nodeclaim/default-x7k2p",
        ),
    ] {
        let events = [event("new-1", reason, message, at(-150))];
        assert_eq!(kind(&events), CauseKind::AwaitingNode);
        assert!(why(&pods, &events).unwrap().message.contains(message));
        // It said so long ago.
        assert_eq!(
            kind(&[event("new-1", reason, message, at(-1000))]),
            CauseKind::Unschedulable
        );
        // It is about another pod.
        assert_eq!(
            kind(&[event("other", reason, message, at(-150))]),
            CauseKind::Unschedulable
        );
        // It said otherwise since.
        let not = event(
            "new-1",
            "NotTriggerScaleUp",
            "pod didn't trigger scale-up: 1 max node group size reached",
            at(-100),
        );
        assert_eq!(
            kind(&[events[0].clone(), not.clone()]),
            CauseKind::Unschedulable
        );
        assert_eq!(kind(&[not]), CauseKind::Unschedulable);
    }
    let mut twice = event(
        "new-1",
        "NotTriggerScaleUp",
        "in backoff after failed scale-up",
        at(-300),
    );
    twice["metadata"]["name"] = json!("before");
    let again = event(
        "new-1",
        "TriggeredScaleUp",
        "pod triggered scale-up",
        at(-150),
    );
    assert_eq!(kind(&[twice, again]), CauseKind::AwaitingNode);
}
