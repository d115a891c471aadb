//! What an alert is about, as far as its labels say: first what somebody has written down for it, then what its labels
//! tell. Who scraped is the messenger, and never meant.

use std::collections::BTreeMap;

use crate::config::Source;

use super::messenger::{is_exporter, is_messenger, tells_of_others};
use super::names::{is_label, is_subdomain};

type Labels = BTreeMap<String, String>;

/// Labels of the scraped target are those of the exporter where it tells of others: then what it tells has this prefix.
const EXPORTED: &str = "exported_";

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

/// Labels by which one kind of sender says what something is about: those of one row belong together.
struct Row {
    namespace: &'static str,
    deployment: Option<&'static str>,
    pod: Option<&'static str>,
    /// Label with the kind of what `deployment` names, where it may be something else.
    kind: Option<&'static str>,
}

const fn row(namespace: &'static str, deployment: &'static str, pod: &'static str) -> Row {
    Row {
        namespace,
        deployment: Some(deployment),
        pod: Some(pod),
        kind: None,
    }
}

const fn workload(namespace: &'static str, deployment: &'static str, kind: &'static str) -> Row {
    Row {
        namespace,
        deployment: Some(deployment),
        pod: None,
        kind: Some(kind),
    }
}

const fn deployment_only(namespace: &'static str, deployment: &'static str) -> Row {
    Row {
        namespace,
        deployment: Some(deployment),
        pod: None,
        kind: None,
    }
}

/// Rows that name what is meant even where the usual labels are those of whoever scraped.
const SPOKEN: [Row; 12] = [
    // OpenTelemetry, as Prometheus writes it, and as it is.
    row("k8s_namespace_name", "k8s_deployment_name", "k8s_pod_name"),
    row("k8s.namespace.name", "k8s.deployment.name", "k8s.pod.name"),
    // Istio: the client may have reported it, and then the usual labels are the client's.
    deployment_only("destination_workload_namespace", "destination_workload"),
    // Linkerd, of requests that go out.
    row("dst_namespace", "dst_deployment", "dst_pod"),
    // Agents of Datadog, New Relic, Dynatrace, and of Google's and Amazon's clouds.
    row("kube_namespace", "kube_deployment", "pod_name"),
    row("namespaceName", "deploymentName", "podName"),
    workload(
        "k8s.namespace.name",
        "k8s.workload.name",
        "k8s.workload.kind",
    ),
    workload(
        "k8s_namespace_name",
        "k8s_workload_name",
        "k8s_workload_kind",
    ),
    workload(
        "namespace_name",
        "top_level_controller_name",
        "top_level_controller_type",
    ),
    row("namespace_name", "deployment_name", "pod_name"),
    deployment_only("K8s.Namespace", "K8s.Workload"),
    // Container Insights of Amazon: what it calls the pod is the workload.
    Row {
        namespace: "Namespace",
        deployment: Some("PodName"),
        pod: Some("FullPodName"),
        kind: None,
    },
];

/// Rows after the usual labels.
const AFTER: [Row; 3] = [
    workload("namespace", "workload", "workload_type"),
    // What annotations of pods were made into, before the labels had their present names.
    Row {
        namespace: "namespace",
        deployment: None,
        pod: Some("pod_name"),
        kind: None,
    },
    Row {
        namespace: "kubernetes_namespace",
        deployment: None,
        pod: Some("kubernetes_pod_name"),
        kind: None,
    },
];

/// What an alert with these labels may be about, the best first: what does not lead to a Deployment lets the next one
/// speak. What an administrator or the author of the rule has written down stands alone. Otherwise why it is about
/// nothing.
pub fn about(source: &Source, labels: &Labels) -> Result<Vec<About>, String> {
    if let Some(about) = ours(labels).or_else(|| mapped(source, labels)) {
        return Ok(vec![about]);
    }
    // Who says by a label of ours that something else is meant does not mean what the usual labels say.
    if labels.contains_key(NAMESPACE) || labels.contains_key(DEPLOYMENT) {
        return Err(nothing(labels));
    }
    let mut found: Vec<About> = Vec::new();
    let is_told = |_: &str| true;
    let is_own = |pod: &str| !tells_of_others(labels, pod);
    let rows = SPOKEN.iter().flat_map(|row| row.read(labels, is_told));
    let after = AFTER.iter().flat_map(|row| row.read(labels, is_own));
    let of_scraped = usual(labels).into_iter().chain(after).chain(named(labels));
    let is_of_client = is_of_client(labels);
    for about in rows.chain(of_scraped.filter(|_| !is_of_client)) {
        if !found.contains(&about) {
            found.push(about);
        }
    }
    if found.is_empty() {
        return Err(nothing(labels));
    }
    Ok(found)
}

const NAMESPACE: &str = "rollback_namespace";
const DEPLOYMENT: &str = "rollback_deployment";

/// What labels that are ours say. Either may be left out when the usual one says the same.
fn ours(labels: &Labels) -> Option<About> {
    if !labels.contains_key(NAMESPACE) && !labels.contains_key(DEPLOYMENT) {
        return None;
    }
    let either = |ours: &str, usual: &str, is_name: fn(&str) -> bool| {
        if labels.contains_key(ours) {
            value(labels, ours, is_name)
        } else {
            told(labels, usual, is_name)
        }
    };
    let namespace = either(NAMESPACE, "namespace", is_label)?;
    let name = either(DEPLOYMENT, "deployment", is_subdomain)?;
    Some(deployment(namespace, name))
}

/// The one pod that an alert is about, if it is about one.
pub fn pod_of(labels: &Labels) -> Option<&str> {
    let exported = format!("{EXPORTED}pod");
    let key = |key: &str| value(labels, key, is_subdomain);
    let own = || {
        let pod = key("pod")
            .or_else(|| key("pod_name"))
            .or_else(|| key("kubernetes_pod_name"))?;
        let is_other = is_of_client(labels) || tells_of_others(labels, pod);
        (!labels.contains_key(&exported) && !is_other).then_some(pod)
    };
    key(&exported)
        .or_else(|| key("k8s_pod_name"))
        .or_else(|| key("k8s.pod.name"))
        .or_else(own)
}

fn mapped(source: &Source, labels: &Labels) -> Option<About> {
    let fits = source.mapping.iter().find(|mapping| {
        let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        mapping.labels.iter().all(has)
    })?;
    Some(deployment(&fits.namespace, &fits.deployment))
}

/// Whether the client in a mesh tells of a request that it made: the usual labels are its own, and what answered is
/// named by others, or by none.
fn is_of_client(labels: &Labels) -> bool {
    let says = |key: &str, value: &str| labels.get(key).is_some_and(|said| said.trim() == value);
    let names_other =
        |key: &String| key.starts_with("destination_workload") || key.starts_with("dst_");
    says("reporter", "source") || says("direction", "outbound") || labels.keys().any(names_other)
}

/// The label that Kubernetes recommends: many a Deployment has that name. Of who is scraped it tells of nobody else,
/// and a proxy has it as well as what stands behind.
fn named(labels: &Labels) -> Option<About> {
    const NAME: &str = "app_kubernetes_io_name";
    if labels.contains_key("exported_namespace") {
        return None;
    }
    let namespace = value(labels, "namespace", is_label)?;
    let name = value(labels, NAME, is_subdomain)?;
    let is_other = is_messenger(name) || tells_of_others(labels, name);
    (!is_other).then(|| deployment(namespace, name))
}

/// The usual labels. As soon as the namespace is told as that of somebody else, so must the pod be: otherwise it is that of
/// whoever tells.
fn usual(labels: &Labels) -> Vec<About> {
    let Some(namespace) = told(labels, "namespace", is_label) else {
        return Vec::new();
    };
    let exported = |key: &str| format!("{EXPORTED}{key}");
    let has_exported = labels.contains_key(&exported("namespace"));
    let name = told(labels, "deployment", is_subdomain).map(|name| deployment(namespace, name));
    let exported_pod = value(labels, &exported("pod"), is_subdomain);
    let own_pod = || {
        let pod = value(labels, "pod", is_subdomain)?;
        (!has_exported && !tells_of_others(labels, pod)).then_some(pod)
    };
    let pod = exported_pod
        .or_else(own_pod)
        .map(|name| pod(namespace, name));
    name.into_iter().chain(pod).collect()
}

impl Row {
    /// `is_meant`: whether a pod of this name can be what the alert is about.
    fn read(&self, labels: &Labels, is_meant: impl Fn(&str) -> bool) -> Vec<About> {
        let Some(namespace) = value(labels, self.namespace, is_label) else {
            return Vec::new();
        };
        let is_deployment = |kind: &str| {
            let said = labels.get(kind);
            said.is_none_or(|said| said.eq_ignore_ascii_case("deployment"))
        };
        // Who has no name in a mesh is called that.
        let known = |name: &&str| *name != "unknown";
        let name = self
            .deployment
            .filter(|_| self.kind.is_none_or(is_deployment));
        let name = name.and_then(|key| value(labels, key, is_subdomain));
        let name = name.filter(known).map(|name| deployment(namespace, name));
        let pod_name = self.pod.and_then(|key| value(labels, key, is_subdomain));
        let pod = pod_name
            .filter(|name| is_meant(name))
            .map(|name| pod(namespace, name));
        name.into_iter().chain(pod).collect()
    }
}

fn deployment(namespace: &str, name: &str) -> About {
    About::Deployment {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn pod(namespace: &str, name: &str) -> About {
    About::Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Why an alert is about nothing, and what to do.
fn nothing(labels: &Labels) -> String {
    let remedy = format!(
        "add the labels namespace and deployment (or pod), or {NAMESPACE} and {DEPLOYMENT}, or an entry under mapping of \
         the source"
    );
    let shown = |text: &str| rollback_core::message::text::plain(text, 60);
    let no_name = [
        "rollback_namespace",
        "rollback_deployment",
        "namespace",
        "deployment",
        "pod",
    ];
    let wrong = no_name.iter().find_map(|key| {
        let value = labels.get(*key)?.trim();
        (!value.is_empty() && !is_subdomain(value)).then(|| (key, shown(value)))
    });
    if let Some((key, value)) = wrong {
        return format!("its label {key} says \"{value}\", and nothing has such a name: {remedy}");
    }
    if is_of_client(labels) {
        return format!(
            "a client tells of what it asked, and no label says which Deployment that was: {remedy}"
        );
    }
    match labels.get("pod") {
        Some(pod) if is_exporter(pod) || tells_of_others(labels, pod) => {
            let pod = shown(pod);
            format!("the pod {pod} tells of others and is not what it is about: {remedy}")
        }
        Some(_) | None => format!("no label says which Deployment it is about: {remedy}"),
    }
}

/// A label that an exporter may tell of somebody else.
fn told<'a>(labels: &'a Labels, key: &str, is_name: fn(&str) -> bool) -> Option<&'a str> {
    let exported = format!("{EXPORTED}{key}");
    let key = if labels.contains_key(&exported) {
        &exported
    } else {
        key
    };
    value(labels, key, is_name)
}

/// The value of a label that can be a name, and is not that of an exporter.
fn value<'a>(labels: &'a Labels, key: &str, is_name: fn(&str) -> bool) -> Option<&'a str> {
    let value = labels.get(key)?.trim();
    // A namespace may be called after what runs in it.
    let is_other = !key.to_ascii_lowercase().contains("namespace") && is_exporter(value);
    (is_name(value) && !is_other).then_some(value)
}
