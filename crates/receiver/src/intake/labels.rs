//! Labels: what maps an alert to a Deployment, and so what a sender must not be able to say twice.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::text::{self, Text};
use crate::alert::Alert;

/// Labels as they come together: the first [`Alert::LABELS`] by name. A name that is given two different values has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(BTreeMap<String, Option<String>>);

impl Labels {
    /// Adds one. What cannot be seen is taken out of it; without a name or a value that is left, it is no label.
    pub fn add(&mut self, name: &str, value: &str) {
        let (name, value) = (text::clean(name), text::clean(value));
        if name.is_empty() || value.is_empty() {
            return;
        }
        self.0
            .entry(name)
            .and_modify(|old| {
                if old.as_ref() != Some(&value) {
                    *old = None;
                }
            })
            .or_insert(Some(value));
        // The last by name is the one to go, so which ones stay does not depend on the order in which they come.
        if self.0.len() > Alert::LABELS {
            self.0.pop_last();
        }
    }

    /// Gives a name this value, whatever it had.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.remove(name);
        self.add(name, value);
    }

    /// Adds those whose names are not there yet.
    pub fn add_missing(&mut self, others: Self) {
        for (name, value) in others.0 {
            self.0.entry(name).or_insert(value);
        }
        while self.0.len() > Alert::LABELS {
            self.0.pop_last();
        }
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All that have a value.
    pub fn done(self) -> BTreeMap<String, String> {
        let known = |(name, value): (String, Option<String>)| Some((name, value?));
        self.0.into_iter().filter_map(known).collect()
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Labels;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut labels = Labels::default();
        while let Some(Text(name)) = map.next_key()? {
            if labels.0.contains_key(&name) {
                let message = format!("the name `{}` comes twice", text::short(&name));
                return Err(de::Error::custom(message));
            }
            let Text(value) = map.next_value()?;
            labels.add(&name, &value);
        }
        Ok(labels)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Members)
    }
}
