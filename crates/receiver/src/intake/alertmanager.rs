//! The webhook of Alertmanager, version 4; Grafana writes the same with a few more fields.
//!
//! The status of the group says `firing` as soon as one alert fires: only the status of each alert is read. An alert is
//! known by its fingerprint and when it began, which stay the same over reminders, regroupings and copies from other
//! members of the cluster.

use serde::Deserialize;
use serde::de::Deserializer;

use super::labels::Labels;
use super::text::{self, Few, Key, NumberOrText, Raw, Text, When};
use super::{
    After, Description, Format, MOST_ALERTS, Proof, Unreadable, first, ignored, json, truncated,
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
    let group = members(Format::Alertmanager, "4", body)?;
    let alerts = group.alerts.items.into_iter().map(Member::read);
    Ok(truncated(alerts.collect(), group.left_out))
}

/// The alerts of a group, after the version has been checked.
pub(super) fn members(
    format: Format,
    expected: &'static str,
    body: &[u8],
) -> Result<Group, Unreadable> {
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
    json(format, body)
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Head {
    version: Option<NumberOrText>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Group {
    pub alerts: Few<Member, MOST_ALERTS>,
    /// How many the sender has left out.
    #[serde(default, rename = "truncatedAlerts", deserialize_with = "count")]
    pub left_out: u64,
}

/// A number that is there for people: whatever else stands there is none.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_u64().unwrap_or_default())
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
    /// How long the rule waits before it fires, where its author says so.
    #[serde(rename = "for")]
    pending: Option<Text>,
    /// Of Grafana: why an alert fires that no value has set off.
    grafana_state_reason: Option<Text>,
}

/// What Grafana calls the alerts about its own queries, also where it sends them through an Alertmanager.
const NO_DATA: [&str; 2] = ["DatasourceNoData", "DatasourceError"];

/// States of Grafana that say nothing about what is watched, but that nothing is known of it.
const NOT_KNOWN: [&str; 3] = ["NoData", "Error", "MissingSeries"];

/// Whether it fires because its query found nothing or failed, as its name or its reason says.
fn is_without_data(name: &str, reason: Option<&Text>) -> bool {
    let reason = reason.map_or("", |reason| reason.0.as_str());
    let mut words = reason.split(',').map(str::trim);
    NO_DATA.contains(&name) || words.any(|word| NOT_KNOWN.contains(&word))
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
        let is_without_data = is_without_data(&name, notes.grafana_state_reason.as_ref());
        let pending = labels
            .get("for")
            .map(str::to_owned)
            .or(notes.pending.map(|text| text.0));
        Alert {
            pending_seconds: pending.as_deref().and_then(text::seconds),
            is_repeat: false,
            state: match self.status.0.as_str() {
                "firing" if is_without_data => {
                    ignored("the query of the rule found no data or failed")
                }
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
