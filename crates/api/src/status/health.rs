//! How a version is coming up, and whether it is well.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

use super::JobStage;

open_enum! {
    /// What kind of check.
    #[derive(Default, PartialOrd, Ord)]
    pub enum CheckKind {
        /// An HTTP GET.
        #[default]
        Http,
        /// A number of Prometheus.
        Prometheus,
        /// The pods themselves.
        Pods,
        /// A smoke test.
        Job,
    }
}

/// What one check said once.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Its kind.
    #[serde(default)]
    pub kind: CheckKind,
    /// Name of the check.
    pub check: String,
    /// What it found.
    pub finding: Finding,
    /// In words, with its number when it has one.
    pub result: String,
}

open_enum! {
    /// What a check finds. What is not known is never well.
    #[derive(Default)]
    pub enum Finding {
        /// Well.
        Pass,
        /// Not well.
        Fail,
        /// It could not be told.
        #[default]
        Unknown,
    }
}

/// How one Job is going.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// When it runs.
    pub stage: JobStage,
    /// Its name in the policy.
    pub name: String,
    /// Name of the Job object.
    pub job: String,
    /// When the intent to run it was stored, before it was created.
    pub intended_at: Timestamp,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<JobEnd>,
}

/// How a Job ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobEnd {
    /// When that was seen.
    pub at: Timestamp,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Exit code of the first container that failed, or 0; none when no container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why, in a sentence.
    pub message: String,
    /// The last lines of its log, without what looks like a secret, when the policy asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("items" = {"type": "string", "maxLength": 500}))]
    pub log: Vec<String>,
}

/// How the old version is coming up.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// When every replica must be available, unless it still gets on then (`progressedAt`); set at the revert, never moved.
    pub deadline: Timestamp,
    /// Replicas that were asked for at the revert: an autoscaler may ask for more meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_at_revert: Option<i64>,
    /// Most replicas with the old template that were available at the same time so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_available: Option<i64>,
    /// When there were more of them than ever before: as long as one more comes up within `rollout.timeoutSeconds`, it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressed_at: Option<Timestamp>,
    /// Replicas asked for.
    pub desired: i64,
    /// Replicas with the old template.
    pub updated: i64,
    /// Replicas that are available.
    pub available: i64,
    /// What keeps its pods from becoming available, as long as something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// When every replica was available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
}

/// What keeps the pods of the old version from becoming available.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// Which kind of trouble.
    pub kind: CauseKind,
    /// In the words of the kubelet, the scheduler or the API server.
    pub message: String,
    /// The pod that shows it, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// What its container said last, without what looks like a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_words: Option<String>,
    /// Since when this kind of trouble is seen without a break.
    pub since: Timestamp,
}

open_enum! {
    /// Kinds of trouble of a pod.
    #[derive(PartialOrd, Ord)]
    pub enum CauseKind {
        /// A container, or an init container, crashes again and again.
        CrashLoop,
        /// An image cannot be pulled, or its name is no name.
        ImagePull,
        /// A container cannot be made: a ConfigMap, Secret or key is missing, or its settings are wrong.
        Config,
        /// A volume cannot be mounted.
        Volume,
        /// The pod gets no sandbox: its network, the runtime or the node is in the way.
        Sandbox,
        /// No node takes the pod.
        Unschedulable,
        /// No node takes the pod yet, and an autoscaler makes one.
        AwaitingNode,
        /// The API server does not let the pod be made: quota, admission, a missing ServiceAccount.
        Refused,
        /// Its containers are ready, and a readiness gate is not open.
        Gate,
        /// A container runs, but a probe of it fails.
        Unready,
    }
}

/// How the checks are going.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// When every replica was available, and the checks began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Timestamp>,
    /// When every check must have passed.
    pub deadline: Timestamp,
    /// The checks, in the order of the rules.
    #[schemars(length(max = 40))]
    pub checks: Vec<CheckStatus>,
    /// When every check had passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
}

/// How one check is going.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Its kind.
    #[serde(default)]
    pub kind: CheckKind,
    /// Name of the check.
    pub name: String,
    /// Rounds so far.
    pub rounds: i32,
    /// Good rounds in a row.
    pub consecutive_successes: i32,
    /// When the last round was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// What the last round found.
    #[serde(default)]
    pub finding: Finding,
    /// The same in words, with its number when it has one.
    #[serde(default)]
    pub last_result: String,
    /// When it had enough good rounds in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_at: Option<Timestamp>,
}
