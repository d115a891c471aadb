//! `RollbackPolicy`: the rules of a namespace.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

    /// How long the old version may take to come back.
    #[serde(default)]
    pub rollout: Rollout,

    /// How it is shown that the old version is well.
    #[serde(default)]
    pub verification: Verification,

    /// What happens to Deployments that belong to Argo CD, Flux or Helm.
    #[serde(default)]
    pub git_ops: GitOps,

    /// What is remembered of the versions of each Deployment.
    #[serde(default)]
    pub ledger: Ledger,
}

/// What happens to Deployments that belong to a tool that puts back what Git says.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GitOps {
    /// What to do when the owner would undo the rollback by itself, or when nobody can tell.
    #[serde(default)]
    pub self_healing: SelfHealing,
}

/// What to do when the owner of a Deployment would undo the rollback by itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfHealing {
    /// Refuse, and say the command that pauses the owner.
    #[default]
    Refuse,
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
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            record: yes(),
            soak_seconds: five_minutes(),
            keep_templates: three(),
            quarantine_seconds: thirty_days(),
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

    /// Whether the approver must not be the requester.
    pub fn four_eyes(self) -> bool {
        match self {
            Self::Production => true,
            Self::Staging | Self::Development => false,
        }
    }
}

/// Who has to say yes, and how.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// How many different people must approve.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    pub required: i32,

    /// The phrase that an approver types. Defaults to `ROLLBACK PRODUCTION` in production and to
    /// `ROLLBACK` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub confirm_phrase: Option<String>,

    /// Seconds after which a request that nobody approved expires.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1, max = 604_800))]
    pub expire_after_seconds: i32,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            required: one(),
            confirm_phrase: None,
            expire_after_seconds: an_hour(),
        }
    }
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
    /// be pulled) before the rollback counts as failed.
    #[serde(default = "one_minute")]
    #[schemars(range(min = 1, max = 86_400))]
    pub grace_seconds: i32,

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
            wait_for_termination: false,
            release_ownership: false,
        }
    }
}

/// How it is shown that the old version is well.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Seconds from the end of the rollout until every check must have passed.
    #[serde(default = "two_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: i32,

    /// Seconds for which the old version is watched after its checks have passed. Whoever brings the bad version back
    /// in this time is named.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86_400))]
    pub soak_seconds: i32,

    /// HTTP checks, each against the new pods of the Deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub http: Vec<HttpCheck>,
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            timeout_seconds: two_minutes(),
            soak_seconds: 0,
            http: Vec::new(),
        }
    }
}

/// One HTTP GET that the new pods must answer well.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Name of the check, for the report.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Port of the pod.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,

    /// Path, for example `/health/ready`.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,

    /// Status code that means well.
    #[serde(default = "ok")]
    #[schemars(range(min = 100, max = 599))]
    pub expected_status: i32,

    /// How many rounds in a row every pod must answer well.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 20))]
    pub consecutive_successes: i32,

    /// Seconds between two rounds.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i32,

    /// Seconds that one answer may take.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i32,
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
