//! Everything that one decision may look at, as it was read.

pub mod fetched;
pub mod view;
pub mod workload;

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::status::CheckKind;
use rollback_api::unknown::Unknown;
use serde::Serialize;
use serde_json::{Value, json};

pub use fetched::Fetched;
pub use view::{TargetView, View};
pub use workload::{Deployment, ReplicaSet};

use crate::health::diagnose::End;
use crate::history::template;
use crate::hold::plan::HoldRead;
use crate::plan::owner::Owner;

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
    /// What was read to know whether those can be held that would undo a rollback.
    pub holds: BTreeMap<Owner, HoldRead>,
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
    /// It was not asked: who makes the plan need not be allowed to write.
    LeftOut,
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
    /// Whether people write themselves who they are, and the API server only compares: before Kubernetes 1.36, or where the
    /// policy is not installed that writes it for them.
    pub typed: bool,
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
