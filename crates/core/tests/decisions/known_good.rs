//! Where to go back to when the history alone does not say it: the last version known to have been good, a new image,
//! a backup. And what must not be chosen: the quarantine.

use crate::world::{
    DEPLOYMENT, Scene, at, deployment, deployment_of, digest, evidence, kept, ledger_of,
    replica_set, replica_set_of, restarted, seen, sets, template,
};
use rollback_api::ledger::{Evidence, Verdict};
use rollback_api::status::Source;
use rollback_api::{Reason, RequestState, RevisionLedgerSpec};
use rollback_core::execution::phase::Phase;
use rollback_core::history::ledger::{bad_templates, entry_of, is_quarantined, kept_template};
use rollback_core::history::template::Template;
use rollback_core::observed::Fetched;
use serde_json::{Value, json};

fn to(to: &Value) -> Value {
    json!({"targets": [{"name": "api", "to": to}]})
}

fn known_good() -> Value {
    to(&json!({"lastKnownGood": {}}))
}

/// A request for the last known good version, with this history and this knowledge of it.
fn asked(
    fields: &Value,
    history: impl IntoIterator<Item = Value>,
    known: impl IntoIterator<Item = Evidence>,
) -> Scene {
    let mut scene = Scene::new(fields);
    scene.seen().replica_sets = sets(history);
    scene.seen().ledger = Fetched::Found(ledger_of(known));
    scene
}

/// What is planned, or how it ended: `revision 1 of api-v1`.
fn chosen(mut scene: Scene) -> String {
    scene.settle();
    match scene.status().plan {
        Some(plan) => {
            let target = &plan.targets[0];
            let number = target
                .to
                .revision
                .map_or_else(|| "?".to_owned(), |number| number.to_string());
            format!(
                "{:?} {} revision {number}",
                target.source,
                target.source_name().unwrap_or("nowhere")
            )
        }
        None => scene.state(),
    }
}

fn soaked(version: &str, seconds: i64) -> Evidence {
    Evidence {
        first_available: Some(at(-50_000)),
        soaked_seconds: seconds,
        ..evidence(&template(version), Verdict::Unknown)
    }
}

#[test]
fn the_good_one_behind_three_bad_ones() {
    let history = [
        replica_set("v0", "1"),
        replica_set("b1", "2"),
        replica_set("b2", "3"),
        replica_set("b3", "4"),
        replica_set("v2", "5"),
    ];
    let bad = ["b1", "b2", "b3"].map(|version| evidence(&template(version), Verdict::Bad));
    let known = [soaked("v0", 300)].into_iter().chain(bad.clone());
    assert_eq!(
        chosen(asked(&known_good(), history.clone(), known)),
        "ReplicaSet api-v0 revision 1"
    );
    // `previous` skips the bad ones too, and does not ask whether the rest is good.
    let mut scene = asked(&json!({}), history.clone(), bad);
    scene.settle();
    let target = scene.status().plan.unwrap().targets[0].clone();
    assert_eq!(target.source_name(), Some("api-v0"));
    assert_eq!(target.notes.len(), 3);
    // Three that nobody knows anything about are no reason to take one of them.
    let known = [soaked("v0", 300)];
    assert_eq!(
        chosen(asked(&known_good(), history, known)),
        "ReplicaSet api-v0 revision 1"
    );
}

#[test]
fn restarts_of_what_runs_are_no_versions() {
    let one = restarted("v2", "2026-11-22T10:00:00Z");
    let two = restarted("v2", "2026-11-23T10:00:00Z");
    let history = [
        replica_set("v1", "1"),
        replica_set("v2", "2"),
        replica_set_of("r1", "3", &one),
        replica_set_of("r2", "4", &two),
    ];
    let good = |template: &Value| Evidence {
        digest: Template::of(template).digest(),
        ..soaked("v2", 9000)
    };
    let known = [
        soaked("v1", 9000),
        good(&template("v2")),
        good(&one),
        good(&two),
    ];
    let mut scene = asked(&known_good(), history, known);
    scene.seen().deployment = seen(deployment_of(&two));
    assert_eq!(chosen(scene), "ReplicaSet api-v1 revision 1");
}

#[test]
fn what_the_history_has_lost_the_ledger_has_kept() {
    let history = [replica_set("v2", "7")];
    let ledger = |entry: Evidence| {
        let entry = Evidence {
            revision: Some(4),
            ..entry
        };
        asked(&known_good(), history.clone(), [entry])
    };
    let good = kept(&template("v1"), Verdict::Good);
    assert_eq!(
        chosen(ledger(good.clone())),
        "Ledger deployment-api revision 4"
    );
    // It is written from there, letter by letter.
    let mut scene = ledger(good.clone()).reverted();
    assert_eq!(scene.deployment()["spec"]["template"], template("v1"));
    scene
        .seen()
        .replica_sets
        .extend(sets([replica_set("v1", "8")]));
    scene.roll_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
    // Lost from the ledger as well, before or after the approval.
    let lost = evidence(&template("v1"), Verdict::Good);
    let mut scene = ledger(lost.clone());
    let outcome = scene.ends(RequestState::Refused, Reason::HistoryPruned);
    assert!(
        outcome.message.starts_with(
            "spec.targets[0].to.lastKnownGood: 1 versions are known to have been good"
        ),
        "{}",
        outcome.message
    );
    let mut scene = ledger(good.clone()).approved();
    scene.seen().ledger = Fetched::Found(ledger_of([lost]));
    scene.ends(RequestState::Refused, Reason::HistoryPruned);
    // A template that is not what its digest says was never kept.
    let mut forged = good;
    forged.template = Some(template("evil").to_string());
    assert_eq!(kept_template(&forged), None);
    ledger(forged).ends(RequestState::Refused, Reason::HistoryPruned);
    // What runs, or did a moment ago, is in the ledger as well. It does not stay there, so no plan relies on it.
    let passing = Evidence {
        revision: Some(4),
        ..kept(&template("v1"), Verdict::Unknown)
    };
    assert_eq!(
        chosen(asked(&json!({}), history.clone(), [passing])),
        "Refused/NoHistory"
    );
    // What somebody pruned after the approval does no harm when the ledger has the same.
    let mut scene = Scene::default();
    scene.seen().ledger = Fetched::Found(ledger_of([kept(&template("v1"), Verdict::Unknown)]));
    let mut scene = scene.approved();
    scene.seen().replica_sets.remove(0);
    scene.until(Phase::RollingOut);
    assert_eq!(scene.deployment()["spec"]["template"], template("v1"));
}

#[test]
fn good_is_who_soaked_or_passed_the_checks() {
    let history = [replica_set("v1", "1"), replica_set("v2", "2")];
    let chosen = |entry: Evidence| chosen(asked(&known_good(), history.clone(), [entry]));
    let found = "ReplicaSet api-v1 revision 1";
    let none = "Refused/NoKnownGood";
    // Five minutes of every replica, unless the policy says otherwise.
    for (seconds, expected) in [(0, none), (299, none), (300, found), (301, found)] {
        assert_eq!(chosen(soaked("v1", seconds)), expected, "{seconds}");
    }
    // A time that goes on, as far as the ledger knows, may have ended while nobody watched; one that never began
    // does not count either.
    let mut running = soaked("v1", 200);
    running.available_since = Some(at(-9000));
    assert_eq!(chosen(running), none);
    let mut running = soaked("v1", 300);
    running.available_since = Some(at(-1));
    assert_eq!(chosen(running), found);
    let mut never = soaked("v1", 9000);
    never.first_available = None;
    assert_eq!(chosen(never), none);
    // A clock that goes backwards takes nothing away.
    let mut future = soaked("v1", 300);
    future.available_since = Some(at(5000));
    assert_eq!(chosen(future), found);
    assert_eq!(chosen(evidence(&template("v1"), Verdict::Good)), found);
    assert_eq!(chosen(evidence(&template("v1"), Verdict::Unknown)), none);
    // Good that never soaked, because the policy asks for nothing.
    let mut scene = asked(&known_good(), history.clone(), [soaked("v1", 0)]);
    scene = scene.with_policy(json!({"ledger": {"soakSeconds": 0}}));
    assert_eq!(self::chosen(scene), found);
    // Of another Deployment nothing is known.
    let mut scene = asked(&known_good(), history, [soaked("v1", 9000)]);
    let Fetched::Found(ledger) = &mut scene.seen().ledger else {
        panic!("it is there");
    };
    ledger.target_ref.uid = "d-0".to_owned();
    assert_eq!(self::chosen(scene), none);
}

#[test]
fn of_two_good_ones_the_one_that_ran_last() {
    let history = [
        replica_set("v0", "1"),
        replica_set("v1", "2"),
        replica_set("v2", "3"),
    ];
    let good = |version| evidence(&template(version), Verdict::Good);
    for (order, expected) in [
        (["v0", "v1"], "ReplicaSet api-v1 revision 2"),
        (["v1", "v0"], "ReplicaSet api-v0 revision 1"),
    ] {
        let scene = asked(&known_good(), history.clone(), order.map(good));
        assert_eq!(chosen(scene), expected);
    }
    // What runs is not gone back to, however good it was.
    let scene = asked(&known_good(), history, ["v0", "v2"].map(good));
    assert_eq!(chosen(scene), "ReplicaSet api-v0 revision 1");
}

#[test]
fn the_quarantine_ends_by_time_or_by_a_person() {
    let until = |seconds: Option<i64>| Evidence {
        bad_until: seconds.map(at),
        ..evidence(&template("v1"), Verdict::Bad)
    };
    for (entry, lifted, expected) in [
        (until(None), None, true),
        (until(Some(6)), None, true),
        (until(Some(5)), None, false),
        (until(Some(4)), None, false),
        (until(None), Some("v1"), false),
        (until(Some(100)), Some("v1"), false),
        (until(Some(100)), Some("v0"), true),
        (evidence(&template("v1"), Verdict::Unknown), None, false),
        (evidence(&template("v1"), Verdict::Good), None, false),
    ] {
        let lifted = lifted.map(digest);
        assert_eq!(
            is_quarantined(&entry, lifted.as_deref(), at(5)),
            expected,
            "{entry:?}"
        );
        let mut scene = asked(
            &json!({}),
            [
                replica_set("v0", "1"),
                replica_set("v1", "2"),
                replica_set("v2", "3"),
            ],
            [entry],
        );
        scene.seen().lifted = lifted;
        let revision = if expected { 1 } else { 2 };
        scene.until(Phase::AwaitingApproval);
        assert_eq!(
            scene.status().plan.unwrap().targets[0].to.revision,
            Some(revision)
        );
    }
}

#[test]
fn what_is_in_quarantine_is_not_the_last_known_good() {
    let history = [replica_set("v1", "1"), replica_set("v2", "2")];
    let bad = |until: i64| Evidence {
        verdict: Verdict::Bad,
        bad_until: Some(at(until)),
        ..soaked("v1", 9000)
    };
    assert_eq!(
        chosen(asked(&known_good(), history.clone(), [bad(100)])),
        "Refused/NoKnownGood"
    );
    // Its time is over, or somebody lifted it: it ran well for long enough.
    let found = "ReplicaSet api-v1 revision 1";
    assert_eq!(
        chosen(asked(&known_good(), history.clone(), [bad(5)])),
        found
    );
    let mut scene = asked(&known_good(), history.clone(), [bad(100)]);
    scene.seen().lifted = Some(digest("v1"));
    assert_eq!(chosen(scene), found);
    // Named it is honoured, by its number, its image or its version.
    for to in [
        json!({"revision": 1}),
        json!({"image": {"image": "registry.broxiva.com/shop/api:v1"}}),
        json!({"version": "v1"}),
    ] {
        let scene = asked(&self::to(&to), history.clone(), [bad(100)]);
        assert_eq!(chosen(scene), found, "{to}");
    }
}

#[test]
fn the_quarantine_is_as_long_as_the_policy_says() {
    for (policy, seconds) in [
        (json!({}), 2_592_000),
        (json!({"ledger": {"quarantineSeconds": 60}}), 60),
    ] {
        let mut scene = Scene::default().with_policy(policy).rolled_out();
        scene.settle();
        let ledger = scene.target("api").ledger.found().unwrap().clone();
        let reverted = scene.status().targets[0].reverted_at.unwrap();
        let bad = |after: i64| {
            let now = reverted + jiff::SignedDuration::from_secs(after);
            bad_templates(Some(&ledger), DEPLOYMENT, None, now)
        };
        assert_eq!(bad(seconds - 1), [digest("v2")]);
        assert!(bad(seconds).is_empty());
        let entry = &ledger.templates[0];
        assert_eq!(
            (entry.revision, entry.judged_by.as_deref()),
            (Some(2), Some("api-5xx"))
        );
    }
}

#[test]
fn what_a_rollback_says_about_the_two_versions() {
    let checks = json!({"verification": {"http": [
        {"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}
    ]}});
    let verdicts = |scene: &Scene| -> Vec<(String, Verdict)> {
        let ledger = scene.target("api").ledger.found().unwrap();
        let templates = ledger.templates.iter();
        templates
            .map(|entry| (entry.digest.clone(), entry.verdict))
            .collect()
    };
    let (v1, v2) = (digest("v1"), digest("v2"));
    // Verified: it is good.
    let mut scene = Scene::default().with_policy(checks.clone()).rolled_out();
    scene.probe(200);
    scene.ends(RequestState::Succeeded, Reason::RolledBack);
    assert_eq!(
        verdicts(&scene),
        [(v2.clone(), Verdict::Bad), (v1.clone(), Verdict::Good)]
    );
    // Not verified: nobody knows.
    let mut scene = Scene::default().rolled_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
    assert_eq!(
        verdicts(&scene),
        [(v2.clone(), Verdict::Bad), (v1.clone(), Verdict::Unknown)]
    );
    // Nobody could tell: it is no better than it was, and no worse.
    let mut scene = Scene::default().with_policy(checks.clone()).rolled_out();
    scene.now = at(400);
    scene.ends(RequestState::Failed, Reason::HealthUnknown);
    assert_eq!(verdicts(&scene), [(v2.clone(), Verdict::Bad)]);
    // A check said that it is not well: it is bad too.
    let mut scene = Scene::default().with_policy(checks).rolled_out();
    scene.probe(500);
    scene.pass();
    scene.now = at(400);
    scene.ends(RequestState::Failed, Reason::ChecksFailed);
    assert_eq!(verdicts(&scene), [(v2, Verdict::Bad), (v1, Verdict::Bad)]);
    // Brought back: nothing is said of either.
    let mut scene = Scene::new(&json!({"rollout": {"onFailure": "Restore"}})).reverted();
    scene.now = at(400);
    scene.settle();
    scene.roll_out();
    scene.ends(RequestState::Restored, Reason::RestoredFromBackup);
    assert!(verdicts(&scene).is_empty());
    let ledger = scene.target("api").ledger.found().unwrap();
    assert_eq!(
        (ledger.rollbacks.len(), &ledger.claim),
        (1, &None),
        "the request made again does nothing"
    );
}

#[test]
fn a_ledger_keeps_twenty_templates_and_the_bad_ones_longest() {
    let mut ledger = RevisionLedgerSpec::default();
    for number in 0..20 {
        let verdict = [Verdict::Bad, Verdict::Good, Verdict::Unknown][number % 3];
        entry_of(&mut ledger, &format!("d{number}"), at(0)).verdict = verdict;
    }
    let gone = |ledger: &RevisionLedgerSpec| -> Vec<usize> {
        (0..20)
            .filter(|number| {
                let digest = format!("d{number}");
                ledger.templates.iter().all(|entry| entry.digest != digest)
            })
            .collect()
    };
    entry_of(&mut ledger, "d19", at(5));
    assert_eq!((ledger.templates.len(), gone(&ledger)), (20, vec![]));
    for number in 0..8 {
        let entry = entry_of(&mut ledger, &format!("new{number}"), at(5));
        assert_eq!((entry.last_live, entry.verdict), (at(5), Verdict::Unknown));
        // What runs now is not dispensable.
        entry.available_since = Some(at(5));
        assert_eq!(ledger.templates.len(), 20);
    }
    assert_eq!(gone(&ledger), [1, 2, 4, 5, 8, 11, 14, 17]);
}

#[test]
fn case_22_a_new_image_only_on_demand() {
    let image = |extra: Value| {
        let mut image = json!({"image": "registry.broxiva.com/shop/api:v9"});
        for (key, value) in extra.as_object().unwrap() {
            image[key] = value.clone();
        }
        Scene::new(&to(&json!({"image": image})))
    };
    image(json!({})).ends(RequestState::Refused, Reason::ImageNotInHistory);
    let mut scene = image(json!({"allowNew": true}));
    scene.until(Phase::AwaitingApproval);
    let target = scene.status().plan.unwrap().targets[0].clone();
    assert_eq!(
        (target.source, &target.source_ref, target.to.revision),
        (Source::NewImage, &None, None)
    );
    assert!(target.notes[0].contains("no revision has this image"));
    assert_eq!(scene.status().summary.unwrap().to, "a new image (v9)",);
    let mut scene = scene.reverted();
    let mut expected = template("v2");
    expected["spec"]["containers"][0]["image"] = json!("registry.broxiva.com/shop/api:v9");
    assert_eq!(scene.deployment()["spec"]["template"], expected);
    let cause = &scene.deployment()["metadata"]["annotations"]["kubernetes.io/change-cause"];
    assert!(
        cause
            .as_str()
            .unwrap()
            .starts_with("rollback to a new image by RollbackRequest api-5xx ("),
        "{cause}"
    );
    let mut fresh = replica_set_of("v9", "3", &expected);
    fresh["metadata"]["uid"] = json!("rs-v9");
    scene.seen().replica_sets.extend(sets([fresh]));
    scene.roll_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
    // An image that the history has is that revision, new ones allowed or not.
    let fields =
        to(&json!({"image": {"image": "registry.broxiva.com/shop/api:v1", "allowNew": true}}));
    assert_eq!(chosen(Scene::new(&fields)), "ReplicaSet api-v1 revision 1");
    // And for the container that has such an image, or the only one, or the one that is named.
    for (container, asked, expected) in [
        (
            Value::Null,
            "registry.broxiva.com/shop/api:v9",
            "NewImage nowhere revision ?",
        ),
        (
            Value::Null,
            "elsewhere/api:v9",
            "NewImage nowhere revision ?",
        ),
        (
            json!("api"),
            "elsewhere/api:v9",
            "NewImage nowhere revision ?",
        ),
        (
            json!("proxy"),
            "elsewhere/api:v9",
            "Refused/ImageNotInHistory",
        ),
    ] {
        let fields =
            to(&json!({"image": {"image": asked, "allowNew": true, "container": container}}));
        assert_eq!(chosen(Scene::new(&fields)), expected, "{asked} {container}");
    }
    let mut two = template("v2");
    let proxy = json!({"name": "proxy", "image": "envoy:1"});
    two["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(proxy);
    let mut scene = image(json!({"allowNew": true, "image": "elsewhere/api:v9"}));
    scene.deploy(&two);
    scene.ends(RequestState::Refused, Reason::Ambiguous);
}

#[test]
fn a_backup_undoes_the_rollback_that_made_it() {
    let mut first = Scene::default().rolled_out();
    first.settle();
    let backup = first.status().targets[0].backup.clone().unwrap().config_map;
    let undo = || {
        let mut scene = Scene::new(&to(&json!({"backup": backup})));
        scene.request.metadata.name = Some("undo".to_owned());
        scene.request.metadata.uid = Some("another".to_owned());
        scene.seen().deployment = first.target("api").deployment.clone();
        scene.seen().ledger = first.target("api").ledger.clone();
        scene.backups.clone_from(&first.backups);
        scene
    };
    let mut scene = undo();
    scene.until(Phase::AwaitingApproval);
    let status = scene.status();
    let target = status.plan.unwrap().targets[0].clone();
    assert_eq!(
        (target.source, target.source_name(), target.source_uid()),
        (Source::Backup, Some(backup.as_str()), None)
    );
    assert_eq!(target.to.digest, digest("v2"), "though it is in quarantine");
    assert_eq!(status.summary.unwrap().to, format!("backup {backup} (v2)"));
    let mut scene = undo().reverted();
    assert_eq!(scene.deployment()["spec"]["template"], template("v2"));
    scene.roll_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
    // It was called bad, and now the other one is.
    let ledger = scene.target("api").ledger.found();
    assert_eq!(
        bad_templates(ledger, DEPLOYMENT, None, at(100)),
        [digest("v1")]
    );
    // Gone before the plan, gone after it, of another Deployment, edited, or nothing to undo.
    let mut gone = undo();
    gone.backups.clear();
    let outcome = gone.ends(RequestState::Refused, Reason::BackupNotFound);
    assert!(
        outcome
            .message
            .starts_with("spec.targets[0].to.backup: there is no backup "),
        "{}",
        outcome.message
    );
    let mut pruned = undo().approved();
    pruned.backups.remove(&backup);
    let outcome = pruned.ends(RequestState::Refused, Reason::HistoryPruned);
    assert!(
        outcome
            .message
            .starts_with(&format!("Backup {backup} was deleted")),
        "{}",
        outcome.message
    );
    let mut edited = undo().approved();
    let mut evil = deployment("v2");
    evil["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
    edited
        .backups
        .insert(backup.clone(), rollback_core::observed::Deployment(evil));
    edited.ends(RequestState::Refused, Reason::DigestMismatch);
    let mut other = undo();
    let mut again = other.deployment().clone();
    again["metadata"]["uid"] = json!("d-2");
    other.seen().deployment = seen(again);
    other.ends(RequestState::Refused, Reason::BackupMismatch);
    let mut nothing = undo();
    nothing.deploy(&template("v2"));
    nothing.ends(RequestState::Succeeded, Reason::NoOp);
}

#[test]
fn a_history_that_keeps_nothing_says_so() {
    let mut scene = Scene::default();
    scene.edit(|d| d["spec"]["revisionHistoryLimit"] = json!(0));
    scene.seen().replica_sets.remove(0);
    let outcome = scene.ends(RequestState::Refused, Reason::HistoryPruned);
    assert!(
        outcome
            .message
            .contains("spec.revisionHistoryLimit of the Deployment is 0"),
        "{}",
        outcome.message
    );
    // A failed rollout still has its old ReplicaSet.
    let mut scene = Scene::default();
    scene.edit(|d| d["spec"]["revisionHistoryLimit"] = json!(0));
    scene.until(Phase::AwaitingApproval);
    // With the ledger it goes on.
    let mut scene = Scene::default();
    scene.edit(|d| d["spec"]["revisionHistoryLimit"] = json!(0));
    scene.seen().replica_sets.remove(0);
    let entry = Evidence {
        revision: Some(1),
        ..kept(&template("v1"), Verdict::Good)
    };
    scene.seen().ledger = Fetched::Found(ledger_of([entry]));
    assert_eq!(chosen(scene), "Ledger deployment-api revision 1");
}
