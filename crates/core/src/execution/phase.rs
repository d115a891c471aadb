//! The state of a request and of each of its targets, read from the facts and never stored.

use rollback_api::status::{Outcome, Plan, RolloutStatus, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequestStatus};

use crate::approval;

/// Up to how many Deployments are read and watched one by one, their pods too.
pub const FEW: usize = 5;

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// There is no plan.
    Planning,
    /// The plan lacks approvals.
    AwaitingApproval,
    /// Approved; no intent to revert is stored.
    BackingUp,
    /// An intent is stored; no Deployment has been seen with the old template.
    Reverting,
    /// The old template is in place somewhere; not every replica is available.
    RollingOut,
    /// Every replica is available; the checks are not done.
    Verifying,
    /// It did not work; what was there before is being brought back.
    Restoring,
    /// It has ended.
    Ended,
}

/// The state of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetPhase {
    /// Its intent to revert is not stored.
    Waiting,
    /// The intent is stored; the Deployment has not been seen with the old template.
    Reverting,
    /// The old template is in place; not every replica is available.
    RollingOut,
    /// Every replica is available; the checks are not done, or the old version is still being watched.
    Verifying,
    /// It did not do; the fallback is being written.
    Retrying,
    /// What was there before is being brought back.
    Restoring,
    /// It has ended.
    Ended,
}

impl TargetPhase {
    /// Reads the facts.
    pub fn of(status: &RollbackRequestStatus, progress: &TargetStatus) -> Self {
        if is_restored(status, progress) {
            let ended = progress
                .restore
                .as_ref()
                .is_some_and(|restore| restore.outcome.is_some());
            return if ended { Self::Ended } else { Self::Restoring };
        }
        let is_complete = |rollout: &RolloutStatus| rollout.completed_at.is_some();
        let rolled_out = progress.rollout.as_ref().is_some_and(is_complete);
        if progress.outcome.is_some() {
            Self::Ended
        } else if let Some(fallback) = &progress.fallback {
            match &fallback.rollout {
                None => Self::Retrying,
                Some(rollout) if is_complete(rollout) => Self::Verifying,
                Some(_) => Self::RollingOut,
            }
        } else if rolled_out {
            Self::Verifying
        } else if progress.reverted_at.is_some() {
            Self::RollingOut
        } else if progress.revert.is_some() {
            Self::Reverting
        } else {
            Self::Waiting
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Reverting => "Reverting",
            Self::RollingOut => "RollingOut",
            Self::Verifying => "Verifying",
            Self::Retrying => "Retrying",
            Self::Restoring => "Restoring",
            Self::Ended => "Ended",
        }
    }

    /// Whether the Deployment is known to have been written.
    pub fn is_written(self) -> bool {
        self >= Self::RollingOut
    }
}

/// Whether a target gets back what it had: the request asks for that when another one fails, and it was
/// written. What somebody else has changed since, or deleted, is theirs.
fn is_restored(status: &RollbackRequestStatus, progress: &TargetStatus) -> bool {
    let restoring = status
        .stopped
        .as_ref()
        .is_some_and(|stopped| stopped.result == RequestState::Restored);
    let foreign = progress.outcome.as_ref().is_some_and(|outcome| {
        [
            Reason::TargetGone,
            Reason::TemplateChanged,
            Reason::Overwritten,
        ]
        .contains(&outcome.reason)
    });
    restoring && progress.reverted_at.is_some() && !foreign
}

impl Phase {
    /// Reads the facts.
    pub fn of(status: &RollbackRequestStatus) -> Self {
        if status.outcome.is_some() {
            return Self::Ended;
        }
        let Some(plan) = status.plan.as_ref().filter(|plan| !plan.targets.is_empty()) else {
            return Self::Planning;
        };
        if status.targets.is_empty() {
            return Self::Planning;
        }
        let open: Vec<TargetPhase> = status
            .targets
            .iter()
            .map(|progress| TargetPhase::of(status, progress))
            .filter(|phase| *phase != TargetPhase::Ended)
            .collect();
        let any = |wanted: TargetPhase| open.contains(&wanted);
        let unwritten = open.iter().any(|phase| !phase.is_written());
        // What has begun is finished upon the approvals that it was begun upon.
        let waiting = any(TargetPhase::Waiting);
        if any(TargetPhase::Restoring) {
            Self::Restoring
        } else if waiting
            && status.stopped.is_none()
            && !approval::suffices(plan, &status.approvals)
        {
            Self::AwaitingApproval
        } else if any(TargetPhase::RollingOut) || any(TargetPhase::Retrying) {
            Self::RollingOut
        } else if any(TargetPhase::Verifying) && !unwritten {
            Self::Verifying
        } else if any(TargetPhase::Verifying) {
            Self::RollingOut
        } else if any(TargetPhase::Reverting) {
            Self::Reverting
        } else if status
            .targets
            .iter()
            .any(|progress| progress.reverted_at.is_some())
        {
            Self::RollingOut
        } else {
            Self::BackingUp
        }
    }
}

/// What a pass over a request is about: which [`View`](crate::observed::View) it reads, and which one is decided by.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// There is no plan.
    Planning,
    /// This is carried out.
    Working(&'a Plan),
    /// It has ended, with a plan or before there was one.
    Ended(Option<&'a Plan>),
}

impl<'a> Stage<'a> {
    /// Of what is stored.
    pub fn of(status: &'a RollbackRequestStatus) -> Self {
        match (Phase::of(status), &status.plan) {
            (Phase::Ended, plan) => Self::Ended(plan.as_ref()),
            (
                Phase::AwaitingApproval
                | Phase::BackingUp
                | Phase::Reverting
                | Phase::RollingOut
                | Phase::Verifying
                | Phase::Restoring,
                Some(plan),
            ) => Self::Working(plan),
            (Phase::Planning, _)
            | (
                Phase::AwaitingApproval
                | Phase::BackingUp
                | Phase::Reverting
                | Phase::RollingOut
                | Phase::Verifying
                | Phase::Restoring,
                None,
            ) => Self::Planning,
        }
    }
}

/// What is to be read of one target in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is not its turn, or it has ended.
    Nothing,
    /// The Deployment only, with all others: there are many that wait for people.
    Listed,
    /// Whether it still runs what is bad, and who changed it if not.
    Awaiting,
    /// What the way from the claim to the write needs.
    Writing,
    /// Whether the old version comes up.
    RollingOut,
    /// Whether the old version is well.
    Verifying,
    /// What the write of a fallback needs.
    Retrying,
    /// What the way back needs.
    Restoring,
}

/// What is to be read of each target of the plan, in its order.
pub fn needs(plan: &Plan, status: &RollbackRequestStatus, parallelism: i32) -> Vec<Need> {
    let due = due(plan, status, parallelism);
    let awaiting = !approval::suffices(plan, &status.approvals);
    let few = plan.targets.len() <= FEW;
    let need = |index: usize| {
        let Some(progress) = status.targets.get(index) else {
            return Need::Nothing;
        };
        let is_due = due.contains(&index);
        match TargetPhase::of(status, progress) {
            TargetPhase::Waiting if awaiting && few => Need::Awaiting,
            TargetPhase::Waiting if awaiting => Need::Listed,
            // What has begun goes on, whoever has approved what has not.
            TargetPhase::Reverting if awaiting && few => Need::Writing,
            TargetPhase::Reverting if awaiting && !is_due => Need::Listed,
            TargetPhase::Ended => Need::Nothing,
            phase if is_due => of_due(phase),
            TargetPhase::Waiting
            | TargetPhase::Reverting
            | TargetPhase::RollingOut
            | TargetPhase::Verifying
            | TargetPhase::Retrying
            | TargetPhase::Restoring => Need::Nothing,
        }
    };
    (0..plan.targets.len()).map(need).collect()
}

/// What is to be read of a target whose turn it is.
fn of_due(phase: TargetPhase) -> Need {
    match phase {
        TargetPhase::Waiting | TargetPhase::Reverting => Need::Writing,
        TargetPhase::RollingOut => Need::RollingOut,
        TargetPhase::Verifying => Need::Verifying,
        TargetPhase::Retrying => Need::Retrying,
        TargetPhase::Restoring => Need::Restoring,
        TargetPhase::Ended => Need::Nothing,
    }
}

/// Whether there are targets that are not written: only for those the rules and the guard matter.
pub fn any_unwritten(status: &RollbackRequestStatus) -> bool {
    let unwritten = |progress: &TargetStatus| !TargetPhase::of(status, progress).is_written();
    status.targets.iter().any(unwritten)
}

/// Whether there are targets that have not begun.
pub fn waits(status: &RollbackRequestStatus) -> bool {
    let waiting =
        |progress: &TargetStatus| TargetPhase::of(status, progress) == TargetPhase::Waiting;
    status.targets.iter().any(waiting)
}

/// Whether an intent to write was ever stored: from then on nobody may say that nothing was changed.
pub fn has_begun(status: &RollbackRequestStatus) -> bool {
    status
        .targets
        .iter()
        .any(|progress| progress.revert.is_some() || progress.reverted_at.is_some())
}

/// The targets whose turn it is, by their place in the plan: those of the earliest wave that has not
/// ended, at most so many at the same time.
pub fn due(plan: &Plan, status: &RollbackRequestStatus, parallelism: i32) -> Vec<usize> {
    let phase = |index: usize| {
        status
            .targets
            .get(index)
            .map_or(TargetPhase::Ended, |progress| {
                TargetPhase::of(status, progress)
            })
    };
    let open: Vec<usize> = (0..plan.targets.len())
        .filter(|index| phase(*index) != TargetPhase::Ended)
        .collect();
    let restoring: Vec<usize> = open
        .iter()
        .rev()
        .copied()
        .filter(|index| phase(*index) == TargetPhase::Restoring)
        .collect();
    let chosen = if status.stopped.is_some() {
        let under_way = open
            .into_iter()
            .filter(|index| phase(*index) != TargetPhase::Waiting);
        if restoring.is_empty() {
            under_way.collect()
        } else {
            restoring
        }
    } else {
        let wave = open.iter().map(|index| plan.targets[*index].wave).min();
        open.into_iter()
            .filter(|index| Some(plan.targets[*index].wave) == wave)
            .collect::<Vec<_>>()
    };
    chosen
        .into_iter()
        .take(usize::try_from(parallelism).unwrap_or(1).max(1))
        .collect()
}

/// What one target came to: the way back, if there was one, counts more than the way there.
pub fn result(progress: &TargetStatus) -> Option<&Outcome> {
    let restored = progress
        .restore
        .as_ref()
        .and_then(|restore| restore.outcome.as_ref());
    restored.or(progress.outcome.as_ref())
}
