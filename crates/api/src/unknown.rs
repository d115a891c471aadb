//! What a newer controller has written into a status or a ledger and this one does not know: a field, or a word of one of
//! our lists. Whoever writes such an object again would lose the field, and whoever decides upon it would guess.
//!
//! It is looked for in the object as it is served, before anything of it is read: a status that cannot be read may be newer
//! too.

use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{ConditionType, RequestState, RevisionLedger, RollbackRequest};

/// Longest word that is repeated.
const LONGEST: usize = 63;

/// The first thing that is not known, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// For example `status.targets[0].outcome.result`.
    pub path: String,
    /// The word that stands there; `None` when the field itself is not known.
    pub word: Option<String>,
}

impl Unknown {
    fn word(text: &str) -> Self {
        Self {
            path: String::new(),
            word: Some(text.chars().take(LONGEST).collect()),
        }
    }

    /// The same seen from further up.
    fn under(self, path: &str) -> Self {
        Self {
            path: path.to_owned() + &self.path,
            ..self
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match &self.word {
            Some(word) => write!(formatter, "{}: {word}", self.path),
            None => write!(formatter, "{}", self.path),
        }
    }
}

/// In the status of a `RollbackRequest` as it is served.
pub fn in_status(status: &Value) -> Option<Unknown> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema(&RollbackRequest::crd(), "status"));
    let unknown = in_conditions(status).or_else(|| first(status, &SCHEMA));
    unknown.map(|unknown| unknown.under("status"))
}

/// In the spec of a `RevisionLedger` as it is served.
pub fn in_ledger(spec: &Value) -> Option<Unknown> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema(&RevisionLedger::crd(), "spec"));
    first(spec, &SCHEMA).map(|unknown| unknown.under("spec"))
}

/// The schema of a field, with every list of words.
fn schema(definition: &CustomResourceDefinition, field: &str) -> Value {
    let definition = serde_json::to_value(definition).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][field].clone()
}

/// Its path begins at `value`: there is none to be put together as long as everything is known.
fn first(value: &Value, schema: &Value) -> Option<Unknown> {
    match value {
        Value::String(text) => word(text, schema),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| {
                let unknown = first(item, &schema["items"]);
                unknown.map(|unknown| unknown.under(&format!("[{index}]")))
            })
        }
        Value::Object(fields) => {
            let mut fields = fields.iter();
            fields.find_map(|(name, value)| {
                let unknown = field(name, value, schema);
                unknown.map(|unknown| unknown.under(&format!(".{name}")))
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn word(text: &str, schema: &Value) -> Option<Unknown> {
    let words = schema["enum"].as_array()?;
    let is_known = words.iter().any(|word| word == text);
    (!is_known).then(|| Unknown::word(text))
}

fn field(name: &str, value: &Value, schema: &Value) -> Option<Unknown> {
    let known = schema["properties"].get(name);
    let entries = schema.get("additionalProperties");
    match known.or(entries.filter(|schema| schema.is_object())) {
        Some(schema) => first(value, schema),
        None if takes_everything(schema) => None,
        None => Some(Unknown {
            path: String::new(),
            word: None,
        }),
    }
}

fn takes_everything(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// A new phase need not show anywhere else than in the reason of `Ready`, and a condition is dropped when it is not ours.
fn in_conditions(status: &Value) -> Option<Unknown> {
    let conditions = status["conditions"].as_array()?;
    conditions
        .iter()
        .enumerate()
        .find_map(|(index, condition)| {
            let kind = condition["type"].as_str().unwrap_or_default();
            let reason = condition["reason"].as_str().unwrap_or_default();
            let unknown = if !ConditionType::ALL.iter().any(|it| it.as_str() == kind) {
                Unknown::word(kind).under(".type")
            } else if kind == ConditionType::Ready.as_str()
                && !RequestState::ALL.iter().any(|it| it.as_str() == reason)
            {
                Unknown::word(reason).under(".reason")
            } else {
                return None;
            };
            Some(unknown.under(&format!(".conditions[{index}]")))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{RevisionLedgerSpec, RollbackRequestStatus};

    /// A value that has every field of a schema once, and the first word of each list.
    fn example(schema: &Value) -> Value {
        if let Some(words) = schema["enum"].as_array() {
            return words[0].clone();
        }
        match schema["type"].as_str() {
            Some("string") if schema["format"] == "date-time" => json!("2026-11-23T15:00:00Z"),
            Some("string") => json!("x"),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([example(&schema["items"])]),
            Some("object") if schema["additionalProperties"].is_object() => {
                json!({"key": example(&schema["additionalProperties"])})
            }
            Some("object") => {
                let fields = schema["properties"]
                    .as_object()
                    .cloned()
                    .unwrap_or_default();
                fields
                    .iter()
                    .map(|(name, field)| (name.clone(), example(field)))
                    .collect()
            }
            other => panic!("nothing is known of the type {other:?}: {schema}"),
        }
    }

    /// Where lists of words stand in an example, as JSON pointers.
    fn words_in(pointer: &str, schema: &Value, found: &mut Vec<String>) {
        if schema["enum"].is_array() {
            found.push(pointer.to_owned());
        }
        if schema["items"].is_object() {
            words_in(&format!("{pointer}/0"), &schema["items"], found);
        }
        for (name, field) in schema["properties"].as_object().unwrap_or(&Map::new()) {
            words_in(&format!("{pointer}/{name}"), field, found);
        }
    }

    /// Where objects stand, to each of which a newer version may add a field.
    fn objects_in(pointer: &str, schema: &Value, found: &mut Vec<String>) {
        if schema["properties"].is_object() {
            found.push(pointer.to_owned());
        }
        if schema["items"].is_object() {
            objects_in(&format!("{pointer}/0"), &schema["items"], found);
        }
        for (name, field) in schema["properties"].as_object().unwrap_or(&Map::new()) {
            objects_in(&format!("{pointer}/{name}"), field, found);
        }
    }

    fn path(root: &str, pointer: &str) -> String {
        let parts = pointer.split('/').skip(1);
        parts.fold(root.to_owned(), |path, part| match part {
            "0" => format!("{path}[0]"),
            name => format!("{path}.{name}"),
        })
    }

    fn status_schema() -> Value {
        schema(&RollbackRequest::crd(), "status")
    }

    fn status_example() -> Value {
        let mut status = example(&status_schema());
        status["conditions"][0]["type"] = json!("Ready");
        status["conditions"][0]["reason"] = json!("Planning");
        status
    }

    /// Whether the word is still there when it has been read and written again.
    fn survives<T: serde::de::DeserializeOwned + serde::Serialize>(
        value: &Value,
        at: &str,
    ) -> bool {
        let read = serde_json::from_value::<T>(value.clone());
        let written = read.map(|read| serde_json::to_value(read).unwrap());
        written.is_ok_and(|written| written.pointer(at) == value.pointer(at))
    }

    #[test]
    fn what_this_version_writes_is_known_to_it() {
        assert_eq!(in_status(&status_example()), None);
        assert_eq!(
            in_ledger(&example(&schema(&RevisionLedger::crd(), "spec"))),
            None
        );
        let status = serde_json::to_value(RollbackRequestStatus::default()).unwrap();
        assert_eq!(in_status(&status), None);
    }

    /// Words that a status repeats from a spec: such a status is told of, and cannot be read.
    const REPEATED: &[&str] = &[
        "approval",
        "enforce",
        "environment",
        "imageOf",
        "onFailure",
        "preset",
        "scheme",
        "onSelfHealing",
        "unknown",
        "urgency",
        "version",
    ];

    #[test]
    fn a_word_from_the_future_is_told_of_wherever_it_stands_and_survives() {
        let mut found = Vec::new();
        words_in("", &status_schema(), &mut found);
        assert!(found.len() > 30, "{found:#?}");
        let known = status_example();
        for at in found {
            let mut status = known.clone();
            *status.pointer_mut(&at).unwrap() = json!("FromTheFuture");
            let expected = Unknown {
                path: path("status", &at),
                word: Some("FromTheFuture".to_owned()),
            };
            assert_eq!(in_status(&status), Some(expected));
            let field = at.rsplit('/').next().unwrap();
            let survives = survives::<RollbackRequestStatus>(&status, &at);
            assert_eq!(survives, !REPEATED.contains(&field), "{at}");
        }
        let ledger = schema(&RevisionLedger::crd(), "spec");
        let mut found = Vec::new();
        words_in("", &ledger, &mut found);
        assert_eq!(
            found,
            [
                "/claim/urgency",
                "/holds/0/means",
                "/quarantine/0/enforce",
                "/rollbacks/0/outcome",
                "/targetRef/kind",
                "/templates/0/verdict"
            ]
        );
        for at in found {
            let mut spec = example(&ledger);
            *spec.pointer_mut(&at).unwrap() = json!("FromTheFuture");
            let expected = Unknown {
                path: path("spec", &at),
                word: Some("FromTheFuture".to_owned()),
            };
            assert_eq!(in_ledger(&spec), Some(expected));
            assert!(survives::<RevisionLedgerSpec>(&spec, &at), "{at}");
        }
    }

    #[test]
    fn a_field_from_the_future_is_told_of_wherever_it_stands() {
        let mut found = Vec::new();
        objects_in("", &status_schema(), &mut found);
        assert!(found.len() > 30, "{found:#?}");
        let known = status_example();
        for at in found {
            let mut status = known.clone();
            status.pointer_mut(&at).unwrap()["fromTheFuture"] = json!(0);
            let expected = Unknown {
                path: path("status", &format!("{at}/fromTheFuture")),
                word: None,
            };
            assert_eq!(in_status(&status), Some(expected));
        }
    }

    #[test]
    fn a_phase_and_a_condition_from_the_future_are_told_of() {
        let mut status = status_example();
        status["conditions"][0]["reason"] = json!("Rehearsing");
        let said = in_status(&status).unwrap().to_string();
        assert_eq!(said, "status.conditions[0].reason: Rehearsing");
        status["conditions"][0]["type"] = json!("Rehearsed");
        let said = in_status(&status).unwrap().to_string();
        assert_eq!(said, "status.conditions[0].type: Rehearsed");
    }

    #[test]
    fn the_installed_definitions_have_no_list_of_words_where_only_the_controller_writes() {
        for definition in crate::custom_resource_definitions() {
            let field = match definition.spec.names.kind.as_str() {
                "RollbackRequest" => "status",
                "RevisionLedger" => "spec",
                _ => continue,
            };
            let mut found = Vec::new();
            words_in("", &schema(&definition, field), &mut found);
            assert_eq!(found, [""; 0]);
        }
    }
}
