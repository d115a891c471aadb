//! `RollbackRequest`: one rollback, asked for once.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::category::{Category, Urgency};
use crate::policy::HttpCheck;
use crate::status::{Outcome, RollbackRequestStatus};
use crate::{FINALIZER, Identity};

/// What to roll back, to what, and why. Immutable once created.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "rollback.broxiva.com",
    version = "v1alpha1",
    kind = "RollbackRequest",
    namespaced,
    status = "RollbackRequestStatus",
    derive = "PartialEq",
    shortname = "rbr",
    category = "rollback",
    doc = "One rollback of one or more Deployments, asked for once",
    printcolumn(name = "Rollback", type_ = "string", json_path = ".status.summary"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Approved by",
        type_ = "string",
        json_path = ".status.approvedBy"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RollbackRequestSpec {
    /// The Deployments to roll back, in this namespace.
    #[schemars(length(max = 200))]
    #[x_kube(validation = Rule::new("size(self) > 0")
        .message("say which Deployment to roll back, for example targets: [{name: broxiva-api, to: {previous: {}}}]"))]
    pub targets: Vec<Target>,

    /// Why. Shown to the approver and written into the incident report.
    pub reason: RequestReason,

    /// How urgent it is. Defaults to what the category implies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urgency: Option<Urgency>,

    /// When the request expires if nobody has approved it by then. The policy sets a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self < timestamp('9999-01-01T00:00:00Z')")
        .message("nobody waits that long; give a time before the year 9999, or leave it out: then approvals.expireAfterSeconds of the policy counts"))]
    pub not_after: Option<Timestamp>,

    /// How several Deployments are rolled back together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,

    /// Checks besides those of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<MoreChecks>,

    /// What asked by itself. Only for who holds the verb `trigger` on `rollbackrequests/trigger`, for the source as its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,

    /// True: publish the plan in the status and stop. Nothing is changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,

    /// Who asks. On Kubernetes 1.36 and newer the API server writes it, and replaces what a client says; elsewhere whoever asks
    /// writes the own name and groups, and the API server compares them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Identity>,
}

/// One Deployment, or the Deployments that a selector or a name prefix finds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.name), has(self.selector), has(self.namePrefix)].exists_one(s, s)")
        .message("say which Deployment to roll back with exactly one of name, selector and namePrefix"),
    validation = Rule::new("!has(self.kind) || self.kind == 'Deployment'")
        .message("kind must be Deployment; nothing else can be rolled back yet. For a StatefulSet or DaemonSet use kubectl rollout undo, for an Argo Rollout its own undo")
)]
pub struct Target {
    /// Kind of the target; only Deployment.
    #[serde(
        default = "crate::workload::deployment",
        skip_serializing_if = "crate::workload::is_deployment"
    )]
    #[schemars(length(max = 63))]
    pub kind: String,

    /// Name of one Deployment in the namespace of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("a Deployment has no such name; write it as kubectl get deployments prints it: small letters, digits, '-' and '.', without deployment/ before it"))]
    pub name: Option<String>,

    /// The Deployments with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// The Deployments whose names start with this, for example `broxiva-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][-a-z0-9.]*$')")
        .message("no name of a Deployment begins so; use small letters, digits, '-' and '.', for example broxiva-"))]
    pub name_prefix: Option<String>,

    /// What is bad. When it is no longer live, nothing is done. Recommended for requests from Git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,

    /// What to go back to.
    pub to: To,

    /// When its turn is: a wave begins when every Deployment of the waves with smaller numbers has ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 99))]
    pub wave: i32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
pub(crate) fn is_zero(wave: &i32) -> bool {
    *wave == 0
}

/// Checks besides those of the policy. A request can ask for more than the policy, and never for less.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MoreChecks {
    /// HTTP checks of the new pods, with names that the policy does not use. A request names no address outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.all(c, !has(c.url))")
        .message("a request cannot have an address outside the cluster asked: only the policy can; leave url out and name a port"))]
    pub http: Vec<HttpCheck>,

    /// Seconds for which the old version is watched after its checks have passed, when that is longer than the policy's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub soak_seconds: Option<i32>,
}

/// Most Deployments that one request rolls back.
pub const MAX_TARGETS: usize = 200;

/// How several Deployments are rolled back together.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// How many Deployments are under way at the same time.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 50))]
    pub parallelism: i32,

    /// Seconds from the revert of a Deployment until each of its replicas must be available. Defaults to 180
    /// for more than one Deployment, and to the policy's time for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<i32>,

    /// What happens when a Deployment does not come back.
    #[serde(default)]
    pub on_failure: OnFailure,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            parallelism: ten(),
            timeout_seconds: None,
            on_failure: OnFailure::default(),
        }
    }
}

fn ten() -> i32 {
    10
}

/// What happens when a Deployment does not come back.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// No other Deployment is begun; those under way go on to their end.
    #[default]
    Stop,
    /// The others are rolled back nevertheless.
    Continue,
    /// No other Deployment is begun, and those that were rolled back get back what they had.
    Restore,
}

/// Labels that a Deployment must have, all of them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Label keys and their values.
    #[schemars(extend(
        "maxProperties" = 16,
        "additionalProperties" = {"type": "string", "maxLength": 63}
    ))]
    #[x_kube(validation = Rule::new("size(self) > 0")
        .message("name at least one label; without one, every Deployment of the namespace would be meant"))]
    pub match_labels: std::collections::BTreeMap<String, String>,
}

/// The bad version, by what it is and not by its number.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.templateDigest), has(self.image)].exists_one(s, s)")
        .message("say what is bad with exactly one of templateDigest and image, or leave from out: then what runs now is rolled back")
)]
pub struct From {
    /// Digest of the bad pod template, as plans and reports print it: `sha256:` and 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = Rule::new("self.matches('^sha256:[0-9a-f]{64}$')")
        .message("that is no digest; copy what follows the @ in status.plan.targets[0].from of an earlier plan (a request with dryRun: true makes one): sha256: and 64 hex digits"))]
    pub template_digest: Option<String>,

    /// An image that the bad pod template has, exactly as its container names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,
}

/// What asked by itself: an alert, or the controller's own watch.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Where it comes from: the name of a source in the configuration of the receiver, or `controller`.
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("a source has a name of small letters, digits and '-', as the configuration of the receiver gives it"))]
    pub source: String,

    /// What the alert is called, for example `HighErrorRate`.
    #[schemars(length(min = 1, max = 200))]
    pub alert: String,

    /// What its sender knows it by: the same each time that it is sent.
    #[schemars(length(min = 1, max = 256))]
    pub id: String,

    /// When the trouble began, as the sender says.
    #[x_kube(validation = Rule::new("self < timestamp('9999-01-01T00:00:00Z')")
        .message("give a time before the year 9999"))]
    pub started_at: Timestamp,

    /// How many seconds the trouble had lasted by then, where that is known: the `for` of a rule. Where it is not, and it
    /// was reported soon after a version went live, a person decides: it may have begun before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub pending_seconds: Option<u32>,

    /// The one pod that it is about, where it is about one: how many of the others are ill the controller sees itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,

    /// What was seen, in the words of the sender.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 500)))]
    pub evidence: Vec<String>,
}

/// Where to go back to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.previous), has(self.revision), has(self.version), has(self.image), has(self.lastKnownGood), has(self.backup)].exists_one(s, s)")
        .message("say where to go back to with exactly one of previous, revision, version, image, lastKnownGood and backup, for example to: {previous: {}}")
)]
pub struct To {
    /// The newest revision that differs from what runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,

    /// A revision number, as `kubectl rollout history` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 2147483647")
        .message("revisions count from 1, and nobody has that many; pick one that kubectl rollout history deployment/NAME shows, or write to: {previous: {}}"))]
    pub revision: Option<i64>,

    /// A version such as `v2.1.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub version: Option<String>,

    /// The newest revision with this image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ToImage>,

    /// The newest revision that is known to have been healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_good: Option<LastKnownGood>,

    /// Name of a backup, as `status.targets[].backup.configMap` of an earlier request gives it: undoes that rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("no backup has such a name; copy status.targets[0].backup.configMap of the request whose rollback is to be undone"))]
    pub backup: Option<String>,
}

/// No further choices.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Previous {}

/// No further choices.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct LastKnownGood {}

/// An image and the container that has it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ToImage {
    /// Name of the container; may be left out when there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,

    /// The image.
    #[schemars(length(min = 1, max = 500))]
    pub image: String,

    /// True: when no revision has this image, what runs now gets it, as `kubectl set image` would do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_new: bool,
}

/// Why the rollback is asked for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RequestReason {
    /// Kind of the trouble; sets the default urgency and whether a rollback is the right answer.
    pub category: Category,

    /// What is wrong, in one line.
    #[schemars(length(max = 500))]
    #[x_kube(validation = Rule::new("self.trim() != ''")
        .message("say in one line what is wrong, for example \"5xx above 1 % since 14:02\": the approver decides by it"))]
    pub summary: String,

    /// Why it is wrong, as far as known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4000))]
    pub root_cause: String,

    /// Who is affected, and how.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4000))]
    pub impact: String,

    /// Where the incident is discussed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^\\\\s<>]+$')")
        .message("give the address of a page, beginning with https:// or http://, or leave it out"))]
    pub incident_url: Option<String>,
}

impl To {
    /// Back to the newest revision that differs from what runs now.
    pub fn previous() -> Self {
        Self {
            previous: Some(Previous {}),
            ..Self::default()
        }
    }

    /// Back to the newest revision that is known to have been healthy.
    pub fn last_known_good() -> Self {
        Self {
            last_known_good: Some(LastKnownGood {}),
            ..Self::default()
        }
    }
}

impl RollbackRequest {
    /// How several Deployments are rolled back together.
    pub fn rollout(&self) -> RolloutSpec {
        self.spec.rollout.clone().unwrap_or_default()
    }

    /// Whether it may be about more than one Deployment.
    pub fn is_many(&self) -> bool {
        match self.spec.targets.as_slice() {
            [only] => only.name.is_none(),
            [] | [_, _, ..] => true,
        }
    }

    /// How it ended, when it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.status.as_ref()?.outcome.as_ref()
    }

    /// Whether it is held until its incident is written.
    pub fn holds_finalizer(&self) -> bool {
        let finalizers = self.metadata.finalizers.as_deref().unwrap_or_default();
        finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }
}

/// `status: {observedGeneration: -1}` on every new object, so that kstatus, Flux and Argo CD read
/// "not looked at yet" and not "done" before the controller has written anything.
pub(crate) fn default_status(crd: &mut CustomResourceDefinition) {
    let status = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
        .filter_map(|schema| schema.properties.as_mut()?.get_mut("status"));
    for schema in status {
        schema.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
    }
}
