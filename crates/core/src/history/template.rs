//! Pod templates as raw JSON: their identity, and what of them a person wants to see.
//!
//! Templates are never read into typed structs: those drop the fields that are newer than the types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollback_api::POD_TEMPLATE_HASH;
use rollback_api::status::ImageChange;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::restart::{is_mark, is_mark_variable};

/// A pod template without what the Deployment controller adds to it for a `ReplicaSet`.
#[derive(Clone, Debug)]
pub struct Template(Value, Marks);

/// What a policy calls marks of restarts, besides those that are known. They are no part of what a template is.
type Marks = Arc<[String]>;

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Template {
    /// The template as served with a Deployment or a `ReplicaSet`.
    pub fn of(served: &Value) -> Self {
        let mut template = without_nulls(served);
        remove(&mut template, "/metadata/labels", POD_TEMPLATE_HASH);
        Self(template, Marks::default())
    }

    /// The same template, which is compared with others by these marks of restarts too.
    #[must_use]
    pub fn with_marks(mut self, marks: &[String]) -> Self {
        self.1 = marks.into();
        self
    }

    /// The JSON that a Deployment takes.
    pub fn as_json(&self) -> &Value {
        &self.0
    }

    /// Identity of the template. Equal digests mean that the API server would see no difference.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }

    /// The template as if its pods had never been started anew: without the marks of `kubectl rollout restart` and of other
    /// tools that do the like.
    #[must_use]
    pub fn without_restart(&self) -> Self {
        self.without_marks(&self.1)
    }

    /// The same, without these marks either.
    fn without_marks(&self, marks: &[String]) -> Self {
        let is_own = |name: &str| marks.iter().any(|mark| mark == name);
        let mut template = self.0.clone();
        let annotations = template
            .pointer("/metadata/annotations")
            .and_then(Value::as_object);
        let names = annotations.into_iter().flat_map(|all| all.keys());
        let found: Vec<String> = names
            .filter(|name| is_mark(name) || is_own(name))
            .cloned()
            .collect();
        for mark in found {
            remove(&mut template, "/metadata/annotations", &mark);
        }
        for list in ["/spec/initContainers", "/spec/containers"] {
            let containers = template.pointer_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                remove_mark_variables(container, is_own);
            }
        }
        Self(template, self.1.clone())
    }

    /// Whether the two run the same thing, restarts aside, by the marks that either of them knows.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let marks = if self.1.is_empty() { &other.1 } else { &self.1 };
        self.without_marks(marks).0 == other.without_marks(marks).0
    }

    /// Images by container name, init containers included.
    pub fn images(&self) -> BTreeMap<String, String> {
        self.images_in(&["/spec/initContainers", "/spec/containers"])
    }

    /// Images by container name, without init containers.
    pub fn main_images(&self) -> BTreeMap<String, String> {
        self.images_in(&["/spec/containers"])
    }

    /// The template with another image in this container; `None` when it has no such container.
    pub fn with_image(&self, container: &str, image: &str) -> Option<Self> {
        let mut template = self.0.clone();
        let mut lists = ["/spec/initContainers", "/spec/containers"].into_iter();
        lists.find_map(|list| {
            let containers = template.pointer_mut(list)?.as_array_mut()?;
            let named =
                |one: &&mut Value| one.get("name").and_then(Value::as_str) == Some(container);
            *containers.iter_mut().find(named)?.get_mut("image")? = image.into();
            Some(())
        })?;
        Some(Self(template, self.1.clone()))
    }

    fn images_in(&self, lists: &[&str]) -> BTreeMap<String, String> {
        lists
            .iter()
            .filter_map(|list| self.0.pointer(list)?.as_array())
            .flatten()
            .filter_map(|container| {
                let name = container.get("name")?.as_str()?;
                let image = container.get("image")?.as_str()?;
                Some((name.to_owned(), image.to_owned()))
            })
            .collect()
    }
}

/// The containers whose image differs.
pub fn image_changes(from: &Template, to: &Template) -> Vec<ImageChange> {
    let (old, new) = (from.images(), to.images());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .map(|name| ImageChange {
            container: name.clone(),
            from: old.get(name).cloned(),
            to: new.get(name).cloned(),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

/// `sha256:` and the hash of the canonical form: sorted keys, no spaces.
pub fn digest(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().fold(String::from("sha256:"), |mut hex, byte| {
        for nibble in [byte >> 4, byte & 0xf] {
            hex.extend(char::from_digit(u32::from(nibble), 16));
        }
        hex
    })
}

/// Writes sorted keys whatever map `serde_json` was built with.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (index, (key, inner)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(inner, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, inner) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(inner, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

/// The API server treats an absent field and a null one alike.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, inner)| !inner.is_null())
            .map(|(key, inner)| (key.clone(), without_nulls(inner)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Removes variables that are marks, and the list with them when nothing else was in it.
fn remove_mark_variables(container: &mut Value, is_own: impl Fn(&str) -> bool) {
    let Some(container) = container.as_object_mut() else {
        return;
    };
    let Some(variables) = container.get_mut("env").and_then(Value::as_array_mut) else {
        return;
    };
    let before = variables.len();
    let is_named = |variable: &Value| {
        variable
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(&is_own)
    };
    variables.retain(|variable| !is_mark_variable(variable) && !is_named(variable));
    if variables.is_empty() && before > 0 {
        container.remove("env");
    }
}

/// Removes a key from a map inside `value`, and the map with it when nothing else was in it.
fn remove(value: &mut Value, map: &str, key: &str) {
    let Some(entries) = value.pointer_mut(map).and_then(Value::as_object_mut) else {
        return;
    };
    entries.remove(key);
    let empty = entries.is_empty();
    if let (true, Some((parent, name))) = (empty, map.rsplit_once('/'))
        && let Some(parent) = value.pointer_mut(parent).and_then(Value::as_object_mut)
    {
        parent.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollback_api::RESTARTED_AT;
    use serde_json::json;

    fn template(image: &str) -> Value {
        json!({
            "metadata": {"labels": {"app": "api"}, "creationTimestamp": null},
            "spec": {
                "initContainers": [{"name": "migrate", "image": "m:1"}],
                "containers": [{"name": "api", "image": image, "futureField": {"b": [1, {"z": 1, "a": 2}], "a": true}}],
            }
        })
    }

    #[test]
    fn what_the_controller_adds_is_not_part_of_the_identity() {
        let deployment = Template::of(&template("a:1"));
        let mut served = template("a:1");
        served["metadata"]["labels"][POD_TEMPLATE_HASH] = json!("abc");
        let replica_set = Template::of(&served);
        assert_eq!(deployment, replica_set);
        assert_eq!(deployment.digest(), replica_set.digest());
        assert!(
            deployment
                .as_json()
                .pointer("/metadata/creationTimestamp")
                .is_none()
        );
        assert_ne!(deployment.digest(), Template::of(&template("a:2")).digest());
    }

    #[test]
    fn fields_unknown_to_any_type_survive_and_count() {
        let original = Template::of(&template("a:1"));
        assert_eq!(
            original
                .as_json()
                .pointer("/spec/containers/0/futureField/b/1/a"),
            Some(&json!(2))
        );
        let mut changed = template("a:1");
        changed["spec"]["containers"][0]["futureField"]["b"][0] = json!(7);
        assert_ne!(original.digest(), Template::of(&changed).digest());
    }

    #[test]
    fn the_digest_is_the_sha256_of_sorted_compact_json() {
        // printf '{"a":[true,null,"x"],"b":1}' | sha256sum
        assert_eq!(
            digest(&json!({"b": 1, "a": [true, null, "x"]})),
            "sha256:54a65415ad370228851a1da4b31b6fd42dc58b19a50d35cae759325f7388ce64"
        );
    }

    #[test]
    fn a_restart_is_no_other_version() {
        let plain = Template::of(&template("a:1"));
        let mut served = template("a:1");
        served["metadata"]["annotations"] = json!({RESTARTED_AT: "2026-11-23T14:00:00Z"});
        let restarted = Template::of(&served);
        assert_ne!(plain.digest(), restarted.digest());
        assert!(plain.is_equivalent(&restarted));
        assert!(!plain.is_equivalent(&Template::of(&template("a:2"))));
        served["metadata"]["annotations"]["other"] = json!("x");
        assert!(!plain.is_equivalent(&Template::of(&served)));
    }

    /// Each mark, where it stands, and the tool that writes it: docs/field-cases.md.
    #[test]
    fn b1_marks_of_other_tools_are_no_other_version() {
        let plain = Template::of(&template("a:1"));
        for (annotation, is_mark) in [
            ("reloader.stakater.com/last-reloaded-from", true),
            ("cattle.io/timestamp", true),
            ("openshift.openshift.io/restartedAt", true),
            ("kubesphere.io/restartedAt", true),
            ("wave.pusher.com/config-hash", true),
            ("keel.sh/update-time", true),
            ("vso.secrets.hashicorp.com/restartedAt", true),
            ("operator.1password.io/lastRestarted", true),
            ("secrets.doppler.com/secretsupdate.api", true),
            ("rollme", true),
            // What a chart brings is of the release.
            ("checksum/config", false),
            ("app.example.com/config-hash", false),
            ("linkerd.io/inject", false),
            ("sidecar.istio.io/inject", false),
            ("vault.hashicorp.com/role", false),
            ("example.com/restartedAt", false),
        ] {
            let mut served = template("a:1");
            served["metadata"]["annotations"] = json!({annotation: "x"});
            let marked = Template::of(&served);
            assert_ne!(plain.digest(), marked.digest());
            assert_eq!(plain.is_equivalent(&marked), is_mark, "{annotation}");
        }
        for (name, is_mark) in [
            ("STAKATER_API_CONFIG_CONFIGMAP", true),
            ("STAKATER_API_SECRET", true),
            ("STAKATER_URL", false),
            ("API_CONFIGMAP", false),
        ] {
            let mut served = template("a:1");
            served["spec"]["containers"][0]["env"] = json!([{"name": name, "value": "3f2a"}]);
            assert_eq!(
                plain.is_equivalent(&Template::of(&served)),
                is_mark,
                "{name}"
            );
        }
        // What is taken from somewhere is no mark, and other variables stay.
        let mut served = template("a:1");
        served["spec"]["containers"][0]["env"] = json!([{"name": "STAKATER_A_SECRET", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
        assert!(!plain.is_equivalent(&Template::of(&served)));
        let mut with = template("a:1");
        with["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        let mut both = template("a:1");
        both["spec"]["containers"][0]["env"] =
            json!([{"name": "A", "value": "1"}, {"name": "STAKATER_A_SECRET", "value": "3f2a"}]);
        assert!(Template::of(&with).is_equivalent(&Template::of(&both)));
        assert!(!plain.is_equivalent(&Template::of(&both)));
    }

    #[test]
    fn b1_the_policy_may_know_more_marks() {
        let marks = ["deploy.example.com/poked".to_owned(), "POKED".to_owned()];
        let plain = Template::of(&template("a:1"));
        let mut served = template("a:1");
        served["metadata"]["annotations"] = json!({"deploy.example.com/poked": "7"});
        served["spec"]["containers"][0]["env"] = json!([{"name": "POKED", "value": "7"}]);
        let poked = Template::of(&served);
        assert!(!plain.is_equivalent(&poked));
        assert!(plain.clone().with_marks(&marks).is_equivalent(&poked));
        assert!(poked.is_equivalent(&plain.clone().with_marks(&marks)));
        // They are no part of what it is.
        assert_eq!(plain.clone().with_marks(&marks), plain);
        assert_eq!(plain.clone().with_marks(&marks).digest(), plain.digest());
        let other = Template::of(&template("a:2"));
        assert!(!plain.with_marks(&marks).is_equivalent(&other));
    }

    #[test]
    fn image_changes_name_the_containers() {
        let mut other = template("a:2");
        other["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "sidecar", "image": "s:1"}));
        let changes = image_changes(&Template::of(&template("a:1")), &Template::of(&other));
        assert_eq!(
            changes,
            vec![
                ImageChange {
                    container: "api".into(),
                    from: Some("a:1".into()),
                    to: Some("a:2".into())
                },
                ImageChange {
                    container: "sidecar".into(),
                    from: None,
                    to: Some("s:1".into())
                },
            ]
        );
    }
}
