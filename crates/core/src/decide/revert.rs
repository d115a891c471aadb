//! From the claim to the one write.

use jiff::Timestamp;
use rollback_api::status::{Artifact as ArtifactStatus, Outcome, PlannedTarget, Revert as Intent};
use rollback_api::{CHANGE_CAUSE, Reason, RollbackRequest, RollbackRequestStatus, Word};
use serde_json::{Value, json};

use super::preconditions::{planned_template, ready_to_write};
use super::{finish, only_target, uid};
use crate::conditions::Stand;
use crate::ledger::Holder;
use crate::observed::{Deployment, Observed, Rejection, Rival, Seen};
use crate::plan::end;
use crate::step::{Revert, Step};
use crate::template::Template;
use crate::text::plain;
use crate::{artifact, ledger, time};

/// The way to the one write: claim, backup, intent, patch. A pass that begins in the middle goes on
/// from there.
pub(super) fn writing(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let deployment = match ready_to_write(request, observed, status, now) {
        Ok(deployment) => deployment,
        Err(stand) => return stand,
    };
    let Some((_, target, progress)) = only_target(status) else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    if let Err(stand) = hold_claim(request, observed, target, now) {
        return stand;
    }
    let restored = match planned_template(observed, target, now) {
        Ok(template) => template,
        Err(outcome) => return finish(status, outcome),
    };
    let backup = match (&progress.backup, &observed.backup) {
        (Some(known), _) => known.clone(),
        (None, Seen::Found(at)) => ArtifactStatus {
            config_map: artifact::backup_name(request, &target.name),
            at: *at,
        },
        (None, Seen::Absent) => {
            let step = Step::BackUp(artifact::backup(request, target, deployment, &restored));
            return Stand::new(step, preparing(&target.name));
        }
        (None, Seen::Unknown) => return Stand::recheck(now, "Reading the backup."),
    };
    let revert = revert(request, target, deployment, &restored);
    if let Some(outcome) = rejected(&revert, observed.rejection.as_ref(), now) {
        return finish(status, outcome);
    }
    let message = format!("Writing the old template to Deployment {}.", target.name);
    if let Some(progress) = status.targets.first_mut() {
        progress.backup = Some(backup);
        progress.revert.get_or_insert_with(|| Intent {
            intended_at: now,
            progressing: deployment.progressing(),
        });
    }
    Stand::new(Step::Revert(revert), message)
}

/// The same for every step before the write: a status that only says which one would cost a commit.
pub(super) fn preparing(deployment: &str) -> String {
    format!("Approved; claiming and saving Deployment {deployment}.")
}

/// Ok when we hold the claim. One that somebody else holds is taken only when they have ended.
fn hold_claim(
    request: &RollbackRequest,
    observed: &Observed,
    target: &PlannedTarget,
    now: Timestamp,
) -> Result<(), Stand> {
    if observed.ledger == Seen::Unknown {
        return Err(Stand::recheck(now, "Reading the ledger."));
    }
    let held = observed.ledger.found();
    match (
        ledger::holder(held, &target.uid, uid(request)),
        &observed.rival,
    ) {
        (Holder::Us, _) => Ok(()),
        (Holder::Nobody, _)
        | (Holder::Other(_), Seen::Found(Rival { active: false, .. }) | Seen::Absent) => {
            let step = Step::Claim {
                deployment: target.name.clone(),
                ledger: ledger::claimed(held, request, target),
            };
            Err(Stand::new(step, preparing(&target.name)))
        }
        (Holder::Other(claim), Seen::Found(_) | Seen::Unknown) => {
            let message = format!(
                "Waiting for RollbackRequest {}, which works on Deployment {}.",
                plain(&claim.request, 253),
                target.name
            );
            let until = Some(time::after(now, 5));
            Err(Stand::new(Step::Wait { until }, message))
        }
    }
}

/// A refusal is final when the same patch, with the same preconditions, would be sent again.
fn rejected(revert: &Revert, rejection: Option<&Rejection>, now: Timestamp) -> Option<Outcome> {
    let rejection = rejection.filter(|rejection| rejection.patch == revert.patch)?;
    Some(end(
        Word::Failed,
        Reason::PatchRejected,
        format!(
            "The API server does not take the old template of Deployment {} (HTTP {}): {}. Nothing was changed.",
            revert.deployment,
            rejection.code,
            plain(&rejection.message, 800).trim_end_matches('.')
        ),
        now,
    ))
}

/// The one write: template and change-cause, if the Deployment is still the one that was just read.
fn revert(
    request: &RollbackRequest,
    target: &PlannedTarget,
    deployment: &Deployment,
    restored: &Template,
) -> Revert {
    let cause = format!(
        "rollback to revision {} by RollbackRequest {} ({})",
        target.to_revision,
        request.metadata.name.as_deref().unwrap_or_default(),
        uid(request)
    );
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": target.uid}),
        json!({"op": "test", "path": "/metadata/generation", "value": deployment.generation()}),
    ];
    // The map must be there before a key can be added, and must not be replaced if it came meanwhile.
    if !deployment.has_annotations() {
        patch.push(json!({"op": "test", "path": "/metadata/annotations", "value": null}));
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    patch.push(json!({"op": "replace", "path": "/spec/template", "value": restored.as_json()}));
    let change_cause = format!("/metadata/annotations/{}", CHANGE_CAUSE.replace('/', "~1"));
    patch.push(json!({"op": "add", "path": change_cause, "value": cause}));
    Revert {
        deployment: target.name.clone(),
        patch: Value::Array(patch),
    }
}
