//! The history of a Deployment: its `ReplicaSets` as revisions, and the choice among them.

use rollback_api::request::To;
use rollback_api::{REVISION, REVISION_HISTORY, Reason};

use crate::observed::ReplicaSet;
use crate::template::Template;

/// One `ReplicaSet` that the Deployment controls, read as a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Its number now; absent when the Deployment controller has not numbered it yet.
    pub number: Option<i64>,
    /// Numbers that it had before it was rolled back to.
    pub former: Vec<i64>,
    /// Name of the `ReplicaSet`.
    pub replica_set: String,
    /// UID of the `ReplicaSet`.
    pub uid: String,
    /// Its pod template.
    pub template: Template,
}

/// The revisions of a Deployment, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Newest first; those without a number last.
    pub revisions: Vec<Revision>,
    /// `ReplicaSets` whose number is not a number.
    pub unreadable: Vec<String>,
}

/// The revision that a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice<'a> {
    /// Go back to this one.
    Revision {
        /// The revision.
        revision: &'a Revision,
        /// What the reader should know about the choice.
        notes: Vec<String>,
    },
    /// It already runs.
    Current(String),
    /// It already runs, but for a restart.
    Equivalent(String),
    /// There is none to go back to.
    None(Reason, String),
}

impl History {
    /// Reads the `ReplicaSets` that `deployment_uid` controls. Those of others with the same labels,
    /// and those that are being deleted, are no history.
    pub fn of(deployment_uid: &str, replica_sets: &[ReplicaSet]) -> Self {
        let mut history = Self::default();
        let owned = replica_sets
            .iter()
            .filter(|set| set.controller_uid() == Some(deployment_uid) && !set.is_deleting());
        for set in owned {
            match set.annotation(REVISION).map(str::parse::<i64>).transpose() {
                Ok(number) => history.revisions.push(Revision {
                    number: number.filter(|number| *number > 0),
                    former: former_numbers(set),
                    replica_set: set.name().to_owned(),
                    uid: set.uid().to_owned(),
                    template: set.template(),
                }),
                Err(_) => history.unreadable.push(set.name().to_owned()),
            }
        }
        history
            .revisions
            .sort_by(|a, b| (b.number, &b.replica_set).cmp(&(a.number, &a.replica_set)));
        history
    }

    /// The revision that holds this very template; the newest when there are several.
    pub fn holding(&self, template: &Template) -> Option<&Revision> {
        self.revisions
            .iter()
            .find(|revision| revision.template == *template)
    }

    /// The revision that `to` means for a Deployment that runs `current`. Digests in `bad` are
    /// chosen only when they are named.
    pub fn choose(&self, to: &To, current: &Template, bad: &[String]) -> Choice<'_> {
        // Without rest, so that a new way to name a target cannot be forgotten here.
        let To {
            previous,
            revision,
            version,
            image,
            last_known_good,
        } = to;
        let ways = [
            previous.is_some(),
            revision.is_some(),
            version.is_some(),
            image.is_some(),
            last_known_good.is_some(),
        ];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Choice::None(
                Reason::Unsupported,
                "spec.targets[0].to: this names more than one version. Name one.".to_owned(),
            );
        }
        if previous.is_some() {
            return self.previous(current, bad);
        }
        if let Some(number) = revision {
            return self.numbered(*number, current);
        }
        if let Some(version) = version {
            return self.with_version(version, current, bad);
        }
        if let Some(image) = image {
            return self.with_image(image, current, bad);
        }
        Choice::None(
            Reason::Unsupported,
            "spec.targets[0].to: this version goes back to previous, to a revision, a version or an image. \
             Pick a number from kubectl rollout history and ask for that revision."
                .to_owned(),
        )
    }

    /// The newest numbered revision that differs from what runs and is not known to be bad. What runs
    /// is taken from the Deployment, never from the numbers: after a rollback, or while the newest
    /// template has no `ReplicaSet` yet, those point at the wrong one.
    fn previous(&self, current: &Template, bad: &[String]) -> Choice<'_> {
        let mut skipped = Vec::new();
        for revision in &self.revisions {
            let Some(number) = revision.number else {
                continue;
            };
            if revision.template.is_equivalent(current) {
                continue;
            }
            if bad.contains(&revision.template.digest()) {
                skipped.push(format!(
                    "revision {number} is known to be bad and was skipped"
                ));
                continue;
            }
            let rivals: Vec<&Revision> = self
                .revisions
                .iter()
                .filter(|other| other.number == Some(number))
                .filter(|other| !other.template.is_equivalent(current))
                .filter(|other| !bad.contains(&other.template.digest()))
                .collect();
            if rivals
                .iter()
                .any(|other| other.template != revision.template)
            {
                return Choice::None(Reason::Ambiguous, ambiguous("previous", number, &rivals));
            }
            // First, so that it is not the one that is left out when there are many.
            let notes = self.unreadable_note().into_iter().chain(skipped).collect();
            return Choice::Revision { revision, notes };
        }
        let mut message = String::from(
            "spec.targets[0].to.previous: there is no earlier revision to go back to.",
        );
        for note in skipped.into_iter().chain(self.unreadable_note()) {
            message = format!("{message} {}.", capital(&note));
        }
        message.push_str(
            " Look at kubectl rollout history; if the old version is not in it, deploy it anew.",
        );
        Choice::None(Reason::NoHistory, message)
    }

    /// The revision with this number, or the one that had it before it was renumbered.
    fn numbered(&self, number: i64, current: &Template) -> Choice<'_> {
        let now: Vec<&Revision> = self
            .revisions
            .iter()
            .filter(|r| r.number == Some(number))
            .collect();
        let before: Vec<&Revision> = self
            .revisions
            .iter()
            .filter(|r| r.former.contains(&number))
            .collect();
        let (revision, notes) = match (now.as_slice(), before.as_slice()) {
            ([only], _) => (*only, Vec::new()),
            ([], [only]) => {
                let renumbered = only.number.map_or_else(
                    || format!("revision {number} has no number now"),
                    |new| format!("revision {number} was renumbered and is revision {new} now"),
                );
                (*only, vec![renumbered])
            }
            ([], []) => return Choice::None(Reason::RevisionNotFound, self.not_found(number)),
            ([_, _, ..], _) | ([], [_, _, ..]) => {
                let candidates = if now.is_empty() { before } else { now };
                return Choice::None(
                    Reason::Ambiguous,
                    ambiguous("revision", number, &candidates),
                );
            }
        };
        if revision.template == *current {
            return Choice::Current(format!("revision {number}"));
        }
        if revision.template.is_equivalent(current) {
            return Choice::Equivalent(format!("revision {number}"));
        }
        Choice::Revision { revision, notes }
    }

    fn not_found(&self, number: i64) -> String {
        let known: Vec<String> = self
            .revisions
            .iter()
            .filter_map(|revision| revision.number)
            .map(|known| known.to_string())
            .collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let unreadable = self
            .unreadable_note()
            .map_or_else(String::new, |note| format!(" {}.", capital(&note)));
        format!(
            "spec.targets[0].to.revision: revision {number} is not in the history; known revisions: {known}.{unreadable} \
             Pick one of them, or raise spec.revisionHistoryLimit of the Deployment so that more are kept."
        )
    }

    pub(crate) fn unreadable_note(&self) -> Option<String> {
        (!self.unreadable.is_empty()).then(|| {
            format!(
                "the revision number of {} cannot be read, so it was left out",
                self.unreadable.join(", ")
            )
        })
    }
}

fn ambiguous(asked: &str, number: i64, candidates: &[&Revision]) -> String {
    let names: Vec<&str> = candidates.iter().map(|r| r.replica_set.as_str()).collect();
    format!(
        "spec.targets[0].to.{asked}: revision {number} could be any of the ReplicaSets {}; nobody should guess. \
         Delete the one that is wrong, or ask for a revision whose number is unique.",
        names.join(", ")
    )
}

fn former_numbers(set: &ReplicaSet) -> Vec<i64> {
    set.annotation(REVISION_HISTORY)
        .unwrap_or_default()
        .split(',')
        .filter_map(|number| number.trim().parse().ok())
        .collect()
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}
