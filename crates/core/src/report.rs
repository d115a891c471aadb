//! The incident report: Markdown for people, the same as JSON for machines.

pub mod conditions;
pub mod notice;
pub mod review;
pub mod unread;

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::Identity;
use rollback_api::request::{Category, Trigger, Urgency};
use rollback_api::status::{Approval, AutoApproval, Outcome, Plan, Taken, TargetStatus};
use rollback_api::{RollbackRequest, RollbackRequestStatus};
use serde::{Deserialize, Serialize};

use crate::approval::consent;
use crate::execution::artifact::{self, Artifact, ArtifactKind};
use crate::message::redact::redact;
use crate::message::text::plain;
use crate::time;

mod data;
mod page;
mod story;
mod time_of;
mod well;

/// Hours from the end of an incident until it has been reviewed, when the plan does not say.
const REVIEW_WITHIN_HOURS: i64 = 48;
/// Longest free text that is repeated.
const TEXT_LIMIT: usize = 4000;
/// The heading above the timeline of the page.
pub const TIMELINE: &str = "Timeline";
/// The heading above the checks, with what they found before and after.
pub const WELL: &str = "Is it well again";
/// What the phase is called that is all of them.
pub const ALL: &str = "all";
/// Longest page, in bytes.
const PAGE_LIMIT: usize = 400 * 1024;
/// Longest text of a table, and of a JSON that was too long.
const SHORT_LIMIT: usize = 200;
/// Longest single line that is repeated.
const LINE_LIMIT: usize = 500;
/// Up to how many Deployments the page tells everything that changes. The backups hold it for all.
const FULL_TARGETS: usize = 10;
/// What the runbook has people check by hand.
const RUNBOOK: [&str; 6] = [
    "Log in",
    "Browse",
    "Cart",
    "Checkout",
    "Orders",
    "Administration",
];
/// What the runbook asks of the data after a rollback.
const DATA_QUESTIONS: [&str; 3] = [
    "Data: the old version reads what the newer one has written",
    "Data: every column that the old version requires is still there and filled",
    "Data: the old version knows every value of the enums that are in use",
];

/// The report as data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    request: Named<'a>,
    outcome: &'a Outcome,
    category: Category,
    urgency: Urgency,
    summary: String,
    root_cause: String,
    impact: String,
    incident_url: Option<String>,
    requested_by: Option<&'a Identity>,
    /// What asked by itself; without what looks like a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<Trigger>,
    /// What the policy said to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_approval: Option<AutoApproval>,
    approvals: Vec<&'a Approval>,
    plan: &'a Plan,
    targets: &'a [TargetStatus],
    timeline: Vec<Moment>,
    seconds_from_request_to_end: i64,
    /// From the request until every check had passed; none when they did not.
    seconds_from_request_to_recovery: Option<i64>,
    /// The same from the first known beginning of the bad version.
    seconds_from_bad_version_to_recovery: Option<i64>,
    phases: Vec<Phase>,
    scaled_down: &'a [Taken<i32>],
    events: Vec<Told>,
    manual_checks: Vec<String>,
    follow_up_actions: Vec<String>,
    review_due: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

/// One moment of the timeline.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// What, in words.
    pub what: String,
}

/// How long one phase took, for all Deployments together.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long.
    pub milliseconds: i64,
}

/// What has happened so far, and how long each phase took that is over: of a request that goes on too.
pub fn so_far(request: &RollbackRequest) -> (Vec<Moment>, Vec<Phase>) {
    let Some(status) = &request.status else {
        return (Vec::new(), Vec::new());
    };
    let (plan, outcome) = (status.plan.as_ref(), status.outcome.as_ref());
    let moments = story::timeline(request, status, plan, outcome);
    let phases = match (plan, moments.first()) {
        (Some(plan), Some(first)) => time_of::phases(first.at, status, plan, outcome),
        (_, _) => Vec::new(),
    };
    (moments, phases)
}

/// One Event that was sent.
#[derive(Serialize)]
struct Told {
    at: Timestamp,
    reason: &'static str,
    warning: bool,
    note: String,
}

/// Whether the report of a request that has ended is owed: it is not known to be there, and there is something to tell.
pub fn is_due(request: &RollbackRequest, status: &RollbackRequestStatus) -> bool {
    status.incident.is_none() && !request.spec.dry_run && status.plan.is_some()
}

/// The incident of a request that has ended: none for a dry run, and none without a plan.
pub fn incident(request: &RollbackRequest, status: &RollbackRequestStatus) -> Option<Artifact> {
    let (plan, outcome) = (status.plan.as_ref()?, status.outcome.as_ref()?);
    if request.spec.dry_run {
        return None;
    }
    let plan = &without_queries(plan);
    let report = gather(request, status, plan, outcome);
    let stem = artifact::incident_stem(outcome.at);
    let json = data::data(&report);
    Some(Artifact {
        kind: ArtifactKind::Incident,
        name: artifact::incident_name(request, outcome.at),
        workload: None,
        data: BTreeMap::from([
            (format!("{stem}.md"), page::page(&report)),
            (format!("{stem}.json"), json),
        ]),
    })
}

fn redacted(sentences: Vec<String>) -> Vec<String> {
    let sentences = sentences.into_iter();
    sentences
        .map(|it| plain(&redact(&it), LINE_LIMIT))
        .collect()
}

fn gather<'a>(
    request: &'a RollbackRequest,
    status: &'a RollbackRequestStatus,
    plan: &'a Plan,
    outcome: &'a Outcome,
) -> Report<'a> {
    let reason = &request.spec.reason;
    let timeline = story::timeline(request, status, Some(plan), Some(outcome));
    let started = timeline.first().map_or(outcome.at, |moment| moment.at);
    let recovered = time_of::recovery(status, outcome);
    let since = |start: Option<Timestamp>| Some(recovered?.duration_since(start?).as_secs().max(0));
    let begun = plan
        .targets
        .iter()
        .filter_map(|target| target.from_since)
        .min();
    Report {
        request: Named {
            namespace: request.metadata.namespace.as_deref().unwrap_or_default(),
            name: request.metadata.name.as_deref().unwrap_or_default(),
            uid: request.metadata.uid.as_deref().unwrap_or_default(),
        },
        outcome,
        category: reason.category,
        urgency: plan.rules.urgency,
        summary: plain(&reason.summary, LINE_LIMIT),
        root_cause: reason.root_cause.clone(),
        impact: reason.impact.clone(),
        incident_url: reason.incident_url.as_deref().map(|url| plain(url, 2000)),
        requested_by: request.spec.requested_by.as_ref(),
        trigger: request.spec.trigger.clone().map(|trigger| Trigger {
            evidence: redacted(trigger.evidence),
            ..trigger
        }),
        auto_approval: status.auto_approval.clone().map(|said| AutoApproval {
            evidence: redacted(said.evidence),
            ..said
        }),
        approvals: consent::approvals(status),
        plan,
        targets: &status.targets,
        timeline,
        seconds_from_request_to_end: outcome.at.duration_since(started).as_secs(),
        follow_up_actions: story::follow_ups(outcome, plan, &consent::approvals(status)),
        seconds_from_request_to_recovery: since(Some(started)),
        seconds_from_bad_version_to_recovery: since(begun),
        phases: time_of::phases(started, status, plan, Some(outcome)),
        scaled_down: &status.scaled_down,
        events: told(status),
        manual_checks: manual_checks(status, plan),
        review_due: review_due(plan, outcome),
    }
}

// Writing to a String cannot fail, so the results are dropped.

/// The plan without the queries of what is asked: they may hold a key, and reports are read by more people.
fn without_queries(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for check in &mut plan.rules.verification.http {
        for address in check.path.iter_mut().chain(check.url.iter_mut()) {
            let kept = address.find(['?', '#']).unwrap_or(address.len());
            address.truncate(kept);
        }
    }
    plan
}

/// What is left to do after such an end.
pub fn follow_ups(outcome: &Outcome, plan: &Plan, approvals: &[&Approval]) -> Vec<String> {
    story::follow_ups(outcome, plan, approvals)
}

/// Until when the incident has to be reviewed.
pub fn review_due(plan: &Plan, outcome: &Outcome) -> Timestamp {
    let within = match plan.rules.report.review_within_seconds {
        seconds @ 1.. => i64::from(seconds),
        ..=0 => REVIEW_WITHIN_HOURS * 3600,
    };
    time::after(outcome.at, within)
}

/// What people were told, without what they are told of this report.
fn told(status: &RollbackRequestStatus) -> Vec<Told> {
    let mut notices = notice::notices(status);
    notices.sort_by_key(|notice| notice.at);
    notices
        .into_iter()
        .filter(|notice| notice.reason != notice::REPORTED)
        .map(|notice| Told {
            at: notice.at,
            reason: notice.reason,
            warning: notice.warning,
            note: notice.note,
        })
        .collect()
}

/// What people look at themselves, once something was changed: what the policy says, else what the runbook says.
fn manual_checks(status: &RollbackRequestStatus, plan: &Plan) -> Vec<String> {
    let is_changed = |target: &TargetStatus| target.reverted_at.is_some();
    if !status.targets.iter().any(is_changed) {
        return Vec::new();
    }
    let checks: Vec<String> = match plan.rules.verification.manual.as_deref() {
        Some([]) => return Vec::new(),
        Some(items) => items
            .iter()
            .map(|item| plain(&item.text, LINE_LIMIT))
            .collect(),
        None => RUNBOOK.map(str::to_owned).to_vec(),
    };
    let of_data = DATA_QUESTIONS.map(str::to_owned);
    checks.into_iter().chain(of_data).collect()
}

/// What is said beside an approval that one person gave alone.
fn alone(approval: &Approval) -> &'static str {
    if approval.break_glass.is_some() {
        ", alone and past the rules"
    } else {
        ""
    }
}

/// The Deployments by name, as long as they are few.
fn names(plan: &Plan) -> String {
    match plan.targets.as_slice() {
        few @ ([] | [_] | [_, _] | [_, _, _]) => {
            let names: Vec<&str> = few
                .iter()
                .map(|target| target.workload.name.as_str())
                .collect();
            names.join(", ")
        }
        [first, .., last] => format!(
            "{} Deployments ({} to {})",
            plan.targets.len(),
            first.workload.name,
            last.workload.name
        ),
    }
}
