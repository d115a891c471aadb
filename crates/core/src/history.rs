//! The history of a Deployment: its `ReplicaSets` as revisions, what its ledger keeps of those that
//! are gone, and the choice among them.

pub mod diff;
pub mod image;
pub mod ledger;
mod named;
pub mod quarantine;
pub mod restart;
pub mod template;

use rollback_api::ledger::{Evidence, Verdict};
use rollback_api::request::To;
use rollback_api::status::Source;
use rollback_api::{REVISION, REVISION_HISTORY, Reason};

use crate::history::template::Template;
use crate::observed::ReplicaSet;

/// One `ReplicaSet` that the Deployment controls, or a template that its ledger keeps, read as a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Its number now; absent when the Deployment controller has not numbered it yet.
    pub number: Option<i64>,
    /// Numbers that it had before it was rolled back to.
    pub former: Vec<i64>,
    /// Where its template is kept.
    pub source: Source,
    /// Name of the `ReplicaSet`; empty for one that only the ledger knows.
    pub replica_set: String,
    /// UID of the `ReplicaSet`; empty for one that only the ledger knows.
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
    /// `ReplicaSets` whose template was not read, because they are too many or too large.
    pub unread: Vec<Unread>,
}

/// A `ReplicaSet` of which only the metadata are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// Its number now.
    pub number: Option<i64>,
    /// Numbers that it had before.
    pub former: Vec<i64>,
    /// Its name.
    pub replica_set: String,
}

/// What a choice looks at besides the revisions.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What is asked for.
    pub to: &'a To,
    /// What runs now.
    pub current: &'a Template,
    /// Digests that are chosen only when they are named.
    pub bad: &'a [String],
    /// Digests of the versions that are known to have been good, the one that ran last first.
    pub good: &'a [String],
    /// How many old `ReplicaSets` the Deployment keeps.
    pub limit: i64,
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
    /// and those that are being deleted, are no history. What the ledger keeps of good versions whose `ReplicaSet` is
    /// gone is. Another template that it still has is that of what runs, or ran when it was written last, and is not
    /// kept: a plan that relies on it may have nothing to go back to when it is approved.
    pub fn of(deployment_uid: &str, replica_sets: &[ReplicaSet], known: &[Evidence]) -> Self {
        let mut history = Self::default();
        let owned = replica_sets
            .iter()
            .filter(|set| set.controller_uid() == Some(deployment_uid) && !set.is_deleting());
        for set in owned {
            if !set.is_read() {
                history.unread.push(Unread {
                    number: set.annotation(REVISION).and_then(|it| it.parse().ok()),
                    former: former_numbers(set),
                    replica_set: set.name().to_owned(),
                });
                continue;
            }
            match set.annotation(REVISION).map(str::parse::<i64>).transpose() {
                Ok(number) => history.revisions.push(Revision {
                    number: number.filter(|number| *number > 0),
                    former: former_numbers(set),
                    source: Source::ReplicaSet,
                    replica_set: set.name().to_owned(),
                    uid: set.uid().to_owned(),
                    template: set.template(),
                }),
                Err(_) => history.unreadable.push(set.name().to_owned()),
            }
        }
        for entry in known.iter().filter(|entry| entry.verdict == Verdict::Good) {
            let has_set = |revision: &Revision| revision.template.digest() == entry.digest;
            if let Some(template) = ledger::kept_template(entry)
                && !history.revisions.iter().any(has_set)
            {
                history.revisions.push(Revision {
                    number: entry.revision.filter(|number| *number > 0),
                    former: Vec::new(),
                    source: Source::Ledger,
                    replica_set: String::new(),
                    uid: String::new(),
                    template,
                });
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

    /// The revision that is wished for. A backup or a new image is no revision: see [`crate::plan`].
    pub fn choose(&self, wish: Wish) -> Choice<'_> {
        // Without rest, so that a new way to name a target cannot be forgotten here.
        let To {
            previous,
            revision,
            version,
            image,
            last_known_good,
            backup,
        } = wish.to;
        let ways = [
            previous.is_some(),
            revision.is_some(),
            version.is_some(),
            image.is_some(),
            last_known_good.is_some(),
            backup.is_some(),
        ];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Choice::None(
                Reason::Unsupported,
                "to: this names more than one version. Name one.".to_owned(),
            );
        }
        if let Some(number) = revision {
            return self.numbered(*number, wish.current);
        }
        if let Some(version) = version {
            let choice = self.with_version(version, wish.current, wish.bad);
            return self.unless_unread("version", choice);
        }
        if let Some(image) = image {
            let choice = self.with_image(image, wish.current, wish.bad);
            return self.unless_unread("image", choice);
        }
        if last_known_good.is_some() {
            return self.last_known_good(wish);
        }
        if previous.is_some() {
            return self.unless_unread("previous", self.previous(wish));
        }
        Choice::None(
            Reason::Unsupported,
            "to: this names no version. Say previous, or a number from kubectl rollout history."
                .to_owned(),
        )
    }

    /// The choice, unless it would be another one if all templates had been read. They are read from the newest to the
    /// oldest, so what was not read matters only when nothing was found that is newer.
    fn unless_unread<'a>(&self, asked: &str, choice: Choice<'a>) -> Choice<'a> {
        let matters = match &choice {
            Choice::Revision { revision, .. } => self
                .unread
                .iter()
                .any(|unread| unread.number >= revision.number),
            Choice::None(
                Reason::NoHistory
                | Reason::HistoryPruned
                | Reason::ImageNotInHistory
                | Reason::VersionNotInHistory,
                _,
            ) => !self.unread.is_empty(),
            Choice::None(..) | Choice::Current(_) | Choice::Equivalent(_) => false,
        };
        if matters {
            self.not_read(asked)
        } else {
            choice
        }
    }

    /// Nobody can tell, because not everything was read.
    fn not_read(&self, asked: &str) -> Choice<'static> {
        const TOLD: usize = 5;
        let names: Vec<&str> = self
            .unread
            .iter()
            .take(TOLD)
            .map(|unread| unread.replica_set.as_str())
            .collect();
        let more = if self.unread.len() > TOLD {
            ", ..."
        } else {
            ""
        };
        Choice::None(
            Reason::TooLarge,
            format!(
                "to.{asked}: the templates of {} ReplicaSets of the Deployment were not read, because they are too many or too large ({}{more}), and what is asked for may be one of them. \
                 Ask for a revision by its number (kubectl rollout history), or delete ReplicaSets that nobody goes back to, lower spec.revisionHistoryLimit of the Deployment, and create a new request.",
                self.unread.len(),
                names.join(", ")
            ),
        )
    }

    /// Digests of the versions that were undone: each ran between two times of a version that was gone back to, whoever
    /// did that. One that ran again after that came again, and went back to nothing: it stays undone, and undoes
    /// nothing. What is bad and came again does not either.
    pub fn undone(&self, bad: &[String]) -> Vec<String> {
        let is_bad = |revision: &Revision| bad.contains(&revision.template.digest());
        let is_bad: Vec<bool> = self.revisions.iter().map(is_bad).collect();
        // Each time that a version went live, in their order.
        let numbered = self.revisions.iter().enumerate();
        let numbered = numbered.filter_map(|(at, it)| Some((at, it.number?, &it.former)));
        let mut runs: Vec<(i64, usize)> = numbered
            .flat_map(|(at, number, former)| {
                former
                    .iter()
                    .chain([&number])
                    .map(move |number| (*number, at))
                    .collect::<Vec<_>>()
            })
            .collect();
        runs.sort_unstable();
        let mut is_undone = vec![false; runs.len()];
        let mut last = vec![None; self.revisions.len()];
        let mut came_again = vec![false; self.revisions.len()];
        for (place, (_, at)) in runs.iter().enumerate() {
            if let Some(before) = last[*at].replace(place) {
                came_again[*at] = is_undone[before];
                if !is_undone[before] && !is_bad[*at] {
                    is_undone[before + 1..place].fill(true);
                }
            }
        }
        let is_meant = |at: usize| came_again[at] || last[at].is_some_and(|run| is_undone[run]);
        let revisions = self.revisions.iter().enumerate();
        revisions
            .filter(|(at, _)| is_meant(*at))
            .map(|(_, revision)| revision.template.digest())
            .collect()
    }

    /// The newest version that is known to have been good, is not in quarantine, and is not what runs.
    fn last_known_good(&self, wish: Wish) -> Choice<'_> {
        let mut lost = 0;
        for digest in wish.good.iter().filter(|digest| !wish.bad.contains(digest)) {
            let kept = self
                .revisions
                .iter()
                .find(|revision| revision.template.digest() == **digest);
            match kept {
                Some(revision) if revision.template.is_equivalent(wish.current) => {}
                Some(revision) => {
                    let notes = self.unreadable_note().into_iter().collect();
                    return Choice::Revision { revision, notes };
                }
                None if *digest == wish.current.digest() => {}
                None if !self.unread.is_empty() => return self.not_read("lastKnownGood"),
                None => lost += 1,
            }
        }
        if lost > 0 {
            return Choice::None(
                Reason::HistoryPruned,
                format!(
                    "to.lastKnownGood: {lost} versions are known to have been good, but neither the history nor the ledger has their templates any more. Raise spec.revisionHistoryLimit of the Deployment ({}) or ledger.keepTemplates of the policy, and deploy the good version anew.",
                    wish.limit
                ),
            );
        }
        Choice::None(
            Reason::NoKnownGood,
            "to.lastKnownGood: no earlier version is known to have been good: none was available for as long as ledger.soakSeconds of the policy asks while the controller watched. Look at kubectl rollout history and ask for a revision."
                .to_owned(),
        )
    }

    /// The newest numbered revision that differs from what runs and is not known to be bad. What runs
    /// is taken from the Deployment, never from the numbers: after a rollback, or while the newest
    /// template has no `ReplicaSet` yet, those point at the wrong one.
    fn previous(&self, wish: Wish) -> Choice<'_> {
        let Wish {
            current,
            bad,
            limit,
            ..
        } = wish;
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
        if limit == 0 && skipped.is_empty() {
            return Choice::None(
                Reason::HistoryPruned,
                "to.previous: there is no earlier revision, because spec.revisionHistoryLimit of the Deployment is 0 and the ledger keeps no good template yet. Raise the limit; if the old version is needed now, deploy it anew."
                    .to_owned(),
            );
        }
        let all_bad = !skipped.is_empty();
        let mut message = String::from("to.previous: there is no earlier revision to go back to.");
        for note in skipped.into_iter().chain(self.unreadable_note()) {
            message = format!("{message} {}.", capital(&note));
        }
        message.push_str(if all_bad {
            // They were rolled back before, so only a person may say that one of them is wanted nevertheless.
            " To go back to one of them nevertheless, name it (to.revision), or lift its quarantine; otherwise deploy a good version anew."
        } else {
            " Look at kubectl rollout history; if the old version is not in it, deploy it anew."
        });
        Choice::None(Reason::NoHistory, message)
    }

    /// The revision with this number, or the one that had it before it was renumbered.
    fn numbered(&self, number: i64, current: &Template) -> Choice<'_> {
        let now: Vec<&Revision> = self
            .revisions
            .iter()
            .filter(|r| r.number == Some(number))
            .collect();
        let is_hidden = self.unread.iter().any(|unread| {
            unread.number == Some(number) || (now.is_empty() && unread.former.contains(&number))
        });
        if is_hidden {
            return self.not_read("revision");
        }
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
            "to.revision: revision {number} is not in the history; known revisions: {known}.{unreadable} \
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
    let name = |revision: &&Revision| match revision.source {
        Source::ReplicaSet => revision.replica_set.clone(),
        Source::Ledger | Source::Backup | Source::NewImage | Source::Newer(_) => {
            "(kept in the ledger)".to_owned()
        }
    };
    let names: Vec<String> = candidates.iter().map(name).collect();
    format!(
        "to.{asked}: revision {number} could be any of the ReplicaSets {}; nobody should guess. \
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
