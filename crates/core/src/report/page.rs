//! The report as a page of Markdown.
//!
//! Writing to a String cannot fail, so the results are dropped.

use std::fmt::Write as _;

use rollback_api::status::{Fallback, FallbackWhen, ImageChange, PlannedTarget};
use rollback_api::{Reason, RequestState};

use super::{
    FULL_TARGETS, LINE_LIMIT, PAGE_LIMIT, Report, SHORT_LIMIT, TEXT_LIMIT, TIMELINE, alone, names,
    well,
};
use crate::approval;
use crate::execution::job;
use crate::execution::phase::result;
use crate::message::text::{code, markdown, quote};
use crate::report::conditions;
use crate::time::{human, stamp};

/// The report as a page.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    head(&mut page, report);
    why(&mut page, report);
    people(&mut page, report);
    plan(&mut page, report);
    results(&mut page, report);
    well::checks(&mut page, report);
    well::scaled_down(&mut page, report);
    timeline_table(&mut page, report);
    phases(&mut page, report);
    events(&mut page, report);
    by_hand(&mut page, report);
    follow_up(&mut page, report);
    if page.len() > PAGE_LIMIT {
        page.truncate(page.floor_char_boundary(PAGE_LIMIT));
        page.push_str("\n\nThe rest is too long for this page. The JSON beside it tells more.\n");
    }
    page
}

fn head(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "# Rollback of {}: {}\n",
        markdown(&names(report.plan), LINE_LIMIT),
        report.outcome.result.as_str()
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
    let seconds = |seconds| human(jiff::SignedDuration::from_secs(seconds));
    if let Some(recovery) = report.seconds_from_request_to_recovery {
        let _ = writeln!(page, "| Time to recover | {} |", seconds(recovery));
    }
    if let Some(bad) = report.seconds_from_bad_version_to_recovery {
        let _ = writeln!(
            page,
            "| The bad version was in use for | {} |",
            seconds(bad)
        );
    }
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
    if let Some(trigger) = &report.trigger {
        let _ = writeln!(
            page,
            "- Because {} reported {}, which began at {}",
            markdown(&trigger.source, 63),
            markdown(&trigger.alert, 200),
            stamp(trigger.started_at)
        );
    }
    if let Some(said) = &report.auto_approval {
        let _ = writeln!(page, "- {}", markdown(&said.message, LINE_LIMIT));
        for sentence in &said.evidence {
            let _ = writeln!(page, "  - {}", markdown(sentence, LINE_LIMIT));
        }
    }
    let two = approval::because_of_a_machine(report.plan);
    if !two.is_empty() && report.auto_approval.is_none() {
        let _ = writeln!(page, "- {}", markdown(two.trim_end(), LINE_LIMIT));
    }
    if report.approvals.is_empty() {
        let _ = writeln!(page, "- Approved by nobody");
    }
    for approval in &report.approvals {
        let _ = writeln!(
            page,
            "- Approved by {} at {}{}",
            markdown(approval::approver(approval), 200),
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
        if let Some(why) = &approval.accepts_data_risk {
            let _ = writeln!(
                page,
                "  - **The risk for the data was accepted.** Reason: {}",
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

fn plan(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "## Plan\n\nDigest {}\n",
        code(&report.plan.digest, 80)
    );
    if let Some(risk) = &report.plan.data_risk {
        let message = markdown(&risk.message, TEXT_LIMIT);
        let _ = writeln!(page, "Risk for the data: {message}\n");
    }
    for rule in &report.plan.rules.jobs {
        let sentence = job::sentence(report.plan, rule);
        let _ = writeln!(page, "{}\n", markdown(&sentence, TEXT_LIMIT));
    }
    for target in &report.plan.targets {
        let from = target
            .from
            .revision
            .map_or_else(|| "?".to_owned(), |number| number.to_string());
        let _ = writeln!(
            page,
            "Deployment {}: revision {from} -> {}\n",
            code(&target.workload.name, 253),
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
        for fallback in &target.fallbacks {
            let _ = writeln!(page, "{}\n", fallback_of(fallback));
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

/// What would have been tried next.
fn fallback_of(fallback: &Fallback) -> String {
    let images: Vec<String> = fallback
        .images
        .iter()
        .filter_map(|change| change.to.as_deref())
        .map(|image| code(image, LINE_LIMIT))
        .collect();
    let when = match fallback.when {
        FallbackWhen::Unwell => "If it is not well",
        FallbackWhen::ImagePull => "If its image cannot be pulled",
        FallbackWhen::Newer(_) => "In a case that only a newer controller knows",
    };
    let to = match (fallback.to.revision, images.as_slice()) {
        (Some(revision), []) => format!("revision {revision}"),
        (Some(revision), images) => format!("revision {revision} with {}", images.join(", ")),
        (None, images) => format!("the same with {}", images.join(", ")),
    };
    format!("{when}, {to} is tried once.")
}

/// The old version by its number, or by where it is kept.
fn destination(target: &PlannedTarget) -> String {
    target.to.revision.map_or_else(
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
    let row =
        |page: &mut String, name: &str, state: RequestState, reason: Reason, message: &str| {
            let _ = writeln!(
                page,
                "| {} | {} ({}) | {} |",
                code(name, 253),
                state.as_str(),
                reason.as_str(),
                markdown(message, SHORT_LIMIT)
            );
        };
    for target in report.targets {
        if let Some(outcome) = result(target) {
            row(
                page,
                &target.name,
                outcome.result,
                outcome.reason,
                &outcome.message,
            );
        }
    }
    for skipped in &report.plan.skipped {
        row(
            page,
            &skipped.name,
            skipped.result,
            skipped.reason,
            &skipped.message,
        );
    }
    page.push('\n');
}

fn timeline_table(page: &mut String, report: &Report) {
    let _ = writeln!(page, "## {TIMELINE}\n\n| Time | What |\n|---|---|");
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

fn phases(page: &mut String, report: &Report) {
    let _ = writeln!(page, "## How long it took\n\n| Phase | Time |\n|---|---|");
    for phase in &report.phases {
        let took = human(jiff::SignedDuration::from_millis(phase.milliseconds));
        let _ = writeln!(page, "| {} | {took} |", phase.name);
    }
    page.push('\n');
}

fn events(page: &mut String, report: &Report) {
    let _ = writeln!(
        page,
        "## What people were told\n\n| Time | Event | What |\n|---|---|---|"
    );
    for event in &report.events {
        let mark = if event.warning { " (warning)" } else { "" };
        let _ = writeln!(
            page,
            "| {} | {}{mark} | {} |",
            stamp(event.at),
            event.reason,
            markdown(&event.note, LINE_LIMIT)
        );
    }
    page.push('\n');
}

/// What no probe sees.
fn by_hand(page: &mut String, report: &Report) {
    if report.manual_checks.is_empty() {
        return;
    }
    let _ = writeln!(page, "## To be checked by hand\n");
    for check in &report.manual_checks {
        let _ = writeln!(page, "- [ ] {}", markdown(check, LINE_LIMIT));
    }
    page.push('\n');
}
