//! From the failure of the first try to the write of its fallback.

use rollback_api::status::{Intent, PlannedTarget, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequest};

use super::fallback::as_it_is_meant;
use super::recovery::{changed, reverted};
use super::write::{self, denied, intend, is_as_altered, is_in_doubt, same};
use super::{TargetDecision, TargetScope};
use crate::execution::outcome::{Ending, end};
use crate::execution::step::{Step, second_cause};
use crate::observed::Deployment;
use crate::observed::view::RetryingView;

/// The way to the second write.
pub(super) fn retrying(
    scope: TargetScope,
    view: &RetryingView,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let first = scope.target;
    as_it_is_meant(scope, progress, |scope, progress| {
        towards_the_write(scope, view, first, progress)
    })
}

fn towards_the_write(
    scope: TargetScope,
    view: &RetryingView,
    first: &PlannedTarget,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let TargetScope {
        request,
        target,
        now,
        ..
    } = scope;
    let there = same(target, &view.live).filter(|deployment| !deployment.is_deleting());
    let Some(deployment) = there else {
        let message = format!(
            "Deployment {} was deleted before anything else could be tried.",
            target.workload.name
        );
        let ending = end(RequestState::Failed, Reason::TargetGone, message, now);
        return TargetDecision::end(scope, progress, ending);
    };
    let digest = deployment.template().digest();
    // Without an intent somebody else wrote it, and it is theirs.
    if target.is_restored_by(&digest) && progress.revert.is_some() {
        return reverted(scope, deployment, progress);
    }
    if let Some(ending) = overtaken(scope, first, deployment, progress.revert.as_ref(), &digest) {
        return TargetDecision::end(scope, progress, ending);
    }
    if let Some(denied) = denied(&view.access) {
        return give_up(scope, progress, &format!("{denied} any more"));
    }
    // If it is the one that was approved.
    let template = view.template.as_ref();
    let Some(template) = template.filter(|kept| kept.digest() == target.to.digest) else {
        let why = "its template is kept nowhere any more (raise spec.revisionHistoryLimit)";
        return give_up(scope, progress, why);
    };
    let revert = match write::revert(scope, deployment, template, &cause(request, target)) {
        Ok(revert) => revert,
        Err(refusal) => {
            let why = format!("the API server does not take it {refusal}");
            return give_up(scope, progress, &why);
        }
    };
    intend(&mut progress.revert, deployment, scope.own, now);
    let message = format!(
        "Writing the fallback to Deployment {}.",
        target.workload.name
    );
    TargetDecision::take(Step::Revert(revert), message)
}

fn cause(request: &RollbackRequest, target: &PlannedTarget) -> String {
    second_cause(request, target.to.revision, target.source_name())
}

/// Why the Deployment is not what the first try left, so that nothing is written any more.
fn overtaken(
    scope: TargetScope,
    first: &PlannedTarget,
    deployment: &Deployment,
    intent: Option<&Intent>,
    digest: &str,
) -> Option<Ending> {
    let TargetScope { target, now, .. } = scope;
    if !first.is_restored_by(digest) {
        if is_as_altered(scope, deployment, intent) {
            let message = format!(
                "The fallback was written to Deployment {}, but an admission plugin or webhook altered it on its way: look at what runs, and at kubectl get mutatingwebhookconfigurations.",
                target.workload.name
            );
            return Some(end(
                RequestState::Failed,
                Reason::TemplateMutated,
                message,
                now,
            ));
        }
        let message = format!(
            "Somebody changed the pod template of Deployment {} meanwhile. Their change stands, and nothing else is tried.",
            target.workload.name
        );
        return Some(changed(scope, Some(deployment), message));
    }
    is_in_doubt(deployment, intent, scope.own).then(|| {
        let message = format!(
            "Deployment {} was changed several times while the controller was away, and nobody can tell whether the fallback was written and taken back. It is not written once more: look at kubectl rollout history.",
            target.workload.name
        );
        end(RequestState::Superseded, Reason::TemplateChanged, message, now)
    })
}

/// The fallback cannot be tried: it stays with the failure of the first try.
fn give_up(scope: TargetScope, progress: &mut TargetStatus, why: &str) -> TargetDecision {
    let reason = progress
        .fallback
        .as_ref()
        .map_or(Reason::ChecksFailed, |fallback| fallback.reason);
    let message = format!(
        "The fallback was not tried: {why}. The version that was rolled back to stays in place: escalate now."
    );
    TargetDecision::end(
        scope,
        progress,
        end(RequestState::Failed, reason, message, scope.now),
    )
}
