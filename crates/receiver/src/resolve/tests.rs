use serde_json::json;

use super::about::about;
use super::*;
use crate::config::Source;

fn source() -> Source {
    let source = json!({
        "name": "prometheus", "format": "alertmanager", "namespaces": ["*"],
        "auth": {"bearer": {"usernames": ["a"]}},
        "mapping": [
            {"labels": {"service": "shop", "stage": "production"}, "namespace": "shop", "deployment": "api"},
            {"labels": {"service": "shop"}, "namespace": "shop-test", "deployment": "api"},
        ],
    });
    serde_json::from_value(source).unwrap()
}

fn found(labels: &[(&str, &str)]) -> Result<String, String> {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    about(&source(), &labels).map(|abouts| {
        let shown = abouts.into_iter().map(|about| match about {
            About::Deployment { namespace, name } => format!("{namespace}/{name}"),
            About::Pod { namespace, name } => format!("{namespace}/{name} (pod)"),
        });
        shown.collect::<Vec<_>>().join(", ")
    })
}

#[test]
fn labels_say_what_an_alert_is_about() {
    for (labels, expected) in [
        (&[("namespace", "a"), ("deployment", "b")][..], "a/b"),
        (
            &[("namespace", "a"), ("deployment", "b"), ("pod", "c")],
            "a/b, a/c (pod)",
        ),
        (&[("namespace", "a"), ("pod", "c")], "a/c (pod)"),
        (
            &[
                ("namespace", "m"),
                ("exported_namespace", "a"),
                ("pod", "x"),
                ("exported_pod", "c"),
            ],
            "a/c (pod)",
        ),
        // What an exporter says of itself is not meant.
        (
            &[
                ("namespace", "a"),
                ("deployment", "kube-state-metrics"),
                ("pod", "c"),
            ],
            "a/c (pod)",
        ),
        // Labels of ours go first, and may leave out what the usual ones say.
        (
            &[
                ("namespace", "m"),
                ("deployment", "n"),
                ("rollback_namespace", "a"),
                ("rollback_deployment", "b"),
            ],
            "a/b",
        ),
        (&[("namespace", "a"), ("rollback_deployment", "b")], "a/b"),
        // The configuration comes next, and of it what fits first.
        (&[("service", "shop"), ("stage", "production")], "shop/api"),
        (&[("service", "shop"), ("stage", "other")], "shop-test/api"),
        (
            &[("service", "shop"), ("namespace", "a"), ("deployment", "b")],
            "shop-test/api",
        ),
    ] {
        assert_eq!(found(labels).as_deref(), Ok(expected), "{labels:?}");
    }
}

#[test]
fn what_is_no_name_is_nothing() {
    for labels in [
        &[][..],
        &[("namespace", "a")],
        &[("deployment", "b")],
        &[("pod", "b"), ("service", "other")],
        &[
            ("namespace", "{{ $labels.namespace }}"),
            ("deployment", "b"),
        ],
        &[
            ("namespace", "a"),
            ("deployment", "{{ $labels.deployment }}"),
        ],
        &[("namespace", "a"), ("deployment", "../../secrets")],
        &[("namespace", "a/b"), ("deployment", "b")],
        &[("namespace", "a.b"), ("deployment", "b")],
        &[("namespace", "a"), ("pod", "Pod")],
        &[("namespace", "a"), ("deployment", "b?watch=true")],
        &[("rollback_namespace", "a")],
        &[("rollback_deployment", "b")],
        &[("rollback_deployment", ""), ("namespace", "a")],
        &[
            ("rollback_deployment", "{{ $labels.deployment }}"),
            ("namespace", "a"),
            ("deployment", "b"),
        ],
    ] {
        let found = found(labels);
        assert!(found.is_err(), "{labels:?} is {found:?}");
    }
}

/// A source of a cluster with an ingress controller.
fn of_ingress() -> Source {
    let source = json!({
        "name": "prometheus", "format": "alertmanager", "namespaces": ["*"],
        "auth": {"bearer": {"usernames": ["a"]}},
        "mapping": [
            {"labels": {"ingress": "api"}, "namespace": "shop", "deployment": "api"},
            {"labels": {"service": "shop"}, "namespace": "shop", "deployment": "api"},
        ],
    });
    serde_json::from_value(source).unwrap()
}

/// Labels as `key=value`, parted by commas.
fn labelled(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(", ").filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn shown(source: &Source, labels: &str) -> String {
    let shown = |about| match about {
        About::Deployment { namespace, name } => format!("{namespace}/{name}"),
        About::Pod { namespace, name } => format!("{namespace}/{name} (pod)"),
    };
    match about(source, &labelled(labels)) {
        Ok(abouts) => abouts.into_iter().map(shown).collect::<Vec<_>>().join(", "),
        Err(why) => why,
    }
}

#[test]
fn a1_what_the_administrator_wrote_goes_first() {
    for labels in [
        "exported_namespace=shop, exported_service=api, ingress=api, namespace=ingress-nginx, pod=ingress-nginx-controller-7d9c8b6f5-x2k4q",
        "ingress=api, namespace=ingress-nginx, pod=ingress-nginx-controller-7d9c8b6f5-x2k4q",
        "ingress=api, namespace=other, deployment=another",
        "service=shop, namespace=shop, deployment={{ $labels.deployment }}",
        "service=shop, namespace={{ $labels.namespace }}, pod=x",
        "rollback_deployment={{ $labels.deployment }}, service=shop",
        "service=shop, k8s_namespace_name=a, k8s_deployment_name=b",
    ] {
        assert_eq!(shown(&of_ingress(), labels), "shop/api", "{labels}");
    }
}

/// Cited in docs/field-cases.md.
#[test]
fn a1_the_pod_of_the_messenger_is_never_meant() {
    for labels in [
        "alertname=KubeNodeNotReady, job=kube-state-metrics, container=kube-state-metrics, namespace=monitoring, pod=ksm-6d8f9-abcde, node=n1",
        "ingress=web, namespace=ingress-nginx, pod=ingress-nginx-controller-7d9c8b6f5-x2k4q",
        "exported_namespace=shop, exported_service=api, ingress=web, namespace=ingress-nginx, pod=ingress-nginx-controller-7d9c8b6f5-x2k4q",
        "job=blackbox, instance=https://shop.example.com, namespace=monitoring, pod=prometheus-blackbox-exporter-7bdb-x1",
        "job=probe/monitoring/shop, container=blackbox-exporter, namespace=monitoring, pod=bb-7bdb-x1",
        "job=node-exporter, container=node-exporter, namespace=monitoring, pod=ne-abcde, instance=n1",
        "namespace=monitoring, pod=kps-prometheus-node-exporter-x7v2p, device=/dev/sda1",
        "job=yet-another-cloudwatch-exporter, namespace=monitoring, pod=yace-6f7-abcde, dimension_LoadBalancer=app/shop",
        "job=otel-collector, container=otc-container, namespace=observability, pod=collector-6f7-abcde",
        "service=traefik, namespace=traefik, pod=traefik-6b6c-d2f4x, code=500",
        "job=istio-ingressgateway, namespace=istio-system, pod=istio-ingressgateway-6b6c-d2f4x",
        "job=kube-state-metrics, namespace=monitoring, pod=ksm-6d8f9-abcde, persistentvolumeclaim=data",
        "job=kubernetes-pods, app_kubernetes_io_name=kube-state-metrics, namespace=monitoring, pod=ksm-6d8f9-abcde",
    ] {
        let said = shown(&of_ingress(), labels);
        assert!(
            said.contains("add the labels") && !said.contains("(pod),"),
            "{labels}: {said}"
        );
    }
    // What they tell of pods is about those.
    for (labels, expected) in [
        (
            "alertname=KubePodCrashLooping, job=kube-state-metrics, container=app, uid=1, namespace=shop, pod=api-7d9c-x2k4q",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        // A metric of a pod without a container of its own has that of the exporter, and says the UID of its pod.
        (
            "job=kube-state-metrics, container=kube-state-metrics, uid=1, namespace=shop, pod=api-7d9c-x2k4q",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        (
            "job=kube-state-metrics, namespace=shop, pod=api-7d9c-x2k4q",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        (
            "job=kubelet, metrics_path=/metrics/cadvisor, node=n1, container=app, namespace=shop, pod=api-7d9c-x2k4q",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        // Without honorLabels.
        (
            "job=kube-state-metrics, container=kube-state-metrics, exported_container=app, exported_namespace=shop, exported_pod=api-7d9c-x2k4q, namespace=monitoring, pod=ksm-6d8f9-abcde",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        (
            "job=kube-state-metrics, exported_namespace=shop, deployment=api, namespace=monitoring, pod=ksm-6d8f9-abcde",
            "shop/api",
        ),
        // A proxy is meant where its Deployment is named, and when its own pods are told of.
        (
            "job=kube-state-metrics, namespace=ingress-nginx, deployment=ingress-nginx-controller",
            "ingress-nginx/ingress-nginx-controller",
        ),
        (
            "job=kube-state-metrics, uid=1, container=controller, namespace=ingress-nginx, pod=ingress-nginx-controller-7d9c8b6f5-x2k4q",
            "ingress-nginx/ingress-nginx-controller-7d9c8b6f5-x2k4q (pod)",
        ),
        // A namespace may be called as a messenger is.
        (
            "namespace=alertmanager-demo, deployment=api",
            "alertmanager-demo/api",
        ),
        // It is no messenger that has a part of such a name.
        (
            "namespace=shop, pod=mytraefiklike-7d9c-x2k4q",
            "shop/mytraefiklike-7d9c-x2k4q (pod)",
        ),
    ] {
        assert_eq!(shown(&of_ingress(), labels), expected, "{labels}");
    }
}

/// Cited in docs/field-cases.md.
#[test]
fn a1_labels_of_other_senders_are_read() {
    for (labels, expected) in [
        (
            "k8s_namespace_name=shop, k8s_deployment_name=api, namespace=observability, pod=otel-collector-6f7-abcde",
            "shop/api",
        ),
        (
            "k8s_namespace_name=shop, k8s_pod_name=api-7d9c-x2k4q, job=otel-collector-x",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        (
            "k8s.namespace.name=shop, k8s.deployment.name=api",
            "shop/api",
        ),
        (
            "reporter=source, destination_workload=api, destination_workload_namespace=shop, namespace=web, pod=front-6f7-abcde",
            "shop/api",
        ),
        (
            "direction=outbound, dst_deployment=api, dst_namespace=shop, namespace=web, deployment=front",
            "shop/api",
        ),
        ("kube_namespace=shop, kube_deployment=api", "shop/api"),
        ("namespaceName=shop, deploymentName=api", "shop/api"),
        (
            "k8s.namespace.name=shop, k8s.workload.name=api, k8s.workload.kind=deployment",
            "shop/api",
        ),
        (
            "namespace_name=shop, top_level_controller_type=Deployment, top_level_controller_name=api",
            "shop/api",
        ),
        ("Namespace=shop, PodName=api, ClusterName=c", "shop/api"),
        ("K8s.Namespace=shop, K8s.Workload=api", "shop/api"),
        (
            "namespace=shop, workload=api, workload_type=deployment",
            "shop/api",
        ),
        (
            "kubernetes_namespace=shop, kubernetes_pod_name=api-7d9c-x2k4q",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        // The names without `kubernetes_` are what is told there, those with it are of whoever tells.
        (
            "k8s_app=kube-state-metrics, kubernetes_namespace=kube-system, kubernetes_pod_name=kube-state-metrics-74f9-ghxbx, namespace=shop, pod=api-7d9c-x2k4q",
            "shop/api-7d9c-x2k4q (pod)",
        ),
        ("namespace=shop, app_kubernetes_io_name=api", "shop/api"),
    ] {
        assert_eq!(shown(&of_ingress(), labels), expected, "{labels}");
    }
    let other = shown(
        &of_ingress(),
        "namespace=shop, workload=db, workload_type=statefulset",
    );
    assert!(other.contains("no label says"), "{other}");
}

/// istio/istio issue 15255: what a client tells of is never the client. Cited in docs/field-cases.md.
#[test]
fn a1_who_asked_is_not_who_answered() {
    let front = "namespace=web, pod=front-7d9c8b6f5-x2k4q, deployment=front, app=front, app_kubernetes_io_name=front, workload=front";
    for labels in [
        "destination_workload=unknown, destination_workload_namespace=unknown",
        "reporter=source, destination_service=api.shop.svc.cluster.local",
        "reporter=source",
        "direction=outbound",
        "direction=outbound, dst_statefulset=db, dst_namespace=shop",
        "destination_workload_namespace=shop",
    ] {
        let labels = format!("{labels}, {front}");
        let said = shown(&of_ingress(), &labels);
        assert!(said.starts_with("a client tells"), "{labels}: {said}");
        assert_eq!(about::pod_of(&labelled(&labels)), None, "{labels}");
    }
    // Who answered may tell of itself, and what somebody wrote down goes before.
    for (labels, expected) in [
        (
            "reporter=destination, namespace=shop, pod=api-7d9c8b6f5-x2k4q",
            "shop/api-7d9c8b6f5-x2k4q (pod)",
        ),
        (
            "direction=inbound, namespace=shop, deployment=api",
            "shop/api",
        ),
        (
            "reporter=source, rollback_namespace=shop, rollback_deployment=api, namespace=web",
            "shop/api",
        ),
    ] {
        assert_eq!(shown(&of_ingress(), labels), expected, "{labels}");
    }
}

/// traefik/traefik issues 6864 and 10578: the labels of a proxy's pods, put on whatever it tells. Cited in
/// docs/field-cases.md.
#[test]
fn a1_the_recommended_name_of_a_messenger_is_not_meant() {
    for labels in [
        "namespace=traefik, app_kubernetes_io_name=traefik, code=500",
        "namespace=traefik, app_kubernetes_io_name=traefik, exported_service=shop-api-80@kubernetes",
        "namespace=monitoring, exported_namespace=shop, app_kubernetes_io_name=anything",
        "namespace=kong, app_kubernetes_io_name=kong",
        "namespace=db, app_kubernetes_io_name=prometheus-postgres-exporter",
        "namespace=shop, job=traefik, app_kubernetes_io_name=edge",
    ] {
        let said = shown(&of_ingress(), labels);
        assert!(said.contains("add the labels"), "{labels}: {said}");
    }
}

/// Exporters by the last word of their names, and proxies of more kinds. Cited in docs/field-cases.md.
#[test]
fn a1_exporters_and_proxies_of_many_names_are_messengers() {
    for name in [
        "postgres-exporter",
        "prometheus-redis-exporter",
        "mysqld-exporter",
        "kafka-exporter",
        "mongodb-exporter",
        "elasticsearch-exporter",
        "rabbitmq-exporter",
        "snmp-exporter",
        "stackdriver-exporter",
        "ssl-exporter",
        "kong-kong",
        "kong",
        "istio-ingress",
        "ambassador",
        "envoy-default-eg-e41e7b31",
    ] {
        for labels in [
            format!("namespace=shop, pod={name}-7d9c8b6f5-x2k4q"),
            format!("namespace=shop, job={name}, pod=x-7d9c8b6f5-x2k4q"),
            format!("namespace=shop, service={name}, pod=x-7d9c8b6f5-x2k4q"),
        ] {
            let said = shown(&of_ingress(), &labels);
            assert!(said.contains("add the labels"), "{labels}: {said}");
        }
        // Who is named is meant, and so is the pod of which somebody else tells.
        assert_eq!(
            shown(
                &of_ingress(),
                &format!("namespace=shop, deployment={name}, job=kube-state-metrics")
            ),
            format!("shop/{name}")
        );
    }
    let collector = "container=otc-container, namespace=shop, pod=gather-7d9c8b6f5-x2k4q";
    assert!(shown(&of_ingress(), collector).contains("add the labels"));
    for pod in [
        "ambassador-api-7d9c8b6f5-x2k4q",
        "pdf-exporter-api-7d9c8b6f5-x2k4q",
        "exporters-7d9c8b6f5-x2k4q",
        "kong-admin-ui-7d9c8b6f5-x2k4q",
        "envoy-config-api-7d9c8b6f5-x2k4q",
    ] {
        let labels = format!("namespace=shop, pod={pod}");
        assert_eq!(
            shown(&of_ingress(), &labels),
            format!("shop/{pod} (pod)"),
            "{pod}"
        );
    }
}

/// Whoever reaches an exporter by a pod has reached the messenger.
#[test]
fn a1_a_pod_without_a_telling_name_may_still_be_the_messenger() {
    let mut live = stage();
    assert!(!live.tells_of_others());
    live.deployment.0["spec"]["template"]["spec"]["containers"][0]["name"] =
        json!("kube-state-metrics");
    assert!(live.tells_of_others());
    let mut live = stage();
    live.deployment.0["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] =
        json!("prometheus-node-exporter");
    assert!(live.tells_of_others());
}

/// How many of the others are ill the controller sees: that it is about one pod, the request has to say.
#[test]
fn a8_an_alert_about_one_pod_says_so() {
    for (labels, expected) in [
        (
            "alertname=KubePodCrashLooping, namespace=shop, pod=api-7d9c-x2k4q, container=api, uid=1",
            Some("api-7d9c-x2k4q"),
        ),
        (
            "namespace=shop, deployment=api, pod=api-7d9c-x2k4q",
            Some("api-7d9c-x2k4q"),
        ),
        (
            "exported_namespace=shop, exported_pod=api-7d9c-x2k4q, pod=ksm-6d8f9-abcde",
            Some("api-7d9c-x2k4q"),
        ),
        (
            "k8s_namespace_name=shop, k8s_pod_name=api-7d9c-x2k4q",
            Some("api-7d9c-x2k4q"),
        ),
        (
            "ingress=api, namespace=ingress-nginx, pod=ingress-nginx-controller-7d9c8b6f5-x2k4q",
            None,
        ),
        ("namespace=shop, deployment=api", None),
        (
            "job=kube-state-metrics, container=kube-state-metrics, namespace=shop, deployment=api, pod=ksm-6d8f9-abcde",
            None,
        ),
    ] {
        assert_eq!(about::pod_of(&labelled(labels)), expected, "{labels}");
    }
}

/// A release that is live is not the one that the event is of, where the two can be compared.
#[test]
fn a9_an_event_of_another_release_is_stale() {
    let live = |images: &[&str], label: Option<&str>| {
        let containers: Vec<_> = images
            .iter()
            .enumerate()
            .map(|(at, image)| json!({"name": format!("c{at}"), "image": image}))
            .collect();
        let mut template =
            json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": containers}});
        if let Some(version) = label {
            template["metadata"]["labels"]["app.kubernetes.io/version"] = json!(version);
        }
        rollback_core::history::template::Template::of(&template)
    };
    for (release, images, label, expected) in [
        (
            "shop-api@2.1.4",
            &["r.example/shop-api:2.1.5"][..],
            None,
            true,
        ),
        ("shop-api@2.1.5", &["r.example/shop-api:2.1.5"], None, false),
        (
            "shop-api@2.1.5+421",
            &["r.example/shop-api:v2.1.5"],
            None,
            false,
        ),
        ("2.1.4", &["r.example:5000/api:v2.1.5"], None, true),
        (
            "shop-api@2.1.4",
            &["r.example/shop-api:2.1.5", "envoy:v1.30.1"],
            None,
            true,
        ),
        // The sidecar has a version, and what is meant has none that can be compared.
        (
            "shop-api@2.1.4",
            &["r.example/shop-api:main", "envoy:v1.30.1"],
            None,
            false,
        ),
        (
            "shop-api@2.1.4",
            &["r.example/backend:main", "envoy:v1.30.1"],
            None,
            false,
        ),
        (
            "checkout@7f3c2d1",
            &["checkout:7f3c2d1b9a0e1d2c3b4a59687766554433221100"],
            None,
            false,
        ),
        (
            "checkout@7f3c2d1",
            &["checkout:aaaabbbbccccddddeeeeffff0000111122223333"],
            None,
            true,
        ),
        ("checkout@7f3c2d1", &["checkout:2.1.5"], None, false),
        (
            "shop-api@2.1.4",
            &["r.example/shop-api@sha256:00"],
            None,
            false,
        ),
        (
            "shop-api@2.1.4",
            &["r.example/shop-api:2.1.4-hotfix"],
            Some("2.1.4"),
            false,
        ),
        // Packed in another way, or told less of.
        ("shop-api@2.1.5", &["shop-api:2.1.5-alpine"], None, false),
        ("shop-api@2.1.5-rc1", &["shop-api:2.1.5"], None, false),
        ("shop-api@2.1.5", &["shop-api:2.1"], None, false),
        ("shop-api@2.1", &["shop-api:2.1.5"], None, false),
        ("shop-api@2.1.4", &["shop-api:2.1.5-alpine"], None, true),
        ("shop-api@2.01.5", &["shop-api:2.1.5"], None, false),
        (
            "frontend-production",
            &["r.example/shop-api:2.1.5"],
            None,
            false,
        ),
    ] {
        assert_eq!(
            release::is_another(release, &live(images, label)),
            expected,
            "{release} {images:?}"
        );
    }
    let mut two = stage();
    two.deployment.0["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!("r.example/shop-api:2.1.5");
    assert!(stale(
        &two,
        "2026-11-28T11:00:00Z",
        &[(RELEASE, "shop-api@2.1.4")]
    ));
}

/// A Deployment whose second template is live, since ten o'clock.
fn stage() -> Live {
    let template = |tag: &str| {
        json!({"metadata": {"labels": {"app": "api"}},
            "spec": {"containers": [{"name": "app", "image": format!("registry.example:5000/api:{tag}")}]}})
    };
    let set = |name: &str, tag: &str, created: &str, history: &str| {
        let mut template = template(tag);
        template["metadata"]["labels"]["pod-template-hash"] = json!(name);
        ReplicaSet(json!({
            "metadata": {
                "name": format!("api-{name}"), "uid": name, "creationTimestamp": created,
                "labels": {"app": "api", "pod-template-hash": name},
                "annotations": {"deployment.kubernetes.io/revision-history": history},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "d", "controller": true}],
            },
            "spec": {"template": template},
        }))
    };
    Live {
        namespace: "shop".to_owned(),
        deployment: Deployment(json!({
            "metadata": {"name": "api", "uid": "d", "annotations": {"deployment.kubernetes.io/revision": "2"}},
            "spec": {"template": template("v2")},
        })),
        replica_sets: vec![
            set("one", "v1", "2026-11-28T09:00:00Z", ""),
            set("two", "v2", "2026-11-28T10:00:00Z", ""),
        ],
        ledger: None,
        blamed: None,
        _place: None,
    }
}

fn stale(live: &Live, at: &str, labels: &[(&str, &str)]) -> bool {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    live.stale(at.parse().unwrap(), &labels).is_some()
}

#[test]
fn what_began_before_what_is_live_is_stale() {
    let live = stage();
    assert!(stale(&live, "2026-11-28T09:59:59Z", &[]));
    assert!(!stale(&live, "2026-11-28T10:00:00Z", &[]));
    let mut unknown = stage();
    unknown.replica_sets.pop();
    assert!(
        stale(&unknown, "2026-11-28T23:00:00Z", &[]),
        "nobody knows since when it is live"
    );
}

#[test]
fn what_is_said_to_be_bad_has_to_be_live() {
    let live = stage();
    let at = "2026-11-28T11:00:00Z";
    let digest = live.deployment.template().digest();
    for good in ["2", "v2", "two", "registry.example:5000/api:v2", &digest] {
        assert!(!stale(&live, at, &[(BAD_REVISION, good)]), "{good}");
    }
    for other in [
        "1",
        "v1",
        "one",
        "5000/api",
        "registry.example:5000/api:v1",
        "api:v2",
        "app",
    ] {
        assert!(stale(&live, at, &[(BAD_REVISION, other)]), "{other}");
    }
    assert!(!stale(
        &live,
        at,
        &[(BAD_IMAGE, "registry.example:5000/api:v2")]
    ));
    assert!(stale(
        &live,
        at,
        &[(BAD_IMAGE, "registry.example:5000/api:v1")]
    ));
    assert!(stale(&live, at, &[(BAD_IMAGE, "v2")]));
    let of = |set: &str| Live {
        blamed: Some(set.to_owned()),
        ..stage()
    };
    assert!(!stale(&of("two"), at, &[]));
    assert!(stale(&of("one"), at, &[]));
}

#[test]
fn tags_are_told_from_ports() {
    for (image, expected) in [
        ("api:v2", Some("v2")),
        ("registry.example:5000/api", None),
        ("registry.example:5000/api:v2", Some("v2")),
        ("registry.example:5000/api@sha256:00", None),
        ("api:v2@sha256:00", Some("v2")),
        ("api", None),
    ] {
        assert_eq!(tag(image), expected, "{image}");
    }
}

proptest::proptest! {
    /// Whatever stands in labels: what becomes part of a path of the API server is a name.
    #[test]
    fn only_names_come_out_of_labels(
        keys in proptest::collection::vec(0_usize..9, 0..6),
        values in proptest::collection::vec("[a-c/.{}% ?A-B-]{0,9}|kube-state-metrics|a-b", 6),
    ) {
        const KEYS: [&str; 9] = [
            "namespace", "deployment", "pod", "exported_namespace", "exported_deployment", "exported_pod",
            "rollback_namespace", "rollback_deployment", "service",
        ];
        let labels = keys.iter().zip(values).map(|(key, value)| (KEYS[*key].to_owned(), value)).collect();
        for it in about(&source(), &labels).unwrap_or_default() {
            let (About::Deployment { namespace, name } | About::Pod { namespace, name }) = it;
            proptest::prop_assert!(names::is_label(&namespace) && names::is_subdomain(&name));
        }
    }
}
