//! Whether a new version is to be rolled back because of what its own pods show.
//!
//! Judged is only what came up since the pod template changed, only for as long as the version can be blamed, and only
//! against the pods of the versions before: what hits those too is not the fault of the release. What is not known is no
//! trigger.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::RevisionLedgerSpec;
use rollback_api::ledger::Evidence;
use rollback_api::ledger::Verdict::Good;
use rollback_api::policy::Triggers;
use rollback_api::request::To;
use serde_json::{Value, json};

use super::census::{Census, count};
use super::symptom::Changed;
use super::{had_another_number, live_since};
use crate::history::ledger;
use crate::history::template::Template;
use crate::observed::{Deployment, ReplicaSet};
use crate::time;

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
    /// Events about its pods that are not ready, if they were read.
    pub events: &'a [Value],
    /// Its ledger.
    pub ledger: Option<&'a RevisionLedgerSpec>,
    /// The rules of the namespace.
    pub rules: &'a Triggers,
    /// What the policy calls marks of restarts, besides those that are known.
    pub marks: &'a [String],
    /// What the looks before have left.
    pub known: &'a Remembered,
    /// When its reads had ended.
    pub now: Timestamp,
}

/// What is remembered from one look to the next. Without it a trouble counts from the moment it is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Digest of the version that the rest is about.
    digest: String,
    /// Since when most of its pods show each trouble.
    since: BTreeMap<Trouble, Timestamp>,
    /// Whose fault it was that an image could not be had, when that was said last.
    pub(super) pull: Option<bool>,
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
pub enum Finding {
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

/// Judges the version that is live. Total: whatever is missing or unreadable makes it quiet.
pub fn judge(look: &Look) -> (Finding, Remembered) {
    let digest = look.deployment.template().digest();
    let mut known = if look.known.digest == digest {
        look.known.clone()
    } else {
        Remembered::default()
    };
    known.digest = digest;
    let Some(version) = new_version(look, &known.digest) else {
        return (Finding::Quiet, Remembered::default());
    };
    let blamed_until = time::after(version.since, i64::from(look.rules.blame_seconds));
    if look.now >= blamed_until {
        return (Finding::Quiet, Remembered::default());
    }
    let census = count(look, version.set, version.changed(), &mut known);
    let rolled_out = is_rolled_out(look.deployment);
    let mut next: Option<Timestamp> = None;
    for (trouble, begun) in troubles(look, &version, &census, &mut known, rolled_out) {
        let due = time::after(begun, grace(look.rules, trouble));
        if due <= look.now {
            let evidence = census.evidence(trouble, begun);
            let fault = Fault {
                trouble,
                since: begun,
                evidence,
            };
            return (Finding::Fire(fault), known);
        }
        next = Some(next.map_or(due, |next| next.min(due)));
    }
    if rolled_out && look.deployment.is_complete() && census.is_all_well() {
        return (Finding::Quiet, known);
    }
    (Finding::Watch(next.unwrap_or(blamed_until)), known)
}

/// What to go back to: the version that is known to be good, or else the one before.
pub fn destination(deployment: &Deployment, ledger: Option<&RevisionLedgerSpec>) -> To {
    let digest = deployment.template().digest();
    let is_good = |entry: &Evidence| entry.verdict == Good && entry.digest != digest;
    let good = ledger::evidence(ledger, deployment.uid())
        .iter()
        .any(is_good);
    if good {
        To::last_known_good()
    } else {
        To::previous()
    }
}

/// A version that can be judged.
struct NewVersion<'a> {
    set: &'a ReplicaSet,
    /// Since when it is live.
    since: Timestamp,
    live: Template,
    /// The version before.
    before: Template,
}

/// Annotations that say into which networks a pod is put.
const NETWORKS: [&str; 2] = [
    "k8s.v1.cni.cncf.io/networks",
    "v1.multus-cni.io/default-network",
];

impl NewVersion<'_> {
    /// What it changed of what lies around its containers.
    fn changed(&self) -> Changed {
        let (before, live) = (self.before.without_restart(), self.live.without_restart());
        let differs = |of: fn(&Template) -> Vec<Value>| of(&before) != of(&live);
        Changed {
            annotations: differs(asking_annotations),
            sandbox: differs(sandbox),
        }
    }
}

/// Annotations that may ask for an injected container. The digest of a configuration asks for nothing.
fn asking_annotations(template: &Template) -> Vec<Value> {
    let annotations = template.as_json().pointer("/metadata/annotations");
    let annotations = annotations.and_then(Value::as_object).into_iter().flatten();
    let mut asking: Vec<(&String, &Value)> = annotations
        .filter(|(name, _)| !name.starts_with("checksum/"))
        .collect();
    asking.sort_by_key(|(name, _)| *name);
    asking
        .into_iter()
        .map(|(name, value)| json!([name, value]))
        .collect()
}

/// What the sandbox of a pod is made by.
fn sandbox(template: &Template) -> Vec<Value> {
    let template = template.as_json();
    let of_pod = |field: &str| template.pointer(field).cloned().unwrap_or_default();
    let annotations = template.pointer("/metadata/annotations");
    let network = |name: &&str| annotations.and_then(|all| all.get(*name)).cloned();
    let is_on_host = of_pod("/spec/hostNetwork") == Value::Bool(true);
    [of_pod("/spec/runtimeClassName"), Value::Bool(is_on_host)]
        .into_iter()
        .chain(
            NETWORKS
                .iter()
                .map(|name| network(name).unwrap_or_default()),
        )
        .collect()
}

/// The version that is live, if it can be judged at all: not the first one, not paused, not a restart, and not brought by
/// a rollback, whoever made it.
fn new_version<'a>(look: &'a Look, digest: &str) -> Option<NewVersion<'a>> {
    let deployment = look.deployment;
    if deployment.is_deleting() || deployment.is_paused() || deployment.desired() == 0 {
        return None;
    }
    let set = deployment.live_set(look.replica_sets)?;
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
    let live = deployment.template().with_marks(look.marks);
    let before = previous(look, &live)?.with_marks(look.marks);
    if before.is_equivalent(&live) {
        return None;
    }
    Some(NewVersion {
        set,
        since: live_since(deployment, look.replica_sets, look.ledger)?,
        live,
        before,
    })
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
        // One that is too large to be read is compared with nothing.
        .filter(|set| set.is_read())
        .map(ReplicaSet::template)
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    deployment.observed_generation() >= deployment.generation()
        && deployment
            .progressing()
            .is_some_and(|progressing| progressing.reason == ROLLED_OUT)
}

/// The troubles that are the version's own, each with the moment from which its grace counts.
fn troubles(
    look: &Look,
    version: &NewVersion,
    census: &Census,
    known: &mut Remembered,
    rolled_out: bool,
) -> Vec<(Trouble, Timestamp)> {
    let mut found = Vec::new();
    for trouble in [
        Trouble::Crash,
        Trouble::ImagePull,
        Trouble::Config,
        Trouble::Unready,
    ] {
        if !census.is_its_own(trouble) {
            known.since.remove(&trouble);
            continue;
        }
        let seen = *known.since.entry(trouble).or_insert(look.now);
        let begun = if trouble == Trouble::Unready {
            census.unready_since().unwrap_or(seen)
        } else {
            seen
        };
        found.push((trouble, begun));
    }
    let disturbed = census.is_disturbed();
    // What is over by now lasted until now.
    if disturbed || known.is_disturbed {
        known.disturbed = Some(look.now);
    }
    known.is_disturbed = disturbed;
    let asks_for_more = needs(&version.before) != needs(&version.live);
    if !rolled_out && census.is_held_up(asks_for_more) {
        let begun = [census.progress, known.disturbed]
            .into_iter()
            .flatten()
            .fold(version.since, Timestamp::max);
        found.push((Trouble::Stuck, begun));
    }
    found
}

fn grace(rules: &Triggers, trouble: Trouble) -> i64 {
    i64::from(match trouble {
        Trouble::Crash => rules.grace.crash_seconds,
        Trouble::ImagePull | Trouble::Config => rules.grace.image_pull_seconds,
        Trouble::Unready => rules.grace.unready_seconds,
        Trouble::Stuck => rules.grace.rollout_seconds,
    })
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
