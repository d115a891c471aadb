//! `PagerDuty`, Events API v2: one incident for each request, and changes that page nobody.
//! <https://developer.pagerduty.com/docs/send-alert-event>, <https://developer.pagerduty.com/docs/send-change-event>

use serde_json::{Value, json};

use super::{details, incident, severity, shrunk};
use crate::message::text::plain;
use crate::notify::{About, Message, Standing};

/// Longest summary.
const SUMMARY: usize = 1024;
/// Largest event, in bytes; the service takes 512,000.
const WHOLE: usize = 500_000;
/// Longest key.
const KEY: usize = 255;

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Alerts.
    Events,
    /// Changes.
    Changes,
}

impl Queue {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Events => "/v2/enqueue",
            Self::Changes => "/v2/change/enqueue",
        }
    }
}

/// What is sent, in this order, but for the routing key. What needs somebody triggers the incident of the request, whoever
/// sees to it acknowledges it, the end of that resolves it, and everything else is a change. A key that the service does not
/// know is taken, and nothing comes of it.
pub fn layout(message: &Message) -> Vec<(Queue, Value)> {
    match message.standing {
        Standing::Open => vec![(Queue::Events, alert(message, "trigger"))],
        Standing::Acknowledged => vec![(Queue::Events, known(message, "acknowledge"))],
        Standing::Unchanged => vec![(Queue::Changes, change(message))],
        Standing::Closed => {
            let mut events = vec![(Queue::Events, known(message, "resolve"))];
            if message.about != About::Over {
                events.push((Queue::Changes, change(message)));
            }
            events
        }
    }
}

/// The key of the incident: the same for all messages of a request.
pub fn dedup_key(message: &Message) -> String {
    plain(&incident(message), KEY)
}

/// What becomes of an incident that the service knows.
fn known(message: &Message, action: &str) -> Value {
    json!({"event_action": action, "dedup_key": dedup_key(message)})
}

fn alert(message: &Message, action: &str) -> Value {
    let lay_out = |message: &Message| {
        json!({
            "event_action": action,
            "dedup_key": dedup_key(message),
            "client": "rollback-operator",
            "links": links(message),
            "payload": {
                "summary": plain(&message.title, SUMMARY),
                "source": plain(&format!("{}/{}", message.request.namespace, message.request.name), 255),
                "severity": severity(message.weight),
                "timestamp": message.at.to_string(),
                "component": plain(&message.request.workloads, 255),
                "group": plain(&message.request.namespace, 63),
                "class": message.about.as_str(),
                "custom_details": details(message),
            },
        })
    };
    shrunk(message, lay_out, |event| event.to_string().len() <= WHOLE)
}

fn change(message: &Message) -> Value {
    let lay_out = |message: &Message| {
        json!({
            "links": links(message),
            "payload": {
                "summary": plain(&message.title, SUMMARY),
                "source": plain(&format!("{}/{}", message.request.namespace, message.request.name), 255),
                "timestamp": message.at.to_string(),
                "custom_details": details(message),
            },
        })
    };
    shrunk(message, lay_out, |event| event.to_string().len() <= WHOLE)
}

fn links(message: &Message) -> Vec<Value> {
    let links = message.links.iter();
    links
        .map(|(title, url)| json!({"href": url, "text": plain(title, 100)}))
        .collect()
}
