//! What has to hold from the plan to the moment of the revert.

use jiff::Timestamp;
use rollback_api::status::{
    ImageChange, Intent, Outcome, Plan, PlannedTarget, Source, TargetStatus,
};
use rollback_api::{Reason, RequestState, RollbackRequest, RollbackRequestStatus};

use super::recovery::reverted;
use super::{TargetDecision, TargetScope};
use crate::approval::consent;
use crate::execution::outcome::end;
use crate::execution::phase::{TargetPhase, due};
use crate::execution::step::Revert;
use crate::history::History;
use crate::history::ledger::{self, Holder};
use crate::history::template::Template;
use crate::message::text::plain;
use crate::observed::{Access, Deployment, Fetched, Observed, ObservedTarget, ReplicaSet};
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
    Over(Outcome),
}

/// What stands on the Deployment or on a `ReplicaSet` tells which write of ours it was, once it is known that there may
/// be one; it never shows that there was any.
fn before_revert<'a>(scope: TargetScope<'a>, progress: &TargetStatus) -> Before<'a> {
    let intent = progress.revert.as_ref();
    let TargetScope {
        request,
        target,
        seen,
        now,
        ..
    } = scope;
    // Its intent may just have been forgotten because of that.
    let refused = seen
        .intended
        .is_some_and(|generation| intent.is_none() && is_refused(generation, seen));
    let effect = if consent::is_begun(progress) && !refused {
        "The old template may have been written just before that."
    } else {
        "Nothing was changed."
    };
    let deployment = match &seen.deployment {
        Fetched::Unknown => return Before::Unknown,
        Fetched::Found(deployment) if deployment.uid() == target.uid => deployment,
        Fetched::Absent | Fetched::Found(_) => {
            return Before::Over(end(
                RequestState::Failed,
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
    if target.is_restored_by(&digest) {
        return Before::Reverted(deployment);
    }
    if is_as_altered(scope, deployment, intent) {
        return Before::Over(mutated(target, now));
    }
    // Once more after our write, if there was one: an intent says that it can only have been the next one.
    // Without an intent that stands, nothing is ours that nobody saw in time: it was forgotten when approvals became void.
    let possible = consent::may_have_written(progress, deployment)
        && intent.is_some_and(|intent| deployment.generation() > intent.generation + 1);
    let ours = possible && deployment.was_reverted_by(uid(request));
    let witness = |set: &ReplicaSet| {
        set.controller_uid() == Some(&target.uid) && set.was_restored_by(uid(request))
    };
    if ours || (possible && seen.replica_sets.iter().any(witness)) {
        Before::WrittenAndChanged(deployment)
    } else if digest != target.from_digest {
        Before::Over(overtaken(
            scope,
            &digest,
            intent.is_some() || refused,
            effect,
        ))
    } else if is_in_doubt(deployment, intent, seen) {
        Before::Over(in_doubt(scope))
    } else {
        Before::AsPlanned
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

/// The write came through, but what is stored is not what was written: exactly one write lies
/// between, and it was ours.
fn mutated(target: &PlannedTarget, now: Timestamp) -> Outcome {
    end(
        RequestState::Failed,
        Reason::TemplateMutated,
        format!(
            "The old template was written to Deployment {}, but an admission plugin or webhook altered it on its way in a manner that the plan did not know. What runs now is neither the bad version nor the one that was approved: look at it, and at kubectl get mutatingwebhookconfigurations.",
            target.name
        ),
        now,
    )
}

/// Nobody can tell whether our write was made, so it is not made again.
fn in_doubt(scope: TargetScope) -> Outcome {
    end(
        RequestState::Superseded,
        Reason::TemplateChanged,
        format!(
            "Deployment {} was changed several times while the controller was away with its write under way, and nobody can tell whether the old template was written and taken back. It is not written again without being asked: look at kubectl rollout history, and create a new request.",
            scope.target.name
        ),
        scope.now,
    )
}

/// Somebody else changed the template: another request, which is named, or a person.
fn overtaken(scope: TargetScope, digest: &str, intended: bool, effect: &str) -> Outcome {
    let TargetScope { target, now, .. } = scope;
    if let Some(winner) = winner(scope, digest) {
        return end(
            RequestState::Superseded,
            Reason::RolledBackByAnother,
            format!(
                "RollbackRequest {winner} rolled Deployment {} back first, so what this plan calls bad does not run any more. {effect} Look at its outcome before you create another request.",
                target.name
            ),
            now,
        );
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
            "Somebody deployed another version of {} since the plan was made, so what the plan calls bad does not run any more. {effect} Create a new request if the new version has to be rolled back too.",
            target.name
        ),
        now,
    )
}

/// The request that brought this template, or that works on the Deployment now: as the ledger says, which nobody else
/// can write.
fn winner(scope: TargetScope, digest: &str) -> Option<String> {
    let held = scope.seen.ledger.found();
    let name = match ledger::brought_by(held, &scope.target.uid, digest) {
        Some(rollback) => &rollback.request,
        None => match ledger::holder(held, &scope.target.uid, scope.uid()) {
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
    observed: &Observed,
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
        let scope = TargetScope {
            request,
            plan,
            target,
            seen: observed.target(index),
            now,
        };
        let before = before_revert(scope, progress);
        let progress = &mut status.targets[index];
        match before {
            Before::Unknown if needed.contains(&index) => {
                decisions.push(TargetDecision::recheck(now, "Reading the Deployment."));
            }
            Before::Unknown | Before::AsPlanned => {}
            Before::Over(outcome) => {
                if outcome.reason == Reason::TemplateMutated {
                    progress.reverted_at = Some(now);
                }
                decisions.push(TargetDecision::end(progress, outcome));
            }
            Before::WrittenAndChanged(deployment) => {
                decisions.push(reverted(scope, deployment, progress));
            }
            Before::Reverted(deployment) => {
                decisions.push(already_reverted(scope, deployment, progress));
            }
        }
    }
    decisions
}

/// Whether the plan is still the one that was approved.
pub(super) fn revalidate(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Result<(), RequestDecision> {
    if !plan::rules_are_known(request, observed) {
        return Err(RequestDecision::recheck(now, "Reading the rules."));
    }
    let Some(plan) = status.plan.as_ref() else {
        return Err(RequestDecision::again("The plan is missing."));
    };
    if let Some(renewed) = plan::renewed(plan, request, observed, now) {
        void_approvals(observed, status, Some(renewed));
        return Err(RequestDecision::again(
            "The policy or the admission policies changed, so the plan has a new digest and earlier approvals are void.",
        ));
    }
    Ok(())
}

/// Whether approvals are worth anything now.
pub(super) fn guarded(
    observed: &Observed,
    status: &mut RollbackRequestStatus,
) -> Result<(), RequestDecision> {
    if observed.guard.holes.is_empty() {
        return Ok(());
    }
    void_approvals(observed, status, None);
    Err(RequestDecision::again(
        "The admission policies are not all in force, so earlier approvals are void.",
    ))
}

/// Back to waiting for people, who may also let the request expire; `next` takes the place of the plan.
pub(super) fn void_approvals(
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    next: Option<Plan>,
) {
    if let Some(next) = next {
        consent::replace(status, next);
    }
    consent::revoke(status);
    forget_intents(observed, status);
}

/// When approvals were void, what was written stays so, and an intent that was not carried out is forgotten once the
/// Deployment has been read: one that cannot be read may have been written.
pub(super) fn forget_intents(observed: &Observed, status: &mut RollbackRequestStatus) {
    let decision: Vec<bool> = status
        .targets
        .iter()
        .map(|progress| consent::stands(status, progress))
        .collect();
    for (index, (progress, stands)) in status.targets.iter_mut().zip(decision).enumerate() {
        let is_read = observed.target(index).deployment != Fetched::Unknown;
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
    deployment: &Deployment,
    progress: &mut TargetStatus,
) -> TargetDecision {
    if consent::is_begun(progress) && progress.revert.is_some() {
        return reverted(scope, deployment, progress);
    }
    let winner = winner(scope, scope.target.restored_digest());
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
    let effect = match (consent::is_begun(progress), signed) {
        (false, false) => "Nothing was changed by this request.",
        (false, true) => {
            "Nothing was changed by this request. The annotation kubernetes.io/change-cause names this request, which did not write it: anybody can write that."
        }
        (true, false) => {
            "This request had begun, and its approvals became void before it had changed anything."
        }
        (true, true) => {
            "The annotation kubernetes.io/change-cause names this request, whose approvals became void before anything was seen to be changed: either its write was late, or somebody copied that. Nothing more is written."
        }
    };
    TargetDecision::end(
        progress,
        end(
            RequestState::Superseded,
            reason,
            format!(
                "Deployment {} already has the template that was asked for; {who} was faster. {effect}",
                deployment.name()
            ),
            scope.now,
        ),
    )
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
    if let Some(outcome) = plan::blocked(deployment, now) {
        return Err(TargetDecision::end(progress, outcome));
    }
    match &scope.seen.access {
        Fetched::Unknown | Fetched::Absent => Err(TargetDecision::recheck(
            now,
            "Asking the API server who may do this.",
        )),
        Fetched::Found(Access::Allowed) => Ok(deployment),
        Fetched::Found(Access::Denied { who, what }) => Err(TargetDecision::end(
            progress,
            end(
                RequestState::Refused,
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

/// What the API server said of this very write, in words. A refusal is final when the same patch, with the same
/// preconditions, would be sent again.
pub(super) fn refusal(seen: &ObservedTarget, revert: &Revert) -> Option<String> {
    let rejection = seen.rejection.as_ref();
    let rejection = rejection.filter(|rejection| rejection.patch == revert.patch)?;
    let message = plain(&rejection.message, 800);
    let message = message.trim_end_matches('.');
    Some(format!("(HTTP {}): {message}", rejection.code))
}

/// The template of the target, where it is kept: a `ReplicaSet` that was pruned meanwhile does no harm when the ledger
/// keeps the same template. `images`: what a new image changes of what runs.
pub(super) fn kept_template(
    scope: TargetScope,
    deployment: &Deployment,
    images: &[ImageChange],
) -> Option<Template> {
    let TargetScope { target, seen, .. } = scope;
    let in_ledger = || {
        ledger::evidence(seen.ledger.found(), &target.uid)
            .iter()
            .filter(|entry| entry.digest == target.to_digest)
            .find_map(ledger::kept_template)
    };
    match target.source {
        Source::ReplicaSet => History::of(&target.uid, &seen.replica_sets, &[])
            .revisions
            .into_iter()
            .find(|revision| Some(&revision.uid) == target.source_uid.as_ref())
            .map(|revision| revision.template)
            .or_else(in_ledger),
        Source::Ledger => in_ledger(),
        Source::Backup => seen.kept.found().map(Deployment::template),
        Source::NewImage => images
            .iter()
            .try_fold(deployment.template(), |template, change| {
                template.with_image(&change.container, change.to.as_deref()?)
            }),
        Source::Newer(_) => None,
    }
}

/// The template that was approved, as it is kept now.
pub(super) fn planned_template(
    scope: TargetScope,
    deployment: &Deployment,
) -> Result<Template, Outcome> {
    let TargetScope { target, now, .. } = scope;
    let Some(template) = kept_template(scope, deployment, &target.images) else {
        return Err(end(
            RequestState::Refused,
            Reason::HistoryPruned,
            format!(
                "{} was deleted since the plan was made. Nothing was changed. Create a new request{}.",
                place(target),
                remedy(target.source)
            ),
            now,
        ));
    };
    if template.digest() != target.to_digest {
        return Err(end(
            RequestState::Refused,
            Reason::DigestMismatch,
            format!(
                "Somebody edited the template of {} since the plan was made, so it is not what was approved. Nothing was changed. Create a new request and look at its plan closely.",
                place(target)
            ),
            now,
        ));
    }
    Ok(template)
}

/// Where the template is kept, for a reader.
fn place(target: &PlannedTarget) -> String {
    let name = target.source_name.as_deref().unwrap_or_default();
    match target.source {
        Source::ReplicaSet => {
            let which = target.to_revision.map_or_else(
                || "the old template".to_owned(),
                |number| format!("revision {number}"),
            );
            format!("ReplicaSet {name} with {which}")
        }
        Source::Ledger => "The template in the RevisionLedger".to_owned(),
        Source::Backup => format!("Backup {name}"),
        Source::NewImage => "The new image".to_owned(),
        Source::Newer(_) => "The old template, where only a newer controller looks,".to_owned(),
    }
}

/// What keeps a template from going a second time.
fn remedy(source: Source) -> &'static str {
    match source {
        Source::ReplicaSet | Source::Ledger => {
            ", and raise spec.revisionHistoryLimit of the Deployment if this happens again"
        }
        Source::Backup | Source::NewImage | Source::Newer(_) => " with another spec.targets[].to",
    }
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
