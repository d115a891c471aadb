//! What other people are told: Kubernetes Events, read from the facts of a status.
//!
//! Every fact has a time and is written once, so a notice has a key: telling it again is the same
//! Event. What a pass tells is what its new status has and the old one had not.

use jiff::Timestamp;
use rollback_api::status::{Outcome, PlannedTarget, Source, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequestStatus};
use serde_json::json;

use crate::approval::{self, consent};
use crate::evidence::Returned;
use crate::history::template;
use crate::hold;
use crate::message::text::plain;
use crate::report::conditions;
use crate::time;

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// When it became a fact.
    pub at: Timestamp,
    /// Whether somebody should worry.
    pub warning: bool,
    /// Reason of the Event.
    pub reason: &'static str,
    /// What was being done.
    pub action: &'static str,
    /// In words.
    pub note: String,
    /// What makes it the same notice when its time and its words are not: none when they do.
    pub key: Option<String>,
}

/// How many Deployments of one request get an Event of their own.
const MOST_TOLD: usize = 20;
/// Reason of the Event that names the incident report.
pub const REPORTED: &str = "Reported";
/// Reason of the Event that says that only a newer version knows what is written there.
pub const NEWER_VERSION: &str = "NewerVersion";
/// Reason of the Event that says that somebody brought back a version in quarantine.
pub const RETURNED: &str = "QuarantinedVersionReturned";
/// Longest note of an Event that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

impl Notice {
    /// Name of the Event: the same for the same fact.
    pub fn event_name(&self, request: &str, request_uid: &str) -> String {
        let identity = match &self.key {
            Some(key) => json!([request_uid, self.reason, key]),
            None => json!([request_uid, self.reason, self.at.to_string(), self.note]),
        };
        let identity = template::digest(&identity);
        let suffix: String = identity
            .trim_start_matches("sha256:")
            .chars()
            .take(16)
            .collect();
        let stem: String = request.chars().take(200).collect();
        format!("{}.{suffix}", stem.trim_end_matches(['.', '-']))
    }
}

/// That somebody has brought back a version in quarantine, on its Deployment.
pub fn returned(returned: &Returned, deployment: &str, now: Timestamp) -> Notice {
    let number = returned.revision.map(|number| format!("revision {number}"));
    let version = number.unwrap_or_else(|| "the version".to_owned());
    let request = returned
        .request
        .as_deref()
        .unwrap_or("a request that nobody knows any more");
    let by = returned.by.as_deref().unwrap_or("somebody");
    let until = returned.until.map_or_else(String::new, |until| {
        format!(" until {}", time::stamp(until))
    });
    let deployment = plain(deployment, 253);
    let note = format!(
        "Field manager {} brought back {version} of Deployment {deployment}, which RollbackRequest {} rolled back and which \
         is in quarantine{until}. To roll it back again: kubectl rollback create deployment/{deployment}. If it is not to blame, lift \
         the quarantine: kubectl rollback quarantine lift deployment/{deployment}. To have such writes refused, set \
         spec.quarantine.enforce to Deny in the RollbackPolicy.",
        plain(by, 100),
        plain(request, 253),
    );
    Notice {
        at: now,
        warning: true,
        reason: RETURNED,
        action: "Watch",
        note: shortened(&note),
        key: Some(format!("{} {:?}", returned.digest, returned.revision)),
    }
}

/// Every notice that a status gives cause for, in the order of the facts.
pub fn notices(status: &RollbackRequestStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut tell = |at, warning, reason, action, note: String| {
        let note = shortened(&note);
        notices.push(Notice {
            at,
            warning,
            reason,
            action,
            note,
            key: None,
        });
    };
    if let Some(plan) = &status.plan {
        let targets: Vec<String> = plan.targets.iter().take(MOST_TOLD).map(describe).collect();
        tell(
            plan.planned_at,
            false,
            "Planned",
            "Plan",
            format!("Plan {}: {}", plan.digest, targets.join("; ")),
        );
    }
    for approval in consent::approvals(status) {
        let (who, digest) = (approval::approver(approval), &approval.plan_digest);
        match &approval.break_glass {
            None if approval.automatic => {}
            None => {
                let note = format!("{who} approved plan {digest}");
                tell(approval.at, false, "Approved", "Approve", note);
            }
            Some(why) => {
                let note = format!("{who} approved plan {digest} alone, past the rules: {why}");
                tell(approval.at, true, "BreakGlass", "Approve", note);
            }
        }
        if let Some(why) = &approval.accepts_data_risk {
            let note = format!("{who} accepted the risk for the data of plan {digest}: {why}");
            tell(approval.at, true, "DataRiskAccepted", "Approve", note);
        }
    }
    if let Some(said) = &status.auto_approval {
        let (warning, reason) = match said.blocked_by {
            None => (false, "ApprovedByPolicy"),
            Some(_) => (true, "HeldBack"),
        };
        tell(said.at, warning, reason, "Approve", said.message.clone());
    }
    if let [only] = status.targets.as_slice() {
        steps_of(only, &mut tell);
    } else {
        results_of(status, &mut tell);
    }
    beside(status, &mut tell);
    if let Some(outcome) = &status.outcome {
        let warning = !conditions::is_settled(outcome);
        tell(
            outcome.at,
            warning,
            outcome.result.known().unwrap_or(NEWER_VERSION),
            action(outcome.result),
            format!("{}: {}", outcome.reason.as_str(), outcome.message),
        );
    }
    if let Some(incident) = &status.incident {
        tell(
            incident.at,
            false,
            REPORTED,
            "Report",
            format!(
                "The incident report is in ConfigMap {}",
                incident.config_map
            ),
        );
    }
    notices.extend(status.targets.iter().filter_map(cause).take(MOST_TOLD));
    notices.extend(channels(status));
    notices
}

fn shortened(note: &str) -> String {
    let mut note = plain(note, NOTE_LIMIT);
    note.truncate(note.floor_char_boundary(NOTE_LIMIT));
    note
}

/// What keeps the pods of one Deployment from becoming available. Each kind of trouble is told once, however often it
/// comes back and whatever else is said of it then.
fn cause(target: &TargetStatus) -> Option<Notice> {
    let fallback = target
        .fallback
        .as_ref()
        .and_then(|fallback| fallback.rollout.as_ref());
    let cause = fallback.or(target.rollout.as_ref())?.cause.as_ref()?;
    let (name, kind) = (&target.name, cause.kind.as_str());
    Some(Notice {
        at: cause.since,
        warning: true,
        reason: "CauseFound",
        action: "RollOut",
        note: shortened(&format!("Deployment {name}: {kind}: {}", cause.message)),
        key: Some(format!("{name} {kind}")),
    })
}

/// The channels of the policy through which nothing comes.
fn channels(status: &RollbackRequestStatus) -> impl Iterator<Item = Notice> {
    let kept = status.notifications.iter().flat_map(|it| &it.channels);
    kept.filter_map(|channel| {
        let failing = channel.failing.as_ref()?;
        Some(Notice {
            at: failing.since,
            warning: true,
            reason: "NotificationFailed",
            action: "Notify",
            note: shortened(&format!(
                "Nothing comes through the channel {}: {}",
                channel.name, failing.message
            )),
            key: Some(format!("{} {}", channel.name, failing.since)),
        })
    })
}

/// The holds of a target, and what they owe to Git.
fn held(status: &RollbackRequestStatus, target: &TargetStatus) -> Vec<String> {
    let planned = status.plan.iter().flat_map(|plan| &plan.targets);
    let mut planned = planned.filter(|it| target.is_of(it.workload.kind, &it.workload.name));
    let Some(planned) = planned.next() else {
        return Vec::new();
    };
    let holds = planned.holds.iter();
    let told = holds.map(|it| {
        let owed = hold::owed_by_plan(planned, it);
        format!(
            "Deployment {}: {} {}, until somebody releases it. Owed to Git: {}",
            target.name,
            it.owner,
            hold::how(it.means),
            owed.unwrap_or_default()
        )
    });
    told.collect()
}

/// What Jobs, holds, fallbacks and scaling down added to the story.
fn beside(
    status: &RollbackRequestStatus,
    tell: &mut impl FnMut(Timestamp, bool, &'static str, &'static str, String),
) {
    let mut told: Vec<(Timestamp, bool, &'static str, &'static str, String)> = Vec::new();
    for target in &status.targets {
        let name = &target.name;
        for job in &target.jobs {
            if let Some(end) = job.end.as_ref().filter(|end| !end.succeeded) {
                let (stage, job) = (job.stage.as_str(), &job.name);
                let note = format!("{stage} Job {job} of Deployment {name}: {}", end.message);
                told.push((end.at, true, "JobFailed", "RunJob", note));
            }
        }
        if let Some(at) = target.held_at {
            for note in held(status, target) {
                told.push((at, false, "HoldPlaced", "Hold", note));
            }
        }
        if let Some(fallback) = &target.fallback {
            let note = format!(
                "The fallback of Deployment {name} is tried: {}",
                fallback.why
            );
            told.push((fallback.at, true, "FallbackTried", "Revert", note));
        }
    }
    // The first that were told stay the first, so that no pass tells of others than the one before.
    told.sort_by_key(|notice| notice.0);
    for (at, warning, reason, action, note) in told.into_iter().take(MOST_TOLD) {
        tell(at, warning, reason, action, note);
    }
    for scaled in &status.scaled_down {
        let name = &scaled.workload.name;
        if let Some(at) = scaled.taken_at {
            let note = format!(
                "Deployment {name} was scaled down to free capacity; it asked for {} replicas",
                scaled.from
            );
            tell(at, true, "ScaledDown", "Scale", note);
        }
        if let Some(at) = scaled.restored_at {
            let note = format!("Deployment {name} has its replicas back");
            tell(at, false, "ScaledUp", "Scale", note);
        }
    }
}

/// How one Deployment came along.
fn steps_of(
    target: &TargetStatus,
    tell: &mut impl FnMut(Timestamp, bool, &'static str, &'static str, String),
) {
    let name = &target.name;
    if let Some(backup) = &target.backup {
        let note = format!(
            "Deployment {name} is saved in ConfigMap {}",
            backup.config_map
        );
        tell(backup.at, false, "BackedUp", "BackUp", note);
    }
    if let Some(at) = target.reverted_at {
        let note = format!("Deployment {name} has the old template");
        tell(at, false, "Reverted", "Revert", note);
    }
    let completed = target
        .rollout
        .as_ref()
        .and_then(|rollout| rollout.completed_at);
    if let Some(at) = completed {
        let note =
            format!("Every replica of Deployment {name} runs the old template and is available");
        tell(at, false, "RolledOut", "RollOut", note);
    }
    let restored = target
        .restore
        .as_ref()
        .and_then(|restore| restore.restored_at);
    if let Some(at) = restored {
        let note =
            format!("Deployment {name} has again the template that it had before the rollback");
        tell(at, true, "PutBack", "Restore", note);
    }
}

/// Of many Deployments only those are told that did not come back: two hundred Events for each step would bury
/// everything else. The first that failed stay the first, so that no pass tells of others than the one before.
fn results_of(
    status: &RollbackRequestStatus,
    tell: &mut impl FnMut(Timestamp, bool, &'static str, &'static str, String),
) {
    let mut unwell: Vec<(&TargetStatus, &Outcome)> =
        status.targets.iter().flat_map(failures).collect();
    unwell.sort_by_key(|(_, outcome)| outcome.at);
    for (target, outcome) in unwell.into_iter().take(MOST_TOLD) {
        let note = format!("Deployment {}: {}", target.name, outcome.message);
        let reason = outcome.reason.known().unwrap_or(NEWER_VERSION);
        tell(outcome.at, true, reason, "Finish", note);
    }
    if let Some(stopped) = &status.stopped {
        tell(stopped.at, true, "Stopped", "Stop", stopped.message.clone());
    }
}

/// What did not go well with one of many: on the way there, and on the way back. That it was spared, or that it
/// has again what it had, was decided for all of them and is told once.
fn failures(target: &TargetStatus) -> impl Iterator<Item = (&TargetStatus, &Outcome)> {
    let restore = target
        .restore
        .as_ref()
        .and_then(|restore| restore.outcome.as_ref())
        .filter(|outcome| outcome.result != RequestState::Restored);
    target
        .outcome
        .iter()
        .chain(restore)
        .filter(|outcome| !conditions::is_settled(outcome) && outcome.reason != Reason::NotBegun)
        .map(move |outcome| (target, outcome))
}

fn action(state: RequestState) -> &'static str {
    match state {
        RequestState::Planning => "Plan",
        RequestState::AwaitingApproval
        | RequestState::Blocked
        | RequestState::Frozen
        | RequestState::Denied
        | RequestState::Expired
        | RequestState::Cancelled => "Approve",
        RequestState::BackingUp => "BackUp",
        RequestState::Reverting => "Revert",
        RequestState::RollingOut => "RollOut",
        RequestState::Verifying => "Verify",
        RequestState::Restoring => "Restore",
        RequestState::Succeeded
        | RequestState::Refused
        | RequestState::Superseded
        | RequestState::Failed
        | RequestState::Restored
        | RequestState::Newer(_) => "Finish",
    }
}

/// One target in a line: `api: revision 3 -> 2 (api: shop:v3 -> shop:v2)`.
pub fn describe(target: &PlannedTarget) -> String {
    let from = target
        .from
        .revision
        .map_or_else(|| "?".to_owned(), |number| number.to_string());
    let images: Vec<String> = target
        .images
        .iter()
        .map(|change| {
            let (from, to) = (
                change.from.as_deref().unwrap_or("none"),
                change.to.as_deref().unwrap_or("none"),
            );
            format!("{}: {from} -> {to}", change.container)
        })
        .collect();
    let images = if images.is_empty() {
        "no image changes".to_owned()
    } else {
        images.join(", ")
    };
    format!(
        "{}: revision {from} -> {} ({images})",
        target.workload.name,
        match target.source {
            Source::ReplicaSet | Source::Ledger => target
                .to
                .revision
                .map_or_else(|| "?".to_owned(), |number| number.to_string()),
            Source::Backup | Source::NewImage | Source::Newer(_) => conditions::place(target),
        }
    )
}
