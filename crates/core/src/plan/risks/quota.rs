//! Whether quotas leave room for the pods that a rolling update makes before it deletes others.

use rollback_api::status::{Risk, RiskKind};
use serde_json::Value;

use super::{all, is_beside, listed, name, quantity, risk};
use crate::history::template::Template;
use crate::message::text::plain;
use crate::observed::workload::{integer, string};
use crate::observed::{Deployment, Fetched};

const NANO: i128 = 1_000_000_000;

/// A quota that has too little room for the pods that the rolling update adds.
pub fn quotas(
    deployment: &Deployment,
    to: &Template,
    quotas: &Fetched<Vec<Value>>,
) -> Option<Risk> {
    let pods = additional(deployment);
    if pods <= 0 {
        return None;
    }
    let mut told = Vec::new();
    for quota in all(quotas) {
        if !is_beside(quota, deployment) || !counts(quota, to) {
            continue;
        }
        let hard = quota.pointer("/status/hard").and_then(Value::as_object);
        for (resource, limit) in hard.into_iter().flatten() {
            let used = quota
                .pointer("/status/used")
                .and_then(|used| used.get(resource));
            let (Some(limit), Some(used)) = (quantity::of(limit), used.and_then(quantity::of))
            else {
                continue;
            };
            let Some(needed) = per_pod(resource, to).and_then(|one| one.checked_mul(pods)) else {
                continue;
            };
            if needed > 0 && used.saturating_add(needed) > limit {
                let human = |amount| {
                    let bytes = resource.contains("memory") || resource.contains("storage");
                    quantity::human(amount, bytes)
                };
                told.push(format!(
                    "{}: {} {} of {} are used and {} more are needed",
                    name(quota),
                    plain(resource, 80),
                    human(used),
                    human(limit),
                    human(needed)
                ));
            }
        }
    }
    (!told.is_empty()).then(|| {
        risk(
            RiskKind::Quota,
            &format!(
                "A ResourceQuota has too little room for {pods} more pods of the old version beside those that run: {}. \
                 The rollout may stall; raise the quota or make room.",
                listed(&told)
            ),
        )
    })
}

/// How many more pods than now the rolling update may have at its peak.
fn additional(deployment: &Deployment) -> i128 {
    let object = &deployment.0;
    let desired = i128::from(deployment.desired());
    if desired <= 0 || string(object, "/spec/strategy/type") == "Recreate" {
        return 0;
    }
    let surge = match object.pointer("/spec/strategy/rollingUpdate/maxSurge") {
        Some(Value::Number(number)) => i128::from(number.as_i64().unwrap_or_default().max(0)),
        Some(Value::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<u16>().ok());
            part(desired, i128::from(percent.unwrap_or_default()))
        }
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
            part(desired, 25)
        }
    };
    // A rollout that is stuck has its surge already, and trades pods one for one.
    desired
        .saturating_add(surge)
        .saturating_sub(i128::from(deployment.replicas()))
        .min(i128::from(i32::MAX))
}

/// Percent of the replicas, rounded up as the Deployment controller does for a surge.
fn part(desired: i128, percent: i128) -> i128 {
    desired.saturating_mul(percent).saturating_add(99) / 100
}

/// Whether a quota counts pods of the template at all. A scope that cannot be judged from the template
/// alone is taken for a no.
fn counts(quota: &Value, to: &Template) -> bool {
    let is_empty = |pointer: &str| match quota.pointer(pointer) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    if !is_empty("/spec/scopeSelector/matchExpressions") {
        return false;
    }
    if is_empty("/spec/scopes") {
        return true;
    }
    let terminating = integer(to.as_json(), "/spec/activeDeadlineSeconds").is_some();
    quota
        .pointer("/spec/scopes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .all(|scope| match scope.as_str() {
            Some("Terminating") => terminating,
            Some("NotTerminating") => !terminating,
            // Requests may also come from a LimitRange, so without them nothing is known.
            Some("NotBestEffort") => ["cpu", "memory"]
                .iter()
                .any(|resource| amount(to, "requests", resource).is_some_and(|a| a > 0)),
            _ => false,
        })
}

/// What one pod of the template counts for a resource of a quota, in units of 10⁻⁹.
fn per_pod(resource: &str, to: &Template) -> Option<i128> {
    match resource {
        "pods" | "count/pods" => Some(NANO),
        // Of volumes, not of pods.
        "requests.storage" => None,
        "cpu" | "memory" | "ephemeral-storage" => amount(to, "requests", resource),
        other => match other.split_once('.')? {
            ("requests", resource) => amount(to, "requests", resource),
            ("limits", resource) => amount(to, "limits", resource),
            _ => None,
        },
    }
}

/// What a pod asks of a resource as the scheduler and quotas count it. Nothing where a number is none.
fn amount(to: &Template, kind: &str, resource: &str) -> Option<i128> {
    let spec = to.as_json().get("spec")?;
    let overhead = match spec.get("overhead").and_then(|all| all.get(resource)) {
        Some(amount) => quantity::of(amount)?,
        None => 0,
    };
    let (mut running, mut peak) = (0_i128, 0_i128);
    // Init containers run one after the other, beside the sidecars that were started before them.
    for container in items(spec, "initContainers") {
        let one = asked(container.get("resources"), kind, resource)?.unwrap_or_default();
        let beside = running.checked_add(one)?;
        peak = peak.max(beside);
        if string(container, "/restartPolicy") == "Always" {
            running = beside;
        }
    }
    for container in items(spec, "containers") {
        let one = asked(container.get("resources"), kind, resource)?.unwrap_or_default();
        running = running.checked_add(one)?;
    }
    // What is asked for the pod as a whole stands in for its containers.
    let whole = asked(spec.get("resources"), kind, resource)?;
    whole.unwrap_or(running.max(peak)).checked_add(overhead)
}

fn items<'a>(spec: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    spec.get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// What is asked in one place; the outer nothing is a number that is none.
#[allow(
    clippy::option_option,
    reason = "not asked and not readable are two things"
)]
fn asked(resources: Option<&Value>, kind: &str, resource: &str) -> Option<Option<i128>> {
    let read = |kind: &str| {
        resources
            .and_then(|resources| resources.get(kind)?.get(resource))
            .map(quantity::of)
    };
    let found = match kind {
        // The API server fills in missing requests from the limits when a pod is made.
        "requests" => read("requests").or_else(|| read("limits")),
        other => read(other),
    };
    match found {
        None => Some(None),
        Some(amount) => amount.map(Some),
    }
}
