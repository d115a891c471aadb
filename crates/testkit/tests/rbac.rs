//! What the shipped roles promise, read from the file that is installed. Needs no cluster.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The permissions of people that are only names: they are asked for by the guard.
const VIRTUAL: [(&str, &str); 7] = [
    ("approve", "rollbackrequests/approval"),
    ("break-glass", "rollbackrequests/break-glass"),
    ("expedite", "rollbackrequests/expedite"),
    ("purge", "rollbackrequests/purge"),
    ("release", "rollbackrequests/finalizer"),
    ("relax", "rollbackpolicies/approvals"),
    ("trigger", "rollbackrequests/trigger"),
];

fn of_kind<K: DeserializeOwned>(kind: &str) -> Result<Vec<K>> {
    let file = testkit::workspace().join("deploy/10-rbac.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(file)?)?;
    let found = documents
        .into_iter()
        .filter(|document| document["kind"] == kind)
        .map(|document| serde_json::from_value(document).with_context(|| format!("a {kind}")));
    found.collect()
}

/// The roles as the control plane completes them: those that are put together have the rules of their parts.
fn roles() -> Result<Vec<ClusterRole>> {
    let shipped: Vec<ClusterRole> = of_kind("ClusterRole")?;
    let completed = shipped.iter().map(|role| {
        let selectors = selectors(role);
        if selectors.is_empty() {
            return role.clone();
        }
        let parts = shipped
            .iter()
            .filter(|part| selectors.iter().any(|labels| has_labels(part, labels)));
        let rules = parts.filter_map(|part| part.rules.clone()).flatten();
        ClusterRole {
            rules: Some(rules.collect()),
            ..role.clone()
        }
    });
    Ok(completed.collect())
}

/// The labels of the parts of a role that is put together; empty for any other.
fn selectors(role: &ClusterRole) -> Vec<BTreeMap<String, String>> {
    let aggregation = role.aggregation_rule.clone().unwrap_or_default();
    let selectors = aggregation.cluster_role_selectors.unwrap_or_default();
    selectors
        .into_iter()
        .filter_map(|selector| selector.match_labels)
        .collect()
}

fn has_labels(role: &ClusterRole, labels: &BTreeMap<String, String>) -> bool {
    let own = role.metadata.labels.clone().unwrap_or_default();
    labels
        .iter()
        .all(|(key, value)| own.get(key) == Some(value))
}

fn name(role: &ClusterRole) -> String {
    role.metadata.name.clone().unwrap_or_default()
}

fn holders(verb: &str, group: &str, resource: &str) -> Result<Vec<String>> {
    let roles = roles()?;
    let holders = roles.iter().filter(|role| may(role, verb, group, resource));
    Ok(holders.map(name).collect())
}

fn may(role: &ClusterRole, verb: &str, group: &str, resource: &str) -> bool {
    let has = |list: Option<&Vec<String>>, one: &str| {
        list.is_some_and(|list| list.iter().any(|entry| entry == one || entry == "*"))
    };
    let allows = |rule: &PolicyRule| {
        has(Some(&rule.verbs), verb)
            && has(rule.api_groups.as_ref(), group)
            && has(rule.resources.as_ref(), resource)
            && rule.resource_names.as_ref().is_none_or(Vec::is_empty)
    };
    role.rules
        .as_ref()
        .is_some_and(|rules| rules.iter().any(allows))
}

/// A ledger keeps whole pod templates, environment included.
#[test]
fn whoever_may_read_ledgers_may_read_deployments() -> Result<()> {
    let mut readers = 0;
    for role in roles()? {
        let name = name(&role);
        for verb in ["get", "list", "watch"] {
            let ledgers = may(&role, verb, "rollback.broxiva.com", "revisionledgers");
            ensure!(
                !ledgers || may(&role, verb, "apps", "deployments"),
                "{name} may {verb} revisionledgers and not deployments"
            );
            readers += usize::from(ledgers);
        }
    }
    ensure!(readers >= 10, "only {readers}: is this the right file?");
    Ok(())
}

/// A quarantine is lifted by those who approve, and by nobody who only asks or looks.
#[test]
fn only_approvers_and_the_controller_write_ledgers() -> Result<()> {
    let mut writers = Vec::new();
    for role in roles()? {
        let verbs = ["create", "update", "patch", "delete"];
        let granted = verbs
            .iter()
            .filter(|verb| may(&role, verb, "rollback.broxiva.com", "revisionledgers"));
        let granted: Vec<&str> = granted.copied().collect();
        if !granted.is_empty() {
            writers.push((name(&role), granted.join(" ")));
        }
    }
    let writers: Vec<(&str, &str)> = writers
        .iter()
        .map(|(name, verbs)| (name.as_str(), verbs.as_str()))
        .collect();
    assert_eq!(
        writers,
        [
            ("rollback-executor", "create update"),
            ("rollback-approver", "patch"),
            ("rollback-approve", "patch")
        ]
    );
    Ok(())
}

/// The four roles to bind say nothing of their own: `rules` here, even empty ones, would take the control plane's away
/// for a moment each time that the file is applied.
#[test]
fn the_roles_to_bind_are_put_together_from_labelled_parts() -> Result<()> {
    let shipped: Vec<ClusterRole> = of_kind("ClusterRole")?;
    let mut together = Vec::new();
    for role in &shipped {
        let name = name(role);
        let Some(short) = name
            .strip_prefix("rollback-")
            .filter(|_| role.aggregation_rule.is_some())
        else {
            continue;
        };
        let label = format!("rollback.broxiva.com/aggregate-to-{short}");
        let expected = BTreeMap::from([(label, "true".to_owned())]);
        ensure!(selectors(role) == [expected], "{name} selects other labels");
        ensure!(role.rules.is_none(), "{name} has rules of its own");
        together.push(short.to_owned());
    }
    assert_eq!(
        together,
        ["requester", "approver", "viewer", "policy-admin"]
    );
    for role in roles()? {
        let empty = role.rules.as_ref().is_none_or(Vec::is_empty);
        ensure!(!empty, "{} grants nothing", name(&role));
    }
    Ok(())
}

/// What comes along with `view`, `edit` and `admin` reads.
#[test]
fn only_reading_comes_along_with_the_stock_roles() -> Result<()> {
    let mut parts = Vec::new();
    for role in of_kind::<ClusterRole>("ClusterRole")? {
        let labels = role.metadata.labels.clone().unwrap_or_default();
        let stock = labels
            .keys()
            .any(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to-"));
        if !stock {
            continue;
        }
        for rule in role.rules.iter().flatten() {
            let reads = |verb: &String| ["get", "list", "watch"].contains(&verb.as_str());
            ensure!(rule.verbs.iter().all(reads), "{} writes", name(&role));
        }
        parts.push(name(&role));
    }
    assert_eq!(parts, ["rollback-view"]);
    Ok(())
}

/// Who may decide is decided by name. `trigger` is the receiver's, and breaking the glass, expediting, releasing and
/// relaxing come along with nothing.
#[test]
fn each_deciding_verb_is_held_by_one_role() -> Result<()> {
    let expected: [&[&str]; 7] = [
        &["rollback-approver", "rollback-approve"],
        &["rollback-break-glass"],
        &["rollback-expediter"],
        &["rollback-policy-admin", "rollback-administer"],
        &["rollback-releaser"],
        &["rollback-relax-approvals"],
        &["rollback-trigger"],
    ];
    for ((verb, resource), expected) in VIRTUAL.into_iter().zip(expected) {
        assert_eq!(holders(verb, "rollback.broxiva.com", resource)?, expected);
    }
    Ok(())
}

/// Whoever holds `trigger` asks and does nothing else.
#[test]
fn the_receiver_only_asks() -> Result<()> {
    let roles = roles()?;
    let trigger = roles.iter().find(|role| name(role) == "rollback-trigger");
    let permissions = trigger.and_then(|role| role.rules.clone());
    let mut granted = Vec::new();
    for rule in permissions.context("rollback-trigger")? {
        for resource in rule.resources.unwrap_or_default() {
            granted.extend(rule.verbs.iter().map(|verb| format!("{verb} {resource}")));
        }
    }
    assert_eq!(
        granted,
        [
            "create rollbackrequests",
            "trigger rollbackrequests/trigger"
        ]
    );
    Ok(())
}

/// The controller does not decide, asks for nothing in earnest, and deletes nothing.
#[test]
fn the_controller_neither_decides_nor_deletes() -> Result<()> {
    let own = [
        "rollback-controller",
        "rollback-executor",
        "rollback-scale-down",
        "rollback-run-jobs",
    ];
    let roles = roles()?;
    let held: Vec<&ClusterRole> = roles
        .iter()
        .filter(|role| own.contains(&name(role).as_str()))
        .collect();
    ensure!(held.len() == own.len(), "{} of {own:?}", held.len());
    let never = [
        "delete",
        "deletecollection",
        "impersonate",
        "escalate",
        "bind",
        "*",
    ];
    for role in held {
        let decides = VIRTUAL
            .into_iter()
            .chain([
                ("create", "rollbackrequests"),
                ("update", "rollbackrequests"),
            ])
            .find(|(verb, resource)| may(role, verb, "rollback.broxiva.com", resource));
        ensure!(decides.is_none(), "{} may {decides:?}", name(role));
        ensure!(
            !may(role, "get", "", "secrets"),
            "{} reads Secrets",
            name(role)
        );
        for rule in role.rules.iter().flatten() {
            let bad = rule
                .verbs
                .iter()
                .find(|verb| never.contains(&verb.as_str()));
            ensure!(bad.is_none(), "{} may {bad:?}", name(role));
        }
    }
    // Forged ones only, where it has no power over Deployments: the guard refuses them all.
    let creators: Vec<String> = of_kind::<Role>("Role")?
        .into_iter()
        .filter(|role| {
            role.rules.iter().flatten().any(|rule| {
                let resources = rule.resources.iter().flatten();
                resources.clone().any(|one| one == "rollbackrequests")
            })
        })
        .map(|role| {
            let metadata = role.metadata;
            format!(
                "{}/{}",
                metadata.namespace.unwrap_or_default(),
                metadata.name.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(creators, ["rollback-system/rollback-controller-selftest"]);
    Ok(())
}

/// What the guard is tried on is there for nothing else, and the controller may forge nothing of anything else.
#[test]
fn the_self_test_has_objects_of_its_own() -> Result<()> {
    let roles: Vec<Role> = of_kind("Role")?;
    let own = roles.iter().find(|role| {
        role.metadata.name.as_deref() == Some("rollback-controller-selftest")
            && role.metadata.namespace.as_deref() == Some("rollback-system")
    });
    let allowed = own.and_then(|role| role.rules.clone());
    let mut granted = Vec::new();
    for rule in allowed.context("no rules")? {
        let names = rule.resource_names.unwrap_or_default().join(" ");
        for resource in rule.resources.unwrap_or_default() {
            granted.push(format!("{} {resource} {names}", rule.verbs.join(" ")));
        }
    }
    assert_eq!(
        granted,
        [
            "create rollbackrequests ",
            "patch deployments rollback-selftest",
            "get patch configmaps rollback-selftest",
        ]
    );
    let file = testkit::workspace().join("deploy/30-controller.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(file)?)?;
    let shipped = documents
        .iter()
        .filter(|document| document["metadata"]["name"] == "rollback-selftest");
    let shipped: Vec<&Value> = shipped.collect();
    let kinds: Vec<&Value> = shipped.iter().map(|object| &object["kind"]).collect();
    assert_eq!(kinds, ["Deployment", "ConfigMap"]);
    assert_eq!(shipped[0]["spec"]["replicas"], 0);
    Ok(())
}
