//! What the controller may change of a Deployment, when it is taken over.

use serde_json::{Value, json};

use super::notes;
use crate::attack::{APPLY, DELETE, Expect, Family, JSON, MERGE, PUT, Row, STRATEGIC, Thing};
use crate::people::{ADMIN, CONTROLLER, EDITOR};

const WHO: &[crate::people::Person] = &[CONTROLLER];
const APP: &[Thing] = &[Thing::App];

fn field(name: &str, value: Value) -> Value {
    let mut patch = json!({"spec": {}});
    patch["spec"][name] = value;
    patch
}

fn image() -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {"example.com/old": "yes"}}}}})
}

/// The template, the reason, and nothing else.
pub fn fields() -> Family {
    let says = |what| Expect::Guard("rollback-guard-deployment", what);
    let nothing = says("changes nothing of a Deployment but");
    let strategy = json!({"type": "Recreate", "rollingUpdate": null});
    let mut attacks: Vec<Row> = [
        ("paused", field("paused", json!(true))),
        ("ready seconds", field("minReadySeconds", json!(5))),
        ("history", field("revisionHistoryLimit", json!(0))),
        ("deadline", field("progressDeadlineSeconds", json!(9999))),
        ("strategy", field("strategy", strategy)),
        ("a label", json!({"metadata": {"labels": {"team": "shop"}}})),
        ("the label taken away", json!({"metadata": {"labels": {"app.kubernetes.io/name": null}}})),
        ("an annotation", super::remark()),
        ("the revision", notes(json!({"deployment.kubernetes.io/revision": "1"}))),
        ("a finalizer", json!({"metadata": {"finalizers": ["example.com/mine"]}})),
        (
            "an owner",
            json!({"metadata": {"ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"},
            ]}}),
        ),
    ]
    .into_iter()
    .map(|(title, what)| line!(title, WHO, &[MERGE, JSON], APP, what, nothing))
    .collect();
    let never = says("never writes the scale or the status");
    attacks.extend(rows! {
        "paused in other ways", WHO, &[STRATEGIC, APPLY, MERGE.dry()], APP, field("paused", json!(true)), nothing;
        "template and pause", WHO, &[MERGE, JSON, STRATEGIC], APP, crate::fire::merged(&image(), &field("paused", json!(true))), nothing;
        "selector", WHO, &[MERGE], APP, json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}}), Expect::Schema("selector");
        "scale", WHO, &[MERGE.on("scale")], &[Thing::Worker], json!({"spec": {"replicas": 0}}), never;
        "status", WHO, &[MERGE.on("status"), STRATEGIC.on("status")], APP, json!({"status": {"observedGeneration": 99}}), never;
        "scale of another", WHO, &[MERGE.on("scale")], APP, json!({"spec": {"replicas": 0}}), Expect::Rbac;
        "replaced", WHO, &[PUT], APP, image(), Expect::Rbac;
        "deleted", WHO, &[DELETE], APP, json!({}), Expect::Rbac;
    });
    Family {
        name: "deployment",
        attacks,
        twins: twins! {
            "the template", WHO, &[MERGE, JSON, STRATEGIC], APP, image();
            "the reason", WHO, &[MERGE, JSON, STRATEGIC], APP, notes(json!({"kubernetes.io/change-cause": "rollback"}));
            "nothing", WHO, &[APPLY], APP, json!({});
            "scale by people", &[EDITOR], &[MERGE.on("scale")], &[Thing::Worker], json!({"spec": {"replicas": 0}});
            "status by Kubernetes", &[ADMIN], &[MERGE.on("status"), STRATEGIC.on("status")], APP, json!({"status": {"observedGeneration": 99}});
        },
    }
}

/// Whose replicas the controller may change.
pub fn capacity() -> Family {
    let says = |what| Expect::Guard("rollback-guard-capacity", what);
    let replicas = field("replicas", json!(0));
    let alone = says("in a write of its own");
    let and = |more: Value| crate::fire::merged(&field("replicas", json!(0)), &more);
    Family {
        name: "capacity",
        attacks: rows! {
            "of one that is not named", WHO, &[MERGE, JSON, STRATEGIC, APPLY, MERGE.dry()], APP, replicas.clone(), says("may not change the replicas of Deployment api");
            "raised", WHO, &[MERGE], APP, field("replicas", json!(100)), says("may not change the replicas of Deployment api");
            "with the template", WHO, &[MERGE, JSON], &[Thing::Worker], and(image()), alone;
            "with the reason", WHO, &[MERGE], &[Thing::Worker], and(notes(json!({"kubernetes.io/change-cause": "x"}))), alone;
        },
        twins: twins! {
            "of one that is named", WHO, &[MERGE, JSON, STRATEGIC, APPLY], &[Thing::Worker], replicas;
        },
    }
}
