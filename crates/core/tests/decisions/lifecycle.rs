//! A cluster in which anything happens at any time, and the laws that hold nevertheless.
//!
//! `cargo test` tells a tenth of the stories that each property is made for, `cargo xtask test --full` more than all of
//! them. `PROPTEST_CASES` sets how many it tells, instead of its own number. The seed of each property is
//! printed when it begins, and again when it fails; `PROPTEST_SEED` sets it, so that the same stories are told again:
//! ```text
//! PROPTEST_SEED=17 cargo test -p rollback-core --test decisions lifecycle::the_laws_hold_in_any_story
//! ```
//! A story that breaks a law is made as short as possible and printed as a list of events; its own seed is kept in
//! `tests/lifecycle.regressions`, from where it is told first the next time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;

use crate::cluster::story::{Ask, Setting, any_story, approved, crash, setting};
use crate::cluster::{Cluster, Crash, Event, View, WriteKind};
use crate::world::digest_in;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::phase::result;
use rollback_core::execution::step::Step;

/// Tells so many stories, and says so on the terminal.
fn tell<S: Strategy>(property: &str, cases: u32, stories: &S, law: impl Fn(S::Value)) {
    let set = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seed = set("PROPTEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(property));
    let cases = set("PROPTEST_CASES").map_or(cases / 10, |cases| u32::try_from(cases).unwrap());
    let say = |what: &str| {
        let line = format!("lifecycle {property}: {what} PROPTEST_SEED={seed}\n");
        // Past the capture of the test harness, which shows what is printed only upon a failure.
        let _ = std::io::stderr().write_all(line.as_bytes());
    };
    say("begins");
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 4000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/lifecycle.regressions",
        ))),
        ..ProptestConfig::default()
    });
    let told = runner.run(stories, |story| {
        law(story);
        Ok(())
    });
    match told {
        Ok(()) => say(&format!("{cases} stories told")),
        Err(broken) => panic!("PROPTEST_SEED={seed}: {broken}"),
    }
}

fn happens(setting: &Setting, story: &[Event]) -> Cluster {
    let mut cluster = setting.cluster();
    for event in story {
        cluster.happen(event);
    }
    cluster
}

#[test]
fn the_laws_hold_in_any_story() {
    tell(
        "the_laws_hold_in_any_story",
        2000,
        &(setting(1..=3), any_story()),
        |(setting, story)| happens(&setting, &story).settle(),
    );
}

#[test]
fn the_laws_hold_around_the_writes() {
    tell(
        "the_laws_hold_around_the_writes",
        2000,
        &(setting(1..=2), approved(false)),
        |(setting, story)| happens(&setting, &story).settle(),
    );
}

#[test]
fn several_requests_for_the_same_deployments_break_no_law() {
    tell(
        "several_requests_for_the_same_deployments_break_no_law",
        2000,
        &(setting(2..=3), approved(false)),
        |(setting, story)| happens(&setting, &story).settle(),
    );
}

#[test]
fn old_views_break_no_law_about_the_deployments() {
    tell(
        "old_views_break_no_law_about_the_deployments",
        2000,
        &(setting(1..=2), approved(true)),
        |(setting, story)| happens(&setting, &story).settle(),
    );
}

/// What a single request comes to, for the eyes of somebody who does not see how.
#[derive(Debug, PartialEq)]
struct End {
    state: Option<String>,
    results: Vec<String>,
    specs: Vec<Option<serde_json::Value>>,
    rollbacks: Vec<(String, String, RequestState)>,
    writes: BTreeMap<(String, WriteKind), usize>,
    incidents: usize,
}

#[test]
fn crashes_do_not_change_the_end() {
    let stories = (
        setting(1..=1),
        prop::collection::vec((crash(), any::<bool>()), 0..60),
        prop::collection::vec((any::<bool>(), any::<bool>(), prop::bool::weighted(0.9)), 4),
    );
    let run = |setting: &Setting, places: &[(bool, bool, bool)], crashes: &[(Crash, bool)]| {
        let mut cluster = setting.cluster();
        for (place, (well, healthy, takes)) in places.iter().enumerate().take(cluster.places.len())
        {
            cluster.happen(&Event::Well(place, *well));
            cluster.happen(&Event::Healthy(place, *healthy));
            cluster.happen(&Event::Takes(place, *takes));
        }
        let mut crashes = crashes.iter();
        for round in 0..80 {
            if cluster.is_over() {
                break;
            }
            let (crash, twice) = crashes.next().copied().unwrap_or((Crash::No, false));
            cluster.pass(0, 0, (crash, View::Live, twice), None, None);
            if round % 3 == 0 {
                let who = ["bob@broxiva.com", "cat@broxiva.com"][round % 2];
                cluster.happen(&Event::Approve(0, who));
            }
        }
        cluster.settle();
        let case = &cluster.cases[0];
        let state = |end: &rollback_api::status::Outcome| {
            format!("{}/{}", end.result.as_str(), end.reason.as_str())
        };
        let mut writes = BTreeMap::new();
        for write in &case.writes {
            *writes.entry(write.clone()).or_default() += 1;
        }
        End {
            state: case.last.outcome.as_ref().map(state),
            results: case
                .last
                .targets
                .iter()
                .filter_map(|progress| result(progress).map(state))
                .collect(),
            specs: cluster
                .places
                .iter()
                .map(|place| Some(place.object.as_ref()?["spec"].clone()))
                .collect(),
            rollbacks: cluster
                .places
                .iter()
                .filter_map(|place| place.ledger.as_ref())
                .flat_map(|(spec, _)| &spec.rollbacks)
                .map(|rollback| {
                    (
                        rollback.from_digest.clone(),
                        rollback.to_digest.clone(),
                        rollback.outcome,
                    )
                })
                .collect(),
            writes,
            incidents: case.incidents.len(),
        }
    };
    tell(
        "crashes_do_not_change_the_end",
        1500,
        &stories,
        |(mut setting, crashes, places)| {
            // Whether a freeze or the age of an approval comes in between depends on the time that crashes cost.
            setting.policy = [0, 1, 2, 3, 4, 6][usize::from(setting.policy) % 6];
            let (crashed, quiet) = (
                run(&setting, &places, &crashes),
                run(&setting, &places, &[]),
            );
            assert_ne!(quiet.state.as_deref(), Some("Expired/NotApprovedInTime"));
            assert_eq!(crashed, quiet);
        },
    );
}

/// One Deployment with three versions, under the policy with Jobs that tries an older one when the last is not well.
fn tries_older() -> Setting {
    Setting {
        histories: vec![6],
        asks: vec![Ask {
            mask: 1,
            to: vec![5],
            waves: vec![0],
            urgency: None,
            parallelism: 1,
            on_failure: "Stop",
            timeout: None,
            from: false,
            dry_run: false,
        }],
        policy: 6,
    }
}

/// Whether the next quiet pass would write the fallback.
fn is_at_the_fallback(cluster: &Cluster) -> bool {
    let decision = cluster
        .clone()
        .pass(0, 0, (Crash::No, View::Live, false), None, None);
    decision.is_some_and(|decision| {
        let writes = |step: &Step| matches!(step, Step::Revert(_));
        let mut targets = decision.status.targets.iter();
        let falls_back = targets.any(|progress| progress.fallback.is_some());
        falls_back && decision.steps.iter().any(writes)
    })
}

/// v1 comes up and its checks say no. The pass that writes v0 ends like this, and the next one comes before or after
/// what was sent has arrived; v0 is well or not.
fn falls_back((crash, twice): (Crash, bool), at_once: bool, well: bool) -> Cluster {
    let mut cluster = tries_older().cluster();
    cluster.happen(&Event::Healthy(0, false));
    let quiet = (Crash::No, View::Live, false);
    for round in 0..100 {
        if is_at_the_fallback(&cluster) {
            let pass = (crash, View::Live, twice);
            cluster.pass(0, 0, pass, None, None);
            if at_once {
                cluster.pass(0, 1, quiet, None, None);
            }
            cluster.happen(&Event::Sync(0));
            cluster.happen(&Event::Healthy(0, well));
            cluster.settle();
            return cluster;
        }
        cluster.pass(0, 0, quiet, None, None);
        if round == 3 {
            cluster.happen(&Event::Approve(0, "bob@broxiva.com"));
        }
        cluster.happen(&Event::Sync(0));
        cluster.happen(&Event::Tick(5));
    }
    panic!("it comes to no fallback: {:?}", cluster.cases[0].last);
}

/// The stories that are told by chance come to no fallback, so one is told on purpose.
#[test]
fn the_fallback_is_written_once_whatever_happens_to_the_pass_that_writes_it() {
    let crashes = [
        Crash::No,
        Crash::BeforeCommit,
        Crash::BeforeAct,
        Crash::AfterAct,
        Crash::Among(0),
        Crash::Among(u8::MAX),
        Crash::InFlight,
    ];
    for crash in crashes {
        for (twice, at_once, well) in (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0))
        {
            let what = format!("{crash:?}, twice: {twice}, at once: {at_once}, well: {well}");
            let cluster = falls_back((crash, twice), at_once, well);
            let case = &cluster.cases[0];
            let writes =
                [WriteKind::Revert, WriteKind::Fallback].map(|kind| ("api".to_owned(), kind));
            assert_eq!(case.writes, writes, "{what}");
            let live = cluster.places[0].digest();
            assert_eq!(live, Some(digest_in("api", "v0")), "{what}");
            let end = case.last.outcome.as_ref().unwrap();
            let expected = if well {
                (RequestState::Succeeded, Reason::RolledBack)
            } else {
                (RequestState::Failed, Reason::ChecksFailed)
            };
            assert_eq!(
                (end.result, end.reason),
                expected,
                "{what}: {}",
                end.message
            );
        }
    }
}

#[test]
fn poison_in_one_deployment_keeps_no_other_from_its_end() {
    tell(
        "poison_in_one_deployment_keeps_no_other_from_its_end",
        1000,
        &(setting(1..=3), 0_usize..4),
        |(mut setting, poisoned)| {
            // Without a freeze.
            setting.policy = [0, 1, 2, 3, 4, 6][usize::from(setting.policy) % 6];
            for ask in &mut setting.asks {
                ask.waves = vec![0];
                ask.parallelism = 50;
                ask.on_failure = "Continue";
            }
            let mut cluster = setting.cluster();
            let poisoned = poisoned % cluster.places.len();
            let name = cluster.places[poisoned].name;
            // The plan is made before, because what cannot be read cannot be planned.
            for case in 0..cluster.cases.len() {
                cluster.pass(case, 0, (Crash::No, View::Live, false), None, None);
                for who in ["bob@broxiva.com", "cat@broxiva.com"] {
                    cluster.pass(case, 0, (Crash::No, View::Live, false), None, None);
                    cluster.happen(&Event::Approve(case, who));
                    cluster.pass(case, 0, (Crash::No, View::Live, false), None, None);
                }
            }
            cluster.happen(&Event::Blind(poisoned, true));
            cluster.run(400, 3000);
            for case in &cluster.cases {
                for progress in &case.last.targets {
                    let ended = result(progress).is_some() || case.last.outcome.is_some();
                    assert!(
                        ended || progress.name == name,
                        "{} waits for {name}",
                        progress.name
                    );
                }
            }
            cluster.settle();
        },
    );
}

/// Laws that nothing comes near to are kept by nobody.
#[test]
fn the_stories_come_to_every_end() {
    let reached = RefCell::new(BTreeMap::<String, u32>::new());
    let stories = (
        setting(1..=3),
        prop_oneof![any_story(), approved(false), approved(true)],
    );
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 2000,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let told = runner.run(&stories, |(setting, story)| {
        let mut cluster = happens(&setting, &story);
        cluster.settle();
        let mut reached = reached.borrow_mut();
        let mut count = |what: String| *reached.entry(what).or_default() += 1;
        for case in &cluster.cases {
            let ends = case.last.targets.iter().filter_map(result);
            for end in ends.chain(&case.last.outcome) {
                count(format!("{}/{}", end.result.as_str(), end.reason.as_str()));
            }
            for (_, kind) in &case.writes {
                count(format!("{kind:?}"));
            }
        }
        Ok(())
    });
    told.unwrap();
    let reached = reached.borrow();
    for end in [
        "Cancelled/CancelledByUser",
        "Cancelled/Deleted",
        "Cancelled/NotBegun",
        "Denied/DeniedByApprover",
        "Expired/NotApprovedInTime",
        "Failed/ChecksFailed",
        "Failed/PatchRejected",
        "Failed/RestoreFailed",
        "Failed/Overwritten",
        "Failed/RolloutTimedOut",
        "Failed/TargetGone",
        "Failed/TargetsFailed",
        "Failed/TemplateMutated",
        "Refused/DigestMismatch",
        "Refused/Forbidden",
        "Refused/HistoryPruned",
        "Refused/NoHistory",
        "Refused/NoKnownGood",
        "Refused/Paused",
        "Refused/TargetsRefused",
        "Restored/RestoredFromBackup",
        "Restored/TargetsFailed",
        "Succeeded/DryRun",
        "Succeeded/NoOp",
        "Succeeded/RolledBack",
        "Succeeded/Unverified",
        "Superseded/NotLive",
        "Superseded/RolledBackByAnother",
        "Superseded/TemplateChanged",
        "Revert",
        "Restore",
    ] {
        assert!(reached.contains_key(end), "{end}: {reached:#?}");
    }
}
