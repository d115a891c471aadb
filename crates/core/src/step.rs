//! What a decision can ask for, and the states that lead there.

use jiff::Timestamp;
use rollback_api::{RevisionLedgerSpec, RollbackRequestStatus};
use serde_json::Value;

use crate::approval;
use crate::artifact::Artifact;

/// What to commit, and what to do once it is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status to commit first.
    pub status: RollbackRequestStatus,
    /// The one thing to do then.
    pub step: Step,
}

/// One idempotent write, or none. Its result is not returned but observed by the next pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing to do before something changes, or until then.
    Wait {
        /// When to look again though nothing changed.
        until: Option<Timestamp>,
    },
    /// Only the status moved on: look again at once.
    Again,
    /// Write the claim into the ledger of the Deployment.
    Claim {
        /// Name of the Deployment, and of its ledger.
        deployment: String,
        /// What the ledger has to say.
        ledger: RevisionLedgerSpec,
    },
    /// Save the Deployment.
    BackUp(Artifact),
    /// Write the old template.
    Revert(Revert),
    /// Write the incident report.
    Publish(Artifact),
    /// Give the claim back and remember the rollback.
    Release {
        /// Name of the Deployment, and of its ledger.
        deployment: String,
        /// What the ledger has to say.
        ledger: RevisionLedgerSpec,
    },
    /// Let the request go: nothing is owed any more.
    DropFinalizer,
    /// Nothing left to do, ever.
    Done,
}

/// The one write to a Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Revert {
    /// Name of the Deployment.
    pub deployment: String,
    /// The JSON Patch, preconditions first.
    pub patch: Value,
}

/// The state of a request, read from its facts and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// There is no plan.
    Planning,
    /// The plan lacks approvals.
    AwaitingApproval,
    /// Approved; the intent to revert is not stored.
    BackingUp,
    /// The intent is stored; the Deployment has not been seen with the old template.
    Reverting,
    /// The old template is in place; not every replica is available.
    RollingOut,
    /// Every replica is available; the checks are not done.
    Verifying,
    /// It has ended.
    Ended,
}

impl Phase {
    /// Reads the facts.
    pub fn of(status: &RollbackRequestStatus) -> Self {
        if status.outcome.is_some() {
            return Self::Ended;
        }
        let (Some(plan), Some(progress)) = (&status.plan, status.targets.first()) else {
            return Self::Planning;
        };
        if plan.targets.is_empty() {
            Self::Planning
        } else if progress
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.completed_at.is_some())
        {
            Self::Verifying
        } else if progress.reverted_at.is_some() {
            Self::RollingOut
        } else if !approval::suffices(plan, &status.approvals) {
            Self::AwaitingApproval
        } else if progress.revert.is_some() {
            Self::Reverting
        } else {
            Self::BackingUp
        }
    }
}
