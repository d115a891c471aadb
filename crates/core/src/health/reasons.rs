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
    let list = |pointer: &str| {
        pod.pointer(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let text = |value: &Value, field: &str| {
        value
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut awaited = None;
    for gate in list("/spec/readinessGates") {
        let name = text(gate, "conditionType");
        let condition = list("/status/conditions").find(|it| text(it, "type") == name);
        let Some(condition) = condition else {
            awaited.get_or_insert(Gate::Awaited(format!(
                "readiness gate {name}: nothing is said of it"
            )));
            continue;
        };
        let state = text(condition, "status");
        if state == "True" {
            continue;
        }
        let (reason, message) = (text(condition, "reason"), text(condition, "message"));
        let said = [reason.as_str(), message.as_str()];
        let said: Vec<&str> = said.into_iter().filter(|part| !part.is_empty()).collect();
        let words = match said.as_slice() {
            [] => format!("readiness gate {name} is not open"),
            said => format!("readiness gate {name} is not open: {}", said.join(": ")),
        };
        let reason = reason.to_lowercase();
        let is_unknown = GATE_UNKNOWN.contains(&state.as_str());
        if is_unknown || GATE_OPENS.iter().any(|part| reason.contains(part)) {
            awaited.get_or_insert(Gate::Awaited(words));
        } else {
            return Some(Gate::Shut(words));
        }
    }
    awaited
}
