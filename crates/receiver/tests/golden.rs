//! Payloads as the sources write them, and what is read of each: `golden/<format>/<name>.json` and beside it
//! `<name>.expected.json`. With `UPDATE_GOLDEN=1` in the environment the latter are written anew, to be read in the diff.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rollback_receiver::alert::{Alert, Delivery, State};
use rollback_receiver::intake::{self, Format, Unreadable};
use serde_json::{Value, json};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

#[test]
fn alertmanager() -> Result<()> {
    all(Format::Alertmanager)
}

#[test]
fn grafana() -> Result<()> {
    all(Format::Grafana)
}

#[test]
fn pager_duty() -> Result<()> {
    all(Format::PagerDuty)
}

#[test]
fn sns() -> Result<()> {
    all(Format::Sns)
}

#[test]
fn sentry() -> Result<()> {
    all(Format::Sentry)
}

#[test]
fn datadog() -> Result<()> {
    all(Format::Datadog)
}

#[test]
fn flux() -> Result<()> {
    all(Format::Flux)
}

#[test]
fn generic() -> Result<()> {
    all(Format::Generic)
}

/// Every payload of the format, and at least one that is invalid.
fn all(format: Format) -> Result<()> {
    let directory = Path::new(DIRECTORY).join(format.name());
    let mut invalid = 0;
    for path in payloads(&directory)? {
        let name = path.display();
        let body = fs::read(&path)?;
        let read = intake::read(format, &body);
        let says = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("invalid-"));
        ensure!(read.is_err() == says, "{name}: {read:?}");
        invalid += usize::from(says);
        let seen = shown(&read);
        let expected = path.with_extension("expected.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, format!("{seen:#}\n"))?;
        }
        let text = fs::read(&expected).with_context(|| format!("{name} has no expectation"))?;
        let wanted: Value = serde_json::from_slice(&text)?;
        ensure!(
            seen == wanted,
            "{name} is read as {seen:#}\nnot as {wanted:#}"
        );
    }
    ensure!(invalid > 0, "no invalid payload of {format}");
    Ok(())
}

fn payloads(directory: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(directory)?.map(|file| Ok(file?.path()));
    let files = files.collect::<Result<Vec<_>>>()?.into_iter();
    let mut files: Vec<_> = files
        .filter(|path| !path.to_string_lossy().ends_with(".expected.json"))
        .collect();
    files.sort();
    Ok(files)
}

fn shown(read: &Result<Delivery, Unreadable>) -> Value {
    match read {
        Ok(Delivery::Alerts(alerts)) => {
            json!({"alerts": alerts.iter().map(alert).collect::<Vec<_>>()})
        }
        Ok(Delivery::Truncated(alerts, left_out)) => {
            json!({"alerts": alerts.iter().map(alert).collect::<Vec<_>>(), "leftOut": left_out})
        }
        Ok(Delivery::Confirm { topic, url }) => json!({"confirm": {"topic": topic, "url": url}}),
        Ok(Delivery::Nothing(why)) => json!({"nothing": why}),
        Err(unreadable) => json!({"unreadable": unreadable.to_string()}),
    }
}

fn alert(alert: &Alert) -> Value {
    let mut shown = json!({
        "state": match &alert.state {
            State::Firing => "firing".to_owned(),
            State::Resolved => "resolved".to_owned(),
            State::Ignored(why) => format!("ignored: {why}"),
        },
        "id": alert.id,
        "name": alert.name,
        "summary": alert.summary,
        "severity": alert.severity,
        "startedAt": alert.started_at,
        "labels": alert.labels,
        "links": alert.links,
    });
    if let Some(seconds) = alert.pending_seconds {
        shown["pendingSeconds"] = json!(seconds);
    }
    if alert.is_repeat {
        shown["isRepeat"] = json!(true);
    }
    shown
}

/// A group of so many alerts, each as small as it may be.
fn group(count: usize, version: &str) -> Vec<u8> {
    let alert = json!({"status": "firing", "fingerprint": "f", "startsAt": "2026-11-20T09:15:00Z"});
    let group = json!({"version": version, "alerts": vec![alert; count]});
    group.to_string().into_bytes()
}

/// A storm is one delivery: whoever is in it is answered, wherever in it it stands.
#[test]
fn a11_below_the_limit_of_bytes_each_alert_is_read() -> Result<()> {
    for (format, version) in [(Format::Alertmanager, "4"), (Format::Grafana, "1")] {
        for count in [241, 5000] {
            let read = intake::read(format, &group(count, version))?;
            ensure!(
                matches!(&read, Delivery::Alerts(alerts) if alerts.len() == count),
                "{count}"
            );
        }
    }
    let mut body: Value = serde_json::from_slice(&group(50, "4"))?;
    body["truncatedAlerts"] = json!(190);
    let read = intake::read(Format::Alertmanager, body.to_string().as_bytes())?;
    ensure!(matches!(&read, Delivery::Truncated(alerts, 190) if alerts.len() == 50));
    Ok(())
}

#[test]
fn the_largest_body_is_read_and_one_byte_more_is_not() {
    let mut body = group(1, "4");
    body.resize(intake::LARGEST, b' ');
    assert!(intake::read(Format::Alertmanager, &body).is_ok());
    body.push(b' ');
    let read = intake::read(Format::Alertmanager, &body);
    assert_eq!(
        read,
        Err(Unreadable::TooLarge {
            bytes: intake::LARGEST + 1
        })
    );
}

/// The same field is asked for by name in the configuration, so its spelling is part of the interface.
#[test]
fn formats_are_called_in_the_configuration_as_they_call_themselves() -> Result<()> {
    for format in Format::ALL {
        let read: Format = serde_json::from_value(json!(format.name()))?;
        assert_eq!(read, format);
    }
    Ok(())
}
