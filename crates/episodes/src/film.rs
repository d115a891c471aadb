//! Frames: what has changed since the last one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::sim::stamp;

/// The least seconds from one frame to the next.
const GAP: i64 = 5;
/// An episode in the making.
pub struct Film {
    pace: i64,
    last: i64,
    shown: BTreeMap<String, Value>,
    frames: Vec<Value>,
}

impl Film {
    /// An empty one, with so many seconds from one frame to the next when little happens.
    pub fn new(pace: i64) -> Self {
        Self {
            pace,
            last: i64::MIN / 2,
            shown: BTreeMap::new(),
            frames: Vec::new(),
        }
    }

    /// Whether it is time for a frame: soon after something that means something, late after anything else.
    pub fn wants(&self, now: i64, meaning: bool) -> bool {
        now - self.last >= if meaning { GAP } else { self.pace }
    }

    /// Takes a frame if anything has changed, or in any case.
    pub fn take(&mut self, now: i64, objects: Vec<Value>, anyway: bool) {
        let objects: BTreeMap<String, Value> =
            objects.into_iter().map(|it| (key(&it), it)).collect();
        if let Some(frame) = self.difference(&stamp(now), objects, anyway) {
            self.last = now;
            self.frames.push(frame);
        }
    }

    fn difference(
        &mut self,
        at: &str,
        objects: BTreeMap<String, Value>,
        anyway: bool,
    ) -> Option<Value> {
        let news = objects
            .iter()
            .filter(|(key, object)| self.shown.get(*key) != Some(object));
        let set: Vec<Value> = news.map(|(_, object)| object.clone()).collect();
        let gone = self.shown.keys().filter(|key| !objects.contains_key(*key));
        let gone: Vec<String> = gone.cloned().collect();
        self.shown = objects;
        if set.is_empty() && gone.is_empty() && !anyway {
            return None;
        }
        let mut frame = Map::new();
        frame.insert("at".to_owned(), json!(at));
        if !set.is_empty() {
            frame.insert("set".to_owned(), json!(set));
        }
        if !gone.is_empty() {
            frame.insert("gone".to_owned(), json!(gone));
        }
        Some(Value::Object(frame))
    }

    /// The frames.
    pub fn frames(self) -> Vec<Value> {
        self.frames
    }
}

/// How a frame calls an object that is gone.
pub fn key(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or_default();
    format!("{kind}/{}", text("/metadata/name").unwrap_or_default())
}
