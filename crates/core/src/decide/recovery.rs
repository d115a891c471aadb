//! From the revert to the end: the rollout, then the checks.

use jiff::Timestamp;
use rollback_api::status::RolloutStatus;
use rollback_api::{Reason, RollbackRequest, RollbackRequestStatus, Word};

use super::{finish, only_target};
use crate::conditions::Stand;
use crate::health;
use crate::observed::{Deployment, Observed};
use crate::plan::end;
use crate::rollout::{self, Counts, Rollout};
use crate::step::Step;
use crate::text::plain;
use crate::time;

/// Stores that the Deployment has the old template, and from when its time counts.
pub(super) fn reverted(
    deployment: &Deployment,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let timeout = status
        .plan
        .as_ref()
        .map_or(0, |plan| plan.rules.rollout_timeout_seconds);
    if let Some(progress) = status.targets.first_mut() {
        progress.reverted_at = Some(now);
        progress.rollout = Some(RolloutStatus {
            deadline: time::after(now, i64::from(timeout)),
            desired: deployment.desired(),
            updated: 0,
            available: 0,
            completed_at: None,
        });
        // What the Deployment controller says before it has looked at our write is about the bad version.
        if let (true, Some(revert)) = (
            deployment.observed_generation() < deployment.generation(),
            &mut progress.revert,
        ) {
            revert.progressing = deployment.progressing();
        }
    }
    Stand::new(Step::Again, "The old template is in place.")
}

pub(super) fn rolling_out(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let Some((plan, target, progress)) = only_target(status) else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    let until = rollout::wake(&observed.deployment, progress, now);
    let rules = plan.rules.clone();
    match rollout::judge(
        &observed.deployment,
        &observed.replica_sets,
        target,
        progress,
        now,
    ) {
        Rollout::Unknown => Stand::recheck(now, "Reading the Deployment."),
        Rollout::Gone(message) => {
            finish(status, end(Word::Failed, Reason::TargetGone, message, now))
        }
        Rollout::Superseded(message) => finish(
            status,
            end(Word::Superseded, Reason::TemplateChanged, message, now),
        ),
        Rollout::Failed(counts, reason, message) => {
            count(status, counts);
            finish(
                status,
                end(
                    Word::Failed,
                    reason,
                    format!("{message} {}", what_next(request)),
                    now,
                ),
            )
        }
        Rollout::InProgress(counts, message) => {
            count(status, counts);
            Stand::new(Step::Wait { until }, message)
        }
        Rollout::Empty(counts) => {
            count(status, counts);
            let message = "The old template is in place, but the Deployment asks for no replicas, so nothing could show that it is well.";
            finish(
                status,
                end(Word::Succeeded, Reason::Unverified, message, now),
            )
        }
        Rollout::Complete(counts) => {
            count(status, counts);
            if let Some(progress) = status.targets.first_mut() {
                progress.verification = Some(health::begin(&rules, now));
                if let Some(rollout) = &mut progress.rollout {
                    rollout.completed_at = Some(now);
                }
            }
            Stand::new(Step::Again, "Every replica is available.")
        }
    }
}

fn count(status: &mut RollbackRequestStatus, counts: Counts) {
    if let Some(rollout) = status
        .targets
        .first_mut()
        .and_then(|progress| progress.rollout.as_mut())
    {
        rollout.desired = counts.desired;
        rollout.updated = counts.updated;
        rollout.available = counts.available;
    }
}

fn what_next(request: &RollbackRequest) -> String {
    format!(
        "The old template stays in place; the Deployment as it was before is in the backup named in status.targets. Escalate: kubectl describe rbr {} and the pods' own events say more.",
        plain(request.metadata.name.as_deref().unwrap_or_default(), 253)
    )
}

pub(super) fn verifying(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let Some((plan, target, progress)) = only_target(status) else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    let rules = plan.rules.clone();
    match rollout::judge(
        &observed.deployment,
        &observed.replica_sets,
        target,
        progress,
        now,
    ) {
        Rollout::Gone(message) => {
            return finish(status, end(Word::Failed, Reason::TargetGone, message, now));
        }
        Rollout::Superseded(message) => {
            return finish(
                status,
                end(Word::Superseded, Reason::TemplateChanged, message, now),
            );
        }
        Rollout::Unknown
        | Rollout::InProgress(..)
        | Rollout::Complete(_)
        | Rollout::Empty(_)
        | Rollout::Failed(..) => {}
    }
    if rules.http.is_empty() {
        let message = "Rolled back, and every replica is available. The policy defines no checks, so nothing else shows that the old version is well: look yourself.";
        return finish(
            status,
            end(Word::Succeeded, Reason::Unverified, message, now),
        );
    }
    let Some(progress) = status.targets.first_mut() else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    let verification = progress
        .verification
        .get_or_insert_with(|| health::begin(&rules, now));
    health::fold(&rules, verification, &observed.readings);
    match health::verdict(&rules, verification, now) {
        health::Verdict::Checking(message) => {
            let until = Some(health::wake(&rules, verification, now));
            Stand::new(Step::Wait { until }, message)
        }
        health::Verdict::Passed => {
            verification.completed_at = Some(now);
            let message = format!(
                "Rolled back, every replica is available, and {} of {} checks passed.",
                rules.http.len(),
                rules.http.len()
            );
            finish(
                status,
                end(Word::Succeeded, Reason::RolledBack, message, now),
            )
        }
        health::Verdict::Failed(message) => {
            let message = format!(
                "Rolled back, but the old version is not well either: {message}. {}",
                what_next(request)
            );
            finish(
                status,
                end(Word::Failed, Reason::ChecksFailed, message, now),
            )
        }
    }
}
