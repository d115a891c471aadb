//! Which Deployments a request finds, and which of them are rolled back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::request::{MAX_TARGETS, OnFailure, Target};
use rollback_api::status::{PlannedTarget, Skipped};
use rollback_api::{Reason, RequestState, RollbackRequest, WorkloadKind};

use super::{Candidate, Checked, Proposed};
use crate::execution::outcome::{Ending, end, refused};
use crate::message::text::plain;

/// How many refused Deployments a message names.
const NAMED_REFUSALS: usize = 10;

/// The entry of the spec that finds a Deployment.
pub fn asked(request: &RollbackRequest, index: usize) -> Option<&Target> {
    request.spec.targets.get(index)
}

/// Whether that entry names it, and does not merely find it.
fn is_named(request: &RollbackRequest, index: usize) -> bool {
    asked(request, index).is_some_and(|target| target.name.is_some())
}

/// What the request finds, each Deployment once, in the order in which they are rolled back. A Deployment
/// that is named is not also one of those that a selector or a prefix finds.
pub fn found(
    request: &RollbackRequest,
    candidates: Vec<Candidate>,
    now: Timestamp,
) -> Result<Vec<Candidate>, Ending> {
    let mut by_name: BTreeMap<String, Candidate> = BTreeMap::new();
    let (named, others): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|seen| is_named(request, seen.asked));
    for seen in named.into_iter().chain(others) {
        if let Some(first) = by_name.get(&seen.name) {
            if is_named(request, first.asked) && is_named(request, seen.asked) {
                return Err(refused(
                    Reason::Ambiguous,
                    format!(
                        "spec.targets[{}].name: {} is named twice (also by spec.targets[{}]). Name each Deployment once.",
                        seen.asked,
                        plain(&seen.name, 253),
                        first.asked
                    ),
                    now,
                ));
            }
            continue;
        }
        by_name.insert(seen.name.clone(), seen);
    }
    let mut found: Vec<Candidate> = by_name.into_values().collect();
    let wave = |seen: &Candidate| asked(request, seen.asked).map_or(0, |target| target.wave);
    found.sort_by_key(|seen| (wave(seen), seen.asked));
    match found.len() {
        0 => Err(refused(
            Reason::NothingFound,
            "spec.targets[0]: no Deployment of this namespace has the labels or the name prefix that is asked for. Look at kubectl get deployments --show-labels.",
            now,
        )),
        1..=MAX_TARGETS => Ok(found),
        many => Err(refused(
            Reason::TooMany,
            format!(
                "spec.targets: this finds {many} Deployments, and one request rolls back at most {MAX_TARGETS}. Use several requests, each with a narrower selector or prefix."
            ),
            now,
        )),
    }
}

/// Who is rolled back and who is left as it is. What cannot be rolled back refuses the request, unless it is to
/// go on without; but a Deployment that was merely found, and has nothing to go back to, is left as it is.
pub fn divide(
    request: &RollbackRequest,
    results: Vec<(&Proposed<Checked>, Result<PlannedTarget, Ending>)>,
    now: Timestamp,
) -> Result<(Vec<PlannedTarget>, Vec<Skipped>), Ending> {
    let (mut targets, mut skipped, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for (seen, result) in results {
        let named = is_named(request, seen.asked);
        match result {
            Ok(target) => targets.push(target),
            Err(ending) => {
                if !(is_harmless(&ending) || (!named && is_without_past(ending.reason))) {
                    refusals.push(format!("{}: {}", plain(&seen.name, 253), ending.text()));
                }
                skipped.push(Skipped {
                    kind: WorkloadKind::Deployment,
                    name: seen.name.clone(),
                    result: ending.result,
                    reason: ending.reason,
                    message: plain(&ending.text(), 300),
                });
            }
        }
    }
    if !refusals.is_empty() && request.rollout().on_failure != OnFailure::Continue {
        let unnamed = refusals.len().saturating_sub(NAMED_REFUSALS);
        let more = if unnamed > 0 {
            format!(" And {unnamed} more.")
        } else {
            String::new()
        };
        refusals.truncate(NAMED_REFUSALS);
        return Err(refused(
            Reason::TargetsRefused,
            format!(
                "Some of the Deployments cannot be rolled back, so none is. {}{more}",
                refusals.join(" ")
            ),
            now,
        )
        .next("Mend that, or leave them out with rollout.onFailure: Continue, and create a new request."));
    }
    if targets.is_empty() {
        let all = skipped.len();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for one in &skipped {
            *counts.entry(one.reason.as_str()).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(reason, count)| format!("{reason}: {count}"))
            .collect();
        let message = format!(
            "None of the {all} Deployments is rolled back ({}).",
            counts.join(", ")
        );
        let harmless = skipped
            .iter()
            .all(|one| one.result != RequestState::Refused);
        return Err(if harmless {
            end(RequestState::Succeeded, Reason::NoOp, message, now)
        } else {
            refused(Reason::TargetsRefused, message, now)
        });
    }
    Ok((targets, skipped))
}

/// Whether it needs nothing: it already runs what was asked for, or not what is bad.
fn is_harmless(ending: &Ending) -> bool {
    ending.result == RequestState::Succeeded || ending.reason == Reason::NotLive
}

/// Whether there is simply nothing to go back to.
fn is_without_past(reason: Reason) -> bool {
    [
        Reason::NoHistory,
        Reason::NoKnownGood,
        Reason::RevisionNotFound,
        Reason::VersionNotInHistory,
        Reason::ImageNotInHistory,
    ]
    .contains(&reason)
}
