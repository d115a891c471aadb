//! Who attacks: persons, machines and those who stand for somebody else, each with the roles that they hold.

use std::fmt;

use serde_json::{Value, json};
use testkit::User;

/// Somebody who talks to the API server.
#[derive(Clone, Copy)]
pub struct Person {
    /// What the table calls them.
    pub slug: &'static str,
    /// How they get in.
    pub way: Way,
    /// The `ClusterRole`s that they hold in the namespace, besides those that every namespace of a test binds.
    pub roles: &'static [&'static str],
}

/// How somebody gets in.
#[derive(Clone, Copy)]
pub enum Way {
    /// With a token of their own.
    Token(User),
    /// Played by the administrator.
    Played(&'static str, &'static [&'static str]),
    /// With the token of a `ServiceAccount` in the namespace.
    Account(&'static str),
    /// With the token of a `ServiceAccount` of this project.
    System(&'static str),
    /// With the own token, in the name of a `ServiceAccount` of the namespace.
    Voice(User, &'static str),
    /// With the own token, in the name of somebody else.
    Through(User, &'static str, &'static [&'static str]),
}

impl fmt::Debug for Person {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.slug)
    }
}

const LEADS: &[&str] = &["broxiva:leads"];

const fn person(slug: &'static str, way: Way, roles: &'static [&'static str]) -> Person {
    Person { slug, way, roles }
}

/// The administrator of the cluster. Nobody is exempt.
pub const ADMIN: Person = person("admin", Way::Token(User::Admin), &[]);
/// Asks for rollbacks, and may edit the namespace.
pub const REQUESTER: Person = person("requester", Way::Token(User::Requester), &[]);
/// Approves rollbacks, and may edit the namespace.
pub const APPROVER: Person = person("approver", Way::Token(User::Approver), &[]);
/// Another one.
pub const SECOND: Person = person("second", Way::Token(User::SecondApprover), &[]);
/// May look at the namespace.
pub const OUTSIDER: Person = person("outsider", Way::Token(User::Outsider), &[]);
/// A tool that applies what is in Git.
pub const GITOPS: Person = person("gitops", Way::Token(User::Gitops), &[]);
/// A `ServiceAccount` that asks.
pub const ROBOT: Person = person(
    "robot",
    Way::Account("robot"),
    &["rollback-requester", "edit"],
);
/// A `ServiceAccount` with every role that there is.
pub const OVERLORD: Person = person(
    "overlord",
    Way::Account("overlord"),
    &[
        "rollback-requester",
        "rollback-approver",
        "rollback-break-glass",
        "rollback-expediter",
        "rollback-releaser",
        "edit",
    ],
);
/// The controller itself, taken over.
pub const CONTROLLER: Person = person("controller", Way::System("rollback-controller"), &[]);
/// The receiver of alerts, taken over.
pub const RECEIVER: Person = person(
    "receiver",
    Way::System("rollback-receiver"),
    &["rollback-trigger"],
);
/// May ask with more urgency.
pub const EXPEDITER: Person = person(
    "expediter",
    Way::Played("elke@broxiva.example", &["broxiva:oncall"]),
    &["rollback-requester", "rollback-expediter", "edit"],
);
/// May ask, and approve alone where the policy lets somebody.
pub const BREAKER: Person = person(
    "breaker",
    Way::Played("bela@broxiva.example", &["broxiva:oncall"]),
    &["rollback-requester", "rollback-break-glass", "edit"],
);
/// May take the finalizer off a request that is deleted.
pub const RELEASER: Person = person(
    "releaser",
    Way::Played("rene@broxiva.example", &[]),
    &["rollback-releaser"],
);
/// Asks and approves.
pub const BOTH: Person = person(
    "both",
    Way::Played("bo@broxiva.example", LEADS),
    &["rollback-requester", "rollback-approver", "edit"],
);
/// Writes the rules of the namespace.
pub const POLICY_ADMIN: Person = person(
    "policy-admin",
    Way::Played("paul@broxiva.example", &[]),
    &["rollback-policy-admin"],
);
/// May delete old backups and reports.
pub const KEEPER: Person = person(
    "keeper",
    Way::Played("kim@broxiva.example", &[]),
    &["rollback-policy-admin", "edit"],
);
/// Writes the rules of the namespace, also softer ones than those of production.
pub const RELAXER: Person = person(
    "relaxer",
    Way::Played("rolf@broxiva.example", &[]),
    &["rollback-policy-admin", "rollback-relax-approvals"],
);
/// Writes the rules of the namespace, and may create Jobs but not read their logs.
pub const RUNNER: Person = person(
    "runner",
    Way::Played("ruth@broxiva.example", &[]),
    &["rollback-policy-admin"],
);
/// May edit the namespace, and has nothing to do with rollbacks.
pub const EDITOR: Person = person(
    "editor",
    Way::Played("eddie@broxiva.example", &[]),
    &["edit"],
);
/// Approves, but may not patch Deployments.
pub const POWERLESS: Person = person(
    "powerless",
    Way::Played("nora@broxiva.example", LEADS),
    &["rollback-approver"],
);
/// Asks, but may not patch Deployments.
pub const ASKER: Person = person(
    "asker",
    Way::Played("alan@broxiva.example", &[]),
    &["rollback-requester"],
);
/// Asks, and may patch the Deployment `web` and no other.
pub const NARROW: Person = person(
    "narrow",
    Way::Played("nils@broxiva.example", &[]),
    &["rollback-requester"],
);
/// May patch ledgers, and nothing besides.
pub const SCRIBE: Person = person("scribe", Way::Played("sara@broxiva.example", &[]), &[]);
/// Approves, with a name that has to be written with care.
pub const ODD: Person = person(
    "odd",
    Way::Played(
        "d'Arcy \"Zoë\" O\\Neil <zoë+ops@broxiva.example>, 100 %",
        LEADS,
    ),
    &["rollback-approver", "edit"],
);
/// Approves the request `limited` and no other.
pub const LIMITED: Person = person(
    "limited",
    Way::Played("lia@broxiva.example", LEADS),
    &["rollback-requester", "edit"],
);
/// Has every verb on everything in the namespace.
pub const OWNER: Person = person("owner", Way::Played("olaf@broxiva.example", &[]), &[]);
/// A person whom somebody has put into the group of all `ServiceAccount`s.
pub const MARKED: Person = person(
    "marked",
    Way::Played(
        "mark@broxiva.example",
        &["broxiva:leads", "system:serviceaccounts"],
    ),
    &["rollback-approver", "edit"],
);
/// Somebody whom nobody has given anything.
pub const NOBODY: Person = person("nobody", Way::Played("nobody@broxiva.example", &[]), &[]);
/// Somebody who has not said who it is.
pub const ANONYMOUS: Person = person(
    "anonymous",
    Way::Played("system:anonymous", &["system:unauthenticated"]),
    &[],
);
/// Kubernetes' own garbage collector.
pub const COLLECTOR: Person = person(
    "garbage-collector",
    Way::Played(
        "system:serviceaccount:kube-system:generic-garbage-collector",
        &[],
    ),
    &[],
);
/// Who empties a namespace that is deleted.
pub const CLEANER: Person = person(
    "namespace-controller",
    Way::Played(
        "system:serviceaccount:kube-system:namespace-controller",
        &[],
    ),
    &[],
);
/// The requester, who says that she is the approver.
pub const PRETENDER: Person = person(
    "pretender",
    Way::Through(User::Requester, "anna@broxiva.example", &[]),
    &[],
);
/// The requester, who says that she is in the group of the administrators.
pub const CLIMBER: Person = person(
    "climber",
    Way::Through(User::Requester, "rita@broxiva.example", &["system:masters"]),
    &[],
);
/// The approver, who says that she is the robot.
pub const VENTRILOQUIST: Person = person("ventriloquist", Way::Voice(User::Approver, "robot"), &[]);
/// The approver, who says that she is the controller.
pub const CONTROLLER_BY_APPROVER: Person = person(
    "controller-by-approver",
    Way::Through(
        User::Approver,
        "system:serviceaccount:rollback-system:rollback-controller",
        &[],
    ),
    &[],
);

/// Everybody who holds roles that have to be bound.
const BOUND: [Person; 18] = [
    ROBOT,
    OVERLORD,
    RECEIVER,
    EXPEDITER,
    BREAKER,
    RELEASER,
    BOTH,
    POLICY_ADMIN,
    KEEPER,
    RELAXER,
    RUNNER,
    EDITOR,
    POWERLESS,
    ASKER,
    NARROW,
    LIMITED,
    ODD,
    MARKED,
];

/// `ServiceAccount`s of the namespace.
pub const ACCOUNTS: [Person; 2] = [ROBOT, OVERLORD];

impl Person {
    /// The name that the API server knows them by.
    pub fn name(&self, namespace: &str) -> String {
        match self.way {
            Way::Token(user) => user.as_str().to_owned(),
            Way::Played(name, _) | Way::Through(_, name, _) => name.to_owned(),
            Way::Account(name) | Way::Voice(_, name) => {
                format!("system:serviceaccount:{namespace}:{name}")
            }
            Way::System(name) => format!("system:serviceaccount:rollback-system:{name}"),
        }
    }

    fn subject(&self, namespace: &str) -> Value {
        match self.way {
            Way::Account(name) => {
                json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
            }
            Way::System(name) => {
                json!({"kind": "ServiceAccount", "namespace": "rollback-system", "name": name})
            }
            Way::Token(_) | Way::Voice(..) | Way::Played(..) | Way::Through(..) => {
                json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": self.name(namespace)})
            }
        }
    }
}

/// Everything that gives these people what they hold, as a list of objects.
pub fn grants(namespace: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = ACCOUNTS
        .iter()
        .map(|account| {
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account.slug}})
        })
        .collect();
    for person in BOUND {
        for role in person.roles {
            let name = format!("{}-{role}", person.slug);
            objects.push(binding(
                &name,
                "ClusterRole",
                role,
                &person.subject(namespace),
            ));
        }
    }
    let special = [
        (NARROW, "web-only", named("web", "deployments", &["patch"])),
        (
            CONTROLLER,
            "capacity-of-worker",
            named("worker", "deployments/scale", &["patch"]),
        ),
        // More than it is ever given: the guard has to hold it all the same.
        (
            CONTROLLER,
            "too-much",
            named("api", "deployments/status", &["patch"]),
        ),
        (
            LIMITED,
            "one-approval",
            json!([{"apiGroups": ["rollback.broxiva.com"], "resources": ["rollbackrequests/approval"], "resourceNames": ["limited"], "verbs": ["approve"]}]),
        ),
        (
            SCRIBE,
            "scribe",
            json!([{"apiGroups": ["rollback.broxiva.com"], "resources": ["revisionledgers"], "verbs": ["patch"]}]),
        ),
        (
            RUNNER,
            "jobs-alone",
            json!([{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}]),
        ),
        (
            OWNER,
            "everything",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        ),
    ];
    for (person, role, rules) in special {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": role}, "rules": rules,
        }));
        objects.push(binding(role, "Role", role, &person.subject(namespace)));
    }
    objects
}

fn named(name: &str, resource: &str, verbs: &[&str]) -> Value {
    json!([{"apiGroups": ["apps"], "resources": [resource], "resourceNames": [name], "verbs": verbs}])
}

fn binding(name: &str, kind: &str, role: &str, subject: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": format!("attacks-{name}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [subject],
    })
}
