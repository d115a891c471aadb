//! Deployments and `ReplicaSets` as the API server serves them, and questions to them.

use jiff::Timestamp;
use rollback_api::status::Progressing;
use rollback_api::{AUTOMATIC, CHANGE_CAUSE, REVISION, WorkloadRef};
use serde_json::Value;

use crate::history::template::Template;

/// A Deployment as the API server serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment(pub Value);

/// A `ReplicaSet` as the API server serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSet(pub Value);

/// The text at a JSON pointer; empty when there is none.
pub(crate) fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The items of the list at a JSON pointer; none when there is no list.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let items = value.pointer(pointer).and_then(Value::as_array);
    items.into_iter().flatten()
}

/// The number at a JSON pointer.
pub(crate) fn integer(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// A condition of the status, by its type.
pub(crate) fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    value
        .pointer("/status/conditions")?
        .as_array()?
        .iter()
        .find(|condition| string(condition, "/type") == kind)
}

impl Deployment {
    /// Name.
    pub fn name(&self) -> &str {
        string(&self.0, "/metadata/name")
    }

    /// UID.
    pub fn uid(&self) -> &str {
        string(&self.0, "/metadata/uid")
    }

    /// Its identity.
    pub fn workload(&self) -> WorkloadRef {
        WorkloadRef::deployment(self.name(), self.uid())
    }

    /// Generation of the spec.
    pub fn generation(&self) -> i64 {
        integer(&self.0, "/metadata/generation").unwrap_or_default()
    }

    /// Generation that the Deployment controller has seen.
    pub fn observed_generation(&self) -> i64 {
        integer(&self.0, "/status/observedGeneration").unwrap_or_default()
    }

    /// The pod template.
    pub fn template(&self) -> Template {
        Template::of(self.0.pointer("/spec/template").unwrap_or(&Value::Null))
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.0.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.0.pointer("/spec/paused").and_then(Value::as_bool) == Some(true)
    }

    /// Replicas asked for.
    pub fn desired(&self) -> i64 {
        integer(&self.0, "/spec/replicas").unwrap_or(1)
    }

    /// Seconds without progress after which the Deployment controller gives up.
    pub fn progress_deadline_seconds(&self) -> i64 {
        integer(&self.0, "/spec/progressDeadlineSeconds").unwrap_or(600)
    }

    /// A count of the status, zero when it is left out.
    fn count(&self, field: &str) -> i64 {
        integer(&self.0, &format!("/status/{field}")).unwrap_or_default()
    }

    /// Replicas of any template.
    pub fn replicas(&self) -> i64 {
        self.count("replicas")
    }

    /// Pods on their way out; `None` on servers that do not report them.
    pub fn terminating(&self) -> Option<i64> {
        integer(&self.0, "/status/terminatingReplicas")
    }

    /// How many old `ReplicaSets` are kept.
    pub fn history_limit(&self) -> i64 {
        integer(&self.0, "/spec/revisionHistoryLimit").unwrap_or(10)
    }

    /// Its revision number, which may lag behind.
    pub fn revision(&self) -> Option<i64> {
        self.annotation(REVISION)?.parse().ok()
    }

    /// Whether every replica that is asked for runs the current template and is available, and no other is left.
    pub fn is_complete(&self) -> bool {
        let desired = self.desired();
        let counts = [self.replicas(), self.updated(), self.available()];
        self.observed_generation() >= self.generation()
            && desired > 0
            && counts.iter().all(|count| *count == desired)
    }

    /// The field manager that wrote the pod template last, other than the one named.
    pub fn template_manager(&self, except: &str) -> Option<String> {
        self.manager_of(except, |entry| {
            entry.pointer("/fieldsV1/f:spec/f:template").is_some()
        })
    }

    /// The field manager that wrote anything but the status last, other than the one named.
    pub fn last_manager(&self, except: &str) -> Option<String> {
        self.manager_of(except, |_| true)
    }

    fn manager_of(&self, except: &str, wrote: impl Fn(&Value) -> bool) -> Option<String> {
        let managers = self.0.pointer("/metadata/managedFields")?.as_array()?;
        let is_meant = |entry: &&Value| {
            string(entry, "/manager") != except
                && entry.get("subresource").is_none()
                && wrote(entry)
        };
        let last = managers
            .iter()
            .filter(is_meant)
            .max_by_key(|entry| string(entry, "/time").to_owned())?;
        Some(string(last, "/manager").to_owned())
    }

    /// Replicas of the current template.
    pub fn updated(&self) -> i64 {
        self.count("updatedReplicas")
    }

    /// Replicas that are available.
    pub fn available(&self) -> i64 {
        self.count("availableReplicas")
    }

    /// Replicas that are ready, of all versions. What is available is ready.
    pub fn ready(&self) -> i64 {
        self.count("readyReplicas").max(self.available())
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.0, key)
    }

    /// Whether it says that it may be watched, and rolled back without a person.
    pub fn opts_in(&self) -> bool {
        self.annotation(AUTOMATIC) == Some("enabled")
    }

    /// Its `ReplicaSet` of the template that it asks for.
    pub fn live_set<'a>(&self, replica_sets: &'a [ReplicaSet]) -> Option<&'a ReplicaSet> {
        let template = self.template();
        replica_sets.iter().find(|set| {
            set.controller_uid() == Some(self.uid())
                && !set.is_deleting()
                && set.template() == template
        })
    }

    /// Whether the map of annotations exists.
    pub fn has_annotations(&self) -> bool {
        self.0.pointer("/metadata/annotations").is_some()
    }

    /// Whether the change-cause names this request. Anybody may write that: it tells which write of ours it was, once it
    /// is known that there was one (`status.targets[].begun`), and never that there was any.
    pub fn was_reverted_by(&self, request_uid: &str) -> bool {
        is_caused_by(&self.0, request_uid)
    }

    /// The state of the `Progressing` condition.
    pub fn progressing(&self) -> Option<Progressing> {
        let condition = condition(&self.0, "Progressing")?;
        Some(Progressing {
            reason: string(condition, "/reason").to_owned(),
            last_update_time: string(condition, "/lastUpdateTime").to_owned(),
        })
    }

    /// Since when it has not been short of available pods; `None` while it is.
    pub fn available_since(&self) -> Option<Timestamp> {
        condition(&self.0, "Available")
            .filter(|condition| string(condition, "/status") == "True")
            .and_then(|condition| string(condition, "/lastTransitionTime").parse().ok())
    }

    /// Whether its controller says that it is short of available pods.
    pub fn is_down(&self) -> bool {
        condition(&self.0, "Available")
            .is_some_and(|condition| string(condition, "/status") == "False")
    }

    /// The message of a condition.
    pub fn condition_message(&self, kind: &str) -> &str {
        condition(&self.0, kind).map_or("", |condition| string(condition, "/message"))
    }
}

/// Whether the change-cause is the one that this request writes.
fn is_caused_by(object: &Value, request_uid: &str) -> bool {
    !request_uid.is_empty()
        && annotation(object, CHANGE_CAUSE).is_some_and(|cause| cause.contains(request_uid))
}

impl ReplicaSet {
    /// When it was made.
    pub fn created_at(&self) -> Option<Timestamp> {
        let at = self.0.pointer("/metadata/creationTimestamp")?;
        at.as_str()?.parse().ok()
    }

    /// Name.
    pub fn name(&self) -> &str {
        string(&self.0, "/metadata/name")
    }

    /// UID.
    pub fn uid(&self) -> &str {
        string(&self.0, "/metadata/uid")
    }

    /// UID of its controller.
    pub fn controller_uid(&self) -> Option<&str> {
        controller_uid(&self.0)
    }

    /// Whether its template was read. Of too many, or too large ones, only the metadata are.
    pub fn is_read(&self) -> bool {
        self.0.get("spec").is_some()
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.0.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// The pod template.
    pub fn template(&self) -> Template {
        Template::of(self.0.pointer("/spec/template").unwrap_or(&Value::Null))
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.0, key)
    }

    /// Whether the change-cause names this request: the Deployment controller copies it, and it stays here when somebody
    /// changes the Deployment again. Anybody may write it, so it counts as little as that of the Deployment.
    pub fn was_restored_by(&self, request_uid: &str) -> bool {
        is_caused_by(&self.0, request_uid)
    }

    /// Why it cannot make pods, in the words of its own condition.
    pub fn failure(&self) -> Option<&str> {
        let condition = condition(&self.0, "ReplicaFailure")?;
        (string(condition, "/status") == "True").then(|| string(condition, "/message"))
    }
}

/// UID of the controller of an object, as it is served.
pub fn controller_uid(object: &Value) -> Option<&str> {
    object
        .pointer("/metadata/ownerReferences")?
        .as_array()?
        .iter()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?
        .get("uid")?
        .as_str()
}
