//! Pod templates as raw JSON: their identity, and what of them a person wants to see.
//!
//! Templates are never read into typed structs: those drop the fields that are newer than the types.

use std::collections::{BTreeMap, BTreeSet};

use rollback_api::status::ImageChange;
use rollback_api::{POD_TEMPLATE_HASH, RESTARTED_AT};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A pod template without what the Deployment controller adds to it for a `ReplicaSet`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Value);

impl Template {
    /// The template as served with a Deployment or a `ReplicaSet`.
    pub fn of(served: &Value) -> Self {
        let mut template = without_nulls(served);
        remove(&mut template, "/metadata/labels", POD_TEMPLATE_HASH);
        Self(template)
    }

    /// The JSON that a Deployment takes.
    pub fn as_json(&self) -> &Value {
        &self.0
    }

    /// Identity of the template. Equal digests mean that the API server would see no difference.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }

    /// The template as if `kubectl rollout restart` had never been used on it.
    #[must_use]
    pub fn without_restart(&self) -> Self {
        let mut template = self.0.clone();
        remove(&mut template, "/metadata/annotations", RESTARTED_AT);
        Self(template)
    }

    /// Whether the two run the same thing, restarts aside.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.without_restart().0 == other.without_restart().0
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
        Some(Self(template))
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
