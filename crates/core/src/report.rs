//! The incident report: Markdown for people, the same as JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use rollback_api::Identity;
use rollback_api::request::{Category, MAX_TARGETS, Urgency};
use rollback_api::status::{Approval, ImageChange, Outcome, Plan, PlannedTarget, TargetStatus};
use rollback_api::{Reason, RollbackRequest, RollbackRequestStatus, Word};
use serde::Serialize;
use serde_json::Value;

use crate::approval;
use crate::artifact::{self, Artifact, Kind};
use crate::conditions;
use crate::phase::result;
use crate::text::{code, markdown, plain, quote};
use crate::time::{self, human, stamp};

/// Hours from the end of an incident until it has been reviewed.
const REVIEW_WITHIN_HOURS: i64 = 48;
/// Longest free text that is repeated.
const TEXT_LIMIT: usize = 4000;
/// Longest JSON that is kept as it is, in bytes. A ConfigMap holds 1 MiB.
const DATA_LIMIT: usize = 256 * 1024;
/// The same when there are many Deployments, and longest page.
const DATA_LIMIT_OF_MANY: usize = 512 * 1024;
const PAGE_LIMIT: usize = 400 * 1024;
/// Longest text and longest list of a JSON that was too long.
const SHORT_LIMIT: usize = 200;
const SHORT_LIST: usize = 20;
/// Longest single line that is repeated.
const LINE_LIMIT: usize = 500;
/// Up to how many Deployments the page tells everything that changes. The backups hold it for all.
const FULL_TARGETS: usize = 10;

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
    approvals: &'a [Approval],
    plan: &'a Plan,
    targets: &'a [TargetStatus],
    timeline: Vec<Moment>,
    seconds_from_request_to_end: i64,
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
#[derive(Serialize)]
struct Moment {
    at: Timestamp,
    what: String,
}

/// The incident of a request that has ended: none for a dry run, and none without a plan.
pub fn incident(request: &RollbackRequest, status: &RollbackRequestStatus) -> Option<Artifact> {
    let (plan, outcome) = (status.plan.as_ref()?, status.outcome.as_ref()?);
    if request.spec.dry_run {
        return None;
    }
    let report = gather(request, status, plan, outcome);
    let stem = artifact::incident_stem(outcome);
    let json = data(&report);
    Some(Artifact {
        kind: Kind::Incident,
        name: artifact::incident_name(request, outcome),
        data: BTreeMap::from([
            (format!("{stem}.md"), page(&report)),
            (format!("{stem}.json"), json),
        ]),
    })
}

/// The report as JSON. When it is too long, what the page leaves out too goes first, and then what others wrote is
/// cut; that a Deployment is missing is the last resort.
fn data(report: &Report) -> String {
    let limit = if report.plan.targets.len() > FULL_TARGETS {
        DATA_LIMIT_OF_MANY
    } else {
        DATA_LIMIT
    };
    let json = serde_json::to_string_pretty(report).unwrap_or_default();
    if json.len() <= limit {
        return json;
    }
    let mut value = serde_json::to_value(report).unwrap_or_default();
    let cuts: [fn(&mut Value); 3] = [
        leave_out_changes,
        |value| shorten(value, MAX_TARGETS),
        |value| shorten(value, SHORT_LIST),
    ];
    for cut in cuts {
        cut(&mut value);
        if value.to_string().len() <= limit {
            break;
        }
    }
    value.to_string()
}

fn leave_out_changes(value: &mut Value) {
    let targets = value.pointer_mut("/plan/targets");
    for target in targets.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(target) = target.as_object_mut() {
            target.remove("changes");
        }
    }
}

fn shorten(value: &mut Value, most: usize) {
    match value {
        Value::String(text) => *text = plain(text, SHORT_LIMIT),
        Value::Array(items) => {
            items.truncate(most);
            for item in items {
                shorten(item, most);
            }
        }
        Value::Object(map) => {
            for item in map.values_mut() {
                shorten(item, most);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn gather<'a>(
    request: &'a RollbackRequest,
    status: &'a RollbackRequestStatus,
    plan: &'a Plan,
    outcome: &'a Outcome,
) -> Report<'a> {
    let reason = &request.spec.reason;
    let timeline = timeline(request, status, plan, outcome);
    let started = timeline.first().map_or(outcome.at, |moment| moment.at);
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
        approvals: &status.approvals,
        plan,
        targets: &status.targets,
        timeline,
        seconds_from_request_to_end: outcome.at.duration_since(started).as_secs(),
        follow_up_actions: follow_ups(outcome, plan, &status.approvals),
        review_due: time::after(outcome.at, REVIEW_WITHIN_HOURS * 3600),
    }
}

fn timeline(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    plan: &Plan,
    outcome: &Outcome,
) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut add = |at: Timestamp, what: String| moments.push(Moment { at, what });
    if let Some(created) = &request.metadata.creation_timestamp {
        let who = request
            .spec
            .requested_by
            .as_ref()
            .map_or("somebody", |by| by.username.as_str());
        add(
            created.0,
            format!("{} asked for the rollback", plain(who, 200)),
        );
    }
    add(plan.planned_at, "plan published".to_owned());
    for approval in &status.approvals {
        add(
            approval.at,
            format!(
                "approved by {}{}",
                plain(&approval.by.username, 200),
                alone(approval)
            ),
        );
    }
    for target in &status.targets {
        let name = plain(&target.name, 253);
        if let Some(backup) = &target.backup {
            add(
                backup.at,
                format!("{name} saved in ConfigMap {}", backup.config_map),
            );
        }
        if let Some(at) = target.reverted_at {
            add(at, format!("{name} has the old template"));
        }
        if let Some(at) = target
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.completed_at)
        {
            add(at, format!("every replica of {name} is available"));
        }
        let checked = target
            .verification
            .as_ref()
            .filter(|checks| !checks.checks.is_empty());
        if let Some(at) = checked.and_then(|checks| checks.completed_at) {
            add(at, format!("every check of {name} passed"));
        }
        if let Some(at) = target
            .restore
            .as_ref()
            .and_then(|restore| restore.restored_at)
        {
            add(
                at,
                format!("{name} has again what it had before the rollback"),
            );
        }
    }
    add(
        outcome.at,
        format!(
            "ended: {} ({})",
            outcome.word.as_str(),
            outcome.reason.as_str()
        ),
    );
    moments.sort_by_key(|moment| moment.at);
    moments
}

fn follow_ups(outcome: &Outcome, plan: &Plan, approvals: &[Approval]) -> Vec<String> {
    let targets = names(plan);
    let mut actions = match outcome.word {
        Word::Succeeded => vec![
            format!("Revert the change in Git, so that the next deployment of {targets} does not bring the bad version back."),
            "Check by hand what no probe sees: log in, browse, cart, checkout, orders, administration.".to_owned(),
            "Find the root cause and fix it before the version is deployed again.".to_owned(),
        ],
        Word::Failed => vec![
            format!("Escalate now: {targets} may still be broken."),
            "Find out why the old version is not well: configuration, data and dependencies may have changed since it ran.".to_owned(),
        ],
        Word::Restored => vec![
            format!("Escalate now: {targets} run again the version that was called bad."),
            "Find out why the old version did not come up: configuration, data and dependencies may have changed since it ran.".to_owned(),
        ],
        Word::Superseded => vec![format!("Find out who changed {targets} and whether production is well now.")],
        Word::Denied | Word::Cancelled | Word::Expired | Word::Refused => {
            vec![format!("Nothing was changed. Check whether {targets} still needs help.")]
        }
        Word::Planning
        | Word::AwaitingApproval
        | Word::Blocked
        | Word::Frozen
        | Word::BackingUp
        | Word::Reverting
        | Word::RollingOut
        | Word::Verifying
        | Word::Restoring => Vec::new(),
    };
    if approval::breaks_glass(plan, approvals) {
        actions.insert(0, "Escalate: the glass was broken. Whoever is responsible for this namespace reads why, and says whether it was right.".to_owned());
    }
    actions
        .push("Hold the post-incident review and add what was learned to this report.".to_owned());
    actions
}

/// The Deployments by name, as long as they are few.
fn names(plan: &Plan) -> String {
    match plan.targets.as_slice() {
        few @ ([] | [_] | [_, _] | [_, _, _]) => {
            let names: Vec<&str> = few.iter().map(|target| target.name.as_str()).collect();
            names.join(", ")
        }
        [first, .., last] => format!(
            "{} Deployments ({} to {})",
            plan.targets.len(),
            first.name,
            last.name
        ),
    }
}

/// The report as a page.
fn page(report: &Report) -> String {
    let mut page = String::new();
    head(&mut page, report);
    why(&mut page, report);
    people(&mut page, report);
    plan(&mut page, report);
    results(&mut page, report);
    checks(&mut page, report);
    timeline_table(&mut page, report);
    follow_up(&mut page, report);
    if page.len() > PAGE_LIMIT {
        page.truncate(page.floor_char_boundary(PAGE_LIMIT));
        page.push_str("\n\nThe rest is too long for this page. The JSON beside it tells more.\n");
    }
    page
}

// Writing to a String cannot fail, so the results are dropped.

fn head(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "# Rollback of {}: {}\n",
        markdown(&names(report.plan), LINE_LIMIT),
        report.outcome.word.as_str()
    );
    let _ = writeln!(page, "{}\n", markdown(&report.outcome.message, TEXT_LIMIT));
    let _ = writeln!(page, "| | |\n|---|---|");
    let _ = writeln!(
        page,
        "| Request | {} in namespace {} |",
        code(report.request.name, 253),
        code(report.request.namespace, 63)
    );
    let _ = writeln!(
        page,
        "| Category, urgency | {:?}, {:?} |",
        report.category, report.urgency
    );
    let _ = writeln!(page, "| Ended | {} |", stamp(report.outcome.at));
    let duration = jiff::SignedDuration::from_secs(report.seconds_from_request_to_end);
    let _ = writeln!(page, "| From request to end | {} |", human(duration));
    let _ = writeln!(page, "| Review due | {} |\n", stamp(report.review_due));
}

fn why(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "## Reason\n\n{}\n",
        quote(&report.summary, LINE_LIMIT)
    );
    if let Some(url) = &report.incident_url {
        let _ = writeln!(page, "Incident: {}\n", code(url, 2000));
    }
    for (title, text) in [
        ("Root cause", &report.root_cause),
        ("Impact", &report.impact),
    ] {
        let body = if text.trim().is_empty() {
            "Not known when the request was made. To be filled in at the review.".to_owned()
        } else {
            quote(text, TEXT_LIMIT)
        };
        let _ = writeln!(page, "## {title}\n\n{body}\n");
    }
}

fn people(page: &mut String, report: &Report) {
    let _ = writeln!(page, "## Who\n");
    let requester = report
        .requested_by
        .map_or("unknown", |by| by.username.as_str());
    let _ = writeln!(page, "- Asked for by {}", markdown(requester, 200));
    if report.approvals.is_empty() {
        let _ = writeln!(page, "- Approved by nobody");
    }
    for approval in report.approvals {
        let _ = writeln!(
            page,
            "- Approved by {} at {}{}",
            markdown(&approval.by.username, 200),
            stamp(approval.at),
            alone(approval)
        );
        if let Some(why) = &approval.break_glass {
            let _ = writeln!(
                page,
                "  - **The glass was broken**: nobody else had to agree. Reason: {}",
                markdown(why, LINE_LIMIT)
            );
        }
        if !approval.checklist.is_empty() {
            let ticked = markdown(&approval.checklist.join(", "), LINE_LIMIT);
            let _ = writeln!(page, "  - Ticked: {ticked}");
        }
    }
    if let Some(by) = &report.outcome.by {
        let _ = writeln!(page, "- Ended by {}", markdown(by, 200));
    }
    page.push('\n');
}

fn alone(approval: &Approval) -> &'static str {
    if approval.break_glass.is_some() {
        ", alone and past the rules"
    } else {
        ""
    }
}

fn plan(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "## Plan\n\nDigest {}\n",
        code(&report.plan.digest, 80)
    );
    for target in &report.plan.targets {
        let from = target
            .from_revision
            .map_or_else(|| "?".to_owned(), |number| number.to_string());
        let _ = writeln!(
            page,
            "Deployment {}: revision {from} -> {}\n",
            code(&target.name, 253),
            destination(target)
        );
        if target.images.is_empty() {
            let _ = writeln!(page, "No image changes.\n");
        } else {
            let _ = writeln!(page, "| Container | From | To |\n|---|---|---|");
            for ImageChange {
                container,
                from,
                to,
            } in &target.images
            {
                let cell = |image: &Option<String>| {
                    image
                        .as_deref()
                        .map_or_else(|| "none".to_owned(), |image| code(image, LINE_LIMIT))
                };
                let _ = writeln!(
                    page,
                    "| {} | {} | {} |",
                    code(container, 63),
                    cell(from),
                    cell(to)
                );
            }
            page.push('\n');
        }
        for note in &target.notes {
            let _ = writeln!(page, "Note: {}\n", markdown(note, LINE_LIMIT));
        }
        for risk in &target.risks {
            let _ = writeln!(page, "Risk: {}\n", markdown(&risk.message, LINE_LIMIT));
        }
        if !target.changes.is_empty() && report.plan.targets.len() <= FULL_TARGETS {
            let _ = writeln!(page, "What changes:\n");
            for change in &target.changes {
                let _ = writeln!(page, "- {}", markdown(change, LINE_LIMIT));
            }
            page.push('\n');
        }
    }
}

/// The old version by its number, or by where it is kept.
fn destination(target: &PlannedTarget) -> String {
    target.to_revision.map_or_else(
        || markdown(&conditions::place(target), LINE_LIMIT),
        |number| number.to_string(),
    )
}

/// What became of each of several Deployments, in a table.
fn results(page: &mut String, report: &Report) {
    if report.targets.len() < 2 && report.plan.skipped.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "## Each Deployment\n\n| Deployment | Result | Why |\n|---|---|---|"
    );
    let row = |page: &mut String, name: &str, word: Word, reason: Reason, message: &str| {
        let _ = writeln!(
            page,
            "| {} | {} ({}) | {} |",
            code(name, 253),
            word.as_str(),
            reason.as_str(),
            markdown(message, SHORT_LIMIT)
        );
    };
    for target in report.targets {
        if let Some(outcome) = result(target) {
            row(
                page,
                &target.name,
                outcome.word,
                outcome.reason,
                &outcome.message,
            );
        }
    }
    for skipped in &report.plan.skipped {
        row(
            page,
            &skipped.name,
            skipped.word,
            skipped.reason,
            &skipped.message,
        );
    }
    page.push('\n');
}

fn checks(page: &mut String, report: &Report) {
    let _ = writeln!(page, "## Is it well again\n");
    for target in report.targets {
        match &target.rollout {
            None => {
                let _ = writeln!(page, "{} was not changed.\n", code(&target.name, 253));
            }
            Some(rollout) => {
                let _ = writeln!(
                    page,
                    "{}: {} of {} replicas run the old template, {} available.\n",
                    code(&target.name, 253),
                    rollout.updated,
                    rollout.desired,
                    rollout.available
                );
            }
        }
        for warning in &target.warnings {
            let _ = writeln!(page, "Warning: {}\n", markdown(warning, LINE_LIMIT));
        }
        let Some(verification) = target
            .verification
            .as_ref()
            .filter(|checks| !checks.checks.is_empty())
        else {
            continue;
        };
        let _ = writeln!(
            page,
            "| Check | Result | Rounds | Last answer |\n|---|---|---|---|"
        );
        for check in &verification.checks {
            let result = if check.passed_at.is_some() {
                "passed"
            } else {
                "NOT passed"
            };
            let _ = writeln!(
                page,
                "| {} | {result} | {} | {} |",
                code(&check.name, 63),
                check.rounds,
                markdown(&check.last_result, LINE_LIMIT)
            );
        }
        page.push('\n');
    }
}

fn timeline_table(page: &mut String, report: &Report) {
    let _ = writeln!(page, "## Timeline\n\n| Time | What |\n|---|---|");
    for moment in &report.timeline {
        let _ = writeln!(
            page,
            "| {} | {} |",
            stamp(moment.at),
            markdown(&moment.what, LINE_LIMIT)
        );
    }
    page.push('\n');
}

fn follow_up(page: &mut String, report: &Report) {
    let _ = writeln!(page, "## Follow-up actions\n");
    for action in &report.follow_up_actions {
        let _ = writeln!(page, "- [ ] {}", markdown(action, LINE_LIMIT));
    }
    let _ = writeln!(
        page,
        "\nPost-incident review due by {}.",
        stamp(report.review_due)
    );
}
