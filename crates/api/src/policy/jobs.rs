//! Jobs that run before and after a rollback, and the gate for the data.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::five_minutes;

/// A Job that the controller runs. It needs the `ClusterRole` `rollback-run-jobs`, bound in the namespace, and who writes
/// it into a policy needs the verb `create` on Jobs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplate {
    /// Name of the Job, for the report.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// The pod, as a Job has it under `spec.template.spec`. `restartPolicy` is always `Never`.
    #[schemars(extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true))]
    pub pod_spec: serde_json::Value,

    /// Whose image the containers get that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_of: Option<ImageOf>,

    /// Seconds that it may take.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i32,

    /// How many of the last lines of its log are kept for the report, without what looks like a secret. With 0 no log is read.
    #[serde(default)]
    #[schemars(range(min = 0, max = 50))]
    pub log_tail_lines: i32,

    /// What it means when it fails.
    #[serde(default)]
    pub on_failure: OnJobFailure,
}

/// Whose image a Job has.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImageOf {
    /// Of which version.
    pub version: Side,

    /// Of which container of it.
    #[schemars(length(min = 1, max = 63))]
    pub container: String,
}

/// One of the two versions of a rollback.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The bad one, which is rolled back.
    Newer,
    /// The one to go back to.
    Older,
}

/// What it means when a Job fails.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnJobFailure {
    /// The rollback does not go on: before it, nothing is changed; after it, it has failed.
    #[default]
    Veto,
    /// It is told, and the rollback goes on.
    Warn,
}

/// Jobs that run before and after a rollback, for each Deployment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// After the approval and the backup, before the Deployment is written; one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pre_rollback: Vec<JobTemplate>,

    /// After the checks; one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub post_rollback: Vec<JobTemplate>,
}

/// When the data may not fit the old version.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DataGate {
    /// What to do when a version does not say which schema it brings.
    #[serde(default)]
    pub unknown: UnknownSchema,

    /// Whom to ask about the data, for messages: a name, a channel, a telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub contact: Option<String>,

    /// A Job that says whether the migrations of the newer version can be lived with: when it fails, the request is
    /// `Blocked` until an approver accepts the risk. It runs after the approval, before anything is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_status: Option<JobTemplate>,
}

/// What to do when a version does not say which schema it brings.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownSchema {
    /// Go on.
    #[default]
    Allow,
    /// `Blocked`, until an approver accepts the risk.
    Block,
}
