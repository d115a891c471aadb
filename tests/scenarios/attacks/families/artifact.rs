//! Backups and reports are evidence.

use rollback_api::{ARTIFACT_LABEL, REQUEST_UID_LABEL};
use serde_json::{Value, json};

use crate::attack::{
    APPLY, DELETE, DELETE_ALL, Expect, Family, JSON, MERGE, POST, PUT, STRATEGIC, Thing,
};
use crate::people::{
    ADMIN, APPROVER, CONTROLLER, EDITOR, GITOPS, KEEPER, OWNER, POLICY_ADMIN, RECEIVER, REQUESTER,
    ROBOT,
};

const NEW: &[Thing] = &[Thing::NewMap];
const BOTH: &[Thing] = &[Thing::Backup, Thing::Incident];
const NOTES: &[Thing] = &[Thing::Notes];

const fn says(what: &'static str) -> Expect {
    Expect::Guard("rollback-guard-artifact", what)
}

fn labelled(key: &str, value: &str) -> Value {
    json!({"metadata": {"labels": {key: value}}, "immutable": true})
}

fn called(name: &str) -> Value {
    json!({"metadata": {"name": name}, "immutable": true})
}

/// Only the controller makes them.
pub fn making() -> Family {
    let only = says("and only it creates those");
    let soft = json!({"metadata": {"labels": {ARTIFACT_LABEL: "backup"}}});
    Family {
        name: "artifact-made",
        attacks: rows! {
            "a backup", &[EDITOR, REQUESTER, ADMIN, OWNER], &[POST, APPLY], NEW, labelled(ARTIFACT_LABEL, "backup"), only;
            "an incident", &[EDITOR, APPROVER, KEEPER, GITOPS], &[POST], NEW, labelled(ARTIFACT_LABEL, "incident"), only;
            "of some other kind", &[EDITOR], &[POST, POST.dry()], NEW, labelled(ARTIFACT_LABEL, ""), only;
            "of a request", &[EDITOR, ROBOT], &[POST], NEW, labelled(REQUEST_UID_LABEL, "1"), only;
            "called like a backup", &[EDITOR, ADMIN], &[POST, APPLY], NEW, called("rollback-backup-00000000deadbeef"), only;
            "called like an incident", &[EDITOR], &[POST, APPLY], NEW, called("rollback-20260602-000000-deadbeef"), only;
            "one that could change", &[CONTROLLER], &[POST], NEW, soft, says("must be immutable");
            "without the verb", &[POLICY_ADMIN, RECEIVER], &[POST], NEW, labelled(ARTIFACT_LABEL, "backup"), Expect::Rbac;
            "applied by the controller", &[CONTROLLER], &[APPLY], NEW, labelled(ARTIFACT_LABEL, "backup"), Expect::Rbac;
        },
        twins: twins! {
            "by the controller", &[CONTROLLER], &[POST], NEW, labelled(ARTIFACT_LABEL, "backup");
            "a map of one's own", &[EDITOR, REQUESTER, ADMIN, OWNER, APPROVER, KEEPER, GITOPS, ROBOT], &[POST, APPLY], NEW, called("rollback-notes");
            "a map with a label of one's own", &[EDITOR], &[POST, APPLY], NEW, labelled("team", "shop");
        },
    }
}

/// And nobody changes them.
pub fn changing() -> Family {
    let never = says("are evidence and never change");
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    let data = json!({"data": {"text": "as I like it"}});
    Family {
        name: "artifact-changed",
        attacks: rows! {
            "the label taken away", &[EDITOR, ADMIN], &[MERGE, JSON, PUT, STRATEGIC], BOTH, label(ARTIFACT_LABEL, Value::Null), never;
            "another request", &[EDITOR, OWNER], &[MERGE, APPLY, STRATEGIC], BOTH, label(REQUEST_UID_LABEL, json!("2")), never;
            "another kind", &[REQUESTER, APPROVER, KEEPER], &[MERGE], BOTH, label(ARTIFACT_LABEL, json!("mine")), never;
            "a note", &[EDITOR, GITOPS], &[MERGE, APPLY], BOTH, super::remark(), never;
            "an owner", &[EDITOR], &[MERGE, JSON], BOTH, orphan(), never;
            "a finalizer", &[EDITOR], &[MERGE], BOTH, json!({"metadata": {"finalizers": ["example.com/mine"]}}), never;
            "a map becomes one", &[EDITOR, ADMIN], &[MERGE, JSON, PUT, APPLY, STRATEGIC], NOTES, label(ARTIFACT_LABEL, json!("backup")), never;
            "a map becomes one of a request", &[EDITOR, ROBOT], &[MERGE], NOTES, label(REQUEST_UID_LABEL, json!("1")), never;
            "data", &[EDITOR, ADMIN], &[MERGE, PUT, APPLY], BOTH, data.clone(), Expect::Schema("immutable");
            "changed by the controller", &[CONTROLLER], &[MERGE, PUT], BOTH, super::remark(), Expect::Rbac;
        },
        twins: twins! {
            "a map of one's own", &[EDITOR, ADMIN, OWNER, REQUESTER, APPROVER, KEEPER, GITOPS, ROBOT], &[MERGE, JSON, PUT, APPLY, STRATEGIC], NOTES, crate::fire::merged(&data, &label("team", json!("shop")));
        },
    }
}

fn orphan() -> Value {
    json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"},
    ]}})
}

/// And only who may purge deletes them.
pub fn deleting() -> Family {
    let purge = says("evidence, and not deleted in passing");
    Family {
        name: "artifact-deleted",
        attacks: rows! {
            "one", &[EDITOR, REQUESTER, APPROVER, GITOPS, ROBOT], &[DELETE], BOTH, json!({}), purge;
            "one", &[EDITOR], &[DELETE.dry()], BOTH, json!({}), purge;
            "all", &[EDITOR, REQUESTER], &[DELETE_ALL], BOTH, json!({}), says("not deleted in passing");
            "without delete", &[POLICY_ADMIN, CONTROLLER, RECEIVER], &[DELETE], BOTH, json!({}), Expect::Rbac;
            "all without delete", &[CONTROLLER], &[DELETE_ALL], BOTH, json!({}), Expect::Rbac;
        },
        twins: twins! {
            "by who may purge", &[KEEPER, OWNER, ADMIN], &[DELETE, DELETE_ALL], BOTH, json!({});
            "a map of one's own", &[EDITOR, REQUESTER, APPROVER, GITOPS, ROBOT], &[DELETE], NOTES, json!({});
        },
    }
}
