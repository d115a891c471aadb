//! Queries that somebody wrote, and names that want to be more than names.

use rollback_api::policy::Metric;
use rollback_core::health::promql::{Names, expand, query};
use rollback_probe::prometheus::Unknown;

use crate::past::{Past, Rates, steady};
use crate::world::world;

/// Namespaces and Deployments, each with ten requests a second more than the one before.
const HOSTILE: [(&str, &str); 7] = [
    ("a\"} or vector(1) #", "api"),
    ("back\\slash", "ends with\\"),
    ("\\", "\""),
    ("line\nbreak", "`api'"),
    (".*", ".+"),
    ("$namespace", "${deployment}[$window]"),
    ("\u{fc}n\u{ef}\u{202e}", "{{ }}"),
];
/// Names that would find others if they were more than names.
const NOWHERE: [(&str, &str); 5] = [
    ("a.*", "api"),
    ("calm|.*", ".*"),
    ("\"} or istio_requests_total{x=\"", "api"),
    ("calm\\", "api"),
    ("$namespace", "api"),
];
/// Its own query.
const OWN: &str = "sum(rate(istio_requests_total{destination_workload_namespace=\"$namespace\",destination_workload=\"$deployment\"}[$window]))";

/// The rates of a hostile pair of names, told apart by its place.
fn rates(place: u32) -> Rates {
    let rate = f64::from(10 * (place + 1));
    Rates(2.0 * rate, rate)
}

pub fn fill(past: &mut Past) {
    for ((namespace, deployment), place) in HOSTILE.into_iter().zip(0..) {
        past.requests((namespace, deployment), "200", rates(place));
    }
    for (replica_set, other) in REPLICA_SETS {
        past.restarts("sets", &format!("{replica_set}-abcde"), 0.2);
        past.restarts("sets", &format!("{other}-abcde"), 1.0);
    }
    past.requests(("several", "api"), "200", steady(1.0));
    past.requests(("several", "api"), "500", steady(1.0));
    past.split_requests(("split", "api"), steady(1.0));
}

/// Two names: the second would be found too if the first were a regular expression.
const REPLICA_SETS: [(&str, &str); 4] = [
    ("a.c", "abc"),
    ("x+", "xx"),
    ("q\"|.*", "anything"),
    ("b\\d", "b1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_find_their_own_and_nothing_else() {
    let Some(world) = world("hostile_names_find_their_own_and_nothing_else") else {
        return;
    };
    for ((namespace, deployment), place) in HOSTILE.into_iter().zip(0..) {
        let names = world.names(namespace, deployment);
        let Rates(before, since) = rates(place);
        for (own, expected) in [(OWN.to_owned(), since), (at_baseline(), before)] {
            let value = world.ask(&expand(&own, &names).unwrap()).await.unwrap();
            assert!((value - expected).abs() < 1e-6, "{names:?}: {value}");
        }
        let throughput = query(Metric::Throughput, &names).unwrap();
        let value = world.ask(&throughput).await.unwrap();
        assert!((value - 0.5).abs() < 1e-9, "{names:?}: {value}");
    }
    for (namespace, deployment) in NOWHERE {
        let names = world.names(namespace, deployment);
        let own = expand(OWN, &names).unwrap();
        assert_eq!(world.ask(&own).await, Err(Unknown::Empty), "{names:?}");
        for metric in [Metric::ErrorRate, Metric::Latency, Metric::Throughput] {
            let value = world.ask(&query(metric, &names).unwrap()).await;
            assert_eq!(value, Err(Unknown::Empty), "{metric:?} {names:?}");
        }
    }
}

/// The same before the bad rollout.
fn at_baseline() -> String {
    OWN.replace("[$window]", "[$window] @ $baseline")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_is_no_regular_expression() {
    let Some(world) = world("a_replica_set_is_no_regular_expression") else {
        return;
    };
    for (replica_set, other) in REPLICA_SETS {
        for (replica_set, least, most) in [(replica_set, 11.4, 12.6), (other, 59.9, 60.1)] {
            let names = Names {
                replica_set,
                ..world.names("sets", "api")
            };
            let restarts = query(Metric::Restarts, &names).unwrap();
            let value = world.ask(&restarts).await.unwrap();
            assert!((least..=most).contains(&value), "{replica_set}: {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_number_is_an_answer() {
    let Some(world) = world("only_one_number_is_an_answer") else {
        return;
    };
    let status = |status, kind: &str| Err(Unknown::Status(status, Some(kind.to_owned())));
    let calm = "istio_requests_total{destination_workload_namespace=\"several\"}";
    for (own, expected) in [
        ("vector(2.5)".to_owned(), Ok(2.5)),
        ("1 + 1".to_owned(), Ok(2.0)),
        (format!("count({calm})"), Ok(2.0)),
        (calm.to_owned(), Err(Unknown::Several(2))),
        ("no_such_metric".to_owned(), Err(Unknown::Empty)),
        ("sum(no_such_metric)".to_owned(), Err(Unknown::Empty)),
        ("vector(0) / 0".to_owned(), Err(Unknown::NotANumber("NaN"))),
        ("-1 / 0".to_owned(), Err(Unknown::NotANumber("-Inf"))),
        (format!("{calm}[120s]"), Err(Unknown::NotAScalarOrVector)),
        ("\"2\"".to_owned(), Err(Unknown::NotAScalarOrVector)),
        ("sum(".to_owned(), status(400, "bad_data")),
        (String::new(), status(400, "bad_data")),
        (format!("{calm} / on () {calm}"), status(422, "execution")),
        (
            "label_replace(vector(1), \"a\", \"b\", \"c\", \"(\")".to_owned(),
            status(422, "execution"),
        ),
    ] {
        assert_eq!(world.ask(&own).await, expected, "{own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_not_whole_is_no_answer() {
    let Some(world) = world("a_number_that_is_not_whole_is_no_answer") else {
        return;
    };
    let whole = "count(istio_requests_total{destination_workload_namespace=\"split\"})";
    assert_eq!(world.ask(whole).await, Ok(1.0));
    // Half of what this asks for is in the storage that does not answer.
    let half = whole.replace('}', ",partial=\"yes\"}");
    assert_eq!(world.ask(&half).await, Err(Unknown::Partial));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_longer_than_a_mebibyte_is_no_answer() {
    let Some(world) = world("an_answer_longer_than_a_mebibyte_is_no_answer") else {
        return;
    };
    let labelled = |length| {
        let long = "x".repeat(length);
        format!("label_replace(vector(1), \"long\", \"{long}\", \"\", \"\")")
    };
    let short = world.ask(&labelled(1024 * 1024 - 1024)).await;
    assert_eq!(short, Ok(1.0));
    let long = world.ask(&labelled(1024 * 1024)).await;
    assert_eq!(long, Err(Unknown::Garbled));
}
