//! Approvals that end before everything is begun: taken back, or too old. What was begun upon them goes on.

use jiff::Timestamp;
use rollback_api::status::Approval;
use rollback_api::{RollbackRequest, RollbackRequestStatus};

use crate::approval::consent;
use crate::approval::withdrawn_by;
use crate::plan::next_round;
use crate::time;

/// Takes out what does not count any more for what has not begun: the approval of somebody who takes it
/// back; and all of them when one has become too old, because then the plan gets another digest, so that what still
/// stands in the mailbox is not counted anew.
pub(super) fn lapse(request: &RollbackRequest, status: &mut RollbackRequestStatus, now: Timestamp) {
    let withdrawn = withdrawn_by(request);
    status
        .approvals
        .retain(|approval| approval.by.username != withdrawn);
    let Some(plan) = &status.plan else { return };
    let valid_for = i64::from(plan.rules.approval_valid_seconds);
    let too_old = |approval: &Approval| time::after(approval.at, valid_for) <= now;
    if status.approvals.iter().any(too_old) {
        let next = next_round(plan, request);
        consent::replace(status, next);
    }
}

/// When the first of the counted approvals becomes too old.
pub(super) fn next_lapse(status: &RollbackRequestStatus) -> Option<Timestamp> {
    let valid_for = i64::from(status.plan.as_ref()?.rules.approval_valid_seconds);
    let given = status.approvals.iter().map(|approval| approval.at).min()?;
    Some(time::after(given, valid_for))
}
