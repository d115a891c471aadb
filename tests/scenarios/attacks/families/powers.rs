//! What nobody was given: the authorizer refuses it before the guard is asked.

use serde_json::{Value, json};

use super::approval;
use crate::attack::{
    APPLY, AWAITING, DELETE, DELETE_ALL, Expect, Family, GET, JSON, MERGE, POST, PUT, Thing,
};
use crate::people::{
    ADMIN, ANONYMOUS, APPROVER, CLIMBER, CONTROLLER, CONTROLLER_BY_APPROVER, EDITOR, GITOPS,
    NOBODY, OUTSIDER, POLICY_ADMIN, PRETENDER, Person, RECEIVER, REQUESTER,
};

const NEW: &[Thing] = &[Thing::NewRequest];
const VAP: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/rollback-guard-approval";
const BINDING: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/rollback-guard-approval";
const STAMP: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/rollback-guard-stamp";
const SECRETS: &str = "/api/v1/namespaces/$NS/secrets";
const TOKEN: &str = "/api/v1/namespaces/$NS/serviceaccounts/default/token";
const OWN_TOKEN: &str =
    "/api/v1/namespaces/rollback-system/serviceaccounts/rollback-controller/token";
const PODS: &str = "/api/v1/namespaces/$NS/pods";
const SETS: &str = "/apis/apps/v1/namespaces/$NS/replicasets";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/$NS/rolebindings";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/$NS/deployments";
const JOBS: &str = "/apis/batch/v1/namespaces/$NS/jobs";
const MAPS: &str = "/api/v1/namespaces/$NS/configmaps";
const KUBE_SYSTEM: &str = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";
const ELSEWHERE: &str =
    "/apis/rollback.broxiva.com/v1alpha1/namespaces/rollback-system/rollbackrequests";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

const CONTROLLERS: &[Person] = &[CONTROLLER];
const RECEIVERS: &[Person] = &[RECEIVER];

/// The controller, when it is taken over.
pub fn controller() -> Family {
    Family {
        name: "controller-powers",
        attacks: rows! {
            "reads Secrets", CONTROLLERS, &[GET], &[Thing::Path(SECRETS)], json!({}), Expect::Rbac;
            "makes tokens", CONTROLLERS, &[POST], &[Thing::Path(TOKEN), Thing::Path(OWN_TOKEN)], json!({}), Expect::Rbac;
            "makes pods", CONTROLLERS, &[POST], &[Thing::Path(PODS), Thing::Path(JOBS)], json!({}), Expect::Rbac;
            "makes Deployments", CONTROLLERS, &[POST, DELETE_ALL], &[Thing::Path(DEPLOYMENTS)], json!({}), Expect::Rbac;
            "deletes history", CONTROLLERS, &[DELETE_ALL], &[Thing::Path(SETS)], json!({}), Expect::Rbac;
            "lists maps", CONTROLLERS, &[GET], &[Thing::Path(MAPS)], json!({}), Expect::Rbac;
            "binds roles", CONTROLLERS, &[POST], &[Thing::Path(BINDINGS)], json!({}), Expect::Rbac;
            "patches elsewhere", CONTROLLERS, &[MERGE], &[Thing::Path(KUBE_SYSTEM)], json!({}), Expect::Rbac;
            "leads elsewhere", CONTROLLERS, &[POST], &[Thing::Path(LEASE)], json!({}), Expect::Rbac;
            "takes the guard away", CONTROLLERS, &[DELETE, MERGE], &[Thing::Path(VAP), Thing::Path(BINDING), Thing::Path(STAMP)], json!({}), Expect::Rbac;
            "asks", CONTROLLERS, &[POST], NEW, json!({}), Expect::Rbac;
            "applies", CONTROLLERS, &[APPLY], NEW, json!({}), Expect::Rbac;
            "deletes a request", CONTROLLERS, &[DELETE, DELETE_ALL], &[AWAITING], json!({}), Expect::Rbac;
            "replaces a request", CONTROLLERS, &[PUT], &[AWAITING], approval(), Expect::Rbac;
        },
        twins: twins! {
            "reads a Deployment", CONTROLLERS, &[GET], &[Thing::App], json!({});
            "reads a request", CONTROLLERS, &[GET], &[AWAITING], json!({});
        },
    }
}

/// The receiver, when it is taken over.
pub fn receiver() -> Family {
    let alert = json!({"spec": {"targets": [
        {"name": "api", "to": {"previous": {}}, "from": {"image": "registry.broxiva.example/api:v2"}},
    ]}});
    Family {
        name: "receiver-powers",
        attacks: rows! {
            "reads requests", RECEIVERS, &[GET], &[AWAITING], json!({}), Expect::Rbac;
            "deletes requests", RECEIVERS, &[DELETE, DELETE_ALL], &[AWAITING], json!({}), Expect::Rbac;
            "reads Deployments", RECEIVERS, &[GET], &[Thing::App], json!({}), Expect::Rbac;
            "reads Secrets", RECEIVERS, &[GET], &[Thing::Path(SECRETS)], json!({}), Expect::Rbac;
            "makes pods", RECEIVERS, &[POST], &[Thing::Path(PODS)], json!({}), Expect::Rbac;
            "asks where it is not bound", RECEIVERS, &[POST], &[Thing::Path(ELSEWHERE)], elsewhere(), Expect::Rbac;
            "approves", RECEIVERS, &[MERGE, JSON, PUT, APPLY], &[AWAITING], approval(), Expect::Rbac;
            "patches a Deployment", RECEIVERS, &[MERGE], &[Thing::App], json!({"spec": {"replicas": 0}}), Expect::Rbac;
        },
        twins: twins! {
            "asks", RECEIVERS, &[POST], NEW, alert;
        },
    }
}

fn elsewhere() -> Value {
    testkit::scene::request("new", json!([{"name": "api", "to": {"previous": {}}}]))
}

/// People, beyond their roles.
pub fn people() -> Family {
    const OUTSIDERS: &[Person] = &[OUTSIDER, NOBODY, ANONYMOUS, EDITOR, POLICY_ADMIN];
    const LIARS: &[Person] = &[PRETENDER, CLIMBER, CONTROLLER_BY_APPROVER];
    let mut family = Family {
        name: "people-powers",
        attacks: rows! {
            "ask", OUTSIDERS, &[POST], NEW, json!({}), Expect::Rbac;
            "approve", OUTSIDERS, &[MERGE], &[AWAITING], approval(), Expect::Rbac;
            "approve", &[OUTSIDER], &[JSON, PUT, APPLY], &[AWAITING], approval(), Expect::Rbac;
            "pretend and approve", LIARS, &[MERGE, JSON], &[AWAITING], approval(), Expect::Rbac;
            "pretend and ask", LIARS, &[POST], NEW, json!({}), Expect::Rbac;
            "approver asks", &[APPROVER], &[POST], NEW, json!({}), Expect::Rbac;
            "approver deletes", &[APPROVER], &[DELETE], &[AWAITING], json!({}), Expect::Rbac;
            "delete all requests", &[REQUESTER, GITOPS], &[DELETE_ALL], &[AWAITING], json!({}), Expect::Rbac;
            "take the guard away", &[REQUESTER, APPROVER, EDITOR], &[DELETE], &[Thing::Path(VAP), Thing::Path(BINDING), Thing::Path(STAMP)], json!({}), Expect::Rbac;
        },
        twins: twins! {
            "approve", &[APPROVER], &[MERGE, JSON, PUT, APPLY], &[AWAITING], approval();
            "ask", &[REQUESTER], &[POST], NEW, json!({});
            "delete", &[REQUESTER, GITOPS], &[DELETE], &[AWAITING], json!({});
            "take the guard away", &[ADMIN], &[DELETE], &[Thing::Path(VAP), Thing::Path(BINDING)], json!({});
        },
    };
    if !testkit::typed::is_on() {
        family.twins.extend(twins! {
            "take the stamp away", &[ADMIN], &[DELETE], &[Thing::Path(STAMP)], json!({});
        });
    }
    family
}
