//! Approvals that end before anything is written: taken back, or too old.

use jiff::Timestamp;
use rollback_api::status::Approval;
use rollback_api::{RollbackRequest, RollbackRequestStatus};

use crate::approval::withdrawn_by;
use crate::plan::next_round;
use crate::time;

/// Takes out what does not count any more, before anything is written: the approval of somebody who takes it
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
        status.plan = Some(next_round(plan, request));
        status.approvals.clear();
    }
}

/// When the first of the counted approvals becomes too old.
pub(super) fn next_lapse(status: &RollbackRequestStatus) -> Option<Timestamp> {
    let valid_for = i64::from(status.plan.as_ref()?.rules.approval_valid_seconds);
    let given = status.approvals.iter().map(|approval| approval.at).min()?;
    Some(time::after(given, valid_for))
}
