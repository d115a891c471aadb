//! What is tried, once, when the version to go back to does not do. It is in the plan, so that it is approved with it.

use rollback_api::policy::OnUnwell;
use rollback_api::status::{Fallback, FallbackWhen, ImageChange, Source, TemplateRef};
use rollback_api::{RollbackPolicySpec, WorkloadKind};

use super::choose::{Chosen, Pick, kept_by};
use crate::history::template::{self, Template};
use crate::history::{History, Revision};

/// Most image changes that are told of one fallback.
const MAX_IMAGES: usize = 50;

/// The fallbacks that the policy asks for and the history has.
pub(super) fn fallbacks(
    policy: &RollbackPolicySpec,
    pick: &Pick,
    history: &History,
    chosen: &Chosen,
    bad: &[String],
    good: &[String],
) -> Vec<Fallback> {
    let older = (policy.verification.on_failure == OnUnwell::TryOlder)
        .then(|| older(history, pick.current, chosen, bad, good))
        .flatten()
        .map(|revision| of_revision(revision, pick, chosen));
    let image = known_image(policy, pick, chosen);
    older.into_iter().chain(image).collect()
}

/// The newest revision that is older than the chosen one and known to be good; without any, the newest that is older and
/// not known to be bad.
fn older<'a>(
    history: &'a History,
    current: &Template,
    chosen: &Chosen,
    bad: &[String],
    good: &[String],
) -> Option<&'a Revision> {
    let limit = chosen.revision?;
    let candidates = || {
        history.revisions.iter().filter(|revision| {
            let digest = revision.template.digest();
            revision.number.is_some_and(|number| number < limit)
                && !bad.contains(&digest)
                && !revision.template.is_equivalent(current)
                && !revision.template.is_equivalent(&chosen.template)
        })
    };
    candidates()
        .find(|revision| good.contains(&revision.template.digest()))
        .or_else(|| candidates().next())
}

fn of_revision(revision: &Revision, pick: &Pick, chosen: &Chosen) -> Fallback {
    Fallback {
        when: FallbackWhen::Unwell,
        to: TemplateRef {
            revision: revision.number,
            digest: revision.template.digest(),
        },
        source: revision.source,
        source_ref: Some(kept_by(revision, pick.deployment)),
        images: changes(&chosen.template, &revision.template),
    }
}

/// The version to go back to, with the images that the policy knows to be good.
fn known_image(policy: &RollbackPolicySpec, pick: &Pick, chosen: &Chosen) -> Option<Fallback> {
    let template = policy
        .remedies
        .fallback_images
        .iter()
        .filter(|known| {
            let name = pick.deployment.name();
            known.target_ref.means(WorkloadKind::Deployment, name)
        })
        .fold(chosen.template.clone(), |template, known| {
            let with = template.with_image(&known.container, &known.image);
            with.unwrap_or(template)
        });
    let images = changes(&chosen.template, &template);
    (!images.is_empty()).then(|| Fallback {
        when: FallbackWhen::ImagePull,
        to: TemplateRef {
            revision: None,
            digest: template.digest(),
        },
        source: Source::NewImage,
        source_ref: None,
        images,
    })
}

fn changes(from: &Template, to: &Template) -> Vec<ImageChange> {
    let mut images = template::image_changes(from, to);
    images.truncate(MAX_IMAGES);
    images
}
