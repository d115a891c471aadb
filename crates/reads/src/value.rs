//! JSON whose memory is counted while it is read. It is the very value that `serde_json` would give: digests are made
//! of it.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::budget::Budget;

/// What a value costs in a list that doubles its room as it grows.
const VALUE: usize = 2 * size_of::<Value>();
/// What a text costs besides its bytes.
const TEXT: usize = 16;
/// What a map costs for each of its nodes, and how many entries a node is sure to hold.
const NODE: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 128;
const ENTRIES: usize = 6;

/// Where in an object something stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the object itself.
    Object,
    /// It is its metadata.
    Metadata,
    /// Anywhere else.
    Elsewhere,
}

/// Whether the fields that say who manages which field are kept: often they are most of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managers {
    /// They are.
    Kept,
    /// They are not.
    Dropped,
}

/// Reads an object, and counts what it takes. Fails with an error of `serde_json` when that is more than there is; then
/// [`Weighed::is_exhausted`] says so.
pub struct Weighed<'a> {
    budget: &'a Budget,
    managers: Managers,
    /// What is too much is passed over instead of failing.
    skips: bool,
    taken: Cell<usize>,
    exhausted: Cell<bool>,
}

impl<'a> Weighed<'a> {
    /// Takes from this budget.
    pub fn new(budget: &'a Budget, managers: Managers) -> Self {
        Self {
            budget,
            managers,
            skips: false,
            taken: Cell::new(0),
            exhausted: Cell::new(false),
        }
    }

    /// The same, but reads on to the end when there is not enough: what it gives then is worth nothing.
    pub fn skipping(budget: &'a Budget, managers: Managers) -> Self {
        Self {
            skips: true,
            ..Self::new(budget, managers)
        }
    }

    /// Whether there was not enough.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// What the values took that were read since this was asked last.
    pub fn taken(&self) -> usize {
        self.taken.take()
    }

    /// What reads one object.
    pub fn object(&self) -> impl for<'de> DeserializeSeed<'de, Value = Value> {
        Seed {
            weighed: self,
            place: Place::Object,
        }
    }

    /// What reads the metadata of one.
    pub fn metadata(&self) -> impl for<'de> DeserializeSeed<'de, Value = Value> {
        Seed {
            weighed: self,
            place: Place::Metadata,
        }
    }

    /// What reads any other field of one.
    pub fn field(&self) -> impl for<'de> DeserializeSeed<'de, Value = Value> {
        Seed {
            weighed: self,
            place: Place::Elsewhere,
        }
    }

    /// Reads an object out of bytes.
    pub fn read(&self, bytes: &[u8]) -> serde_json::Result<Value> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value = self.object().deserialize(&mut json)?;
        json.end()?;
        Ok(value)
    }

    fn take<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        if self.budget.take(bytes) {
            self.taken.set(self.taken.get() + bytes);
            return Ok(());
        }
        self.exhausted.set(true);
        if self.skips {
            return Ok(());
        }
        Err(E::custom("it would take too much memory"))
    }
}

struct Seed<'a> {
    weighed: &'a Weighed<'a>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.weighed.take(TEXT + value.len())?;
        if self.weighed.is_exhausted() {
            return Ok(Value::Null);
        }
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        let item = || Seed {
            weighed: self.weighed,
            place: Place::Elsewhere,
        };
        while let Some(value) = items.next_element_seed(item())? {
            self.weighed.take(VALUE)?;
            all.push(value);
            if self.weighed.is_exhausted() {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Value::Null);
            }
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let place = match (self.place, key.as_str()) {
                (Place::Object, "metadata") => Place::Metadata,
                (Place::Object | Place::Metadata | Place::Elsewhere, _) => Place::Elsewhere,
            };
            if self.place == Place::Metadata
                && self.weighed.managers == Managers::Dropped
                && key == "managedFields"
            {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            if all.len().is_multiple_of(ENTRIES) {
                self.weighed.take(NODE)?;
            }
            self.weighed.take(TEXT + key.len())?;
            let value = entries.next_value_seed(Seed {
                weighed: self.weighed,
                place,
            })?;
            all.insert(key, value);
            if self.weighed.is_exhausted() {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(Value::Null);
            }
        }
        Ok(Value::Object(all))
    }
}

/// What a value takes in memory.
pub fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => TEXT + text.len(),
        Value::Array(items) => items.iter().map(|item| VALUE + weight(item)).sum(),
        Value::Object(fields) => {
            let nodes = fields.len().div_ceil(ENTRIES) * NODE;
            let texts = fields.iter().map(|(key, it)| TEXT + key.len() + weight(it));
            nodes + texts.sum::<usize>()
        }
    }
}

/// Reads any JSON out of bytes, as long as there is memory for it.
pub fn read(bytes: &[u8], budget: &Budget, managers: Managers) -> Result<Value, kube::Error> {
    let weighed = Weighed::new(budget, managers);
    weighed
        .read(bytes)
        .map_err(|error| failed(&weighed, budget, error))
}

/// The error to tell; what was taken is given back.
pub(crate) fn failed(weighed: &Weighed, budget: &Budget, error: serde_json::Error) -> kube::Error {
    budget.give(weighed.taken());
    if weighed.is_exhausted() {
        return crate::answer::TooLarge::Memory.into();
    }
    kube::Error::SerdeError(error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_the_value_that_serde_json_gives() {
        let text = r#"{"a":[1,-2,3.5,1e400,18446744073709551615,null,true,{"b":"\u00e9\n"}],"a":{"x":[]},
            "metadata":{"managedFields":[1],"name":"n"},"spec":{"managedFields":[2]},"z":"","big":123456789012345678901234567890}"#;
        let text = text.replace("1e400,", "");
        let budget = Budget::of(1 << 20);
        let read = read(text.as_bytes(), &budget, Managers::Kept).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(&text).unwrap());
        assert!(budget.taken() > text.len());
        let small = json!({"a": [1, "x", {}], "b": {"c": null}});
        let budget = Budget::of(1 << 20);
        super::read(small.to_string().as_bytes(), &budget, Managers::Kept).unwrap();
        assert_eq!(budget.taken(), weight(&small));
    }

    #[test]
    fn only_the_managers_of_the_object_are_dropped() {
        let value = json!({
            "metadata": {"name": "n", "managedFields": [{"manager": "m"}]},
            "spec": {"managedFields": [1], "metadata": {"managedFields": [2]}},
        });
        let budget = Budget::of(1 << 20);
        let read = read(value.to_string().as_bytes(), &budget, Managers::Dropped).unwrap();
        let mut expected = value;
        expected["metadata"] = json!({"name": "n"});
        assert_eq!(read, expected);
    }

    #[test]
    fn what_takes_too_much_is_not_read_and_takes_nothing() {
        // A byte of JSON becomes fifty.
        let env = vec![json!({"a": 1}); 10_000];
        let text = json!({"spec": env}).to_string();
        let budget = Budget::of(1 << 20);
        let error = read(text.as_bytes(), &budget, Managers::Kept).unwrap_err();
        assert!(crate::is_too_large(&error), "{error:?}");
        assert_eq!(budget.taken(), 0);
        let text = json!({"spec": "x".repeat(100_000)}).to_string();
        read(text.as_bytes(), &budget, Managers::Kept).unwrap();
        assert!((100_000..110_000).contains(&budget.taken()));
        let broken = read(b"{\"a\":", &budget, Managers::Kept).unwrap_err();
        assert!(!crate::is_too_large(&broken), "{broken:?}");
    }
}
