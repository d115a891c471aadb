//! Whether the old version is well: readings of checks folded into what the status remembers.
//!
//! Missing data is never healthy: a round without a pod to ask, or with one pod that does not
//! answer, is not a success.

use jiff::Timestamp;
use rollback_api::policy::HttpCheck;
use rollback_api::status::{CheckStatus, Rules, VerificationStatus};

use crate::observed::{Answer, Reading};
use crate::text::plain;
use crate::time;

/// What the checks say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every check had enough good rounds in a row.
    Passed,
    /// The time is over; the message names each check that did not pass.
    Failed(String),
    /// Not yet; the message says how far it is.
    Checking(String),
}

/// The state of checks that are about to begin.
pub fn begin(rules: &Rules, now: Timestamp) -> VerificationStatus {
    VerificationStatus {
        deadline: time::after(now, i64::from(rules.verification_timeout_seconds)),
        checks: rules
            .http
            .iter()
            .map(|check| CheckStatus {
                name: check.name.clone(),
                ..CheckStatus::default()
            })
            .collect(),
        completed_at: None,
    }
}

/// The checks whose next round is due.
pub fn due<'a>(
    rules: &'a Rules,
    status: &'a VerificationStatus,
    now: Timestamp,
) -> impl Iterator<Item = &'a HttpCheck> {
    open(rules, status)
        .filter(move |(check, status)| next_round(check, status).is_none_or(|at| at <= now))
        .map(|(check, _)| check)
}

/// When the next round of any check is due, or the time is over.
pub fn wake(rules: &Rules, status: &VerificationStatus, now: Timestamp) -> Timestamp {
    open(rules, status)
        .map(|(check, status)| next_round(check, status).unwrap_or(now))
        .chain([status.deadline])
        .min()
        .unwrap_or(status.deadline)
}

/// Folds readings into the status.
pub fn fold(rules: &Rules, status: &mut VerificationStatus, readings: &[Reading]) {
    for reading in readings {
        let check = rules.http.iter().find(|check| check.name == reading.check);
        let state = status
            .checks
            .iter_mut()
            .find(|state| state.name == reading.check);
        let (Some(check), Some(state)) = (check, state) else {
            continue;
        };
        // The same reading twice is one round.
        if state.passed_at.is_some() || state.last_at.is_some_and(|last| last >= reading.at) {
            continue;
        }
        let (good, result) = judge(check, &reading.answers);
        state.rounds = state.rounds.saturating_add(1);
        state.consecutive_successes = if good {
            state.consecutive_successes.saturating_add(1)
        } else {
            0
        };
        state.last_at = Some(reading.at);
        state.last_result = result;
        if state.consecutive_successes >= check.consecutive_successes {
            state.passed_at = Some(reading.at);
        }
    }
}

/// What the checks say together, at `now`.
pub fn verdict(rules: &Rules, status: &VerificationStatus, now: Timestamp) -> Verdict {
    let unknown = rules
        .http
        .iter()
        .filter(|check| status.checks.iter().all(|state| state.name != check.name))
        .map(|check| format!("check {} ({}): never asked", check.name, check.asks()));
    let waiting: Vec<String> = open(rules, status)
        .map(|(check, state)| describe(check, state))
        .chain(unknown)
        .collect();
    if waiting.is_empty() {
        return Verdict::Passed;
    }
    let waiting = waiting.join("; ");
    if now >= status.deadline {
        Verdict::Failed(waiting)
    } else {
        Verdict::Checking(waiting)
    }
}

fn describe(check: &HttpCheck, state: &CheckStatus) -> String {
    let last = if state.last_result.is_empty() {
        "not asked yet"
    } else {
        &state.last_result
    };
    format!(
        "check {} ({}): {} of {} good rounds in a row, last: {last}",
        check.name,
        check.asks(),
        state.consecutive_successes,
        check.consecutive_successes
    )
}

/// Checks that have not passed, with their state.
fn open<'a>(
    rules: &'a Rules,
    status: &'a VerificationStatus,
) -> impl Iterator<Item = (&'a HttpCheck, &'a CheckStatus)> {
    rules.http.iter().filter_map(|check| {
        let state = status
            .checks
            .iter()
            .find(|state| state.name == check.name)?;
        state.passed_at.is_none().then_some((check, state))
    })
}

fn next_round(check: &HttpCheck, state: &CheckStatus) -> Option<Timestamp> {
    Some(time::after(state.last_at?, i64::from(check.period_seconds)))
}

/// Whether a round was good, and what it found.
fn judge(check: &HttpCheck, answers: &[Answer]) -> (bool, String) {
    if answers.is_empty() {
        return (false, "no ready pod to ask".to_owned());
    }
    let bad: Vec<String> = answers
        .iter()
        .filter_map(|answer| match &answer.result {
            Ok(code) if i32::from(*code) == check.expected_status => None,
            Ok(code) => Some(format!(
                "{} answered {code} instead of {}",
                answer.pod, check.expected_status
            )),
            Err(error) => Some(format!("{}: {}", answer.pod, plain(error, 200))),
        })
        .collect();
    if bad.is_empty() {
        return (
            true,
            format!(
                "{} of {} pods answered {}",
                answers.len(),
                answers.len(),
                check.expected_status
            ),
        );
    }
    let shown = bad.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    (
        false,
        format!(
            "{} of {} pods did not answer well: {shown}",
            bad.len(),
            answers.len()
        ),
    )
}
