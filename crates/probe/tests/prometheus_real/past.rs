//! What the shared Prometheus knows: counters that grew steadily before the bad rollout, and at another rate since.
//! They reach into the future, so that every test finds the same rates however long it waits for its turn.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds between two samples.
const STEP: usize = 5;
/// First sample, in seconds from now.
const BEGIN: i32 = -1800;
/// When the bad rollout began.
pub const BAD: i32 = -600;
/// Last sample.
const END: i32 = 1800;
/// First sample of what is too young to have a baseline: `BAD` is later, and the beginning of the baseline is not.
pub const YOUNG: i32 = -900;
/// Last sample of what is gone.
pub const GONE: i32 = -400;

/// Requests, as the pods that receive them count them.
const REQUESTS: &str = "istio_requests_total";
/// How long they took.
const BUCKETS: &str = "istio_request_duration_milliseconds_bucket";
/// How often containers started again.
const RESTARTS: &str = "kube_pod_container_status_restarts_total";

/// How much a counter grows in a second: before the bad rollout, and since.
#[derive(Clone, Copy)]
pub struct Rates(pub f64, pub f64);

/// The same before and after.
pub fn steady(rate: f64) -> Rates {
    Rates(rate, rate)
}

/// Samples in the `OpenMetrics` format.
pub struct Past {
    /// When it was written, in seconds since 1970.
    pub now: i64,
    text: String,
}

impl Past {
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            now: i64::try_from(now.as_secs()).unwrap(),
            text: String::new(),
        }
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        self.text += "# EOF\n";
        self.text
    }

    /// Requests of one code.
    pub fn requests(&mut self, of: (&str, &str), code: &str, rates: Rates) {
        self.counter(&requests(of, "destination", code), rates, BEGIN, END);
    }

    /// Requests of one code, with samples only from `first` to `last`.
    pub fn requests_between(&mut self, of: (&str, &str), rates: Rates, first: i32, last: i32) {
        self.counter(&requests(of, "destination", "200"), rates, first, last);
    }

    /// The same requests once more, as who sends them counts them.
    pub fn sent(&mut self, of: (&str, &str), code: &str, rates: Rates) {
        self.counter(&requests(of, "source", code), rates, BEGIN, END);
    }

    /// Requests that are also in a storage that does not answer.
    pub fn split_requests(&mut self, of: (&str, &str), rates: Rates) {
        let labels = destination(of, "destination");
        let series = format!("{REQUESTS}{{{labels},response_code=\"200\",partial=\"yes\"}}");
        self.counter(&series, rates, BEGIN, END);
    }

    /// How many requests in a second took at most as many milliseconds as each bound says.
    pub fn latency(&mut self, of: (&str, &str), buckets: [(&str, f64); 4]) {
        for (le, rate) in buckets {
            let labels = destination(of, "destination");
            let series = format!("{BUCKETS}{{{labels},le=\"{le}\"}}");
            self.counter(&series, steady(rate), BEGIN, END);
        }
    }

    /// Restarts of a pod's container.
    pub fn restarts(&mut self, namespace: &str, pod: &str, rate: f64) {
        let (namespace, pod) = (escaped(namespace), escaped(pod));
        let series =
            format!("{RESTARTS}{{namespace=\"{namespace}\",pod=\"{pod}\",container=\"app\"}}");
        self.counter(&series, steady(rate), BEGIN, END);
    }

    fn counter(&mut self, series: &str, Rates(before, since): Rates, first: i32, last: i32) {
        for at in (first..=last).step_by(STEP) {
            let grown =
                before * f64::from(at.min(BAD) - BEGIN) + since * f64::from((at - BAD).max(0));
            let value = 1_000.0 + grown.round();
            let time = self.now + i64::from(at);
            writeln!(self.text, "{series} {value} {time}").unwrap();
        }
    }
}

fn requests(of: (&str, &str), reporter: &str, code: &str) -> String {
    let labels = destination(of, reporter);
    format!("{REQUESTS}{{{labels},response_code=\"{code}\"}}")
}

fn destination((namespace, deployment): (&str, &str), reporter: &str) -> String {
    let (namespace, deployment) = (escaped(namespace), escaped(deployment));
    format!(
        "reporter=\"{reporter}\",destination_workload_namespace=\"{namespace}\",destination_workload=\"{deployment}\""
    )
}

/// As the format wants a label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
