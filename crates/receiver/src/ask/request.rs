//! The request that an alert becomes. Every text of it comes from the sender: it is cut, and what looks like a secret is
//! taken out, because whoever may see requests reads it.

use jiff::Timestamp;
use rollback_api::RollbackRequest;
use rollback_api::request::{RequestReason, To, Trigger};
use rollback_core::evidence::trigger;
use rollback_core::message::redact::redact;
use rollback_core::message::text::plain;
use rollback_receiver::alert::Alert;
use sha2::{Digest, Sha256};

use super::category;
use crate::config::{Source, Where};
use crate::resolve::Live;
use crate::resolve::about::pod_of;

/// Most pieces of evidence.
const EVIDENCE: usize = 10;
/// Longest piece, and longest summary.
const LONGEST: usize = 400;
/// Longest id.
const LONGEST_ID: usize = 256;

/// The request for the rollback of what is live.
pub fn request(
    source: &Source,
    live: &Live,
    alert: &Alert,
    started_at: Timestamp,
    pending_seconds: Option<u32>,
) -> RollbackRequest {
    let to = match source.to {
        Where::LastKnownGood => To::last_known_good(),
        Where::Previous => To::previous(),
    };
    let name = said(&alert.name, 200).unwrap_or_else(|| "unnamed".to_owned());
    let reason = RequestReason {
        category: category::of(&source.category, alert),
        summary: said(&alert.summary, LONGEST).unwrap_or_else(|| name.clone()),
        root_cause: String::new(),
        impact: String::new(),
        incident_url: alert.links.iter().find(|link| is_page(link)).cloned(),
    };
    let trigger = Trigger {
        source: source.name.clone(),
        alert: name,
        id: id(&alert.id),
        started_at,
        pending_seconds,
        pod: pod_of(&alert.labels).map(str::to_owned),
        evidence: evidence(alert),
    };
    let mut request = trigger::request(&live.namespace, &live.deployment, to, reason, trigger);
    request.spec.urgency = source.urgency;
    request
}

/// A text that says something, fit to be shown.
fn said(text: &str, limit: usize) -> Option<String> {
    let text = plain(&redact(text), limit);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What is longer than an id may be is known by its hash.
fn id(id: &str) -> String {
    let shown = plain(id, LONGEST_ID + 1);
    if shown == id && !id.trim().is_empty() && id.chars().count() <= LONGEST_ID {
        return shown;
    }
    format!("sha256:{}", hex::encode(Sha256::digest(id)))
}

/// Whether an address can be shown as a page of the incident.
fn is_page(link: &str) -> bool {
    let rest = link
        .strip_prefix("https://")
        .or_else(|| link.strip_prefix("http://"));
    let is_plain = |char: char| !char.is_whitespace() && !char.is_control() && !"<>".contains(char);
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_plain)) && link.len() <= 2000
}

fn evidence(alert: &Alert) -> Vec<String> {
    let severity = alert.severity.as_ref();
    let severity = severity.map(|word| format!("severity {word}"));
    let labels = alert
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    severity
        .into_iter()
        .chain(labels)
        .filter_map(|text| said(&text, LONGEST))
        .take(EVIDENCE)
        .collect()
}
