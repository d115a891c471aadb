//! The version to go back to does not do: what the plan has for that case is tried, once.
//!
//! The fallback was in the plan, so it was approved with it. It goes the same way as the first try, with facts of its
//! own: they take the place of those of the first try while it is judged.

use std::borrow::Cow;

use rollback_api::Reason;
use rollback_api::status::{
    Fallback, FallbackStatus, FallbackWhen, PlannedTarget, Source, TargetStatus,
};

use super::{TargetDecision, TargetScope};
use crate::message::text::plain;

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
    match (planned.source, planned.to.revision) {
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
        to: planned.to.clone(),
        stored_digest: None,
        source: planned.source,
        source_ref: planned.source_ref.clone(),
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
