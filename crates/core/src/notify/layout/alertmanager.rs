//! Alertmanager, `POST /api/v2/alerts`: one alert for each request. Its labels are what it is known by, so they are the same
//! from the first message to the last.
//! <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{details, shrunk};
use crate::message::text::plain;
use crate::notify::{Message, Standing};
use rollback_api::request::Urgency;

/// For how long an alert stands when nothing more is heard of it: it is sent again long before, as Prometheus does, so that an
/// Alertmanager that was restarted knows it, and that it ends when we do.
const STANDS: SignedDuration = SignedDuration::from_mins(15);
/// The same of a request that has ended, of which nothing more is heard.
const STANDS_AFTER_END: SignedDuration = SignedDuration::from_hours(12);
/// Largest body, in bytes. Alertmanager has no limit of its own.
const WHOLE: usize = 64 * 1024;

/// The body of the POST; none for what neither begins nor ends the alert.
pub fn layout(message: &Message, now: Timestamp) -> Option<Value> {
    let (starts, ends) = match message.standing {
        Standing::Open => {
            let has_ended = message.request.result.is_some();
            let stands = if has_ended { STANDS_AFTER_END } else { STANDS };
            (message.at, now.checked_add(stands).unwrap_or(now))
        }
        Standing::Closed => (message.at.min(now), now),
        Standing::Acknowledged | Standing::Unchanged => return None,
    };
    let lay_out = |message: &Message| {
        let link = message.links.first();
        let mut alert = json!({
            "labels": labels(message),
            "annotations": annotations(message),
            "startsAt": starts.to_string(),
            "endsAt": ends.to_string(),
        });
        if let Some((_, url)) = link {
            alert["generatorURL"] = json!(url);
        }
        json!([alert])
    };
    Some(shrunk(message, lay_out, |body| {
        body.to_string().len() <= WHOLE
    }))
}

fn labels(message: &Message) -> Value {
    let request = &message.request;
    json!({
        "alertname": "RollbackNeedsPerson",
        "severity": match request.urgency {
            Urgency::Immediate | Urgency::Critical | Urgency::High => "critical",
            Urgency::Medium | Urgency::Low => "warning",
        },
        "namespace": plain(&request.namespace, 63),
        "request": plain(&request.name, 253),
        "request_uid": plain(&request.uid, 63),
    })
}

fn annotations(message: &Message) -> Value {
    let mut annotations = Map::new();
    annotations.insert("summary".to_owned(), json!(message.title));
    annotations.insert("description".to_owned(), json!(message.text.join("\n")));
    for (name, value) in details(message) {
        let Some(value) = value.as_str() else {
            continue;
        };
        let name = name
            .to_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        annotations.insert(name, json!(value));
    }
    Value::Object(annotations)
}
