//! One object that a watch tells of. It may be of any size; one that would take too much memory has nothing but its
//! metadata.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::budget::Budget;
use crate::value::{Managers, Weighed};

/// How much memory one object may take.
const MOST: usize = 4 << 20;

/// An object of the kind `K`, as it is served.
#[derive(Clone, Debug)]
pub struct Bounded<K> {
    /// Its metadata, without who manages which field.
    pub metadata: ObjectMeta,
    /// Its other fields; `None` when they would take too much memory.
    pub fields: Option<Map<String, Value>>,
    kind: PhantomData<K>,
}

/// Why there is no object of its kind.
#[derive(Debug, thiserror::Error)]
pub enum Untyped {
    /// It would take too much memory.
    #[error("it is too large")]
    TooLarge,
    /// It is not what its kind says.
    #[error(transparent)]
    Unreadable(#[from] serde_json::Error),
}

impl<K: DeserializeOwned> Bounded<K> {
    /// The object as its kind has it.
    pub fn typed(self) -> Result<K, Untyped> {
        let mut fields = self.fields.ok_or(Untyped::TooLarge)?;
        fields.insert("metadata".to_owned(), serde_json::to_value(self.metadata)?);
        Ok(serde_json::from_value(Value::Object(fields))?)
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Bounded<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de, K> Deserialize<'de> for Bounded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<K>(PhantomData<K>);

impl<'de, K> Visitor<'de> for Fields<K> {
    type Value = Bounded<K>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Bounded<K>, A::Error> {
        let (about, rest) = (Budget::of(MOST), Budget::of(MOST));
        let about = Weighed::skipping(&about, Managers::Dropped);
        let rest = Weighed::skipping(&rest, Managers::Kept);
        let (mut metadata, mut fields) = (Value::Null, Map::new());
        while let Some(field) = all.next_key::<String>()? {
            if field == "metadata" {
                metadata = all.next_value_seed(about.metadata())?;
            } else if rest.is_exhausted() {
                all.next_value::<IgnoredAny>()?;
            } else {
                let value = all.next_value_seed(rest.field())?;
                fields.insert(field, value);
            }
        }
        // Without a name nobody can be told about it.
        let metadata = serde_json::from_value(metadata).unwrap_or_default();
        let is_whole = !about.is_exhausted() && !rest.is_exhausted();
        Ok(Bounded {
            metadata,
            fields: is_whole.then_some(fields),
            kind: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::core::WatchEvent;
    use serde_json::json;

    use super::*;

    fn event(spec: &Value) -> Bounded<Deployment> {
        let text = json!({"type": "MODIFIED", "object": {
            "apiVersion": "apps/v1", "kind": "Deployment", "spec": spec, "status": {"replicas": 1},
            "metadata": {"name": "api", "namespace": "shop", "generation": 3, "annotations": {"a": "b"},
                "managedFields": [{"manager": "kubectl"}]},
        }});
        match serde_json::from_str(&text.to_string()).unwrap() {
            WatchEvent::Modified(object) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_is_whole_or_nothing_but_its_metadata() {
        let spec =
            json!({"template": {"spec": {"containers": [{"name": "app", "args": [1, "x"]}]}}});
        let small = event(&spec);
        assert_eq!(small.fields.unwrap()["spec"], spec);
        assert_eq!(small.metadata.name.as_deref(), Some("api"));
        assert_eq!(small.metadata.generation, Some(3));
        assert_eq!(small.metadata.managed_fields, None);
        let large = event(&json!({"env": vec![json!({"name": "a"}); 50_000]}));
        assert!(large.fields.is_none());
        assert_eq!(large.metadata.namespace.as_deref(), Some("shop"));
    }
}
