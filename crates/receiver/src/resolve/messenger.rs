//! Who tells of others: exporters, proxies and agents. The labels of the scraped target are theirs, and they are not what
//! an alert is about.

use std::collections::BTreeMap;

use super::names::is_made_up;

type Labels = BTreeMap<String, String>;

/// What tells of others and serves nobody by itself: never meant, by whatever label.
const EXPORTERS: [&str; 23] = [
    "alertmanager",
    "blackbox-exporter",
    "cadvisor",
    "cloudwatch-exporter",
    "datadog-agent",
    "datadog-cluster-agent",
    "event-exporter",
    "fluent-bit",
    "grafana-agent",
    "grafana-alloy",
    "json-exporter",
    "kube-state-metrics",
    "kubernetes-event-exporter",
    "node-exporter",
    "opentelemetry-collector",
    // Of the operator of OpenTelemetry, in collectors of whatever name.
    "otc-container",
    "otel-collector",
    "prometheus-adapter",
    "prometheus-pushgateway",
    "pushgateway",
    "statsd-exporter",
    "x509-certificate-exporter",
    "yet-another-cloudwatch-exporter",
];

/// What stands before others: its pods are the messenger, and it is meant only where its Deployment is named.
const PROXIES: [&str; 16] = [
    "contour",
    "contour-envoy",
    "emissary-ingress",
    "envoy-gateway",
    "haproxy-ingress",
    "ingress-controller",
    "ingress-nginx",
    "ingress-nginx-controller",
    "istio-ingress",
    "istio-ingressgateway",
    "istio-egressgateway",
    "istio-waypoint",
    "kong-gateway",
    "nginx-ingress",
    "nginx-ingress-controller",
    "traefik",
];

/// The same by the last word of their names: postgres-exporter and its like, and what a release of Kong makes.
const LAST_WORDS: [&str; 2] = ["exporter", "kong"];

/// The same where it is the whole name: what has more words is something else, for example ambassador-api.
const WHOLE_NAMES: [&str; 1] = ["ambassador"];

/// Jobs that tell of pods by labels of the pods' own.
const TELLS_OF_PODS: [&str; 3] = ["kube-state-metrics", "kubelet", "cadvisor"];

/// Whether a name is that of an exporter, alone or with what a release puts around it.
pub fn is_exporter(name: &str) -> bool {
    EXPORTERS.iter().any(|known| has(name, known))
}

fn is_proxy(name: &str) -> bool {
    let name = words(name);
    let stem = stem(&name);
    PROXIES.iter().any(|known| has(&name, known))
        || stem
            .rsplit('-')
            .next()
            .is_some_and(|last| LAST_WORDS.contains(&last))
        || WHOLE_NAMES.contains(&stem)
        || is_data_plane(stem)
}

/// What Envoy Gateway makes for a Gateway: `envoy-NAMESPACE-NAME-` and eight digits of a hash.
fn is_data_plane(stem: &str) -> bool {
    let is_hash = |word: &str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let rest = stem.strip_prefix("envoy-");
    rest.is_some_and(|rest| rest.split('-').skip(2).last().is_some_and(is_hash))
}

/// A name without what was made up for a pod of it: five characters, and before them the hash of its template.
fn stem(name: &str) -> &str {
    let of_pod = name.rsplit_once('-');
    let of_pod = of_pod.filter(|(_, last)| last.len() == 5 && is_made_up(last));
    let Some((of_pod, _)) = of_pod else {
        return name;
    };
    let of_set = of_pod.rsplit_once('-');
    let of_set = of_set.filter(|(_, last)| (6..=10).contains(&last.len()) && is_made_up(last));
    of_set.map_or(of_pod, |(of_set, _)| of_set)
}

/// Whether a name of a workload, or of what it made, is one of those that tell of others.
pub fn is_messenger(name: &str) -> bool {
    is_exporter(name) || is_proxy(name)
}

/// A name as words with hyphens between them.
fn words(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '/', '.'], "-")
}

/// `known` as whole words of the name.
fn has(name: &str, known: &str) -> bool {
    let name = words(name);
    name.match_indices(known).any(|(start, _)| {
        let before = name
            .get(..start)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('-'));
        let after = name
            .get(start + known.len()..)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        before && after
    })
}

/// Whether the label `pod` is that of whoever was scraped, and not of what the alert is about.
pub fn tells_of_others(labels: &Labels, pod: &str) -> bool {
    let says = |key: &str, is: fn(&str) -> bool| labels.get(key).is_some_and(|value| is(value));
    let of_pods = |value: &str| TELLS_OF_PODS.iter().any(|known| has(value, known));
    // Metrics about one pod say its UID, and those about a scraped target do not.
    if is_exporter(pod) || (says("container", is_exporter) && !labels.contains_key("uid")) {
        return true;
    }
    let tells_of_pods = says("job", of_pods) || labels.contains_key("uid");
    if tells_of_pods {
        // A metric of a node, a volume or a Job has the pod of its exporter only.
        let other = [
            "node",
            "persistentvolumeclaim",
            "persistentvolume",
            "job_name",
            "cronjob",
        ];
        let is_other = other.iter().any(|key| labels.contains_key(*key));
        return is_other && !labels.contains_key("container") && !labels.contains_key("uid");
    }
    let target = [
        "job",
        "container",
        "service",
        "app",
        "app_kubernetes_io_name",
    ];
    is_proxy(pod) || target.iter().any(|key| says(key, is_messenger))
}
