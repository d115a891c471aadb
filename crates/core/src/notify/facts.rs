//! What every message of a request says of it: what it is about, and the facts.

use rollback_api::policy::EndResult;
use rollback_api::request::Urgency;
use rollback_api::status::TargetStatus;
use rollback_api::{RequestState, RollbackRequest, RollbackRequestStatus};

use super::Subject;
use crate::approval::{self, consent};
use crate::message::redact::redact;
use crate::message::text::plain;
use crate::report::notice;
use crate::time::stamp;

/// Longest sentence of others that is repeated.
pub(super) const LINE: usize = 500;
/// Up to how many Deployments are described one by one.
pub(super) const FEW: usize = 5;

/// What a request is about, and how it stands.
pub(super) fn subject(request: &RollbackRequest, status: &RollbackRequestStatus) -> Subject {
    let meta = &request.metadata;
    let outcome = status.outcome.as_ref();
    Subject {
        workloads: workloads(request, status),
        uid: meta.uid.clone().unwrap_or_default(),
        category: request.spec.reason.category,
        urgency: urgency(request, status),
        result: outcome.and_then(|outcome| end_result(outcome.result)),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

/// How urgent it is: as planned, else as asked for, else as the category is.
pub(super) fn urgency(request: &RollbackRequest, status: &RollbackRequestStatus) -> Urgency {
    let planned = status.plan.as_ref().map(|plan| plan.rules.urgency);
    let urgency = planned.or(request.spec.urgency);
    urgency.unwrap_or(request.spec.reason.category.default_urgency())
}

fn end_result(result: RequestState) -> Option<EndResult> {
    match result {
        RequestState::Succeeded => Some(EndResult::Succeeded),
        RequestState::Denied => Some(EndResult::Denied),
        RequestState::Cancelled => Some(EndResult::Cancelled),
        RequestState::Expired => Some(EndResult::Expired),
        RequestState::Refused => Some(EndResult::Refused),
        RequestState::Superseded => Some(EndResult::Superseded),
        RequestState::Failed => Some(EndResult::Failed),
        RequestState::Restored => Some(EndResult::Restored),
        RequestState::Planning
        | RequestState::AwaitingApproval
        | RequestState::Blocked
        | RequestState::Frozen
        | RequestState::BackingUp
        | RequestState::Reverting
        | RequestState::RollingOut
        | RequestState::Verifying
        | RequestState::Restoring
        | RequestState::Newer(_) => None,
    }
}

/// Text of others, fit to be told.
pub(super) fn said(text: &str, limit: usize) -> String {
    plain(redact(text).trim(), limit)
}

/// Where, why, who, and from what to what.
pub(super) fn all(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    subject: &Subject,
) -> Vec<(&'static str, String)> {
    let reason = &request.spec.reason;
    let mut facts = vec![
        (
            "Request",
            format!("{} in namespace {}", subject.name, subject.namespace),
        ),
        ("Why", said(&reason.summary, LINE)),
        (
            "Category, urgency",
            format!("{:?}, {:?}", subject.category, subject.urgency),
        ),
    ];
    if let Some(by) = &request.spec.requested_by {
        facts.push(("Asked for by", said(&by.username, 200)));
    }
    if let Some(trigger) = &request.spec.trigger {
        facts.push((
            "Reported by",
            format!(
                "{}: {}, since {}",
                said(&trigger.source, 63),
                said(&trigger.alert, 200),
                stamp(trigger.started_at)
            ),
        ));
    }
    if let Some(plan) = &status.plan {
        let targets: Vec<String> = plan
            .targets
            .iter()
            .take(FEW)
            .map(notice::describe)
            .collect();
        let more = plan.targets.len().saturating_sub(FEW);
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        facts.push(("From, to", said(&(targets.join("; ") + &more), 1500)));
    }
    let people: Vec<&str> = consent::approvals(status)
        .into_iter()
        .map(approval::approver)
        .collect();
    if !people.is_empty() {
        facts.push(("Approved by", said(&people.join(", "), LINE)));
    }
    let numbers: Vec<String> = status.targets.iter().flat_map(numbers).take(6).collect();
    if !numbers.is_empty() {
        facts.push(("Checks", said(&numbers.join("; "), 1000)));
    }
    if let Some(incident) = &status.incident {
        facts.push((
            "Report",
            format!("ConfigMap {}", said(&incident.config_map, 253)),
        ));
    }
    facts
}

/// The Deployments, as long as they are few.
fn workloads(request: &RollbackRequest, status: &RollbackRequestStatus) -> String {
    let names: Vec<&str> = if let Some(plan) = &status.plan {
        let targets = plan.targets.iter();
        targets.map(|it| it.workload.name.as_str()).collect()
    } else {
        let targets = request.spec.targets.iter();
        targets.filter_map(|it| it.name.as_deref()).collect()
    };
    let text = match names.as_slice() {
        [] => "some Deployments".to_owned(),
        few @ ([_] | [_, _] | [_, _, _]) => few.join(", "),
        [first, ..] => format!("{} Deployments ({first} and others)", names.len()),
    };
    said(&text, 250)
}

/// What the checks found before and find now.
fn numbers(target: &TargetStatus) -> Vec<String> {
    let fallback = target
        .fallback
        .as_ref()
        .and_then(|it| it.verification.as_ref());
    let Some(now) = fallback.or(target.verification.as_ref()) else {
        return Vec::new();
    };
    let checks = now.checks.iter().map(|check| {
        let before = target.before.iter().find(|it| it.check == check.name);
        let before = before.map_or_else(String::new, |it| format!(" (before: {})", it.result));
        let found = check.last_result.as_str();
        let found = if found.is_empty() {
            "not asked yet"
        } else {
            found
        };
        format!("{} {}: {found}{before}", target.name, check.name)
    });
    checks.collect()
}
