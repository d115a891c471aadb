//! Bringing back what a Deployment had before the rollback, when the request asks for that upon a failure.

use rollback_api::status::{Effect, Intent, PlannedTarget, Restore, TargetStatus};
use rollback_api::{FIELD_MANAGER, Reason, RequestState};

use super::write::{self, intend, is_as_altered, is_in_doubt, same};
use super::{TargetDecision, TargetScope, fallback};
use crate::execution::outcome::{Ending, end};
use crate::execution::step::{Step, restore_cause};
use crate::message::text::plain;
use crate::observed::Deployment;
use crate::observed::view::{Live, RestoringView};

/// One pass of the way back: intent, patch, seen.
pub(super) fn restoring(
    scope: TargetScope,
    view: &RestoringView,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let TargetScope {
        request,
        target,
        now,
        ..
    } = scope;
    let Some(deployment) = same(target, &view.live) else {
        let message = format!(
            "Deployment {} was deleted, or deleted and made again, before it could get back what it had.",
            target.workload.name
        );
        return over(
            progress,
            end(RequestState::Failed, Reason::RestoreFailed, message, now),
        );
    };
    let digest = deployment.template().digest();
    let intended = progress
        .restore
        .as_ref()
        .is_some_and(|restore| restore.intent.is_some());
    if digest == target.from.digest && intended {
        return back(scope, deployment, progress);
    }
    if let Some(ending) = not_ours_any_more(scope, deployment, progress, &digest) {
        return over(progress, ending);
    }
    let backup = progress
        .backup
        .as_ref()
        .map_or("", |backup| &backup.config_map);
    let kept = view.backup.as_ref().map(Deployment::template);
    let Some(template) = kept.filter(|kept| kept.digest() == target.from.digest) else {
        let message = format!(
            "Backup {} of Deployment {} is gone or is not what was saved, so the template before the rollback cannot be brought back. Deploy it anew.",
            plain(backup, 253),
            target.workload.name
        );
        return over(
            progress,
            end(RequestState::Failed, Reason::RestoreFailed, message, now),
        );
    };
    let cause = restore_cause(request, backup);
    let revert = match write::revert(scope, deployment, &template, &cause) {
        Ok(revert) => revert,
        Err(refusal) => {
            let message = format!(
                "The API server does not take back the template that Deployment {} had before {refusal}.",
                target.workload.name
            );
            return over(
                progress,
                end(RequestState::Failed, Reason::RestoreFailed, message, now),
            );
        }
    };
    let restore = progress.restore.get_or_insert_default();
    intend(&mut restore.intent, deployment, scope.own, now);
    TargetDecision::take(
        Step::Revert(revert),
        format!(
            "Bringing back what Deployment {} had before the rollback.",
            target.workload.name
        ),
    )
}

/// Why nothing is brought back any more: what runs is not what we wrote, or the way back may have been gone already.
/// That it was gone and undone shows in the generation, which nobody can write; a change-cause shows nothing.
fn not_ours_any_more(
    scope: TargetScope,
    deployment: &Deployment,
    progress: &TargetStatus,
    digest: &str,
) -> Option<Ending> {
    let now = scope.now;
    let target = &fallback::target(scope.target, progress);
    let is_right_after = |intent: Option<&Intent>| {
        intent.is_some_and(|intent| deployment.generation() == intent.generation + 1)
    };
    let intent = progress
        .restore
        .as_ref()
        .and_then(|restore| restore.intent.as_ref());
    if is_as_altered(scope, deployment, intent) {
        let message = format!(
            "The template that Deployment {} had before was written back, but an admission plugin or webhook altered it on its way: look at what runs, and at kubectl get mutatingwebhookconfigurations.",
            target.workload.name
        );
        return Some(end(
            RequestState::Failed,
            Reason::RestoreFailed,
            message,
            now,
        ));
    }
    let mutated = progress
        .outcome
        .as_ref()
        .is_some_and(|outcome| outcome.reason == Reason::TemplateMutated);
    // A fallback that was decided and not written: what runs is still what we wrote before it.
    let is_before_fallback = progress.fallback.as_ref().is_some_and(|fallback| {
        let unwritten = |intent: &Intent| deployment.generation() == intent.generation;
        fallback.reverted_at.is_none() && fallback.intent.as_ref().is_none_or(unwritten)
    });
    let as_left = target.is_restored_by(digest)
        || (is_before_fallback && scope.target.is_restored_by(digest))
        || (mutated && is_right_after(progress.revert.as_ref()));
    if digest == scope.target.from.digest {
        let who = deployment.template_manager(FIELD_MANAGER).map_or_else(
            || "Somebody".to_owned(),
            |manager| format!("Field manager {}", plain(&manager, 100)),
        );
        let message = format!(
            "{who} has brought back the template that Deployment {} had before the rollback, so there is nothing left to bring back.",
            target.workload.name
        );
        return Some(end(
            RequestState::Superseded,
            Reason::TemplateChanged,
            message,
            now,
        ));
    }
    if !as_left {
        let message = format!(
            "Somebody deployed another version of {} meanwhile. Their change stands, and the template before the rollback is not brought back.",
            target.workload.name
        );
        return Some(end(
            RequestState::Superseded,
            Reason::TemplateChanged,
            message,
            now,
        ));
    }
    is_in_doubt(deployment, intent, scope.own).then(|| {
        let message = format!(
            "Deployment {} was changed several times while the controller was away with the way back under way, and nobody can tell whether the template before the rollback was written and replaced again. It is not written once more: look at kubectl rollout history.",
            target.workload.name
        );
        end(RequestState::Superseded, Reason::TemplateChanged, message, now)
    })
}

/// The template is back. That it comes up is not waited for: it is the one that was bad.
fn back(
    scope: TargetScope,
    deployment: &Deployment,
    progress: &mut TargetStatus,
) -> TargetDecision {
    let now = scope.now;
    let restore = progress.restore.get_or_insert_default();
    restore.restored_at.get_or_insert(now);
    if deployment.observed_generation() < deployment.generation() {
        return TargetDecision::wait(
            Some(crate::time::after(now, 60)),
            format!(
                "The template that Deployment {} had before is in place.",
                scope.target.workload.name
            ),
        );
    }
    let message = format!(
        "Deployment {} has again the template that it had before the rollback; it is the one that was called bad, so production needs help.",
        scope.target.workload.name
    );
    over(
        progress,
        end(
            RequestState::Restored,
            Reason::RestoredFromBackup,
            message,
            now,
        ),
    )
}

/// The way back has ended. It began with a write that was made.
fn over(progress: &mut TargetStatus, ending: Ending) -> TargetDecision {
    let outcome = ending.with(Effect::Written);
    let message = outcome.message.clone();
    let restore: &mut Restore = progress.restore.get_or_insert_default();
    restore.outcome.get_or_insert(outcome);
    TargetDecision::again(message)
}

/// Whether the backup is needed for what the Deployment runs: not when it has got back already what it had.
pub fn needs_backup(target: &PlannedTarget, live: &Live) -> bool {
    let has_it_back =
        |deployment: &Deployment| deployment.template().digest() == target.from.digest;
    !live.deployment.as_ref().is_some_and(has_it_back)
}
