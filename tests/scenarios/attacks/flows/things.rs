//! Rules, ledgers, evidence and Deployments.

use rollback_api::{ARTIFACT_LABEL, LIFT, LIFTED_BY};
use serde_json::{Value, json};

use super::engine::{Flow, Step, flow};
use crate::attack::{APPLY, DELETE, DELETE_ALL, How, JSON, MERGE, POST, PUT, Thing};
use crate::people::{ADMIN, APPROVER, CONTROLLER, EDITOR, KEEPER, POLICY_ADMIN, Person, RELAXER};

const NAMESPACE: Thing = Thing::Path("/api/v1/namespaces/$NS");

/// One after the other, in one namespace without a controller.
pub fn flows() -> Vec<Flow> {
    let mut flows = rules();
    flows.extend(deployments());
    flows.extend(evidence());
    flows.extend(ends());
    flows
}

fn rule(who: Person, how: How, what: Value) -> Step {
    Step::To(who, how, Thing::Policy, what)
}

fn approvals(approvals: Value) -> Value {
    let mut patch = json!({"spec": {}});
    patch["spec"]["approvals"] = approvals;
    patch
}

fn rules() -> Vec<Flow> {
    let capacity = |names: &[&str]| {
        let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"capacity": {"scaleDown": names}}})
    };
    let two = approvals(json!({"required": 2}));
    let three = approvals(json!({"required": 3}));
    let eyes = approvals(json!({"fourEyes": true}));
    let glass = approvals(json!({"breakGlass": true}));
    let window = json!({"name": "friday", "schedule": "0 18 * * FRI", "durationMinutes": 60});
    let frozen = json!({"spec": {"freezeWindows": [window]}});
    let both = capacity(&["worker", "api"]);
    let one = capacity(&["worker"]);
    let named = vec![rule(KEEPER, MERGE, both), rule(POLICY_ADMIN, MERGE, one)];
    // What stays as it is, or is taken out, takes no right to run anything.
    let job =
        json!({"name": "drain", "podSpec": {"containers": [{"name": "main", "image": "drain:1"}]}});
    let hooks = |jobs: &[&Value]| json!({"spec": {"hooks": {"preRollback": jobs}}});
    let jobs = vec![
        rule(KEEPER, MERGE, hooks(&[&job])),
        rule(POLICY_ADMIN, JSON, approvals(json!({"required": 2}))),
        rule(POLICY_ADMIN, MERGE, hooks(&[&job])),
        rule(POLICY_ADMIN, MERGE, hooks(&[])),
    ];
    vec![
        flow("first-rules", vec![rule(POLICY_ADMIN, POST, two)]),
        flow("more-approvals", vec![rule(POLICY_ADMIN, MERGE, three)]),
        flow("four-eyes", vec![rule(POLICY_ADMIN, JSON, eyes)]),
        flow("frozen", vec![rule(POLICY_ADMIN, APPLY, frozen)]),
        flow("glass", vec![rule(RELAXER, PUT, glass)]),
        flow("capacity-named", named),
        flow("jobs-named", jobs),
    ]
}

fn deployments() -> Vec<Flow> {
    let replicas = |replicas: i64| json!({"spec": {"replicas": replicas}});
    let scale = |who, how, to| Step::To(who, how, Thing::Worker, replicas(to));
    let template = json!({"metadata": {"annotations": {"example.com/restored": "yes"}}});
    let restored = json!({"spec": {"template": template}});
    let made = vec![scale(CONTROLLER, MERGE, 0), scale(CONTROLLER, JSON, 1)];
    let scaled = vec![scale(EDITOR, MERGE, 2), scale(EDITOR, MERGE.on("scale"), 1)];
    let template = vec![Step::To(CONTROLLER, JSON, Thing::App, restored)];
    vec![
        flow("capacity-made", made),
        flow("scaled-by-people", scaled),
        flow("template-restored", template),
    ]
}

fn evidence() -> Vec<Flow> {
    let lift = json!({"metadata": {"annotations": {LIFTED_BY: "$ME", LIFT: "$BAD"}}});
    let history = json!({"spec": {"rollbacks": []}});
    let text = |text: &str| json!({"data": {"text": text}});
    let none = || json!({});
    let notes = vec![
        Step::To(EDITOR, POST, Thing::NewMap, text("mine")),
        Step::To(EDITOR, PUT, Thing::NewMap, text("still mine")),
        Step::To(EDITOR, DELETE, Thing::NewMap, none()),
        Step::Gone(Thing::NewMap),
    ];
    let one = vec![
        Step::To(KEEPER, DELETE, Thing::Backup, none()),
        Step::Gone(Thing::Backup),
    ];
    let all = vec![
        Step::To(KEEPER, DELETE_ALL, Thing::Incident, none()),
        Step::Gone(Thing::Incident),
    ];
    let lifted = vec![Step::To(APPROVER, MERGE, Thing::Ledger, lift)];
    let written = vec![Step::To(CONTROLLER, PUT, Thing::Ledger, history)];
    vec![
        flow("lifted", lifted),
        flow("ledger-written", written),
        flow("notes-of-ones-own", notes),
        flow("one-purged", one),
        flow("all-purged", all),
    ]
}

fn ends() -> Vec<Flow> {
    let none = || json!({});
    let backup = json!({
        "metadata": {"name": "rollback-backup-00000000deadbeef", "labels": {ARTIFACT_LABEL: "backup"}},
        "immutable": true,
    });
    let deleted = vec![
        rule(POLICY_ADMIN, DELETE, none()),
        Step::Gone(Thing::Policy),
    ];
    let orphaned = vec![
        Step::To(ADMIN, DELETE.orphaning(), Thing::App, none()),
        Step::Gone(Thing::App),
        Step::Holds(Thing::Ledger, "/metadata/ownerReferences", Value::Null),
    ];
    let taken_along = vec![
        Step::To(CONTROLLER, POST, Thing::NewMap, backup),
        Step::To(ADMIN, DELETE, NAMESPACE, none()),
        Step::Gone(NAMESPACE),
    ];
    vec![
        flow("rules-deleted", deleted),
        flow("ledger-orphaned", orphaned),
        flow("namespace-takes-all-along", taken_along),
    ]
}
