//! The pods of a version under analysis beside those of the versions before, and what sets the two apart.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::symptom::{self, Beside, Changed, Symptom};
use super::watch::{Look, Remembered, Trouble};
use crate::message::redact::redact;
use crate::message::text::plain;
use crate::observed::ReplicaSet;
use crate::time;

/// Most pods whose words are quoted.
const QUOTED: usize = 3;
/// How long a gate may be shut after the containers are ready: load balancers look several times.
const GATE_SECONDS: i64 = 180;
/// Longest sentence of the evidence, in characters.
const LONGEST: usize = 400;

/// The pods that are compared.
pub(super) struct Census {
    new: Vec<Symptom>,
    old: Vec<Symptom>,
    /// What pods of the new version in trouble say.
    words: Vec<String>,
    /// When a pod of the new version began, or became ready, last.
    pub(super) progress: Option<Timestamp>,
    /// Whether a pod of the new version is being taken away, so that another one has to begin anew.
    evicted: bool,
}

impl Census {
    /// Whether all new pods are well.
    pub(super) fn is_all_well(&self) -> bool {
        self.new.iter().all(|symptom| *symptom == Symptom::Well)
    }

    /// Whether at least half of the new pods show it, and the old ones do not show the like.
    pub(super) fn is_its_own(&self, trouble: Trouble) -> bool {
        let reached = self
            .new
            .iter()
            .filter(|symptom| !matches!(symptom, Symptom::Lost | Symptom::Around))
            .count();
        let affected = shows(&self.new, |symptom| is(symptom, trouble));
        if affected == 0 || affected * 2 < reached {
            return false;
        }
        let alike = shows(&self.old, |symptom| is_like(symptom, trouble));
        match trouble {
            // One old pod that was started again and fails alike says it all.
            Trouble::ImagePull | Trouble::Config => alike == 0,
            Trouble::Crash | Trouble::Unready | Trouble::Stuck => {
                // Half as often among the old ones as among the new ones is too often.
                alike * 2 * self.new.len() < affected * self.old.len().max(1)
            }
        }
    }

    /// From when on at least half of the new pods were not ready any more.
    pub(super) fn unready_since(&self) -> Option<Timestamp> {
        let mut since: Vec<Timestamp> = self
            .new
            .iter()
            .filter_map(|symptom| match symptom {
                Symptom::Unready(since) => Some(*since),
                // What opens a gate takes its time before it may be called shut.
                Symptom::Gated(since) => Some(time::after(*since, GATE_SECONDS)),
                Symptom::Around
                | Symptom::Well
                | Symptom::Coming
                | Symptom::Crash
                | Symptom::ImagePull
                | Symptom::PullAgain
                | Symptom::Registry
                | Symptom::Config
                | Symptom::Unscheduled
                | Symptom::Lost => None,
            })
            .collect();
        since.sort();
        since
            .get(self.new.len().div_ceil(2).saturating_sub(1))
            .copied()
    }

    /// Whether something around the version is in the way: a node that is lost or emptied, a registry that does not answer, or
    /// what old pods lack as well.
    pub(super) fn is_disturbed(&self) -> bool {
        let around = |symptom: Symptom| {
            matches!(symptom, Symptom::Lost | Symptom::Registry | Symptom::Around)
        };
        let lacking = |symptom: Symptom| {
            matches!(
                symptom,
                Symptom::ImagePull | Symptom::PullAgain | Symptom::Config | Symptom::Unscheduled
            )
        };
        self.evicted
            || shows(&self.new, around) > 0
            || shows(&self.old, |it| around(it) || lacking(it)) > 0
    }

    /// Whether a rollout that does not get on is held up by the version, and by nothing around it. `asks_for_more`: more,
    /// or something else, of nodes and namespace than the version before.
    pub(super) fn is_held_up(&self, asks_for_more: bool) -> bool {
        let sick = |symptom: Symptom| !matches!(symptom, Symptom::Well | Symptom::Coming);
        let old_sick = shows(&self.old, sick);
        if self.is_disturbed() || old_sick * 2 >= self.old.len().max(1) {
            return false;
        }
        let unplaced = shows(&self.new, |symptom| symptom == Symptom::Unscheduled);
        if unplaced > 0 || self.new.is_empty() {
            return asks_for_more && old_sick == 0;
        }
        // A version of which most pods are ready is not what keeps the others from it.
        shows(&self.new, |symptom| symptom != Symptom::Well) * 2 >= self.new.len()
    }

    /// What was seen of a trouble, in sentences.
    pub(super) fn evidence(&self, trouble: Trouble, since: Timestamp) -> Vec<String> {
        let total = self.new.len();
        let affected = match trouble {
            Trouble::Stuck => shows(&self.new, |symptom| symptom != Symptom::Well),
            Trouble::Crash | Trouble::ImagePull | Trouble::Config | Trouble::Unready => {
                shows(&self.new, |symptom| is(symptom, trouble))
            }
        };
        let what = match trouble {
            Trouble::Crash => "crash over and over",
            Trouble::ImagePull => "cannot get their image, which is not there or not ours to pull",
            Trouble::Config => "have containers that cannot be made as the template asks",
            Trouble::Unready => "are not ready any more, or are kept from it by a readiness gate",
            Trouble::Stuck => "are not ready, and the rollout does not get on",
        };
        let well = shows(&self.old, |symptom| symptom == Symptom::Well);
        let mut sentences = vec![format!(
            "{affected} of {total} pods of the new version {what}, since {}.",
            time::stamp(since)
        )];
        if !self.old.is_empty() {
            sentences.push(format!(
                "{well} of {} pods of the versions before are well.",
                self.old.len()
            ));
        }
        sentences.extend(self.words.iter().cloned());
        sentences
    }
}

/// Takes the pods of a look, those of `live` as the new ones, which differ from the others in what is `changed`. Of
/// images it remembers what was said of them last.
pub(super) fn count(
    look: &Look,
    live: &ReplicaSet,
    changed: Changed,
    known: &mut Remembered,
) -> Census {
    let mut census = Census {
        new: Vec::new(),
        old: Vec::new(),
        words: Vec::new(),
        progress: None,
        evicted: false,
    };
    let others: Vec<&str> = look
        .replica_sets
        .iter()
        .filter(|set| set.controller_uid() == Some(look.deployment.uid()))
        .map(ReplicaSet::uid)
        .filter(|uid| *uid != live.uid())
        .collect();
    // Once for each version that has pods: a template is large, and there may be a thousand pods.
    let mut own_of: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for pod in look.pods {
        if !symptom::counts(pod) {
            let leaves = symptom::is_leaving(pod, look.now);
            census.evicted |= leaves && symptom::is_of(pod, live.uid());
            continue;
        }
        let is_new = symptom::is_of(pod, live.uid());
        let mut all = std::iter::once(live).chain(look.replica_sets);
        let set = all.find(|set| symptom::is_of(pod, set.uid()));
        let none = BTreeSet::new();
        let names = set.map_or(&none, |set| {
            own_of.entry(set.uid()).or_insert_with(|| own(set))
        });
        let beside = Beside {
            own: names,
            events: look.events,
            changed: if is_new { changed } else { Changed::default() },
            now: look.now,
        };
        let symptom = symptom::of(pod, beside);
        if is_new {
            remember_pull(known, symptom);
            census.progress = census.progress.max(symptom::turned_at(pod));
            if symptom != Symptom::Well && census.words.len() < QUOTED {
                census.words.push(quote(pod));
            }
            census.new.push(symptom);
        } else if others.iter().any(|uid| symptom::is_of(pod, uid)) {
            census.old.push(symptom);
        }
    }
    // A kubelet that waits before it tries again does not always repeat what was wrong.
    for symptom in census.new.iter_mut().chain(&mut census.old) {
        if *symptom == Symptom::PullAgain {
            *symptom = if known.pull == Some(true) {
                Symptom::ImagePull
            } else {
                Symptom::Registry
            };
        }
    }
    census
}

/// Names of the containers of a version; none when its template is not read.
fn own(set: &ReplicaSet) -> BTreeSet<String> {
    if !set.is_read() {
        return BTreeSet::new();
    }
    set.template().images().into_keys().collect()
}

fn remember_pull(known: &mut Remembered, symptom: Symptom) {
    match symptom {
        Symptom::ImagePull => known.pull = Some(true),
        Symptom::Registry => known.pull = Some(false),
        Symptom::Well
        | Symptom::Coming
        | Symptom::Crash
        | Symptom::PullAgain
        | Symptom::Config
        | Symptom::Unready(_)
        | Symptom::Gated(_)
        | Symptom::Around
        | Symptom::Unscheduled
        | Symptom::Lost => {}
    }
}

fn quote(pod: &Value) -> String {
    let name = pod
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let words = redact(&symptom::words(pod));
    plain(&format!("{name}: {words}"), LONGEST)
}

fn shows(symptoms: &[Symptom], which: impl Fn(Symptom) -> bool) -> usize {
    symptoms.iter().filter(|symptom| which(**symptom)).count()
}

fn is(symptom: Symptom, trouble: Trouble) -> bool {
    match symptom {
        Symptom::Crash => trouble == Trouble::Crash,
        Symptom::ImagePull => trouble == Trouble::ImagePull,
        Symptom::Config => trouble == Trouble::Config,
        Symptom::Unready(_) | Symptom::Gated(_) => trouble == Trouble::Unready,
        Symptom::Around
        | Symptom::Well
        | Symptom::Coming
        | Symptom::PullAgain
        | Symptom::Registry
        | Symptom::Unscheduled
        | Symptom::Lost => false,
    }
}

/// Whether an old pod that shows this is in the same boat.
fn is_like(symptom: Symptom, trouble: Trouble) -> bool {
    match trouble {
        Trouble::Crash | Trouble::Unready | Trouble::Stuck => {
            matches!(
                symptom,
                Symptom::Crash | Symptom::Unready(_) | Symptom::Gated(_)
            )
        }
        Trouble::ImagePull => matches!(
            symptom,
            Symptom::ImagePull | Symptom::PullAgain | Symptom::Registry
        ),
        Trouble::Config => symptom == Symptom::Config,
    }
}
