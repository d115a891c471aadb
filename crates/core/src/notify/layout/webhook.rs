//! A program of yours: a `CloudEvent` 1.0 in JSON, structured.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use serde_json::{Value, json};

use super::{severity, shrunk};
use crate::notify::Message;

/// How the content type is called.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// Largest event, in bytes: what every intermediary of `CloudEvents` has to pass on.
const WHOLE: usize = 64 * 1024;

/// The event. Its `id` is the same for the same message.
pub fn layout(message: &Message) -> Value {
    shrunk(message, lay_out, |event| event.to_string().len() <= WHOLE)
}

fn lay_out(message: &Message) -> Value {
    let request = &message.request;
    let facts = message.facts.iter();
    let facts: Vec<Value> = facts
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let links = message.links.iter();
    let links: Vec<Value> = links
        .map(|(title, url)| json!({"title": title, "url": url}))
        .collect();
    let todo = message.todo.as_ref();
    json!({
        "specversion": "1.0",
        "id": message.identity(),
        "source": format!("/namespaces/{}/rollbackrequests/{}", request.namespace, request.name),
        "type": format!("com.broxiva.rollback.{}.v1", message.about.as_str().to_lowercase()),
        "subject": request.name,
        "time": message.at.to_string(),
        "datacontenttype": "application/json",
        "data": {
            "namespace": request.namespace,
            "request": request.name,
            "uid": request.uid,
            "workloads": request.workloads,
            "category": request.category,
            "urgency": request.urgency,
            "result": request.result,
            "severity": severity(message.weight),
            "title": message.title,
            "text": message.text,
            "facts": facts,
            "todo": todo.map(|todo| json!({"what": todo.what, "command": todo.command})),
            "links": links,
        },
    })
}
