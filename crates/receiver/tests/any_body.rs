//! Whatever the bytes are, reading them ends, and what comes out is bounded.

#[path = "../../../fuzz/check.rs"]
mod check;

use proptest::prelude::*;
use rollback_receiver::intake::Format;
use serde_json::{Map, Value};

/// Names that one format or another reads, so that values of any type get to where they are read.
const NAMES: [&str; 30] = [
    "version",
    "alerts",
    "status",
    "labels",
    "annotations",
    "startsAt",
    "fingerprint",
    "event",
    "event_type",
    "data",
    "id",
    "service",
    "Type",
    "Message",
    "TopicArn",
    "MessageId",
    "SubscribeURL",
    "action",
    "metric_alert",
    "projects",
    "triggered_rule",
    "tags",
    "cycle",
    "transition",
    "date",
    "scope",
    "involvedObject",
    "severity",
    "metadata",
    "links",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(&NAMES[..]).prop_map(str::to_owned),
        proptest::sample::select(
            &[
                "4",
                "1",
                "firing",
                "incident.triggered",
                "2026-11-20T09:15:00Z"
            ][..]
        )
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..8)
                .prop_map(|all| Value::Object(all.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        for format in Format::ALL {
            check::reading(format, &body);
        }
        check::signatures(&body);
    }

    #[test]
    fn any_document(value in value()) {
        let body = value.to_string();
        for format in Format::ALL {
            check::reading(format, body.as_bytes());
        }
        check::signatures(body.as_bytes());
    }
}
