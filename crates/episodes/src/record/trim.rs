//! Keeps what a trigger may look at.

use serde_json::{Map, Value, json};

const ANNOTATIONS: [&str; 3] = [
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/revision-history",
    "kubectl.kubernetes.io/restartedAt",
];
const METADATA: [&str; 7] = [
    "name",
    "uid",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "ownerReferences",
];
const SPEC: [&str; 7] = [
    "replicas",
    "paused",
    "strategy",
    "minReadySeconds",
    "progressDeadlineSeconds",
    "selector",
    "nodeName",
];
const CONTAINER: [&str; 4] = ["name", "image", "restartPolicy", "resources"];
const CONTAINER_STATUS: [&str; 5] = ["name", "ready", "restartCount", "state", "lastState"];
const POD_STATUS: [&str; 5] = ["phase", "reason", "message", "startTime", "conditions"];

pub(super) fn trim(object: &Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut spec = keep(&object["spec"], &SPEC);
    match kind {
        "Pod" => add_containers(&mut spec, &object["spec"], &["name", "restartPolicy"]),
        "ReplicaSet" => {
            spec.remove("selector");
            spec.insert("template".to_owned(), template(&object["spec"]["template"]));
        }
        _other => {
            spec.insert("template".to_owned(), template(&object["spec"]["template"]));
        }
    }
    let status = match kind {
        "Pod" => pod_status(&object["status"]),
        _other => without_words(&object["status"]),
    };
    let mut metadata = metadata(&object["metadata"]);
    if kind != "Deployment" {
        metadata.remove("generation");
    }
    json!({"apiVersion": object["apiVersion"], "kind": kind, "metadata": metadata, "spec": spec, "status": status})
}

/// The beginning of a UID is enough to tell it from the others.
fn shorten(uid: &mut Value) {
    let short = uid
        .as_str()
        .and_then(|it| it.get(..8))
        .map(ToOwned::to_owned);
    if let Some(short) = short {
        *uid = json!(short);
    }
}

fn keep(value: &Value, names: &[&str]) -> Map<String, Value> {
    let fields = value.as_object().into_iter().flatten();
    let kept = fields.filter(|(name, _)| names.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn list(value: &Value, names: &[&str]) -> Vec<Value> {
    let items = value.as_array().into_iter().flatten();
    items.map(|it| Value::Object(keep(it, names))).collect()
}

fn metadata(value: &Value) -> Map<String, Value> {
    let mut kept = keep(value, &METADATA);
    if let Some(uid) = kept.get_mut("uid") {
        shorten(uid);
    }
    let annotations = keep(&value["annotations"], &ANNOTATIONS);
    if !annotations.is_empty() {
        kept.insert("annotations".to_owned(), Value::Object(annotations));
    }
    if let Some(owners) = kept.get_mut("ownerReferences") {
        *owners = json!(list(
            owners,
            &["apiVersion", "kind", "name", "uid", "controller"]
        ));
        for owner in owners.as_array_mut().into_iter().flatten() {
            shorten(&mut owner["uid"]);
        }
    }
    kept
}

fn add_containers(spec: &mut Map<String, Value>, of: &Value, names: &[&str]) {
    for kind in ["containers", "initContainers"] {
        let containers = list(&of[kind], names);
        if !containers.is_empty() {
            spec.insert(kind.to_owned(), json!(containers));
        }
    }
}

fn template(value: &Value) -> Value {
    let mut spec = Map::new();
    add_containers(&mut spec, &value["spec"], &CONTAINER);
    json!({"metadata": metadata(&value["metadata"]), "spec": spec})
}

/// Conditions without their messages.
fn without_words(status: &Value) -> Value {
    let mut status = status.clone();
    let conditions = status["conditions"].as_array_mut();
    for condition in conditions.into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("message");
        }
    }
    status
}

fn ready<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    let condition = conditions.iter().find(|it| it["type"] == kind);
    condition.map(|it| &it["status"])
}

fn pod_status(value: &Value) -> Value {
    let mut kept = keep(value, &POD_STATUS);
    if let Some(conditions) = kept.get_mut("conditions") {
        let names = ["type", "status", "reason", "message", "lastTransitionTime"];
        let mut all = list(conditions, &names);
        // What goes without saying takes most of the room.
        let dull = |it: &Value| it["status"] == "True" && it["type"] != "Ready";
        let differs = ready(&all, "Ready") != ready(&all, "ContainersReady");
        all.retain(|it| (differs && it["type"] == "ContainersReady") || !dull(it));
        all.retain(|it| differs || it["type"] != "ContainersReady");
        *conditions = json!(all);
    }
    for kind in ["containerStatuses", "initContainerStatuses"] {
        let mut statuses = list(&value[kind], &CONTAINER_STATUS);
        for status in statuses.iter_mut().filter_map(Value::as_object_mut) {
            status.retain(|_, value| *value != json!({}));
        }
        if !statuses.is_empty() {
            kept.insert(kind.to_owned(), json!(statuses));
        }
    }
    Value::Object(kept)
}
