//! Everything that one decision may look at, as it was read.

use jiff::Timestamp;
use rollback_api::status::{GuardPolicy, Progressing};
use rollback_api::{CHANGE_CAUSE, RevisionLedgerSpec, RollbackPolicySpec};
use serde_json::Value;

use crate::template::Template;

/// The result of a read that may not have been made, or may have found nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Seen<T> {
    /// Not read in this pass, so nothing is known. Unknown is never taken for a yes or a no.
    #[default]
    Unknown,
    /// Read, and not there.
    Absent,
    /// Read, and there.
    Found(T),
}

impl<T> Seen<T> {
    /// What was found, if anything was.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            Self::Unknown | Self::Absent => None,
        }
    }
}

/// What one pass has read. Each field is read only in the states that need it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The policy of the namespace.
    pub policy: Seen<RollbackPolicySpec>,
    /// The admission policies that make approvals true.
    pub guard: Guard,
    /// Whether the namespace lets this controller patch Deployments.
    pub opted_in: Seen<bool>,
    /// The Deployment.
    pub deployment: Seen<Deployment>,
    /// The `ReplicaSets` that the Deployment controls.
    pub replica_sets: Vec<ReplicaSet>,
    /// The ledger of the Deployment.
    pub ledger: Seen<RevisionLedgerSpec>,
    /// Whether the request that holds the claim, when it is another one, still needs it.
    pub rival: Seen<Rival>,
    /// Whether requester and approvers may do by themselves what they ask for.
    pub access: Seen<Access>,
    /// When the backup was seen.
    pub backup: Seen<Timestamp>,
    /// When the incident report was seen.
    pub incident: Seen<Timestamp>,
    /// The API server's last word on the revert, if it refused it.
    pub rejection: Option<Rejection>,
    /// What the checks found in this pass.
    pub readings: Vec<Reading>,
}

/// The admission policies that make approvals true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    /// What is there, sorted.
    pub present: Vec<GuardPolicy>,
    /// What ought to be there and is not. Anything here means that no approval counts.
    pub missing: Vec<String>,
}

/// Another request that holds the claim on the Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Whether it exists and has not ended.
    pub active: bool,
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

/// What one round of one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Name of the check.
    pub check: String,
    /// When the round was made.
    pub at: Timestamp,
    /// The answer of each pod.
    pub answers: Vec<Answer>,
}

/// What one pod answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the pod.
    pub pod: String,
    /// The status code, or why there is none.
    pub result: Result<u16, String>,
}

/// A Deployment as the API server serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment(pub Value);

/// A `ReplicaSet` as the API server serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSet(pub Value);

fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn integer(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.pointer("/metadata/annotations")?.get(key)?.as_str()
}

fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    value
        .pointer("/status/conditions")?
        .as_array()?
        .iter()
        .find(|condition| string(condition, "/type") == kind)
}

impl Deployment {
    /// Name.
    pub fn name(&self) -> &str {
        string(&self.0, "/metadata/name")
    }

    /// UID.
    pub fn uid(&self) -> &str {
        string(&self.0, "/metadata/uid")
    }

    /// Generation of the spec.
    pub fn generation(&self) -> i64 {
        integer(&self.0, "/metadata/generation").unwrap_or_default()
    }

    /// Generation that the Deployment controller has seen.
    pub fn observed_generation(&self) -> i64 {
        integer(&self.0, "/status/observedGeneration").unwrap_or_default()
    }

    /// The pod template.
    pub fn template(&self) -> Template {
        Template::of(self.0.pointer("/spec/template").unwrap_or(&Value::Null))
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.0.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.0.pointer("/spec/paused").and_then(Value::as_bool) == Some(true)
    }

    /// Replicas asked for.
    pub fn desired(&self) -> i64 {
        integer(&self.0, "/spec/replicas").unwrap_or(1)
    }

    /// Seconds without progress after which the Deployment controller gives up.
    pub fn progress_deadline_seconds(&self) -> i64 {
        integer(&self.0, "/spec/progressDeadlineSeconds").unwrap_or(600)
    }

    /// A count of the status, zero when it is left out.
    fn count(&self, field: &str) -> i64 {
        integer(&self.0, &format!("/status/{field}")).unwrap_or_default()
    }

    /// Replicas of any template.
    pub fn replicas(&self) -> i64 {
        self.count("replicas")
    }

    /// Replicas of the current template.
    pub fn updated(&self) -> i64 {
        self.count("updatedReplicas")
    }

    /// Replicas that are available.
    pub fn available(&self) -> i64 {
        self.count("availableReplicas")
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.0, key)
    }

    /// Whether the map of annotations exists.
    pub fn has_annotations(&self) -> bool {
        self.0.pointer("/metadata/annotations").is_some()
    }

    /// Whether this request wrote the current template.
    pub fn was_reverted_by(&self, request_uid: &str) -> bool {
        is_caused_by(&self.0, request_uid)
    }

    /// The state of the `Progressing` condition.
    pub fn progressing(&self) -> Option<Progressing> {
        let condition = condition(&self.0, "Progressing")?;
        Some(Progressing {
            reason: string(condition, "/reason").to_owned(),
            last_update_time: string(condition, "/lastUpdateTime").to_owned(),
        })
    }

    /// The message of a condition.
    pub fn condition_message(&self, kind: &str) -> &str {
        condition(&self.0, kind).map_or("", |condition| string(condition, "/message"))
    }
}

/// Whether the change-cause is the one that this request writes.
fn is_caused_by(object: &Value, request_uid: &str) -> bool {
    !request_uid.is_empty()
        && annotation(object, CHANGE_CAUSE).is_some_and(|cause| cause.contains(request_uid))
}

impl ReplicaSet {
    /// Name.
    pub fn name(&self) -> &str {
        string(&self.0, "/metadata/name")
    }

    /// UID.
    pub fn uid(&self) -> &str {
        string(&self.0, "/metadata/uid")
    }

    /// UID of its controller.
    pub fn controller_uid(&self) -> Option<&str> {
        self.0
            .pointer("/metadata/ownerReferences")?
            .as_array()?
            .iter()
            .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?
            .get("uid")?
            .as_str()
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.0.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// The pod template.
    pub fn template(&self) -> Template {
        Template::of(self.0.pointer("/spec/template").unwrap_or(&Value::Null))
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.0, key)
    }

    /// Whether this request wrote its template to the Deployment: the Deployment controller copies the
    /// change-cause, and it stays here when somebody changes the Deployment again.
    pub fn was_restored_by(&self, request_uid: &str) -> bool {
        is_caused_by(&self.0, request_uid)
    }

    /// Why it cannot make pods, in the words of its own condition.
    pub fn failure(&self) -> Option<&str> {
        let condition = condition(&self.0, "ReplicaFailure")?;
        (string(condition, "/status") == "True").then(|| string(condition, "/message"))
    }
}
