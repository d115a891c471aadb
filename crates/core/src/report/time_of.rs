//! How long each phase took, and until when production was broken.

use jiff::Timestamp;
use rollback_api::status::{Outcome, Plan, TargetStatus};
use rollback_api::{RequestState, RollbackRequestStatus};

use super::{ALL, Phase};
use crate::approval::consent;

/// When every check of every Deployment had passed, if this request brought production back.
pub(super) fn recovery(status: &RollbackRequestStatus, outcome: &Outcome) -> Option<Timestamp> {
    if outcome.result != RequestState::Succeeded {
        return None;
    }
    status.targets.iter().filter_map(verified).max()
}

fn verified(target: &TargetStatus) -> Option<Timestamp> {
    let first = target.verification.as_ref();
    let fallback = target
        .fallback
        .as_ref()
        .and_then(|fallback| fallback.verification.as_ref());
    fallback.or(first)?.completed_at
}

fn rolled_out(target: &TargetStatus) -> Option<Timestamp> {
    let fallback = target
        .fallback
        .as_ref()
        .and_then(|fallback| fallback.rollout.as_ref());
    fallback.or(target.rollout.as_ref())?.completed_at
}

fn written(target: &TargetStatus) -> Option<Timestamp> {
    let fallback = target
        .fallback
        .as_ref()
        .and_then(|fallback| fallback.reverted_at);
    fallback.or(target.reverted_at)
}

/// The phases that were gone through, each to the end of its last Deployment, and all of it once it has ended.
pub(super) fn phases(
    started: Timestamp,
    status: &RollbackRequestStatus,
    plan: &Plan,
    outcome: Option<&Outcome>,
) -> Vec<Phase> {
    let targets = &status.targets;
    let last =
        |moment: fn(&TargetStatus) -> Option<Timestamp>| targets.iter().filter_map(moment).max();
    let intents = targets.iter().filter_map(|target| target.revert.as_ref());
    let intended = intents.map(|revert| revert.intended_at).min();
    // What was approved after that was for those that had not begun by then.
    let approved = consent::approvals(status)
        .iter()
        .map(|approval| approval.at)
        .filter(|at| intended.is_none_or(|intended| *at <= intended))
        .max();
    let verified = last(verified);
    let soaked = verified.filter(|_| plan.rules.verification.soak_seconds > 0);
    let mut begun = started;
    let mut phases = Vec::new();
    for (name, end) in [
        ("planning", Some(plan.planned_at)),
        ("approval", approved),
        ("preparation", intended),
        ("write", last(written)),
        ("rollout", last(rolled_out)),
        ("verification", verified),
        ("soak", soaked.and(outcome).map(|outcome| outcome.at)),
    ] {
        if let Some(end) = end {
            phases.push(Phase {
                name: name.to_owned(),
                milliseconds: between(begun, end),
            });
            begun = end;
        }
    }
    if let Some(outcome) = outcome {
        phases.push(Phase {
            name: ALL.to_owned(),
            milliseconds: between(started, outcome.at),
        });
    }
    phases
}

fn between(begin: Timestamp, end: Timestamp) -> i64 {
    i64::try_from(end.duration_since(begin).as_millis().max(0)).unwrap_or(i64::MAX)
}
