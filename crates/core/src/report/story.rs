//! What happened, when, and what comes next.

use jiff::Timestamp;
use rollback_api::status::{Approval, Effect, Outcome, Plan, TargetStatus};
use rollback_api::{RequestState, RollbackRequest, RollbackRequestStatus};

use super::{Moment, alone, names};
use crate::approval::{self, consent};
use crate::hold;
use crate::message::text::plain;

/// How many holds are told one by one.
const MOST_RELEASES: usize = 20;

pub(super) fn timeline(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    plan: Option<&Plan>,
    outcome: Option<&Outcome>,
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
    if let Some(plan) = plan {
        add(plan.planned_at, "plan published".to_owned());
    }
    for approval in consent::approvals(status) {
        add(
            approval.at,
            format!(
                "approved by {}{}",
                plain(approval::approver(approval), 200),
                alone(approval)
            ),
        );
    }
    for scaled in &status.scaled_down {
        let name = plain(&scaled.workload.name, 253);
        if let Some(at) = scaled.taken_at {
            add(at, format!("{name} was scaled down to free capacity"));
        }
        if let Some(at) = scaled.restored_at {
            add(at, format!("{name} has its replicas back"));
        }
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
        steps_beside(target, &name, &mut add);
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
    if let Some(outcome) = outcome {
        let (result, reason) = (outcome.result.as_str(), outcome.reason.as_str());
        add(outcome.at, format!("ended: {result} ({reason})"));
    }
    moments.sort_by_key(|moment| moment.at);
    moments
}

/// What is owed to Git for each owner that was held, as long as that may keep the bad version away.
fn releases(outcome: &Outcome, plan: &Plan) -> Vec<String> {
    if outcome.effect == Effect::None || outcome.result == RequestState::Restored {
        return Vec::new();
    }
    let held = plan.targets.iter().flat_map(|target| {
        let of_target = target.holds.iter();
        of_target.map(move |hold| (target, hold))
    });
    let told = held.map(|(target, it)| {
        let owed = hold::owed_by_plan(target, it).unwrap_or_default();
        let command = hold::release_words(&target.workload.name);
        format!(
            "{} is on hold. Change in Git what it applies ({owed}), then release it: {command}.",
            it.owner
        )
    });
    told.take(MOST_RELEASES).collect()
}

pub(super) fn follow_ups(outcome: &Outcome, plan: &Plan, approvals: &[&Approval]) -> Vec<String> {
    let targets = names(plan);
    let mut actions = match outcome.result {
        RequestState::Succeeded => vec![
            format!("Revert the change in Git, so that the next deployment of {targets} does not bring the bad version back."),
            "Check by hand what no probe sees: log in, browse, cart, checkout, orders, administration.".to_owned(),
            "Find the root cause and fix it before the version is deployed again.".to_owned(),
        ],
        RequestState::Failed => vec![
            format!("Escalate now: {targets} may still be broken."),
            "Find out why the old version is not well: configuration, data and dependencies may have changed since it ran.".to_owned(),
        ],
        RequestState::Restored => vec![
            format!("Escalate now: {targets} run again the version that was called bad."),
            "Find out why the old version did not come up: configuration, data and dependencies may have changed since it ran.".to_owned(),
        ],
        RequestState::Newer(_) => vec![format!("Find out how it ended and whether production is well now: a newer controller wrote it down for {targets} in a word that this one does not know.")],
        RequestState::Superseded => vec![format!("Find out who changed {targets} and whether production is well now.")],
        RequestState::Denied | RequestState::Cancelled | RequestState::Expired | RequestState::Refused => {
            let effect = match outcome.effect {
                Effect::None => "Nothing was changed. ",
                Effect::Possible | Effect::Newer(_) => "The old template may have been written nevertheless: look at what runs. ",
                Effect::Written => "What had begun by then was carried out. ",
            };
            vec![format!("{effect}Check whether {targets} still needs help.")]
        }
        RequestState::Planning
        | RequestState::AwaitingApproval
        | RequestState::Blocked
        | RequestState::Frozen
        | RequestState::BackingUp
        | RequestState::Reverting
        | RequestState::RollingOut
        | RequestState::Verifying
        | RequestState::Restoring => Vec::new(),
    };
    if approvals
        .iter()
        .any(|approval| approval.break_glass.is_some())
    {
        actions.insert(0, "Escalate: the glass was broken. Whoever is responsible for this namespace reads why, and says whether it was right.".to_owned());
    }
    actions.extend(releases(outcome, plan));
    actions
        .push("Hold the post-incident review and add what was learned to this report.".to_owned());
    actions
}

/// What the Jobs and the fallback of one Deployment added to its story.
fn steps_beside(target: &TargetStatus, name: &str, add: &mut impl FnMut(Timestamp, String)) {
    for job in &target.jobs {
        let Some(end) = &job.end else { continue };
        let how = if end.succeeded { "succeeded" } else { "failed" };
        let (stage, job) = (job.stage.as_str(), plain(&job.name, 63));
        add(end.at, format!("{stage} Job {job} of {name} {how}"));
    }
    let Some(fallback) = &target.fallback else {
        return;
    };
    if let Some(intent) = &fallback.intent {
        let at = intent.intended_at;
        add(at, format!("{name} was not well, so its fallback is tried"));
    }
    if let Some(at) = fallback.reverted_at {
        add(at, format!("{name} has the template of the fallback"));
    }
    let passed = fallback.verification.as_ref();
    if let Some(at) = passed.and_then(|checks| checks.completed_at) {
        add(at, format!("every check of the fallback of {name} passed"));
    }
}
