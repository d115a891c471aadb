//! How large a request may be: each is in the memory of the controller until it is deleted.

use rollback_api::FINALIZER;
use serde_json::{Map, Value, json};

use super::notes;
use crate::attack::{APPLY, AWAITING, Expect, Family, JSON, MERGE, POST, PUT, Thing};
use crate::people::{ADMIN, APPROVER, REQUESTER};

const CREATE: &str = "rollback-guard-create";
const UPDATE: &str = "rollback-guard-spec";
const NEW: &[Thing] = &[Thing::NewRequest];
const HELD: &[Thing] = &[AWAITING];

/// So many annotations of so many bytes, about.
fn written(number: usize, bytes: usize) -> Value {
    let all = (0..number).map(|note| (format!("note-{note}"), json!("x".repeat(bytes))));
    notes(Value::Object(all.collect()))
}

fn labelled(number: usize) -> Value {
    let labels: Map<String, Value> = (0..number)
        .map(|label| (format!("label-{label}"), json!("x")))
        .collect();
    json!({"metadata": {"labels": labels}})
}

fn held(number: usize) -> Value {
    let mine = (0..number).map(|one| format!("example.com/f{one}"));
    let all: Vec<String> = std::iter::once(FINALIZER.to_owned()).chain(mine).collect();
    json!({"metadata": {"finalizers": all}})
}

fn owned(number: usize) -> Value {
    let owner = |one: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("o{one}"), "uid": format!("u{one}")});
    json!({"metadata": {"ownerReferences": (0..number).map(owner).collect::<Vec<_>>()}})
}

/// One owner, of a kind that nobody knows, so that nothing collects it, whose name has so many bytes.
fn owned_by_a_name_of(bytes: usize) -> Value {
    json!({"metadata": {"ownerReferences": [
        {"apiVersion": "nobody.example/v1", "kind": "Nothing", "name": "o".repeat(bytes), "uid": "u"},
    ]}})
}

/// Two hundred targets, each with names and images of so many bytes.
fn targets(bytes: usize) -> Value {
    let target = |number: usize| {
        json!({
            "name": format!("{number:03}-{}", "x".repeat(96)), "to": {"previous": {}},
            "from": {"image": "y".repeat(bytes - 100)},
        })
    };
    json!({"spec": {"targets": (0..200).map(target).collect::<Vec<_>>()}})
}

/// Two hundred targets, each with so many bytes in this field and no more than there may be in all others.
fn long(field: &str) -> Value {
    let target = |number: usize| {
        let name = format!("{number:03}");
        let text = |bytes: usize| format!("{name}{}", "x".repeat(bytes));
        let previous = || json!({"previous": {}});
        let labels = || (0..6).map(|label| (format!("label-{label}-{name}"), json!(text(50))));
        let (who, to) = match field {
            "namePrefix" => (json!({"namePrefix": text(240)}), previous()),
            "selector" => {
                let labels: Map<String, Value> = labels().collect();
                (json!({"selector": {"matchLabels": labels}}), previous())
            }
            "version" => (json!({"name": name}), json!({"version": text(120)})),
            "backup" => (json!({"name": name}), json!({"backup": text(240)})),
            _ => (
                json!({"name": name}),
                json!({"image": {"image": text(240)}}),
            ),
        };
        let mut target = who;
        target["to"] = to;
        target["from"] = json!({"image": "y".repeat(250)});
        target
    };
    json!({"spec": {"targets": (0..200).map(target).collect::<Vec<_>>()}})
}

/// What `kubectl apply` keeps of two hundred targets.
fn applied() -> Value {
    let mut all = written(60, 500);
    all["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
        json!("w".repeat(200_000));
    all
}

/// No request takes the memory of others.
pub fn family() -> Family {
    let many = Expect::Guard(CREATE, "has at most 64 annotations");
    let more = Expect::Guard(UPDATE, "has at most 64 annotations");
    let longer = Expect::Guard(UPDATE, "at most 32768 bytes together");
    let large = Expect::Guard(CREATE, "a request has at most 65536");
    let labels = Expect::Guard(UPDATE, "has at most 64 labels");
    let holders = Expect::Guard(
        UPDATE,
        "at most 16 owners, whose names have at most 253 characters, and 16 finalizers",
    );
    Family {
        name: "size",
        attacks: rows! {
            "many annotations", &[REQUESTER], &[POST, APPLY, POST.dry()], NEW, written(200, 1), many;
            "thousands of annotations", &[REQUESTER], &[POST], NEW, written(8000, 1), many;
            "large annotations", &[REQUESTER], &[POST, APPLY], NEW, written(40, 1000), many;
            "many labels", &[REQUESTER], &[POST], NEW, labelled(80), many;
            "many owners", &[REQUESTER], &[POST], NEW, owned(40), many;
            "an owner with a long name", &[REQUESTER], &[POST], NEW, owned_by_a_name_of(300_000), many;
            "many finalizers", &[REQUESTER], &[POST], NEW, held(40), many;
            "large targets", &[REQUESTER], &[POST], NEW, targets(400), large;
            "long prefixes", &[REQUESTER], &[POST], NEW, long("namePrefix"), large;
            "long labels", &[REQUESTER], &[POST], NEW, long("selector"), large;
            "long versions", &[REQUESTER], &[POST], NEW, long("version"), large;
            "long names of backups", &[REQUESTER], &[POST], NEW, long("backup"), large;
            "long images", &[REQUESTER], &[POST], NEW, long("image"), large;
            "many annotations later", &[REQUESTER, APPROVER], &[MERGE, JSON, PUT], HELD, written(200, 1), more;
            "large annotations later", &[REQUESTER, APPROVER], &[MERGE, JSON, APPLY], HELD, written(40, 1000), longer;
            "many labels later", &[REQUESTER], &[MERGE], HELD, labelled(80), labels;
            "many finalizers later", &[REQUESTER], &[MERGE], HELD, held(40), holders;
            // Owners that are not there: where it is not refused, the request would go.
            "many owners later", &[ADMIN], &[MERGE.dry()], HELD, owned(40), holders;
        },
        twins: twins! {
            "as many as there may be", &[REQUESTER], &[POST, APPLY], NEW, written(60, 500);
            "with what kubectl apply keeps", &[REQUESTER], &[POST], NEW, applied();
            "an owner", &[REQUESTER], &[POST], NEW, owned_by_a_name_of(253);
            "labels", &[REQUESTER], &[POST], NEW, labelled(60);
            "two hundred targets", &[REQUESTER], &[POST], NEW, targets(300);
            "owners later", &[ADMIN], &[MERGE.dry()], HELD, owned(10);
            "some later", &[REQUESTER, APPROVER], &[MERGE, JSON, PUT, APPLY], HELD, written(40, 500);
            "with what kubectl apply keeps later", &[REQUESTER], &[MERGE], HELD, applied();
        },
    }
}
