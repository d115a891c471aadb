//! What the controller answers: facts, each written once, and the conditions that are read from them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::category::Urgency;
use crate::policy::{
    ChecklistItem, Environment, FallbackImage, FreezeWindow, HttpCheck, ImageOf, OnJobFailure,
    OnUnwell, PodCheck, Prometheus, SelfHealing, UnknownSchema,
};
use crate::{Identity, Reason, Word};

/// Status of a `RollbackRequest`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackRequestStatus {
    /// Generation of the spec that this status speaks of; -1 until the controller has looked.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,

    /// Where the request stands, for people, `kubectl wait`, kstatus and Argo CD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The columns of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,

    /// What would be done. Approval binds to its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,

    /// Approvals of this plan that were found valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub approvals: Vec<Approval>,

    /// How far each target has come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub targets: Vec<TargetStatus>,

    /// Deployments that were made smaller to make room, and what has to be given back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub room: Vec<Room>,

    /// Why no further target is begun, when some were begun already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Outcome>,

    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,

    /// The incident report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Artifact>,
}

/// What a plan of an older controller is taken for; the renewed plan says it as it is.
fn high() -> Urgency {
    Urgency::High
}

fn not_observed() -> i64 {
    -1
}

impl Default for RollbackRequestStatus {
    fn default() -> Self {
        Self {
            observed_generation: not_observed(),
            conditions: Vec::new(),
            summary: None,
            plan: None,
            approvals: Vec::new(),
            targets: Vec::new(),
            room: Vec::new(),
            stopped: None,
            outcome: None,
            incident: None,
        }
    }
}

/// The columns of `kubectl get`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// What is rolled back.
    pub target: String,
    /// To what.
    pub to: String,
    /// Who approved, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
}

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
    /// The admission policies that make approvals true; a change voids approvals.
    #[schemars(length(max = 32))]
    pub guard: Vec<GuardPolicy>,
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
    /// Name of the Deployment.
    pub name: String,
    /// What that means for it.
    pub word: Word,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
}

/// The rules in force, taken from the policy of the namespace or, without one, from production.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the policy, and says what it switches"
)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// What runs in the namespace.
    pub environment: Environment,
    /// The phrase that an approver types.
    pub confirm_phrase: String,
    /// How many different people must approve.
    pub approvals_required: i32,
    /// Whether the requester may not approve.
    pub four_eyes: bool,
    /// How urgent it is.
    #[serde(default = "high")]
    pub urgency: Urgency,
    /// Whether the requester holds the verb `expedite`, when that makes a difference.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expedited: bool,
    /// What an approver has to tick: the items of the policy, and the questions about the data when those are at risk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 13))]
    pub checklist: Vec<ChecklistItem>,
    /// Seconds for which an approval counts.
    #[serde(default)]
    pub approval_valid_seconds: i32,
    /// Seconds after which a request that nobody approved expires.
    #[serde(default)]
    pub expire_after_seconds: i32,
    /// Whether a holder of the verb `break-glass` may approve alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// When nothing is rolled back, except in an emergency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub freeze_windows: Vec<FreezeWindow>,
    /// Seconds from the revert until every replica must be available.
    pub rollout_timeout_seconds: i32,
    /// Seconds for which a pod may show a trouble that does not go away by itself.
    pub grace_seconds: i32,
    /// Whether the pods of the bad version must be gone.
    pub wait_for_termination: bool,
    /// Whether ownership of the written fields is given up after a success.
    pub release_ownership: bool,
    /// Seconds from the end of the rollout until every check must have passed.
    pub verification_timeout_seconds: i32,
    /// Seconds for which the old version is watched after its checks have passed.
    pub soak_seconds: i32,
    /// What to do when the owner of a Deployment would undo the rollback.
    pub self_healing: SelfHealing,
    /// Seconds for which a version that was rolled back is not chosen again unless it is named.
    pub quarantine_seconds: i32,
    /// The HTTP checks: those of the policy, then those of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    pub http: Vec<HttpCheck>,
    /// Addresses outside that HTTP checks may ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "maxLength": 500}))]
    pub external_urls: Vec<String>,
    /// The checks of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// The check of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCheck>,
    /// The Jobs, in the order in which they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub jobs: Vec<JobRule>,
    /// What people check by hand, when the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub manual: Option<Vec<ChecklistItem>>,
    /// What to do when the old version is not well either.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_unwell: OnUnwell,
    /// What to do when a version does not say which schema it brings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unknown_schema: UnknownSchema,
    /// Whom to ask about the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_contact: Option<String>,
    /// Seconds after which a pod that hangs while it ends is deleted by force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_delete_after_seconds: Option<i32>,
    /// Deployments that may be made smaller to make room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "maxLength": 253}))]
    pub scale_down: Vec<String>,
    /// Images that are known to be good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub fallback_images: Vec<FallbackImage>,
    /// How many lines of the log of a crashing container are quoted.
    #[serde(default, skip_serializing_if = "crate::request::is_zero")]
    pub log_tail_lines: i32,
    /// Seconds until the review; 0 in a plan of an older controller.
    #[serde(default, skip_serializing_if = "crate::request::is_zero")]
    pub review_within_seconds: i32,
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

/// When a Job runs.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
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

impl JobStage {
    /// The stage in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MigrationStatus => "MigrationStatus",
            Self::PreRollback => "PreRollback",
            Self::Smoke => "Smoke",
            Self::PostRollback => "PostRollback",
        }
    }
}

/// Why the data may not fit the old version.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DataRisk {
    /// In words: what it is, what it means, whom to ask.
    pub message: String,
}

/// A Deployment that was made smaller to make room.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Name of the Deployment.
    pub deployment: String,
    /// Its UID.
    pub uid: String,
    /// Replicas that it asked for, and gets back.
    pub from: i32,
    /// When the intent was stored, before it was touched.
    pub intended_at: Timestamp,
    /// When it was seen to be smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_at: Option<Timestamp>,
    /// When it was seen to have them back, or to be somebody else's by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_back_at: Option<Timestamp>,
}

/// Identity of one admission policy or binding of the guard.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct GuardPolicy {
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Its UID: an object that was deleted and made again is another one.
    pub uid: String,
    /// Its generation: a changed object is another one.
    pub generation: i64,
}

/// One Deployment of the plan, by identity and not only by name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTarget {
    /// Name of the Deployment.
    pub name: String,
    /// UID of the Deployment.
    pub uid: String,
    /// When its turn is.
    #[serde(default, skip_serializing_if = "crate::request::is_zero")]
    pub wave: i32,
    /// Digest of the template that is to be replaced.
    pub from_digest: String,
    /// Since when that template runs, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_since: Option<Timestamp>,
    /// Revision that is to be replaced, when a `ReplicaSet` carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_revision: Option<i64>,
    /// Revision to go back to, as numbered when the plan was made; absent when no revision has the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<i64>,
    /// Digest of the template to go back to.
    pub to_digest: String,
    /// Digest of what the API server makes of that template, when its admission plugins and webhooks alter it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_digest: Option<String>,
    /// Where the template is kept.
    pub source: Source,
    /// Name of the object that keeps it; none for a new image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
    /// UID of that object, when it is a `ReplicaSet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_uid: Option<String>,
    /// The containers whose image changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub images: Vec<ImageChange>,
    /// Everything that changes, in lines for a reader; never the value of a variable, a header or an argument.
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
}

/// What is tried, once, when the version to go back to does not do.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// When.
    pub when: FallbackWhen,
    /// Digest of the template.
    pub to_digest: String,
    /// Its revision number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<i64>,
    /// Where the template is kept: `ReplicaSet`, `Ledger` or `NewImage`.
    pub source: Source,
    /// Name of the object that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
    /// UID of that object, when it is a `ReplicaSet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_uid: Option<String>,
    /// The containers whose image differs from that of the version to go back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub images: Vec<ImageChange>,
}

/// When a fallback is tried.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackWhen {
    /// The version to go back to is not well: an older one is tried.
    Unwell,
    /// One of its images cannot be pulled: an image that is known to be good is tried.
    ImagePull,
}

impl PlannedTarget {
    /// Digest of the template that the Deployment has after the revert.
    pub fn restored_digest(&self) -> &str {
        self.stored_digest.as_deref().unwrap_or(&self.to_digest)
    }

    /// Whether a Deployment with this template has been reverted: it has what the plan foresaw, or the old template
    /// letter by letter because nothing altered it after all.
    pub fn is_restored_by(&self, digest: &str) -> bool {
        digest == self.restored_digest() || digest == self.to_digest
    }
}

/// Where the template to go back to is kept.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// What a risk is about.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum RiskKind {
    /// Something that the old template refers to could not be looked at.
    References,
    /// The two versions differ in the schema of their data.
    DataSchema,
    /// A tool owns the Deployment and may write it again.
    Owner,
    /// An autoscaler works on the Deployment.
    Autoscaler,
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

/// One valid approval.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Who, as stamped by the API server.
    pub by: Identity,
    /// Digest of the plan that was approved.
    pub plan_digest: String,
    /// When the controller saw it.
    pub at: Timestamp,
    /// The items of the checklist that were ticked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 13), extend("items" = {"type": "string", "maxLength": 40}))]
    pub checklist: Vec<String>,
    /// Why one person approved alone, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
    /// Why the risk for the data is accepted, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts_data_risk: Option<String>,
}

/// How far one target has come.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Name of the Deployment.
    pub name: String,
    /// The saved Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Artifact>,
    /// The intent to revert, stored before the Deployment is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Revert>,
    /// When the Deployment was first seen with the old template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Timestamp>,
    /// What the checks said of the bad version, when the plan was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub before: Vec<Measured>,
    /// How the old version is coming up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// How the checks are going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// How the Jobs are going. One of a second try takes the place of that of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub jobs: Vec<JobStatus>,
    /// How the fallback is going, when the version to go back to did not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<SecondTry>,
    /// How it ended for this Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How the Deployment gets back what it had, when the request asks for that upon a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// What the reader should know of how it went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub warnings: Vec<String>,
}

/// What kind of check.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
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

/// What a check finds. What is not known is never well.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finding {
    /// Well.
    Pass,
    /// Not well.
    Fail,
    /// It could not be told.
    #[default]
    Unknown,
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

/// How the fallback is going.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecondTry {
    /// Which of the fallbacks.
    pub when: FallbackWhen,
    /// How the version to go back to failed.
    pub reason: Reason,
    /// The same in words.
    pub why: String,
    /// When that was seen.
    pub at: Timestamp,
    /// The intent, stored before the Deployment is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Revert>,
    /// When the Deployment was first seen with the template of the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Timestamp>,
    /// How it is coming up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// How its checks are going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
}

/// How a Deployment gets back what it had before the rollback.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// The intent, stored before the Deployment is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Revert>,
    /// When the Deployment was first seen with the template of its backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// A ConfigMap that the controller wrote.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Name of the ConfigMap.
    pub config_map: String,
    /// When it was seen.
    pub at: Timestamp,
}

/// The intent to revert, and what has to be known of the time before.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Revert {
    /// When the intent was stored.
    pub intended_at: Timestamp,
    /// Generation of the Deployment that the write is for.
    pub generation: i64,
    /// The Deployment's `Progressing` condition before the revert. It is sticky: a failure that is
    /// still shown afterwards unchanged is not a failure of the old version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressing: Option<Progressing>,
}

/// What identifies one state of the `Progressing` condition.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progressing {
    /// Reason of the condition.
    pub reason: String,
    /// Its `lastUpdateTime`, as the API server wrote it.
    pub last_update_time: String,
}

/// How the old version is coming up.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// When every replica must be available; set at the revert, never moved.
    pub deadline: Timestamp,
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

/// Kinds of trouble of a pod.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum CauseKind {
    /// A container, or an init container, crashes again and again.
    CrashLoop,
    /// An image cannot be pulled, or its name is no name.
    ImagePull,
    /// A container cannot be made: a ConfigMap, Secret or key is missing, or its settings are wrong.
    Config,
    /// A volume cannot be mounted.
    Volume,
    /// No node takes the pod.
    Unschedulable,
    /// The API server does not let the pod be made: quota, admission, a missing ServiceAccount.
    Refused,
    /// A container runs, but a probe of it fails.
    Unready,
}

impl CauseKind {
    /// The kind in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CrashLoop => "CrashLoop",
            Self::ImagePull => "ImagePull",
            Self::Config => "Config",
            Self::Volume => "Volume",
            Self::Unschedulable => "Unschedulable",
            Self::Refused => "Refused",
            Self::Unready => "Unready",
        }
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

/// How a request ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The end state.
    pub word: Word,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence or two: what happened, what it means, what to do next.
    pub message: String,
    /// Who ended it, when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    pub at: Timestamp,
}
