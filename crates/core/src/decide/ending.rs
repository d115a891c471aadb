//! After the end: what is still owed.

use jiff::Timestamp;
use rollback_api::ledger::Rollback;
use rollback_api::status::Artifact as ArtifactStatus;
use rollback_api::{RollbackRequest, RollbackRequestStatus, Word};

use super::{only_target, uid};
use crate::conditions::Stand;
use crate::ledger::Holder;
use crate::observed::{Observed, Seen};
use crate::step::Step;
use crate::{ledger, report};

/// What is owed after the end: the report, the claim, the finalizer, in this order.
pub(super) fn winding_up(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let message = status
        .outcome
        .as_ref()
        .map_or_else(String::new, |outcome| outcome.message.clone());
    if status.incident.is_none()
        && let Some(report) = report::incident(request, status)
    {
        match observed.incident {
            Seen::Unknown | Seen::Absent => return Stand::new(Step::Publish(report), message),
            Seen::Found(at) => {
                status.incident = Some(ArtifactStatus {
                    config_map: report.name,
                    at,
                });
            }
        }
    }
    // A claim that we may still hold must not be forgotten.
    if observed.ledger == Seen::Unknown && only_target(status).is_some() {
        return Stand::recheck(now, message);
    }
    if let Some(step) = release(request, observed, status) {
        return Stand::new(step, message);
    }
    Stand::new(
        if request.holds_finalizer() {
            Step::DropFinalizer
        } else {
            Step::Done
        },
        message,
    )
}

/// Gives the claim back, if we hold it.
fn release(
    request: &RollbackRequest,
    observed: &Observed,
    status: &RollbackRequestStatus,
) -> Option<Step> {
    let (_, target, progress) = only_target(status)?;
    let held = observed.ledger.found();
    if ledger::holder(held, &target.uid, uid(request)) != Holder::Us {
        return None;
    }
    let outcome = status.outcome.as_ref();
    // Superseded right after the intent: the write may have been made and overwritten before anybody
    // looked. Remembering it once too often does nothing; forgetting it could do it again.
    let perhaps = progress
        .revert
        .as_ref()
        .filter(|_| outcome.is_some_and(|outcome| outcome.word == Word::Superseded))
        .map(|revert| revert.intended_at);
    let rollback = progress
        .reverted_at
        .or(perhaps)
        .zip(outcome)
        .map(|(at, outcome)| Rollback {
            request: request.metadata.name.clone().unwrap_or_default(),
            request_uid: uid(request).to_owned(),
            spec_digest: ledger::spec_digest(request),
            from_digest: target.from_digest.clone(),
            to_digest: target.to_digest.clone(),
            at,
            outcome: outcome.word,
        });
    Some(Step::Release {
        deployment: target.name.clone(),
        ledger: ledger::released(held, target, rollback),
    })
}
