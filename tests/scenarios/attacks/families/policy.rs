//! The rules of a namespace, and who writes them.

use serde_json::{Value, json};

use crate::attack::{APPLY, DELETE, Expect, Family, JSON, MERGE, POST, PUT, Thing};
use crate::people::{
    ADMIN, APPROVER, CONTROLLER, EDITOR, GITOPS, KEEPER, OUTSIDER, OVERLORD, OWNER, POLICY_ADMIN,
    RECEIVER, REQUESTER,
};

const ITS: &[Thing] = &[Thing::Policy];

fn capacity(names: &[&str]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    json!({"spec": {"capacity": {"scaleDown": names}}})
}

fn hooks(when: &str) -> Value {
    let mut patch = json!({"spec": {"hooks": {}}});
    patch["spec"]["hooks"][when] = json!([job()]);
    patch
}

fn job() -> Value {
    json!({"name": "miner", "podSpec": {"serviceAccountName": "robot", "containers": [{"name": "main", "image": "miner:1"}]}})
}

/// Who may name Deployments that are scaled down, or Jobs, and who may not write rules at all.
pub fn family() -> Family {
    let one = Expect::Guard(
        "rollback-guard-policy",
        "may not patch the Deployment api in namespace",
    );
    let many = Expect::Guard(
        "rollback-guard-policy",
        "may not patch Deployments in namespace",
    );
    let jobs = Expect::Guard("rollback-guard-policy", "may not create Jobs in namespace");
    let smoke = json!({"spec": {"verification": {"jobs": [job()]}}});
    let migration = json!({"spec": {"dataGate": {"migrationStatus": job()}}});
    let alone =
        json!({"spec": {"approvals": {"required": 1, "fourEyes": false, "breakGlass": true}}});
    Family {
        name: "policy",
        attacks: rows! {
            "one more may be scaled down", &[POLICY_ADMIN], &[MERGE, JSON, PUT, APPLY, MERGE.dry()], ITS, capacity(&["worker", "api"]), one;
            "another may be scaled down", &[POLICY_ADMIN], &[MERGE], ITS, capacity(&["api"]), one;
            "two more may be scaled down", &[POLICY_ADMIN], &[MERGE, JSON], ITS, capacity(&["api", "web"]), many;
            "a Job before", &[POLICY_ADMIN], &[MERGE, JSON, PUT, APPLY, MERGE.dry()], ITS, hooks("preRollback"), jobs;
            "a Job afterwards", &[POLICY_ADMIN], &[MERGE, JSON], ITS, hooks("postRollback"), jobs;
            "a smoke test", &[POLICY_ADMIN], &[MERGE, JSON], ITS, smoke.clone(), jobs;
            "the status of migrations", &[POLICY_ADMIN], &[MERGE, JSON], ITS, migration.clone(), jobs;
            "softer", &[REQUESTER, APPROVER, EDITOR, GITOPS, CONTROLLER, OVERLORD, OUTSIDER, RECEIVER], &[MERGE], ITS, alone, Expect::Rbac;
            "deleted", &[REQUESTER, EDITOR, CONTROLLER], &[DELETE], ITS, json!({}), Expect::Rbac;
        },
        twins: twins! {
            "one less may be scaled down", &[POLICY_ADMIN], &[MERGE, JSON, PUT], ITS, capacity(&[]);
            "the same may be scaled down", &[POLICY_ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, capacity(&["worker"]);
            "more may be scaled down, by who may patch them", &[KEEPER, OWNER, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, capacity(&["api", "web"]);
            "a Job before, by who may create Jobs", &[KEEPER, OWNER, ADMIN], &[MERGE, JSON, PUT, APPLY], ITS, hooks("preRollback");
            "a Job afterwards, by who may create Jobs", &[KEEPER], &[MERGE], ITS, hooks("postRollback");
            "a smoke test, by who may create Jobs", &[KEEPER], &[MERGE], ITS, smoke;
            "the status of migrations, by who may create Jobs", &[KEEPER], &[MERGE], ITS, migration;
        },
    }
}

/// What no policy may say.
pub fn schema() -> Family {
    let approvals = |approvals: Value| json!({"spec": {"approvals": approvals}});
    Family {
        name: "policy-schema",
        attacks: rows! {
            "another name", &[POLICY_ADMIN, ADMIN], &[POST], ITS, json!({"metadata": {"name": "mine"}}), Expect::Schema("its name is default");
            "no approval at all", &[POLICY_ADMIN], &[MERGE, JSON], ITS, approvals(json!({"required": 0})), Expect::Schema("required");
            "less than none", &[POLICY_ADMIN], &[MERGE], ITS, approvals(json!({"required": -1})), Expect::Schema("required");
            "an empty phrase", &[POLICY_ADMIN], &[MERGE, APPLY], ITS, approvals(json!({"confirmPhrase": ""})), Expect::Schema("confirmPhrase");
            "a phrase of two lines", &[POLICY_ADMIN], &[MERGE], ITS, approvals(json!({"confirmPhrase": "a\nb"})), Expect::Schema("confirmPhrase");
            "an item with a comma", &[POLICY_ADMIN], &[MERGE], ITS, approvals(json!({"checklist": [{"name": "a,b", "text": "x"}]})), Expect::Schema("checklist");
        },
        twins: twins! {
            "a stricter one", &[POLICY_ADMIN, ADMIN], &[MERGE, JSON, APPLY], ITS, approvals(json!({"required": 3, "confirmPhrase": "YES", "checklist": [{"name": "a", "text": "x"}, {"name": "b", "text": "y"}]}));
        },
    }
}
