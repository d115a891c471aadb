//! The template that was approved, where it is kept now.

use rollback_api::status::{ImageChange, PlannedTarget, Source};
use rollback_api::{Reason, RequestState, RevisionLedgerSpec};

use super::TargetScope;
use crate::execution::outcome::{Ending, end};
use crate::history::template::Template;
use crate::history::{History, ledger};
use crate::observed::view::WritingView;
use crate::observed::{Deployment, ReplicaSet};

/// Where templates of a Deployment are kept.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// The Deployment.
    pub deployment: Option<&'a Deployment>,
    /// Its ledger.
    pub ledger: Option<&'a RevisionLedgerSpec>,
    /// Its `ReplicaSets`; of those that the plan does not name, none is needed.
    pub replica_sets: &'a [ReplicaSet],
    /// The Deployment in the backup that the plan names.
    pub backup: Option<&'a Deployment>,
}

/// The template of the target, as the plan says, or of its fallback while that is tried; where it is kept.
pub fn kept_template(target: &PlannedTarget, places: Places<'_>) -> Option<Template> {
    let tried = target.fallbacks.iter();
    let mut tried = tried.filter(|planned| planned.to.digest == target.to.digest);
    let images = tried
        .next()
        .map_or(&target.images, |planned| &planned.images);
    kept(target, images, places)
}

/// A `ReplicaSet` that was pruned meanwhile does no harm when the ledger keeps the same template. `images`: what a new
/// image changes of what runs.
fn kept(target: &PlannedTarget, images: &[ImageChange], places: Places<'_>) -> Option<Template> {
    let in_ledger = || {
        ledger::evidence(places.ledger, &target.workload.uid)
            .iter()
            .filter(|entry| entry.digest == target.to.digest)
            .find_map(ledger::kept_template)
    };
    match target.source {
        Source::ReplicaSet => History::of(&target.workload.uid, places.replica_sets, &[])
            .revisions
            .into_iter()
            .find(|revision| Some(revision.uid.as_str()) == target.source_uid())
            .map(|revision| revision.template)
            .or_else(in_ledger),
        Source::Ledger => in_ledger(),
        Source::Backup => places.backup.map(Deployment::template),
        Source::NewImage => images
            .iter()
            .try_fold(places.deployment?.template(), |template, change| {
                template.with_image(&change.container, change.to.as_deref()?)
            }),
        Source::Newer(_) => None,
    }
}

/// The template that was approved, as it is kept now.
pub(super) fn planned_template<'a>(
    scope: TargetScope,
    view: &'a WritingView,
) -> Result<&'a Template, Ending> {
    let TargetScope { target, now, .. } = scope;
    let Some(template) = &view.template else {
        return Err(end(
            RequestState::Refused,
            Reason::HistoryPruned,
            format!("{} was deleted since the plan was made.", place(target)),
            now,
        )
        .next(format!("Create a new request{}.", remedy(target.source))));
    };
    if template.digest() != target.to.digest {
        return Err(end(
            RequestState::Refused,
            Reason::DigestMismatch,
            format!(
                "Somebody edited the template of {} since the plan was made, so it is not what was approved.",
                place(target)
            ),
            now,
        )
        .next("Create a new request and look at its plan closely."));
    }
    Ok(template)
}

/// Where the template is kept, for a reader.
fn place(target: &PlannedTarget) -> String {
    let name = target.source_name().unwrap_or_default();
    match target.source {
        Source::ReplicaSet => {
            let which = target.to.revision.map_or_else(
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
