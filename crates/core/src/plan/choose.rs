//! Which template one Deployment goes back to, and where that is kept.

use jiff::Timestamp;
use rollback_api::ledger::Verdict;
use rollback_api::request::{Target, ToImage};
use rollback_api::status::{Fallback, Source, SourceRef};
use rollback_api::{Reason, RequestState, RollbackPolicySpec, WorkloadKind};

use super::{Candidate, fallback};
use crate::evidence::trigger::known_since;
use crate::execution::outcome::{Ending, end, refused};
use crate::history::ledger;
use crate::history::template::Template;
use crate::history::{Choice, History, Revision, Wish};
use crate::message::text::plain;
use crate::observed::Deployment;

/// The template that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The template.
    pub template: Template,
    /// Where it is kept.
    pub source: Source,
    /// The object that keeps it.
    pub source_ref: Option<SourceRef>,
    /// Its revision number.
    pub revision: Option<i64>,
    /// Number of the revision that runs.
    pub from_revision: Option<i64>,
    /// Since when the version that runs does so, as far as it is known.
    pub from_since: Option<Timestamp>,
    /// What the reader should know about the choice.
    pub notes: Vec<String>,
    /// What is tried when it does not do.
    pub fallbacks: Vec<Fallback>,
}

/// Chooses, or says why there is nothing to do or nothing to choose. `by_itself`: no person asks, so what a person undid by
/// hand is not chosen either.
pub fn choose(
    target: &Target,
    deployment: &Deployment,
    seen: &Candidate,
    policy: Option<&RollbackPolicySpec>,
    by_itself: bool,
    now: Timestamp,
) -> Result<Chosen, Ending> {
    let marks = policy.map_or(&[][..], |policy| policy.ledger.restart_marks.as_slice());
    let current = deployment.template().with_marks(marks);
    let known = ledger::evidence(seen.ledger.as_ref(), deployment.uid());
    let history = History::of(deployment.uid(), &seen.replica_sets, known);
    let running = history.holding(&current);
    let from_revision = running.and_then(|running| running.number);
    let from_since = known_since(deployment, &seen.replica_sets, seen.ledger.as_ref());
    let pick = Pick {
        index: seen.asked,
        deployment,
        current: &current,
        from_revision,
        from_since,
        now,
    };
    if let Some(backup) = &target.to.backup {
        return pick.backed_up(backup, seen.backup.as_ref());
    }
    if seen.history_cut {
        return pick.refused(
            Reason::TooLarge,
            "to: the Deployment has more ReplicaSets than can be read, so nobody can tell which one is meant. \
             Delete those that nobody goes back to, lower spec.revisionHistoryLimit of the Deployment, and create a new request.",
        );
    }
    let mut bad = ledger::bad_templates(
        seen.ledger.as_ref(),
        deployment.uid(),
        seen.lifted.as_deref(),
        now,
    );
    if by_itself {
        let undone = history.undone(&bad);
        bad.extend(undone);
    }
    let good = good_templates(seen, deployment, policy);
    let choice = history.choose(Wish {
        to: &target.to,
        current: &current,
        bad: &bad,
        good: &good,
        limit: deployment.history_limit(),
    });
    let mut chosen = match (choice, &target.to.image) {
        (Choice::None(Reason::ImageNotInHistory, _), Some(image)) if image.allow_new => {
            pick.new_image(&history, image)
        }
        (choice, _) => pick.revision(choice),
    }?;
    let policy = policy.cloned().unwrap_or_default();
    chosen.fallbacks = fallback::fallbacks(&policy, &pick, &history, &chosen, &bad, &good);
    Ok(chosen)
}

/// Digests of the versions that are known to have been good, the one that ran last first: a rollback to them
/// passed its checks, or each of their replicas was available for long enough. Only time that has been counted: what
/// the ledger says still runs may have been replaced while nobody watched.
fn good_templates(
    seen: &Candidate,
    deployment: &Deployment,
    policy: Option<&RollbackPolicySpec>,
) -> Vec<String> {
    let enough = policy.cloned().unwrap_or_default().ledger.soak_seconds;
    ledger::evidence(seen.ledger.as_ref(), deployment.uid())
        .iter()
        .rev()
        .filter(|entry| match entry.verdict {
            Verdict::Good => true,
            Verdict::Bad | Verdict::Unknown => {
                entry.first_available.is_some() && entry.soaked_seconds >= i64::from(enough)
            }
            // Its time does not count against what a newer version said.
            Verdict::Newer(_) => false,
        })
        .map(|entry| entry.digest.clone())
        .collect()
}

/// What every way to choose needs.
pub(super) struct Pick<'a> {
    index: usize,
    pub(super) deployment: &'a Deployment,
    pub(super) current: &'a Template,
    from_revision: Option<i64>,
    from_since: Option<Timestamp>,
    now: Timestamp,
}

impl Pick<'_> {
    fn refused<T>(&self, reason: Reason, message: &str) -> Result<T, Ending> {
        let message = format!("spec.targets[{}].{message}", self.index);
        Err(refused(reason, message, self.now))
    }

    fn nothing_to_do<T>(&self, which: &str) -> Result<T, Ending> {
        Err(end(
            RequestState::Succeeded,
            Reason::NoOp,
            format!(
                "Deployment {} already runs {which}.",
                self.deployment.name()
            ),
            self.now,
        ))
    }

    fn revision(&self, choice: Choice) -> Result<Chosen, Ending> {
        match choice {
            Choice::Revision { revision, notes } => Ok(Chosen {
                template: revision.template.clone(),
                source: revision.source,
                source_ref: Some(kept_by(revision, self.deployment)),
                revision: revision.number,
                from_revision: self.from_revision,
                from_since: self.from_since,
                notes,
                fallbacks: Vec::new(),
            }),
            Choice::Current(which) => self.nothing_to_do(&which),
            Choice::Equivalent(which) => Err(end(
                RequestState::Succeeded,
                Reason::Equivalent,
                format!(
                    "Deployment {} already runs {which}; the two differ only by a kubectl rollout restart.",
                    self.deployment.name()
                ),
                self.now,
            )),
            Choice::None(reason, message) => self.refused(reason, &message),
        }
    }

    /// The template that a Deployment had before an earlier rollback. Named is named: it may be in quarantine.
    fn backed_up(&self, name: &str, kept: Option<&Deployment>) -> Result<Chosen, Ending> {
        let shown = plain(name, 253);
        let Some(kept) = kept else {
            return self.refused(
                Reason::BackupNotFound,
                &format!(
                    "to.backup: there is no backup {shown} in this namespace. List them: kubectl get configmaps -l rollback.broxiva.com/artifact=backup."
                ),
            );
        };
        if kept.uid() != self.deployment.uid() {
            return self.refused(
                Reason::BackupMismatch,
                &format!(
                    "to.backup: {shown} is a backup of another Deployment ({}, or one that was deleted and made again). Name the backup in status.targets of the request that rolled {} back.",
                    plain(kept.name(), 253),
                    self.deployment.name()
                ),
            );
        }
        let template = kept.template();
        if template == *self.current {
            return self.nothing_to_do(&format!("what is in backup {shown}"));
        }
        Ok(Chosen {
            template,
            source: Source::Backup,
            source_ref: Some(SourceRef {
                name: name.to_owned(),
                uid: None,
            }),
            revision: kept.revision(),
            from_revision: self.from_revision,
            from_since: self.from_since,
            notes: Vec::new(),
            fallbacks: Vec::new(),
        })
    }

    /// What runs, with another image: only on demand, because nobody has seen this template run.
    fn new_image(&self, history: &History, asked: &ToImage) -> Result<Chosen, Ending> {
        let container = match history.container_of(asked, self.current) {
            Ok(container) => container,
            Err(message) => return self.refused(Reason::Ambiguous, &message),
        };
        let Some(template) = self.current.with_image(&container, &asked.image) else {
            return self.refused(
                Reason::ImageNotInHistory,
                &format!(
                    "to.image.container: what runs has no container {}. Its containers: {}.",
                    plain(&container, 63),
                    self.current
                        .images()
                        .into_keys()
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            );
        };
        Ok(Chosen {
            template,
            source: Source::NewImage,
            source_ref: None,
            revision: None,
            from_revision: self.from_revision,
            from_since: self.from_since,
            notes: vec![format!(
                "no revision has this image: what runs now gets it in container {}, as kubectl set image would do",
                plain(&container, 63)
            )],
            fallbacks: Vec::new(),
        })
    }
}

/// The object that keeps a revision.
pub(super) fn kept_by(revision: &Revision, deployment: &Deployment) -> SourceRef {
    let name = match revision.source {
        Source::ReplicaSet => revision.replica_set.clone(),
        Source::Ledger | Source::Backup | Source::NewImage | Source::Newer(_) => {
            ledger::name(WorkloadKind::Deployment, deployment.name())
        }
    };
    SourceRef {
        name,
        uid: Some(revision.uid.clone()).filter(|uid| !uid.is_empty()),
    }
}
