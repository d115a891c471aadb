//! Whether a controller is there, which one, and whether it may do what it has to.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleBinding, Subject};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use rollback_api::CONTROLLER_VERSION;
use serde_json::Value;

use super::{EXECUTOR, Finding, LEASE, SKEW, SYSTEM, Verdict};
use crate::cluster::Cluster;
use crate::output::{clean, span};

/// The roles as they are installed.
const ROLES: &str = include_str!("../../../../../deploy/10-rbac.yaml");
/// How many questions are asked at the same time.
const AT_ONCE: usize = 8;
/// What to type to see more.
const LOOK: &str = "kubectl get lease,deployment,pods -n rollback-system";
/// How many rights that are missing are named.
const NAMED: usize = 5;

/// Whether a controller leads: it renews its Lease; and of which version it is.
pub async fn look(cluster: &Cluster) -> Vec<Finding> {
    const CHECK: &str = "controller";
    const WHY: &str =
        "without a controller that leads nothing is planned and nothing is rolled back";
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let own = format!("{LEASE}-{}", cluster.namespace);
    let mut found = Vec::new();
    for name in [LEASE, own.as_str()] {
        match api.get_opt(name).await {
            Ok(lease) => found.extend(lease),
            Err(error) => return vec![Finding::unknown(CHECK, &error, LOOK)],
        }
    }
    let now = Timestamp::now();
    let leaders = found.iter().filter_map(|it| Some((it, leader(it, now)?)));
    let Some((lease, (holder, age, is_held))) = leaders.min_by_key(|(_, it)| it.1) else {
        let seen = "no Lease of one is there";
        return vec![Finding::fault(CHECK, seen, WHY, "kubectl apply -f deploy/")];
    };
    let seen = format!("{} renewed its Lease {} ago", clean(&holder), span(age));
    if !is_held {
        return vec![Finding::fault(CHECK, seen, WHY, LOOK)];
    }
    vec![Finding::ok(CHECK, seen), version(lease)]
}

/// Who leads, how long ago that was said, and whether it still counts.
fn leader(lease: &Lease, now: Timestamp) -> Option<(String, SignedDuration, bool)> {
    let spec = lease.spec.as_ref()?;
    let age = now.duration_since(spec.renew_time.as_ref()?.0);
    let lasts = i64::from(spec.lease_duration_seconds.unwrap_or(15));
    let holder = spec.holder_identity.clone().unwrap_or_default();
    // The clocks may differ a little.
    let is_held = !holder.is_empty() && age.as_secs() <= lasts + SKEW;
    Some((holder, age, is_held))
}

/// The controller says its version in its Lease.
fn version(lease: &Lease) -> Finding {
    const CHECK: &str = "versions";
    const WHY: &str = "what one of them knows of a request the other may not show, or may refuse";
    let ours = env!("CARGO_PKG_VERSION");
    let next =
        "kubectl rollback --version, and install the plugin and the controller of one version";
    match lease.annotations().get(CONTROLLER_VERSION) {
        Some(theirs) if theirs == ours => {
            Finding::ok(CHECK, format!("controller and plugin are {ours}"))
        }
        Some(theirs) => {
            let seen = format!("the controller is {}, this plugin is {ours}", clean(theirs));
            Finding::fault(CHECK, seen, WHY, next)
        }
        None => Finding {
            check: CHECK,
            verdict: Verdict::Unknown,
            seen: format!("the controller does not say its version; this plugin is {ours}"),
            why: WHY,
            next: next.to_owned(),
        },
    }
}

/// Whether the controller may do what its roles let it, everywhere and, where it has opted in, in this namespace.
pub async fn rights(cluster: &Cluster) -> Finding {
    const CHECK: &str = "rights of the controller";
    const APPLY: &str = "kubectl apply -f deploy/10-rbac.yaml";
    let wanted = everywhere();
    let asked = wanted.iter().map(|it| lacks(&cluster.client, it));
    let asked: Vec<_> = asked.collect();
    let lacking: kube::Result<Vec<Option<String>>> =
        stream::iter(asked).buffered(AT_ONCE).try_collect().await;
    let lacking: Vec<String> = match lacking {
        Ok(lacking) => lacking.into_iter().flatten().collect(),
        Err(error) => return Finding::unknown(CHECK, &error, APPLY),
    };
    if lacking.is_empty() {
        return Finding::ok(CHECK, format!("it holds all {} of them", wanted.len()));
    }
    let named: Vec<&str> = lacking.iter().take(NAMED).map(String::as_str).collect();
    let more = match lacking.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Finding::fault(
        CHECK,
        format!(
            "ServiceAccount {SYSTEM}/{LEASE} lacks {}{more}",
            named.join(", ")
        ),
        "what it may not read it cannot plan, and what it may not write stays undone",
        APPLY,
    )
}

/// What the role gives that the controller has everywhere, one right each.
fn everywhere() -> Vec<ResourceAttributes> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(ROLES).unwrap_or_default();
    let is_role = |it: &&Value| it["kind"] == "ClusterRole" && it["metadata"]["name"] == LEASE;
    let role = documents.iter().find(is_role);
    let rules = role.and_then(|role| serde_json::from_value(role["rules"].clone()).ok());
    let rules: Vec<PolicyRule> = rules.unwrap_or_default();
    rules.iter().flat_map(of_rule).collect()
}

fn of_rule(rule: &PolicyRule) -> Vec<ResourceAttributes> {
    let groups = rule.api_groups.iter().flatten();
    let mut rights = Vec::new();
    for group in groups {
        for resource in rule.resources.iter().flatten() {
            let (resource, subresource) = match resource.split_once('/') {
                Some((resource, subresource)) => (resource, Some(subresource)),
                None => (resource.as_str(), None),
            };
            for verb in &rule.verbs {
                rights.push(ResourceAttributes {
                    group: Some(group.clone()),
                    resource: Some(resource.to_owned()),
                    subresource: subresource.map(str::to_owned),
                    verb: Some(verb.clone()),
                    ..ResourceAttributes::default()
                });
            }
        }
    }
    rights
}

async fn lacks(client: &Client, right: &ResourceAttributes) -> kube::Result<Option<String>> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{SYSTEM}:{LEASE}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{SYSTEM}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(right.clone()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    let is_allowed = answer.status.is_some_and(|status| status.allowed);
    Ok((!is_allowed).then(|| text(right)))
}

fn text(right: &ResourceAttributes) -> String {
    let part = |of: &Option<String>| of.clone().unwrap_or_default();
    let subresource = right.subresource.as_ref();
    let below = subresource.map_or_else(String::new, |it| format!("/{it}"));
    format!("{} on {}{below}", part(&right.verb), part(&right.resource))
}

/// Whether what a namespace granted is for this controller.
pub fn is_for_it(binding: &RoleBinding) -> bool {
    let group = format!("system:serviceaccounts:{SYSTEM}");
    let is_it = |it: &Subject| match it.kind.as_str() {
        "ServiceAccount" => it.name == LEASE && it.namespace.as_deref() == Some(SYSTEM),
        "Group" => it.name == group || it.name == "system:serviceaccounts",
        _ => false,
    };
    binding.role_ref.name == EXECUTOR && binding.subjects.iter().flatten().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_read_right_by_right() {
        let all: Vec<String> = everywhere().iter().map(text).collect();
        assert!(all.len() > 30, "{all:?}");
        for right in ["watch on pods", "patch on rollbackrequests/status"] {
            assert!(all.iter().any(|it| it == right), "{right}");
        }
    }
}
