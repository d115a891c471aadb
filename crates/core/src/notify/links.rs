//! Where a message points to.

use jiff::{SignedDuration, Timestamp};
use rollback_api::RollbackRequest;
use rollback_api::policy::Link;

use super::Subject;
use crate::message::redact::redact;
use crate::message::text::plain;

/// From how long before the request on a dashboard is shown.
const BEFORE: SignedDuration = SignedDuration::from_mins(30);
/// Longest address.
const LONGEST: usize = 2000;
/// Most links of one message: those of the policy, and the incident.
const MOST: usize = 6;

/// The incident, and what the policy names, filled in.
pub(super) fn all(
    request: &RollbackRequest,
    subject: &Subject,
    links: &[Link],
    now: Timestamp,
) -> Vec<(String, String)> {
    let incident = request.spec.reason.incident_url.as_deref();
    let incident = incident.map(|url| ("Incident".to_owned(), url.to_owned()));
    let of_policy = links.iter().map(|link| {
        let url = filled(&link.url, request, subject, now);
        (plain(link.title.trim(), 60), url)
    });
    let all = incident.into_iter().chain(of_policy);
    all.filter(|(_, url)| is_address(url)).take(MOST).collect()
}

/// Whether it is an address that can be shown: whole, and without a secret.
fn is_address(url: &str) -> bool {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "<>\"|\\^`".contains(c);
    is_web && url.len() <= LONGEST && !url.chars().any(is_odd) && redact(url) == url
}

fn filled(url: &str, request: &RollbackRequest, subject: &Subject, now: Timestamp) -> String {
    let created = request.metadata.creation_timestamp.as_ref();
    let begin = created.map_or(now, |created| created.0);
    let from = begin.checked_sub(BEFORE).unwrap_or(begin);
    let mut targets = request.spec.targets.iter();
    let workload = targets.find_map(|it| it.name.as_deref());
    let milliseconds = |at: Timestamp| at.as_millisecond().to_string();
    [
        ("{namespace}", encoded(&subject.namespace)),
        ("{workload}", encoded(workload.unwrap_or_default())),
        ("{request}", encoded(&subject.name)),
        ("{from}", milliseconds(from)),
        ("{to}", milliseconds(now)),
    ]
    .iter()
    .fold(url.to_owned(), |url, (name, value)| {
        url.replace(name, value)
    })
}

/// As a part of an address that means nothing but itself.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}
