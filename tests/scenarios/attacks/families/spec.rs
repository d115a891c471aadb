//! A request is asked for once.

use serde_json::{Value, json};

use super::remark;
use crate::attack::{
    APPLY, APPROVED, AWAITING, BEGUN, CHANGES, DELETING, ENDED, Expect, Family, HALF, JSON, MERGE,
    PENDING, PLANLESS, PUT, Row, Thing,
};
use crate::people::{ADMIN, APPROVER, CONTROLLER, GITOPS, OVERLORD, OWNER, REQUESTER, ROBOT};

const CHANGED: Expect = Expect::Guard("rollback-guard-spec", "cannot change");
const LATER: &[Thing] = &[PLANLESS, PENDING, HALF, APPROVED, BEGUN, ENDED, DELETING];

fn spec(spec: Value) -> Value {
    let mut patch = json!({});
    patch["spec"] = spec;
    patch
}

fn another_target() -> Value {
    spec(json!({"targets": [{"name": "web", "to": {"previous": {}}}]}))
}

fn fields() -> Vec<(&'static str, Value)> {
    let api = |more: Value| {
        let target = json!({"name": "api", "to": {"previous": {}}});
        spec(json!({"targets": [crate::fire::merged(&target, &more)]}))
    };
    vec![
        (
            "another way back",
            api(json!({"to": {"previous": null, "revision": 1}})),
        ),
        (
            "what is bad",
            api(json!({"from": {"image": "registry.broxiva.example/api:v1"}})),
        ),
        ("another wave", api(json!({"wave": 3}))),
        (
            "one target more",
            spec(
                json!({"targets": [{"name": "api", "to": {"previous": {}}}, {"name": "web", "to": {"previous": {}}}]}),
            ),
        ),
        (
            "by selector",
            spec(
                json!({"targets": [{"selector": {"matchLabels": {"app.kubernetes.io/name": "api"}}, "to": {"previous": {}}}]}),
            ),
        ),
        (
            "category",
            spec(json!({"reason": {"category": "Security"}})),
        ),
        (
            "summary",
            spec(json!({"reason": {"summary": "Nothing to see here."}})),
        ),
        (
            "root cause",
            spec(json!({"reason": {"rootCause": "It was Omar."}})),
        ),
        ("impact", spec(json!({"reason": {"impact": "None."}}))),
        (
            "incident",
            spec(json!({"reason": {"incidentUrl": "https://evil.example/1"}})),
        ),
        ("urgency", spec(json!({"urgency": "Immediate"}))),
        (
            "not after",
            spec(json!({"notAfter": "2036-01-01T00:00:00Z"})),
        ),
        ("dry run", spec(json!({"dryRun": true}))),
        (
            "rollout",
            spec(json!({"rollout": {"onFailure": "Continue"}})),
        ),
    ]
}

/// Each field, by everybody, in every moment.
pub fn family() -> Family {
    let mut attacks: Vec<Row> = fields()
        .into_iter()
        .map(|(title, what)| line!(title, &[REQUESTER], &[MERGE], &[AWAITING], what, CHANGED))
        .collect();
    attacks.extend(rows! {
        "another target", &[REQUESTER, APPROVER, GITOPS, ADMIN], CHANGES, &[AWAITING], another_target(), CHANGED;
        "another target", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, BEGUN], another_target(), CHANGED;
        "another target", &[ROBOT, OVERLORD, OWNER], &[MERGE.dry()], &[AWAITING], another_target(), CHANGED;
        "another target later", &[REQUESTER], &[MERGE], LATER, another_target(), CHANGED;
        "dry run after all", &[APPROVER], &[JSON], &[PENDING, HALF, APPROVED], spec(json!({"dryRun": true})), CHANGED;
        "no such field", &[REQUESTER], &[PUT], &[AWAITING], spec(json!({"targets": []})), Expect::Schema("say which Deployment to roll back");
    });
    Family {
        name: "spec",
        attacks,
        twins: twins! {
            "a remark", &[REQUESTER, APPROVER, GITOPS, ADMIN], CHANGES, &[AWAITING], remark();
            "a remark", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, BEGUN], remark();
            "a remark", &[ROBOT, OVERLORD, OWNER], &[MERGE], &[AWAITING], remark();
            "a remark later", &[REQUESTER], &[MERGE], LATER, remark();
            "a label", &[REQUESTER], &[MERGE, APPLY], &[AWAITING], json!({"metadata": {"labels": {"team": "shop"}}});
        },
    }
}

/// An owner that is gone is a deletion.
pub fn owners() -> Family {
    let orphan = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"},
    ]}});
    let owners = Expect::Guard("rollback-guard-spec", "may not change its owners either");
    Family {
        name: "owners",
        attacks: rows! {
            "an owner that is gone", &[APPROVER], CHANGES, &[AWAITING, HALF], orphan.clone(), owners;
            "an owner that is gone", &[CONTROLLER], &[MERGE], &[AWAITING], orphan.clone(), owners;
        },
        twins: twins! {
            "by who may delete", &[REQUESTER], CHANGES, &[AWAITING], orphan;
            "a remark", &[APPROVER], CHANGES, &[AWAITING, HALF], remark();
            "a remark", &[CONTROLLER], &[MERGE], &[AWAITING], remark();
        },
    }
}
