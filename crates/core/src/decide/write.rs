//! The protocol of each write to a Deployment: what it is read for, the intent that is stored before it, and what is
//! known of it afterwards.
//!
//! The first write, the fallback and the way back go by it alike.

use jiff::Timestamp;
use rollback_api::status::{Intent, PlannedTarget, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequestStatus};

use super::{TargetDecision, TargetScope};
use crate::execution::outcome::end;
use crate::execution::phase::TargetPhase;
use crate::execution::step::{Revert, template_patch};
use crate::history::template::Template;
use crate::message::text::plain;
use crate::observed::{Access, Deployment, Fetched, Observed, ObservedTarget};
use crate::plan;

/// Why there is no Deployment to write.
pub(super) enum Missing {
    /// It was not read.
    Unread,
    /// It was deleted, or deleted and made again.
    Gone,
}

/// The Deployment of the plan, as it was read.
pub(super) fn live<'a>(
    target: &PlannedTarget,
    seen: &'a ObservedTarget,
) -> Result<&'a Deployment, Missing> {
    match &seen.deployment {
        Fetched::Unknown => Err(Missing::Unread),
        Fetched::Found(deployment) if deployment.uid() == target.workload.uid => Ok(deployment),
        Fetched::Absent | Fetched::Found(_) => Err(Missing::Gone),
    }
}

/// Whether everybody involved may write themselves: `Ok(None)` when they may, and who may not do what otherwise.
pub(super) fn denied(scope: TargetScope) -> Result<Option<String>, TargetDecision> {
    match &scope.seen.access {
        Fetched::Unknown | Fetched::Absent => Err(TargetDecision::recheck(
            scope.now,
            "Asking the API server who may do this.",
        )),
        Fetched::Found(Access::Allowed) => Ok(None),
        Fetched::Found(Access::Denied { who, what }) => Ok(Some(format!(
            "{} may not {}",
            plain(who, 200),
            plain(what, 300)
        ))),
    }
}

/// Whether the Deployment is as the API server answered to the write that was intended. Only the process that wrote
/// knows; whoever comes after it takes an unknown template for that of somebody else.
pub(super) fn is_as_altered(
    scope: TargetScope,
    deployment: &Deployment,
    intent: Option<&Intent>,
) -> bool {
    let generation = deployment.generation();
    scope.seen.accepted == Some(generation)
        && intent.is_some_and(|intent| generation == intent.generation + 1)
}

/// What has to hold right before each write that leads to the revert: the Deployment may be touched, and
/// everybody involved may do this themselves.
pub(super) fn ready_to_write<'a>(
    scope: TargetScope<'a>,
    progress: &mut TargetStatus,
) -> Result<&'a Deployment, TargetDecision> {
    let now = scope.now;
    let Some(deployment) = scope.seen.deployment.found() else {
        return Err(TargetDecision::recheck(now, "Reading the Deployment."));
    };
    if let Some(ending) = plan::blocked(deployment, now) {
        return Err(TargetDecision::end(scope, progress, ending));
    }
    let Some(denied) = denied(scope)? else {
        return Ok(deployment);
    };
    let what = format!("{denied}, so they cannot have it done either.");
    let ending =
        end(RequestState::Refused, Reason::Forbidden, what, now).next("Ask somebody who may.");
    Err(TargetDecision::end(scope, progress, ending))
}

/// Stores the intent to write the Deployment that was just read, or renews it for what it has become. One that another
/// process has stored for what is there now may have been carried out by it already.
pub(super) fn intend(
    slot: &mut Option<Intent>,
    deployment: &Deployment,
    seen: &ObservedTarget,
    now: Timestamp,
) {
    let generation = deployment.generation();
    match slot {
        Some(intent) if intent.generation == generation => {
            intent.taken_over |= seen.intended != Some(generation);
        }
        Some(intent) => {
            intent.generation = generation;
            intent.taken_over = false;
        }
        None => {
            *slot = Some(Intent {
                intended_at: now,
                generation,
                taken_over: false,
                progressing: deployment.progressing(),
            });
        }
    }
}

/// The write of `template`, with a change-cause; or what the API server said when it refused this very write.
pub(super) fn revert(
    scope: TargetScope,
    deployment: &Deployment,
    template: &Template,
    cause: &str,
) -> Result<Revert, String> {
    let revert = Revert {
        workload: scope.target.workload.clone(),
        patch: template_patch(deployment, template, cause, true),
    };
    match refusal(scope.seen, &revert) {
        Some(refusal) => Err(refusal),
        None => Ok(revert),
    }
}

/// What the API server said of this very write, in words. A refusal is final when the same patch, with the same
/// preconditions, would be sent again.
fn refusal(seen: &ObservedTarget, revert: &Revert) -> Option<String> {
    let rejection = seen.rejection.as_ref();
    let rejection = rejection.filter(|rejection| rejection.patch == revert.patch)?;
    let message = plain(&rejection.message, 800);
    let message = message.trim_end_matches('.');
    Some(format!("(HTTP {}): {message}", rejection.code))
}

/// Forgets the intents whose writes the API server refused, as this process knows: nothing was touched, so whatever keeps a
/// Deployment from being begun counts again. Who changes it in a loop would otherwise hold an approved rollback past a
/// denial, a freeze and the age of its approvals.
pub(super) fn forget_refused(observed: &Observed, status: &mut RollbackRequestStatus) {
    let reverting: Vec<bool> = status
        .targets
        .iter()
        .map(|progress| TargetPhase::of(status, progress) == TargetPhase::Reverting)
        .collect();
    for (index, (progress, is_reverting)) in status.targets.iter_mut().zip(reverting).enumerate() {
        let seen = observed.target(index);
        let was_refused = |intent: &Intent| was_refused(intent, seen);
        if is_reverting && progress.revert.as_ref().is_some_and(was_refused) {
            progress.revert = None;
        }
    }
}

/// Whether the write of this intent is known not to have been made. A refusal shows that only to the process that stored
/// the intent, as long as no other has taken it over, and unless an attempt before came through: what was written already
/// is refused as well.
fn was_refused(intent: &Intent, seen: &ObservedTarget) -> bool {
    let is_only_ours = seen.intended == Some(intent.generation) && !intent.taken_over;
    is_only_ours && is_refused(intent.generation, seen)
}

/// Whether the last write for this target is known not to have been made. Its intent may just have been forgotten because
/// of that.
pub(super) fn was_never_made(progress: &TargetStatus, seen: &ObservedTarget) -> bool {
    match &progress.revert {
        Some(intent) => was_refused(intent, seen),
        None => seen
            .intended
            .is_some_and(|generation| is_refused(generation, seen)),
    }
}

/// Whether the last answer to a write for this generation was a refusal, and none came through.
fn is_refused(generation: i64, seen: &ObservedTarget) -> bool {
    let tested = |test: &serde_json::Value| {
        test["path"] == "/metadata/generation" && test["value"] == generation
    };
    let refused = seen.rejection.as_ref().is_some_and(|rejection| {
        let patch = rejection.patch.as_array();
        patch.is_some_and(|patch| patch.iter().any(tested))
    });
    let came_through = seen.accepted == Some(generation + 1);
    refused && !came_through
}

/// Whether the evidence of a pass that died is lost: the Deployment was written at least twice since the intent was
/// stored, and nobody knows that ours was refused. Then our write may be one of those, made and undone, and it must not
/// be made again without asking.
pub(super) fn is_in_doubt(
    deployment: &Deployment,
    intent: Option<&Intent>,
    seen: &ObservedTarget,
) -> bool {
    intent.is_some_and(|intent| {
        deployment.generation() >= intent.generation + 2 && !was_refused(intent, seen)
    })
}
