//! What else may go wrong with a rollback, as far as it can be seen beforehand.
//!
//! Each function answers for itself. What was not read, and what cannot be judged, is no risk here: a
//! warning that is always there is read by nobody.

pub mod quantity;
mod quota;

use rollback_api::status::{Risk, RiskKind};
use serde_json::Value;

use crate::history::image::Reference;
use crate::history::template::Template;
use crate::message::text::plain;
use crate::observed::workload::{integer, string};
use crate::observed::{Deployment, Fetched};

pub use quota::quotas;

/// Longest message, in characters.
const LONGEST: usize = 1000;

/// Tags that are made to be moved.
const MOVING_TAGS: [&str; 12] = [
    "latest",
    "stable",
    "main",
    "master",
    "dev",
    "develop",
    "edge",
    "nightly",
    "staging",
    "prod",
    "production",
    "release",
];

fn risk(kind: RiskKind, message: &str) -> Risk {
    Risk {
        kind,
        message: plain(message, LONGEST),
        blocks: false,
    }
}

/// The Prometheus of the policy is not asked.
pub fn unlisted(why: Option<&str>) -> Option<Risk> {
    let why = why?;
    let message = format!(
        "The checks of verification.prometheus will not tell anything: {why}. The rollback is carried out, and ends as Failed (HealthUnknown)."
    );
    Some(risk(RiskKind::Checks, &message))
}

fn name(object: &Value) -> String {
    plain(string(object, "/metadata/name"), 253)
}

/// What was found, or nothing.
fn all(seen: &Fetched<Vec<Value>>) -> &[Value] {
    seen.found().map_or(&[], Vec::as_slice)
}

/// A few names, and how many more there are.
fn listed(names: &[String]) -> String {
    let most = 5;
    let mut told: Vec<String> = names.iter().take(most).cloned().collect();
    if names.len() > most {
        told.push(format!("{} more", names.len() - most));
    }
    told.join(", ")
}

/// An autoscaler that works on the Deployment: replicas are left to it.
pub fn autoscaler(deployment: &Deployment, autoscalers: &Fetched<Vec<Value>>) -> Option<Risk> {
    let told: Vec<String> = all(autoscalers)
        .iter()
        .filter(|autoscaler| scales(autoscaler, deployment))
        .map(|autoscaler| {
            let least = integer(autoscaler, "/spec/minReplicas").unwrap_or(1);
            match integer(autoscaler, "/spec/maxReplicas") {
                Some(most) => format!("{} ({least} to {most} replicas)", name(autoscaler)),
                None => name(autoscaler),
            }
        })
        .collect();
    (!told.is_empty()).then(|| {
        risk(
            RiskKind::Autoscaler,
            &format!(
                "HorizontalPodAutoscaler {} works on the Deployment: the number of replicas is left to it, and may change while the old version comes back.",
                listed(&told)
            ),
        )
    })
}

fn scales(autoscaler: &Value, deployment: &Deployment) -> bool {
    let group = string(autoscaler, "/spec/scaleTargetRef/apiVersion")
        .split_once('/')
        .map_or("", |(group, _)| group);
    // Old manifests leave the group out, or name the one that Deployments had once.
    ["", "apps", "extensions"].contains(&group)
        && string(autoscaler, "/spec/scaleTargetRef/kind") == "Deployment"
        && !deployment.name().is_empty()
        && string(autoscaler, "/spec/scaleTargetRef/name") == deployment.name()
        && is_beside(autoscaler, deployment)
}

/// Whether an object is in the namespace of the Deployment, as far as both say.
fn is_beside(object: &Value, deployment: &Deployment) -> bool {
    let theirs = string(object, "/metadata/namespace");
    let ours = string(&deployment.0, "/metadata/namespace");
    theirs.is_empty() || ours.is_empty() || theirs == ours
}

/// A disruption budget of the pods that allows no disruption now.
pub fn budgets(deployment: &Deployment, budgets: &Fetched<Vec<Value>>) -> Option<Risk> {
    let template = deployment.template();
    let labels = template.as_json().pointer("/metadata/labels");
    let told: Vec<String> = all(budgets)
        .iter()
        .filter(|budget| {
            is_beside(budget, deployment)
                && integer(budget, "/status/disruptionsAllowed") == Some(0)
                && budget
                    .pointer("/spec/selector")
                    .is_some_and(|selector| selects(selector, labels) == Some(true))
        })
        .map(name)
        .collect();
    (!told.is_empty()).then(|| {
        risk(
            RiskKind::DisruptionBudget,
            &format!(
                "PodDisruptionBudget {} allows no disruption now. It does not hold the rollback, but no node with these pods can be drained until enough of them are well.",
                listed(&told)
            ),
        )
    })
}

/// Whether a label selector selects these labels; nothing where it says what nobody knows.
fn selects(selector: &Value, labels: Option<&Value>) -> Option<bool> {
    let selector = selector.as_object()?;
    let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    let mut selected = true;
    if let Some(wanted) = selector.get("matchLabels") {
        for (key, value) in wanted.as_object()? {
            selected &= label(key) == Some(value.as_str()?);
        }
    }
    if let Some(expressions) = selector.get("matchExpressions") {
        for expression in expressions.as_array()? {
            let has = label(string(expression, "/key"));
            let mut values = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            selected &= match string(expression, "/operator") {
                "In" => has.is_some_and(|has| values.any(|value| value == has)),
                // A label that is not there is not in the list either.
                "NotIn" => has.is_none_or(|has| values.all(|value| value != has)),
                "Exists" => has.is_some(),
                "DoesNotExist" => has.is_none(),
                _ => return None,
            };
        }
    }
    Some(selected)
}

/// Whether one replica takes longer to be available than the rollout may stand still: then it would be given up although
/// nothing is wrong.
pub fn deadline(deployment: &Deployment, to: &Template, timeout_seconds: i32) -> Option<Risk> {
    let number = |value: &Value, pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    };
    let containers = to
        .as_json()
        .pointer("/spec/containers")
        .and_then(Value::as_array);
    // No probe says yes before its first time; what a startup probe allows is not what it takes.
    let first = |container: &Value| {
        let startup = number(container, "/startupProbe/initialDelaySeconds");
        startup + number(container, "/readinessProbe/initialDelaySeconds")
    };
    let delay = containers
        .into_iter()
        .flatten()
        .map(first)
        .max()
        .unwrap_or_default();
    let ready = number(&deployment.0, "/spec/minReadySeconds");
    let one = delay.saturating_add(ready);
    (one >= i64::from(timeout_seconds)).then(|| {
        risk(
            RiskKind::Deadline,
            &format!(
                "One replica takes at least {one} seconds to be available ({delay} until its probes are asked, minReadySeconds {ready}), and the rollout is given up when none has come up for {timeout_seconds}. Raise rollout.timeoutSeconds."
            ),
        )
    })
}

/// Whether the rollback may bring back the very image that is bad, because its tag was moved.
///
/// A sidecar that stays what it was while another image changes is no news. So a tag counts when no
/// image changes at all, or when it is one that is made to be moved.
pub fn mutable_tag(from: &Template, to: &Template) -> Option<Risk> {
    if from.is_equivalent(to) {
        return None;
    }
    let (old, new) = (from.images(), to.images());
    let parsed = |image: Option<&String>| image.map(|image| Reference::parse(image));
    let no_change = old.len() == new.len()
        && old
            .iter()
            .all(|(container, image)| parsed(new.get(container)) == parsed(Some(image)));
    let told: Vec<String> = old
        .iter()
        .filter_map(|(container, image)| {
            let reference = Reference::parse(image);
            if reference.digest.is_some() || parsed(new.get(container))? != reference {
                return None;
            }
            let tag = reference.tag?;
            (no_change || MOVING_TAGS.contains(&tag.as_str()))
                .then(|| format!("container {} {}", plain(container, 63), plain(image, 150)))
        })
        .collect();
    (!told.is_empty()).then(|| {
        risk(
            RiskKind::MutableTag,
            &format!(
                "Both versions name the same image by its tag: {}. If the tag was pushed again, the rollback brings back the same bad image. Name images by digest to be sure.",
                listed(&told)
            ),
        )
    })
}
