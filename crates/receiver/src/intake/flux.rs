//! Events of Flux's notification controller, by a Provider of type `generic-hmac`.
//!
//! Severity `error` fires; `info` is not answered. The event is about a Flux object, not a Deployment: its namespace, name
//! and kind are the labels `namespace`, `name` and `kind`, and what the `eventMetadata` of the Flux Alert says is added as
//! it is, so that `rollback_namespace` and `rollback_deployment` can be set there. It is known by the object, the revision
//! and the reason.

use serde::Deserialize;

use super::labels::Labels;
use super::text::{self, Key, Text, When};
use super::{
    After, Description, Format, Hmac, Proof, Signed, Unreadable, alerts, first, ignored, json,
};
use crate::alert::{Alert, Delivery, State};
use crate::signature;

pub(super) const FORMAT: Description = Description {
    remedy: "send events by a Flux Provider of type generic-hmac",
    read,
    proof: Proof::Hmac(Hmac {
        header: "X-Signature",
        can_be_renamed: false,
        signed: Signed::Body(signature::flux),
    }),
    content_types: &[],
    comes_again: After::ServiceUnavailable,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let event: Event = json(Format::Flux, body)?;
    Ok(alerts(vec![event.read()]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Event {
    involved_object: Object,
    severity: Text,
    timestamp: When,
    message: Option<Text>,
    reason: Key,
    metadata: Option<Labels>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Object {
    kind: Key,
    namespace: Key,
    name: Key,
    uid: Option<Key>,
}

impl Event {
    fn read(self) -> Alert {
        let object = self.involved_object;
        let mut labels = self.metadata.unwrap_or_default();
        let revision = labels.revision().unwrap_or_default();
        labels.set("namespace", &object.namespace.0);
        labels.set("name", &object.name.0);
        labels.set("kind", &object.kind.0);
        let uid = object.uid.map_or_else(String::new, |uid| uid.0);
        let reason = self.reason.0;
        Alert {
            state: match self.severity.0.as_str() {
                "error" => State::Firing,
                "info" => ignored("the event is for information only"),
                _other => ignored("its severity is not error"),
            },
            id: text::identity(&[
                &object.kind.0,
                &object.namespace.0,
                &object.name.0,
                &uid,
                &revision,
                &reason,
            ]),
            summary: first([self.message]).unwrap_or_else(|| reason.clone()),
            name: reason,
            severity: Some(self.severity.0),
            started_at: Some(self.timestamp.0),
            labels: labels.done(),
            links: Vec::new(),
        }
    }
}

impl Labels {
    /// The revision that the controller was about: each writes it under its own group, or under none.
    fn revision(&self) -> Option<String> {
        let mut named = self
            .names()
            .filter(|name| *name == "revision" || name.ends_with(".toolkit.fluxcd.io/revision"));
        named.find_map(|name| self.get(name)).map(str::to_owned)
    }
}
