//! What an alert is about, as far as its labels say.

use std::collections::BTreeMap;

use crate::config::Source;

use super::names::{is_label, is_subdomain};

type Labels = BTreeMap<String, String>;

/// Labels of the scraped target are those of the exporter where it tells of others: then what it tells has this prefix.
const EXPORTED: &str = "exported_";
/// An exporter that tells of everybody and is never meant itself.
const EXPORTER: &str = "kube-state-metrics";

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A Deployment.
    Deployment {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A pod, and so the Deployment that it belongs to.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl About {
    /// Where it is.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Deployment { namespace, .. } | Self::Pod { namespace, .. } => namespace,
        }
    }
}

/// What an alert with these labels is about: what it says itself with labels that are ours, then its usual labels, then
/// what the configuration says. Otherwise why it is about nothing.
pub fn about(source: &Source, labels: &Labels) -> Result<About, String> {
    if labels.contains_key(NAMESPACE) || labels.contains_key(DEPLOYMENT) {
        return ours(labels);
    }
    if let Some(about) = usual(labels)? {
        return Ok(about);
    }
    let mapped = source.mapping.iter().find(|mapping| {
        let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        mapping.labels.iter().all(has)
    });
    match mapped {
        Some(mapping) => Ok(About::Deployment {
            namespace: mapping.namespace.clone(),
            name: mapping.deployment.clone(),
        }),
        None => Err(format!(
            "no label says which Deployment it is about: add the labels namespace and deployment (or pod), or {NAMESPACE} \
             and {DEPLOYMENT}, or an entry under mapping of the source"
        )),
    }
}

const NAMESPACE: &str = "rollback_namespace";
const DEPLOYMENT: &str = "rollback_deployment";

fn ours(labels: &Labels) -> Result<About, String> {
    let namespace = value(labels, NAMESPACE).or_else(|| told(labels, "namespace"));
    let Some(namespace) = namespace else {
        return Err(format!("it has the label {DEPLOYMENT} and no namespace"));
    };
    let name = value(labels, DEPLOYMENT).or_else(|| told(labels, "deployment"));
    match name {
        Some(name) => deployment(namespace, name),
        None => Err(format!("it has the label {NAMESPACE} and no {DEPLOYMENT}")),
    }
}

fn usual(labels: &Labels) -> Result<Option<About>, String> {
    let Some(namespace) = told(labels, "namespace") else {
        return Ok(None);
    };
    if let Some(name) = told(labels, "deployment") {
        return deployment(namespace, name).map(Some);
    }
    let Some(name) = told(labels, "pod") else {
        return Ok(None);
    };
    check("namespace", namespace, is_label)?;
    check("pod", name, is_subdomain)?;
    Ok(Some(About::Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }))
}

fn deployment(namespace: &str, name: &str) -> Result<About, String> {
    check("namespace", namespace, is_label)?;
    check("Deployment", name, is_subdomain)?;
    Ok(About::Deployment {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn check(what: &str, name: &str, is_name: impl Fn(&str) -> bool) -> Result<(), String> {
    if is_name(name) {
        return Ok(());
    }
    let name = rollback_core::message::text::plain(name, 60);
    Err(format!(
        "its label says \"{name}\", and no {what} has such a name"
    ))
}

/// A label that an exporter may tell of somebody else.
fn told<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    value(labels, &format!("{EXPORTED}{key}")).or_else(|| value(labels, key))
}

fn value<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    let value = labels.get(key)?.trim();
    (!value.is_empty() && !value.contains(EXPORTER)).then_some(value)
}
