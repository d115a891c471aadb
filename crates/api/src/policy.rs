//! `RollbackPolicy`: the rules of a namespace.

mod approvals;
mod jobs;
mod notifications;
mod triggers;
mod verification;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use approvals::*;
pub use jobs::*;
pub use notifications::*;
pub use triggers::*;
pub use verification::*;

use crate::TargetRef;

/// The rules for rollbacks in this namespace. Only the policy named `default` is in force; without
/// it the production rules hold.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "rollback.broxiva.com",
    version = "v1alpha1",
    kind = "RollbackPolicy",
    namespaced,
    derive = "PartialEq",
    shortname = "rbp",
    category = "rollback",
    doc = "The rules for rollbacks in a namespace",
    validation = Rule::new("self.metadata.name == 'default'")
        .message("a namespace has one policy and its name is default; change metadata.name to default"),
    printcolumn(name = "Environment", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Approvals", type_ = "integer", json_path = ".spec.approvals.required"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPolicySpec {
    /// What runs here. Production asks for an approver who is not the requester.
    #[serde(default)]
    pub environment: Environment,

    /// Who has to say yes.
    #[serde(default)]
    pub approvals: Approvals,

    /// What each kind of trouble calls for, where it differs from the decision matrix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["category"]))]
    pub decision_matrix: Vec<Decision>,

    /// Who may ask besides people, and what holds those requests back.
    #[serde(default)]
    pub triggers: Triggers,

    /// When nothing is rolled back, except in an emergency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub freeze_windows: Vec<FreezeWindow>,

    /// What may be scaled down to free capacity for the old version.
    #[serde(default)]
    pub capacity: Capacity,

    /// How long the old version may take to come back.
    #[serde(default)]
    pub rollout: Rollout,

    /// How it is shown that the old version is well.
    #[serde(default)]
    pub verification: Verification,

    /// Jobs that run before and after a rollback.
    #[serde(default)]
    pub hooks: Hooks,

    /// When the data may not fit the old version.
    #[serde(default)]
    pub data_gate: DataGate,

    /// What the controller may do by itself when the old version does not come up. Nothing unless it is said here.
    #[serde(default)]
    pub remedies: Remedies,

    /// What becomes of the incident report.
    #[serde(default)]
    pub report: ReportRules,

    /// What happens to Deployments that belong to Argo CD, Flux or Helm.
    #[serde(default)]
    pub git_ops: GitOps,

    /// What is remembered of the versions of each Deployment.
    #[serde(default)]
    pub ledger: Ledger,

    /// Who hears of rollbacks, and who is asked next when nobody answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Notifications>,

    /// What the API server does when somebody brings back a version that was rolled back.
    #[serde(default)]
    pub quarantine: Quarantine,
}

/// What the API server does when somebody brings back a version that was rolled back, while it is in quarantine
/// (`ledger.quarantineSeconds`).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// Whether that is warned of or refused, whoever it is: `kubectl`, a pipeline, Argo CD, Flux, an image bot. The
    /// admission policies of `deploy/25-quarantine.yaml` do it, with or without the controller.
    #[serde(default)]
    pub enforce: Enforce,
}

/// What becomes of a write that brings back a version in quarantine.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforce {
    /// It is accepted, and whoever writes is warned.
    #[default]
    Warn,
    /// It is refused.
    Deny,
    /// Nothing is said.
    Off,
}

/// What happens to Deployments that belong to a tool that puts back what Git says.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GitOps {
    /// What to do when the owner would undo the rollback by itself, or when nobody can tell.
    #[serde(default)]
    pub on_self_healing: SelfHealing,
}

/// What to do when the owner of a Deployment would undo the rollback by itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfHealing {
    /// Refuse, and say the command that pauses the owner.
    Refuse,
    /// Have the owner leave the Deployment alone, before the revert and as the plan says that was approved; refuse where
    /// that cannot be done or the controller has no right to it.
    #[default]
    Hold,
    /// Say so in the plan, and go on.
    Warn,
}

/// What is remembered of the versions of each Deployment of the namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Whether versions are remembered at all. Without it nothing is known to be good.
    #[serde(default = "yes")]
    pub record: bool,

    /// Seconds for which every replica of a version must have been available until it counts as good.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 0, max = 604_800))]
    pub soak_seconds: i32,

    /// How many good templates are kept whole besides the one that runs, so that they can be restored when the history
    /// is pruned. With 0 none is kept, not even that one.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 5))]
    pub keep_templates: i32,

    /// Seconds for which a version that was rolled back is not chosen again unless it is named.
    #[serde(default = "thirty_days")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub quarantine_seconds: i32,

    /// Annotations of pod templates, and variables of their containers, that tools of yours write only to have the pods
    /// started anew, besides those that are known (docs/policies.md): templates that differ in them alone are one version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "minLength": 1, "maxLength": 317}))]
    pub restart_marks: Vec<String>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            record: yes(),
            soak_seconds: five_minutes(),
            keep_templates: three(),
            quarantine_seconds: thirty_days(),
            restart_marks: Vec::new(),
        }
    }
}

/// What runs in a namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Customers depend on it: approval by somebody else, with `ROLLBACK PRODUCTION`.
    #[default]
    Production,
    /// Approval with `ROLLBACK`; the requester may give it.
    Staging,
    /// Approval with `ROLLBACK`; the requester may give it.
    Development,
}

impl Environment {
    /// The phrase that an approver types unless the policy names another.
    pub fn confirm_phrase(self) -> &'static str {
        match self {
            Self::Production => "ROLLBACK PRODUCTION",
            Self::Staging | Self::Development => "ROLLBACK",
        }
    }

    /// Whether the approver must not be the requester, unless the policy says otherwise.
    pub fn four_eyes(self) -> bool {
        match self {
            Self::Production => true,
            Self::Staging | Self::Development => false,
        }
    }

    /// What an approver ticks, unless the policy says otherwise.
    pub fn checklist(self) -> Vec<ChecklistItem> {
        let item = |name: &str, text: &str| ChecklistItem {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        match self {
            Self::Production => vec![
                item("incident-documented", "The incident is documented"),
                item("stakeholders-notified", "The stakeholders are notified"),
            ],
            Self::Staging | Self::Development => Vec::new(),
        }
    }
}

/// A time in which nothing is rolled back, except in an emergency: then an urgency of at least `Critical` by somebody
/// with the verb `expedite`, or a Deployment that the controller itself sees to be down.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FreezeWindow {
    /// Name of the window, for messages.
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("use small letters, digits and '-', for example black-friday"))]
    pub name: String,

    /// When it begins, as cron writes it: minute, hour, day of the month, month, day of the week.
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9A-Za-z*/,#L-]+( +[0-9A-Za-z*/,#L-]+){4}$')")
        .message("give five fields as cron has them: minute, hour, day of the month, month, day of the week; for example 0 18 * * FRI"))]
    pub schedule: String,

    /// The time zone of the schedule, for example `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_+/-]*$')")
        .message("give a name of the time zone database, for example Europe/Berlin or UTC"))]
    pub time_zone: String,

    /// Minutes for which it lasts.
    #[schemars(range(min = 1, max = 44_640))]
    pub duration_minutes: i32,
}

/// What may be scaled down to free capacity for the old version.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Deployments whose number of replicas the controller may change. It also needs the verb `patch` on their
    /// `deployments/scale`, which the API server asks for (`ClusterRole` `rollback-scale-down`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub scale_down: Vec<TargetRef>,
}

/// How long the old version may take to come back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Seconds from the revert until every replica must be available.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: i32,

    /// Seconds for which a pod may show a trouble that does not go away by itself (it crashes, its image cannot
    /// be pulled) before the rollback counts as failed. What only Events tell of has the whole time.
    #[serde(default = "one_minute")]
    #[schemars(range(min = 1, max = 86_400))]
    pub grace_seconds: i32,

    /// How many of the last lines of the log of a container that crashes are quoted, without what looks like a secret.
    /// With 0 no log is read. Needs the `ClusterRole` `rollback-read-logs`, bound in the namespace.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub log_tail_lines: i32,

    /// Whether the rollback is complete only when the pods of the bad version are gone, and not already when
    /// they are on their way out. Needs a server that reports `terminatingReplicas`; without it nothing is waited for.
    #[serde(default)]
    pub wait_for_termination: bool,

    /// Whether the controller gives up its ownership of the fields that it wrote after a success, so that a later
    /// server-side apply of their owner (Helm 4, for example) meets no conflict.
    #[serde(default)]
    pub release_ownership: bool,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            timeout_seconds: five_minutes(),
            grace_seconds: one_minute(),
            log_tail_lines: 0,
            wait_for_termination: false,
            release_ownership: false,
        }
    }
}

/// What the controller may do by itself when the old version does not come up.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Remedies {
    /// Seconds after the end of its grace period from which on a pod of the Deployment that hangs while it ends is deleted
    /// by force. Left out, none is. Needs the `ClusterRole` `rollback-force-delete`, bound in the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub force_delete_after_seconds: Option<i32>,

    /// Images that are known to be good, for the case that an image of the old version cannot be pulled. It is in the plan,
    /// so it is approved with it, and it is tried once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub fallback_images: Vec<FallbackImage>,
}

/// An image that is known to be good.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FallbackImage {
    /// The workload that it is for.
    pub target_ref: TargetRef,

    /// Name of its container.
    #[schemars(length(min = 1, max = 63))]
    pub container: String,

    /// The image.
    #[schemars(length(min = 1, max = 500))]
    pub image: String,
}

/// What becomes of the incident report.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReportRules {
    /// Seconds from the end of an incident until it has been reviewed; then somebody is reminded.
    #[serde(default = "two_days")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub review_within_seconds: i32,
}

impl Default for ReportRules {
    fn default() -> Self {
        Self {
            review_within_seconds: two_days(),
        }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}
fn yes() -> bool {
    true
}
fn one() -> i32 {
    1
}
fn three() -> i32 {
    3
}
fn half_a_minute() -> i32 {
    30
}
fn half_an_hour() -> i32 {
    1800
}
fn one_minute() -> i32 {
    60
}
fn thirty_days() -> i32 {
    2_592_000
}
fn two() -> i32 {
    2
}
fn five() -> i32 {
    5
}
fn fifteen() -> i32 {
    15
}
fn two_days() -> i32 {
    172_800
}
fn ok() -> i32 {
    200
}
fn an_hour() -> i32 {
    3600
}
fn five_minutes() -> i32 {
    300
}
fn two_minutes() -> i32 {
    120
}
