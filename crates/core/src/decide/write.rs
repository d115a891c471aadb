//! The protocol of each write to a Deployment: what it is read for, the intent that is stored before it, and what is
//! known of it afterwards.
//!
//! The first write, the fallback and the way back go by it alike.

use jiff::Timestamp;
use rollback_api::status::{Intent, PlannedTarget, TargetStatus};
use rollback_api::{
    Reason, RequestState, RevisionLedgerSpec, RollbackRequest, RollbackRequestStatus,
};

use super::{TargetDecision, TargetScope};
use crate::approval::consent;
use crate::execution::outcome::end;
use crate::execution::phase::TargetPhase;
use crate::execution::step::{Revert, template_patch};
use crate::history::ledger::{Holder, holder};
use crate::history::template::Template;
use crate::message::text::plain;
use crate::observed::view::{ClaimingView, Live, Own, WorkingView};
use crate::observed::{Access, Deployment};
use crate::plan;

/// The Deployment of the plan; `None` when it was deleted, or deleted and made again.
pub(super) fn same<'a>(target: &PlannedTarget, live: &'a Live) -> Option<&'a Deployment> {
    let deployment = live.deployment.as_ref()?;
    (deployment.uid() == target.workload.uid).then_some(deployment)
}

/// Who may not do what, when not everybody involved may write themselves.
pub(super) fn denied(access: &Access) -> Option<String> {
    match access {
        Access::Allowed => None,
        Access::Denied { who, what } => {
            Some(format!("{} may not {}", plain(who, 200), plain(what, 300)))
        }
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
    scope.own.accepted == Some(generation)
        && intent.is_some_and(|intent| generation == intent.generation + 1)
}

/// What has to hold right before each write that leads to the revert: the Deployment may be touched, and
/// everybody involved may do this themselves.
pub(super) fn ready_to_write<'a>(
    scope: TargetScope,
    view: &'a ClaimingView,
    progress: &mut TargetStatus,
) -> Result<&'a Deployment, TargetDecision> {
    let now = scope.now;
    let Some(deployment) = &view.live.deployment else {
        return Err(TargetDecision::recheck(now, "Reading the Deployment."));
    };
    if let Some(ending) = plan::blocked(deployment, now) {
        return Err(TargetDecision::end(scope, progress, ending));
    }
    let Some(denied) = denied(&view.access) else {
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
    own: &Own,
    now: Timestamp,
) {
    let generation = deployment.generation();
    match slot {
        Some(intent) if intent.generation == generation => {
            intent.taken_over |= own.intended != Some(generation);
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
    match refusal(scope.own, &revert) {
        Some(refusal) => Err(refusal),
        None => Ok(revert),
    }
}

/// What the API server said of this very write, in words. A refusal is final when the same patch, with the same
/// preconditions, would be sent again.
fn refusal(own: &Own, revert: &Revert) -> Option<String> {
    let rejection = own.rejection.as_ref();
    let rejection = rejection.filter(|rejection| rejection.patch == revert.patch)?;
    let message = plain(&rejection.message, 800);
    let message = message.trim_end_matches('.');
    Some(format!("(HTTP {}): {message}", rejection.code))
}

/// Forgets the intents whose writes the API server refused, as this process knows: nothing was touched, so whatever keeps a
/// Deployment from being begun counts again. Who changes it in a loop would otherwise hold an approved rollback past a
/// denial, a freeze and the age of its approvals.
pub(super) fn forget_refused(view: &WorkingView, status: &mut RollbackRequestStatus) {
    let reverting: Vec<bool> = status
        .targets
        .iter()
        .map(|progress| TargetPhase::of(status, progress) == TargetPhase::Reverting)
        .collect();
    for (index, (progress, is_reverting)) in status.targets.iter_mut().zip(reverting).enumerate() {
        let own = view.target(index).own();
        let was_refused = |intent: &Intent| was_refused(intent, own);
        if is_reverting && progress.revert.as_ref().is_some_and(was_refused) {
            progress.revert = None;
        }
    }
}

/// Whether the write of this intent is known not to have been made. A refusal shows that only to the process that stored
/// the intent, as long as no other has taken it over, and unless an attempt before came through: what was written already
/// is refused as well.
fn was_refused(intent: &Intent, own: &Own) -> bool {
    let is_only_ours = own.intended == Some(intent.generation) && !intent.taken_over;
    is_only_ours && is_refused(intent.generation, own)
}

/// Whether the last write for this target is known not to have been made. Its intent may just have been forgotten because
/// of that.
pub(super) fn was_never_made(progress: &TargetStatus, own: &Own) -> bool {
    match &progress.revert {
        Some(intent) => was_refused(intent, own),
        None => own
            .intended
            .is_some_and(|generation| is_refused(generation, own)),
    }
}

/// Whether the last answer to a write for this generation was a refusal, and none came through.
fn is_refused(generation: i64, own: &Own) -> bool {
    let tested = |test: &serde_json::Value| {
        test["path"] == "/metadata/generation" && test["value"] == generation
    };
    let refused = own.rejection.as_ref().is_some_and(|rejection| {
        let patch = rejection.patch.as_array();
        patch.is_some_and(|patch| patch.iter().any(tested))
    });
    let came_through = own.accepted == Some(generation + 1);
    refused && !came_through
}

/// Whether the evidence of a pass that died is lost: the Deployment was written at least twice since the intent was
/// stored, and nobody knows that ours was refused. Then our write may be one of those, made and undone, and it must not
/// be made again without asking.
pub(super) fn is_in_doubt(deployment: &Deployment, intent: Option<&Intent>, own: &Own) -> bool {
    intent.is_some_and(|intent| {
        deployment.generation() >= intent.generation + 2 && !was_refused(intent, own)
    })
}

/// Whether the old template that the Deployment has is our write, upon an intent that stands: then nothing else has to
/// be known. An answer may have been lost; a refusal that is known shows that somebody else wrote it.
pub fn is_ours(target: &PlannedTarget, progress: &TargetStatus, live: &Live, own: &Own) -> bool {
    let stands = |intent: &Intent| consent::is_begun(progress) && !was_refused(intent, own);
    let is_there = |deployment: &Deployment| target.is_restored_by(&deployment.template().digest());
    same(target, live).is_some_and(is_there) && progress.revert.as_ref().is_some_and(stands)
}

/// Whether the claim comes before everything else: it is not ours, and no intent needs it already.
pub fn claim_comes_first(
    request: &RollbackRequest,
    target: &PlannedTarget,
    progress: &TargetStatus,
    ledger: Option<&RevisionLedgerSpec>,
) -> bool {
    progress.revert.is_none()
        && holder(ledger, &target.workload.uid, plan::uid(request)) != Holder::Us
}

/// Whether the Deployment does not run any more what is bad: then the ledger may tell who changed it.
pub fn has_changed(target: &PlannedTarget, live: &Live) -> bool {
    let is_bad = |deployment: &Deployment| deployment.template().digest() == target.from.digest;
    !live.deployment.as_ref().is_some_and(is_bad)
}
