//! What other people are told: Kubernetes Events, read from the facts of a status.
//!
//! Every fact has a time and is written once, so a notice has a key: telling it again is the same
//! Event. What a pass tells is what its new status has and the old one had not.

use jiff::Timestamp;
use rollback_api::status::PlannedTarget;
use rollback_api::{RollbackRequestStatus, Word};
use serde_json::json;

use crate::text::plain;
use crate::{conditions, template};

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
}

/// Longest note of an Event that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

impl Notice {
    /// Name of the Event: the same for the same fact.
    pub fn event_name(&self, request: &str, request_uid: &str) -> String {
        let identity = template::digest(&json!([
            request_uid,
            self.reason,
            self.at.to_string(),
            self.note
        ]));
        let suffix: String = identity
            .trim_start_matches("sha256:")
            .chars()
            .take(16)
            .collect();
        let stem: String = request.chars().take(200).collect();
        format!("{}.{suffix}", stem.trim_end_matches(['.', '-']))
    }
}

/// Every notice that a status gives cause for, in the order of the facts.
pub fn notices(status: &RollbackRequestStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut tell = |at, warning, reason, action, note: String| {
        let mut note = plain(&note, NOTE_LIMIT);
        note.truncate(note.floor_char_boundary(NOTE_LIMIT));
        notices.push(Notice {
            at,
            warning,
            reason,
            action,
            note,
        });
    };
    if let Some(plan) = &status.plan {
        let targets: Vec<String> = plan.targets.iter().map(describe).collect();
        tell(
            plan.planned_at,
            false,
            "Planned",
            "Plan",
            format!("Plan {}: {}", plan.digest, targets.join("; ")),
        );
    }
    for approval in &status.approvals {
        tell(
            approval.at,
            false,
            "Approved",
            "Approve",
            format!(
                "{} approved plan {}",
                approval.by.username, approval.plan_digest
            ),
        );
    }
    for target in &status.targets {
        let name = &target.name;
        if let Some(backup) = &target.backup {
            tell(
                backup.at,
                false,
                "BackedUp",
                "BackUp",
                format!(
                    "Deployment {name} is saved in ConfigMap {}",
                    backup.config_map
                ),
            );
        }
        if let Some(at) = target.reverted_at {
            tell(
                at,
                false,
                "Reverted",
                "Revert",
                format!("Deployment {name} has the old template"),
            );
        }
        if let Some(at) = target
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.completed_at)
        {
            tell(
                at,
                false,
                "RolledOut",
                "RollOut",
                format!(
                    "Every replica of Deployment {name} runs the old template and is available"
                ),
            );
        }
    }
    if let Some(outcome) = &status.outcome {
        let warning = !conditions::is_settled(outcome);
        tell(
            outcome.at,
            warning,
            outcome.word.as_str(),
            action(outcome.word),
            format!("{}: {}", outcome.reason.as_str(), outcome.message),
        );
    }
    if let Some(incident) = &status.incident {
        tell(
            incident.at,
            false,
            "Reported",
            "Report",
            format!(
                "The incident report is in ConfigMap {}",
                incident.config_map
            ),
        );
    }
    notices
}

fn action(word: Word) -> &'static str {
    match word {
        Word::Planning => "Plan",
        Word::AwaitingApproval | Word::Denied | Word::Expired | Word::Cancelled => "Approve",
        Word::BackingUp => "BackUp",
        Word::Reverting => "Revert",
        Word::RollingOut => "RollOut",
        Word::Verifying => "Verify",
        Word::Succeeded | Word::Refused | Word::Superseded | Word::Failed => "Finish",
    }
}

/// One target in a line: `api: revision 3 -> 2 (api: shop:v3 -> shop:v2)`.
pub fn describe(target: &PlannedTarget) -> String {
    let from = target
        .from_revision
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
        target.name, target.to_revision
    )
}
