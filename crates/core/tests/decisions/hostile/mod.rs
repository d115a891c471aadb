//! JSON as nobody sane writes it, and JSON that was sane before something in it was replaced.

#![allow(dead_code, reason = "each test file uses a part")]

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Map, Number, Value};

/// Cases as `PROPTEST_CASES` says; failures are kept beside the test.
pub fn config(cases: u32, regressions: &'static str) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(cases);
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..ProptestConfig::default()
    }
}

/// Anything.
pub fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Number(number.into())),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        any::<u64>().prop_map(|number| Value::Number(number.into())),
        Just(Value::String(String::new())),
        "\\PC{0,12}".prop_map(Value::String),
        "[0-9.eEinumkMGi%-]{0,8}".prop_map(Value::String),
        Just(Value::String("\u{1b}[2J\n\u{202e}x".to_owned())),
        Just(Value::String("x".repeat(5000))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec(("[a-z]{0,4}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A good object in which a few places were replaced by anything, or removed.
pub fn spoiled(good: Value) -> impl Strategy<Value = Value> {
    let change = (any::<Index>(), proptest::option::weighted(0.8, anything()));
    proptest::collection::vec(change, 0..5).prop_map(move |changes| {
        let mut object = good.clone();
        for (index, replacement) in changes {
            let places = places(&object);
            let place = &places[index.index(places.len())];
            match replacement {
                Some(value) => *object.pointer_mut(place).unwrap() = value,
                None => remove(&mut object, place),
            }
        }
        object
    })
}

/// Every place in a value, as JSON pointers.
pub fn places(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, inner)| (key.clone(), inner))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, inner)| (index.to_string(), inner))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, inner) in children {
        let key = key.replace('~', "~0").replace('/', "~1");
        found.extend(
            places(inner)
                .into_iter()
                .map(|place| format!("/{key}{place}")),
        );
    }
    found
}

fn remove(object: &mut Value, place: &str) {
    let Some((parent, key)) = place.rsplit_once('/') else {
        *object = Value::Null;
        return;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&key);
        }
        Some(Value::Array(items)) => {
            items.remove(key.parse().unwrap());
        }
        Some(_) | None => {}
    }
}
