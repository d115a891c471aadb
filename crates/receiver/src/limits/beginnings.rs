//! When alerts that fire began to, for those whose senders say it anew each time. It is forgotten when the program starts
//! again: then what fires once more tells no beginning.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// How many are remembered.
const MOST: usize = 10_000;

type Firing = (String, String);

/// The beginnings.
#[derive(Debug, Default)]
pub struct Beginnings(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    at: HashMap<Firing, Timestamp>,
    /// Oldest first; may hold some that are forgotten.
    order: VecDeque<Firing>,
}

impl Beginnings {
    /// When this alert of this source began, which says that it is so since `said`. `None` when it says that it fired
    /// before, and nothing is known of that. Who does not say so is believed: some use one id for what fires anew.
    pub fn of(
        &self,
        source: &str,
        id: &str,
        said: Timestamp,
        is_repeat: bool,
    ) -> Option<Timestamp> {
        let key = (source.to_owned(), id.to_owned());
        let mut memory = self.lock();
        if let Some(known) = memory.at.get_mut(&key) {
            *known = (*known).min(said);
            return Some(if is_repeat { *known } else { said });
        }
        if is_repeat {
            return None;
        }
        memory.at.insert(key.clone(), said);
        memory.order.push_back(key);
        while memory.order.len() > MOST {
            let Some(oldest) = memory.order.pop_front() else {
                break;
            };
            memory.at.remove(&oldest);
        }
        Some(said)
    }

    /// It is over.
    pub fn forget(&self, source: &str, id: &str) {
        let key = (source.to_owned(), id.to_owned());
        self.lock().at.remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-28T{text}:00Z").parse().unwrap()
    }

    #[test]
    fn a6_a_cycle_began_when_it_began_first() {
        let known = Beginnings::default();
        assert_eq!(
            known.of("datadog", "77", at("10:00"), false),
            Some(at("10:00"))
        );
        assert_eq!(
            known.of("datadog", "77", at("10:30"), true),
            Some(at("10:00"))
        );
        // Of another sender, or another cycle, nothing is known.
        assert_eq!(known.of("other", "77", at("10:30"), true), None);
        assert_eq!(known.of("datadog", "78", at("10:30"), true), None);
        // It is over: what comes then is another matter.
        known.forget("datadog", "77");
        assert_eq!(known.of("datadog", "77", at("10:40"), true), None);
        assert_eq!(
            known.of("datadog", "77", at("10:50"), false),
            Some(at("10:50"))
        );
    }

    #[test]
    fn memory_is_bounded() {
        let known = Beginnings::default();
        for id in 0..2 * MOST {
            known.of("datadog", &id.to_string(), at("10:00"), false);
        }
        let memory = known.lock();
        assert!(memory.at.len() <= MOST && memory.order.len() <= MOST);
    }
}
