//! A cluster in which anything happens at any time, and the laws that hold nevertheless.
//!
//! `PROPTEST_CASES` sets how many stories are told; a story that breaks a law is printed as a list of
//! events and kept in `tests/lifecycle.regressions`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::assigning_clones,
    clippy::format_collect,
    clippy::type_complexity,
    reason = "tables are long, and what is wrong in a test ends it"
)]

mod world;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use rollback_api::Word;
use serde_json::json;
use world::cluster::{Cluster, Crash, Event, Forgery, policies};

fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(cases);
    ProptestConfig {
        cases,
        max_shrink_iters: 4000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/lifecycle.regressions",
        ))),
        ..ProptestConfig::default()
    }
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        8 => Just(Crash::No),
        1 => Just(Crash::BeforeCommit),
        1 => Just(Crash::BeforeAct),
        1 => Just(Crash::AfterAct),
        1 => Just(Crash::InFlight),
    ]
}

/// What anybody but the controller may do.
fn outside() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => prop_oneof![
            Just("bob@broxiva.com"), Just("cat@broxiva.com"), Just("dan@broxiva.com")
        ].prop_map(Event::Approve),
        3 => prop_oneof![
            Just(Forgery::Own), Just(Forgery::Phrase), Just(Forgery::Digest),
            Just(Forgery::Stamp), Just(Forgery::Robot)
        ].prop_map(Event::Forge),
        1 => Just(Event::Strip),
        1 => Just(Event::Deny),
        1 => Just(Event::Cancel),
        1 => Just(Event::Delete),
        3 => (prop_oneof![Just("v1"), Just("v2"), Just("v3")], any::<bool>())
            .prop_map(|(version, named)| Event::Deploy(version, named)),
        1 => Just(Event::Restart),
        1 => Just(Event::Undo),
        2 => Just(Event::Annotate),
        3 => (0_i64..6).prop_map(Event::Scale),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => (0_u8..4).prop_map(Event::Policy),
        1 => (0_u8..4).prop_map(Event::Guard),
        1 => any::<bool>().prop_map(Event::Permissions),
        1 => proptest::option::of(prop_oneof![Just("v1"), Just("v2")]).prop_map(Event::Recreate),
        1 => Just(Event::Prune),
        1 => Just(Event::Poison),
        2 => any::<bool>().prop_map(Event::Rival),
        1 => Just(Event::LoseLedger),
        2 => any::<bool>().prop_map(Event::Well),
        2 => any::<bool>().prop_map(Event::Healthy),
        2 => any::<bool>().prop_map(Event::Takes),
        4 => prop_oneof![1_i64..10, 10_i64..400, 400_i64..4000].prop_map(Event::Tick),
        6 => Just(Event::Sync),
    ]
}

fn pass(stale: bool) -> impl Strategy<Value = Event> {
    let between = || proptest::option::weighted(0.08, outside().prop_map(Box::new));
    let stale = if stale {
        proptest::bool::weighted(0.2).boxed()
    } else {
        Just(false).boxed()
    };
    (
        crash(),
        stale,
        proptest::bool::weighted(0.1),
        between(),
        between(),
    )
        .prop_map(|(crash, stale, twice, early, late)| Event::Pass {
            crash,
            stale,
            twice,
            early,
            late,
        })
}

/// A story: long runs of passes, so that it gets somewhere, with approvals and trouble in between.
fn story(stale: bool) -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(prop_oneof![3 => pass(stale), 2 => outside()], 0..45)
}

/// A story that is approved at once, so that the trouble comes at the writes and after.
fn approved(stale: bool) -> impl Strategy<Value = Vec<Event>> {
    let quiet = || Event::Pass {
        crash: Crash::No,
        stale: false,
        twice: false,
        early: None,
        late: None,
    };
    let begin = [
        quiet(),
        Event::Approve("bob@broxiva.com"),
        quiet(),
        Event::Approve("cat@broxiva.com"),
        quiet(),
    ];
    prop::collection::vec(prop_oneof![5 => pass(stale), 2 => outside()], 0..35)
        .prop_map(move |rest| begin.iter().cloned().chain(rest).collect())
}

fn tell(story: &[Event], policy: u8, fields: &serde_json::Value) -> Cluster {
    let policy = policies()[usize::from(policy)].clone();
    let mut cluster = Cluster::new(fields, policy);
    for event in story {
        cluster.happen(event);
    }
    cluster
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn the_laws_hold_in_any_story(story in story(false), policy in 0_u8..4) {
        tell(&story, policy, &json!({})).settle();
    }

    #[test]
    fn the_laws_hold_around_the_writes(story in approved(false), policy in 0_u8..4) {
        tell(&story, policy, &json!({})).settle();
    }

    #[test]
    fn stale_reads_break_no_law_about_the_deployment(story in approved(true), policy in 0_u8..4) {
        tell(&story, policy, &json!({})).settle();
    }

    #[test]
    fn crashes_do_not_change_the_end(
        crashes in prop::collection::vec((crash(), any::<bool>()), 0..40),
        policy in 0_u8..4,
        well in any::<bool>(),
        healthy in any::<bool>(),
        takes in proptest::bool::weighted(0.8),
        revision in proptest::option::of(1_i64..4),
    ) {
        let to = revision.map_or(json!({"previous": {}}), |number| json!({"revision": number}));
        let fields = json!({"targets": [{"name": "api", "to": to}]});
        let run = |crashes: &[(Crash, bool)]| {
            let setting = [Event::Well(well), Event::Healthy(healthy), Event::Takes(takes)];
            let mut cluster = tell(&setting, policy, &fields);
            let mut crashes = crashes.iter();
            for round in 0..60 {
                if cluster.is_over() {
                    break;
                }
                let (crash, twice) = crashes.next().copied().unwrap_or((Crash::No, false));
                cluster.pass(crash, false, twice, None, None);
                if round % 3 == 0 {
                    let who = if round % 2 == 0 { "bob@broxiva.com" } else { "cat@broxiva.com" };
                    cluster.happen(&Event::Approve(who));
                }
            }
            let last = cluster.settle();
            let outcome = last.outcome.unwrap();
            let rollbacks: Vec<_> = cluster.ledger.iter().flat_map(|(spec, _)| &spec.rollbacks)
                .map(|rollback| (rollback.from_digest.clone(), rollback.to_digest.clone(), rollback.outcome))
                .collect();
            let spec = cluster.deployment.unwrap()["spec"].clone();
            (outcome.word, outcome.reason, spec, rollbacks, cluster.reverts.len(), cluster.incidents.len())
        };
        let (crashed, quiet) = (run(&crashes), run(&[]));
        prop_assert_ne!(quiet.0, Word::Expired);
        prop_assert_eq!(crashed, quiet);
    }
}
