//! Events of Flux's notification controller, by a Provider of type `generic-hmac`.
//!
//! Severity `error` fires where the reason is about what runs; `info` is not answered, and neither is what went wrong before
//! anything was deployed. Where the message names the Deployments that are not well, it is about those. The event is about a Flux object, not a Deployment: its namespace, name
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
    Ok(alerts(event.read()))
}

/// Reasons that are about what runs: it was deployed, and is not well.
const ABOUT_PODS: [&str; 4] = [
    "HealthCheckFailed",
    "InstallFailed",
    "TestFailed",
    "UpgradeFailed",
];
/// Those of Helm, which says the same when nothing was deployed at all.
const OF_HELM: [&str; 2] = ["InstallFailed", "UpgradeFailed"];
/// What Helm says after it has waited for pods.
const WAITED: [&str; 5] = [
    "timed out",
    "timeout",
    "context deadline exceeded",
    "not ready",
    "failed to become",
];
/// What is said when it did not get as far as that.
const NOT_REACHED: [&str; 6] = [
    "unreachable",
    "dial tcp",
    "i/o timeout",
    "handshake timeout",
    "failed calling webhook",
    "failed to download",
];

/// Whether Helm has waited in vain for what it deployed.
fn has_waited(message: &str) -> bool {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    says(&WAITED) && !says(&NOT_REACHED)
}

/// What else has pods, and is not rolled back here.
const OTHER_PODS: [&str; 6] = [
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "CronJob",
    "Job",
    "Pod",
];
/// Most Deployments of one message.
const MOST_NAMED: usize = 20;

/// What a message says of objects that are not well, as namespace and name of each Deployment, and the first of anything
/// else that has pods. Flux writes `Deployment/shop/api`, and wrote `deployments.apps 'shop/api'`.
fn named(message: &str) -> (Vec<(String, String)>, Option<String>) {
    let mut deployments = Vec::new();
    let mut other = None;
    let mut is_old_form = false;
    let is_part = |char: char| char.is_ascii_alphanumeric() || "-./".contains(char);
    for word in message
        .split(|char| !is_part(char))
        .filter(|word| !word.is_empty())
    {
        let parts: Vec<&str> = word.split('/').collect();
        let found = match parts.as_slice() {
            ["Deployment", namespace, name] => Some((*namespace, *name)),
            [namespace, name] if is_old_form => Some((*namespace, *name)),
            [kind, _, _] if OTHER_PODS.contains(kind) => {
                other = other.or_else(|| Some(text::short(word)));
                None
            }
            _ => None,
        };
        is_old_form = word == "deployments.apps";
        let found = found.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        deployments.extend(found.filter(|found| !deployments.contains(found)));
        if deployments.len() == MOST_NAMED {
            break;
        }
    }
    (deployments, other)
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
    /// One alert, or one for each Deployment that the message names.
    fn read(self) -> Vec<Alert> {
        let message = self.message.clone().unwrap_or_default().0;
        let (named, other) = named(&message);
        let mut alert = self.alert();
        let may_be_nothing = OF_HELM.contains(&alert.name.as_str());
        let is_nothing = may_be_nothing && other.is_none() && !has_waited(&message);
        if named.is_empty() {
            if alert.state == State::Firing && is_nothing {
                alert.state = ignored(
                    "nothing was deployed: its message names no workload, and does not say that one was waited for",
                );
            }
            if let (State::Firing, Some(other)) = (&alert.state, other) {
                let why =
                    format!("what is not well is {other}, and only Deployments are rolled back");
                alert.state = State::Ignored(why);
            }
            return vec![alert];
        }
        let said = |key: &str| alert.labels.get(key);
        // Of several, the one that the Alert of Flux is about.
        let is_meant = |(namespace, name): &&(String, String)| {
            said("rollback_deployment") == Some(name)
                && said("rollback_namespace").is_none_or(|said| said == namespace)
        };
        let meant = named.iter().find(is_meant).cloned();
        let meant = meant.map_or(named, |meant| vec![meant]);
        let several = meant.len() > 1;
        let of = |(namespace, name): (String, String)| {
            let mut one = alert.clone();
            if several {
                one.id = text::identity(&[&alert.id, &namespace, &name]);
            }
            one.labels
                .insert("rollback_namespace".to_owned(), namespace);
            one.labels.insert("rollback_deployment".to_owned(), name);
            while one.labels.len() > Alert::LABELS {
                one.labels.pop_first();
            }
            one
        };
        meant.into_iter().map(of).collect()
    }

    fn alert(self) -> Alert {
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
                "error" if ABOUT_PODS.contains(&reason.as_str()) => State::Firing,
                "error" => ignored("nothing was deployed: its reason is not about what runs"),
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
            pending_seconds: None,
            is_repeat: false,
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
