//! `RollbackPolicy`: the rules of a namespace.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::category::{Category, Urgency};

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

    /// When nothing is rolled back, except in an emergency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub freeze_windows: Vec<FreezeWindow>,

    /// What may be made smaller to make room for the old version.
    #[serde(default)]
    pub make_room: MakeRoom,

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

/// Who has to say yes, and how.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// How many different people must approve.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    pub required: i32,

    /// How many must approve at this urgency. An urgency is a claim, so a smaller number than `required` counts
    /// only for requesters who hold the verb `expedite` on `rollbackrequests/expedite`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["urgency"]))]
    pub by_urgency: Vec<ByUrgency>,

    /// Whether the approver must not be the requester. Defaults to true in production and to false elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub four_eyes: Option<bool>,

    /// The phrase that an approver types. Defaults to `ROLLBACK PRODUCTION` in production and to
    /// `ROLLBACK` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]([ -~]*[!-~])?$')")
        .message("give a phrase in one line of plain letters, without blanks around it, for example ROLLBACK PRODUCTION; or leave it out"))]
    pub confirm_phrase: Option<String>,

    /// What an approver has to tick. Defaults to `incident-documented` and `stakeholders-notified` in production
    /// and to nothing elsewhere; `[]` means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checklist: Option<Vec<ChecklistItem>>,

    /// Seconds for which an approval counts, from the moment the controller has seen it until the Deployment is written.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1, max = 604_800))]
    pub valid_for_seconds: i32,

    /// Whether somebody with the verb `break-glass` on `rollbackrequests/break-glass` may approve alone: without a
    /// second pair of eyes, without the checklist, in a freeze. It is always reported.
    #[serde(default)]
    pub break_glass: bool,

    /// Seconds after which a request that nobody approved expires.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1, max = 604_800))]
    pub expire_after_seconds: i32,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            required: one(),
            by_urgency: Vec::new(),
            four_eyes: None,
            confirm_phrase: None,
            checklist: None,
            valid_for_seconds: an_hour(),
            break_glass: false,
            expire_after_seconds: an_hour(),
        }
    }
}

/// How many people must approve at one urgency.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ByUrgency {
    /// The urgency of the request.
    pub urgency: Urgency,

    /// How many different people must approve.
    #[schemars(range(min = 1, max = 5))]
    pub required: i32,
}

/// Something that must have been done before a rollback is approved.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChecklistItem {
    /// What the approver types to tick it.
    #[schemars(length(max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("use small letters, digits and '-', for example incident-documented: approvers type it"))]
    pub name: String,

    /// What it asks, for example `The incident is documented`.
    #[schemars(length(max = 200))]
    #[x_kube(validation = Rule::new("self.trim() != ''")
        .message("say what has to be done before it is ticked"))]
    pub text: String,
}

/// What one kind of trouble calls for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The kind of trouble.
    pub category: Category,

    /// The urgency of requests of this category that name none; more needs the verb `expedite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<Urgency>,

    /// Who decides. Defaults to `Refused` for `Feature` and to `Manual` for every other category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalMode>,
}

/// Who decides on a rollback.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalMode {
    /// People.
    Manual,
    /// Nobody: it is fixed forward.
    Refused,
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

/// What may be made smaller to make room for the old version.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MakeRoom {
    /// Deployments whose number of replicas the controller may change. It also needs the verb `patch` on their
    /// `deployments/scale`, which the API server asks for (`ClusterRole` `rollback-make-room`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "maxLength": 253}))]
    pub scale_down: Vec<String>,
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

    /// HTTP checks: against the new pods, also those behind a Service, or of an address outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub http: Vec<HttpCheck>,

    /// Addresses outside the cluster that HTTP checks may ask, by their beginning: `https://status.example.com/health`
    /// stands for that path and everything below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "maxLength": 500}))]
    pub external_urls: Vec<String>,

    /// Checks of numbers that Prometheus knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,

    /// Check of the new pods themselves: each is ready and does not restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCheck>,

    /// Smoke tests, each a Job that runs once the old version is up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jobs: Vec<JobTemplate>,

    /// What people check by hand, for the report. Defaults to the usual list of a shop; `[]` means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub manual: Option<Vec<ChecklistItem>>,

    /// What to do when the old version is not well either.
    #[serde(default)]
    pub on_failure: OnUnwell,
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            timeout_seconds: two_minutes(),
            soak_seconds: 0,
            http: Vec::new(),
            external_urls: Vec::new(),
            prometheus: None,
            pods: None,
            jobs: Vec::new(),
            manual: None,
            on_failure: OnUnwell::default(),
        }
    }
}

/// What to do when the old version is not well either. Never more than one thing, and never twice.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnwell {
    /// Leave it as it is, and call for people.
    #[default]
    Escalate,
    /// Try one version that is older still; it is in the plan, so it is approved with it.
    TryOlder,
    /// Bring back what was there before the rollback.
    Restore,
}

/// One HTTP GET that must be answered well: by each of the new pods at a port of theirs, by those of them that a Service
/// leads to, or by an address outside.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.url) ? !has(self.port) && !has(self.service) && !has(self.path) && !has(self.preset) : has(self.port) && (has(self.path) != has(self.preset))")
        .message("say whom to ask: port (and service, for the port of a Service) with exactly one of path and preset, or url alone")
)]
pub struct HttpCheck {
    /// Name of the check, for the report.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Port of the pod, or of the Service when one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,

    /// Name of a Service in the namespace: those of the new pods are asked that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub service: Option<String>,

    /// Path, for example `/health/ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^/[!-~]*$"))]
    pub path: Option<String>,

    /// One of the usual paths, instead of `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Endpoint>,

    /// An address outside the cluster that `externalUrls` of the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), regex(pattern = r"^https?://[!-~]+$"))]
    pub url: Option<String>,

    /// Status code that means well.
    #[serde(default = "ok")]
    #[schemars(range(min = 100, max = 599))]
    pub expected_status: i32,

    /// What the body of the answer must contain, within its first 64 KiB. The body itself is kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub body_contains: Option<String>,

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

impl HttpCheck {
    /// The path to ask for.
    pub fn path(&self) -> &str {
        match (&self.path, self.preset) {
            (Some(path), _) => path,
            (None, Some(preset)) => preset.path(),
            (None, None) => "/",
        }
    }

    /// What is asked, in short, for messages: never the query of an address.
    pub fn asks(&self) -> String {
        let address = |url: &str| url.split(['?', '#']).next().unwrap_or_default().to_owned();
        match (&self.url, &self.service) {
            (Some(url), _) => address(url),
            (None, Some(service)) => format!("{service}{}", address(self.path())),
            (None, None) => address(self.path()),
        }
    }
}

/// The usual paths of health checks.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/health`
    Health,
    /// `/health/live`
    Live,
    /// `/health/ready`
    Ready,
    /// `/api/health`
    ApiHealth,
}

impl Endpoint {
    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
            Self::ApiHealth => "/api/health",
        }
    }
}

/// A Prometheus server, and what to ask it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Where it is, for example `http://prometheus.monitoring.svc:9090`. Its address must lie in a network that the
    /// controller's `--probe-networks` names.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^https?://[!-~]+$"))]
    pub url: String,

    /// The checks.
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<PrometheusCheck>,
}

/// One number of Prometheus, and between what bounds it means well. No answer, several numbers or none is never well.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.preset) != has(self.query) && (has(self.preset) || has(self.atMost) || has(self.atLeast)) && !(has(self.atMost) && has(self.atLeast))")
        .message("give exactly one of preset and query, and with a query exactly one of atMost and atLeast")
)]
pub struct PrometheusCheck {
    /// Name of the check, for the report.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// One of the usual numbers, with its usual bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Metric>,

    /// A query of your own that gives one number. `$namespace`, `$deployment`, `$replica_set`, `$window` and `$baseline`
    /// are filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2000))]
    pub query: Option<String>,

    /// The number may not be larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,

    /// The number may not be smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,

    /// Seconds that the number speaks of.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 5, max = 86_400))]
    pub window_seconds: i32,

    /// How many rounds in a row the number must be well.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 20))]
    pub consecutive_successes: i32,

    /// Seconds between two rounds.
    #[serde(default = "fifteen")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i32,

    /// Seconds that one answer may take.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i32,
}

/// The usual numbers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Part of the requests answered with 5xx: at most 0.01.
    ErrorRate,
    /// 99th percentile of the time to answer, in milliseconds: at most 2000.
    Latency,
    /// Restarts of the new pods in a minute: at most 3.
    Restarts,
    /// Requests in a second, as part of what there were before the bad version: at least 0.5.
    Throughput,
}

/// Check of the new pods themselves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodCheck {
    /// How often the containers of the new pods may have been restarted, all together.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_restarts: i32,

    /// How many looks in a row every pod must be ready.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 20))]
    pub consecutive_successes: i32,

    /// Seconds between two looks.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i32,
}

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
    /// Name of the Deployment.
    #[schemars(length(min = 1, max = 253))]
    pub deployment: String,

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
