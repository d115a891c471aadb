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
    about(&source(), &labels).map(|about| match about {
        About::Deployment { namespace, name } => format!("{namespace}/{name}"),
        About::Pod { namespace, name } => format!("{namespace}/{name} (pod)"),
    })
}

#[test]
fn labels_say_what_an_alert_is_about() {
    for (labels, expected) in [
        (&[("namespace", "a"), ("deployment", "b")][..], "a/b"),
        (
            &[("namespace", "a"), ("deployment", "b"), ("pod", "c")],
            "a/b",
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
        // The configuration comes last, and of it what fits first.
        (&[("service", "shop"), ("stage", "production")], "shop/api"),
        (&[("service", "shop"), ("stage", "other")], "shop-test/api"),
        (
            &[("service", "shop"), ("namespace", "a"), ("deployment", "b")],
            "a/b",
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
    ] {
        let found = found(labels);
        assert!(found.is_err(), "{labels:?} is {found:?}");
    }
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
        if let Ok(About::Deployment { namespace, name } | About::Pod { namespace, name }) = about(&source(), &labels) {
            proptest::prop_assert!(names::is_label(&namespace) && names::is_subdomain(&name));
        }
    }
}
