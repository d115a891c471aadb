//! The finalizer: it is written before anything else, so that whatever is written for a request is taken back, told and
//! reported before the request is gone.

use rollback_api::RollbackRequest;

use crate::execution::step::{Decision, Next, Step};

/// Whether the finalizer has to be written before anything else is done for this request.
pub fn is_due(request: &RollbackRequest) -> bool {
    is_loose(request) && request.metadata.deletion_timestamp.is_none()
}

/// Whether the request goes, and is held by nobody or by somebody else: it is too late to hold it, so nothing is begun.
pub fn is_leaving(request: &RollbackRequest) -> bool {
    is_loose(request) && request.metadata.deletion_timestamp.is_some()
}

fn is_loose(request: &RollbackRequest) -> bool {
    request.outcome().is_none() && !request.holds_finalizer()
}

/// What comes before everything else, if anything does. The status stays as it is.
pub(super) fn first(request: &RollbackRequest) -> Option<Decision> {
    let (steps, next) = if is_due(request) {
        (vec![Step::AddFinalizer], Next::Again)
    } else if is_leaving(request) {
        (Vec::new(), Next::Wait { until: None })
    } else {
        return None;
    };
    Some(Decision {
        status: request.status.clone().unwrap_or_default(),
        steps,
        next,
    })
}
