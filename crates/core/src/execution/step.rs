//! What a decision can ask for.

use jiff::Timestamp;
use rollback_api::hold::PlannedHold;
use rollback_api::status::JobRule;
use rollback_api::{
    CHANGE_CAUSE, RevisionLedgerSpec, RollbackRequest, RollbackRequestStatus, WorkloadRef,
};
use serde_json::{Value, json};

use crate::execution::artifact::Artifact;
use crate::history::template::Template;
use crate::observed::Deployment;

/// What to commit, and what to do once it is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status to commit first.
    pub status: RollbackRequestStatus,
    /// What to write then: at most one write for each Deployment, in any order.
    pub steps: Vec<Step>,
    /// When to look again.
    pub next: Next,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Again,
    /// When something changes, or then though nothing changed.
    Wait {
        /// When to look again though nothing changed.
        until: Option<Timestamp>,
    },
    /// Never: nothing is owed any more.
    Done,
}

impl Next {
    /// Whichever comes first.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Again, _) | (_, Self::Again) => Self::Again,
            (Self::Done, next) | (next, Self::Done) => next,
            (Self::Wait { until: first }, Self::Wait { until: second }) => Self::Wait {
                until: first.into_iter().chain(second).min(),
            },
        }
    }
}

/// One idempotent write. Its result is not returned but observed by the next pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Hold the request by its finalizer, before anything is written for it.
    AddFinalizer,
    /// Write the claim: what the ledger of the workload has to say.
    Claim(RevisionLedgerSpec),
    /// Save the Deployment.
    BackUp(Artifact),
    /// Keep the owner of a workload from undoing the rollback.
    PlaceHold(PlaceHold),
    /// Start a Job of the policy.
    RunJob {
        /// The workload that it is for.
        workload: WorkloadRef,
        /// Name of the Job object.
        job: String,
        /// What the plan says of it; the pod is in the policy.
        rule: JobRule,
        /// The image of the containers that name none.
        image: Option<String>,
    },
    /// Write a template: the old one, or when that did not work the one before.
    Revert(Revert),
    /// Give up the ownership of the fields that the revert wrote.
    Disown(Revert),
    /// Delete a pod that hangs while it ends, at once and only if it is still this one.
    ForceDelete {
        /// The workload that it belongs to.
        workload: WorkloadRef,
        /// Name of the pod.
        pod: String,
        /// Its UID.
        uid: String,
    },
    /// Change how many replicas a Deployment asks for, to free capacity or to give it back.
    Scale(Scale),
    /// Write the incident report.
    Publish(Artifact),
    /// Give the claim back and remember the rollback: what the ledger of the workload has to say.
    Release(RevisionLedgerSpec),
    /// Put a counted approval away, so that the next approver types all of their own.
    EmptyMailbox,
    /// Let the request go: nothing is owed any more.
    DropFinalizer,
}

/// One hold to be placed, once the ledger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceHold {
    /// The workload that it is for.
    pub workload: WorkloadRef,
    /// The hold, as the plan has it.
    pub hold: PlannedHold,
    /// The mark that it leaves.
    pub mark: String,
    /// The JSON Patch, preconditions first.
    pub patch: Value,
}

/// One change of the number of replicas: made only while the Deployment is that very one and asks for `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The Deployment.
    pub workload: WorkloadRef,
    /// How many it has to ask for now.
    pub from: i32,
    /// How many it is to ask for.
    pub to: i32,
}

impl Scale {
    /// Its JSON Patch, preconditions first.
    pub fn patch(&self) -> Value {
        json!([
            {"op": "test", "path": "/metadata/uid", "value": self.workload.uid},
            {"op": "test", "path": "/spec/replicas", "value": self.from},
            {"op": "replace", "path": "/spec/replicas", "value": self.to},
        ])
    }
}

/// One write to a Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Revert {
    /// The Deployment.
    pub workload: WorkloadRef,
    /// The JSON Patch, preconditions first.
    pub patch: Value,
}

/// The change-cause of a write: what it was for, and whose it was, for people. Anybody can write the same, so it shows
/// nothing by itself.
pub fn cause(request: &RollbackRequest, revision: Option<i64>, source: Option<&str>) -> String {
    let to = match (revision, source) {
        (Some(revision), _) => format!("revision {revision}"),
        (None, Some(source)) => format!("what {source} keeps"),
        (None, None) => "a new image".to_owned(),
    };
    signed(request, &format!("rollback to {to}"))
}

/// The change-cause of the write of a fallback.
pub fn second_cause(
    request: &RollbackRequest,
    revision: Option<i64>,
    source: Option<&str>,
) -> String {
    format!("fallback: {}", cause(request, revision, source))
}

/// The change-cause of a write that brings back what was there before the rollback.
pub fn restore_cause(request: &RollbackRequest, backup: &str) -> String {
    signed(request, &format!("restore of backup {backup}"))
}

fn signed(request: &RollbackRequest, what: &str) -> String {
    format!(
        "{what} by RollbackRequest {} ({})",
        request.metadata.name.as_deref().unwrap_or_default(),
        request.metadata.uid.as_deref().unwrap_or_default()
    )
}

/// The one write to a Deployment: template and change-cause; with `guarded`, only if it is still the Deployment that
/// was just read.
pub fn template_patch(
    deployment: &Deployment,
    template: &Template,
    cause: &str,
    guarded: bool,
) -> Value {
    let mut patch = Vec::new();
    if guarded {
        patch.push(json!({"op": "test", "path": "/metadata/uid", "value": deployment.uid()}));
        let generation = deployment.generation();
        patch.push(json!({"op": "test", "path": "/metadata/generation", "value": generation}));
    }
    // The map must be there before a key can be added, and must not be replaced if it came meanwhile.
    if !deployment.has_annotations() {
        patch.push(json!({"op": "test", "path": "/metadata/annotations", "value": null}));
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    patch.push(json!({"op": "replace", "path": "/spec/template", "value": template.as_json()}));
    let change_cause = format!("/metadata/annotations/{}", CHANGE_CAUSE.replace('/', "~1"));
    patch.push(json!({"op": "add", "path": change_cause, "value": cause}));
    Value::Array(patch)
}
