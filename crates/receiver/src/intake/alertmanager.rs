//! The webhook of Alertmanager, version 4; Grafana writes the same with a few more fields.
//!
//! The status of the group says `firing` as soon as one alert fires: only the status of each alert is read. An alert is
//! known by its fingerprint and when it began, which stay the same over reminders, regroupings and copies from other
//! members of the cluster.

use serde::Deserialize;

use super::labels::Labels;
use super::text::{self, Few, Key, NumberOrText, Raw, Text, When};
use super::{
    After, Description, Format, MOST_ALERTS, Proof, Unreadable, alerts, first, ignored, json,
};
use crate::alert::{Alert, Delivery, State};

pub(super) const FORMAT: Description = Description {
    remedy: "send the webhook of Alertmanager (version 4) as it is, without a `payload` of your own",
    read,
    proof: Proof::Credentials,
    content_types: &[],
    comes_again: After::ServiceUnavailable,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let remedy = "set max_alerts of the webhook_config, or group by more labels";
    let members = members(Format::Alertmanager, "4", remedy, body)?;
    Ok(alerts(members.into_iter().map(Member::read).collect()))
}

/// The alerts of a group, after the version has been checked.
pub(super) fn members(
    format: Format,
    expected: &'static str,
    fewer: &'static str,
    body: &[u8],
) -> Result<Vec<Member>, Unreadable> {
    let Head { version } = json(format, body)?;
    match version {
        Some(NumberOrText(version)) if version == expected => {}
        version => {
            return Err(Unreadable::Version {
                found: version.map_or("missing".to_owned(), |found| {
                    format!("\"{}\"", text::short(&found.0))
                }),
                expected,
                remedy: format.description().remedy,
            });
        }
    }
    let Group { alerts } = json(format, body)?;
    if alerts.count > MOST_ALERTS {
        return Err(Unreadable::TooManyAlerts {
            count: alerts.count,
            remedy: fewer,
        });
    }
    Ok(alerts.items)
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Head {
    version: Option<NumberOrText>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Group {
    alerts: Few<Member, MOST_ALERTS>,
}

/// One alert of a group.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Member {
    status: Text,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
    starts_at: When,
    #[serde(rename = "generatorURL")]
    generator: Option<Raw>,
    fingerprint: Key,
    /// Of Grafana.
    #[serde(rename = "dashboardURL")]
    dashboard: Option<Raw>,
    /// Of Grafana.
    #[serde(rename = "panelURL")]
    panel: Option<Raw>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "an object")]
struct Annotations {
    summary: Option<Text>,
    description: Option<Text>,
    message: Option<Text>,
    runbook_url: Option<Raw>,
}

impl Member {
    /// The alert as every source is read.
    pub fn read(self) -> Alert {
        let labels = self.labels.unwrap_or_default();
        let notes = self.annotations.unwrap_or_default();
        let name = labels
            .get("alertname")
            .unwrap_or("unnamed alert")
            .to_owned();
        Alert {
            state: match self.status.0.as_str() {
                "firing" => State::Firing,
                "resolved" => State::Resolved,
                _other => ignored("its status is neither firing nor resolved"),
            },
            id: text::identity(&[&self.fingerprint.0, &self.starts_at.0.to_string()]),
            summary: first([notes.summary, notes.description, notes.message])
                .unwrap_or_else(|| name.clone()),
            name,
            severity: labels.get("severity").map(str::to_owned),
            started_at: Some(self.starts_at.0),
            links: text::links(
                [
                    self.generator,
                    notes.runbook_url,
                    self.dashboard,
                    self.panel,
                ]
                .into_iter()
                .flatten(),
            ),
            labels: labels.done(),
        }
    }
}
