//! What the guard does not refuse, and why that is so. Kept here so that a change is seen.

use rollback_api::{APPROVER_GROUPS, APPROVER_UID};
use serde_json::{Value, json};

use super::{notes, remark};
use crate::attack::{
    APPLY, AWAITING, Expect, FULL, Family, JSON, MERGE, PENDING, POST, PUT, Row, Thing,
};
use crate::people::{
    ADMIN, APPROVER, CONTROLLER, GITOPS, RELAXER, REQUESTER, SECOND, VENTRILOQUIST,
};

/// Attempts that pass, and could be taken for attacks.
pub fn family() -> Family {
    let claim = json!({"spec": {"reason": {"category": "HealthCheck"}}});
    let softer =
        json!({"spec": {"approvals": {"required": 1, "fourEyes": false, "checklist": []}}});
    let finalizers =
        json!({"metadata": {"finalizers": ["rollback.broxiva.com/incident", "example.com/mine"]}});
    let anything = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "evil.example/x:1"}]}}}});
    Family {
        name: "limits",
        attacks: Vec::new(),
        twins: twins! {
            // Whoever may `edit` a namespace may speak for its ServiceAccounts, as Kubernetes ships that role. Where one of them
            // may ask, four eyes are two: one asks with its voice, and approves with the own.
            "a machine of the namespace is made to ask", &[VENTRILOQUIST], &[POST, APPLY], &[Thing::NewRequest], remark();
            // A category is a claim. It makes a request more urgent, and never an approval easier.
            "an urgent category is claimed", &[REQUESTER], &[POST, APPLY], &[Thing::NewRequest], claim;
            // Who may relax the rules decides what an approval asks for. Approvals that were given are void then.
            "the rules are made softer", &[RELAXER], &[MERGE, JSON, APPLY], &[Thing::Policy], softer;
            // Whoever may write a request can keep it from going, as with every object.
            "a finalizer of one's own", &[APPROVER], &[MERGE, JSON, PUT], &[AWAITING], finalizers;
            // The controller may patch requests because of its finalizer; what it can say there counts for nothing.
            "a remark by the controller", &[CONTROLLER], &[MERGE, JSON, APPLY], &[AWAITING], remark();
            // A controller that is taken over can write any template: that is its work.
            "a template that never was", &[CONTROLLER], &[MERGE, JSON], &[Thing::App], anything;
            // Who may impersonate is whoever they like; the audit log of the API server has both names.
            "nothing is exempt, but everybody has a name", &[ADMIN], &[MERGE], &[AWAITING], super::approval();
        },
    }
}

const UID: &str = "/metadata/annotations/rollback.broxiva.com~1approver-uid";
const GROUPS: &str = "/metadata/annotations/rollback.broxiva.com~1approver-groups";

/// Somebody else's field, which the API server puts right without a word.
pub struct PutRight {
    /// Who, how, to what and what.
    pub row: Row,
    /// A JSON pointer to the field.
    pub field: &'static str,
    /// What stands there afterwards.
    pub holds: Value,
}

/// Fields that are the API server's, and what it makes of them.
pub fn put_right() -> Vec<PutRight> {
    let mut cases = put_right_of_requesters();
    cases.extend(put_right_of_approvers());
    cases
}

fn put_right_of_requesters() -> Vec<PutRight> {
    let forged = json!({"spec": {"requestedBy": {"username": "anna@broxiva.example", "uid": "0", "groups": ["system:masters"]}}});
    let nobody = json!({"spec": {"requestedBy": null}});
    let rows = rows! {
        "requestedBy of a new one", &[REQUESTER, GITOPS], &[POST, APPLY], &[Thing::NewRequest], forged.clone(), Expect::Passes;
        "requestedBy", &[REQUESTER, APPROVER, ADMIN], &[MERGE, JSON, PUT, APPLY], &[AWAITING], forged.clone(), Expect::Passes;
        "requestedBy taken away", &[REQUESTER], &[MERGE, JSON, PUT], &[AWAITING], nobody, Expect::Passes;
        "requestedBy by the controller", &[CONTROLLER], &[MERGE, JSON], &[AWAITING], forged, Expect::Passes;
    };
    let holds = |row: &Row| match row.on {
        [Thing::NewRequest] => json!("$ME"),
        _ => json!("rita@broxiva.example"),
    };
    rows.into_iter()
        .map(|row| PutRight {
            holds: holds(&row),
            field: "/spec/requestedBy/username",
            row,
        })
        .collect()
}

fn put_right_of_approvers() -> Vec<PutRight> {
    let stamps = json!({APPROVER_UID: "uid-admin", APPROVER_GROUPS: "system:masters"});
    let mine = crate::fire::merged(&super::approval(), &notes(stamps.clone()));
    let stamps = notes(stamps);
    let rows = rows! {
        "stamps of one's own approval", &[APPROVER], &[MERGE, JSON, PUT, APPLY], &[AWAITING], mine, Expect::Passes;
        "stamps of another's approval", &[REQUESTER, SECOND, CONTROLLER], &[MERGE, JSON], &[PENDING, FULL], stamps.clone(), Expect::Passes;
        "stamps without an approval", &[REQUESTER, APPROVER, CONTROLLER], &[MERGE, JSON], &[AWAITING], stamps, Expect::Passes;
    };
    let fields = [
        (UID, json!("uid-approver")),
        (GROUPS, json!("broxiva:leads\nsystem:authenticated")),
    ];
    let mut cases = Vec::new();
    for row in rows {
        for (field, stamp) in &fields {
            let holds = match row.on {
                [AWAITING] if row.title.contains("without") => Value::Null,
                _ => stamp.clone(),
            };
            cases.push(PutRight {
                row: row.clone(),
                field,
                holds,
            });
        }
    }
    cases
}
