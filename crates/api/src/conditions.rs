//! The vocabulary of states and reasons.

use crate::open_enum::open_enum;

/// Types of the conditions of a `RollbackRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// True when the request has ended well. Its reason is the [`RequestState`].
    Ready,
    /// True while something is still to be done or waited for (kstatus: `InProgress`).
    Reconciling,
    /// True when the request has ended and a person has to look (kstatus: `Failed`).
    Stalled,
    /// True when enough people approved the plan.
    Approved,
    /// True when somebody denied the request.
    Denied,
    /// True when the request has ended and nothing is left to do.
    Complete,
    /// True when the request has ended without what was asked for.
    Failed,
    /// True when the incident report is written.
    Reported,
}

impl ConditionType {
    /// Each of them.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Approved,
        Self::Denied,
        Self::Complete,
        Self::Failed,
        Self::Reported,
    ];

    /// The `type` of the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Approved => "Approved",
            Self::Denied => "Denied",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::Reported => "Reported",
        }
    }
}

open_enum! {
    /// Where a request stands, in one word: the reason of the `Ready` condition.
    #[derive(Hash)]
    pub enum RequestState {
        /// The plan is being made.
        Planning,
        /// The plan is published and waits for people.
        AwaitingApproval,
        /// The data may not fit the old version: an approver has to accept that risk.
        Blocked,
        /// Approved, but the policy lets nothing be rolled back at this time.
        Frozen,
        /// Approved; the Deployment is being claimed and saved.
        BackingUp,
        /// The old template is being written.
        Reverting,
        /// The old version is coming up.
        RollingOut,
        /// The old version is up and is being checked.
        Verifying,
        /// A Deployment did not come back, and those that were rolled back get back what they had.
        Restoring,
        /// End: what was asked for is true.
        Succeeded,
        /// End: an approver said no.
        Denied,
        /// End: withdrawn before anything was changed.
        Cancelled,
        /// End: nobody approved in time.
        Expired,
        /// End: it cannot or must not be done; nothing was changed.
        Refused,
        /// End: somebody else changed the Deployment; their change stands.
        Superseded,
        /// End: it was tried and did not work.
        Failed,
        /// End: it was tried and did not work, and everything is again as it was before.
        Restored,
    }
}

open_enum! {
    /// Why a request ended as it did.
    #[derive(Hash)]
    pub enum Reason {
        /// Succeeded: rolled back, rolled out, and every check passed.
        RolledBack,
        /// Succeeded: the Deployment already has the template that was asked for.
        NoOp,
        /// Succeeded: the revision asked for differs from what runs only by a restart.
        Equivalent,
        /// Succeeded: rolled back, but nothing could show that it is well (no replicas, or no checks).
        Unverified,
        /// Succeeded: this very request already ran before it was created again.
        AlreadyRolledBack,
        /// Succeeded: the plan is published, as a dry run asks.
        DryRun,
        /// Superseded: what the request calls bad does not run (any more).
        NotLive,
        /// Superseded: the pod template was changed by somebody else.
        TemplateChanged,
        /// Denied by an approver.
        DeniedByApprover,
        /// Cancelled by annotation.
        CancelledByUser,
        /// Cancelled because the request was deleted.
        Deleted,
        /// Expired: not approved in time.
        NotApprovedInTime,
        /// Refused: the Deployment does not exist.
        DeploymentNotFound,
        /// Refused: the Deployment is being deleted.
        DeploymentDeleting,
        /// Refused: the Deployment is paused.
        Paused,
        /// Refused: no earlier revision to go back to.
        NoHistory,
        /// Refused: the revision asked for is not in the history.
        RevisionNotFound,
        /// Refused: no revision has the image asked for.
        ImageNotInHistory,
        /// Refused: no revision is the version asked for.
        VersionNotInHistory,
        /// Refused: more than one revision fits.
        Ambiguous,
        /// Refused: the decision matrix says to fix it forward.
        HotfixForward,
        /// Refused: asked for something that this version cannot do.
        Unsupported,
        /// Refused: the spec was changed, which admission should have prevented.
        SpecChanged,
        /// Refused: the API server did not stamp who asks.
        RequesterUnknown,
        /// Refused: the namespace has not opted in to rollbacks.
        NamespaceNotOptedIn,
        /// Refused: another rollback is already written on the Deployment for its own controller.
        LegacyRollback,
        /// Refused: the requester or an approver may not change the Deployment.
        Forbidden,
        /// Refused: the revision that was approved is gone from the history.
        HistoryPruned,
        /// Refused: the revision that was approved was edited since.
        DigestMismatch,
        /// Failed: the Deployment was deleted, or deleted and made again.
        TargetGone,
        /// Failed: the API server does not take the old template.
        PatchRejected,
        /// Failed: the old version did not become available in time.
        RolloutTimedOut,
        /// Failed: the Deployment controller reports that it makes no progress.
        RolloutFailed,
        /// Failed: the old version is up, but a check did not pass in time.
        ChecksFailed,
        /// Superseded: another request rolled the Deployment back first.
        RolledBackByAnother,
        /// Refused: the request finds more Deployments than one request can roll back.
        TooMany,
        /// Refused: no Deployment has the labels or the name prefix that the request asks for.
        NothingFound,
        /// Refused: the Deployment or the plan is too large to be saved, or the history to be read.
        TooLarge,
        /// Refused: no version is known to have been good.
        NoKnownGood,
        /// Refused: the backup asked for does not exist, or is no backup.
        BackupNotFound,
        /// Refused: the backup asked for is of another Deployment.
        BackupMismatch,
        /// Refused: something that the old template refers to does not exist.
        ReferenceMissing,
        /// Refused: a tool owns the Deployment and would undo the rollback.
        SelfHealingOwner,
        /// Refused: the owner could not be kept from undoing the rollback.
        HoldNotPlaced,
        /// Refused: some of the Deployments cannot be rolled back.
        TargetsRefused,
        /// Cancelled: its turn never came, because another Deployment of the request failed.
        NotBegun,
        /// Failed or Restored: some of the Deployments did not come back.
        TargetsFailed,
        /// Failed: something altered the template on its way into the Deployment.
        TemplateMutated,
        /// Failed: somebody brought the bad version back while the old one was watched.
        Overwritten,
        /// Failed: it did not work, and what was there before could not be brought back either.
        RestoreFailed,
        /// Restored: the Deployment has again the template that it had before the rollback.
        RestoredFromBackup,
        /// Failed: the old version is up, but whether it is well could not be told in time.
        HealthUnknown,
        /// Refused: a Job that runs before the rollback said no.
        HookVetoed,
        /// Failed: a Job that runs after the rollback failed.
        HookFailed,
        /// Refused: the policy does not name the source that asks.
        SourceNotAllowed,
        /// Refused: the alert began before the version that runs, so it is not about it.
        AlertOlderThanVersion,
        /// Refused: the Deployment was rolled back a short time ago, and the alert came again: a person has to look.
        DidNotHelp,
        /// Refused: too many requests of the namespace are open.
        TooManyOpenRequests,
    }
}
