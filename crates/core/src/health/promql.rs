//! Queries to Prometheus that say how a version does, and what their values mean.
//!
//! A query is text for somebody else to send; whatever comes back that is not one finite number is no value at all.
//! Metrics are named as Istio's default telemetry and kube-state-metrics name them.

use std::num::NonZeroU32;

use jiff::Timestamp;
use rollback_api::policy::Metric;
use rollback_api::status::Finding;

/// How long the base of a pod's name may be before the five random characters that end it
/// (`maxGeneratedNameLength` of the API server's name generator).
const MAX_POD_BASE: usize = 58;
/// The characters of that ending.
const POD_ENDING: &str = "[a-z0-9]{5}";
/// How many windows make up the baseline of [`Metric::Throughput`]: 30 minutes for one of 5.
const BASELINE_WINDOWS: u64 = 6;

/// Where the runbook draws the line.
pub const fn bound(preset: Metric) -> Bound {
    match preset {
        Metric::ErrorRate => Bound::AtMost(0.01),
        Metric::Latency => Bound::AtMost(2000.0),
        Metric::Restarts => Bound::AtMost(3.0),
        Metric::Throughput => Bound::AtLeast(0.5),
    }
}

/// What a query is about.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Namespace of the Deployment.
    pub namespace: &'a str,
    /// Name of the Deployment.
    pub deployment: &'a str,
    /// Name of its new `ReplicaSet`.
    pub replica_set: &'a str,
    /// When the bad rollout began: what was before is the baseline.
    pub baseline_at: Option<Timestamp>,
    /// Over how many seconds is counted. A caller waits for that long after the rollout, or it counts the old version too.
    pub window_seconds: NonZeroU32,
}

/// What a query lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A baseline is asked for.
    #[error(
        "the query compares with the time before the bad rollout, and when that began is not known"
    )]
    Baseline,
    /// The API server cuts long names of pods, so pods of several `ReplicaSets` have the same beginning.
    #[error("the name of the ReplicaSet is too long to tell its pods from others by their names")]
    PodNames,
    /// There is no such placeholder.
    #[error(
        "${0} is no placeholder; there are $namespace, $deployment, $replica_set, $window and $baseline"
    )]
    Placeholder(String),
}

/// The query for a question.
///
/// A division by zero gives no number, and a quantile beyond the last bound of its histogram nothing at all, instead
/// of the last bound: with bounds up to two seconds, nothing could ever take longer.
pub fn query(preset: Metric, names: &Names<'_>) -> Result<String, Missing> {
    let window = names.window_seconds;
    let requests = requests(names);
    Ok(match preset {
        Metric::ErrorRate => format!(
            "(sum(rate(istio_requests_total{{{requests},response_code=~\"5..\"}}[{window}s])) or vector(0)) \
             / sum(rate(istio_requests_total{{{requests}}}[{window}s]))"
        ),
        Metric::Latency => {
            let bucket = "istio_request_duration_milliseconds_bucket";
            format!(
                "histogram_quantile(0.99, sum by (le) (rate({bucket}{{{requests}}}[{window}s]))) \
                 and on () (max(sum by (le) (rate({bucket}{{{requests},le!=\"+Inf\"}}[{window}s]))) \
                 >= 0.99 * sum(rate({bucket}{{{requests},le=\"+Inf\"}}[{window}s])))"
            )
        }
        Metric::Restarts => format!(
            "sum(increase(kube_pod_container_status_restarts_total{{namespace=\"{}\",pod=~\"{}\"}}[{window}s])) \
             * 60 / {window}",
            quoted(names.namespace),
            quoted(&pods(names.replica_set)?)
        ),
        Metric::Throughput => throughput(names, &requests)?,
    })
}

/// The baseline counts only if there were samples when it began: a counter that is younger seems slower than it was.
fn throughput(names: &Names<'_>, requests: &str) -> Result<String, Missing> {
    let window = names.window_seconds;
    let at = names.baseline_at.ok_or(Missing::Baseline)?.as_second();
    let length = u64::from(window.get()) * BASELINE_WINDOWS;
    let begin = at.saturating_sub_unsigned(length);
    Ok(format!(
        "sum(rate(istio_requests_total{{{requests}}}[{window}s])) \
         / (sum(rate(istio_requests_total{{{requests}}}[{length}s] @ {at})) \
         and on () sum(istio_requests_total{{{requests}}} @ {begin}))"
    ))
}

/// Labels of requests as the pods that receive them count them.
fn requests(names: &Names<'_>) -> String {
    format!(
        "reporter=\"destination\",destination_workload_namespace=\"{}\",destination_workload=\"{}\"",
        quoted(names.namespace),
        quoted(names.deployment)
    )
}

/// A regular expression for the pods of a `ReplicaSet`, and for no others whose name only begins alike.
fn pods(replica_set: &str) -> Result<String, Missing> {
    if replica_set.len() >= MAX_POD_BASE {
        return Err(Missing::PodNames);
    }
    Ok(format!("{}-{POD_ENDING}", literal(replica_set)))
}

/// Fills in the placeholders of a query that somebody wrote: `$namespace`, `$deployment`, `$replica_set` for use between
/// double quotes, `$window` as a duration (`300s`), `$baseline` as the time in seconds that `@` takes.
pub fn expand(query: &str, names: &Names<'_>) -> Result<String, Missing> {
    let mut parts = query.split('$');
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        expanded.push_str(&value(name, names)?);
        expanded.push_str(rest);
    }
    Ok(expanded)
}

fn value(placeholder: &str, names: &Names<'_>) -> Result<String, Missing> {
    match placeholder {
        // The end of a line in a regular expression.
        "" => Ok("$".to_owned()),
        "namespace" => Ok(quoted(names.namespace)),
        "deployment" => Ok(quoted(names.deployment)),
        "replica_set" => Ok(quoted(names.replica_set)),
        "window" => Ok(format!("{}s", names.window_seconds)),
        "baseline" => {
            let at = names.baseline_at.ok_or(Missing::Baseline)?;
            Ok(at.as_second().to_string())
        }
        other => Err(Missing::Placeholder(other.chars().take(40).collect())),
    }
}

/// Text for use between double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted
}

/// A regular expression that matches this text and nothing else.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\.+*?()|[]{}^$".contains(letter) {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal
}

/// Where the line is. The line itself is on the good side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// More is bad.
    AtMost(f64),
    /// Less is bad.
    AtLeast(f64),
}

/// On which side of the line a value is.
pub fn judge(value: f64, bound: Bound) -> Finding {
    let (Bound::AtMost(line) | Bound::AtLeast(line)) = bound;
    if !value.is_finite() || !line.is_finite() {
        return Finding::Unknown;
    }
    let good = match bound {
        Bound::AtMost(most) => value <= most,
        Bound::AtLeast(least) => value >= least,
    };
    if good { Finding::Pass } else { Finding::Fail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names {
        namespace: "shop",
        deployment: "api",
        replica_set: "api-5d9c7b",
        baseline_at: None,
        window_seconds: NonZeroU32::new(300).unwrap(),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_queries_of_the_runbook() {
        let requests = "reporter=\"destination\",destination_workload_namespace=\"shop\",destination_workload=\"api\"";
        assert_eq!(
            query(Metric::ErrorRate, &NAMES).unwrap(),
            format!(
                "(sum(rate(istio_requests_total{{{requests},response_code=~\"5..\"}}[300s])) or vector(0)) / sum(rate(istio_requests_total{{{requests}}}[300s]))"
            )
        );
        let latency = query(Metric::Latency, &NAMES).unwrap();
        assert!(latency.starts_with(&format!(
            "histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{{{requests}}}[300s]))) and on ()"
        )));
        assert_eq!(
            query(Metric::Restarts, &NAMES).unwrap(),
            "sum(increase(kube_pod_container_status_restarts_total{namespace=\"shop\",pod=~\"api-5d9c7b-[a-z0-9]{5}\"}[300s])) * 60 / 300"
        );
        let names = Names {
            baseline_at: Some(at(1_764_340_000)),
            ..NAMES
        };
        assert_eq!(
            query(Metric::Throughput, &names).unwrap(),
            format!(
                "sum(rate(istio_requests_total{{{requests}}}[300s])) / (sum(rate(istio_requests_total{{{requests}}}[1800s] @ 1764340000)) and on () sum(istio_requests_total{{{requests}}} @ 1764338200))"
            )
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(query(Metric::Throughput, &NAMES), Err(Missing::Baseline));
        let long = "a".repeat(MAX_POD_BASE);
        for (length, missing) in [(57, false), (58, true)] {
            let names = Names {
                replica_set: &long[..length],
                ..NAMES
            };
            assert_eq!(
                query(Metric::Restarts, &names) == Err(Missing::PodNames),
                missing,
                "{length}"
            );
        }
    }

    #[test]
    fn hostile_names_stay_values() {
        let hostile = "a\"} or vector(1) #\\\n.*|$window";
        let names = Names {
            namespace: hostile,
            deployment: hostile,
            replica_set: hostile,
            baseline_at: Some(at(0)),
            ..NAMES
        };
        let value = "a\\\"} or vector(1) #\\\\\\n.*|$window";
        let pattern =
            "a\\\"\\\\} or vector\\\\(1\\\\) #\\\\\\\\\\n\\\\.\\\\*\\\\|\\\\$window-[a-z0-9]{5}";
        for preset in [Metric::ErrorRate, Metric::Latency, Metric::Throughput] {
            let query = query(preset, &names).unwrap();
            assert!(
                query.contains(&format!(
                    "destination_workload_namespace=\"{value}\",destination_workload=\"{value}\""
                )),
                "{query}"
            );
            assert!(!query.contains('\n'), "{query}");
        }
        let restarts = query(Metric::Restarts, &names).unwrap();
        assert!(
            restarts.contains(&format!("{{namespace=\"{value}\",pod=~\"{pattern}\"}}")),
            "{restarts}"
        );
        assert_eq!(
            expand(
                "m{a=\"$namespace\",b=\"$deployment\",c=\"$replica_set\"}",
                &names
            )
            .unwrap(),
            format!("m{{a=\"{value}\",b=\"{value}\",c=\"{value}\"}}")
        );
    }

    #[test]
    fn placeholders_are_filled_in() {
        let names = Names {
            baseline_at: Some(at(1_764_340_000)),
            ..NAMES
        };
        assert_eq!(
            expand(
                "rate(m{x=~\"^$deployment-$replica_set$\"}[$window] @ $baseline)",
                &names
            )
            .unwrap(),
            "rate(m{x=~\"^api-api-5d9c7b$\"}[300s] @ 1764340000)"
        );
        assert_eq!(expand("m", &NAMES).unwrap(), "m");
        assert_eq!(expand("$", &NAMES).unwrap(), "$");
        assert_eq!(expand("@ $baseline", &NAMES), Err(Missing::Baseline));
        assert_eq!(
            expand("m[$__rate_interval]", &NAMES),
            Err(Missing::Placeholder("__rate_interval".to_owned()))
        );
        assert_eq!(
            expand("$namespaces", &NAMES),
            Err(Missing::Placeholder("namespaces".to_owned()))
        );
    }

    #[test]
    fn the_line_itself_is_not_crossed() {
        for (value, bound, finding) in [
            (0.01, bound(Metric::ErrorRate), Finding::Pass),
            (0.01 + f64::EPSILON, bound(Metric::ErrorRate), Finding::Fail),
            (2000.0, bound(Metric::Latency), Finding::Pass),
            (2000.1, bound(Metric::Latency), Finding::Fail),
            (3.0, bound(Metric::Restarts), Finding::Pass),
            (3.1, bound(Metric::Restarts), Finding::Fail),
            (0.5, bound(Metric::Throughput), Finding::Pass),
            (0.49, bound(Metric::Throughput), Finding::Fail),
            (0.0, Bound::AtMost(-0.0), Finding::Pass),
            (f64::NAN, Bound::AtMost(1.0), Finding::Unknown),
            (f64::INFINITY, Bound::AtMost(1.0), Finding::Unknown),
            (f64::NEG_INFINITY, Bound::AtMost(1.0), Finding::Unknown),
            (0.0, Bound::AtMost(f64::INFINITY), Finding::Unknown),
            (0.0, Bound::AtLeast(f64::NAN), Finding::Unknown),
        ] {
            assert_eq!(judge(value, bound), finding, "{value} {bound:?}");
        }
    }
}
