//! The version to go back to does not do: what the plan has for that case is tried, once.
//!
//! The fallback was in the plan, so it was approved with it. It goes the same way as the first try, with facts of its
//! own: they take the place of those of the first try while it is judged.

use std::borrow::Cow;

use rollback_api::status::{
    Fallback, FallbackStatus, FallbackWhen, Intent, Outcome, PlannedTarget, Source, TargetStatus,
};
use rollback_api::{Reason, RequestState, RollbackRequest};

use super::preconditions::{intend, is_as_altered, is_in_doubt, kept_template, refusal};
use super::recovery::{changed, reverted};
use super::{TargetDecision, TargetScope};
use crate::execution::outcome::end;
use crate::execution::step::{Revert, Step, second_cause, template_patch};
use crate::history::template::Template;
use crate::message::text::plain;
use crate::observed::{Access, Deployment, Fetched};

/// Begins the second try, if the plan has one for this case and there was none yet.
pub(super) fn begin(
    scope: TargetScope,
    progress: &mut TargetStatus,
    when: FallbackWhen,
    reason: Reason,
    why: &str,
) -> Option<TargetDecision> {
    let planned = of(scope.target, when)?;
    if progress.fallback.is_some() {
        return None;
    }
    progress.fallback = Some(FallbackStatus {
        when,
        reason,
        why: plain(why, 1000),
        at: scope.now,
        intent: None,
        reverted_at: None,
        rollout: None,
        verification: None,
    });
    Some(TargetDecision::again(format!(
        "{why} Trying {}, which the plan has for that case.",
        name(planned)
    )))
}

fn of(target: &PlannedTarget, when: FallbackWhen) -> Option<&Fallback> {
    target.fallbacks.iter().find(|planned| planned.when == when)
}

/// What is tried, in words.
fn name(planned: &Fallback) -> String {
    match (planned.source, planned.to_revision) {
        (Source::NewImage, _) => "an image that is known to be good".to_owned(),
        (Source::ReplicaSet | Source::Ledger | Source::Backup, Some(number)) => {
            format!("revision {number}")
        }
        (Source::ReplicaSet | Source::Ledger | Source::Backup, None) => {
            "an older version".to_owned()
        }
        (Source::Newer(_), _) => {
            "a version that is kept where this controller does not look".to_owned()
        }
    }
}

/// The target as it is now meant: with the template of the fallback, once that is being tried.
pub fn target<'a>(target: &'a PlannedTarget, progress: &TargetStatus) -> Cow<'a, PlannedTarget> {
    let fallback = progress.fallback.as_ref();
    let Some(planned) = fallback.and_then(|fallback| of(target, fallback.when)) else {
        return Cow::Borrowed(target);
    };
    Cow::Owned(PlannedTarget {
        to_digest: planned.to_digest.clone(),
        to_revision: planned.to_revision,
        stored_digest: None,
        source: planned.source,
        source_name: planned.source_name.clone(),
        source_uid: planned.source_uid.clone(),
        ..target.clone()
    })
}

/// Judges with `judge` whatever is tried now: the facts of the second try take the place of those of the first.
pub(super) fn as_it_is_meant(
    scope: TargetScope,
    progress: &mut TargetStatus,
    judge: impl Fn(TargetScope, &mut TargetStatus) -> TargetDecision,
) -> TargetDecision {
    if progress.fallback.is_none() {
        return judge(scope, progress);
    }
    let meant = target(scope.target, progress);
    exchange(progress);
    let decision = judge(
        TargetScope {
            target: &meant,
            ..scope
        },
        progress,
    );
    exchange(progress);
    let fallback = progress.fallback.as_ref();
    if let (Some(fallback), Some(outcome)) = (fallback, progress.outcome.as_mut()) {
        outcome.message = format!(
            "{} {}",
            plain(&fallback.why, 600),
            plain(&outcome.message, 900)
        );
    }
    decision
}

fn exchange(progress: &mut TargetStatus) {
    let Some(fallback) = progress.fallback.as_mut() else {
        return;
    };
    std::mem::swap(&mut fallback.intent, &mut progress.revert);
    std::mem::swap(&mut fallback.reverted_at, &mut progress.reverted_at);
    std::mem::swap(&mut fallback.rollout, &mut progress.rollout);
    std::mem::swap(&mut fallback.verification, &mut progress.verification);
}

/// The way to the second write.
pub(super) fn retrying(scope: TargetScope, progress: &mut TargetStatus) -> TargetDecision {
    let first = scope.target;
    as_it_is_meant(scope, progress, |scope, progress| {
        towards_the_write(scope, first, progress)
    })
}

fn towards_the_write(
    scope: TargetScope,
    first: &PlannedTarget,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let TargetScope {
        request,
        target,
        seen,
        now,
        ..
    } = scope;
    let deployment = match &seen.deployment {
        Fetched::Unknown => return TargetDecision::recheck(now, "Reading the Deployment."),
        Fetched::Found(deployment)
            if deployment.uid() == target.uid && !deployment.is_deleting() =>
        {
            deployment
        }
        Fetched::Absent | Fetched::Found(_) => {
            let message = format!(
                "Deployment {} was deleted before anything else could be tried.",
                target.name
            );
            return TargetDecision::end(
                progress,
                end(RequestState::Failed, Reason::TargetGone, message, now),
            );
        }
    };
    let digest = deployment.template().digest();
    // Without an intent somebody else wrote it, and it is theirs.
    if target.is_restored_by(&digest) && progress.revert.is_some() {
        return reverted(scope, deployment, progress);
    }
    if let Some(outcome) = overtaken(scope, first, deployment, progress.revert.as_ref(), &digest) {
        return TargetDecision::end(progress, outcome);
    }
    match &seen.access {
        Fetched::Unknown | Fetched::Absent => {
            return TargetDecision::recheck(now, "Asking the API server who may do this.");
        }
        Fetched::Found(Access::Denied { who, what }) => {
            let why = format!("{} may not {} any more", plain(who, 200), plain(what, 300));
            return give_up(scope, progress, &why);
        }
        Fetched::Found(Access::Allowed) => {}
    }
    let Some(template) = template(scope, deployment) else {
        let why = "its template is kept nowhere any more (raise spec.revisionHistoryLimit)";
        return give_up(scope, progress, why);
    };
    let revert = Revert {
        deployment: target.name.clone(),
        patch: template_patch(deployment, &template, &cause(request, target), true),
    };
    if let Some(refusal) = refusal(seen, &revert) {
        let why = format!("the API server does not take it {refusal}");
        return give_up(scope, progress, &why);
    }
    intend(&mut progress.revert, deployment, scope.seen, now);
    let message = format!("Writing the fallback to Deployment {}.", target.name);
    TargetDecision::take(Step::Revert(revert), message)
}

fn cause(request: &RollbackRequest, target: &PlannedTarget) -> String {
    second_cause(request, target.to_revision, target.source_name.as_deref())
}

/// Why the Deployment is not what the first try left, so that nothing is written any more.
fn overtaken(
    scope: TargetScope,
    first: &PlannedTarget,
    deployment: &Deployment,
    intent: Option<&Intent>,
    digest: &str,
) -> Option<Outcome> {
    let TargetScope { target, now, .. } = scope;
    if !first.is_restored_by(digest) {
        if is_as_altered(scope, deployment, intent) {
            let message = format!(
                "The fallback was written to Deployment {}, but an admission plugin or webhook altered it on its way: look at what runs, and at kubectl get mutatingwebhookconfigurations.",
                target.name
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
            target.name
        );
        return Some(changed(scope, message));
    }
    is_in_doubt(deployment, intent, scope.seen).then(|| {
        let message = format!(
            "Deployment {} was changed several times while the controller was away, and nobody can tell whether the fallback was written and taken back. It is not written once more: look at kubectl rollout history.",
            target.name
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
        progress,
        end(RequestState::Failed, reason, message, scope.now),
    )
}

/// The template of the fallback, as it is kept now, if it is the one that was approved.
fn template(scope: TargetScope, deployment: &Deployment) -> Option<Template> {
    let target = scope.target;
    let planned = target
        .fallbacks
        .iter()
        .find(|planned| planned.to_digest == target.to_digest)?;
    let template = kept_template(scope, deployment, &planned.images)?;
    (template.digest() == target.to_digest).then_some(template)
}
