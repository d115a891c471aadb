//! Who is asked next when nobody answers. The timers are in the status: whoever leads goes on where another one stopped.

use jiff::Timestamp;
use rollback_api::policy::{Escalation, Notifications};
use rollback_api::status::{EscalationAbout, EscalationStatus, NotificationStatus, Outcome};
use rollback_api::{RequestState, RollbackRequest, RollbackRequestStatus};

use super::facts::urgency;
use super::messages::needs_person;
use crate::approval;
use crate::execution::phase::Phase;
use crate::time;

/// The next state of the escalation. A level is stored before it is told, so it is told for one state of the status and never
/// again; it is asked one after the other, however late it has become.
pub(super) fn advance(
    policy: &Notifications,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    kept: &NotificationStatus,
    now: Timestamp,
) -> Option<EscalationStatus> {
    let before = kept.escalation.clone();
    let Some(rules) = &policy.escalation else {
        return before.map(ended);
    };
    let about = about(rules, request, status).filter(|_| kept.acknowledged.is_none());
    let Some(about) = about else {
        return before.map(ended);
    };
    let current = match before {
        // When it was over for a while, because approvals sufficed or for a pause, the next level has its whole wait again.
        Some(before) if before.about == about => EscalationStatus {
            next_at: before.next_at.or_else(|| wait(rules, before.level, now)),
            ..before
        },
        Some(_) | None => EscalationStatus {
            about,
            level: 0,
            notified_at: now,
            next_at: wait(rules, 0, now),
        },
    };
    Some(match current.next_at {
        Some(next) if next <= now => EscalationStatus {
            about,
            level: current.level.saturating_add(1),
            notified_at: now,
            next_at: wait(rules, current.level.saturating_add(1), now),
        },
        Some(_) | None => current,
    })
}

/// Nobody is asked any more.
fn ended(mut before: EscalationStatus) -> EscalationStatus {
    before.next_at = None;
    before
}

/// When the level after `level` is asked; none after the last.
fn wait(rules: &Escalation, level: i32, now: Timestamp) -> Option<Timestamp> {
    let next = rules.levels.get(usize::try_from(level).ok()?)?;
    Some(time::after(now, i64::from(next.after_seconds)))
}

/// What there is to ask people about.
fn about(
    rules: &Escalation,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
) -> Option<EscalationAbout> {
    let urgency = urgency(request, status);
    if !rules.urgencies.is_empty() && !rules.urgencies.contains(&urgency) {
        return None;
    }
    if let Some(outcome) = &status.outcome {
        return calls_for_people(request, outcome).then_some(EscalationAbout::Failed);
    }
    let plan = status.plan.as_ref();
    let plan = plan.filter(|_| Phase::of(status) == Phase::AwaitingApproval)?;
    // The policy has not said yet what it makes of this plan.
    let is_open = plan.rules.auto_approval.is_none() || status.auto_approval.is_some();
    let waits = is_open && !approval::suffices(plan, &status.approvals);
    waits.then_some(EscalationAbout::Waiting)
}

/// A failure does; that something was refused, or expired, only when no person asked, who would see it.
fn calls_for_people(request: &RollbackRequest, outcome: &Outcome) -> bool {
    let tried = [RequestState::Failed, RequestState::Restored].contains(&outcome.result);
    needs_person(outcome) && (tried || request.spec.trigger.is_some())
}
