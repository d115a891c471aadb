//! From the revert to the end of a target: the rollout, the checks, and a while of watching.

use rollback_api::status::{
    CauseKind, FallbackWhen, Finding, RolloutStatus, Source, TargetStatus, VerificationStatus,
};
use rollback_api::{FIELD_MANAGER, Reason, RequestState, RollbackRequest};

use super::{TargetDecision, TargetScope, fallback, jobs, remedies};
use crate::execution::outcome::{Ending, end};
use crate::execution::phase::FEW;
use crate::health;
use crate::health::rollout::{self, Counts, Rollout};
use crate::message::shell;
use crate::message::text::plain;
use crate::observed::Deployment;
use crate::observed::view::{Brought, RollingOutView, Signs, VerifyingView};
use crate::time;

/// How often it is looked for trouble that nothing announces.
const UNWATCHED_SECONDS: i64 = 5;

/// Stores that the Deployment has the old template, and from when its time counts.
pub(super) fn reverted(
    scope: TargetScope,
    deployment: &Deployment,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let now = scope.now;
    progress.reverted_at = Some(now);
    progress.rollout = Some(RolloutStatus {
        deadline: time::after(now, i64::from(scope.plan.rules.rollout.timeout_seconds)),
        desired_at_revert: Some(deployment.desired()),
        most_available: None,
        progressed_at: None,
        desired: deployment.desired(),
        updated: 0,
        available: 0,
        cause: None,
        completed_at: None,
    });
    // What the Deployment controller says before it has looked at our write is about the bad version.
    if let (true, Some(revert)) = (
        deployment.observed_generation() < deployment.generation(),
        &mut progress.revert,
    ) {
        revert.progressing = deployment.progressing();
    }
    TargetDecision::again("The old template is in place.")
}

pub(super) fn rolling_out(
    scope: TargetScope,
    view: &RollingOutView,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let now = scope.now;
    let deployment = view.brought.live.deployment.as_ref();
    rollout::note_progress(&view.brought, progress, now);
    match judge(scope, &view.brought, &view.signs, progress) {
        Rollout::Gone(message) => TargetDecision::end(
            scope,
            progress,
            end(RequestState::Failed, Reason::TargetGone, message, now),
        ),
        Rollout::Superseded(message) => {
            let outcome = changed(scope, deployment, message);
            TargetDecision::end(scope, progress, outcome)
        }
        Rollout::Failed(counts, reason, message) => {
            count(progress, counts);
            if let Some(decision) = pulled_from_elsewhere(scope, progress, reason, &message) {
                return decision;
            }
            let message = format!("{message} {}", what_next(scope.request));
            TargetDecision::end(
                scope,
                progress,
                end(RequestState::Failed, reason, message, now),
            )
        }
        Rollout::InProgress(counts, message) => {
            count(progress, counts);
            let until = rollout::wake(deployment, progress, &scope.plan.rules, now);
            let soon = is_unwatched(scope).then(|| time::after(now, UNWATCHED_SECONDS));
            let decision = TargetDecision::wait(until.into_iter().chain(soon).min(), message);
            remedies::force_delete(scope, view.leaving.as_ref(), progress, decision)
        }
        Rollout::Empty(counts) => {
            count(progress, counts);
            let message = "The old template is in place, but the Deployment asks for no replicas, so nothing could show that it is well.";
            TargetDecision::end(
                scope,
                progress,
                end(RequestState::Succeeded, Reason::Unverified, message, now),
            )
        }
        Rollout::Complete(counts) => {
            count(progress, counts);
            let (ledger, pods) = (view.ledger.as_ref(), &view.signs.pods);
            for warning in rollout::moved_tags(ledger, pods, scope.target) {
                remedies::warn(progress, warning);
            }
            progress.verification = Some(health::begin(&scope.plan.rules, now));
            if let Some(rollout) = &mut progress.rollout {
                rollout.cause = None;
                rollout.completed_at = Some(now);
            }
            TargetDecision::again("Every replica is available.")
        }
    }
}

/// An image that cannot be pulled: an image that is known to be good, if the plan has one.
fn pulled_from_elsewhere(
    scope: TargetScope,
    progress: &mut TargetStatus,
    reason: Reason,
    message: &str,
) -> Option<TargetDecision> {
    let cause = progress
        .rollout
        .as_ref()
        .and_then(|rollout| rollout.cause.as_ref());
    cause.filter(|cause| cause.kind == CauseKind::ImagePull)?;
    fallback::begin(scope, progress, FallbackWhen::ImagePull, reason, message)
}

/// Whether trouble may come that nothing announces: the pods of a version without a known `ReplicaSet` are not
/// watched, nor are those of many Deployments, nor the events about them.
fn is_unwatched(scope: TargetScope) -> bool {
    let TargetScope { plan, target, .. } = scope;
    target.source != Source::ReplicaSet
        || target.stored_digest.is_some()
        || plan.targets.len() > FEW
}

fn judge(
    scope: TargetScope,
    brought: &Brought,
    signs: &Signs,
    progress: &mut TargetStatus,
) -> Rollout {
    if let Some(cause) = rollout::cause(brought, signs, progress, scope.now)
        && let Some(rollout) = &mut progress.rollout
    {
        rollout.cause = cause;
    }
    remedies::tell_of_logs(scope, signs.last_log.as_ref(), progress);
    rollout::judge(
        brought,
        scope.target,
        progress,
        &scope.plan.rules,
        scope.now,
    )
}

/// Somebody wrote another template after ours. When it is the bad one again, who did it is worth knowing: they will
/// probably do it again.
pub(super) fn changed(
    scope: TargetScope,
    deployment: Option<&Deployment>,
    message: String,
) -> Ending {
    let back =
        deployment.filter(|deployment| deployment.template().digest() == scope.target.from.digest);
    let Some(deployment) = back else {
        return end(
            RequestState::Superseded,
            Reason::TemplateChanged,
            message,
            scope.now,
        );
    };
    let who = deployment.template_manager(FIELD_MANAGER).map_or_else(
        || "Somebody".to_owned(),
        |manager| format!("Field manager {}", plain(&manager, 100)),
    );
    end(
        RequestState::Failed,
        Reason::Overwritten,
        format!(
            "{who} brought the bad version of Deployment {} back after it was rolled back. Stop whoever does that (CI, Argo CD, Flux or a person), then create a new request.",
            scope.target.workload.name
        ),
        scope.now,
    )
}

fn count(progress: &mut TargetStatus, counts: Counts) {
    if let Some(rollout) = &mut progress.rollout {
        rollout.desired = counts.desired;
        rollout.updated = counts.updated;
        rollout.available = counts.available;
    }
}

fn what_next(request: &RollbackRequest) -> String {
    format!(
        "The old template stays in place; the Deployment as it was before is in the backup named in status.targets. Escalate: kubectl describe rbr {} and the pods' own events say more.",
        shell::name(
            request.metadata.name.as_deref().unwrap_or_default(),
            "REQUEST"
        )
    )
}

pub(super) fn verifying(
    scope: TargetScope,
    view: &VerifyingView,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let TargetScope { plan, now, .. } = scope;
    let rules = &plan.rules;
    match judge(scope, &view.brought, &Signs::default(), progress) {
        Rollout::Gone(message) => {
            return TargetDecision::end(
                scope,
                progress,
                end(RequestState::Failed, Reason::TargetGone, message, now),
            );
        }
        Rollout::Superseded(message) => {
            let outcome = changed(scope, view.brought.live.deployment.as_ref(), message);
            return TargetDecision::end(scope, progress, outcome);
        }
        Rollout::InProgress(..)
        | Rollout::Complete(_)
        | Rollout::Empty(_)
        | Rollout::Failed(..) => {}
    }
    let mut verification = progress
        .verification
        .take()
        .unwrap_or_else(|| health::begin(rules, now));
    let waiting = checking(scope, view, progress, &mut verification);
    let end = well(scope, &verification);
    let soaked = verification.completed_at.map_or(now, |at| {
        time::after(at, i64::from(rules.verification.soak_seconds))
    });
    progress.verification = Some(verification);
    if let Some(decision) = waiting {
        return decision;
    }
    if now < soaked {
        let message = format!(
            "Every replica is available and the checks passed; it is watched until {}.",
            time::stamp(soaked)
        );
        return TargetDecision::wait(Some(soaked), message);
    }
    jobs::after(scope, &view.job, progress)
        .unwrap_or_else(|| TargetDecision::end(scope, progress, end))
}

/// The checks, until all of them have passed: none then.
fn checking(
    scope: TargetScope,
    view: &VerifyingView,
    progress: &mut TargetStatus,
    verification: &mut VerificationStatus,
) -> Option<TargetDecision> {
    let TargetScope { plan, now, .. } = scope;
    let rules = &plan.rules;
    if verification.completed_at.is_some() {
        return None;
    }
    health::fold(rules, verification, &view.readings);
    let smoke = jobs::smoke(scope, &view.job, progress);
    if smoke
        .as_ref()
        .is_some_and(|decision| decision.step.is_some())
    {
        return smoke;
    }
    health::fold_jobs(rules, verification, &progress.jobs);
    match health::verdict(rules, verification, now) {
        health::ChecksResult::Checking(message) => {
            let decision =
                TargetDecision::wait(Some(health::wake(rules, verification, now)), message);
            let next = smoke.map_or(decision.next, |smoke| decision.next.or(smoke.next));
            Some(TargetDecision { next, ..decision })
        }
        health::ChecksResult::Failed(message) => Some(unwell(scope, progress, &message)),
        health::ChecksResult::Unknown(message) => Some(unsure(scope, progress, &message)),
        health::ChecksResult::Passed => {
            verification.completed_at = Some(now);
            None
        }
    }
}

/// The old version is up, and a check says that it is not well.
fn unwell(scope: TargetScope, progress: &mut TargetStatus, checks: &str) -> TargetDecision {
    let reason = Reason::ChecksFailed;
    let message = format!("Rolled back, but the old version is not well either: {checks}.");
    let older = fallback::begin(scope, progress, FallbackWhen::Unwell, reason, &message);
    older.unwrap_or_else(|| {
        let message = format!("{message} {}", what_next(scope.request));
        TargetDecision::end(
            scope,
            progress,
            end(RequestState::Failed, reason, message, scope.now),
        )
    })
}

/// The old version is up, and whether it is well could not be told. Nothing is done by itself about what is not known.
fn unsure(scope: TargetScope, progress: &mut TargetStatus, checks: &str) -> TargetDecision {
    let message = format!(
        "Rolled back, and every replica is available, but whether the old version is well could not be told in time: {checks}. {}",
        what_next(scope.request)
    );
    TargetDecision::end(
        scope,
        progress,
        end(
            RequestState::Failed,
            Reason::HealthUnknown,
            message,
            scope.now,
        ),
    )
}

fn well(scope: TargetScope, verification: &VerificationStatus) -> Ending {
    let checks = verification.checks.len();
    let passed = verification
        .checks
        .iter()
        .filter(|check| check.finding == Finding::Pass)
        .count();
    if checks == 0 {
        let message = "Rolled back, and every replica is available. The policy defines no checks, so nothing else shows that the old version is well: look yourself.";
        return end(
            RequestState::Succeeded,
            Reason::Unverified,
            message,
            scope.now,
        );
    }
    let message =
        format!("Rolled back, every replica is available, and {passed} of {checks} checks passed.");
    end(
        RequestState::Succeeded,
        Reason::RolledBack,
        message,
        scope.now,
    )
}
