//! The definitions that an API server serves, against those that this program was built with. What is not served is
//! pruned from whatever is written, silently: a status without its newest fields would look like one that never had them.

use serde_json::{Map, Value};

use crate::{GROUP, VERSION, custom_resource_definitions};

/// What the document `served` (`OpenAPI` v3, of our group and version) lacks of the definitions that this program was
/// built with, each by its path: a kind, a field, or a word. More than is known here is no lack.
pub fn missing(served: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for definition in custom_resource_definitions() {
        let kind = &definition.spec.names.kind;
        let definition = serde_json::to_value(&definition).unwrap_or_default();
        let ours = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        match schema(served, kind) {
            Some(served) => compare(kind, ours, served, &mut missing),
            None => missing.push(kind.clone()),
        }
    }
    missing
}

/// The schema of a kind. Its list has a kind of its own, and options of a deletion are listed under every group.
fn schema<'a>(served: &'a Value, kind: &str) -> Option<&'a Value> {
    let is_meant = |schema: &&Value| {
        let meant = schema["x-kubernetes-group-version-kind"].as_array();
        meant
            .into_iter()
            .flatten()
            .any(|it| it["group"] == GROUP && it["version"] == VERSION && it["kind"] == kind)
    };
    let schemas = served.pointer("/components/schemas")?.as_object()?;
    schemas.values().find(is_meant)
}

fn compare(path: &str, ours: &Value, served: &Value, missing: &mut Vec<String>) {
    if served["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    words(path, &ours["enum"], &served["enum"], missing);
    for (name, field) in ours["properties"].as_object().unwrap_or(&Map::new()) {
        let path = format!("{path}.{name}");
        match served["properties"].get(name) {
            Some(served) => compare(&path, field, served, missing),
            None => missing.push(path),
        }
    }
    for (inner, sign) in [("items", "[]"), ("additionalProperties", ".*")] {
        if ours[inner].is_object() {
            compare(
                &format!("{path}{sign}"),
                &ours[inner],
                &served[inner],
                missing,
            );
        }
    }
}

/// A list of words takes no other one. Where there is none, each is taken.
fn words(path: &str, ours: &Value, served: &Value, missing: &mut Vec<String>) {
    let Some(served) = served.as_array() else {
        return;
    };
    let Some(ours) = ours.as_array() else {
        missing.push(format!("{path}: words that are not in its list"));
        return;
    };
    let lacks = ours.iter().filter(|word| !served.contains(word));
    let lacks = lacks.filter_map(Value::as_str);
    missing.extend(lacks.map(|word| format!("{path}: {word}")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What an API server serves that has our definitions.
    fn as_served() -> Value {
        let mut schemas = Map::new();
        for definition in custom_resource_definitions() {
            let kind = definition.spec.names.kind.clone();
            let definition = serde_json::to_value(&definition).unwrap();
            let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": GROUP, "version": VERSION, "kind": kind}]);
            schemas.insert(format!("com.broxiva.rollback.v1alpha1.{kind}"), schema);
            let list = json!({"x-kubernetes-group-version-kind":
                [{"group": GROUP, "version": VERSION, "kind": format!("{kind}List")}]});
            schemas.insert(format!("com.broxiva.rollback.v1alpha1.{kind}List"), list);
        }
        json!({"components": {"schemas": schemas}})
    }

    fn at<'a>(served: &'a mut Value, path: &str) -> &'a mut Value {
        let path = format!("/components/schemas/com.broxiva.rollback.v1alpha1.{path}");
        served
            .pointer_mut(&path)
            .unwrap_or_else(|| panic!("nothing at {path}"))
    }

    fn remove(served: &mut Value, path: &str, name: &str) {
        let removed = at(served, path).as_object_mut().unwrap().remove(name);
        assert!(removed.is_some(), "nothing is called {name} at {path}");
    }

    #[test]
    fn nothing_is_missing_from_our_own_definitions_or_from_more_than_those() {
        let mut served = as_served();
        assert_eq!(missing(&served), [""; 0]);
        at(&mut served, "RollbackRequest/properties/status/properties")["fromTheFuture"] =
            json!({"type": "string"});
        let words = at(
            &mut served,
            "RollbackRequest/properties/spec/properties/urgency/enum",
        );
        words.as_array_mut().unwrap().push(json!("FromTheFuture"));
        assert_eq!(missing(&served), [""; 0]);
    }

    /// Each row: where what is taken away stands, its name, and what is said to be missing.
    #[test]
    fn what_is_missing_has_its_path() {
        let rows = [
            (
                "RollbackRequest/properties/status/properties/plan/properties",
                "guard",
                "RollbackRequest.status.plan.guard",
            ),
            (
                "RollbackRequest/properties/status/properties/targets/items/properties",
                "begun",
                "RollbackRequest.status.targets[].begun",
            ),
            (
                "RollbackPolicy/properties/spec/properties",
                "freezeWindows",
                "RollbackPolicy.spec.freezeWindows",
            ),
            ("RevisionLedger/properties", "spec", "RevisionLedger.spec"),
        ];
        for (path, name, said) in rows {
            let mut served = as_served();
            remove(&mut served, path, name);
            assert_eq!(missing(&served), [said]);
        }
    }

    #[test]
    fn a_word_and_a_kind_can_be_missing_too() {
        let mut served = as_served();
        let words = at(
            &mut served,
            "RollbackRequest/properties/spec/properties/urgency/enum",
        );
        words.as_array_mut().unwrap().retain(|word| word != "High");
        let summary = "RollbackRequest/properties/spec/properties/reason/properties/summary";
        at(&mut served, summary)["enum"] = json!(["5xx"]);
        assert_eq!(
            missing(&served),
            [
                "RollbackRequest.spec.reason.summary: words that are not in its list",
                "RollbackRequest.spec.urgency: High",
            ]
        );
        assert_eq!(
            missing(&Value::Null),
            ["RevisionLedger", "RollbackPolicy", "RollbackRequest"]
        );
    }

    #[test]
    fn what_takes_everything_lacks_nothing() {
        let mut served = as_served();
        *at(&mut served, "RollbackRequest/properties/status") =
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        assert_eq!(missing(&served), [""; 0]);
    }
}
