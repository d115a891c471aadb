//! Conditions and the columns of `kubectl get`: projections of the facts.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use rollback_api::request::{Target, To};
use rollback_api::status::{Outcome, Plan, PlannedTarget, Source, Summary};
use rollback_api::{ConditionType, Reason, RequestState, RollbackRequest, RollbackRequestStatus};

use crate::approval::{self, consent};
use crate::execution::phase::{Phase, result, waits};
use crate::execution::step::{Next, Step};
use crate::message::text::plain;
use crate::time;

/// Longest message of a condition (the API server's own limit is 32768).
const MESSAGE_LIMIT: usize = 4000;
/// Longest message of a condition that only says the beginning of what Ready says.
const BRIEF_LIMIT: usize = 300;

/// The word for a request whose approvals do not count because of the guard, in its condition and in the Event.
pub const GUARD_MISSING: &str = "GuardMissing";

/// The word for a request that waits for approvals, with which nothing is wrong.
pub const AWAITING_APPROVAL: &str = "AwaitingApproval";

/// How often a guard that nobody announces is looked at while waiting.
const RECHECK_SECONDS: i64 = 60;

/// Where a request stands after a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestDecision {
    /// What to write next.
    pub steps: Vec<Step>,
    /// When to look again.
    pub next: Next,
    /// What a person should know.
    pub message: String,
    /// Why there is no approval yet, in one word.
    pub approval: &'static str,
    /// Where it stands, when the facts do not tell.
    pub state: Option<RequestState>,
}

impl RequestDecision {
    /// Writes and what they are for; then the next pass looks what became of them.
    pub fn take(steps: Vec<Step>, message: impl Into<String>) -> Self {
        Self {
            steps,
            next: Next::Again,
            message: message.into(),
            approval: AWAITING_APPROVAL,
            state: None,
        }
    }

    /// Only the status moves on.
    pub fn again(message: impl Into<String>) -> Self {
        Self::take(Vec::new(), message)
    }

    /// Something was not read: look again soon.
    pub fn recheck(now: Timestamp, message: impl Into<String>) -> Self {
        Self {
            next: Next::Wait {
                until: Some(time::after(now, 1)),
            },
            ..Self::again(message)
        }
    }

    /// Waiting for people, until the plan expires.
    pub fn waiting(
        plan: &Plan,
        now: Timestamp,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let again = time::after(now, RECHECK_SECONDS);
        let until = Some(plan.not_after).filter(|end| *end > now);
        let until = until.map_or(again, |end| end.min(again));
        Self {
            approval: reason,
            next: Next::Wait { until: Some(until) },
            ..Self::again(message)
        }
    }
}

/// The word for a phase that is not the end.
fn state(phase: Phase, outcome: Option<&Outcome>) -> RequestState {
    match (phase, outcome) {
        (_, Some(outcome)) => outcome.result,
        (Phase::Planning | Phase::Ended, None) => RequestState::Planning,
        (Phase::AwaitingApproval, None) => RequestState::AwaitingApproval,
        (Phase::BackingUp, None) => RequestState::BackingUp,
        (Phase::Reverting, None) => RequestState::Reverting,
        (Phase::RollingOut, None) => RequestState::RollingOut,
        (Phase::Verifying, None) => RequestState::Verifying,
        (Phase::Restoring, None) => RequestState::Restoring,
    }
}

/// Whether a request that ended so needs nobody's attention: kstatus and Argo CD show it as done.
///
/// A request that was superseded before anything was written is settled: an old manifest that stays
/// in Git must not turn an application red for ever.
pub fn is_settled(outcome: &Outcome) -> bool {
    match outcome.result {
        RequestState::Succeeded => true,
        RequestState::Superseded => {
            [Reason::NotLive, Reason::RolledBackByAnother].contains(&outcome.reason)
        }
        RequestState::Planning
        | RequestState::AwaitingApproval
        | RequestState::Blocked
        | RequestState::Frozen
        | RequestState::BackingUp
        | RequestState::Reverting
        | RequestState::RollingOut
        | RequestState::Verifying
        | RequestState::Restoring
        | RequestState::Denied
        | RequestState::Cancelled
        | RequestState::Expired
        | RequestState::Refused
        | RequestState::Failed
        | RequestState::Restored
        | RequestState::Newer(_) => false,
    }
}

/// Sets conditions and summary from the facts. Transition times change only with the status of a
/// condition.
pub fn project(
    request: &RollbackRequest,
    status: &mut RollbackRequestStatus,
    decision: &RequestDecision,
    now: Timestamp,
) {
    let outcome = status.outcome.clone();
    let phase = Phase::of(status);
    let state = state(phase, outcome.as_ref());
    let state = decision.state.unwrap_or(state);
    let state = state.as_str();
    let message = decision.message.as_str();
    // All of it stands once, in Ready: who reads three conditions would read it three times.
    let short = brief(outcome.as_ref().map_or(message, |outcome| &outcome.message));
    let mut wanted: Vec<(ConditionType, bool, &str, &str)> = Vec::new();
    match &outcome {
        None => {
            wanted.push((ConditionType::Ready, false, state, message));
            // While people are waited for nothing is being reconciled, and `Ready` alone says that it is not done.
            if phase != Phase::AwaitingApproval {
                wanted.push((ConditionType::Reconciling, true, state, &short));
            }
        }
        Some(outcome) => {
            let settled = is_settled(outcome);
            let reason = outcome.reason.as_str();
            wanted.push((ConditionType::Ready, settled, state, &outcome.message));
            let message = short.as_str();
            if settled {
                wanted.push((ConditionType::Complete, true, reason, message));
            } else {
                wanted.push((ConditionType::Failed, true, reason, message));
                wanted.push((ConditionType::Stalled, true, reason, message));
            }
            if outcome.result == RequestState::Denied {
                wanted.push((ConditionType::Denied, true, reason, message));
            }
        }
    }
    let approved_by = approved_by(status);
    if let Some(plan) = &status.plan {
        // With nothing left to begin, those approvals count that were begun upon.
        let begun = !waits(status) && status.targets.iter().any(consent::is_begun);
        if begun || approval::suffices(plan, &status.approvals) {
            let by = approved_by.as_deref().unwrap_or_default();
            let all = consent::approvals(status);
            let reason = if all.iter().any(|approval| approval.break_glass.is_some()) {
                "BreakGlass"
            } else if all.iter().any(|approval| approval.automatic) {
                "ApprovedByPolicy"
            } else {
                "Approved"
            };
            wanted.push((ConditionType::Approved, true, reason, by));
        } else if outcome.is_none() && decision.approval != AWAITING_APPROVAL {
            // Something is wrong with an approval. That one is merely waited for, Ready says.
            let said = if decision.approval == GUARD_MISSING {
                message
            } else {
                &short
            };
            wanted.push((ConditionType::Approved, false, decision.approval, said));
        }
    }
    if let Some(incident) = &status.incident {
        wanted.push((
            ConditionType::Reported,
            true,
            "Published",
            &incident.config_map,
        ));
    }
    let conditions = wanted
        .into_iter()
        .map(|(kind, is_true, reason, message)| {
            condition(&status.conditions, kind, is_true, reason, message, now)
        })
        .collect();
    status.summary = Some(summary(request, status));
    status.approved_by = approved_by;
    status.conditions = conditions;
}

/// The first sentence of a message, and where the rest is.
fn brief(message: &str) -> String {
    let first = message.find(". ").map_or(message, |end| &message[..=end]);
    if first.chars().count() <= BRIEF_LIMIT {
        first.to_owned()
    } else {
        format!("{} See the condition Ready.", plain(first, BRIEF_LIMIT))
    }
}

fn condition(
    old: &[Condition],
    kind: ConditionType,
    is_true: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Condition {
    let value = if is_true { "True" } else { "False" };
    let since = old
        .iter()
        .find(|condition| condition.type_ == kind.as_str() && condition.status == value)
        .map_or(Time(now), |condition| {
            condition.last_transition_time.clone()
        });
    Condition {
        type_: kind.as_str().to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(MESSAGE_LIMIT).collect(),
        // The spec never changes, and the status says which generation it speaks of.
        observed_generation: None,
        last_transition_time: since,
    }
}

/// Who approved, for the column: also those upon whose approvals something was begun, and who count no more.
fn approved_by(status: &RollbackRequestStatus) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for approval in consent::approvals(status) {
        let name = plain(approval::approver(approval), 200);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| names.join(","))
}

fn summary(request: &RollbackRequest, status: &RollbackRequestStatus) -> Summary {
    let asked = request.spec.targets.first();
    let planned = status
        .plan
        .as_ref()
        .map_or(&[][..], |plan| plan.targets.as_slice());
    let wish = asked.map_or_else(String::new, |target| wish(&target.to));
    let (target, to) = match planned {
        [] => {
            let first = asked.map_or_else(|| "?".to_owned(), asked_for);
            let target = match request.spec.targets.len() {
                0 | 1 => first,
                more => format!("{first} and {} more", more - 1),
            };
            (target, wish)
        }
        [only] => (
            resource(only.workload.kind.as_str(), &only.workload.name),
            destination(only),
        ),
        many => (format!("{} Deployments{}", many.len(), score(status)), wish),
    };
    Summary { target, to }
}

/// A workload as kubectl names it, for example `deployment/api`.
fn resource(kind: &str, name: &str) -> String {
    let kind = plain(kind, 63).to_ascii_lowercase();
    format!("{kind}/{}", plain(name, 253))
}

/// What is asked to be rolled back, before it is resolved.
fn asked_for(target: &Target) -> String {
    match (&target.name, &target.name_prefix) {
        (Some(name), _) => resource(&target.kind, name),
        (None, Some(prefix)) => resource(&target.kind, prefix) + "*",
        (None, None) => "deployments by label".to_owned(),
    }
}

/// How many have ended, and how: ` (7 done, 1 failed)`.
fn score(status: &RollbackRequestStatus) -> String {
    let results: Vec<bool> = status
        .targets
        .iter()
        .filter_map(result)
        .map(is_settled)
        .collect();
    let done = results.iter().filter(|settled| **settled).count();
    match (done, results.len() - done) {
        (0, 0) => String::new(),
        (done, 0) => format!(" ({done} done)"),
        (done, failed) => format!(" ({done} done, {failed} not)"),
    }
}

/// Where one target goes: `revision 3 (v2.1.5)`.
pub fn destination(target: &PlannedTarget) -> String {
    let place = place(target);
    match target.images.as_slice() {
        [only] => format!("{place} ({})", tag(only.to.as_deref())),
        [] | [_, _, ..] => place,
    }
}

/// Where the template comes from, for a reader: `revision 3`, `backup rollback-backup-...`, `a new image`.
pub fn place(target: &PlannedTarget) -> String {
    let name = target.source_name().unwrap_or_default();
    match (target.source, target.to.revision) {
        (Source::Backup, _) => format!("backup {}", plain(name, 253)),
        (Source::NewImage, _) => "a new image".to_owned(),
        (Source::ReplicaSet | Source::Ledger, Some(revision)) => format!("revision {revision}"),
        (Source::ReplicaSet, None) => format!("ReplicaSet {}", plain(name, 253)),
        (Source::Ledger, None) => "a template of the ledger".to_owned(),
        (Source::Newer(_), _) => "a template that only a newer controller finds".to_owned(),
    }
}

/// What is asked for, before it is resolved.
fn wish(to: &To) -> String {
    if let Some(revision) = to.revision {
        format!("revision {revision}")
    } else if let Some(version) = &to.version {
        format!("version {}", plain(version, 60))
    } else if let Some(image) = &to.image {
        format!("image {}", tag(Some(&image.image)))
    } else if to.last_known_good.is_some() {
        "last known good".to_owned()
    } else if let Some(backup) = &to.backup {
        format!("backup {}", plain(backup, 253))
    } else {
        "previous".to_owned()
    }
}

/// What a person calls an image: its tag, or all of it when there is none.
fn tag(image: Option<&str>) -> String {
    let image = image.unwrap_or("removed");
    let last = image.rsplit('/').next().unwrap_or(image);
    plain(last.split_once(':').map_or(last, |(_, tag)| tag), 60)
}
