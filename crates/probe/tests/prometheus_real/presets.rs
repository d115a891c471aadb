//! Each preset on both sides of its line, and where it has nothing to compare.

use rollback_api::policy::Metric;
use rollback_api::status::Finding;
use rollback_core::health::promql::{bound, judge, query};
use rollback_probe::prometheus::Unknown;

use crate::past::{GONE, Past, Rates, YOUNG, steady};
use crate::world::{World, world};

/// Everything that is asked about here is called so.
const API: &str = "api";
const NEVER: Rates = Rates(0.0, 0.0);

/// One namespace for each situation.
pub fn fill(past: &mut Past) {
    errors(past);
    latencies(past);
    restarts(past);
    throughputs(past);
}

fn errors(past: &mut Past) {
    let calm = ("calm", API);
    past.requests(calm, "200", steady(89.2));
    past.requests(calm, "404", steady(10.0));
    past.requests(calm, "503", steady(0.8));
    past.sent(calm, "503", steady(100.0));
    past.requests(("calm", "api-v2"), "500", steady(100.0));
    let failing = ("failing", API);
    past.requests(failing, "200", steady(98.8));
    past.requests(failing, "500", Rates(0.0, 0.8));
    past.requests(failing, "503", Rates(0.0, 0.4));
    past.sent(failing, "200", steady(10_000.0));
    past.requests(("recovered", API), "200", steady(100.0));
    past.requests(("recovered", API), "500", Rates(100.0, 0.0));
    past.requests(("spotless", API), "200", steady(100.0));
    past.requests(("idle", API), "200", NEVER);
    past.requests(("idle", API), "500", NEVER);
}

fn latencies(past: &mut Past) {
    let buckets = |at_1000, at_2500, at_5000| {
        [
            ("1000", at_1000),
            ("2500", at_2500),
            ("5000", at_5000),
            ("+Inf", 100.0),
        ]
    };
    past.latency(("calm", API), buckets(98.0, 99.6, 100.0));
    past.latency(("calm", "api-v2"), buckets(0.0, 0.0, 100.0));
    past.latency(("failing", API), buckets(98.0, 99.2, 100.0));
    past.latency(("endless", API), buckets(90.0, 98.0, 98.4));
    past.latency(("bounded", API), buckets(90.0, 98.0, 99.6));
    let none = ["1000", "2500", "5000", "+Inf"].map(|le| (le, 0.0));
    past.latency(("idle", API), none);
}

fn restarts(past: &mut Past) {
    past.restarts("calm", "api-5d9c7b-x2x4z", 1.0 / 60.0);
    past.restarts("calm", "api-5d9c7b-7kq2w", 1.0 / 60.0);
    for other in [
        "api-5d9c7b-x2x4z-debug",
        "api-5d9c7b-X2X4Z",
        "api-5d9c7b-x2x4",
        "api-5d9c7bb-x2x4z",
        "my-api-5d9c7b-x2x4z",
        "api-6c8b5f-x2x4z",
    ] {
        past.restarts("calm", other, 1.0);
    }
    past.restarts("failing", "api-5d9c7b-x2x4z", 2.0 / 60.0);
    past.restarts("failing", "api-5d9c7b-7kq2w", 3.0 / 60.0);
    past.restarts("spotless", "api-5d9c7b-x2x4z", 0.0);
}

fn throughputs(past: &mut Past) {
    past.requests(("slower", API), "200", Rates(80.0, 50.0));
    past.requests(("slower", API), "404", Rates(20.0, 10.0));
    past.requests(("drained", API), "200", Rates(100.0, 40.0));
    past.sent(("drained", API), "200", Rates(100.0, 10_000.0));
    past.requests(("halted", API), "200", Rates(100.0, 0.0));
    past.requests(("woken", API), "200", Rates(0.0, 10.0));
    let end = -GONE * 4;
    past.requests_between(("young", API), steady(100.0), YOUNG, end);
    past.requests_between(("gone", API), steady(100.0), -end, GONE);
}

async fn value(world: &World, metric: Metric, namespace: &str) -> Result<f64, Unknown> {
    let query = query(metric, &world.names(namespace, API)).unwrap();
    world.ask(&query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn values_on_both_sides_of_the_line() {
    let Some(world) = world("values_on_both_sides_of_the_line") else {
        return;
    };
    let exactly = |value: f64| (value - 1e-9, value + 1e-9);
    let (pass, fail) = (Finding::Pass, Finding::Fail);
    for (metric, namespace, (least, most), finding) in [
        (Metric::ErrorRate, "calm", exactly(0.008), pass),
        (Metric::ErrorRate, "failing", exactly(0.012), fail),
        (Metric::ErrorRate, "recovered", exactly(0.0), pass),
        // Without any 5xx there is no such series: that is none, and not nothing.
        (Metric::ErrorRate, "spotless", exactly(0.0), pass),
        (Metric::ErrorRate, "young", exactly(0.0), pass),
        (Metric::Latency, "calm", exactly(1937.5), pass),
        (Metric::Latency, "failing", exactly(2250.0), fail),
        (Metric::Latency, "bounded", exactly(4062.5), fail),
        // A restart more or less is in the window as it moves.
        (Metric::Restarts, "calm", (0.9, 2.2), pass),
        (Metric::Restarts, "failing", (4.1, 5.8), fail),
        (Metric::Restarts, "spotless", exactly(0.0), pass),
        (Metric::Throughput, "calm", exactly(1.0), pass),
        (Metric::Throughput, "slower", exactly(0.6), pass),
        (Metric::Throughput, "drained", exactly(0.4), fail),
        (Metric::Throughput, "halted", exactly(0.0), fail),
    ] {
        let value = value(world, metric, namespace).await.unwrap();
        let shown = format!("{metric:?} in {namespace}: {value}");
        assert!((least..=most).contains(&value), "{shown}");
        assert_eq!(judge(value, bound(metric)), finding, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_unknown() {
    let Some(world) = world("what_cannot_be_compared_is_unknown") else {
        return;
    };
    for (metric, namespace, unknown) in [
        // Nobody is counted, now or at all.
        (Metric::ErrorRate, "absent", Unknown::Empty),
        (Metric::ErrorRate, "gone", Unknown::Empty),
        (Metric::Latency, "absent", Unknown::Empty),
        (Metric::Restarts, "absent", Unknown::Empty),
        (Metric::Throughput, "absent", Unknown::Empty),
        (Metric::Throughput, "gone", Unknown::Empty),
        // Nobody asks.
        (Metric::ErrorRate, "idle", Unknown::NotANumber("NaN")),
        (Metric::Latency, "idle", Unknown::NotANumber("NaN")),
        (Metric::Throughput, "idle", Unknown::NotANumber("NaN")),
        // Nobody asked before.
        (Metric::Throughput, "woken", Unknown::NotANumber("+Inf")),
        // Counted since after the baseline began.
        (Metric::Throughput, "young", Unknown::Empty),
        // More than a hundredth is slower than the last bound.
        (Metric::Latency, "endless", Unknown::Empty),
    ] {
        let value = value(world, metric, namespace).await;
        assert_eq!(value, Err(unknown), "{metric:?} in {namespace}");
    }
}

/// Why the query for latency asks more: a quantile beyond the last bound is that bound, and that may be on the good side.
#[tokio::test(flavor = "multi_thread")]
async fn a_quantile_in_the_last_bucket_is_no_value() {
    let Some(world) = world("a_quantile_in_the_last_bucket_is_no_value") else {
        return;
    };
    let selector =
        "istio_request_duration_milliseconds_bucket{destination_workload_namespace=\"endless\"}";
    let bare = format!("histogram_quantile(0.99, sum by (le) (rate({selector}[120s])))");
    assert_eq!(world.ask(&bare).await, Ok(5000.0));
    let value = value(world, Metric::Latency, "endless").await;
    assert_eq!(value, Err(Unknown::Empty));
}
