//! The judge of new versions against labelled episodes: what a control plane shows while something that is known was done
//! to a release, to its nodes, to its registry, or to nothing at all. The files are made by a generator that shares no code
//! with this crate, and by recordings; see `crates/episodes`.

#![allow(clippy::unwrap_used, reason = "what is wrong in a file ends the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rollback_api::policy::Triggers;
use rollback_core::evidence::trigger::watch::{Finding, Look, Remembered, Trouble, judge};
use rollback_core::observed::{Deployment, ReplicaSet};
use serde::Deserialize;
use serde_json::{Value, json};

/// One episode.
#[derive(Deserialize)]
struct Episode {
    cause: String,
    expect: Expect,
    from: String,
    #[serde(default)]
    policy: Value,
    frames: Vec<Frame>,
}

/// What a good judge does.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Fire,
    Quiet,
}

/// One moment at which something changed.
#[derive(Deserialize)]
struct Frame {
    at: Timestamp,
    #[serde(default)]
    set: Vec<Value>,
    #[serde(default)]
    gone: Vec<String>,
}

/// The objects as they are at one moment.
#[derive(Default)]
struct World(BTreeMap<String, Value>);

impl World {
    /// Takes in a frame; says whether the Deployment itself changed.
    fn apply(&mut self, frame: &Frame) -> bool {
        let mut touched = false;
        for object in &frame.set {
            let kind = object["kind"].as_str().unwrap();
            let name = object["metadata"]["name"].as_str().unwrap();
            touched |= kind == "Deployment";
            self.0.insert(format!("{kind}/{name}"), object.clone());
        }
        for gone in &frame.gone {
            self.0.remove(gone);
        }
        touched
    }

    fn all(&self, kind: &str) -> Vec<Value> {
        let beginning = format!("{kind}/");
        let mine = self.0.iter().filter(|(key, _)| key.starts_with(&beginning));
        mine.map(|(_, object)| object.clone()).collect()
    }
}

/// A controller that sees what ours sees: changes of the Deployment, and of its pods while the version is under analysis.
struct Watcher {
    rules: Triggers,
    known: Remembered,
    again: Option<Timestamp>,
}

impl Watcher {
    fn look(&mut self, world: &World, now: Timestamp) -> Option<Trouble> {
        let deployment = Deployment(world.all("Deployment").into_iter().next()?);
        if self.again.is_none() && deployment.is_complete() {
            return None;
        }
        let sets: Vec<ReplicaSet> = world
            .all("ReplicaSet")
            .into_iter()
            .map(ReplicaSet)
            .collect();
        let pods = world.all("Pod");
        let look = Look {
            deployment: &deployment,
            replica_sets: &sets,
            pods: &pods,
            events: &world.all("Event"),
            ledger: None,
            rules: &self.rules,
            marks: &[],
            known: &self.known,
            now,
        };
        let (verdict, known) = judge(&look);
        self.known = known;
        match verdict {
            Finding::Quiet => {
                self.known = Remembered::default();
                self.again = None;
                None
            }
            Finding::Watch(until) => {
                assert!(until > now, "it asks to look again in the past");
                self.again = Some(until);
                None
            }
            Finding::Fire(fault) => Some(fault.trouble),
        }
    }
}

/// When and why the judge fires, if it does.
fn play(episode: &Episode) -> Option<(Timestamp, Trouble)> {
    let rules = match &episode.policy {
        Value::Null => json!({}),
        policy => policy.clone(),
    };
    let mut watcher = Watcher {
        rules: serde_json::from_value(rules).unwrap(),
        known: Remembered::default(),
        again: None,
    };
    let mut world = World::default();
    let ends = episode.frames.iter().skip(1).map(|frame| frame.at);
    let last = episode.frames.last().unwrap().at;
    for (frame, end) in episode.frames.iter().zip(ends.chain([last])) {
        let touched = world.apply(frame);
        let mut now = Some(frame.at).filter(|_| touched || watcher.again.is_some());
        while let Some(at) = now {
            if let Some(trouble) = watcher.look(&world, at) {
                return Some((at, trouble));
            }
            now = watcher.again.filter(|again| *again < end);
        }
    }
    None
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "json") {
            found.push(path);
        }
    }
}

/// Counts of one cause.
#[derive(Default)]
struct Score {
    right: usize,
    wrong: Vec<String>,
    troubles: BTreeMap<String, usize>,
}

#[test]
fn bad_releases_are_told_from_bad_luck() {
    let folder = std::env::var_os("EPISODES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/episodes"),
        PathBuf::from,
    );
    let mut all = Vec::new();
    files(&folder, &mut all);
    all.sort();
    let mut scores: BTreeMap<(String, String), Score> = BTreeMap::new();
    let (mut fired_rightly, mut fired_wrongly, mut missed, mut quiet) = (0, 0, 0, 0);
    let mut recorded = 0;
    for path in &all {
        let episode: Episode = serde_json::from_slice(&std::fs::read(path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        recorded += usize::from(episode.from != "generated");
        let fired = play(&episode);
        let key = (format!("{:?}", episode.expect), episode.cause.clone());
        let score = scores.entry(key).or_default();
        if let Some((_, trouble)) = fired {
            *score
                .troubles
                .entry(trouble.as_str().to_owned())
                .or_default() += 1;
        }
        let right = match (episode.expect, fired) {
            (Expect::Fire, Some(_)) => {
                fired_rightly += 1;
                true
            }
            (Expect::Fire, None) => {
                missed += 1;
                false
            }
            (Expect::Quiet, Some(_)) => {
                fired_wrongly += 1;
                false
            }
            (Expect::Quiet, None) => {
                quiet += 1;
                true
            }
        };
        if right {
            score.right += 1;
        } else {
            let name = path.file_stem().unwrap().to_string_lossy();
            score.wrong.push(format!("{name} {fired:?}"));
        }
    }
    for ((expect, cause), score) in &scores {
        let (right, total) = (score.right, score.right + score.wrong.len());
        println!(
            "{expect:5} {cause:28} {right:3} of {total:3} {:?}",
            score.troubles
        );
        for wrong in &score.wrong {
            println!("      WRONG {wrong}");
        }
    }
    let fired = fired_rightly + fired_wrongly;
    let bad = fired_rightly + missed;
    println!(
        "{} episodes, {recorded} of them recorded: {fired_rightly} of {bad} bad releases found, {fired_wrongly} of {fired} \
         rollbacks wrong, {quiet} left alone",
        all.len()
    );
    assert!(all.len() >= 300, "only {} episodes", all.len());
    assert!(recorded >= 30, "only {recorded} recorded episodes");
    assert_eq!(missed, 0, "a bad release was missed");
    // Precision of at least 0.99.
    assert!(
        fired_wrongly * 100 <= fired,
        "{fired_wrongly} of {fired} rollbacks were wrong"
    );
}
