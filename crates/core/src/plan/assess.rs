//! What is known of a write before it is made: what changes, what is missing, what may go wrong.

use jiff::Timestamp;
use rollback_api::policy::SelfHealing;
use rollback_api::request::Target;
use rollback_api::status::{Plan, PlannedTarget, Risk, RiskKind, TemplateRef};
use rollback_api::{Reason, RollbackPolicySpec, RollbackRequest};
use serde_json::Value;

use super::{Checked, Choice, Chosen};
use crate::execution::outcome::{Ending, refused};
use crate::execution::step::{cause, template_patch};
use crate::execution::{artifact, job};
use crate::history::diff;
use crate::history::template::{self, Template};
use crate::message::text::plain;
use crate::observed::{Deployment, Rehearsal};
use crate::plan::references::{self, Reference};
use crate::plan::{data_risk, owner, risks, rules};

/// Most notes about a target that a status takes.
pub(super) const MAX_NOTES: usize = 16;
/// Most image changes of a target that a status takes.
const MAX_IMAGES: usize = 50;
/// Largest backup, in bytes: a ConfigMap holds 1 MiB, its names and labels included.
const MAX_BACKUP: usize = 1_000_000;
/// Largest plan, in bytes: an object holds 1.5 MB, and what becomes of the plan has to fit beside it.
const MAX_PLAN: usize = 700_000;

/// What would be written to a Deployment if the plan were made now.
#[derive(Clone, Debug, PartialEq)]
pub struct Prospect {
    /// What the template refers to.
    pub references: Vec<Reference>,
    /// The write without its preconditions, to be tried out.
    pub patch: Value,
}

impl Prospect {
    pub(super) fn of(request: &RollbackRequest, deployment: &Deployment, chosen: &Chosen) -> Self {
        let cause = cause(
            request,
            chosen.revision,
            chosen.source_ref.as_ref().map(|kept| kept.name.as_str()),
        );
        Self {
            references: references::references(&chosen.template),
            patch: template_patch(deployment, &chosen.template, &cause, false),
        }
    }
}

/// The planned target, unless what was read speaks against it.
pub fn assess(
    target: &Target,
    checked: &Checked,
    policy: Option<&RollbackPolicySpec>,
    lines: usize,
    now: Timestamp,
) -> Result<PlannedTarget, Ending> {
    let Checked {
        choice: Choice { deployment, chosen },
        references,
        rehearsal,
        surroundings,
    } = checked;
    let chosen = chosen.clone();
    let current = deployment.template();
    if let Some(missing) = references::missing(references) {
        return Err(refused(Reason::ReferenceMissing, missing, now));
    }
    let on = policy.map_or_else(SelfHealing::default, |policy| {
        policy.git_ops.on_self_healing
    });
    let owners = owner::assess(deployment, &surroundings.owners, &surroundings.holds, on);
    if let Some((what, next)) = owners.refusal {
        return Err(refused(Reason::SelfHealingOwner, what, now).next(next));
    }
    let (stored_digest, rehearsal_risk) = rehearsed(deployment, &chosen.template, rehearsal, now)?;
    let size = artifact::backup_size(deployment, &chosen.template);
    if size > MAX_BACKUP {
        return Err(refused(
            Reason::TooLarge,
            format!(
                "Deployment {} and the template to go back to take {size} bytes, more than the {MAX_BACKUP} that a backup can hold, and nothing is rolled back without one. Use kubectl rollout undo.",
                deployment.name()
            ),
            now,
        ));
    }
    let mut risks: Vec<Risk> = owners.risks;
    risks.extend(rehearsal_risk);
    risks.extend(references::unknown(references));
    let unknown = policy.cloned().unwrap_or_default().data_gate.unknown;
    risks.extend(data_risk::assess(&current, &chosen.template, unknown));
    risks.extend(risks::mutable_tag(&current, &chosen.template));
    risks.extend(risks::autoscaler(deployment, &surroundings.autoscalers));
    risks.extend(risks::quotas(
        deployment,
        &chosen.template,
        &surroundings.quotas,
    ));
    risks.extend(risks::budgets(deployment, &surroundings.budgets));
    risks.truncate(MAX_NOTES);
    let mut images = template::image_changes(&current, &chosen.template);
    let mut changes = diff::besides_images(&current, &chosen.template);
    let mut notes = chosen.notes;
    shorten(&mut notes, MAX_NOTES - 2, "more revisions were skipped");
    let hidden = images.len().saturating_sub(MAX_IMAGES);
    images.truncate(MAX_IMAGES);
    if hidden > 0 {
        notes.push(format!("{hidden} more containers change their image"));
    }
    shorten(&mut changes, lines - 1, "more changes");
    let jobs = rules::jobs(&policy.cloned().unwrap_or_default());
    let job_images = job::other_images(&jobs, &current, &chosen.template, &images);
    Ok(PlannedTarget {
        workload: deployment.workload(),
        wave: target.wave,
        from: TemplateRef {
            revision: chosen.from_revision,
            digest: current.digest(),
        },
        from_since: chosen.from_since,
        to: TemplateRef {
            revision: chosen.revision,
            digest: chosen.template.digest(),
        },
        stored_digest,
        source: chosen.source,
        source_ref: chosen.source_ref,
        images,
        job_images,
        changes,
        notes,
        risks,
        fallbacks: chosen.fallbacks,
        holds: owners.holds,
    })
}

/// Everything that changes, in lines for a reader.
pub fn all_changes(target: &PlannedTarget) -> Vec<String> {
    let images = target.images.iter().map(|change| {
        let container = plain(&change.container, 63);
        let image = |image: &str| plain(image, 300);
        match (&change.from, &change.to) {
            (Some(from), Some(to)) => {
                format!(
                    "container {container}: image {} -> {}",
                    image(from),
                    image(to)
                )
            }
            (None, Some(to)) => format!("container {container} added (image {})", image(to)),
            (Some(from), None) => format!("container {container} removed (image {})", image(from)),
            (None, None) => format!("container {container}: image not named"),
        }
    });
    images.chain(target.changes.iter().cloned()).collect()
}

/// Cuts a list, and says how much was left out.
fn shorten(list: &mut Vec<String>, most: usize, what: &str) {
    let unsaid = list.len().saturating_sub(most);
    if unsaid > 0 {
        list.truncate(most);
        list.push(format!("{unsaid} {what}"));
    }
}

/// What the dry run said: the digest of what would be stored if it is another, and what is not known.
fn rehearsed(
    deployment: &Deployment,
    template: &Template,
    rehearsal: &Rehearsal,
    now: Timestamp,
) -> Result<(Option<String>, Option<Risk>), Ending> {
    let unsaid = |why: &str| Risk {
        kind: RiskKind::DryRun,
        message: format!(
            "The API server could not say beforehand what it makes of the write: {}. It may still refuse or alter it.",
            plain(why, 500).trim_end_matches('.')
        ),
        blocks: false,
    };
    match rehearsal {
        Rehearsal::LeftOut => Ok((None, None)),
        Rehearsal::Unsaid(why) => Ok((None, Some(unsaid(why)))),
        Rehearsal::Refused { code, message } => Err(refused(
            Reason::PatchRejected,
            format!(
                "The API server does not take the old template of Deployment {} (HTTP {code}): {}.",
                deployment.name(),
                plain(message, 800).trim_end_matches('.')
            ),
            now,
        )),
        Rehearsal::Stored(stored) => {
            let digest = stored.template().digest();
            if digest == template.digest() {
                return Ok((None, None));
            }
            if digest == deployment.template().digest() {
                return Err(refused(
                    Reason::PatchRejected,
                    format!(
                        "An admission plugin or webhook turns the old template of Deployment {} back into the one that runs, so a rollback would do nothing.",
                        deployment.name()
                    ),
                    now,
                )
                .next("Find it with kubectl get mutatingwebhookconfigurations,mutatingadmissionpolicies."));
            }
            let risk = Risk {
                kind: RiskKind::Webhook,
                message: "An admission plugin or webhook alters the old template on its way. What is stored is not the old version letter by letter, and gets a new ReplicaSet.".to_owned(), blocks: false };
            Ok((Some(digest), Some(risk)))
        }
    }
}

/// Why a plan cannot be stored.
pub fn too_large(plan: &Plan, now: Timestamp) -> Option<Ending> {
    let size = serde_json::to_vec(plan).map_or(usize::MAX, |bytes| bytes.len());
    (size > MAX_PLAN).then(|| {
        refused(
            Reason::TooLarge,
            format!(
                "The plan for {} Deployments takes {size} bytes, more than the {MAX_PLAN} that a status can hold. Use several requests, each with a narrower selector or prefix.",
                plan.targets.len()
            ),
            now,
        )
    })
}
