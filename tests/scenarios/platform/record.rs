//! What the API server's audit log says of a run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rollback_api::{REQUEST_UID_LABEL, WorkloadKind};
use rollback_core::history::ledger;
use serde_json::Value;
use testkit::Scene;
use testkit::audit::Event;
use testkit::scene::CONTROLLER;

/// What the controller asked for in one namespace.
pub struct Record {
    events: Vec<Event>,
}

/// How many Deployments were at each stage when a status was written.
struct Stand {
    at: Timestamp,
    /// Those with an intent that have not ended.
    under_way: usize,
    /// Those that have ended.
    ended: BTreeSet<String>,
}

impl Record {
    /// Everything so far; `None` without an audit log.
    pub fn of(scene: &Scene) -> Result<Option<Self>> {
        let Some(audit) = scene.cluster.audit() else {
            return Ok(None);
        };
        let mut events = audit.events(scene.ns())?;
        events.retain(|event| event.user == CONTROLLER);
        Ok(Some(Self { events }))
    }

    /// Only what came after this moment.
    pub fn since(mut self, at: Timestamp) -> Self {
        self.events.retain(|event| event.received >= at);
        self
    }

    /// The writes of templates that were carried out, by Deployment.
    pub fn template_writes(&self) -> BTreeMap<&str, Vec<&Event>> {
        let mut writes: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        let written = self
            .events
            .iter()
            .filter(|event| is_deployment_patch(event) && event.succeeded() && !event.is_dry_run());
        for event in written {
            writes.entry(&event.name).or_default().push(event);
        }
        writes
    }

    /// Exactly these were written, and each as often.
    pub fn ensure_written(&self, wanted: &[(&str, usize)]) -> Result<()> {
        let found: BTreeMap<&str, usize> = self
            .template_writes()
            .into_iter()
            .map(|(name, writes)| (name, writes.len()))
            .collect();
        let wanted: BTreeMap<&str, usize> = wanted.iter().copied().collect();
        ensure!(
            found == wanted,
            "expected {wanted:?}, but {found:?} was written"
        );
        Ok(())
    }

    /// The images that were written to one Deployment, in order.
    pub fn images(&self, name: &str) -> Vec<String> {
        let writes = self.template_writes().remove(name).unwrap_or_default();
        writes.into_iter().filter_map(image).collect()
    }

    /// No request was ever seen with more Deployments under way; and so many it was once.
    pub fn ensure_at_most(&self, parallelism: usize) -> Result<()> {
        let most = self.stands().iter().map(|stand| stand.under_way).max();
        ensure!(
            most == Some(parallelism),
            "{most:?} were under way at the same time, not {parallelism}"
        );
        Ok(())
    }

    /// The first of `second` was written after every one of `first` had ended.
    pub fn ensure_order(&self, first: &[&str], second: &[&str]) -> Result<()> {
        let stands = self.stands();
        let over = stands
            .iter()
            .find(|stand| first.iter().all(|name| stand.ended.contains(*name)))
            .context("the first ones never ended")?;
        for name in second {
            for write in self.template_writes().remove(name).unwrap_or_default() {
                ensure!(
                    write.received >= over.at,
                    "{name} was written at {}, before {} when {first:?} had ended",
                    write.received,
                    over.at
                );
            }
        }
        Ok(())
    }

    /// Every write is one that a request with these Deployments needs: nothing else was touched.
    pub fn ensure_only(&self, request: &str, uid: &str, names: &BTreeSet<String>) -> Result<()> {
        // Dry runs write nothing: the plan rehearses, and the guard is tried.
        let written = |event: &&Event| is_write(event) && !event.is_dry_run();
        let ledger_of = |name: &String| ledger::name(WorkloadKind::Deployment, name);
        let ledgers: BTreeSet<String> = names.iter().map(ledger_of).collect();
        for event in self.events.iter().filter(written) {
            let name = named(event);
            let fits = match (event.resource.as_str(), event.verb.as_str()) {
                ("deployments", "patch") => event.subresource.is_empty() && names.contains(&name),
                // Evidence is recorded for all of them, whatever anybody asks for.
                ("revisionledgers", "create" | "update") => {
                    ledgers.contains(&name) || is_evidence(event)
                }
                ("configmaps", "create") => label(event) == uid,
                ("events", "create") => true,
                ("rollbackrequests", "update" | "patch") => name == request,
                _ => false,
            };
            ensure!(fits, "it wrote {event:?}");
        }
        Ok(())
    }

    /// How many requests there were of each sort.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            let dry = if event.is_dry_run() { " (dry run)" } else { "" };
            let what = format!(
                "{} {} {}{dry}",
                event.verb, event.resource, event.subresource
            );
            *counts.entry(what).or_default() += 1;
        }
        counts
    }

    /// What each committed status says.
    fn stands(&self) -> Vec<Stand> {
        self.events
            .iter()
            .filter(|event| event.resource == "rollbackrequests" && event.subresource == "status")
            .filter(|event| event.succeeded())
            .filter_map(stand)
            .collect()
    }
}

/// The write of a ledger that has no claim in it and knows of no rollback.
fn is_evidence(event: &Event) -> bool {
    let spec = event.request_object.as_ref().map(|object| &object["spec"]);
    spec.is_some_and(|spec| spec.get("claim").is_none() && spec.get("rollbacks").is_none())
}

fn stand(event: &Event) -> Option<Stand> {
    let targets = event.request_object.as_ref()?.pointer("/status/targets")?;
    let targets = targets.as_array()?;
    let ended = |target: &&Value| target.get("outcome").is_some();
    let under_way = targets
        .iter()
        .filter(|target| target.get("revert").is_some() && !ended(target))
        .count();
    let ended = targets
        .iter()
        .filter(ended)
        .filter_map(|target| Some(target.get("name")?.as_str()?.to_owned()))
        .collect();
    Some(Stand {
        at: event.received,
        under_way,
        ended,
    })
}

fn is_write(event: &Event) -> bool {
    !["get", "list", "watch"].contains(&event.verb.as_str())
}

fn is_deployment_patch(event: &Event) -> bool {
    event.verb == "patch" && event.resource == "deployments" && event.subresource.is_empty()
}

/// The name in the path, or the one in what was created.
fn named(event: &Event) -> String {
    let body = || event.request_object.as_ref()?.pointer("/metadata/name");
    if event.name.is_empty() {
        body()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    } else {
        event.name.clone()
    }
}

/// The request that a ConfigMap says it is of.
fn label(event: &Event) -> String {
    let labels = || event.request_object.as_ref()?.pointer("/metadata/labels");
    let label = labels().and_then(|labels| labels.get(REQUEST_UID_LABEL)?.as_str());
    label.unwrap_or_default().to_owned()
}

/// The tag of the image in a template patch.
fn image(event: &Event) -> Option<String> {
    let operations = event.request_object.as_ref()?.as_array()?;
    let template = operations
        .iter()
        .find(|operation| operation["path"] == "/spec/template")?;
    let image = template.pointer("/value/spec/containers/0/image")?;
    Some(image.as_str()?.rsplit(':').next()?.to_owned())
}
