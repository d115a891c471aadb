//! Times in which nothing is rolled back, and what is an emergency.

use jiff::Timestamp;
use rollback_api::request::Urgency;
use rollback_api::status::Plan;
use rollback_api::{RollbackRequestStatus, Word};

use crate::conditions::Stand;
use crate::freeze::{Frozen, frozen};
use crate::observed::{Deployment, Observed, SeenTarget};
use crate::phase::has_begun;
use crate::{approval, time};

/// The window that holds this request back. None once something was written: half a rollback is worse than a
/// whole one.
pub(super) fn holds(
    plan: &Plan,
    observed: &Observed,
    status: &RollbackRequestStatus,
    now: Timestamp,
) -> Option<Frozen> {
    let emergency = approval::breaks_glass(plan, &status.approvals)
        || (plan.rules.expedited && plan.rules.urgency >= Urgency::Critical)
        || is_down(observed);
    if emergency || has_begun(status) {
        return None;
    }
    frozen(&plan.rules.freeze_windows, now)
}

/// Whether every Deployment that was read is down, as its own controller says: nobody has to be believed.
fn is_down(observed: &Observed) -> bool {
    let mut read = observed
        .targets
        .iter()
        .filter_map(|seen: &SeenTarget| seen.deployment.found())
        .peekable();
    read.peek().is_some() && read.all(Deployment::is_down)
}

/// What holds the request back, and what to do in an emergency.
pub(super) fn message(plan: &Plan, open: &Frozen) -> String {
    let until = match &open.until {
        Ok(until) => format!("until {}", time::stamp(*until)),
        Err(why) => format!("and nobody can tell until when ({why})"),
    };
    let alone = if plan.rules.break_glass {
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
pub(super) fn stand(plan: &Plan, open: &Frozen, now: Timestamp) -> Stand {
    let message = message(plan, open);
    let waiting = Stand::waiting(plan, now, "Approved", message);
    Stand {
        word: Some(Word::Frozen),
        ..waiting
    }
}
