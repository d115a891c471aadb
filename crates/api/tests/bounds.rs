//! Every string and list that somebody else can write has a bound, so that no object can be made to
//! grow beyond what the API server, the controller and a reader can take.

use rollback_api::custom_resource_definitions;
use serde_json::{Map, Value};

/// Paths of schema nodes that lack a bound.
fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
    let has = |key: &str| schema.get(key).is_some();
    match schema.get("type").and_then(Value::as_str) {
        // Dates are bounded by their format.
        Some("string") if !has("maxLength") && !has("enum") && !has("format") => {
            found.push(format!("{path}: string without maxLength"));
        }
        Some("array") if !has("maxItems") => found.push(format!("{path}: list without maxItems")),
        Some("object") if has("additionalProperties") && !has("maxProperties") => {
            found.push(format!("{path}: map without maxProperties"));
        }
        // A pod as the API server knows it: bounded by what an object may weigh, and never copied into a status.
        Some("object") if has("x-kubernetes-preserve-unknown-fields") => {}
        Some("integer") if !has("minimum") => {
            found.push(format!("{path}: integer without minimum"));
        }
        Some(_) | None => {}
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, inner) in properties.unwrap_or(&Map::new()) {
        unbounded(&format!("{path}.{name}"), inner, found);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(nested).filter(|inner| inner.is_object()) {
            unbounded(&format!("{path}[]"), inner, found);
        }
    }
}

/// The schema of a kind; null, which has nothing that is looked for, when there is no such kind.
fn schema_of(kind: &str) -> Value {
    let definition = custom_resource_definitions()
        .into_iter()
        .find(|definition| definition.spec.names.kind == kind);
    let definition = serde_json::to_value(definition).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn there_are_schemas_to_look_at() {
    for kind in ["RollbackRequest", "RollbackPolicy", "RevisionLedger"] {
        assert!(
            schema_of(kind)["properties"]["spec"]["properties"].is_object(),
            "{kind}"
        );
    }
}

#[test]
fn everything_in_a_spec_is_bounded() {
    for kind in ["RollbackRequest", "RollbackPolicy", "RevisionLedger"] {
        let mut found = Vec::new();
        unbounded("spec", &schema_of(kind)["properties"]["spec"], &mut found);
        assert!(found.is_empty(), "{kind}: {found:#?}");
    }
}

#[test]
fn every_list_in_a_status_is_bounded() {
    let mut found = Vec::new();
    unbounded(
        "status",
        &schema_of("RollbackRequest")["properties"]["status"],
        &mut found,
    );
    found.retain(|problem| problem.contains("list") || problem.contains("map"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_new_request_reads_as_not_looked_at() {
    let schema = schema_of("RollbackRequest");
    assert_eq!(
        schema["properties"]["status"]["default"]["observedGeneration"],
        -1
    );
}

#[test]
fn the_check_sees_what_is_missing() {
    let schema = serde_json::json!({"type": "object", "properties": {
        "a": {"type": "string"},
        "b": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        "c": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
    }});
    let mut found = Vec::new();
    unbounded("x", &schema, &mut found);
    assert_eq!(found.len(), 3);
}
