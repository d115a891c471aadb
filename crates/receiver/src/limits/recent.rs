//! What was asked for a short time ago. Only so that nobody is asked again without need: that a request is made once is
//! the doing of its name, whoever forgets what here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// For how long it is remembered.
const FOR: Duration = Duration::from_hours(1);
/// How many are remembered.
const MOST: usize = 10_000;

/// One firing of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Name of the source.
    pub source: String,
    /// What the sender knows the alert by.
    pub id: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
}

/// The firings that were answered by a request, and by which.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    answers: HashMap<Key, (String, Instant)>,
    /// Oldest first; may hold keys that were forgotten, or remembered again later.
    order: VecDeque<(Key, Instant)>,
}

impl Recent {
    /// The request that this firing was answered by.
    pub fn request(&self, key: &Key, now: Instant) -> Option<String> {
        let memory = self.lock();
        let (request, at) = memory.answers.get(key)?;
        (now.duration_since(*at) < FOR).then(|| request.clone())
    }

    /// Remembers by which request it was answered.
    pub fn remember(&self, key: Key, request: String, now: Instant) {
        let mut memory = self.lock();
        memory.order.push_back((key.clone(), now));
        memory.answers.insert(key, (request, now));
        while let Some((key, at)) = memory.order.front() {
            let is_old = now.duration_since(*at) >= FOR || memory.order.len() > MOST;
            if !is_old {
                break;
            }
            let is_current = memory.answers.get(key).is_some_and(|(_, last)| last == at);
            let Some((key, _)) = memory.order.pop_front() else {
                break;
            };
            if is_current {
                memory.answers.remove(&key);
            }
        }
    }

    /// The alert is over: when it fires again, that is another matter, even if its sender says otherwise.
    pub fn forget(&self, source: &str, id: &str) {
        let is_it = |key: &Key| key.source == source && key.id == id;
        self.lock().answers.retain(|key, _| !is_it(key));
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: usize) -> Key {
        Key {
            source: "grafana".to_owned(),
            id: id.to_string(),
            started_at: None,
        }
    }

    #[test]
    fn what_was_answered_is_known_for_an_hour() {
        let recent = Recent::default();
        let start = Instant::now();
        recent.remember(key(1), "auto-api".to_owned(), start);
        let within = start + FOR.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(recent.request(&key(1), within).as_deref(), Some("auto-api"));
        assert_eq!(recent.request(&key(1), start + FOR), None);
        assert_eq!(recent.request(&key(2), start), None);
    }

    #[test]
    fn one_that_is_over_may_fire_again() {
        let recent = Recent::default();
        let now = Instant::now();
        recent.remember(key(1), "auto-api".to_owned(), now);
        recent.forget("prometheus", "1");
        assert!(recent.request(&key(1), now).is_some());
        recent.forget("grafana", "1");
        assert!(recent.request(&key(1), now).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::default();
        let now = Instant::now();
        for id in 0..2 * MOST {
            recent.remember(key(id), "auto-api".to_owned(), now);
        }
        let memory = recent.lock();
        assert!(memory.answers.len() <= MOST && memory.order.len() <= MOST);
        drop(memory);
        assert!(recent.request(&key(2 * MOST - 1), now).is_some());
    }
}
