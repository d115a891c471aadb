//! The lock on a Deployment, and what is remembered of it.

use rollback_api::{LIFT, LIFTED_BY};
use serde_json::{Value, json};

use super::notes;
use crate::attack::{APPLY, DELETE, DELETE_ALL, Expect, Family, JSON, MERGE, POST, PUT, Thing};
use crate::people::{
    ADMIN, APPROVER, CLEANER, COLLECTOR, CONTROLLER, EDITOR, GITOPS, OVERLORD, OWNER, POWERLESS,
    REQUESTER, SCRIBE, SECOND,
};

const ITS: &[Thing] = &[Thing::Ledger];
const NEW: &[Thing] = &[Thing::NewLedger];

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-ledger", what)
}

fn claim() -> Value {
    json!({"spec": {"claim": {"request": "mine", "requestUid": "1", "urgency": "Immediate"}}})
}

fn rollbacks() -> Value {
    json!({"spec": {"rollbacks": []}})
}

fn verdict() -> Value {
    json!({"spec": {"templates": []}})
}

/// Only the controller writes.
pub fn writing() -> Family {
    let only = says("A RevisionLedger is written only by the rollback controller");
    let another = json!({"spec": {"targetRef": {"name": "web", "uid": "2"}}});
    Family {
        name: "ledger",
        attacks: rows! {
            "made", &[ADMIN, OWNER], &[POST, APPLY, POST.dry()], NEW, json!({}), only;
            "another Deployment", &[ADMIN, OWNER], &[MERGE, JSON, PUT, APPLY], ITS, another.clone(), only;
            "a claim", &[APPROVER, ADMIN], &[MERGE, JSON, APPLY], ITS, claim(), only;
            "a verdict", &[APPROVER, SECOND, SCRIBE], &[MERGE, JSON], ITS, verdict(), only;
            "a memory", &[APPROVER], &[MERGE], ITS, rollbacks_of_another(), only;
            "an owner", &[APPROVER], &[MERGE], ITS, json!({"metadata": {"ownerReferences": null}}), only;
            "a label", &[APPROVER, POWERLESS], &[MERGE, JSON], ITS, json!({"metadata": {"labels": {"team": "shop"}}}), only;
            "an annotation", &[APPROVER], &[MERGE], ITS, super::remark(), only;
            "deleted", &[ADMIN, OWNER], &[DELETE, DELETE.dry(), DELETE_ALL], ITS, json!({}), only;
            "made by people", &[REQUESTER, APPROVER, EDITOR, GITOPS], &[POST], NEW, json!({}), Expect::Rbac;
            "made by applying", &[APPROVER, SCRIBE], &[APPLY], NEW, json!({}), Expect::Rbac;
            "deleted by people", &[REQUESTER, APPROVER, EDITOR], &[DELETE], ITS, json!({}), Expect::Rbac;
            "changed by people", &[REQUESTER, EDITOR, GITOPS], &[MERGE], ITS, verdict(), Expect::Rbac;
            "deleted by the controller", &[CONTROLLER], &[DELETE, DELETE_ALL], ITS, json!({}), Expect::Rbac;
        },
        twins: twins! {
            "made by the controller", &[CONTROLLER], &[POST], NEW, json!({});
            "deleted with its Deployment", &[COLLECTOR], &[DELETE], ITS, json!({});
            "deleted with its namespace", &[CLEANER], &[DELETE_ALL], ITS, json!({});
            "changed by the controller", &[CONTROLLER], &[PUT], ITS, merged_rollbacks(&another);
            "lifted", &[APPROVER, SECOND, POWERLESS, ADMIN, OWNER], &[MERGE, JSON, APPLY], ITS, lift("$ME", "$BAD");
        },
    }
}

fn rollbacks_of_another() -> Value {
    json!({"spec": {"rollbacks": [{
        "request": "mine", "requestUid": "1", "specDigest": "x", "fromDigest": "x", "toDigest": "x",
        "at": "2026-06-01T14:05:00Z", "outcome": "Succeeded", "verified": true,
    }]}})
}

fn merged_rollbacks(more: &Value) -> Value {
    crate::fire::merged(&rollbacks(), more)
}

fn lift(by: &str, digest: &str) -> Value {
    notes(json!({LIFTED_BY: by, LIFT: digest}))
}

/// A person who may approve, in the own name, and nothing else.
pub fn lifting() -> Family {
    let own = says("lifted-by must be your own user name");
    let nothing = says("and nothing else: a RevisionLedger is written by the rollback controller");
    let unknown = says("lift is not the digest of a template that is in quarantine here");
    let whole = lift("$ME", "$BAD");
    let and = |more: Value| crate::fire::merged(&lift("$ME", "$BAD"), &more);
    Family {
        name: "lift",
        attacks: rows! {
            "by a machine", &[OVERLORD], &[MERGE, JSON, APPLY], ITS, whole.clone(), says("A ServiceAccount cannot lift a quarantine");
            "without the verb", &[SCRIBE], &[MERGE, JSON, APPLY], ITS, whole.clone(), says("may not lift a quarantine in namespace");
            "without the verb in another name", &[SCRIBE], &[MERGE], ITS, lift("anna@broxiva.example", "$BAD"), says("may not lift a quarantine in namespace");
            "in the name of another", &[SECOND, ADMIN, OWNER], &[MERGE, JSON, APPLY], ITS, lift("anna@broxiva.example", "$BAD"), own;
            "without a name", &[APPROVER], &[MERGE, JSON], ITS, notes(json!({LIFT: "$BAD"})), says("lifted-by is missing");
            "without a digest", &[APPROVER], &[MERGE, JSON], ITS, notes(json!({LIFTED_BY: "$ME"})), says("lift is missing");
            "another digest", &[APPROVER], &[MERGE, APPLY], ITS, lift("$ME", "sha256:0"), unknown;
            "everything", &[APPROVER], &[MERGE], ITS, lift("$ME", "*"), unknown;
            "and a verdict", &[APPROVER], &[MERGE, JSON], ITS, and(verdict()), nothing;
            "and a claim", &[APPROVER], &[MERGE], ITS, and(claim()), nothing;
            "and a label", &[APPROVER], &[MERGE, JSON], ITS, and(json!({"metadata": {"labels": {"team": "shop"}}})), nothing;
            "and an annotation", &[APPROVER], &[MERGE], ITS, and(super::remark()), nothing;
            "and an owner", &[APPROVER], &[MERGE], ITS, and(json!({"metadata": {"ownerReferences": []}})), nothing;
            "and a finalizer", &[APPROVER], &[MERGE], ITS, and(json!({"metadata": {"finalizers": ["example.com/mine"]}})), nothing;
            "without the resource", &[REQUESTER, GITOPS, EDITOR], &[MERGE], ITS, whole.clone(), Expect::Rbac;
        },
        twins: twins! {
            "as it should be", &[APPROVER, SECOND, ADMIN, OWNER, POWERLESS], &[MERGE, JSON, APPLY], ITS, whole;
        },
    }
}
