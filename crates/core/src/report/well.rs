//! Whether it is well again, and what it took: rollout, causes, checks, Jobs, the fallback, and what was scaled down.

use std::fmt::Write as _;

use rollback_api::status::{
    Cause, FallbackStatus, Finding, JobStatus, Measured, RolloutStatus, TargetStatus,
    VerificationStatus,
};

use super::{FULL_TARGETS, LINE_LIMIT, PAGE_LIMIT, Report, WELL};
use crate::message::text::{code, markdown};
use crate::time::stamp;

/// Lines of the log of a Job on the page; the JSON has all that were kept.
const LOG_LINES: usize = 20;

pub(super) fn checks(page: &mut String, report: &Report) {
    let _ = writeln!(page, "## {WELL}\n");
    for target in report.targets {
        let name = code(&target.name, 253);
        match &target.rollout {
            None => {
                let _ = writeln!(page, "{name} was not changed.\n");
            }
            Some(progress) => rollout(page, &name, "the old template", progress),
        }
        for warning in &target.warnings {
            let _ = writeln!(page, "Warning: {}\n", markdown(warning, LINE_LIMIT));
        }
        if let Some(checks) = &target.verification {
            verification(page, &target.before, checks);
        }
        if let Some(tried) = &target.fallback {
            fallback(page, target, tried);
        }
        // What comes after has to fit too.
        let is_room = report.targets.len() <= FULL_TARGETS && page.len() < PAGE_LIMIT / 2;
        jobs(page, &target.jobs, is_room);
    }
}

fn rollout(page: &mut String, name: &str, template: &str, rollout: &RolloutStatus) {
    let _ = writeln!(
        page,
        "{name}: {} of {} replicas run {template}, {} available.\n",
        rollout.updated, rollout.desired, rollout.available
    );
    if let Some(found) = &rollout.cause {
        cause(page, found);
    }
}

fn cause(page: &mut String, cause: &Cause) {
    let pod = cause
        .pod
        .as_ref()
        .map_or_else(String::new, |pod| format!(" (pod {})", code(pod, 253)));
    let _ = writeln!(
        page,
        "Cause: {} since {}{pod}: {}\n",
        cause.kind.as_str(),
        stamp(cause.since),
        markdown(&cause.message, LINE_LIMIT)
    );
    if let Some(words) = &cause.last_words {
        let lines: Vec<&str> = words.lines().collect();
        spoken(page, "Its container", &lines);
    }
}

fn verification(page: &mut String, before: &[Measured], verification: &VerificationStatus) {
    if verification.checks.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "| Check | Before | After | Result |\n|---|---|---|---|"
    );
    for check in &verification.checks {
        let known = before
            .iter()
            .find(|measured| measured.kind == check.kind && measured.check == check.name);
        let was = known.map_or_else(
            || "not measured".to_owned(),
            |known| found(known.finding, &known.result),
        );
        let passed = if check.passed_at.is_some() {
            "passed"
        } else {
            "NOT passed"
        };
        let _ = writeln!(
            page,
            "| {} | {was} | {} | {passed}, rounds: {} |",
            code(&check.name, 63),
            found(check.finding, &check.last_result),
            check.rounds,
        );
    }
    page.push('\n');
}

/// What a check found, in words.
fn found(finding: Finding, result: &str) -> String {
    let finding = match finding {
        Finding::Pass => "well",
        Finding::Fail => "not well",
        Finding::Unknown | Finding::Newer(_) => "not known",
    };
    format!("{finding}: {}", markdown(result, LINE_LIMIT))
}

fn fallback(page: &mut String, target: &TargetStatus, tried: &FallbackStatus) {
    let why = markdown(&tried.why, LINE_LIMIT);
    let _ = writeln!(page, "The fallback was tried: {why}\n");
    let name = code(&target.name, 253);
    if let Some(progress) = &tried.rollout {
        rollout(page, &name, "the template of the fallback", progress);
    }
    if let Some(checks) = &tried.verification {
        verification(page, &target.before, checks);
    }
}

fn jobs(page: &mut String, jobs: &[JobStatus], with_logs: bool) {
    if jobs.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "| Job | Stage | Exit code | Result |\n|---|---|---|---|"
    );
    for job in jobs {
        let (exit_code, how) = match &job.end {
            None => ("none".to_owned(), "its end was not seen".to_owned()),
            Some(end) => (
                end.exit_code
                    .map_or_else(|| "none".to_owned(), |code| code.to_string()),
                format!(
                    "{}: {}",
                    if end.succeeded { "succeeded" } else { "FAILED" },
                    markdown(&end.message, LINE_LIMIT)
                ),
            ),
        };
        let stage = job.stage.as_str();
        let _ = writeln!(
            page,
            "| {} | {stage} | {exit_code} | {how} |",
            code(&job.name, 63)
        );
    }
    page.push('\n');
    for job in jobs {
        let lines = job.end.as_ref().map_or(&[][..], |end| end.log.as_slice());
        if lines.is_empty() {
            continue;
        }
        let name = code(&job.name, 63);
        if with_logs {
            let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..);
            let tail: Vec<&str> = tail
                .unwrap_or_default()
                .iter()
                .map(String::as_str)
                .collect();
            spoken(page, &format!("Job {name}"), &tail);
        } else {
            let _ = writeln!(
                page,
                "What Job {name} said last is in the JSON beside this page.\n"
            );
        }
    }
}

/// What somebody said, a line for a line, with nothing obeyed.
fn spoken(page: &mut String, who: &str, lines: &[&str]) {
    let _ = writeln!(page, "{who} said last:\n");
    for line in lines.iter().take(LOG_LINES) {
        let _ = writeln!(page, "- {}", code(line, LINE_LIMIT));
    }
    page.push('\n');
}

/// The Deployments that were scaled down, and whether they have their replicas back.
pub(super) fn scaled_down(page: &mut String, report: &Report) {
    if report.scaled_down.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "## Scaled down to free capacity\n\n| Deployment | Replicas | When | Given back |\n|---|---|---|---|"
    );
    for scaled in report.scaled_down {
        let at = scaled.taken_at.map_or_else(|| "not done".to_owned(), stamp);
        let back = scaled
            .restored_at
            .map_or_else(|| "**NOT YET**".to_owned(), stamp);
        let name = code(&scaled.workload.name, 253);
        let _ = writeln!(page, "| {name} | {} | {at} | {back} |", scaled.from);
    }
    page.push('\n');
}
