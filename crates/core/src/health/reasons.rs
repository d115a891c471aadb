//! The words by which kubelets, the scheduler, network and storage plugins and autoscalers say why a pod does not come up:
//! those of Kubernetes 1.30 to 1.37. One table for the watch of a new version and for what is told of a rollout, so that both
//! blame the same. What is waited for takes turns: words of one row are one trouble.
//!
//! | Words | Trouble | Whose |
//! |---|---|---|
//! | [`PULLING`], [`WRONG_NAME`] | the image | the version, or the registry, by the message |
//! | [`CONFIG`] | the container cannot be made as the template asks | the version |
//! | [`NOT_STARTED`] | it was made and cannot be started; a crash loop once it was started again | the version |
//! | [`SANDBOX`], [`SANDBOX_EVENTS`] | the pod has no sandbox: network, runtime, node | around it |
//! | [`NODE_COMES`] | an autoscaler makes a node for it | nobody: it is waited for |

use serde_json::Value;

use crate::observed::workload::{condition, list, string};

/// Reasons of a waiting container whose image name is wrong in itself, or whose image may not run here.
pub const WRONG_NAME: [&str; 3] = [
    "InvalidImageName",
    "ErrImageNeverPull",
    "SignatureValidationFailed",
];
/// Reasons of a waiting container whose image cannot be had.
pub const PULLING: [&str; 4] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
];
/// Reasons of a waiting container that cannot be made.
pub const CONFIG: [&str; 6] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "PreCreateHookError",
    "ErrImageVolumeMountFailed",
    "ImageVolumeMountFailed",
    "VerifyNonRootError",
];
/// Reasons of a waiting container that was made and could not be started.
pub const NOT_STARTED: [&str; 4] = [
    "RunContainerError",
    "RunInitContainerError",
    "PreStartHookError",
    "PostStartHookError",
];
/// Reasons of a waiting container whose pod has no sandbox.
pub const SANDBOX: [&str; 6] = [
    "CreatePodSandboxError",
    "ConfigPodSandboxError",
    "KillPodSandboxError",
    "SetupNetworkError",
    "TeardownNetworkError",
    "NetworkNotReady",
];
/// Reasons of events about a pod that has no sandbox.
pub const SANDBOX_EVENTS: [&str; 5] = [
    "FailedCreatePodSandBox",
    "FailedCreatePodSandbox",
    "FailedPodSandBoxStatus",
    "NetworkNotReady",
    "CNIAssignmentFailed",
];
/// Reasons of events by which an autoscaler says that a node comes for a pod.
pub const NODE_COMES: [&str; 3] = ["TriggeredScaleUp", "Nominated", "TriggeredNodeProvisioning"];
/// Reasons of events by which an autoscaler says that none comes.
pub const NO_NODE_COMES: [&str; 2] = ["NotTriggerScaleUp", "FailedScaleUp"];
/// For how long it counts that a node comes: as long as autoscalers wait for one.
pub const NODE_COMES_SECONDS: i64 = 900;

/// Parts of reasons of a readiness gate that is about to open, or that says nothing of the pod: load balancers of
/// Amazon and Google name so what they have not taken up yet, and faults of their own.
const GATE_OPENS: [&str; 9] = [
    "elb.internalerror",
    "initial",
    "inprogress",
    "loadbalancernegnotready",
    "pending",
    "progressing",
    "provisioning",
    "target.notinuse",
    "target.notregistered",
];
/// States of a readiness gate of which nothing is known.
const GATE_UNKNOWN: [&str; 2] = ["", "Unknown"];

/// A readiness gate of a pod that is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nobody has said anything of it, or it is about to open: what opens it is slow or away.
    Awaited(String),
    /// It was looked at, and is shut.
    Shut(String),
}

/// The first gate of a pod that keeps it from being ready, in words; a shut one before one that is awaited.
pub fn gate(pod: &Value) -> Option<Gate> {
    let mut awaited = None;
    for gate in list(pod, "/spec/readinessGates") {
        match of(pod, string(gate, "/conditionType")) {
            Some(Gate::Shut(words)) => return Some(Gate::Shut(words)),
            Some(waits) => awaited = awaited.or(Some(waits)),
            None => {}
        }
    }
    awaited
}

/// What is said of one gate, unless it is open.
fn of(pod: &Value, name: &str) -> Option<Gate> {
    let Some(condition) = condition(pod, name) else {
        let words = format!("readiness gate {name}: nothing is said of it");
        return Some(Gate::Awaited(words));
    };
    let state = string(condition, "/status");
    if state == "True" {
        return None;
    }
    let reason = string(condition, "/reason");
    let said = [reason, string(condition, "/message")];
    let said: Vec<&str> = said.into_iter().filter(|part| !part.is_empty()).collect();
    let words = match said.as_slice() {
        [] => format!("readiness gate {name} is not open"),
        said => format!("readiness gate {name} is not open: {}", said.join(": ")),
    };
    let reason = reason.to_lowercase();
    let is_unknown = GATE_UNKNOWN.contains(&state);
    let waits = is_unknown || GATE_OPENS.iter().any(|part| reason.contains(part));
    Some(if waits {
        Gate::Awaited(words)
    } else {
        Gate::Shut(words)
    })
}
