//! What has to hold from the plan to the moment of the revert.

use jiff::Timestamp;
use rollback_api::status::{Outcome, PlannedTarget};
use rollback_api::{Reason, RollbackRequest, RollbackRequestStatus, Word};

use super::recovery::reverted;
use super::{finish, only_target, uid};
use crate::conditions::Stand;
use crate::history::History;
use crate::observed::{Access, Deployment, Observed, Seen};
use crate::plan::{self, end};
use crate::step::Step;
use crate::template::Template;
use crate::text::plain;

/// Where the Deployment stands between the plan and the revert.
enum Before<'a> {
    /// Not read.
    Unknown,
    /// As planned.
    AsPlanned(&'a Deployment),
    /// It has the old template already.
    Reverted(&'a Deployment),
    /// Nothing can be done for the plan any more.
    Over(Outcome),
}

fn before_revert<'a>(
    observed: &'a Observed,
    target: &PlannedTarget,
    intended: bool,
    now: Timestamp,
) -> Before<'a> {
    let effect = if intended {
        "The old template may have been written just before that."
    } else {
        "Nothing was changed."
    };
    let deployment = match &observed.deployment {
        Seen::Unknown => return Before::Unknown,
        Seen::Found(deployment) if deployment.uid() == target.uid => deployment,
        Seen::Absent | Seen::Found(_) => {
            return Before::Over(end(
                Word::Failed,
                Reason::TargetGone,
                format!(
                    "Deployment {} was deleted, or deleted and made again, since the plan was made. {effect} Create a new request if there is still something to roll back.",
                    target.name
                ),
                now,
            ));
        }
    };
    let digest = deployment.template().digest();
    if digest == target.to_digest {
        Before::Reverted(deployment)
    } else if digest == target.from_digest {
        Before::AsPlanned(deployment)
    } else {
        let reason = if intended {
            Reason::TemplateChanged
        } else {
            Reason::NotLive
        };
        Before::Over(end(
            Word::Superseded,
            reason,
            format!(
                "Somebody deployed another version of {} since the plan was made, so what the plan calls bad does not run any more. {effect} Create a new request if the new version has to be rolled back too.",
                target.name
            ),
            now,
        ))
    }
}

/// What has to hold from the plan to the moment of the revert. Ok: the Deployment is as planned and
/// the plan is still the one that was approved.
pub(super) fn revalidate<'a>(
    request: &RollbackRequest,
    observed: &'a Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Result<&'a Deployment, Stand> {
    let Some((plan, target, progress)) = only_target(status) else {
        return Err(Stand::new(Step::Again, "The plan is missing."));
    };
    if let Some(deployment) = written_and_changed_again(request, observed, target) {
        return Err(reverted(deployment, status, now));
    }
    let deployment = match before_revert(observed, target, progress.revert.is_some(), now) {
        Before::Unknown => return Err(Stand::recheck(now, "Reading the Deployment.")),
        Before::Over(outcome) => return Err(finish(status, outcome)),
        Before::Reverted(deployment) => {
            return Err(already_reverted(request, deployment, status, now));
        }
        Before::AsPlanned(deployment) => deployment,
    };
    if observed.policy == Seen::Unknown {
        return Err(Stand::recheck(now, "Reading the policy."));
    }
    if let Some(renewed) = plan::renewed(plan, request, observed, now) {
        status.plan = Some(renewed);
        void_approvals(status);
        return Err(Stand::new(
            Step::Again,
            "The policy or the admission policies changed, so the plan has a new digest and earlier approvals are void.",
        ));
    }
    Ok(deployment)
}

/// Back to waiting for people, who may also let the request expire.
fn void_approvals(status: &mut RollbackRequestStatus) {
    status.approvals.clear();
    for progress in &mut status.targets {
        progress.revert = None;
    }
}

/// The Deployment, if our write is in its past and somebody has written another template since. It is
/// not written again; from the rollout on this is what it is, a change of somebody else.
fn written_and_changed_again<'a>(
    request: &RollbackRequest,
    observed: &'a Observed,
    target: &PlannedTarget,
) -> Option<&'a Deployment> {
    let deployment = observed.deployment.found()?;
    let written = deployment.was_reverted_by(uid(request))
        || observed.replica_sets.iter().any(|set| {
            set.controller_uid() == Some(&target.uid) && set.was_restored_by(uid(request))
        });
    let changed = deployment.template().digest() != target.to_digest;
    (deployment.uid() == target.uid && written && changed).then_some(deployment)
}

/// The Deployment has the old template. Either a pass of ours wrote it and did not live to say so, or
/// somebody was faster.
fn already_reverted(
    request: &RollbackRequest,
    deployment: &Deployment,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let intended = status
        .targets
        .first()
        .is_some_and(|progress| progress.revert.is_some());
    if intended || deployment.was_reverted_by(uid(request)) {
        return reverted(deployment, status, now);
    }
    let outcome = end(
        Word::Succeeded,
        Reason::NoOp,
        format!(
            "Deployment {} already has the template that was asked for; somebody else was faster. Nothing was changed.",
            deployment.name()
        ),
        now,
    );
    finish(status, outcome)
}

/// What has to hold right before each write that leads to the revert: the plan is still the one that
/// was approved, the Deployment may be touched, and everybody involved may do this themselves.
pub(super) fn ready_to_write<'a>(
    request: &RollbackRequest,
    observed: &'a Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Result<&'a Deployment, Stand> {
    let deployment = revalidate(request, observed, status, now)?;
    if let Some(outcome) = plan::blocked(deployment, now) {
        return Err(finish(status, outcome));
    }
    if !observed.guard.missing.is_empty() {
        void_approvals(status);
        return Err(Stand::new(
            Step::Again,
            "Admission policies are missing, so earlier approvals are void.",
        ));
    }
    match &observed.access {
        Seen::Unknown | Seen::Absent => Err(Stand::recheck(
            now,
            "Asking the API server who may do this.",
        )),
        Seen::Found(Access::Allowed) => Ok(deployment),
        Seen::Found(Access::Denied { who, what }) => Err(finish(
            status,
            end(
                Word::Refused,
                Reason::Forbidden,
                format!(
                    "{} may not {}, so they cannot have it done either. Nothing was changed. Ask somebody who may.",
                    plain(who, 200),
                    plain(what, 300)
                ),
                now,
            ),
        )),
    }
}

/// The template that was approved, as it stands in the history now.
pub(super) fn planned_template(
    observed: &Observed,
    target: &PlannedTarget,
    now: Timestamp,
) -> Result<Template, Outcome> {
    let history = History::of(&target.uid, &observed.replica_sets);
    let revision = history
        .revisions
        .into_iter()
        .find(|revision| revision.uid == target.replica_set_uid);
    let Some(revision) = revision else {
        return Err(end(
            Word::Refused,
            Reason::HistoryPruned,
            format!(
                "ReplicaSet {} with revision {} was deleted since the plan was made. Nothing was changed. Create a new request, and raise spec.revisionHistoryLimit of the Deployment if this happens again.",
                target.replica_set, target.to_revision
            ),
            now,
        ));
    };
    if revision.template.digest() != target.to_digest {
        return Err(end(
            Word::Refused,
            Reason::DigestMismatch,
            format!(
                "Somebody edited the template of ReplicaSet {} since the plan was made, so it is not what was approved. Nothing was changed. Create a new request and look at its plan closely.",
                target.replica_set
            ),
            now,
        ));
    }
    Ok(revision.template)
}
