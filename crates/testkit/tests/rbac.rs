//! What the shipped roles promise, read from the file that is installed. Needs no cluster.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::Value;

fn roles() -> Result<Vec<ClusterRole>> {
    let file = testkit::workspace().join("deploy/10-rbac.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(file)?)?;
    let roles = documents
        .into_iter()
        .filter(|document| document["kind"] == "ClusterRole")
        .map(|document| serde_json::from_value(document).context("a ClusterRole"));
    roles.collect()
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
        let name = role.metadata.name.clone().unwrap_or_default();
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
            writers.push((role.metadata.name.unwrap_or_default(), granted.join(" ")));
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
            ("rollback-approver", "patch")
        ]
    );
    Ok(())
}
