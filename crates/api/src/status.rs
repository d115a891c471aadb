//! What the controller answers: facts, each written once, and the conditions that are read from them.
//!
//! A field that comes later has a default: were it required, an older controller could not write any more once the
//! definitions are updated, and a newer one could not read what an older one has written.

mod health;
mod lines;
mod notifications;
mod plan;
mod taken;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::open_enum::{everywhere, open_enum};

pub use health::*;
pub use lines::{SourceRef, Summary, TemplateRef};
pub use notifications::*;
pub use plan::*;
pub use taken::Taken;

use crate::{Identity, Reason, RequestState, WorkloadKind};

/// Status of a `RollbackRequest`.
///
/// While nothing is known of any target, `targets` is left out; read, it is there.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct RollbackRequestStatus {
    /// Generation of the spec that this status speaks of; -1 until the controller has looked.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,

    /// Where the request stands, for people, `kubectl wait`, kstatus and Argo CD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// What is rolled back, and to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,

    /// Who approved, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,

    /// What would be done. Approval binds to its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,

    /// Approvals of this plan that were found valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub approvals: Vec<Approval>,

    /// What the policy said to a request that came by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_approval: Option<AutoApproval>,

    /// How far each target has come.
    #[serde(default, skip_serializing_if = "says_nothing")]
    #[schemars(length(max = 200))]
    pub targets: Vec<TargetStatus>,

    /// The plans upon which a Deployment was begun, in that order. What was begun upon one is carried out as that one
    /// says, whatever the plan says now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub begun_upon: Vec<BegunUpon>,

    /// Deployments that were scaled down to free capacity, and the replicas that they get back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub scaled_down: Vec<Taken<i32>>,

    /// Why no further target is begun, when some were begun already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Outcome>,

    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,

    /// The incident report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Artifact>,

    /// What people were told, where the policy has channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<NotificationStatus>,
}

/// Most items of a checklist in a plan: ten of the policy, and the three questions about the data.
const MOST_ITEMS: i64 = 13;
/// Most HTTP checks in a plan: ten of the policy, and five of the request.
const MOST_CHECKS: i64 = 15;

/// The rules of a plan are the policy's own structs, and hold more than a policy may: the questions about the data, and the
/// checks of the request.
pub(crate) fn raise_limits(status: &mut JSONSchemaProps) {
    let rules: [&[&str]; 2] = [&["plan", "rules"], &["begunUpon", "rules"]];
    for rules in rules {
        for (list, most) in [
            (["approvals", "checklist"], MOST_ITEMS),
            (["verification", "http"], MOST_CHECKS),
        ] {
            let mut path = rules.iter().chain(&list);
            if let Some(list) = path.try_fold(&mut *status, |at, name| property(at, name)) {
                list.max_items = Some(most);
                // The texts that everybody knows are left out.
                if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut list.items {
                    let required = item.required.iter_mut().flatten();
                    let required = required.map(std::mem::take).filter(|name| name != "text");
                    item.required = Some(required.collect());
                }
            }
        }
    }
}

/// Only what the controller wrote stands in a status. Were defaults filled in, a plan would be twice as long as it is; who
/// reads it knows them.
pub(crate) fn take_defaults_out(status: &mut JSONSchemaProps) {
    everywhere(status, &mut |schema| schema.default = None);
}

/// A field of a schema, or of the items of a list.
fn property<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> Option<&'a mut JSONSchemaProps> {
    let fields = match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => &mut item.properties,
        Some(JSONSchemaPropsOrArray::Schemas(_)) | None => &mut schema.properties,
    };
    fields.as_mut()?.get_mut(name)
}

fn not_observed() -> i64 {
    -1
}

/// Whether nothing is known of any target but that it is planned, which the plan says.
fn says_nothing(targets: &[TargetStatus]) -> bool {
    targets
        .iter()
        .all(|target| *target == TargetStatus::begins(target.kind, &target.name))
}

impl Serialize for RollbackRequestStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for RollbackRequestStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut status = Self::deserialize(deserializer)?;
        if let (Some(plan), true) = (&status.plan, status.targets.is_empty()) {
            let planned = plan.targets.iter().map(|target| &target.workload);
            status.targets = planned
                .map(|workload| TargetStatus::begins(workload.kind, &workload.name))
                .collect();
        }
        Ok(status)
    }
}

impl Default for RollbackRequestStatus {
    fn default() -> Self {
        Self {
            observed_generation: not_observed(),
            conditions: Vec::new(),
            summary: None,
            approved_by: None,
            plan: None,
            approvals: Vec::new(),
            auto_approval: None,
            targets: Vec::new(),
            begun_upon: Vec::new(),
            scaled_down: Vec::new(),
            stopped: None,
            outcome: None,
            incident: None,
            notifications: None,
        }
    }
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
    /// True: nobody approved but the policy; see `status.autoApproval`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// Why one person approved alone, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
    /// Why the risk for the data is accepted, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts_data_risk: Option<String>,
}

/// What the policy said to a request that came by itself.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AutoApproval {
    /// Digest of the plan that it was said of.
    pub plan_digest: String,
    /// What holds it back; absent when it was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
    /// Why, in a sentence or two.
    pub message: String,
    /// What was seen, that it was said upon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub evidence: Vec<String>,
    /// When.
    pub at: Timestamp,
}

open_enum! {
    /// What keeps a request that came by itself from being approved without a person.
    #[derive(Hash, PartialOrd, Ord)]
    pub enum BlockedBy {
        /// The policy leaves it to people: `triggers.approve` is off.
        NotAllowed,
        /// The decision matrix leaves this category to people.
        Category,
        /// The Deployment does not say that it may be rolled back without a person.
        NotOptedIn,
        /// Everything automatic is switched off, here or everywhere.
        Paused,
        /// This very version was rolled back before.
        PreviouslyRolledBack,
        /// What runs was itself brought by a rollback.
        TargetIsRollback,
        /// The Deployment was rolled back a short time ago.
        CoolDown,
        /// The namespace has had its rollbacks for this hour.
        HourlyLimit,
        /// The version runs for too long already to be blamed.
        TooLate,
        /// The data may not fit the old version.
        DataRisk,
        /// More than one Deployment, or one that is not named.
        MultipleTargets,
        /// The alert is about one pod, and most pods of the version are well.
        FewPods,
        /// Something that has to be known could not be read.
        Unknown,
    }
}

/// How far one target has come.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Kind of the workload; its UID is in the plan.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Name of the workload.
    pub name: String,
    /// The saved Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Artifact>,
    /// That the Deployment was begun, upon approvals that sufficed at that moment. It is stored together with the first
    /// intent and never taken away. What has the old template without it was not rolled back by this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
    /// The intent to revert, stored before the Deployment is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Intent>,
    /// When the holds of the plan were seen in place, unless others held each owner already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_at: Option<Timestamp>,
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
    /// How the Jobs are going. One of the fallback takes the place of that of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub jobs: Vec<JobStatus>,
    /// How the fallback is going, when the version to go back to did not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackStatus>,
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

impl TargetStatus {
    /// Of a target of which nothing is known yet.
    pub fn begins(kind: WorkloadKind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Whether it is that of the workload with this kind and name.
    pub fn is_of(&self, kind: WorkloadKind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}

/// That a Deployment was begun.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// When, for the first time.
    pub at: Timestamp,
    /// Generation of the Deployment then: whatever of ours it has is in a later one.
    pub generation: i64,
    /// Digest of the approved plan. When that became void before anything was written, it is that of the plan upon
    /// which the Deployment was begun again.
    pub plan_digest: String,
    /// Whose approvals of that plan counted then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("items" = {"type": "string", "maxLength": 200}))]
    pub approved_by: Vec<String>,
    /// True: nobody approved but the policy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
}

/// A plan upon which a Deployment was begun.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BegunUpon {
    /// Its digest.
    pub plan_digest: String,
    /// The approvals that counted when a Deployment was begun upon it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    pub approvals: Vec<Approval>,
    /// Its rules, once another plan has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
    /// True: the rules or the guard changed since, so what was not written by then is begun upon new approvals only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void: bool,
}

/// How the fallback is going.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FallbackStatus {
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
    pub intent: Option<Intent>,
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
    pub intent: Option<Intent>,
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

/// That a Deployment is about to be written, and what has to be known of the time before.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// When the intent was stored.
    pub intended_at: Timestamp,
    /// Generation of the Deployment that the write is for.
    pub generation: i64,
    /// True: another process stored it than the one that writes now. The write may have been made already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken_over: bool,
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

open_enum! {
    /// Whether a request changed anything of the Deployments that it was to roll back.
    #[derive(Default, PartialOrd, Ord)]
    pub enum Effect {
        /// Nothing was written.
        #[default]
        None,
        /// A write was intended, and nobody can tell whether it was made.
        Possible,
        /// A write was intended and the template was seen in place, whatever became of it.
        Written,
    }
}

/// How a request ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The end state.
    pub result: RequestState,
    /// Why, in one word.
    pub reason: Reason,
    /// Whether anything of the Deployments was changed; an older controller did not say.
    #[serde(default = "possible")]
    pub effect: Effect,
    /// Why, in a sentence or two: what happened, what it means, what to do next.
    pub message: String,
    /// Who ended it, when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What an outcome of an older controller is taken for.
fn possible() -> Effect {
    Effect::Possible
}
