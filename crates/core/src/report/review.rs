//! Whether somebody still has to review an incident, and by when.

use jiff::Timestamp;
use rollback_api::{REVIEWED_BY, RollbackRequest};

use crate::message::shell;
use crate::message::text::plain;
use crate::report;
use crate::report::notice::Notice;

/// Longest name that is repeated.
const NAME_LIMIT: usize = 253;

/// By when the incident of this request has to be reviewed: none when there is none, or when it has been.
pub fn due(request: &RollbackRequest) -> Option<Timestamp> {
    let status = request.status.as_ref()?;
    let annotations = request.metadata.annotations.as_ref();
    let by = annotations.and_then(|all| all.get(REVIEWED_BY));
    let is_reviewed = by.is_some_and(|by| !by.trim().is_empty());
    if request.spec.dry_run || is_reviewed || status.incident.is_none() {
        return None;
    }
    Some(report::review_due(
        status.plan.as_ref()?,
        status.outcome.as_ref()?,
    ))
}

/// Whether that time is over.
pub fn is_overdue(request: &RollbackRequest, now: Timestamp) -> bool {
    due(request).is_some_and(|due| due <= now)
}

/// What is told then, once.
pub fn reminder(request: &RollbackRequest, now: Timestamp) -> Option<Notice> {
    let due = due(request).filter(|due| *due <= now)?;
    let incident = request.status.as_ref()?.incident.as_ref()?;
    let name = shell::name(request.metadata.name.as_deref()?, "REQUEST");
    let namespace = shell::name(request.metadata.namespace.as_deref()?, "NAMESPACE");
    Some(Notice {
        at: now,
        warning: true,
        reason: "ReportReminder",
        action: "Review",
        note: format!(
            "The incident in ConfigMap {} should have been reviewed by {}, and nobody has said that it was. Read it, hold the review, \
             then: kubectl annotate rbr {name} -n {namespace} {REVIEWED_BY}='YOUR-USER-NAME'",
            plain(&incident.config_map, NAME_LIMIT),
            crate::time::stamp(due),
        ),
        key: Some("review".to_owned()),
    })
}
