//! From the claim to the one write.

use rollback_api::ledger::Claim;
use rollback_api::status::{Artifact as ArtifactStatus, PlannedTarget, TargetStatus};
use rollback_api::unknown::Unknown;
use rollback_api::{FIELD_MANAGER, Reason, RequestState};

use super::kept::planned_template;
use super::write::{self, intend, ready_to_write};
use super::{TargetDecision, TargetScope, holding, jobs};
use crate::execution::artifact;
use crate::execution::outcome::end;
use crate::execution::step::{Step, cause};
use crate::history::ledger;
use crate::history::ledger::{Holder, takes_over};
use crate::history::quarantine;
use crate::message::text::plain;
use crate::observed::view::{ClaimingView, WritingView};
use crate::observed::{Deployment, Fetched, Rival, TargetView};
use crate::plan::references;

/// Claim, backup, Jobs, intent, patch. A pass that begins in the middle goes on from there.
pub(super) fn writing(
    scope: TargetScope,
    view: &TargetView,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let unread = || TargetDecision::recheck(scope.now, "Reading the Deployment.");
    match view {
        TargetView::Writing(view) => towards_the_write(scope, view, progress),
        TargetView::Claiming(view) => match claiming(scope, view, progress) {
            Ok(_) => unread(),
            Err(decision) => decision,
        },
        TargetView::NotDue
        | TargetView::Failed
        | TargetView::Awaiting(_)
        | TargetView::Written(_)
        | TargetView::RollingOut(_)
        | TargetView::Verifying(_)
        | TargetView::Retrying(_)
        | TargetView::Restoring(_) => unread(),
    }
}

/// The Deployment, once it may be written and the claim on it is ours.
fn claiming<'a>(
    scope: TargetScope,
    view: &'a ClaimingView,
    progress: &mut TargetStatus,
) -> Result<&'a Deployment, TargetDecision> {
    let deployment = ready_to_write(scope, view, progress)?;
    hold_claim(scope, view)?;
    Ok(deployment)
}

fn towards_the_write(
    scope: TargetScope,
    view: &WritingView,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let TargetScope {
        request,
        target,
        now,
        ..
    } = scope;
    let deployment = match claiming(scope, &view.claiming, progress) {
        Ok(deployment) => deployment,
        Err(decision) => return decision,
    };
    let restored = match planned_template(scope, view) {
        Ok(template) => template,
        Err(ending) => return TargetDecision::end(scope, progress, ending),
    };
    if let Some(missing) = references::missing(&view.references) {
        return TargetDecision::end(
            scope,
            progress,
            end(
                RequestState::Refused,
                Reason::ReferenceMissing,
                missing,
                now,
            ),
        );
    }
    let backup = match (&progress.backup, view.backup) {
        (Some(known), _) => known.clone(),
        (None, Some(at)) => ArtifactStatus {
            config_map: artifact::backup_name(request, target.workload.kind, &target.workload.name),
            at,
        },
        (None, None) => {
            let step = Step::BackUp(artifact::backup(request, target, deployment, restored));
            return TargetDecision::take(step, preparing(&target.workload.name));
        }
    };
    progress.backup = Some(backup);
    if progress.revert.is_none()
        && let Some(decision) = jobs::before(scope, &view.job, progress)
    {
        return decision;
    }
    if progress.revert.is_none()
        && let Some(decision) = holding::before(scope, view, progress)
    {
        return decision;
    }
    let cause = cause(request, target.to.revision, target.source_name());
    let revert = match write::revert(scope, deployment, restored, &cause) {
        Ok(revert) => revert,
        Err(refusal) => {
            let message = format!(
                "The API server does not take the old template of Deployment {} {refusal}.",
                target.workload.name
            );
            let ending = end(RequestState::Failed, Reason::PatchRejected, message, now);
            return TargetDecision::end(scope, progress, ending);
        }
    };
    intend(&mut progress.revert, deployment, scope.own, now);
    let again = if scope.own.rejection.is_some() {
        let who = deployment.last_manager(FIELD_MANAGER).map_or_else(
            || "somebody".to_owned(),
            |manager| format!("field manager {}", plain(&manager, 100)),
        );
        format!(
            " The last attempt was refused, because {who} changed the Deployment at the same time. If this goes on, keep them from it."
        )
    } else {
        String::new()
    };
    let message = format!(
        "Writing the old template to Deployment {}.{again}",
        target.workload.name
    );
    TargetDecision::take(Step::Revert(revert), message)
}

/// The same for every step before the write: a status that only says which one would cost a commit.
pub(super) fn preparing(deployment: &str) -> String {
    format!("Approved; claiming and saving Deployment {deployment}.")
}

/// Ok when we hold the claim. One that somebody else holds is taken when they have ended, or when they are less
/// urgent and have not stored their intent to write. Who loses it waits: when the other one has written, that shows
/// in the Deployment; when it is withdrawn, this one goes on.
fn hold_claim(scope: TargetScope, view: &ClaimingView) -> Result<(), TargetDecision> {
    let TargetScope {
        request,
        target,
        now,
        ..
    } = scope;
    let held = view.ledger.as_ref();
    let urgency = scope.plan.rules.urgency;
    let claim = || {
        let running = view.live.deployment.as_ref().map(Deployment::template);
        let quarantined = running
            .filter(|running| running.digest() == target.from.digest)
            .map(|bad| quarantine::entry(held, request, &scope.plan.rules, target, &bad, now));
        let next = ledger::claimed(held, request, urgency, target, quarantined);
        let step = Step::Claim(next);
        Err(TargetDecision::take(step, preparing(&target.workload.name)))
    };
    let other = match ledger::holder(held, &target.workload.uid, scope.uid()) {
        Holder::Us => return Ok(()),
        Holder::Nobody => return claim(),
        Holder::Other(other) => other,
    };
    match &view.rival {
        Fetched::Absent
        | Fetched::Found(Rival {
            active: false,
            unknown: None,
            ..
        }) => claim(),
        Fetched::Found(rival) if can_be_overtaken(rival) && takes_over(urgency, other) => claim(),
        rival @ (Fetched::Found(_) | Fetched::Unknown) => {
            let unknown = rival.found().and_then(|rival| rival.unknown.as_ref());
            Err(TargetDecision::wait(
                Some(crate::time::after(now, 60)),
                waiting_for(other, target, unknown),
            ))
        }
    }
}

/// Before it has written; of one that only a newer controller understands nobody knows.
fn can_be_overtaken(rival: &Rival) -> bool {
    !rival.committed && rival.unknown.is_none()
}

fn waiting_for(holder: &Claim, target: &PlannedTarget, unknown: Option<&Unknown>) -> String {
    let name = plain(&holder.request, 253);
    let deployment = &target.workload.name;
    match unknown {
        None => {
            format!("Waiting for RollbackRequest {name}, which works on Deployment {deployment}.")
        }
        Some(unknown) => format!(
            "Waiting for RollbackRequest {name}, which holds the claim on Deployment {deployment}. A newer version of the \
             controller has written its status, and this one does not know {}, so it leaves it alone. Run the newer version, \
             or delete {name} and look at what {deployment} runs.",
            plain(&unknown.to_string(), 500)
        ),
    }
}
