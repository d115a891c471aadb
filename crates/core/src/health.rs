//! Whether the old version is well: readings of checks folded into what the status remembers.
//!
//! Missing data is never healthy: a round without a pod to ask, with one pod that does not answer, or without a number,
//! is not a success. Nor is it a failure: what could not be told is told apart from what is not well, because nothing is
//! done by itself about the former.

pub mod diagnose;
pub mod promql;
pub mod reasons;
pub mod rollout;

mod judge;

pub use judge::numbers;

use jiff::Timestamp;
use rollback_api::policy::{
    HttpCheck, Metric, OnJobFailure, PodCheck, Prometheus, PrometheusCheck,
};
use rollback_api::status::{
    CheckKind, CheckStatus, Finding, JobRule, JobStage, JobStatus, Measured, Rules,
    VerificationStatus,
};

use crate::execution::job::JOB_SLACK_SECONDS;
use crate::observed::Reading;
use crate::time;

/// What the checks say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChecksResult {
    /// Every check had enough good rounds in a row.
    Passed,
    /// A check says that it is not well, and the time is over; the message names each check that did not pass.
    Failed(String),
    /// The time is over, and no check says that it is not well, but not all could tell.
    Unknown(String),
    /// Not yet; the message says how far it is.
    Checking(String),
}

/// One check of the rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check<'a> {
    /// An HTTP GET.
    Http(&'a HttpCheck),
    /// A number of this Prometheus.
    Number(&'a Prometheus, &'a PrometheusCheck),
    /// The pods themselves.
    Pods(&'a PodCheck),
    /// A smoke test.
    Job(&'a JobRule),
}

impl Check<'_> {
    /// Its kind.
    pub fn kind(&self) -> CheckKind {
        match self {
            Self::Http(_) => CheckKind::Http,
            Self::Number(..) => CheckKind::Prometheus,
            Self::Pods(_) => CheckKind::Pods,
            Self::Job(_) => CheckKind::Job,
        }
    }

    /// Its name, which no other check of its kind has.
    pub fn name(&self) -> &str {
        match self {
            Self::Http(check) => &check.name,
            Self::Number(_, check) => &check.name,
            Self::Pods(_) => "pods",
            Self::Job(rule) => &rule.name,
        }
    }

    /// How many rounds in a row must be good.
    fn needed(&self) -> i32 {
        match self {
            Self::Http(check) => check.consecutive_successes,
            Self::Number(_, check) => check.consecutive_successes,
            Self::Pods(check) => check.consecutive_successes,
            Self::Job(_) => 1,
        }
    }

    /// Seconds between two rounds; none for what is followed and not asked.
    fn period(&self) -> Option<i32> {
        match self {
            Self::Http(check) => Some(check.period_seconds),
            Self::Number(_, check) => Some(check.period_seconds),
            Self::Pods(check) => Some(check.period_seconds),
            Self::Job(_) => None,
        }
    }

    /// What is asked, in short.
    fn asks(&self) -> String {
        match self {
            Self::Http(check) => check.asks(),
            Self::Number(_, check) => judge::asks(check),
            Self::Pods(check) => format!("ready, at most {} restarts", check.max_restarts),
            Self::Job(_) => "smoke test".to_owned(),
        }
    }

    fn is_of(&self, kind: CheckKind, name: &str) -> bool {
        self.kind() == kind && self.name() == name
    }
}

/// The checks of the rules, in the order of the report.
pub fn checks(rules: &Rules) -> impl Iterator<Item = Check<'_>> {
    let numbers = rules.verification.prometheus.iter().flat_map(|server| {
        server
            .checks
            .iter()
            .map(move |check| Check::Number(server, check))
    });
    let smoke = rules
        .jobs
        .iter()
        .filter(|rule| rule.stage == JobStage::Smoke);
    rules
        .verification
        .http
        .iter()
        .map(Check::Http)
        .chain(numbers)
        .chain(rules.verification.pods.iter().map(Check::Pods))
        .chain(smoke.map(Check::Job))
}

/// The state of checks that are about to begin. What takes longer by its nature moves the end: a smoke test, and a number
/// that counts the bad version too until its window is over.
pub fn begin(rules: &Rules, now: Timestamp) -> VerificationStatus {
    let longest = checks(rules)
        .map(|check| match check {
            Check::Number(_, number) => {
                let rounds = i64::from(number.consecutive_successes) + 1;
                settling(&check) + rounds * i64::from(number.period_seconds)
            }
            Check::Http(_) | Check::Pods(_) | Check::Job(_) => 0,
        })
        .max()
        .unwrap_or_default();
    // They run one after the other.
    let smoke: i64 = checks(rules)
        .map(|check| match check {
            Check::Job(rule) => i64::from(rule.timeout_seconds) + JOB_SLACK_SECONDS,
            Check::Number(..) | Check::Http(_) | Check::Pods(_) => 0,
        })
        .sum();
    VerificationStatus {
        begun_at: Some(now),
        deadline: time::after(
            now,
            i64::from(rules.verification.timeout_seconds)
                .max(longest)
                .max(smoke),
        ),
        checks: checks(rules)
            .map(|check| CheckStatus {
                kind: check.kind(),
                name: check.name().to_owned(),
                ..CheckStatus::default()
            })
            .collect(),
        completed_at: None,
    }
}

/// Seconds from the end of the rollout until a check speaks of the old version alone: a number of the whole Deployment
/// counts what the bad version did for as long as its window.
fn settling(check: &Check) -> i64 {
    match check {
        Check::Number(_, number) => {
            let of_new_pods = number.preset == Some(Metric::Restarts)
                || number
                    .query
                    .as_ref()
                    .is_some_and(|query| query.contains("$replica_set"));
            if of_new_pods {
                0
            } else {
                i64::from(number.window_seconds)
            }
        }
        Check::Http(_) | Check::Pods(_) | Check::Job(_) => 0,
    }
}

/// The checks whose next round is due.
pub fn due<'a>(
    rules: &'a Rules,
    status: &'a VerificationStatus,
    now: Timestamp,
) -> impl Iterator<Item = Check<'a>> {
    open(rules, status)
        .filter(move |(check, state)| {
            let is_asked = check.period().is_some();
            is_asked && next_round(status, check, state).is_none_or(|at| at <= now)
        })
        .map(|(check, _)| check)
}

/// When the next round of any check is due, or the time is over.
pub fn wake(rules: &Rules, status: &VerificationStatus, now: Timestamp) -> Timestamp {
    open(rules, status)
        .filter(|(check, _)| check.period().is_some())
        .map(|(check, state)| next_round(status, &check, state).unwrap_or(now))
        .chain([status.deadline])
        .min()
        .unwrap_or(status.deadline)
}

/// Folds readings into the status.
pub fn fold(rules: &Rules, status: &mut VerificationStatus, readings: &[Reading]) {
    for reading in readings {
        let check = checks(rules).find(|check| check.is_of(reading.kind, &reading.check));
        let state = status
            .checks
            .iter_mut()
            .find(|state| state.kind == reading.kind && state.name == reading.check);
        let (Some(check), Some(state)) = (check, state) else {
            continue;
        };
        // The same reading twice is one round.
        if state.passed_at.is_some() || state.last_at.is_some_and(|last| last >= reading.at) {
            continue;
        }
        let (finding, result) = judge::judge(&check, &reading.found);
        count(state, finding, result, reading.at, check.needed());
    }
}

/// Folds the ends of smoke tests into the status. One that may fail keeps nobody waiting, and stays a failure.
pub fn fold_jobs(rules: &Rules, status: &mut VerificationStatus, jobs: &[JobStatus]) {
    for check in checks(rules) {
        let Check::Job(rule) = check else { continue };
        // A test of the version that was tried before says nothing about this one.
        let is_of_this_version =
            |job: &&JobStatus| status.begun_at.is_none_or(|begun| job.intended_at >= begun);
        let end = jobs
            .iter()
            .filter(is_of_this_version)
            .find(|job| job.stage == rule.stage && job.name == rule.name)
            .and_then(|job| job.end.as_ref());
        let state = status
            .checks
            .iter_mut()
            .find(|state| check.is_of(state.kind, &state.name));
        let (Some(end), Some(state)) = (end, state) else {
            continue;
        };
        if state.last_at.is_none() {
            let (finding, result) = judge::job(rule, end);
            count(state, finding, result, end.at, check.needed());
            if rule.on_failure == OnJobFailure::Warn {
                state.passed_at = Some(end.at);
            }
        }
    }
}

fn count(state: &mut CheckStatus, finding: Finding, result: String, at: Timestamp, needed: i32) {
    state.rounds = state.rounds.saturating_add(1);
    state.consecutive_successes = match finding {
        Finding::Pass => state.consecutive_successes.saturating_add(1),
        Finding::Fail | Finding::Unknown | Finding::Newer(_) => 0,
    };
    state.last_at = Some(at);
    state.finding = finding;
    state.last_result = result;
    if state.consecutive_successes >= needed {
        state.passed_at = Some(at);
    }
}

/// What readings say of a version that is not being verified: the bad one, when the plan is made.
pub fn measured(rules: &Rules, readings: &[Reading]) -> Vec<Measured> {
    readings
        .iter()
        .filter_map(|reading| {
            let check = checks(rules).find(|check| check.is_of(reading.kind, &reading.check))?;
            let (finding, result) = judge::judge(&check, &reading.found);
            Some(Measured {
                kind: reading.kind,
                check: reading.check.clone(),
                finding,
                result,
            })
        })
        .collect()
}

/// What the checks say together, at `now`.
pub fn verdict(rules: &Rules, status: &VerificationStatus, now: Timestamp) -> ChecksResult {
    let unknown = checks(rules)
        .filter(|check| state_of(status, check).is_none())
        .map(|check| format!("check {} ({}): never asked", check.name(), check.asks()));
    let waiting: Vec<String> = open(rules, status)
        .map(|(check, state)| describe(status, &check, state))
        .chain(unknown)
        .collect();
    if waiting.is_empty() {
        return ChecksResult::Passed;
    }
    let says = |finding: Finding, check: &Check| {
        state_of(status, check).is_some_and(|state| state.finding == finding)
    };
    let mut failing = open(rules, status).filter(|(check, _)| says(Finding::Fail, check));
    // A smoke test runs once.
    let is_final = open(rules, status).any(|(check, state)| {
        check.period().is_none() && state.finding == Finding::Fail && state.rounds > 0
    });
    let waiting = waiting.join("; ");
    if now < status.deadline && !is_final {
        ChecksResult::Checking(waiting)
    } else if failing.next().is_some() {
        ChecksResult::Failed(waiting)
    } else {
        ChecksResult::Unknown(waiting)
    }
}

fn describe(status: &VerificationStatus, check: &Check, state: &CheckStatus) -> String {
    let last = match first_round(status, check) {
        _ if !state.last_result.is_empty() => state.last_result.clone(),
        None => "not asked yet".to_owned(),
        Some(at) => format!(
            "asked from {} on, when its window holds the old version alone",
            time::stamp(at)
        ),
    };
    let (name, asks) = (check.name(), check.asks());
    match check.period() {
        Some(_) => format!(
            "check {name} ({asks}): {} of {} good rounds in a row, last: {last}",
            state.consecutive_successes,
            check.needed()
        ),
        None => format!("check {name} ({asks}): {last}"),
    }
}

fn state_of<'a>(status: &'a VerificationStatus, check: &Check) -> Option<&'a CheckStatus> {
    let mut all = status.checks.iter();
    all.find(|state| check.is_of(state.kind, &state.name))
}

/// Checks that have not passed, with their state.
fn open<'a>(
    rules: &'a Rules,
    status: &'a VerificationStatus,
) -> impl Iterator<Item = (Check<'a>, &'a CheckStatus)> {
    checks(rules).filter_map(|check| {
        let state = state_of(status, &check)?;
        state.passed_at.is_none().then_some((check, state))
    })
}

/// When the next round of a check is due; `None` for at once.
fn next_round(
    status: &VerificationStatus,
    check: &Check,
    state: &CheckStatus,
) -> Option<Timestamp> {
    match state.last_at {
        Some(last) => Some(time::after(last, i64::from(check.period()?))),
        None => first_round(status, check),
    }
}

/// When a check is asked first, when that is not at once.
fn first_round(status: &VerificationStatus, check: &Check) -> Option<Timestamp> {
    let seconds = settling(check);
    let begun = status.begun_at.filter(|_| seconds > 0)?;
    Some(time::after(begun, seconds))
}
