//! Times in which nothing is rolled back, and what is an emergency.

use jiff::Timestamp;
use rollback_api::request::Urgency;
use rollback_api::status::{Plan, TargetStatus};
use rollback_api::{RequestState, RollbackRequestStatus};

use crate::approval::freeze::{Frozen, frozen};
use crate::execution::phase::TargetPhase;
use crate::observed::Deployment;
use crate::observed::view::WorkingView;
use crate::report::conditions::RequestDecision;
use crate::{approval, time};

/// The window that holds back what has not begun. What has begun goes on to its end.
pub(super) fn holds(
    plan: &Plan,
    view: &WorkingView,
    status: &RollbackRequestStatus,
    now: Timestamp,
) -> Option<Frozen> {
    let emergency = approval::breaks_glass(plan, &status.approvals)
        || (plan.rules.expedited && plan.rules.urgency >= Urgency::Critical)
        || is_down(view, status);
    if emergency {
        return None;
    }
    frozen(&plan.rules.freeze_windows, now)
}

/// Whether every Deployment that was read and has not begun is down, as its own controller says: nobody has to be
/// believed.
fn is_down(view: &WorkingView, status: &RollbackRequestStatus) -> bool {
    let waiting =
        |progress: &TargetStatus| TargetPhase::of(status, progress) == TargetPhase::Waiting;
    let mut read = status
        .targets
        .iter()
        .enumerate()
        .filter(|(_, progress)| waiting(progress))
        .filter_map(|(index, _)| view.target(index).deployment())
        .peekable();
    read.peek().is_some() && read.all(Deployment::is_down)
}

/// What holds the request back, and what to do in an emergency.
pub(super) fn message(plan: &Plan, open: &Frozen) -> String {
    let until = match &open.until {
        Ok(until) => format!("until {}", time::stamp(*until)),
        Err(why) => format!("and nobody can tell until when ({why})"),
    };
    let alone = if plan.rules.approvals.break_glass {
        ", or approves with the annotation rollback.broxiva.com/break-glass"
    } else {
        ""
    };
    format!(
        "Frozen by the window {} of the RollbackPolicy {until}: nothing is written before. \
         In an emergency somebody with the verb expedite asks again with urgency Critical{alone}.",
        open.window
    )
}

/// Approved, and waiting for the end of the window.
pub(super) fn decision(plan: &Plan, open: &Frozen, now: Timestamp) -> RequestDecision {
    let message = message(plan, open);
    let waiting = RequestDecision::waiting(plan, now, "Approved", message);
    RequestDecision {
        state: Some(RequestState::Frozen),
        ..waiting
    }
}
