//! Everything that one decision may look at, as it was read.

pub mod fetched;
pub mod workload;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use rollback_api::status::CheckKind;
use rollback_api::unknown::Unknown;
use rollback_api::{RevisionLedgerSpec, RollbackPolicySpec};
use serde::Serialize;
use serde_json::{Value, json};

pub use fetched::Fetched;
pub use workload::{Deployment, ReplicaSet};

use crate::decide::crowd::Crowd;
use crate::health::diagnose::End;
use crate::history::template;
use crate::plan::owner::Owner;
use crate::plan::references::{Presence, Reference};

/// What one pass has read. Each field is read only in the states that need it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The policy of the namespace.
    pub policy: Fetched<RollbackPolicySpec>,
    /// The admission policies that make approvals true.
    pub guard: Guard,
    /// Whether the namespace lets this controller patch Deployments.
    pub opted_in: Fetched<bool>,
    /// Whether the requester may ask for more urgency than the category has.
    pub expedite: Fetched<bool>,
    /// The open requests that came before this one; only before the plan.
    pub crowd: Option<Crowd>,
    /// Why the Prometheus of the policy is not asked; read while the plan is made.
    pub unlisted: Option<String>,
    /// What the namespace has had of rollbacks without a person; read while the policy has to decide on one.
    pub pace: Fetched<Pace>,
    /// Before the plan: the Deployments that the request finds. Afterwards: those of the plan, in its order.
    pub targets: Vec<ObservedTarget>,
    /// Deployments that may be scaled down to free capacity, by name, when capacity is wanted, or replicas are owed.
    pub capacity: BTreeMap<String, Fetched<Deployment>>,
    /// Why the API server does not let one of them be scaled down, by name.
    pub capacity_refused: BTreeMap<String, String>,
    /// When the incident report was seen.
    pub incident: Fetched<Timestamp>,
}

impl Observed {
    /// What was read of a Deployment that may be scaled down.
    pub fn capacity(&self, name: &str) -> &Fetched<Deployment> {
        self.capacity.get(name).unwrap_or(&Fetched::Unknown)
    }

    /// What was read about the target with this place in the plan.
    pub fn target(&self, index: usize) -> &ObservedTarget {
        static NOTHING: LazyLock<ObservedTarget> = LazyLock::new(ObservedTarget::default);
        self.targets.get(index).unwrap_or(&NOTHING)
    }
}

/// What a namespace has had of rollbacks without a person, and whether there are to be more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// How many it had within the last hour, as far as can be told: what cannot be read counts.
    pub recent: usize,
    /// Objects that may say of one and cannot be read, by kind and name.
    pub unreadable: Vec<String>,
    /// Whether everything automatic is switched off everywhere; `None` when the controller may not read the switch.
    pub paused: Option<bool>,
}

/// What one pass has read about one Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedTarget {
    /// Name of the Deployment.
    pub name: String,
    /// Which entry of `spec.targets` finds it; only before the plan.
    pub asked: usize,
    /// The Deployment.
    pub deployment: Fetched<Deployment>,
    /// The `ReplicaSets` that the Deployment controls.
    pub replica_sets: Vec<ReplicaSet>,
    /// Whether it has more of them than are known, because there are too many to read.
    pub history_cut: bool,
    /// The ledger of the Deployment.
    pub ledger: Fetched<RevisionLedgerSpec>,
    /// Digest of a template whose quarantine somebody lifted.
    pub lifted: Option<String>,
    /// The request that holds the claim, when it is another one.
    pub rival: Fetched<Rival>,
    /// Whether requester and approvers may do by themselves what they ask for.
    pub access: Fetched<Access>,
    /// When the backup was seen.
    pub backup: Fetched<Timestamp>,
    /// The Deployment in the backup that is to be restored.
    pub kept: Fetched<Deployment>,
    /// The API server's last word on the write, if it refused it.
    pub rejection: Option<Rejection>,
    /// Generation of the Deployment that the API server answered to the last template that this process wrote to it:
    /// the only proof that a template that nobody knows is ours, and gone when the process is.
    pub accepted: Option<i64>,
    /// Generation of the Deployment in the last intent to write it that this process has stored itself.
    pub intended: Option<i64>,
    /// What the checks found in this pass.
    pub readings: Vec<Reading>,
    /// The Job that was begun and whose end is not known.
    pub job: Fetched<ObservedJob>,
    /// The pods of the version that is coming up, and the Events about those that wait for their volumes.
    pub pods: Vec<Value>,
    /// Events about these pods.
    pub events: Vec<Value>,
    /// Pods of the Deployment that are on their way out, of whichever version; when the rules let them be deleted by force.
    pub leaving: Vec<Value>,
    /// The `ReplicaSets` that these may belong to.
    pub leaving_from: Vec<ReplicaSet>,
    /// Whether the API server refused to let a pod be deleted by force.
    pub may_not_delete: bool,
    /// The log of the container that crashes, when the rules ask for it.
    pub last_log: Option<LastLog>,
    /// What the template to go back to refers to, and whether it is there.
    pub references: Vec<(Reference, Presence)>,
    /// What the API server would make of the write.
    pub rehearsal: Fetched<Rehearsal>,
    /// What else works on the Deployment or limits it.
    pub surroundings: Surroundings,
}

/// The end of the log of a container that crashed, as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLog {
    /// Which end of which container.
    pub end: End,
    /// What it wrote last; empty when it is not to be had.
    pub text: String,
    /// Whether the controller may not read logs.
    pub forbidden: bool,
}

/// What else works on a Deployment or limits it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// The autoscalers of the namespace.
    pub autoscalers: Fetched<Vec<Value>>,
    /// The disruption budgets of the namespace.
    pub budgets: Fetched<Vec<Value>>,
    /// The quotas of the namespace.
    pub quotas: Fetched<Vec<Value>>,
    /// The objects of the tools that own the Deployment, as far as they were found.
    pub owners: Vec<(Owner, Fetched<Value>)>,
}

/// What the API server would make of the write, by a dry run.
#[derive(Clone, Debug, PartialEq)]
pub enum Rehearsal {
    /// It would store this Deployment.
    Stored(Deployment),
    /// It would refuse.
    Refused {
        /// HTTP status code.
        code: u16,
        /// What it said.
        message: String,
    },
    /// It cannot say, for example because of a webhook that takes no dry runs.
    Unsaid(String),
}

/// Identity of one admission policy or binding of the guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

/// The admission policies that make approvals true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    /// What is there, sorted.
    pub present: Vec<GuardPolicy>,
    /// What is missing, altered or without effect, in sentences without an end. Anything here means that no
    /// approval counts.
    pub holes: Vec<String>,
}

impl Guard {
    /// `sha256:` over what is there: the same only while each object is the same one, with the same content.
    pub fn digest(&self) -> String {
        template::digest(&json!(self.present))
    }
}

/// Another request that holds the claim on the Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Whether it exists and has not ended.
    pub active: bool,
    /// Whether it has stored its intent to write the Deployment: then nobody takes over any more.
    pub committed: bool,
    /// What in its status only a newer controller knows: then it counts as active, and nobody takes over.
    pub unknown: Option<Unknown>,
}

/// Whether requester and approvers may do by themselves what they ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// All of them may.
    Allowed,
    /// Somebody may not.
    Denied {
        /// Who.
        who: String,
        /// What they lack, for example `patch deployments.apps/api`.
        what: String,
    },
}

/// The API server refused the revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The JSON Patch that was refused, preconditions included.
    pub patch: Value,
    /// HTTP status code.
    pub code: u16,
    /// What the API server said.
    pub message: String,
}

/// Whether the API server understood a write and will not have it. Not found, conflict and throttling are no refusals.
pub fn is_refusal(code: u16) -> bool {
    (400..500).contains(&code) && ![404, 408, 409, 429].contains(&code)
}

/// A Job of the policy, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedJob {
    /// Name of the Job object.
    pub name: String,
    /// How it is going.
    pub state: JobState,
}

/// How a Job is going. Words are fit to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It has not ended.
    Running,
    /// It has ended.
    Ended {
        /// Whether it succeeded.
        succeeded: bool,
        /// Exit code of the container that tells, when one ended.
        exit_code: Option<i32>,
        /// Why, without an end.
        message: String,
        /// The last lines of its log, when the policy asks for them.
        log: Vec<String>,
    },
    /// It cannot be run, and trying again would not help: why, without an end.
    Refused(String),
}

/// What one round of one check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Kind of the check.
    pub kind: CheckKind,
    /// Name of the check.
    pub check: String,
    /// When the round was made.
    pub at: Timestamp,
    /// What it found.
    pub found: Found,
}

/// What one round of a check found, by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The answer of each pod that was asked.
    Answers(Vec<Answer>),
    /// The answer of an address outside.
    Outside(Result<HttpAnswer, NoAnswer>),
    /// A number, or why it is not known.
    Number(Result<f64, String>),
    /// The new pods, as the API server has them.
    Pods(Vec<PodState>),
}

/// What one pod answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the pod.
    pub pod: String,
    /// What it answered, or why there is nothing.
    pub result: Result<HttpAnswer, NoAnswer>,
}

/// An answer. Its body is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Whether the body has in it what the check asks for; none when it asks for nothing.
    pub body_matches: Option<bool>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It was asked, and did not answer as it should.
    Unanswered(String),
    /// It was not asked: nothing is known.
    NotAsked(String),
}

/// One pod, as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// How often its containers were restarted.
    pub restarts: i64,
}

#[cfg(test)]
mod tests {
    use super::is_refusal;

    #[test]
    fn a_refusal_is_an_answer_that_will_not_change_by_itself() {
        for code in [400, 403, 413, 415, 422] {
            assert!(is_refusal(code), "{code}");
        }
        for code in [200, 404, 408, 409, 429, 500, 503, 504] {
            assert!(!is_refusal(code), "{code}");
        }
    }
}
