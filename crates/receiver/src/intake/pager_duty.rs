//! Webhook subscriptions of `PagerDuty`, version 3.
//!
//! Only `incident.triggered` fires. The payload holds none of the labels of the alert behind the incident, so it is mapped
//! by the id of the service, as the label `pagerduty_service`. It is known by the id of the incident rather than of the
//! event: both are the same each time the event is delivered, but only the incident's is also the one that is resolved.

use serde::Deserialize;

use super::labels::Labels;
use super::text::{self, Key, Raw, Text, When};
use super::{After, Description, Format, Hmac, Proof, Signed, Unreadable, alerts, first, json};
use crate::alert::{Alert, Delivery, State};
use crate::signature;

/// How the keys of the incidents begin that this project opens itself: a page about a rollback never causes one.
const OURS: &str = "rollback-operator:";

pub(super) const FORMAT: Description = Description {
    remedy: "send a version 3 webhook subscription of PagerDuty to this address",
    read,
    proof: Proof::Hmac(Hmac {
        header: "X-PagerDuty-Signature",
        can_be_renamed: false,
        signed: Signed::Body(|secret, codes, body| signature::pager_duty(&[secret], codes, body)),
    }),
    content_types: &[],
    comes_again: After::TooManyRequests,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let Head { event } = json(Format::PagerDuty, body)?;
    let state = match event.event_type.0.as_str() {
        "incident.triggered" => State::Firing,
        "incident.resolved" => State::Resolved,
        _other => {
            return Ok(nothing(
                "the event is neither incident.triggered nor incident.resolved",
            ));
        }
    };
    let Body { event } = json(Format::PagerDuty, body)?;
    let key = event.data.key.as_ref();
    if key.is_some_and(|Text(key)| key.starts_with(OURS)) {
        return Ok(nothing("the incident was opened by this project itself"));
    }
    Ok(alerts(vec![event.read(state)]))
}

fn nothing(why: &str) -> Delivery {
    Delivery::Nothing(why.to_owned())
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Head {
    event: Kind,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Kind {
    event_type: Text,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Body {
    event: Event,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Event {
    occurred_at: When,
    data: Incident,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Incident {
    id: Key,
    #[serde(rename = "incident_key")]
    key: Option<Text>,
    title: Option<Text>,
    created_at: Option<When>,
    html_url: Option<Raw>,
    service: Service,
    priority: Option<Reference>,
    urgency: Option<Text>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Service {
    id: Key,
    summary: Option<Text>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Reference {
    summary: Option<Text>,
}

impl Event {
    fn read(self, state: State) -> Alert {
        let incident = self.data;
        let mut labels = Labels::default();
        labels.add("pagerduty_service", &incident.service.id.0);
        let name = first([incident.title]).unwrap_or_else(|| "untitled incident".to_owned());
        let service = first([incident.service.summary]);
        Alert {
            state,
            summary: match service {
                Some(service) => text::clean(&format!("{name} (service {service})")),
                None => name.clone(),
            },
            id: incident.id.0,
            name,
            severity: first([
                incident.priority.and_then(|is| is.summary),
                incident.urgency,
            ]),
            started_at: Some(incident.created_at.unwrap_or(self.occurred_at).0),
            pending_seconds: None,
            is_repeat: false,
            labels: labels.done(),
            links: text::links(incident.html_url),
        }
    }
}
