//! How a request with several targets ended, when every one of them has.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::status::{Outcome, Plan, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequestStatus};

use crate::execution::outcome::{self, effect_of, end};
use crate::execution::phase::result;
use crate::message::text::plain;
use crate::report::conditions;

/// How many failed targets a message names.
const NAMED: usize = 5;

/// Whether it is worth stopping for. That a bad version does not run any more is no failure, and what was
/// spared did not fail.
pub(super) fn is_failure(outcome: &Outcome) -> bool {
    !conditions::is_settled(outcome) && outcome.reason != Reason::NotBegun
}

/// How the request ended, when every target has.
pub(super) fn summary(plan: &Plan, status: &RollbackRequestStatus, now: Timestamp) -> Outcome {
    if let ([only], [_]) = (status.targets.as_slice(), plan.targets.as_slice()) {
        return single(only, now);
    }
    let results: Vec<&Outcome> = status.targets.iter().filter_map(result).collect();
    let failures = failures(status);
    let effect = outcome::effect(status);
    let message = |what: &str| {
        let count = results.len();
        let named = failures
            .iter()
            .take(NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join(" ");
        let message = format!("{what} {count} Deployments: {}. {named}", tally(&results));
        message.trim_end().to_owned()
    };
    let stopped = status.stopped.as_ref();
    if let Some(stopped) = stopped.filter(|stopped| stopped.reason != Reason::TargetsFailed) {
        let what = plain(&stopped.message, 600);
        return Outcome {
            effect,
            by: stopped.by.clone(),
            message: message(&format!("{what} Those that had begun were carried out.")),
            at: now,
            ..stopped.clone()
        };
    }
    let (state, reason, what) = if let Some(restored) = restored(status) {
        restored
    } else if !failures.is_empty() {
        (
            RequestState::Failed,
            Reason::TargetsFailed,
            "Not every Deployment was rolled back.",
        )
    } else {
        succeeded(&results)
    };
    end(state, reason, message(what), now).with(effect)
}

type EndParts = (RequestState, Reason, &'static str);

/// Whether everything that was written has again what it had before; `None` when nothing had to.
fn restored(status: &RollbackRequestStatus) -> Option<EndParts> {
    status
        .stopped
        .as_ref()
        .filter(|stopped| stopped.result == RequestState::Restored)?;
    let written = |progress: &&TargetStatus| {
        let perhaps = progress.revert.is_some()
            && result(progress).is_some_and(|outcome| outcome.result == RequestState::Superseded);
        progress.reverted_at.is_some() || perhaps
    };
    let has_it_back = |progress: &TargetStatus| {
        result(progress).is_some_and(|outcome| outcome.result == RequestState::Restored)
    };
    let mut written = status.targets.iter().filter(written).peekable();
    written.peek()?;
    Some(if written.all(has_it_back) {
        (
            RequestState::Restored,
            Reason::TargetsFailed,
            "A Deployment did not come back, so every one that was rolled back has again what it had before.",
        )
    } else {
        (
            RequestState::Failed,
            Reason::RestoreFailed,
            "A Deployment did not come back, and not every one that was rolled back has again what it had before.",
        )
    })
}

/// None of them failed.
fn succeeded(results: &[&Outcome]) -> EndParts {
    let superseded = |outcome: &&Outcome| outcome.result == RequestState::Superseded;
    if results.iter().all(superseded) {
        let by_another = |outcome: &&Outcome| outcome.reason == Reason::RolledBackByAnother;
        let reason = if results.iter().all(by_another) {
            Reason::RolledBackByAnother
        } else {
            Reason::NotLive
        };
        (
            RequestState::Superseded,
            reason,
            "There was nothing left to roll back.",
        )
    } else if results
        .iter()
        .any(|outcome| outcome.reason == Reason::Unverified)
    {
        (
            RequestState::Succeeded,
            Reason::Unverified,
            "Rolled back, but not everything was verified: see status.targets.",
        )
    } else {
        (
            RequestState::Succeeded,
            Reason::RolledBack,
            "Rolled back and verified.",
        )
    }
}

/// What failed, and why, in the order of the plan.
fn failures(status: &RollbackRequestStatus) -> Vec<String> {
    let failed = |progress: &TargetStatus| {
        let outcome = progress
            .outcome
            .as_ref()
            .filter(|outcome| is_failure(outcome))?;
        let (name, why) = (plain(&progress.name, 253), plain(&outcome.message, 300));
        Some(format!("{name}: {why}"))
    };
    status.targets.iter().filter_map(failed).collect()
}

/// The end of the only target is the end of the request.
fn single(only: &TargetStatus, now: Timestamp) -> Outcome {
    let restored = only
        .restore
        .as_ref()
        .and_then(|restore| restore.outcome.clone());
    match (restored, only.outcome.clone()) {
        (Some(restored), Some(failure)) => Outcome {
            message: format!("{} {}", failure.message, restored.message),
            ..restored
        },
        (Some(outcome), None) | (None, Some(outcome)) => outcome,
        (None, None) => end(
            RequestState::Failed,
            Reason::TargetsFailed,
            "It ended without a result.",
            now,
        )
        .with(effect_of(only, false)),
    }
}

/// `7 RolledBack, 1 RolloutTimedOut`.
pub(super) fn tally(results: &[&Outcome]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in results {
        *counts.entry(outcome.reason.as_str()).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    counts.join(", ")
}
