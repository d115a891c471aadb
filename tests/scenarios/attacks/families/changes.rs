//! The finalizer, the status, and a patch that custom resources do not know.

use serde_json::{Value, json};

use super::remark;
use crate::attack::{
    APPLY, APPROVED, AWAITING, BEGUN, DELETING, Expect, Family, HALF, How, JSON, MERGE, PENDING,
    PLANLESS, PUT, Row, STRATEGIC,
};
use crate::people::{
    ADMIN, APPROVER, BOTH, CONTROLLER, GITOPS, NOBODY, OUTSIDER, OVERLORD, OWNER, POLICY_ADMIN,
    RELEASER, REQUESTER, ROBOT, SECOND,
};

/// The controller ends the incident; a person who may release does when it is deleted and no controller comes.
pub fn finalizer() -> Family {
    let keep = Expect::Guard(
        "rollback-guard-finalizer",
        "Keep rollback.broxiva.com/incident",
    );
    let none = json!({"metadata": {"finalizers": null}});
    let another = json!({"metadata": {"finalizers": ["example.com/mine"]}});
    Family {
        name: "finalizer",
        attacks: rows! {
            "taken away", &[REQUESTER, APPROVER, GITOPS, ADMIN], &[MERGE, JSON, PUT], &[AWAITING], none.clone(), keep;
            "taken away", &[REQUESTER, APPROVER], &[MERGE, JSON, PUT], &[DELETING], none.clone(), keep;
            "taken away", &[ROBOT, OVERLORD, OWNER], &[MERGE.dry()], &[AWAITING], none.clone(), keep;
            "taken away later", &[REQUESTER], &[MERGE], &[PENDING, HALF, APPROVED, BEGUN], none.clone(), keep;
            "released before it is deleted", &[RELEASER], &[MERGE, JSON], &[AWAITING, APPROVED, BEGUN], none.clone(), keep;
            "released by a machine", &[ROBOT, OVERLORD], &[MERGE, JSON, PUT], &[DELETING], none.clone(), keep;
            "emptied", &[REQUESTER], &[MERGE], &[AWAITING, DELETING], json!({"metadata": {"finalizers": []}}), keep;
            "exchanged", &[REQUESTER, APPROVER], &[MERGE, PUT], &[AWAITING], another.clone(), keep;
        },
        twins: twins! {
            "by the controller", &[CONTROLLER], &[MERGE, JSON], &[AWAITING, DELETING], none.clone();
            "released by a person", &[RELEASER, ADMIN, OWNER], &[MERGE, JSON], &[DELETING], none.clone();
            // Nobody has looked at it yet, so nothing holds it.
            "what is not there", &[REQUESTER], &[MERGE], &[PLANLESS], none;
            "one more", &[REQUESTER, APPROVER, GITOPS, ADMIN, ROBOT, OVERLORD, OWNER], &[MERGE, JSON, PUT], &[AWAITING], json!({"metadata": {"finalizers": ["rollback.broxiva.com/incident", "example.com/mine"]}});
            "a remark", &[REQUESTER, ADMIN], &[MERGE, JSON, PUT], &[DELETING], remark();
        },
    }
}

fn forged_status() -> Vec<(&'static str, Value)> {
    let status = |status: Value| {
        let mut patch = json!({});
        patch["status"] = status;
        patch
    };
    let end = json!({"result": "Succeeded", "reason": "RolledBack", "effect": "Written", "message": "All is well.", "at": "2026-06-01T14:05:00Z"});
    vec![
        ("digest", status(json!({"plan": {"digest": "sha256:0"}}))),
        (
            "rules",
            status(
                json!({"plan": {"rules": {"approvals": {"fourEyes": false, "required": 1, "checklist": []}}}}),
            ),
        ),
        (
            "phrase",
            status(json!({"plan": {"rules": {"approvals": {"confirmPhrase": "x"}}}})),
        ),
        (
            "glass",
            status(json!({"plan": {"rules": {"approvals": {"breakGlass": true}}}})),
        ),
        ("targets", status(json!({"plan": {"targets": []}}))),
        (
            "approvals",
            status(json!({"approvals": [{
                "by": {"username": "anna@broxiva.example", "groups": ["broxiva:leads"]},
                "planDigest": "$DIGEST", "at": "2026-06-01T14:05:00Z",
            }]})),
        ),
        (
            "intent",
            status(
                json!({"targets": [{"name": "api", "revert": {"intendedAt": "2026-06-01T14:05:00Z", "generation": 2}}]}),
            ),
        ),
        ("outcome", status(json!({"outcome": end}))),
        (
            "incident",
            status(json!({"incident": {"configMap": "notes", "at": "2026-06-01T14:05:00Z"}})),
        ),
        ("conditions", status(json!({"conditions": []}))),
        ("everything", json!({"status": null})),
    ]
}

const STATUS: &[How] = &[MERGE.on("status")];

/// The status is the controller's.
pub fn status() -> Family {
    let only = Expect::Guard(
        "rollback-guard-status",
        "The status is written only by the rollback controller",
    );
    let mut attacks: Vec<Row> = forged_status()
        .into_iter()
        .map(|(title, what)| line!(title, &[ADMIN], STATUS, &[AWAITING], what, only))
        .collect();
    let approvals = json!({"status": {"approvals": []}});
    let outcome = json!({"status": {"observedGeneration": 7}});
    attacks.extend(rows! {
        "generation", &[ADMIN, OWNER], &[JSON.on("status"), PUT.on("status"), APPLY.on("status"), MERGE.on("status").dry()], &[AWAITING], outcome, only;
        "approvals taken away", &[ADMIN, OWNER], STATUS, &[HALF, APPROVED, BEGUN], approvals.clone(), only;
        "nothing new", &[ADMIN], STATUS, &[PLANLESS, DELETING], json!({"status": {"conditions": []}}), only;
        "without the verb", &[REQUESTER, APPROVER, GITOPS, BOTH, POLICY_ADMIN, OUTSIDER, NOBODY, OVERLORD], STATUS, &[AWAITING], approvals, Expect::Rbac;
    });
    Family {
        name: "status",
        attacks,
        twins: twins! {
            "by the controller", &[CONTROLLER], &[MERGE.on("status"), JSON.on("status"), APPLY.on("status"), PUT.on("status")], &[AWAITING, HALF, APPROVED, BEGUN, DELETING], json!({"status": {"observedGeneration": 1}});
        },
    }
}

/// A custom resource knows no strategic merge patch, whatever it would say.
pub fn strategic() -> Family {
    Family {
        name: "strategic",
        attacks: rows! {
            "an approval", &[REQUESTER, APPROVER, SECOND, ADMIN], &[STRATEGIC], &[AWAITING], super::approval(), Expect::Unsupported;
        },
        twins: twins! {
            "an approval", &[APPROVER, SECOND, ADMIN], &[MERGE], &[AWAITING], super::approval();
        },
    }
}
