//! What would be done: resolved once, from live reads, and approved by its digest.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

use crate::open_enum::open_enum;

use super::{SourceRef, TemplateRef};
use crate::category::Urgency;
use crate::hold::PlannedHold;
use crate::policy::{
    ApprovalMode, Approvals, Capacity, ChecklistItem, DataGate, Environment, FreezeWindow, GitOps,
    ImageOf, Ledger, OnJobFailure, Quarantine, Remedies, ReportRules, Rollout, Side, Triggers,
    Verification,
};
use crate::{Reason, RequestState, WorkloadKind, WorkloadRef};

/// What would be done, resolved once from live reads.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `sha256:` over the request's UID, the round, the rules, the guard and the targets.
    pub digest: String,
    /// How often approvals of it have become too old: those given before are void.
    #[serde(default, skip_serializing_if = "crate::request::is_zero")]
    pub round: i32,
    /// When it was made.
    pub planned_at: Timestamp,
    /// When the request expires if it is not approved by then.
    pub not_after: Timestamp,
    /// The rules in force when it was made; a change voids approvals.
    pub rules: Rules,
    /// `sha256:` over the admission policies and bindings that make approvals true, each by kind, name, UID and generation.
    /// A change voids approvals; the condition `Approved` says when something is wrong with one.
    pub guard: String,
    /// Why the data may not fit the old version: then an approver has to accept the risk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_risk: Option<DataRisk>,
    /// The targets.
    #[schemars(length(max = 200))]
    pub targets: Vec<PlannedTarget>,
    /// Deployments that the request finds and that are left as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub skipped: Vec<Skipped>,
}

/// A Deployment that the request finds and that is left as it is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// Kind of the workload.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Name of the workload.
    pub name: String,
    /// What that means for it.
    pub result: RequestState,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
}

/// The rules in force, taken from the policy of the namespace or, without one, from production.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// What runs in the namespace; left out in production.
    #[serde(default, skip_serializing_if = "is_default")]
    pub environment: Environment,
    /// Who has to say yes, resolved for this request: nothing depends on the urgency any more. Left out is what a policy
    /// may leave out: one approver, an hour, no break-glass, that another person than the requester approves, and the texts of
    /// items that production has anyway. The checklist holds the questions about the data too when
    /// those are at risk.
    #[serde(
        default,
        serialize_with = "without_defaults",
        deserialize_with = "with_texts"
    )]
    pub approvals: Approvals,
    /// Which machine asked, when two different people have to approve because of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by_machine: Option<String>,
    /// How urgent it is; left out when that is `High`.
    #[serde(default = "high", skip_serializing_if = "is_high")]
    pub urgency: Urgency,
    /// Whether the requester holds the verb `expedite`, when that makes a difference.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expedited: bool,
    /// What holds back a request that came by itself; absent for every other request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_approval: Option<AutoApprovalRules>,
    /// When nothing is rolled back, except in an emergency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub freeze_windows: Vec<FreezeWindow>,
    /// What may be scaled down. Like what follows: as the policy says, and left out when that is the default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capacity: Capacity,
    /// How long the old version may take to come back; the time that the request asks for is in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollout: Rollout,
    /// How it is shown that the old version is well; what the request asks for besides is in it. Its Jobs stand in `jobs`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verification: Verification,
    /// The Jobs, in the order in which they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub jobs: Vec<JobRule>,
    /// When the data may not fit the old version. Its Job stands in `jobs`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data_gate: DataGate,
    /// What the controller may do by itself when the old version does not come up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remedies: Remedies,
    /// What becomes of the incident report.
    #[serde(default, skip_serializing_if = "is_default")]
    pub report: ReportRules,
    /// What happens to Deployments that belong to Argo CD, Flux or Helm.
    #[serde(default, skip_serializing_if = "is_default")]
    pub git_ops: GitOps,
    /// For how long the version that is rolled back is in quarantine. How versions are remembered otherwise is left out: it
    /// changes nothing of a plan that is made.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ledger: Ledger,
    /// What becomes of a write that brings back the version that is rolled back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quarantine: Quarantine,
}

impl Rules {
    /// The phrase that an approver types.
    pub fn confirm_phrase(&self) -> &str {
        let phrase = self.approvals.confirm_phrase.as_deref();
        phrase.unwrap_or(self.environment.confirm_phrase())
    }

    /// Whether the requester may not approve.
    pub fn four_eyes(&self) -> bool {
        self.approvals.four_eyes.unwrap_or(true)
    }

    /// What an approver has to tick.
    pub fn checklist(&self) -> &[ChecklistItem] {
        self.approvals.checklist.as_deref().unwrap_or_default()
    }
}

/// What holds back a request that came by itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AutoApprovalRules {
    /// Who decides on its category.
    pub approval: ApprovalMode,
    /// What the policy says of requests that come by themselves, as far as it holds one back.
    #[serde(default)]
    pub triggers: Triggers,
}

/// What has another value than a policy that says nothing of it.
fn without_defaults<S: Serializer>(approvals: &Approvals, to: S) -> Result<S::Ok, S::Error> {
    let fields =
        |approvals: &Approvals| serde_json::to_value(approvals).map_err(ser::Error::custom);
    let default = fields(&Approvals::default())?;
    let mut said = fields(approvals)?;
    if let Some(said) = said.as_object_mut() {
        said.retain(|name, value| default.get(name) != Some(value));
    }
    let checklist = said.get_mut("checklist").and_then(Value::as_array_mut);
    for item in checklist.into_iter().flatten() {
        let is_standard = standard_text(item).is_some_and(|text| item.get("text") == Some(&text));
        if let Some(item) = item.as_object_mut().filter(|_| is_standard) {
            item.remove("text");
        }
    }
    said.serialize(to)
}

/// The text of an item that production has anyway.
fn standard_text(item: &Value) -> Option<Value> {
    let name = item.get("name")?.as_str()?;
    let standard = Environment::Production.checklist();
    let known = standard.into_iter().find(|known| known.name == name)?;
    Some(Value::String(known.text))
}

/// With the texts that were left out.
fn with_texts<'de, D: Deserializer<'de>>(from: D) -> Result<Approvals, D::Error> {
    let mut approvals = Value::deserialize(from)?;
    let checklist = approvals.get_mut("checklist").and_then(Value::as_array_mut);
    for item in checklist.into_iter().flatten() {
        let text = standard_text(item);
        if let (Some(item), Some(text)) = (item.as_object_mut(), text) {
            item.entry("text").or_insert(text);
        }
    }
    serde_json::from_value(approvals).map_err(de::Error::custom)
}

/// Which workload it is, without the kind that a target has anyway.
fn identity<S: Serializer>(workload: &WorkloadRef, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Identity<'a> {
        #[serde(skip_serializing_if = "is_default")]
        kind: WorkloadKind,
        name: &'a str,
        uid: &'a str,
    }
    let identity = Identity {
        kind: workload.kind,
        name: &workload.name,
        uid: &workload.uid,
    };
    identity.serialize(to)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A Job of the rules. Its pod stays in the policy, because it may hold secrets: here is only its digest, and when the
/// policy says something else by then, the Job does not run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobRule {
    /// When it runs.
    pub stage: JobStage,
    /// Its name in the policy.
    pub name: String,
    /// `sha256:` over its pod.
    pub pod_digest: String,
    /// The `ServiceAccount` that it runs as. Absent when its pod does not say that, or its images, in a way that can be
    /// read: then it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Its containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub containers: Vec<JobContainer>,
    /// Whose image the containers get that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_of: Option<ImageOf>,
    /// Seconds that it may take.
    pub timeout_seconds: i32,
    /// How many lines of its log are kept.
    #[serde(default, skip_serializing_if = "crate::request::is_zero")]
    pub log_tail_lines: i32,
    /// What it means when it fails.
    pub on_failure: OnJobFailure,
}

/// A container of a Job.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobContainer {
    /// Its name.
    pub name: String,
    /// The image that the policy gives it. Absent when it gets that of `imageOf`, which each target says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// An image that Jobs get by `imageOf`, and that does not stand among the images that change.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobImage {
    /// Of which version.
    pub version: Side,
    /// Of which container of it.
    pub container: String,
    /// The image; absent when the version has no such container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

open_enum! {
    /// When a Job runs.
    #[derive(PartialOrd, Ord, Hash)]
    pub enum JobStage {
        /// Before anything is changed: whether the data can be lived with.
        MigrationStatus,
        /// Before the Deployment is written.
        PreRollback,
        /// When the old version is up: one of its checks.
        Smoke,
        /// After the checks.
        PostRollback,
    }
}

/// Why the data may not fit the old version.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DataRisk {
    /// In words: what it is, what it means, whom to ask.
    pub message: String,
}

/// One workload of the plan.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTarget {
    /// Which; the kind is left out when that is `Deployment`.
    #[serde(flatten, serialize_with = "identity")]
    pub workload: WorkloadRef,
    /// When its turn is.
    #[serde(default, skip_serializing_if = "crate::request::is_zero")]
    pub wave: i32,
    /// The template that is to be replaced, with its revision when a `ReplicaSet` carries it.
    pub from: TemplateRef,
    /// Since when that template runs, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_since: Option<Timestamp>,
    /// The template to go back to, with its revision as numbered when the plan was made.
    pub to: TemplateRef,
    /// Digest of what the API server makes of that template, when its admission plugins and webhooks alter it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_digest: Option<String>,
    /// Where the template to go back to is kept; left out when that is a `ReplicaSet`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: Source,
    /// The object that keeps it; none for a new image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<SourceRef>,
    /// The containers whose image changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub images: Vec<ImageChange>,
    /// The images that Jobs get by `imageOf`, as far as `images` does not say them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub job_images: Vec<JobImage>,
    /// What changes besides the images, in lines for a reader; never the value of a variable, a header or an argument.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub changes: Vec<String>,
    /// What the reader should know, for example that a revision was renumbered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub notes: Vec<String>,
    /// What may go wrong, as far as it can be seen beforehand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub risks: Vec<Risk>,
    /// What is tried, one of them and once, when that version does not do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub fallbacks: Vec<Fallback>,
    /// The owners that would undo the rollback, and how each is kept from it before the revert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub holds: Vec<PlannedHold>,
}

/// What is tried, once, when the version to go back to does not do.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// When.
    pub when: FallbackWhen,
    /// The template.
    pub to: TemplateRef,
    /// Where it is kept: `ReplicaSet`, `Ledger` or `NewImage`.
    pub source: Source,
    /// The object that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<SourceRef>,
    /// The containers whose image differs from that of the version to go back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub images: Vec<ImageChange>,
}

open_enum! {
    /// When a fallback is tried.
    pub enum FallbackWhen {
        /// The version to go back to is not well: an older one is tried.
        Unwell,
        /// One of its images cannot be pulled: an image that is known to be good is tried.
        ImagePull,
    }
}

impl Fallback {
    /// Name of the object that keeps the template.
    pub fn source_name(&self) -> Option<&str> {
        self.source_ref.as_ref().map(|kept| kept.name.as_str())
    }
}

impl PlannedTarget {
    /// Name of the object that keeps the template to go back to.
    pub fn source_name(&self) -> Option<&str> {
        self.source_ref.as_ref().map(|kept| kept.name.as_str())
    }

    /// UID of that object, when it is a `ReplicaSet`.
    pub fn source_uid(&self) -> Option<&str> {
        self.source_ref.as_ref()?.uid.as_deref()
    }

    /// Digest of the template that the Deployment has after the revert.
    pub fn restored_digest(&self) -> &str {
        self.stored_digest.as_deref().unwrap_or(&self.to.digest)
    }

    /// Whether a Deployment with this template has been reverted: it has what the plan foresaw, or the old template
    /// letter by letter because nothing altered it after all.
    pub fn is_restored_by(&self, digest: &str) -> bool {
        digest == self.restored_digest() || digest == self.to.digest
    }
}

open_enum! {
    /// Where the template to go back to is kept.
    #[derive(Default)]
    pub enum Source {
        /// In a `ReplicaSet` of the Deployment.
        #[default]
        ReplicaSet,
        /// In the `RevisionLedger` of the Deployment.
        Ledger,
        /// In the backup of an earlier request.
        Backup,
        /// Nowhere: what runs now, with another image.
        NewImage,
    }
}

/// Something that may go wrong, as far as it can be seen beforehand.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Risk {
    /// What it is about.
    pub kind: RiskKind,
    /// In words: what it is, what it means, what to do.
    pub message: String,
    /// Whether an approver has to accept it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocks: bool,
}

open_enum! {
    /// What a risk is about.
    #[derive(PartialOrd, Ord)]
    pub enum RiskKind {
        /// Something that the old template refers to could not be looked at.
        References,
        /// The two versions differ in the schema of their data.
        DataSchema,
        /// A tool owns the Deployment and may write it again.
        Owner,
        /// An autoscaler works on the Deployment.
        Autoscaler,
        /// A check of the policy cannot be made.
        Checks,
        /// A quota leaves little room for new pods.
        Quota,
        /// A disruption budget allows no disruption.
        DisruptionBudget,
        /// The API server could not be asked what it would make of the write.
        DryRun,
        /// The API server's plugins or webhooks alter the template on its way.
        Webhook,
        /// Both versions name the same image by a tag that can move.
        MutableTag,
        /// One replica takes longer to come up than the rollout may stand still.
        Deadline,
    }
}

/// A container whose image changes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImageChange {
    /// Name of the container.
    pub container: String,
    /// Image that runs now; absent when the container does not exist now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Image that will run; absent when the container will not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What a plan of an older controller is taken for; the renewed plan says it as it is.
fn high() -> Urgency {
    Urgency::High
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_high(urgency: &Urgency) -> bool {
    *urgency == Urgency::High
}
