//! What has to hold from the plan to the moment of the revert.

use jiff::Timestamp;
use rollback_api::status::{Plan, PlannedTarget, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequest, RollbackRequestStatus};

use super::recovery::reverted;
use super::write::{is_as_altered, is_in_doubt, same, was_never_made};
use super::{TargetDecision, TargetScope};
use crate::approval::consent;
use crate::execution::outcome::{Ending, effect_of, end};
use crate::execution::phase::{TargetPhase, due};
use crate::history::ledger::{self, Holder};
use crate::message::text::plain;
use crate::observed::view::{Terms, WorkingView};
use crate::observed::{Deployment, ReplicaSet, TargetView};
use crate::plan;
use crate::plan::uid;
use crate::report::conditions::RequestDecision;

/// Where a Deployment stands between the plan and the revert.
enum Before<'a> {
    /// Not read.
    Unknown,
    /// As planned.
    AsPlanned,
    /// It has the old template already, whoever wrote it.
    Reverted(&'a Deployment),
    /// Our write is in its past, and somebody has written another template since.
    WrittenAndChanged(&'a Deployment),
    /// Nothing can be done for the plan any more.
    Over(Box<Ending>),
}

impl Before<'_> {
    fn over(ending: Ending) -> Self {
        Self::Over(Box::new(ending))
    }
}

/// What stands on the Deployment or on a `ReplicaSet` tells which write of ours it was, once it is known that there may
/// be one; it never shows that there was any.
fn before_revert<'a>(
    scope: TargetScope,
    view: &'a TargetView,
    progress: &TargetStatus,
) -> Before<'a> {
    let intent = progress.revert.as_ref();
    let TargetScope {
        request,
        target,
        own,
        now,
        ..
    } = scope;
    let Some(live) = view.live() else {
        return Before::Unknown;
    };
    let Some(deployment) = same(target, live) else {
        let what = format!(
            "Deployment {} was deleted, or deleted and made again, since the plan was made.",
            target.workload.name
        );
        return Before::over(
            end(RequestState::Failed, Reason::TargetGone, what, now)
                .next("Create a new request if there is still something to roll back."),
        );
    };
    let digest = deployment.template().digest();
    if target.is_restored_by(&digest) {
        return Before::Reverted(deployment);
    }
    if is_as_altered(scope, deployment, intent) {
        return Before::over(mutated(target, now));
    }
    // Once more after our write, if there was one: an intent says that it can only have been the next one.
    // Without an intent that stands, nothing is ours that nobody saw in time: it was forgotten when approvals became void.
    let possible = consent::may_have_written(progress, deployment)
        && intent.is_some_and(|intent| deployment.generation() > intent.generation + 1);
    let ours = possible && deployment.was_reverted_by(uid(request));
    let witness = |set: &ReplicaSet| {
        set.controller_uid() == Some(&target.workload.uid) && set.was_restored_by(uid(request))
    };
    if ours || (possible && planned_set(view).is_some_and(witness)) {
        Before::WrittenAndChanged(deployment)
    } else if digest != target.from.digest {
        let intended = intent.is_some() || was_never_made(progress, own);
        Before::over(overtaken(scope, view, &digest, intended))
    } else if is_in_doubt(deployment, intent, own) {
        Before::over(in_doubt(scope))
    } else {
        Before::AsPlanned
    }
}

/// The `ReplicaSet` that the plan names, where it was read.
fn planned_set(view: &TargetView) -> Option<&ReplicaSet> {
    match view {
        TargetView::Writing(view) => view.planned_set.as_ref(),
        TargetView::NotDue
        | TargetView::Failed
        | TargetView::Awaiting(_)
        | TargetView::Written(_)
        | TargetView::Claiming(_)
        | TargetView::RollingOut(_)
        | TargetView::Verifying(_)
        | TargetView::Retrying(_)
        | TargetView::Restoring(_) => None,
    }
}

/// The write came through, but what is stored is not what was written: exactly one write lies
/// between, and it was ours.
fn mutated(target: &PlannedTarget, now: Timestamp) -> Ending {
    end(
        RequestState::Failed,
        Reason::TemplateMutated,
        format!(
            "The old template was written to Deployment {}, but an admission plugin or webhook altered it on its way in a manner that the plan did not know. What runs now is neither the bad version nor the one that was approved: look at it, and at kubectl get mutatingwebhookconfigurations.",
            target.workload.name
        ),
        now,
    )
}

/// Nobody can tell whether our write was made, so it is not made again.
fn in_doubt(scope: TargetScope) -> Ending {
    end(
        RequestState::Superseded,
        Reason::TemplateChanged,
        format!(
            "Deployment {} was changed several times while the controller was away with its write under way, and nobody can tell whether the old template was written and taken back. It is not written again without being asked: look at kubectl rollout history, and create a new request.",
            scope.target.workload.name
        ),
        scope.now,
    )
}

/// Somebody else changed the template: another request, which is named, or a person.
fn overtaken(scope: TargetScope, view: &TargetView, digest: &str, intended: bool) -> Ending {
    let TargetScope { target, now, .. } = scope;
    if let Some(winner) = winner(scope, view, digest) {
        return end(
            RequestState::Superseded,
            Reason::RolledBackByAnother,
            format!(
                "RollbackRequest {winner} rolled Deployment {} back first, so what this plan calls bad does not run any more.",
                target.workload.name
            ),
            now,
        )
        .next("Look at its outcome before you create another request.");
    }
    let reason = if intended {
        Reason::TemplateChanged
    } else {
        Reason::NotLive
    };
    end(
        RequestState::Superseded,
        reason,
        format!(
            "Somebody deployed another version of {} since the plan was made, so what the plan calls bad does not run any more.",
            target.workload.name
        ),
        now,
    )
    .next("Create a new request if the new version has to be rolled back too.")
}

/// The request that brought this template, or that works on the Deployment now: as the ledger says, which nobody else
/// can write.
fn winner(scope: TargetScope, view: &TargetView, digest: &str) -> Option<String> {
    let held = view.ledger();
    let name = match ledger::brought_by(held, &scope.target.workload.uid, digest) {
        Some(rollback) => &rollback.request,
        None => match ledger::holder(held, &scope.target.workload.uid, scope.uid()) {
            Holder::Other(claim) => &claim.request,
            Holder::Nobody | Holder::Us => return None,
        },
    };
    Some(plain(name, 253))
}

/// Looks at every target that was not written yet: some may have ended meanwhile, some may have been
/// written by a pass that did not live to say so.
pub(super) fn look_at_unwritten(
    request: &RollbackRequest,
    view: &WorkingView,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Vec<TargetDecision> {
    let needed = due(plan, status, request.rollout().parallelism);
    let mut decisions = Vec::new();
    for (index, target) in plan.targets.iter().enumerate() {
        let Some(progress) = status.targets.get(index) else {
            continue;
        };
        if TargetPhase::of(status, progress).is_written() {
            continue;
        }
        let seen = view.target(index);
        let scope = TargetScope {
            request,
            plan,
            target,
            own: seen.own(),
            now,
        };
        let before = before_revert(scope, seen, progress);
        let progress = &mut status.targets[index];
        match before {
            Before::Unknown if needed.contains(&index) => {
                decisions.push(TargetDecision::recheck(now, "Reading the Deployment."));
            }
            Before::Unknown | Before::AsPlanned => {}
            Before::Over(ending) => {
                if ending.reason == Reason::TemplateMutated {
                    progress.reverted_at = Some(now);
                }
                decisions.push(TargetDecision::end(scope, progress, *ending));
            }
            Before::WrittenAndChanged(deployment) => {
                decisions.push(reverted(scope, deployment, progress));
            }
            Before::Reverted(deployment) => {
                decisions.push(already_reverted(scope, seen, deployment, progress));
            }
        }
    }
    decisions
}

/// Whether the plan is still the one that was approved.
pub(super) fn revalidate(
    request: &RollbackRequest,
    view: &WorkingView,
    terms: &Terms,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Result<(), RequestDecision> {
    let Some(plan) = status.plan.as_ref() else {
        return Err(RequestDecision::again("The plan is missing."));
    };
    if let Some(renewed) = plan::renewed(plan, request, terms, now) {
        void_approvals(view, status, Some(renewed));
        return Err(RequestDecision::again(
            "The policy or the admission policies changed, so the plan has a new digest and earlier approvals are void.",
        ));
    }
    Ok(())
}

/// Whether approvals are worth anything now.
pub(super) fn guarded(
    view: &WorkingView,
    terms: &Terms,
    status: &mut RollbackRequestStatus,
) -> Result<(), RequestDecision> {
    if terms.guard.holes.is_empty() {
        return Ok(());
    }
    void_approvals(view, status, None);
    Err(RequestDecision::again(
        "The admission policies are not all in force, so earlier approvals are void.",
    ))
}

/// Back to waiting for people, who may also let the request expire; `next` takes the place of the plan.
pub(super) fn void_approvals(
    view: &WorkingView,
    status: &mut RollbackRequestStatus,
    next: Option<Plan>,
) {
    if let Some(next) = next {
        consent::replace(status, next);
    }
    consent::revoke(status);
    forget_intents(view, status);
}

/// When approvals were void, what was written stays so, and an intent that was not carried out is forgotten once the
/// Deployment has been read: one that cannot be read may have been written.
pub(super) fn forget_intents(view: &WorkingView, status: &mut RollbackRequestStatus) {
    let decision: Vec<bool> = status
        .targets
        .iter()
        .map(|progress| consent::stands(status, progress))
        .collect();
    for (index, (progress, stands)) in status.targets.iter_mut().zip(decision).enumerate() {
        let is_read = view.target(index).live().is_some();
        // What has ended is told and remembered by its intent.
        let is_open = progress.outcome.is_none() && progress.reverted_at.is_none();
        if is_read && !stands && is_open {
            progress.revert = None;
        }
    }
}

/// The Deployment has the old template. Either a pass of ours wrote it, upon an intent that still stands, and did not
/// live to say so; or somebody was faster: then the request has rolled back nothing, and says who has, as far as the
/// object tells.
fn already_reverted(
    scope: TargetScope,
    view: &TargetView,
    deployment: &Deployment,
    progress: &mut TargetStatus,
) -> TargetDecision {
    if consent::is_begun(progress) && progress.revert.is_some() {
        return reverted(scope, deployment, progress);
    }
    let winner = winner(scope, view, scope.target.restored_digest());
    let reason = if winner.is_some() {
        Reason::RolledBackByAnother
    } else {
        Reason::NotLive
    };
    let who = winner.map_or_else(
        || {
            deployment.template_manager("").map_or_else(
                || "somebody else".to_owned(),
                |manager| format!("somebody else (field manager {})", plain(&manager, 100)),
            )
        },
        |winner| format!("RollbackRequest {winner}"),
    );
    let signed = deployment.was_reverted_by(scope.uid());
    let mark = match (consent::is_begun(progress), signed) {
        (false, false) => "",
        (false, true) => {
            " The annotation kubernetes.io/change-cause names this request, which did not write it: anybody can write that."
        }
        (true, false) => " This request had begun, and its approvals became void.",
        (true, true) => {
            " The annotation kubernetes.io/change-cause names this request, whose approvals became void before anything was seen to be changed: either its write was late, or somebody copied that. Nothing more is written."
        }
    };
    let what = format!(
        "Deployment {} already has the template that was asked for; {who} was faster.{mark}",
        deployment.name()
    );
    // An answer may have been lost: then our first attempt came through, and the refusal of the second shows nothing.
    let effect = effect_of(progress, false);
    let ending = end(RequestState::Superseded, reason, what, scope.now);
    TargetDecision::end_with(progress, ending.with(effect))
}
