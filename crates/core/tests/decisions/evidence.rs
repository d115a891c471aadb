//! What looks at a Deployment make of its ledger: tables, and any sequence of events.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rollback_api::ledger::{
    Claim, Evidence, MAX_TEMPLATE_BYTES, MAX_TEMPLATES, MAX_TEMPLATES_BYTES, Verdict,
};
use rollback_api::policy::Ledger;
use rollback_api::request::Urgency;
use rollback_api::{RevisionLedgerSpec, WorkloadRef};
use rollback_core::evidence::{LedgerRules, Lift, Look, Notice, Record};
use rollback_core::history::ledger::{bad_templates, entry_of, kept_template, lift_stands};
use rollback_core::history::template::Template;
use rollback_core::observed::Deployment;
use serde_json::{Value, json};

const UID: &str = "uid-1";

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn template(version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "api"}},
        "spec": {"containers": [{"name": "app", "image": format!("shop/api:{version}")}]},
    })
}

fn digest(version: &str) -> String {
    Template::of(&template(version)).digest()
}

fn restarted(version: &str, when: &str) -> Value {
    let mut template = template(version);
    template["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": when});
    template
}

/// A Deployment of two replicas, all of which run this template and are available.
fn well(template: &Value, revision: i64) -> Value {
    json!({
        "metadata": {
            "name": "api", "uid": UID, "generation": revision,
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
        },
        "spec": {"replicas": 2, "template": template},
        "status": {
            "observedGeneration": revision, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
            "conditions": [{"type": "Available", "status": "True", "lastTransitionTime": at(-60_000).to_string()}],
        },
    })
}

/// The same while one replica is not available.
fn rolling(template: &Value, revision: i64) -> Value {
    let mut deployment = well(template, revision);
    deployment["status"]["availableReplicas"] = json!(1);
    deployment
}

fn rules(soak: i32) -> Ledger {
    Ledger {
        soak_seconds: soak,
        ..Ledger::default()
    }
}

fn notice(millis: i64) -> Notice {
    Notice {
        at: at(millis),
        dipped: false,
        gap: false,
    }
}

/// Looks one after the other at what becomes of one ledger.
struct Story {
    rules: Ledger,
    ledger: Option<RevisionLedgerSpec>,
    again: Option<Timestamp>,
    writes: usize,
}

impl Story {
    fn new(rules: Ledger) -> Self {
        Self {
            rules,
            ledger: None,
            again: None,
            writes: 0,
        }
    }

    fn look(&mut self, deployment: &Value, notice: Notice, now: i64) -> &mut Self {
        let record = look(
            &self.rules,
            deployment,
            self.ledger.as_ref(),
            None,
            notice,
            now,
        );
        self.take(record)
    }

    /// A look at what did not change since the last one: its time has come.
    fn wake(&mut self, deployment: &Value, now: i64) -> &mut Self {
        self.look(deployment, notice(now), now)
    }

    fn lift(&mut self, deployment: &Value, digest: &str, now: i64) -> &mut Self {
        let lift = Lift {
            digest,
            by: "anna@broxiva.example",
        };
        let ledger = self.ledger.as_ref();
        let record = look(
            &self.rules,
            deployment,
            ledger,
            Some(lift),
            notice(now),
            now,
        );
        self.take(record)
    }

    fn take(&mut self, record: Record) -> &mut Self {
        self.again = record.again;
        if record.ledger.is_some() {
            self.writes += 1;
            self.ledger = record.ledger;
        }
        self
    }

    fn entry(&self, digest: &str) -> Evidence {
        let entries = self.ledger.iter().flat_map(|ledger| &ledger.templates);
        let mut found = entries.filter(|entry| entry.digest == digest);
        let entry = found.next().cloned().unwrap_or_default();
        assert!(found.next().is_none(), "two entries");
        entry
    }

    /// What is known of the versions, in the order of the ledger: verdict, counted seconds, whether it runs well, whether it is kept.
    fn said(&self, versions: &[&str]) -> String {
        let name = |entry: &Evidence| {
            let known = versions
                .iter()
                .find(|version| digest(version) == entry.digest);
            known.map_or("?", |version| version).to_owned()
        };
        let entries = self.ledger.iter().flat_map(|ledger| &ledger.templates);
        let said = entries.map(|entry| {
            let runs = entry.available_since.map_or("", |_| " runs");
            let kept = entry.template.as_ref().map_or("", |_| " kept");
            format!(
                "{} {:?} {}{runs}{kept}",
                name(entry),
                entry.verdict,
                entry.soaked_seconds
            )
        });
        said.collect::<Vec<_>>().join(", ")
    }
}

fn look(
    rules: &Ledger,
    deployment: &Value,
    ledger: Option<&RevisionLedgerSpec>,
    lift: Option<Lift>,
    notice: Notice,
    now: i64,
) -> Record {
    let deployment = Deployment(deployment.clone());
    let rules = &LedgerRules {
        keep: rules.clone(),
        ..LedgerRules::default()
    };
    Look {
        deployment: &deployment,
        pods: &[],
        ledger,
        lift,
        rules,
        notice,
        asked: at(now),
        now: at(now),
    }
    .record()
}

/// From the first sight to the verdict, and nothing written in between.
#[test]
fn what_is_available_for_long_enough_is_good() {
    let (v1, mut story) = (template("v1"), Story::new(rules(300)));
    story.look(&rolling(&v1, 1), notice(0), 1_000);
    assert_eq!(story.said(&["v1"]), "v1 Unknown 0");
    assert_eq!(story.again, None);
    story.look(&well(&v1, 1), notice(5_000), 6_000);
    assert_eq!(story.said(&["v1"]), "v1 Unknown 0 runs kept");
    assert_eq!(story.again, Some(at(306_000)));
    let entry = story.entry(&digest("v1"));
    assert_eq!(entry.first_available, Some(at(6_000)));
    assert_eq!(entry.last_live, at(6_000));
    assert_eq!(entry.revision, Some(1));
    assert_eq!(entry.images[0].image, "shop/api:v1");

    // Any number of looks in between say nothing new, and the end does not move.
    for now in [6_000, 100_000, 305_999] {
        story.wake(&well(&v1, 1), now);
        assert_eq!((story.writes, story.again), (2, Some(at(306_000))));
    }
    story.wake(&well(&v1, 1), 306_000);
    assert_eq!(story.said(&["v1"]), "v1 Good 300 runs kept");
    let entry = story.entry(&digest("v1"));
    assert_eq!((entry.judged_by, story.again), (None, None));
    story.wake(&well(&v1, 1), 900_000);
    assert_eq!(story.writes, 3);
}

#[test]
fn time_counts_only_while_every_replica_is_available() {
    let v1 = template("v1");
    let dipped = |millis| Notice {
        dipped: true,
        ..notice(millis)
    };
    let scaled = |replicas: i64| {
        let mut deployment = well(&v1, 1);
        for pointer in [
            "/spec/replicas",
            "/status/replicas",
            "/status/updatedReplicas",
            "/status/availableReplicas",
        ] {
            *deployment.pointer_mut(pointer).unwrap() = json!(replicas);
        }
        deployment
    };
    let mut unseen = well(&v1, 1);
    unseen["metadata"]["generation"] = json!(2);
    // (what, the second look, what is known then)
    let cases: Vec<(&str, Value, Notice, &str)> = vec![
        (
            "unchanged",
            well(&v1, 1),
            notice(10_000),
            "v1 Unknown 0 runs kept",
        ),
        (
            "one is away",
            rolling(&v1, 1),
            dipped(10_000),
            "v1 Unknown 10 kept",
        ),
        // Not counted from the change on, though the look comes later.
        (
            "one was away",
            well(&v1, 1),
            dipped(10_000),
            "v1 Unknown 10 runs kept",
        ),
        (
            "scaled up",
            scaled(5),
            notice(10_000),
            "v1 Unknown 0 runs kept",
        ),
        (
            "scaled to zero",
            scaled(0),
            dipped(10_000),
            "v1 Unknown 10 kept",
        ),
        (
            "a change not taken up",
            unseen,
            dipped(10_000),
            "v1 Unknown 10 kept",
        ),
    ];
    for (what, second, notice_of_it, expected) in cases {
        let mut story = Story::new(rules(300));
        story.look(&well(&v1, 1), notice(0), 0);
        story.look(&second, notice_of_it, 20_000);
        assert_eq!(story.said(&["v1"]), expected, "{what}");
    }
    let mut empty = Story::new(rules(0));
    empty.look(&scaled(0), notice(0), 0);
    assert_eq!(
        empty.said(&["v1"]),
        "v1 Unknown 0",
        "zero replicas prove nothing"
    );
}

#[test]
fn what_was_replaced_has_soaked_until_then() {
    let (v1, v2) = (template("v1"), template("v2"));
    // (soak, counted for v1, verdict)
    for (soak, said) in [
        (300, "v1 Unknown 60, v2 Unknown 0"),
        (60, "v1 Good 60 kept, v2 Unknown 0"),
        (0, "v1 Good 60 kept, v2 Unknown 0"),
    ] {
        let mut story = Story::new(rules(soak));
        story.look(&well(&v1, 1), notice(0), 0);
        // It was replaced at 60, and looked at when the debounce was over.
        story.look(&rolling(&v2, 2), notice(60_000), 61_000);
        assert_eq!(story.said(&["v1", "v2"]), said);
        assert_eq!(story.entry(&digest("v1")).last_live, at(60_000));
    }
    // Several times count together.
    let mut story = Story::new(rules(100));
    for round in 0..4 {
        let start = round * 100_000;
        story.look(&well(&v1, 1 + 2 * round), notice(start), start);
        story.look(
            &rolling(&v2, 2 + 2 * round),
            notice(start + 25_900),
            start + 26_900,
        );
    }
    assert_eq!(story.said(&["v1", "v2"]), "v1 Good 100 kept, v2 Unknown 0");
}

/// The controller was away between the first look and the second.
#[test]
fn what_nobody_watched_counts_only_when_it_is_proven() {
    let (v1, v2) = (template("v1"), template("v2"));
    let gap = Notice {
        gap: true,
        ..notice(1_000_000)
    };
    let condition = |status: &str, millis: i64| {
        let mut deployment = well(&v1, 1);
        deployment["status"]["conditions"] = json!([{
            "type": "Available", "status": status, "lastTransitionTime": at(millis).to_string(),
        }]);
        deployment
    };
    let without = {
        let mut deployment = well(&v1, 1);
        deployment["status"]["conditions"] = json!([]);
        deployment
    };
    let cases: Vec<(&str, Value, &str)> = vec![
        // All of it, and so it is good.
        (
            "available all the time",
            condition("True", -5_000),
            "v1 Good 1000 runs kept",
        ),
        (
            "since later",
            condition("True", 500_000),
            "v1 Unknown 0 runs kept",
        ),
        (
            "since that very second",
            condition("True", 0),
            "v1 Unknown 0 runs kept",
        ),
        (
            "not now",
            condition("False", 500_000),
            "v1 Unknown 0 runs kept",
        ),
        ("nobody says", without, "v1 Unknown 0 runs kept"),
        ("one is away", rolling(&v1, 1), "v1 Unknown 0 kept"),
        // It was something else in between.
        ("renumbered", well(&v1, 3), "v1 Unknown 0 runs kept"),
        (
            "replaced",
            well(&v2, 2),
            "v1 Unknown 0, v2 Unknown 0 runs kept",
        ),
    ];
    for (what, second, expected) in cases {
        let mut story = Story::new(rules(300));
        story.look(&well(&v1, 1), notice(0), 0);
        story.look(&second, gap, 1_000_000);
        assert_eq!(story.said(&["v1", "v2"]), expected, "{what}");
    }
    // A verdict that was written stands, with the time that it stands on.
    let mut story = Story::new(rules(300));
    story
        .look(&well(&v1, 1), notice(0), 0)
        .wake(&well(&v1, 1), 300_000);
    story.look(&well(&v2, 2), gap, 1_000_000);
    assert_eq!(
        story.said(&["v1", "v2"]),
        "v1 Good 300 kept, v2 Unknown 0 runs kept"
    );
    // A clock that was set back by an hour begins anew, and waits no longer than otherwise.
    let mut story = Story::new(rules(300));
    story.look(&well(&v1, 1), notice(3_600_000), 3_600_000);
    story.look(&well(&v1, 1), notice(0), 0);
    assert_eq!(story.again, Some(at(300_000)));
}

#[test]
fn a_quarantine_ends_by_time_or_by_a_person() {
    let (v1, v2) = (template("v1"), template("v2"));
    let quarantined = || {
        let mut story = Story::new(rules(10));
        story
            .look(&well(&v2, 1), notice(0), 0)
            .wake(&well(&v2, 1), 10_000);
        story.look(&well(&v1, 2), notice(20_000), 20_000);
        let entry = entry_of(story.ledger.as_mut().unwrap(), &digest("v2"), at(0));
        entry.verdict = Verdict::Bad;
        entry.judged_by = Some("api-5xx".to_owned());
        entry.judged_at = Some(at(20_000));
        entry.bad_until = Some(at(100_000));
        story
    };
    let bad =
        |story: &Story, now| bad_templates(story.ledger.as_ref(), UID, None, at(now)).len() == 1;

    // It stays, also when it is running again and however long.
    let mut story = quarantined();
    story.look(&well(&v2, 3), notice(30_000), 30_000);
    story.wake(&well(&v2, 3), 90_000);
    assert_eq!(story.entry(&digest("v2")).verdict, Verdict::Bad);
    assert_eq!(
        story.entry(&digest("v2")).judged_by.as_deref(),
        Some("api-5xx")
    );
    assert!(bad(&story, 99_999));
    // Until its time is over; then what is known of its time counts again.
    assert!(!bad(&story, 100_000));
    story.wake(&well(&v2, 3), 100_000);
    let entry = story.entry(&digest("v2"));
    assert_eq!((entry.verdict, entry.judged_by), (Verdict::Good, None));
    // One that does not run is only let go.
    let mut story = quarantined();
    story.wake(&well(&v1, 2), 100_000);
    let entry = story.entry(&digest("v2"));
    assert_eq!(
        (
            entry.verdict,
            entry.judged_by,
            entry.judged_at,
            entry.bad_until
        ),
        (Verdict::Unknown, None, None, None)
    );

    // Or until somebody lifts it, who is remembered.
    let mut story = quarantined();
    let before = story.ledger.clone().unwrap();
    assert!(lift_stands(&before, &before, &digest("v2")));
    story.lift(&well(&v1, 2), &digest("v2"), 50_000);
    let entry = story.entry(&digest("v2"));
    assert_eq!(entry.verdict, Verdict::Unknown);
    assert_eq!(entry.judged_by.as_deref(), Some("anna@broxiva.example"));
    assert_eq!((entry.judged_at, entry.bad_until), (Some(at(50_000)), None));
    assert!(!bad(&story, 50_000));
    // Once: what is rolled back again later is not lifted.
    let mut after = story.ledger.clone().unwrap();
    assert!(!lift_stands(&before, &after, &digest("v2")));
    let entry = entry_of(&mut after, &digest("v2"), at(0));
    entry.verdict = Verdict::Bad;
    entry.judged_at = Some(at(60_000));
    assert!(!lift_stands(&before, &after, &digest("v2")));
    // What is not in quarantine cannot be lifted.
    for other in ["v1", "v9"] {
        let mut story = quarantined();
        story.lift(&well(&v1, 2), &digest(other), 21_000);
        assert!(bad(&story, 21_000), "{other}");
        assert_ne!(
            story.entry(&digest(other)).judged_by.as_deref(),
            Some("anna@broxiva.example")
        );
    }
}

#[test]
fn the_newest_good_templates_are_kept_and_the_one_that_runs() {
    let versions = ["v1", "v2", "v3", "v4", "v5"];
    let run = |keep: i32| {
        let rules = Ledger {
            keep_templates: keep,
            ..rules(10)
        };
        let mut story = Story::new(rules);
        for (index, version) in (0_i64..).zip(versions) {
            let start = index * 100_000;
            let deployment = well(&template(version), index + 1);
            story.look(&deployment, notice(start), start);
            story.wake(&deployment, start + 10_000);
        }
        let entries = story.ledger.unwrap_or_default().templates;
        for entry in &entries {
            let kept = kept_template(entry).is_some();
            assert_eq!(
                entry.template.is_some(),
                kept,
                "what is kept is what it says"
            );
        }
        let kept = entries
            .iter()
            .zip(versions)
            .filter(|(entry, _)| entry.template.is_some());
        kept.map(|(_, version)| version)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(run(0), "");
    assert_eq!(run(1), "v4 v5");
    assert_eq!(run(3), "v2 v3 v4 v5");
    assert_eq!(run(5), "v1 v2 v3 v4 v5");
}

/// Restarts are entries of their own, but take no place from a version.
#[test]
fn a_restart_takes_no_place() {
    let mut story = Story::new(Ledger {
        keep_templates: 1,
        ..rules(10)
    });
    let stages = [
        template("v1"),
        template("v2"),
        restarted("v2", "a"),
        restarted("v2", "b"),
    ];
    let mut start = 0;
    for (index, stage) in (0_i64..).zip(&stages) {
        start = index * 100_000;
        let deployment = well(stage, index + 1);
        story.look(&rolling(stage, index + 1), notice(start), start);
        story.look(&deployment, notice(start + 1_000), start + 1_000);
        story.wake(&deployment, start + 11_000);
    }
    assert_eq!(
        story.said(&["v1", "v2"]),
        "v1 Good 99 kept, v2 Good 99, ? Good 99, ? Good 10 runs kept"
    );
    // One that does not come up again does not stand for the version yet.
    start += 100_000;
    story.look(&rolling(&restarted("v2", "c"), 5), notice(start), start);
    assert_eq!(
        story.said(&["v1", "v2"]),
        "v1 Good 99 kept, v2 Good 99, ? Good 99, ? Good 99 kept, ? Unknown 0"
    );
    start += 100_000;
    story.look(&rolling(&template("v3"), 6), notice(start), start);
    assert!(
        story
            .said(&["v1", "v2", "v3"])
            .ends_with("? Good 99 kept, ? Unknown 0, v3 Unknown 0")
    );
}

#[test]
fn templates_have_a_size() {
    let sized = |name: &str, bytes: usize| {
        let mut template = template(name);
        template["metadata"]["annotations"] = json!({"padding": "x".repeat(bytes)});
        template
    };
    let run = |sizes: &[usize]| {
        let mut story = Story::new(Ledger {
            keep_templates: 5,
            ..rules(0)
        });
        for (index, size) in (0_i64..).zip(sizes) {
            let deployment = well(&sized(&format!("v{index}"), *size), index + 1);
            story.look(&deployment, notice(index * 100_000), index * 100_000);
        }
        let kept = |entry: &Evidence| if entry.template.is_some() { 'K' } else { '-' };
        let entries = story.ledger.unwrap_or_default().templates;
        let text = |entry: &Evidence| {
            serde_json::to_string(&entry.template)
                .unwrap_or_default()
                .len()
        };
        assert!(entries.iter().map(text).sum::<usize>() <= MAX_TEMPLATES_BYTES + 100);
        entries.iter().map(kept).collect::<String>()
    };
    let most = MAX_TEMPLATE_BYTES;
    assert_eq!(run(&[100, most, 100]), "K-K", "one that is too large");
    assert_eq!(run(&[100, 100, most]), "KK-", "also when it runs");
    let third = most - 1_000;
    assert_eq!(run(&[third, third, third]), "-KK", "the oldest goes first");
    assert_eq!(
        run(&[third, third, 100]),
        "KKK",
        "two large ones and a small one"
    );
    assert_eq!(run(&[third, third, 100, third]), "-KKK");
}

/// What is in quarantine goes after what says nothing, and what runs never goes.
#[test]
fn the_twenty_first_takes_the_place_of_what_is_missed_least() {
    use Verdict::{Bad, Good, Unknown};

    let entry = |name: &str, verdict| Evidence {
        digest: name.to_owned(),
        verdict,
        ..Evidence::default()
    };
    let fill = |verdicts: &[(Verdict, usize)]| {
        let mut templates = Vec::new();
        for (verdict, count) in verdicts {
            for _ in 0..*count {
                let name = format!("{verdict:?} {}", templates.len());
                templates.push(entry(&name, *verdict));
            }
        }
        assert_eq!(templates.len(), MAX_TEMPLATES);
        let ledger = RevisionLedgerSpec {
            target_ref: WorkloadRef::deployment("api", UID),
            templates,
            ..RevisionLedgerSpec::default()
        };
        let mut story = Story::new(rules(300));
        story.ledger = Some(ledger.clone());
        story.look(&rolling(&template("v1"), 1), notice(0), 0);
        let after = story.ledger.unwrap().templates;
        assert_eq!(after.len(), MAX_TEMPLATES);
        assert_eq!(
            after.last().map(|entry| entry.digest.clone()),
            Some(digest("v1"))
        );
        let gone = ledger
            .templates
            .iter()
            .filter(|old| !after.iter().any(|new| new.digest == old.digest));
        gone.map(|entry| entry.digest.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(fill(&[(Bad, 10), (Good, 8), (Unknown, 2)]), "Unknown 18");
    // The last one ran until now.
    assert_eq!(fill(&[(Bad, 10), (Good, 9), (Unknown, 1)]), "Good 10");
    assert_eq!(fill(&[(Bad, 15), (Good, 5)]), "Bad 0");
    assert_eq!(fill(&[(Bad, 20)]), "Bad 0");
    assert_eq!(fill(&[(Good, 20)]), "Good 0");
}

#[test]
fn images_are_recorded_once_as_the_pods_have_them() {
    let deployment = Deployment(well(&template("v1"), 1));
    let pod = json!({"status": {"containerStatuses": [
        {"name": "other", "imageID": "sha256:o"}, {"name": "app", "imageID": "shop/api@sha256:a"},
    ]}});
    let long =
        json!({"status": {"containerStatuses": [{"name": "app", "imageID": "x".repeat(501)}]}});
    let rules = LedgerRules {
        keep: rules(300),
        ..LedgerRules::default()
    };
    let mut look = Look {
        deployment: &deployment,
        pods: &[long, pod],
        ledger: None,
        lift: None,
        rules: &rules,
        notice: notice(0),
        asked: at(0),
        now: at(0),
    };
    assert!(look.wants_pods());
    let ledger = look.record().ledger.unwrap();
    let image = &ledger.templates[0].images[0];
    assert_eq!(
        (image.container.as_str(), image.image.as_str()),
        ("app", "shop/api:v1")
    );
    assert_eq!(image.image_id.as_deref(), Some("shop/api@sha256:a"));
    look.ledger = Some(&ledger);
    assert!(!look.wants_pods());
    assert_eq!(look.record().ledger, None);
    let going = Deployment(rolling(&template("v2"), 2));
    look.deployment = &going;
    assert!(!look.wants_pods(), "not before it is complete");
    let silent = LedgerRules {
        keep: Ledger {
            record: false,
            ..rules.keep.clone()
        },
        ..rules.clone()
    };
    (look.deployment, look.ledger, look.rules) = (&deployment, None, &silent);
    assert!(!look.wants_pods());
}

#[test]
fn what_is_not_ours_is_left_as_it_is() {
    let claim = Claim {
        request: "api-5xx".to_owned(),
        request_uid: "r".to_owned(),
        urgency: rollback_api::open_enum::OrNewer::Known(Urgency::High),
    };
    let ledger = RevisionLedgerSpec {
        target_ref: WorkloadRef::deployment("api", UID),
        claim: Some(claim.clone()),
        ..RevisionLedgerSpec::default()
    };
    let mut story = Story::new(rules(0));
    story.ledger = Some(ledger.clone());
    story.wake(&well(&template("v1"), 1), 0);
    assert_eq!(story.ledger.unwrap().claim, Some(claim));
    // Of a Deployment that was made again nothing is known.
    let mut story = Story::new(rules(0));
    story.look(&well(&template("v1"), 1), notice(0), 0);
    let mut again = rolling(&template("v2"), 1);
    again["metadata"]["uid"] = json!("uid-2");
    story.look(&again, notice(10_000), 10_000);
    assert_eq!(story.said(&["v1", "v2"]), "v2 Unknown 0");
    assert_eq!(story.ledger.unwrap().target_ref.uid, "uid-2");
    // Not recorded.
    let mut story = Story::new(Ledger {
        record: false,
        ..rules(0)
    });
    story.look(&well(&template("v1"), 1), notice(0), 0);
    assert_eq!(
        (story.ledger.clone(), story.again, story.writes),
        (None, None, 0)
    );
    // But what a rollback left can still be lifted.
    let mut kept = ledger;
    entry_of(&mut kept, &digest("v2"), at(0)).verdict = Verdict::Bad;
    story.ledger = Some(kept);
    story.lift(&well(&template("v1"), 1), &digest("v2"), 0);
    assert_eq!(story.said(&["v2"]), "v2 Unknown 0");
}

/// A number that another one has now would make a choice ambiguous.
#[test]
fn a_number_belongs_to_one_template() {
    let mut story = Story::new(rules(0));
    story.look(&well(&template("v1"), 1), notice(0), 0);
    // The history was deleted, so counting began anew.
    story.look(&well(&template("v2"), 1), notice(10_000), 10_000);
    assert_eq!(story.entry(&digest("v1")).revision, None);
    assert_eq!(story.entry(&digest("v2")).revision, Some(1));
}

#[derive(Clone, Debug)]
enum Event {
    Wait(i64),
    Deploy(usize),
    Ready,
    Dip,
    Look,
    Away,
    Back,
    Bad(usize, i64),
    Lift(usize),
    Rules(i32, i32),
    Again,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0_i64..90_000).prop_map(Event::Wait),
        4 => (0_usize..26).prop_map(Event::Deploy),
        6 => Just(Event::Ready),
        2 => Just(Event::Dip),
        8 => Just(Event::Look),
        1 => Just(Event::Away),
        2 => Just(Event::Back),
        2 => ((0_usize..26), (0_i64..300_000)).prop_map(|(version, time)| Event::Bad(version, time)),
        1 => (0_usize..26).prop_map(Event::Lift),
        1 => ((0_i32..120), (0_i32..=5)).prop_map(|(soak, keep)| Event::Rules(soak, keep)),
        1 => Just(Event::Again),
    ]
}

/// A Deployment that lives its life, and a recorder that sees some of it.
struct World {
    now: i64,
    version: usize,
    complete: bool,
    revision: i64,
    steady: i64,
    uid: u32,
    real: BTreeMap<String, i64>,
    watching: bool,
    notice: Option<Notice>,
    lift: Option<String>,
    rules: Ledger,
    ledger: Option<RevisionLedgerSpec>,
}

fn version(index: usize) -> Value {
    let mut template = template(&format!("v{index}"));
    // A few that are large: each quote is stored as four bytes.
    let padding = if index.is_multiple_of(5) { 25_000 } else { 10 };
    template["metadata"]["annotations"] = json!({"padding": "\"".repeat(padding)});
    template
}

fn name(index: usize) -> String {
    Template::of(&version(index)).digest()
}

impl World {
    fn new() -> Self {
        Self {
            now: 0,
            version: 1,
            complete: false,
            revision: 1,
            steady: 0,
            uid: 1,
            real: BTreeMap::new(),
            watching: true,
            notice: None,
            lift: None,
            rules: rules(60),
            ledger: None,
        }
    }

    fn deployment(&self) -> Value {
        let template = version(self.version);
        let mut deployment = if self.complete {
            well(&template, self.revision)
        } else {
            rolling(&template, self.revision)
        };
        deployment["metadata"]["uid"] = json!(format!("uid-{}", self.uid));
        // The API server knows whole seconds.
        let steady = Timestamp::from_second(at(self.steady).as_second()).unwrap();
        deployment["status"]["conditions"][0]["lastTransitionTime"] = json!(steady.to_string());
        deployment
    }

    /// Something changed: whoever watches notices.
    fn changed(&mut self) {
        if self.watching {
            let news = Notice {
                at: at(self.now),
                dipped: !self.complete,
                gap: false,
            };
            self.notice = Some(self.notice.map_or(news, |known| known.and(news)));
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Wait(time) => {
                if self.complete {
                    *self.real.entry(name(self.version)).or_default() += time;
                }
                self.now += time;
            }
            Event::Deploy(version) if *version != self.version => {
                self.version = *version;
                self.complete = false;
                self.revision += 1;
                self.changed();
            }
            Event::Ready => {
                self.complete = true;
                self.changed();
            }
            Event::Dip => {
                self.complete = false;
                self.steady = self.now;
                self.changed();
            }
            Event::Away => {
                self.watching = false;
                self.notice = None;
            }
            Event::Back if !self.watching => {
                self.watching = true;
                self.notice = Some(Notice {
                    at: at(self.now),
                    dipped: false,
                    gap: true,
                });
            }
            Event::Bad(version, time) => {
                if let Some(ledger) = &mut self.ledger {
                    let entry = entry_of(ledger, &name(*version), at(self.now));
                    entry.verdict = Verdict::Bad;
                    entry.bad_until = Some(at(self.now + time));
                }
            }
            Event::Lift(version) => self.lift = Some(name(*version)),
            Event::Rules(soak, keep) => {
                self.rules.soak_seconds = *soak;
                self.rules.keep_templates = *keep;
            }
            Event::Again => {
                self.uid += 1;
                self.revision = 1;
                self.real.clear();
                self.complete = false;
                self.changed();
            }
            Event::Deploy(_) | Event::Back | Event::Look => {}
        }
        if matches!(event, Event::Look) && self.watching {
            self.look();
        }
    }

    fn look(&mut self) {
        let deployment = self.deployment();
        let told = self.notice.take().unwrap_or(Notice {
            at: at(self.now),
            dipped: false,
            gap: false,
        });
        let digest = self.lift.take();
        let lift = digest.as_deref().map(|digest| Lift { digest, by: "anna" });
        let quarantined = bad_templates(
            self.ledger.as_ref(),
            &format!("uid-{}", self.uid),
            digest.as_deref(),
            at(self.now),
        );
        let told_nothing = |ledger: &RevisionLedgerSpec| {
            let closed = |entry: &&Evidence| {
                entry.verdict == Verdict::Unknown && entry.available_since.is_none()
            };
            ledger.templates.iter().filter(closed).count() > 1
        };
        let had_others = self.ledger.as_ref().is_some_and(told_nothing);
        let record = look(
            &self.rules,
            &deployment,
            self.ledger.as_ref(),
            lift,
            told,
            self.now,
        );
        if let Some(ledger) = record.ledger {
            if had_others {
                for digest in quarantined {
                    let kept = ledger.templates.iter().any(|entry| entry.digest == digest);
                    assert!(
                        kept,
                        "a quarantine went while there were others that say nothing"
                    );
                }
            }
            self.ledger = Some(ledger);
        }
        self.check(&deployment, record.again);
    }

    fn check(&self, deployment: &Value, again: Option<Timestamp>) {
        let ledger = self.ledger.as_ref().unwrap();
        let live = name(self.version);
        assert!(ledger.templates.len() <= MAX_TEMPLATES);
        assert_eq!(
            ledger.templates.last().map(|entry| &entry.digest),
            Some(&live)
        );
        let mut texts = 0;
        let mut good = 0;
        for entry in &ledger.templates {
            let real = self.real.get(&entry.digest).copied().unwrap_or_default();
            let open = entry.available_since.map_or(SignedDuration::ZERO, |since| {
                assert_eq!(entry.digest, live, "only what runs runs");
                at(self.now).duration_since(since)
            });
            let counted = i128::from(entry.soaked_seconds) * 1000 + open.as_millis();
            assert!(
                counted <= i128::from(real),
                "{counted} ms of {real} ms: {entry:?}"
            );
            if let Some(text) = &entry.template {
                let size = serde_json::to_string(text).unwrap().len();
                assert!(size <= MAX_TEMPLATE_BYTES);
                texts += size;
                good += usize::from(
                    !Template::of(&serde_json::from_str(text).unwrap())
                        .is_equivalent(&Template::of(&version(self.version))),
                );
                assert!(entry.digest == live || entry.verdict == Verdict::Good);
            }
            if entry.verdict == Verdict::Good {
                assert!(entry.first_available.is_some() && entry.bad_until.is_none());
            }
        }
        assert!(texts <= MAX_TEMPLATES_BYTES);
        assert!(good <= usize::try_from(self.rules.keep_templates).unwrap());
        assert!(again.is_none_or(|again| again > at(self.now)));
        // Looking again at the same says nothing new.
        let repeated = look(
            &self.rules,
            deployment,
            Some(ledger),
            None,
            Notice {
                at: at(self.now),
                dipped: false,
                gap: false,
            },
            self.now,
        );
        assert_eq!(repeated.ledger, None);
        assert_eq!(repeated.again, again);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, and whatever of it is seen.
    #[test]
    fn no_more_is_counted_than_was_and_no_more_is_kept_than_may_be(events in proptest::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
    }
}
