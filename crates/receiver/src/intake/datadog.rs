//! A webhook of Datadog. Its body is whatever the user wrote, so this project defines one; set it as the payload:
//!
//! ```json
//! {
//!   "id": "$ID",
//!   "alert_id": "$ALERT_ID",
//!   "cycle": "$ALERT_CYCLE_KEY",
//!   "transition": "$ALERT_TRANSITION",
//!   "priority": "$ALERT_PRIORITY",
//!   "scope": "$ALERT_SCOPE",
//!   "tags": "$TAGS",
//!   "date": "$DATE",
//!   "title": "$ALERT_TITLE",
//!   "link": "$LINK"
//! }
//! ```
//!
//! Datadog fills it in as text, so every value is a text, and a quotation mark in one breaks the document. `Triggered` and
//! `Re-Triggered` fire, of which the latter tells no beginning; `Recovered` is resolved; no data, warnings and reminders are not answered. An alert is known by its
//! cycle and scope. Tags `name:value` are labels; those of the scope, which is what set the alert off, go before those of
//! the monitor; a name with two values has none. `kube_namespace` and `kube_deployment` are the labels `namespace` and
//! `deployment` too.

use serde::Deserialize;
use serde::de::Deserializer;

use super::labels::Labels;
use super::text::{self, Key, Raw, Text, When};
use super::{After, Description, Format, Proof, Unreadable, alerts, first, ignored, json};
use crate::alert::{Alert, Delivery, State};

/// Tags that Datadog's agent sets on what runs in a cluster, and the labels that they are.
const KUBERNETES: [(&str, &str); 2] = [
    ("kube_namespace", "namespace"),
    ("kube_deployment", "deployment"),
];

pub(super) const FORMAT: Description = Description {
    remedy: "set the payload of the webhook to the one in docs/alerts.md",
    read,
    proof: Proof::Credentials,
    content_types: &[],
    comes_again: After::ServiceUnavailable,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let body: Body = json(Format::Datadog, body)?;
    Ok(alerts(vec![body.read()]))
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Body {
    alert_id: Key,
    cycle: Key,
    transition: Key,
    priority: Option<Text>,
    scope: Option<Raw>,
    tags: Option<Raw>,
    #[serde(deserialize_with = "milliseconds")]
    date: When,
    title: Option<Text>,
    link: Option<Raw>,
}

fn milliseconds<'de, D: Deserializer<'de>>(from: D) -> Result<When, D::Error> {
    let Text(text) = Text::deserialize(from)?;
    When::milliseconds(&text)
}

impl Body {
    fn read(self) -> Alert {
        let scope = self.scope.unwrap_or_default().0;
        let labels = labels(&scope, &self.tags.unwrap_or_default().0);
        let title = first([self.title]);
        let title = title.unwrap_or_else(|| format!("monitor {}", self.alert_id.0));
        Alert {
            state: state(&self.transition.0),
            id: text::identity(&[&self.cycle.0, if scope.is_empty() { "*" } else { &scope }]),
            summary: title.clone(),
            name: title,
            severity: first([self.priority]),
            started_at: Some(self.date.0),
            pending_seconds: None,
            // Its date is that of the renewal: the cycle began before.
            is_repeat: self.transition.0 == "Re-Triggered",
            labels: labels.done(),
            links: text::links(self.link),
        }
    }
}

fn state(transition: &str) -> State {
    match transition {
        "Triggered" | "Re-Triggered" => State::Firing,
        "Recovered" | "Re-Recovered" => State::Resolved,
        "No Data" | "Re-No Data" => ignored("the monitor has no data"),
        "Warn" | "Re-Warn" => ignored("the alert is a warning only"),
        "Renotify" => ignored("a reminder of an alert that was sent already"),
        _other => ignored("its transition is neither Triggered nor Recovered"),
    }
}

fn labels(scope: &str, tags: &str) -> Labels {
    let mut labels = tagged(scope);
    labels.add_missing(tagged(tags));
    for (tag, label) in KUBERNETES {
        if let Some(value) = labels.get(tag).map(str::to_owned) {
            labels.set(label, &value);
        }
    }
    labels
}

fn tagged(list: &str) -> Labels {
    let mut labels = Labels::default();
    for (name, value) in list.split(',').filter_map(|tag| tag.split_once(':')) {
        labels.add(name, value);
    }
    labels
}
