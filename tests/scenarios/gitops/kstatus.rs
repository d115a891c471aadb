//! What tools that know nothing of this project make of a request: Flux by kstatus, Argo CD by its
//! health.

use rollback_api::status::Outcome;
use rollback_core::report::conditions::is_settled;
use serde_json::Value;

/// The status that kstatus computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not there yet.
    InProgress,
    /// It will not get there.
    Failed,
    /// As it should be.
    Current,
    /// On its way out.
    Terminating,
}

/// The rules of kstatus for a kind that it does not know, in their order.
pub fn kstatus(object: &Value) -> Status {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return Status::Terminating;
    }
    let Some(status) = object.get("status") else {
        // An object without a status is done; that is why a new request has one.
        return Status::Current;
    };
    let observed = status.get("observedGeneration").and_then(Value::as_i64);
    if observed.is_some() && observed != generation(object) {
        return Status::InProgress;
    }
    for condition in conditions(object) {
        match (text(condition, "type"), text(condition, "status")) {
            ("Reconciling", "True") => return Status::InProgress,
            ("Stalled", "True") => return Status::Failed,
            _ => {}
        }
    }
    match of_type(object, "Ready") {
        Some(ready) if text(ready, "status") != "True" => Status::InProgress,
        Some(_) | None => Status::Current,
    }
}

/// The health that Argo CD shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// At work.
    Progressing,
    /// Waits for somebody.
    Suspended,
    /// Well.
    Healthy,
    /// Somebody has to look.
    Degraded,
}

/// A health check as it would be configured.
pub fn health(object: &Value) -> Health {
    let observed = object
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    if observed.is_none() || observed != generation(object) {
        return Health::Progressing;
    }
    let is_true = |kind| of_type(object, kind).is_some_and(|found| text(found, "status") == "True");
    let waits =
        of_type(object, "Ready").is_some_and(|ready| text(ready, "reason") == "AwaitingApproval");
    if waits {
        Health::Suspended
    } else if is_true("Stalled") {
        Health::Degraded
    } else if is_true("Ready") {
        Health::Healthy
    } else {
        Health::Progressing
    }
}

/// What both have to say of a request that ended so.
pub fn at_the_end(outcome: &Outcome) -> (Status, Health) {
    if is_settled(outcome) {
        (Status::Current, Health::Healthy)
    } else {
        (Status::Failed, Health::Degraded)
    }
}

fn generation(object: &Value) -> Option<i64> {
    object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    let conditions = object.pointer("/status/conditions");
    conditions.and_then(Value::as_array).into_iter().flatten()
}

fn of_type<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    conditions(object).find(|condition| text(condition, "type") == kind)
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn the_order_of_the_rules_matters() {
    use serde_json::json;
    let object = |observed, conditions: Value| json!({"metadata": {"generation": 1}, "status": {"observedGeneration": observed, "conditions": conditions}});
    let stalled =
        json!([{"type": "Stalled", "status": "True"}, {"type": "Ready", "status": "False"}]);
    assert_eq!(kstatus(&object(1, stalled.clone())), Status::Failed);
    assert_eq!(kstatus(&object(-1, stalled)), Status::InProgress);
    assert_eq!(
        kstatus(&json!({"metadata": {"generation": 1}})),
        Status::Current
    );
    let ready = json!([{"type": "Ready", "status": "False"}]);
    assert_eq!(kstatus(&object(1, ready)), Status::InProgress);
}
