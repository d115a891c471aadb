//! What a template needs besides itself, and what is said when it is gone.

use proptest::prelude::*;
use rollback_api::status::RiskKind;
use rollback_core::history::template::Template;
use rollback_core::plan::references::{
    Presence, Reference, ReferenceKind, is_subdomain, missing, references, unknown,
};
use serde_json::{Value, json};

/// A template that refers to everything in every way.
fn everything() -> Value {
    json!({"spec": {
        "serviceAccountName": "api",
        "priorityClassName": "system-cluster-critical",
        "imagePullSecrets": [{"name": "pull"}, {"name": ""}],
        "containers": [{
            "name": "api",
            "env": [
                {"name": "PLAIN", "value": "x"},
                {"name": "DB_URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}},
                {"name": "DB_USER", "valueFrom": {"secretKeyRef": {"name": "db", "key": "user", "optional": false}}},
                {"name": "NICE", "valueFrom": {"secretKeyRef": {"name": "nice", "key": "x", "optional": true}}},
                {"name": "HOST", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "host"}}},
            ],
            "envFrom": [
                {"configMapRef": {"name": "all"}},
                {"secretRef": {"name": "some", "optional": true}},
            ],
        }],
        "initContainers": [{"name": "migrate", "envFrom": [{"secretRef": {"name": "db"}}]}],
        "ephemeralContainers": [{"name": "debug", "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "debug", "key": "a"}}}]}],
        "volumes": [
            {"name": "one", "configMap": {"name": "cfg", "items": [{"key": "file", "path": "x"}]}},
            {"name": "two", "secret": {"secretName": "tls"}},
            {"name": "three", "secret": {"secretName": "maybe", "optional": true}},
            {"name": "four", "projected": {"sources": [
                {"secret": {"name": "in", "items": [{"key": "k", "path": "p"}]}},
                {"configMap": {"name": "out", "optional": true}},
                {"serviceAccountToken": {"path": "t"}},
            ]}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "csi", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
            {"name": "flex", "flexVolume": {"driver": "d", "secretRef": {"name": "flex"}}},
            {"name": "rbd", "rbd": {"secretRef": {"name": "rbd"}}},
            {"name": "ceph", "cephfs": {"secretRef": {"name": "ceph"}}},
            {"name": "iscsi", "iscsi": {"secretRef": {"name": "iscsi"}}},
            {"name": "azure", "azureFile": {"secretName": "azure"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }})
}

fn told(template: &Value) -> Vec<String> {
    references(&Template::of(template))
        .iter()
        .map(|found| {
            let join = |set: &std::collections::BTreeSet<String>| {
                set.iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            format!(
                "{} {} [{}] {}",
                found.kind.as_str(),
                found.name,
                join(&found.keys),
                join(&found.used_by)
            )
        })
        .collect()
}

#[test]
fn everything_that_is_not_optional_is_found_once() {
    assert_eq!(
        told(&everything()),
        [
            "ConfigMap all [] container api envFrom",
            "ConfigMap cfg [file, host] container api env HOST, volume one",
            "ConfigMap debug [a] ephemeral container debug env A",
            "Secret azure [] volume azure",
            "Secret ceph [] volume ceph",
            "Secret csi [] volume csi",
            "Secret db [url, user] container api env DB_URL, container api env DB_USER, init container migrate envFrom",
            "Secret flex [] volume flex",
            "Secret in [k] volume four",
            "Secret iscsi [] volume iscsi",
            "Secret pull [] imagePullSecrets",
            "Secret rbd [] volume rbd",
            "Secret tls [] volume two",
            "PersistentVolumeClaim data [] volume data",
            "ServiceAccount api [] the identity of the pods",
            "PriorityClass system-cluster-critical [] the priority of the pods",
        ]
    );
}

#[test]
fn accounts_by_their_old_name_and_by_default() {
    let cases = [
        (json!({"serviceAccount": "old"}), 1),
        (json!({"serviceAccountName": "default"}), 0),
        (json!({"serviceAccountName": "", "serviceAccount": ""}), 0),
        (json!({}), 0),
    ];
    for (spec, count) in cases {
        assert_eq!(told(&json!({"spec": spec})).len(), count);
    }
    assert!(references(&Template::of(&Value::Null)).is_empty());
}

fn reference(kind: ReferenceKind, name: &str, user: &str) -> Reference {
    Reference {
        kind,
        name: name.to_owned(),
        keys: ["url".to_owned()].into(),
        used_by: [user.to_owned()].into(),
    }
}

#[test]
fn case_45_what_is_missing_is_named_with_who_needs_it_and_what_to_do() {
    let seen = [
        (
            reference(ReferenceKind::Secret, "db", "container api env DB_URL"),
            Presence::Missing,
        ),
        (
            reference(ReferenceKind::ConfigMap, "cfg", "volume cfg"),
            Presence::MissingKeys(vec!["url".into()]),
        ),
        (
            reference(ReferenceKind::ServiceAccount, "api", "x"),
            Presence::Present,
        ),
        (
            reference(ReferenceKind::Secret, "tls", "x"),
            Presence::Unknown("forbidden".into()),
        ),
        (
            reference(ReferenceKind::Secret, "pull", "imagePullSecrets"),
            Presence::Missing,
        ),
    ];
    assert_eq!(
        missing(&seen).unwrap(),
        "The old version needs what is not there any more: Secret db (container api env DB_URL); key url of ConfigMap cfg (volume cfg). \
         Create it again, or choose another version in a new request."
    );
    let risk = unknown(&seen).unwrap();
    assert_eq!(risk.kind, RiskKind::References);
    assert_eq!(
        risk.message,
        "Whether the old version finds all it needs is not known. Not looked at: Secret tls (x): forbidden. \
         The ClusterRole rollback-preflight-secrets, bound in this namespace, lets the controller look at Secrets. \
         Missing pull secrets: pull; nodes that do not have the image cannot pull it with them."
    );
    assert_eq!(missing(&seen[2..]), None);
    assert_eq!(unknown(&seen[..3]), None);
    let claim = [(
        reference(ReferenceKind::PersistentVolumeClaim, "data", "volume data"),
        Presence::Unknown("timed out".into()),
    )];
    assert!(!unknown(&claim).unwrap().message.contains("ClusterRole"));
}

#[test]
fn sentences_are_bounded_and_still_say_what_to_do() {
    let seen: Vec<(Reference, Presence)> = (0..500)
        .map(|n| {
            let name = format!("{n}-{}", "x".repeat(300));
            (
                reference(ReferenceKind::Secret, &name, &name),
                Presence::Missing,
            )
        })
        .collect();
    let sentence = missing(&seen).unwrap();
    assert!(sentence.chars().count() <= 2000);
    assert!(sentence.contains(" more. Create it again"), "{sentence}");
    let seen: Vec<(Reference, Presence)> = seen
        .into_iter()
        .map(|(reference, _)| (reference, Presence::Unknown("y".repeat(9000))))
        .collect();
    let risk = unknown(&seen).unwrap();
    assert!(risk.message.chars().count() <= 2000);
    assert!(risk.message.contains("rollback-preflight-secrets"));
}

#[test]
fn names_that_no_object_can_have() {
    for name in ["db", "db-2", "a.b", "0", &"x".repeat(253)] {
        assert!(is_subdomain(name), "{name}");
    }
    for name in [
        "",
        "Db",
        "a/b",
        "../x",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a b",
        "a?x=1",
        "a\n",
        "ä",
        &"x".repeat(254),
    ] {
        assert!(!is_subdomain(name), "{name}");
        assert!(!reference(ReferenceKind::Secret, name, "x").can_exist());
    }
}

proptest! {
    #![proptest_config(crate::hostile::config(256, "tests/references.regressions"))]

    #[test]
    fn anything_is_read(template in prop_oneof![
        crate::hostile::spoiled(everything()).boxed(), crate::hostile::anything().boxed()
    ]) {
        let found = references(&Template::of(&template));
        let mut sorted = found.clone();
        sorted.sort();
        prop_assert_eq!(&found, &sorted);
        for reference in &found {
            prop_assert!(!reference.name.is_empty());
            prop_assert!(!reference.used_by.is_empty());
        }
        let seen: Vec<_> = found.into_iter().map(|found| (found, Presence::Missing)).collect();
        if let Some(sentence) = missing(&seen) {
            prop_assert!(sentence.chars().count() <= 2000);
            prop_assert!(!sentence.chars().any(char::is_control));
        }
    }
}
