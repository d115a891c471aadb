//! What one round of a check found: well, not well, or nothing that could tell.

use rollback_api::policy::{HttpCheck, OnJobFailure, PodCheck, PrometheusCheck};
use rollback_api::status::{Finding, JobEnd, JobRule};

use super::Check;
use crate::execution::job;
use crate::health::promql::{self, Bound};
use crate::message::text::plain;
use crate::observed::{Answer, Found, HttpAnswer, NoAnswer, PodState};

/// How many pods a message names.
const NAMED: usize = 3;
/// Longest reason that is repeated of each.
const REASON_LIMIT: usize = 200;

/// What a round found, and the same in words.
pub fn judge(check: &Check, found: &Found) -> (Finding, String) {
    match (check, found) {
        (Check::Http(check), Found::Answers(answers)) => of_pods(check, answers),
        (Check::Http(check), Found::Outside(result)) => outside(check, result),
        (Check::Number(_, check), Found::Number(number)) => of_number(check, number),
        (Check::Pods(check), Found::Pods(pods)) => of_states(check, pods),
        (Check::Http(_), Found::Number(_) | Found::Pods(_))
        | (Check::Number(..), Found::Answers(_) | Found::Outside(_) | Found::Pods(_))
        | (Check::Pods(_), Found::Answers(_) | Found::Outside(_) | Found::Number(_))
        | (
            Check::Job(_),
            Found::Answers(_) | Found::Outside(_) | Found::Number(_) | Found::Pods(_),
        ) => (
            Finding::Unknown,
            "what was found is not of this check".to_owned(),
        ),
    }
}

/// What one answer is worth; `None` when it is well.
fn fault(check: &HttpCheck, result: &Result<HttpAnswer, NoAnswer>) -> Option<(Finding, String)> {
    match result {
        Ok(heard) if !check.takes(heard.status) => Some((
            Finding::Fail,
            format!("answered {} instead of {}", heard.status, check.expects()),
        )),
        Ok(heard) if check.body_contains.is_some() && heard.body_matches != Some(true) => Some((
            Finding::Fail,
            "answered without the text that bodyContains asks for".to_owned(),
        )),
        Ok(_) => None,
        Err(NoAnswer::Unanswered(why)) => Some((Finding::Fail, plain(why, REASON_LIMIT))),
        Err(NoAnswer::NotAsked(why)) => Some((Finding::Unknown, plain(why, REASON_LIMIT))),
    }
}

fn of_pods(check: &HttpCheck, answers: &[Answer]) -> (Finding, String) {
    if answers.is_empty() {
        let whom = check.service.as_deref().map_or_else(
            || "no ready pod to ask".to_owned(),
            |service| format!("Service {service} leads to none of the new pods"),
        );
        return (Finding::Unknown, whom);
    }
    let bad: Vec<(Finding, String)> = answers
        .iter()
        .filter_map(|answer| {
            let (finding, why) = fault(check, &answer.result)?;
            let heard = answer.result.is_ok();
            let colon = if heard { "" } else { ":" };
            Some((finding, format!("{}{colon} {why}", answer.pod)))
        })
        .collect();
    let count = answers.len();
    if bad.is_empty() {
        let text = format!("{count} of {count} pods answered {}", check.expects());
        return (Finding::Pass, text);
    }
    let finding = if bad.iter().any(|(finding, _)| *finding == Finding::Fail) {
        Finding::Fail
    } else {
        Finding::Unknown
    };
    let shown: Vec<&str> = bad
        .iter()
        .take(NAMED)
        .map(|(_, why)| why.as_str())
        .collect();
    let text = format!(
        "{} of {count} pods did not answer well: {}",
        bad.len(),
        shown.join(", ")
    );
    (finding, text)
}

fn outside(check: &HttpCheck, result: &Result<HttpAnswer, NoAnswer>) -> (Finding, String) {
    match fault(check, result) {
        None => (Finding::Pass, format!("answered {}", check.expects())),
        Some(fault) => fault,
    }
}

/// The bound of a check: its own, else the usual one of its preset.
fn bound(check: &PrometheusCheck) -> Option<Bound> {
    match (check.at_most, check.at_least, check.preset) {
        (Some(most), _, _) => Some(Bound::AtMost(most)),
        (None, Some(least), _) => Some(Bound::AtLeast(least)),
        (None, None, preset) => preset.map(promql::bound),
    }
}

/// What a number is asked to be, in short.
pub fn asks(check: &PrometheusCheck) -> String {
    match bound(check) {
        Some(Bound::AtMost(most)) => format!("at most {most}"),
        Some(Bound::AtLeast(least)) => format!("at least {least}"),
        None => "without a bound".to_owned(),
    }
}

fn of_number(check: &PrometheusCheck, number: &Result<f64, String>) -> (Finding, String) {
    let number = match number {
        Ok(number) => *number,
        Err(why) => return (Finding::Unknown, plain(why, REASON_LIMIT)),
    };
    let Some(bound) = bound(check) else {
        return (Finding::Unknown, "the check has no bound".to_owned());
    };
    let text = format!("{} ({})", rounded(number), asks(check));
    (promql::judge(number, bound), text)
}

/// The number of a check of Prometheus, and the number that it is held against, read from what it found in words.
pub fn numbers(found: &str) -> Option<(f64, Option<f64>)> {
    let (number, asked) = found.split_once(' ')?;
    let number: f64 = number.parse().ok().filter(|it: &f64| it.is_finite())?;
    let asked = asked.strip_prefix('(')?.strip_suffix(')')?;
    let bound = asked
        .rsplit_once(' ')
        .and_then(|(_, bound)| bound.parse().ok());
    Some((number, bound.filter(|it: &f64| it.is_finite())))
}

/// At most six decimals, and no zeros at the end.
fn rounded(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn of_states(check: &PodCheck, pods: &[PodState]) -> (Finding, String) {
    if pods.is_empty() {
        return (Finding::Unknown, "there is no pod".to_owned());
    }
    let restarts: i64 = pods.iter().map(|pod| pod.restarts).sum();
    let unready: Vec<&str> = pods
        .iter()
        .filter(|pod| !pod.ready)
        .map(|pod| pod.name.as_str())
        .collect();
    let count = pods.len();
    let text = if unready.is_empty() {
        format!("{count} of {count} pods are ready, {restarts} restarts")
    } else {
        let named = unready.iter().take(NAMED).copied().collect::<Vec<_>>();
        format!(
            "{} of {count} pods are not ready ({}), {restarts} restarts",
            unready.len(),
            named.join(", ")
        )
    };
    let well = unready.is_empty() && restarts <= i64::from(check.max_restarts);
    (if well { Finding::Pass } else { Finding::Fail }, text)
}

/// What the end of a smoke test says.
pub fn job(rule: &JobRule, end: &JobEnd) -> (Finding, String) {
    let text = job::said(end, REASON_LIMIT);
    match (end.succeeded, rule.on_failure) {
        (true, _) => (Finding::Pass, text),
        (false, OnJobFailure::Veto) => (Finding::Fail, text),
        (false, OnJobFailure::Warn) => (
            Finding::Fail,
            format!("{text}; the policy goes on all the same"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_back() {
        let check = PrometheusCheck {
            at_most: Some(0.01),
            ..PrometheusCheck::default()
        };
        let (_, text) = of_number(&check, &Ok(0.042));
        assert_eq!(numbers(&text), Some((0.042, Some(0.01))));
        for text in [
            "",
            "answered 200",
            "4 of 4 pods answered 200",
            "inf (at most 1)",
            "1 (pods are ready)x",
        ] {
            assert_eq!(numbers(text), None, "{text}");
        }
        assert_eq!(numbers("2.5 (without a bound)"), Some((2.5, None)));
    }
}
