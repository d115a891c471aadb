//! Whether a new version is to be rolled back because of what its own pods show.
//!
//! Judged is only what came up since the pod template changed, only for as long as the version can be blamed, and only
//! against the pods of the versions before: what hits those too is not the fault of the release. What is not known is no
//! trigger.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::RevisionLedgerSpec;
use rollback_api::policy::Triggers;
use rollback_api::request::{LastKnownGood, Previous, To};
use serde_json::Value;

use super::symptom::{self, Symptom};
use super::{had_another_number, live_set, live_since};
use crate::ledger;
use crate::observed::{Deployment, ReplicaSet};
use crate::redact::redact;
use crate::template::Template;
use crate::text::plain;
use crate::time;

/// Most pods whose words are quoted.
const QUOTED: usize = 3;
/// Longest sentence of the evidence, in characters.
const LONGEST: usize = 400;
/// Reason of `Progressing` once a rollout is over.
const ROLLED_OUT: &str = "NewReplicaSetAvailable";

/// One look at a Deployment whose pod template has changed.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// Its `ReplicaSets`.
    pub replica_sets: &'a [ReplicaSet],
    /// Its pods, of all versions.
    pub pods: &'a [Value],
    /// Its ledger.
    pub ledger: Option<&'a RevisionLedgerSpec>,
    /// The rules of the namespace.
    pub rules: &'a Triggers,
    /// What the looks before have left.
    pub known: &'a Known,
    /// When its reads had ended.
    pub now: Timestamp,
}

/// What is remembered from one look to the next. Without it a trouble counts from the moment it is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Digest of the version that the rest is about.
    digest: String,
    /// Since when most of its pods show each trouble.
    since: BTreeMap<Trouble, Timestamp>,
    /// Whose fault it was that an image could not be had, when that was said last.
    pull: Option<bool>,
    /// When something around the version was last seen to be in the way: its rollout had no fair chance until then.
    disturbed: Option<Timestamp>,
    /// Whether that was so at the last look.
    is_disturbed: bool,
}

/// What a version is rolled back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Its containers crash over and over.
    Crash,
    /// Its image does not exist, or is not ours to pull.
    ImagePull,
    /// Its containers cannot be made.
    Config,
    /// Its pods were ready and are not any more.
    Unready,
    /// Its rollout does not get on.
    Stuck,
}

impl Trouble {
    /// What an alert about it would be called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "CrashLoop",
            Self::ImagePull => "ImagePull",
            Self::Config => "ContainerConfig",
            Self::Unready => "Unready",
            Self::Stuck => "RolloutStuck",
        }
    }
}

/// What comes of a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is to be looked at before the Deployment itself changes.
    Quiet,
    /// The version is coming up, or in trouble that may go away: its pods are worth watching until then.
    Watch(Timestamp),
    /// It is to be rolled back.
    Fire(Fault),
}

/// Why a version is to be rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub trouble: Trouble,
    /// Since when.
    pub since: Timestamp,
    /// What was seen, in sentences.
    pub evidence: Vec<String>,
}

/// The pods that are compared.
struct Census {
    new: Vec<Symptom>,
    old: Vec<Symptom>,
    /// What pods of the new version in trouble say.
    words: Vec<String>,
    /// When a pod of the new version began, or became ready, last.
    progress: Option<Timestamp>,
    /// Whether a pod of the new version is being taken away, so that another one has to begin anew.
    evicted: bool,
}

/// Judges the version that is live. Total: whatever is missing or unreadable makes it quiet.
pub fn judge(look: &Look) -> (Verdict, Known) {
    let digest = look.deployment.template().digest();
    let mut known = if look.known.digest == digest {
        look.known.clone()
    } else {
        Known::default()
    };
    known.digest = digest;
    let Some((set, since)) = on_trial(look, &known.digest) else {
        return (Verdict::Quiet, Known::default());
    };
    let blamed_until = time::after(since, i64::from(look.rules.blame_seconds));
    if look.now >= blamed_until {
        return (Verdict::Quiet, Known::default());
    }
    let census = count(look, set, &mut known);
    let rolled_out = is_rolled_out(look.deployment);
    let mut next: Option<Timestamp> = None;
    for (trouble, begun) in troubles(look, &census, &mut known, since, rolled_out) {
        let due = time::after(begun, grace(look.rules, trouble));
        if due <= look.now {
            let evidence = evidence(&census, trouble, begun);
            let fault = Fault {
                trouble,
                since: begun,
                evidence,
            };
            return (Verdict::Fire(fault), known);
        }
        next = Some(next.map_or(due, |next| next.min(due)));
    }
    let all_well = census.new.iter().all(|symptom| *symptom == Symptom::Well);
    if rolled_out && look.deployment.is_complete() && all_well {
        return (Verdict::Quiet, known);
    }
    (Verdict::Watch(next.unwrap_or(blamed_until)), known)
}

/// What to go back to: the version that is known to be good, or else the one before.
pub fn destination(
    deployment: &Deployment,
    ledger: Option<&RevisionLedgerSpec>,
    now: Timestamp,
) -> To {
    let digest = deployment.template().digest();
    let bad = ledger::bad_templates(ledger, deployment.uid(), None, now);
    let good = ledger::evidence(ledger, deployment.uid())
        .iter()
        .any(|entry| {
            entry.verdict == rollback_api::ledger::Verdict::Good
                && entry.digest != digest
                && !bad.contains(&entry.digest)
        });
    if good {
        To {
            last_known_good: Some(LastKnownGood {}),
            ..To::default()
        }
    } else {
        To {
            previous: Some(Previous {}),
            ..To::default()
        }
    }
}

/// The `ReplicaSet` of the version that is live and when that began, if the version can be judged at all: not the first
/// one, not paused, not a restart, and not brought by a rollback, whoever made it.
fn on_trial<'a>(look: &'a Look, digest: &str) -> Option<(&'a ReplicaSet, Timestamp)> {
    let deployment = look.deployment;
    if deployment.is_deleting() || deployment.is_paused() || deployment.desired() == 0 {
        return None;
    }
    let set = live_set(deployment, look.replica_sets)?;
    // What runs again after it ran before was gone back to, unless it is known to be bad: nobody goes back to that.
    let bad = ledger::bad_templates(look.ledger, deployment.uid(), None, look.now);
    if had_another_number(set) && !bad.iter().any(|bad| bad == digest) {
        return None;
    }
    let ledger = ledger::current(look.ledger, deployment.uid());
    let claimed = ledger.is_some_and(|ledger| ledger.claim.is_some());
    if claimed || ledger::brought_by(look.ledger, deployment.uid(), digest).is_some() {
        return None;
    }
    let live = deployment.template();
    let before = previous(look, &live)?;
    if before.is_equivalent(&live) {
        return None;
    }
    let since = live_since(deployment, look.replica_sets, look.ledger)?;
    Some((set, since))
}

/// The template of the version before.
fn previous(look: &Look, live: &Template) -> Option<Template> {
    let number =
        |set: &ReplicaSet| -> Option<i64> { set.annotation(rollback_api::REVISION)?.parse().ok() };
    look.replica_sets
        .iter()
        .filter(|set| {
            set.controller_uid() == Some(look.deployment.uid())
                && !set.is_deleting()
                && set.template() != *live
        })
        .max_by_key(|set| number(set))
        .map(ReplicaSet::template)
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    deployment.observed_generation() >= deployment.generation()
        && deployment
            .progressing()
            .is_some_and(|progressing| progressing.reason == ROLLED_OUT)
}

fn count(look: &Look, live: &ReplicaSet, known: &mut Known) -> Census {
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
    for pod in look.pods {
        if !symptom::counts(pod) {
            let leaves = symptom::is_leaving(pod, look.now);
            census.evicted |= leaves && symptom::is_of(pod, live.uid());
            continue;
        }
        let symptom = symptom::of(pod, look.now);
        if symptom::is_of(pod, live.uid()) {
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

fn remember_pull(known: &mut Known, symptom: Symptom) {
    match symptom {
        Symptom::ImagePull => known.pull = Some(true),
        Symptom::Registry => known.pull = Some(false),
        Symptom::Well
        | Symptom::Coming
        | Symptom::Crash
        | Symptom::PullAgain
        | Symptom::Config
        | Symptom::Unready(_)
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

/// The troubles that are the version's own, each with the moment from which its grace counts.
fn troubles(
    look: &Look,
    census: &Census,
    known: &mut Known,
    live_since: Timestamp,
    rolled_out: bool,
) -> Vec<(Trouble, Timestamp)> {
    let mut found = Vec::new();
    for trouble in [
        Trouble::Crash,
        Trouble::ImagePull,
        Trouble::Config,
        Trouble::Unready,
    ] {
        if !is_its_own(census, trouble) {
            known.since.remove(&trouble);
            continue;
        }
        let seen = *known.since.entry(trouble).or_insert(look.now);
        let begun = if trouble == Trouble::Unready {
            unready_since(census).unwrap_or(seen)
        } else {
            seen
        };
        found.push((trouble, begun));
    }
    let disturbed = is_disturbed(census);
    // What is over by now lasted until now.
    if disturbed || known.is_disturbed {
        known.disturbed = Some(look.now);
    }
    known.is_disturbed = disturbed;
    if !rolled_out && is_held_up(look, census) {
        let begun = [census.progress, known.disturbed]
            .into_iter()
            .flatten()
            .fold(live_since, Timestamp::max);
        found.push((Trouble::Stuck, begun));
    }
    found
}

/// Whether at least half of the new pods show it, and the old ones do not show the like.
fn is_its_own(census: &Census, trouble: Trouble) -> bool {
    let reached = census
        .new
        .iter()
        .filter(|symptom| **symptom != Symptom::Lost)
        .count();
    let affected = shows(&census.new, |symptom| is(symptom, trouble));
    if affected == 0 || affected * 2 < reached {
        return false;
    }
    let alike = shows(&census.old, |symptom| is_like(symptom, trouble));
    match trouble {
        // One old pod that was started again and fails alike says it all.
        Trouble::ImagePull | Trouble::Config => alike == 0,
        Trouble::Crash | Trouble::Unready | Trouble::Stuck => {
            // Half as often among the old ones as among the new ones is too often.
            alike * 2 * census.new.len() < affected * census.old.len().max(1)
        }
    }
}

fn shows(symptoms: &[Symptom], which: impl Fn(Symptom) -> bool) -> usize {
    symptoms.iter().filter(|symptom| which(**symptom)).count()
}

fn is(symptom: Symptom, trouble: Trouble) -> bool {
    match symptom {
        Symptom::Crash => trouble == Trouble::Crash,
        Symptom::ImagePull => trouble == Trouble::ImagePull,
        Symptom::Config => trouble == Trouble::Config,
        Symptom::Unready(_) => trouble == Trouble::Unready,
        Symptom::Well
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
            matches!(symptom, Symptom::Crash | Symptom::Unready(_))
        }
        Trouble::ImagePull => matches!(
            symptom,
            Symptom::ImagePull | Symptom::PullAgain | Symptom::Registry
        ),
        Trouble::Config => symptom == Symptom::Config,
    }
}

/// From when on at least half of the new pods were not ready any more.
fn unready_since(census: &Census) -> Option<Timestamp> {
    let mut since: Vec<Timestamp> = census
        .new
        .iter()
        .filter_map(|symptom| match symptom {
            Symptom::Unready(since) => Some(*since),
            Symptom::Well
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
        .get(census.new.len().div_ceil(2).saturating_sub(1))
        .copied()
}

/// Whether something around the version is in the way: a node that is lost or emptied, a registry that does not answer, or
/// what old pods lack as well.
fn is_disturbed(census: &Census) -> bool {
    let around = |symptom: Symptom| matches!(symptom, Symptom::Lost | Symptom::Registry);
    let lacking = |symptom: Symptom| {
        matches!(
            symptom,
            Symptom::ImagePull | Symptom::PullAgain | Symptom::Config | Symptom::Unscheduled
        )
    };
    census.evicted
        || shows(&census.new, around) > 0
        || shows(&census.old, |it| around(it) || lacking(it)) > 0
}

/// Whether a rollout that does not get on is held up by the version, and by nothing around it.
fn is_held_up(look: &Look, census: &Census) -> bool {
    let sick = |symptom: Symptom| !matches!(symptom, Symptom::Well | Symptom::Coming);
    let old_sick = shows(&census.old, sick);
    if is_disturbed(census) || old_sick * 2 >= census.old.len().max(1) {
        return false;
    }
    let unplaced = shows(&census.new, |symptom| symptom == Symptom::Unscheduled);
    if unplaced > 0 || census.new.is_empty() {
        return asks_for_more(look) && old_sick == 0;
    }
    // A version of which most pods are ready is not what keeps the others from it.
    shows(&census.new, |symptom| symptom != Symptom::Well) * 2 >= census.new.len()
}

/// Whether the version asks more, or something else, of its nodes and its namespace than the one before.
fn asks_for_more(look: &Look) -> bool {
    let live = look.deployment.template();
    previous(look, &live).is_some_and(|before| needs(&before) != needs(&live))
}

/// What decides where a pod can run, and whether it is let in.
fn needs(template: &Template) -> Vec<Value> {
    let spec = template.as_json().get("spec").cloned().unwrap_or_default();
    let of_pod = [
        "nodeSelector",
        "nodeName",
        "affinity",
        "tolerations",
        "topologySpreadConstraints",
        "schedulerName",
        "runtimeClassName",
        "priorityClassName",
        "serviceAccountName",
        "hostNetwork",
        "securityContext",
        "volumes",
        "resources",
    ];
    let mut needs: Vec<Value> = of_pod
        .iter()
        .map(|field| spec.get(*field).cloned().unwrap_or_default())
        .collect();
    for list in ["initContainers", "containers"] {
        let containers = spec.get(list).and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            for field in ["resources", "ports", "securityContext"] {
                needs.push(container.get(field).cloned().unwrap_or_default());
            }
        }
    }
    needs
}

fn grace(rules: &Triggers, trouble: Trouble) -> i64 {
    i64::from(match trouble {
        Trouble::Crash => rules.grace.crash_seconds,
        Trouble::ImagePull | Trouble::Config => rules.grace.image_pull_seconds,
        Trouble::Unready => rules.grace.unready_seconds,
        Trouble::Stuck => rules.grace.rollout_seconds,
    })
}

fn evidence(census: &Census, trouble: Trouble, since: Timestamp) -> Vec<String> {
    let total = census.new.len();
    let affected = match trouble {
        Trouble::Stuck => shows(&census.new, |symptom| symptom != Symptom::Well),
        Trouble::Crash | Trouble::ImagePull | Trouble::Config | Trouble::Unready => {
            shows(&census.new, |symptom| is(symptom, trouble))
        }
    };
    let what = match trouble {
        Trouble::Crash => "crash over and over",
        Trouble::ImagePull => "cannot get their image, which is not there or not ours to pull",
        Trouble::Config => "have containers that cannot be made as the template asks",
        Trouble::Unready => "were ready and are not any more",
        Trouble::Stuck => "are not ready, and the rollout does not get on",
    };
    let well = shows(&census.old, |symptom| symptom == Symptom::Well);
    let mut sentences = vec![format!(
        "{affected} of {total} pods of the new version {what}, since {}.",
        time::stamp(since)
    )];
    if !census.old.is_empty() {
        sentences.push(format!(
            "{well} of {} pods of the versions before are well.",
            census.old.len()
        ));
    }
    sentences.extend(census.words.iter().cloned());
    sentences
}
