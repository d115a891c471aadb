//! What must hold whatever strangers send. The fuzz targets check it, and `crates/receiver/tests/corpus.rs` for every
//! file of every corpus.

#![allow(dead_code, reason = "each target needs a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "a check that fails is meant to stop the program"
)]

use jiff::Timestamp;
use rollback_receiver::alert::{Alert, Delivery, State};
use rollback_receiver::intake::{self, Format};
use rollback_receiver::signature::{self, Rejected};

/// Longest message about a delivery that cannot be read, in characters.
const LONGEST_MESSAGE: usize = 1000;

/// Reads a body: what comes out is bounded, and the same each time.
pub fn reading(format: Format, body: &[u8]) {
    let outcome = intake::read(format, body);
    assert_eq!(outcome, intake::read(format, body));
    match outcome {
        Ok(Delivery::Truncated(alerts, left_out)) => {
            assert!(left_out > 0);
            assert!(alerts.len() <= intake::MOST_ALERTS);
            alerts.iter().for_each(alert);
        }
        Ok(Delivery::Alerts(alerts)) => {
            assert!((1..=intake::MOST_ALERTS).contains(&alerts.len()));
            alerts.iter().for_each(alert);
        }
        Ok(Delivery::Confirm { topic, url }) => {
            assert_eq!(format, Format::Sns);
            line(&topic, Alert::LONGEST);
            line(&url, Alert::LONGEST);
            assert!(url.starts_with("https://sns.") && url.contains(".amazonaws.com"));
        }
        Ok(Delivery::Nothing(why)) => line(&why, LONGEST_MESSAGE),
        Err(unreadable) => line(&unreadable.to_string(), LONGEST_MESSAGE),
    }
}

fn alert(alert: &Alert) {
    if let State::Ignored(why) = &alert.state {
        line(why, LONGEST_MESSAGE);
    }
    for text in [&alert.id, &alert.name, &alert.summary] {
        assert!(!text.is_empty());
        line(text, Alert::LONGEST);
    }
    if let Some(severity) = &alert.severity {
        line(severity, Alert::LONGEST);
    }
    if let Some(moment) = alert.started_at {
        assert!(moment >= "2000-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
        assert!(moment < "2200-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    }
    assert!(alert.labels.len() <= Alert::LABELS);
    for text in alert.labels.iter().flat_map(|(name, value)| [name, value]) {
        assert!(!text.is_empty());
        line(text, Alert::LONGEST);
    }
    for link in &alert.links {
        line(link, Alert::LONGEST);
        assert!(link.starts_with("https://") || link.starts_with("http://"));
        assert!(link.is_ascii());
    }
}

/// One line that shows what it holds.
fn line(text: &str, longest: usize) {
    assert!(text.chars().count() <= longest, "too long: {text:?}");
    assert!(!text.chars().any(char::is_control), "control: {text:?}");
    assert!(!text.contains(['\u{200f}', '\u{202e}', '\u{2066}', '\u{2028}']));
}

/// Reads headers of signatures, a message of SNS and a file of certificates: a zero byte parts the header, the timestamp
/// and the body. Nothing that was found by chance is ever believed.
pub fn signatures(bytes: &[u8]) {
    const SECRET: &[u8] = b"a secret that no input knows";
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (header, timestamp, body) = (next(), next(), next());
    if let (Ok(header), Ok(timestamp)) = (str::from_utf8(header), str::from_utf8(timestamp)) {
        let now = Timestamp::UNIX_EPOCH;
        rejected(signature::grafana(SECRET, header, None, body, now));
        rejected(signature::grafana(
            SECRET,
            header,
            Some(timestamp),
            body,
            now,
        ));
        rejected(signature::pager_duty(&[SECRET], header, body));
        rejected(signature::sentry(SECRET, header, body));
        rejected(signature::flux(SECRET, header, body));
        rejected(signature::generic(SECRET, header, timestamp, body, now));
    }
    message(bytes, header);
    message(body, header);
}

fn message(body: &[u8], certificates: &[u8]) {
    match signature::sns::read(body) {
        Ok(message) => {
            assert!(message.certificate_url().starts_with("https://sns."));
            assert!(message.certificate_url().contains(".amazonaws.com"));
            let roots = [];
            let now = "2026-11-28T10:00:00Z".parse().unwrap();
            rejected(message.verify(certificates, &roots, now));
        }
        Err(error) => rejected(Err(error)),
    }
}

fn rejected(outcome: Result<(), Rejected>) {
    line(&outcome.unwrap_err().to_string(), LONGEST_MESSAGE);
}
