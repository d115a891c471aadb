//! Whether a policy that is there is the one that was meant.
//!
//! The API server fills in defaults, and not all versions the same ones. So both sides are stripped of what says
//! nothing (a default, an empty selector, an empty list), and the rest has to be equal: a field that this controller
//! has never heard of is a difference.

use std::collections::BTreeSet;

use serde_json::Value;

/// Fields that mean the same when they are left out.
const DEFAULTS: [(&str, &str); 3] = [
    ("failurePolicy", "Fail"),
    ("matchPolicy", "Equivalent"),
    ("scope", "*"),
];

/// What of a spec matters.
pub fn essence(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, value)| !is_default(key, value))
            .map(|(key, value)| (key.clone(), essence(value)))
            .filter(|(_, value)| !is_empty(value))
            .collect(),
        Value::Array(items) => items.iter().map(essence).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn is_default(key: &str, value: &Value) -> bool {
    DEFAULTS
        .iter()
        .any(|(field, default)| *field == key && value == default)
}

/// An empty selector selects everything, an empty list adds nothing. The API server takes no empty list where that
/// would be "nothing at all".
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The path of the first difference.
pub fn first(expected: &Value, live: &Value, path: &str) -> Option<String> {
    match (expected, live) {
        (Value::Object(wanted), Value::Object(found)) => {
            let keys: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
            keys.into_iter().find_map(|key| {
                let side = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned();
                let (wanted, found) = (side(wanted), side(found));
                first(
                    &wanted.unwrap_or_default(),
                    &found.unwrap_or_default(),
                    &format!("{path}.{key}"),
                )
            })
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let pairs = wanted.iter().zip(found).enumerate();
            let inside = pairs
                .map(|(index, (wanted, found))| first(wanted, found, &format!("{path}[{index}]")))
                .find_map(|difference| difference);
            let shorter = wanted.len().min(found.len());
            inside.or_else(|| (wanted.len() != found.len()).then(|| format!("{path}[{shorter}]")))
        }
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => (expected != live).then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy() -> Value {
        json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["rollback.broxiva.com"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["rollbackrequests"],
            }]},
            "validations": [
                {"expression": "object.spec == oldObject.spec", "reason": "Forbidden"},
                {"expression": "1 == 1"},
            ],
        })
    }

    fn difference(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut live = policy();
        change(&mut live);
        first(&essence(&policy()), &essence(&live), "spec")
    }

    #[test]
    fn defaults_are_no_difference() {
        let defaulted = difference(|live| {
            let rules = &mut live["matchConstraints"];
            rules["matchPolicy"] = json!("Equivalent");
            rules["namespaceSelector"] = json!({});
            rules["objectSelector"] = json!({"matchExpressions": []});
            rules["resourceRules"][0]["scope"] = json!("*");
            live["variables"] = json!([]);
            live["auditAnnotations"] = Value::Null;
        });
        assert_eq!(defaulted, None);
        let left_out = difference(|live| live["failurePolicy"] = Value::Null);
        assert_eq!(left_out, None);
    }

    #[test]
    fn anything_else_is_one() {
        type Change = fn(&mut Value);
        let table: [(Change, &str); 9] = [
            (
                |live| live["validations"][0]["expression"] = json!("true"),
                "spec.validations[0].expression",
            ),
            (
                |live| live["validations"] = json!([policy()["validations"][0]]),
                "spec.validations[1]",
            ),
            (
                |live| live["failurePolicy"] = json!("Ignore"),
                "spec.failurePolicy",
            ),
            (
                |live| live["matchConditions"] = json!([{"name": "x", "expression": "false"}]),
                "spec.matchConditions",
            ),
            (
                |live| live["matchConstraints"]["matchPolicy"] = json!("Exact"),
                "spec.matchConstraints.matchPolicy",
            ),
            (
                |live| {
                    live["matchConstraints"]["namespaceSelector"] =
                        json!({"matchLabels": {"env": "prod"}});
                },
                "spec.matchConstraints.namespaceSelector",
            ),
            (
                |live| live["matchConstraints"]["resourceRules"][0]["resourceNames"] = json!(["x"]),
                "spec.matchConstraints.resourceRules[0].resourceNames",
            ),
            (
                |live| live["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"}),
                "spec.paramKind",
            ),
            (
                |live| live["newerThanThisController"] = json!(false),
                "spec.newerThanThisController",
            ),
        ];
        for (change, path) in table {
            assert_eq!(difference(change).as_deref(), Some(path));
        }
    }
}
