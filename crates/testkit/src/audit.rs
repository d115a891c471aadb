//! The API server's own record of what has happened.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The audit log of a cluster: every write, and every read of a `ServiceAccount` outside of
/// `kube-system`. Requests that are still under way (watches) are not in it yet.
#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
}

/// One answered request.
#[derive(Clone, Debug)]
pub struct Event {
    /// What was asked for: `create`, `patch`, `get`, ...
    pub verb: String,
    /// Who asked.
    pub user: String,
    /// Which credential the asker showed; two tokens of one `ServiceAccount` differ in this.
    pub credential: String,
    /// On whose behalf, when the asker impersonated somebody.
    pub impersonated: Option<String>,
    /// What the program called itself.
    pub user_agent: String,
    /// The path and the query of the request.
    pub uri: String,
    /// The plural of the kind, such as `deployments`.
    pub resource: String,
    /// The subresource, such as `status`; empty when there is none.
    pub subresource: String,
    /// The namespace; empty when the kind has none.
    pub namespace: String,
    /// The name; empty for lists and generated names.
    pub name: String,
    /// The HTTP status that was answered.
    pub code: u16,
    /// When the request came in.
    pub received: Timestamp,
    /// When it was answered.
    pub answered: Timestamp,
    /// The body, kept for Deployments, for this project's own kinds and for created `ConfigMap`s.
    pub request_object: Option<Value>,
}

impl Event {
    /// Whether the request did what it asked for.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether the request only tried out what would happen.
    pub fn is_dry_run(&self) -> bool {
        self.uri.contains("dryRun=All")
    }
}

impl Audit {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What happened in a namespace so far, oldest answer first.
    pub fn events(&self, namespace: &str) -> Result<Vec<Event>> {
        // Looking for the text first spares the parsing of all other tests' lines.
        self.matching(&[&format!("\"namespace\":\"{namespace}\"")], |event| {
            event.namespace == namespace
        })
    }

    /// What a user (of any name, also a `ServiceAccount`'s) asked for so far, in all namespaces.
    pub fn events_of_user(&self, user: &str) -> Result<Vec<Event>> {
        self.matching(&[&format!("\"username\":\"{user}\"")], |event| {
            event.user == user
        })
    }

    /// The patches of a Deployment itself (not of its status or scale) that were carried out.
    pub fn deployment_patches(&self, namespace: &str, name: &str) -> Result<Vec<Event>> {
        let needles = [
            &*format!("\"namespace\":\"{namespace}\""),
            "\"verb\":\"patch\"",
            "\"resource\":\"deployments\"",
        ];
        self.matching(&needles, |event| {
            event.namespace == namespace
                && event.verb == "patch"
                && event.resource == "deployments"
                && event.subresource.is_empty()
                && event.name == name
                && event.succeeded()
                && !event.is_dry_run()
        })
    }

    fn matching(&self, needles: &[&str], keep: impl Fn(&Event) -> bool) -> Result<Vec<Event>> {
        let file = File::open(&self.path).context("no audit log")?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut events = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            // A line without its end is still being written.
            if line.ends_with('\n') && needles.iter().all(|needle| line.contains(needle)) {
                let event = Event::from(serde_json::from_str::<Line>(&line)?);
                if keep(&event) {
                    events.push(event);
                }
            }
            line.clear();
        }
        Ok(events)
    }
}

/// One line as the API server writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: Who,
    impersonated_user: Option<Who>,
    #[serde(default)]
    user_agent: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    object_ref: Option<Reference>,
    response_status: Option<Answer>,
    request_object: Option<Value>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct Who {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

impl Who {
    fn credential(&self) -> String {
        let ids = self.extra.get("authentication.kubernetes.io/credential-id");
        ids.and_then(|ids| ids.first()).cloned().unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    code: u16,
}

impl From<Line> for Event {
    fn from(line: Line) -> Self {
        let object = line.object_ref.unwrap_or_default();
        Self {
            verb: line.verb,
            credential: line.user.credential(),
            user: line.user.username,
            impersonated: line.impersonated_user.map(|who| who.username),
            user_agent: line.user_agent,
            uri: line.request_uri,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: line.response_status.map_or(0, |answer| answer.code),
            received: line.request_received_timestamp,
            answered: line.stage_timestamp,
            request_object: line.request_object,
        }
    }
}
