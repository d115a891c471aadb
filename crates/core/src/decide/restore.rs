//! Bringing back what a Deployment had before the rollback, when the request asks for that upon a failure.

use rollback_api::status::{Outcome, Restore, Revert as Intent, TargetStatus};
use rollback_api::{CHANGE_CAUSE, Reason, Word};

use super::{Scope, Turn};
use crate::observed::{Deployment, Seen};
use crate::plan::end;
use crate::step::{Revert, Step, restore_cause, template_patch};
use crate::text::plain;

/// One pass of the way back: intent, patch, seen.
pub(super) fn restoring(scope: Scope, progress: &mut TargetStatus) -> Turn {
    let Scope {
        request,
        target,
        seen,
        now,
        ..
    } = scope;
    let deployment = match &seen.deployment {
        Seen::Unknown => return Turn::recheck(now, "Reading the Deployment."),
        Seen::Found(deployment) if deployment.uid() == target.uid => deployment,
        Seen::Absent | Seen::Found(_) => {
            let message = format!(
                "Deployment {} was deleted, or deleted and made again, before it could get back what it had.",
                target.name
            );
            return over(
                progress,
                end(Word::Failed, Reason::RestoreFailed, message, now),
            );
        }
    };
    let digest = deployment.template().digest();
    if digest == target.from_digest {
        return back(scope, deployment, progress);
    }
    if is_altered(scope, deployment, progress) {
        let message = format!(
            "The template that Deployment {} had before was written back, but an admission plugin or webhook altered it on its way. What runs now is neither version: look at it, and at kubectl get mutatingwebhookconfigurations.",
            target.name
        );
        return over(
            progress,
            end(Word::Failed, Reason::RestoreFailed, message, now),
        );
    }
    if !target.is_restored_by(&digest) && !is_mutated(scope, deployment, progress) {
        let message = format!(
            "Somebody deployed another version of {} meanwhile. Their change stands, and the template before the rollback is not brought back.",
            target.name
        );
        return over(
            progress,
            end(Word::Superseded, Reason::TemplateChanged, message, now),
        );
    }
    let backup = progress
        .backup
        .as_ref()
        .map_or("", |backup| &backup.config_map);
    let template = match &seen.kept {
        Seen::Unknown => return Turn::recheck(now, "Reading the backup."),
        Seen::Found(kept) if kept.template().digest() == target.from_digest => kept.template(),
        Seen::Absent | Seen::Found(_) => {
            let message = format!(
                "Backup {} of Deployment {} is gone or is not what was saved, so the template before the rollback cannot be brought back. Deploy it anew.",
                plain(backup, 253),
                target.name
            );
            return over(
                progress,
                end(Word::Failed, Reason::RestoreFailed, message, now),
            );
        }
    };
    let revert = Revert {
        deployment: target.name.clone(),
        patch: template_patch(deployment, &template, &restore_cause(request, backup), true),
    };
    if let Some(rejection) = seen
        .rejection
        .as_ref()
        .filter(|last| last.patch == revert.patch)
    {
        let message = format!(
            "The API server does not take back the template that Deployment {} had before (HTTP {}): {}.",
            target.name,
            rejection.code,
            plain(&rejection.message, 800).trim_end_matches('.')
        );
        return over(
            progress,
            end(Word::Failed, Reason::RestoreFailed, message, now),
        );
    }
    let intent = progress
        .restore
        .get_or_insert_default()
        .intent
        .get_or_insert_with(|| Intent {
            intended_at: now,
            generation: deployment.generation(),
            progressing: deployment.progressing(),
        });
    intent.generation = deployment.generation();
    Turn::take(
        Step::Revert(revert),
        format!(
            "Bringing back what Deployment {} had before the rollback.",
            target.name
        ),
    )
}

/// Whether what runs is what became of our revert on its way: exactly one write lies between, and it was ours. The
/// change-cause alone says nothing, because whoever sets another image later leaves it as it is.
fn is_mutated(scope: Scope, deployment: &Deployment, progress: &TargetStatus) -> bool {
    deployment.was_reverted_by(scope.uid()) && is_next(deployment, progress.revert.as_ref())
}

/// The same of the write that was to bring the template back. Written again, it would be altered again.
fn is_altered(scope: Scope, deployment: &Deployment, progress: &TargetStatus) -> bool {
    let backup = progress
        .backup
        .as_ref()
        .map_or("", |backup| &backup.config_map);
    let cause = restore_cause(scope.request, backup);
    let restore = progress.restore.as_ref();
    deployment.annotation(CHANGE_CAUSE) == Some(cause.as_str())
        && is_next(deployment, restore.and_then(|it| it.intent.as_ref()))
}

/// Whether one write has been made since the intent.
fn is_next(deployment: &Deployment, intent: Option<&Intent>) -> bool {
    intent.is_some_and(|intent| deployment.generation() == intent.generation + 1)
}

/// The template is back. That it comes up is not waited for: it is the one that was bad.
fn back(scope: Scope, deployment: &Deployment, progress: &mut TargetStatus) -> Turn {
    let now = scope.now;
    let restore = progress.restore.get_or_insert_default();
    restore.restored_at.get_or_insert(now);
    if deployment.observed_generation() < deployment.generation() {
        return Turn::wait(
            Some(crate::time::after(now, 60)),
            format!(
                "The template that Deployment {} had before is in place.",
                scope.target.name
            ),
        );
    }
    let message = format!(
        "Deployment {} has again the template that it had before the rollback; it is the one that was called bad, so production needs help.",
        scope.target.name
    );
    over(
        progress,
        end(Word::Restored, Reason::RestoredFromBackup, message, now),
    )
}

fn over(progress: &mut TargetStatus, outcome: Outcome) -> Turn {
    let message = outcome.message.clone();
    let restore: &mut Restore = progress.restore.get_or_insert_default();
    restore.outcome.get_or_insert(outcome);
    Turn::again(message)
}
