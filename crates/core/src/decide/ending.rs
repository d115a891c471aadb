//! After the end: what is still owed.

use jiff::Timestamp;
use rollback_api::ledger::Rollback;
use rollback_api::status::{
    Artifact as ArtifactStatus, Effect, PlannedTarget, Rules, TargetStatus,
};
use rollback_api::{FIELD_MANAGER, Reason, RequestState, RollbackRequest, RollbackRequestStatus};
use serde_json::json;

use super::{capacity, fallback};
use crate::approval::consent;
use crate::execution::phase::result;
use crate::execution::step::{Next, Revert, Step};
use crate::history::ledger;
use crate::history::ledger::Holder;
use crate::observed::view::{EndedTarget, EndedView};
use crate::plan::uid;
use crate::report;
use crate::report::conditions::RequestDecision;

/// What is owed after the end: the report, the ownership of fields, the claims, the finalizer, in this order.
pub(super) fn winding_up(
    request: &RollbackRequest,
    view: &EndedView,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> RequestDecision {
    let message = status
        .outcome
        .as_ref()
        .map_or_else(String::new, |outcome| outcome.message.clone());
    if let EndedView::GivingBack(capacity) = view
        && let Some(decision) = capacity::give_back(capacity, status, &message, now)
    {
        return decision;
    }
    if let Some(report) = report::is_due(request, status)
        .then(|| report::incident(request, status))
        .flatten()
    {
        let EndedView::WindingUp {
            incident: Some(at), ..
        } = view
        else {
            return RequestDecision::take(vec![Step::Publish(report)], message);
        };
        status.incident = Some(ArtifactStatus {
            config_map: report.name,
            at: *at,
        });
    }
    let Some(plan) = status.plan.as_ref() else {
        return last(request, message);
    };
    // A claim that we may still hold must not be forgotten.
    let EndedView::WindingUp { targets, .. } = view else {
        return RequestDecision::recheck(now, message);
    };
    if targets.len() < plan.targets.len() {
        return RequestDecision::recheck(now, message);
    }
    let read = plan.targets.iter().zip(&status.targets).zip(targets);
    let steps: Vec<Step> = read
        .filter_map(|((target, progress), seen)| {
            let rules = consent::rules(status, progress).unwrap_or(&plan.rules);
            disown(rules, target, progress, seen)
                .or_else(|| release(request, rules, target, progress, seen, now))
        })
        .collect();
    if steps.is_empty() {
        last(request, message)
    } else {
        RequestDecision::take(steps, message)
    }
}

fn last(request: &RollbackRequest, message: String) -> RequestDecision {
    let steps = if request.holds_finalizer() {
        vec![Step::DropFinalizer]
    } else {
        Vec::new()
    };
    RequestDecision {
        next: Next::Done,
        ..RequestDecision::take(steps, message)
    }
}

/// Gives the claim back, if we hold it, and remembers the rollback, if one was begun. The claim may have been taken
/// over at the last moment; what was done has to be remembered all the same.
fn release(
    request: &RollbackRequest,
    rules: &Rules,
    target: &PlannedTarget,
    progress: &TargetStatus,
    seen: &EndedTarget,
    now: Timestamp,
) -> Option<Step> {
    // What was tried last is what the rollback went to.
    let meant = fallback::target(target, progress);
    let held = seen.ledger.as_ref();
    let ours = ledger::holder(held, &target.workload.uid, uid(request)) == Holder::Us;
    let outcome = result(progress);
    // Ended right after the intent: the write may have been made and overwritten before anybody looked, or may
    // still be on its way. Remembering it once too often does nothing; forgetting it could do it again.
    let perhaps = progress
        .revert
        .as_ref()
        .filter(|_| {
            outcome.is_some_and(|outcome| {
                outcome.reason != Reason::PatchRejected || outcome.effect != Effect::None
            })
        })
        .map(|revert| revert.intended_at);
    let known = ledger::current(held, &target.workload.uid).is_some_and(|ledger| {
        ledger
            .rollbacks
            .iter()
            .any(|rollback| rollback.request_uid == uid(request))
    });
    let begun = progress.begun.as_ref();
    let rollback = progress
        .reverted_at
        .or(perhaps)
        .zip(outcome)
        .filter(|_| begun.is_some() && !known)
        // Of a ledger that is gone, or of another Deployment, nothing is owed.
        .filter(|_| ours || ledger::current(held, &target.workload.uid).is_some())
        .map(|(at, outcome)| Rollback {
            request: request.metadata.name.clone().unwrap_or_default(),
            request_uid: uid(request).to_owned(),
            spec_digest: ledger::spec_digest(request),
            from_digest: target.from.digest.clone(),
            to_digest: meant.restored_digest().to_owned(),
            at,
            outcome: outcome.result,
            automatic: begun.is_some_and(|begun| begun.automatic),
            verified: outcome.reason == Reason::RolledBack,
        });
    // A hold of a request that rolled nothing back is not kept, whoever has the claim by now.
    let keeps_away = !known && ledger::holds_for(held, uid(request));
    if !ours && rollback.is_none() && !keeps_away {
        return None;
    }
    Some(Step::Release(ledger::released(
        held,
        &meant,
        (
            request.metadata.name.as_deref().unwrap_or_default(),
            uid(request),
        ),
        rollback,
        &unwell(target, &meant, progress),
        rules.ledger.quarantine_seconds,
        now,
    )))
}

/// Digests of the templates of which a check said that they are not well.
fn unwell(target: &PlannedTarget, meant: &PlannedTarget, progress: &TargetStatus) -> Vec<String> {
    let failed = |reason: Reason| reason == Reason::ChecksFailed;
    let first = progress
        .fallback
        .as_ref()
        .filter(|fallback| failed(fallback.reason))
        .map(|_| target.restored_digest().to_owned());
    // That the fallback could not be tried says nothing about it.
    let judged = progress
        .fallback
        .as_ref()
        .is_none_or(|fallback| fallback.verification.is_some());
    let last = progress
        .outcome
        .as_ref()
        .filter(|outcome| judged && failed(outcome.reason))
        .map(|_| meant.restored_digest().to_owned());
    first.into_iter().chain(last).collect()
}

/// Gives up the ownership of the fields that the revert wrote, so that a later server-side apply of their owner meets
/// no conflict. The last entry is left: without any, the API server would make one up.
fn disown(
    rules: &Rules,
    target: &PlannedTarget,
    progress: &TargetStatus,
    seen: &EndedTarget,
) -> Option<Step> {
    let wanted = rules.rollout.release_ownership
        && result(progress).is_some_and(|outcome| outcome.result == RequestState::Succeeded)
        && progress.reverted_at.is_some();
    let deployment = seen.deployment.as_ref().filter(|_| wanted)?;
    if deployment.uid() != target.workload.uid {
        return None;
    }
    let managers = deployment
        .0
        .pointer("/metadata/managedFields")?
        .as_array()?;
    let ours = managers
        .iter()
        .position(|entry| entry["manager"] == FIELD_MANAGER)?;
    if managers.len() == 1 {
        return None;
    }
    let version = deployment.0.pointer("/metadata/resourceVersion")?;
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "test", "path": format!("/metadata/managedFields/{ours}/manager"), "value": FIELD_MANAGER},
        {"op": "remove", "path": format!("/metadata/managedFields/{ours}")},
    ]);
    // Refused as it is, it would be refused again.
    let refused = seen
        .rejection
        .as_ref()
        .is_some_and(|last| last.patch == patch);
    (!refused).then(|| {
        Step::Disown(Revert {
            workload: target.workload.clone(),
            patch,
        })
    })
}
