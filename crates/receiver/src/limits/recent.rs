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
    /// What it is about, by kind, namespace and name: senders use one id for several alerts.
    pub about: String,
    /// What the sender knows the alert by.
    pub id: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
}

/// A request that was made, or found. Whether it is still there is for the API server to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecentRequest {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID: one that was deleted, and another that has its name since, is not it.
    pub uid: String,
}

/// The firings that were answered by a request, and by which.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    answers: HashMap<Key, (RecentRequest, Instant)>,
    /// Oldest first; may hold keys that were forgotten, or remembered again later.
    order: VecDeque<(Key, Instant)>,
}

impl Recent {
    /// The request that this firing was answered by.
    pub fn request(&self, key: &Key, now: Instant) -> Option<RecentRequest> {
        let memory = self.lock();
        let (request, at) = memory.answers.get(key)?;
        (now.duration_since(*at) < FOR).then(|| request.clone())
    }

    /// Remembers by which request it was answered.
    pub fn remember(&self, key: Key, request: RecentRequest, now: Instant) {
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

    /// Its request is not there any more.
    pub fn remove(&self, key: &Key) {
        self.lock().answers.remove(key);
    }

    /// The alert is over, whatever it is about: when it fires again, that is another matter, even if its sender says
    /// otherwise.
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
            about: "Deployment shop/api".to_owned(),
            id: id.to_string(),
            started_at: None,
        }
    }

    fn known(name: &str) -> RecentRequest {
        RecentRequest {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
        }
    }

    #[test]
    fn what_was_answered_is_known_for_an_hour() {
        let recent = Recent::default();
        let start = Instant::now();
        recent.remember(key(1), known("auto-api"), start);
        let within = start + FOR.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(recent.request(&key(1), within), Some(known("auto-api")));
        assert_eq!(recent.request(&key(1), start + FOR), None);
        assert_eq!(recent.request(&key(2), start), None);
    }

    #[test]
    fn one_that_is_over_may_fire_again() {
        let recent = Recent::default();
        let now = Instant::now();
        recent.remember(key(1), known("auto-api"), now);
        recent.forget("prometheus", "1");
        assert!(recent.request(&key(1), now).is_some());
        recent.forget("grafana", "1");
        assert!(recent.request(&key(1), now).is_none());
    }

    /// The same sender uses the same id and the same beginning for several Deployments, and in several namespaces.
    #[test]
    fn the_same_id_about_something_else_is_another_alert() {
        let recent = Recent::default();
        let now = Instant::now();
        recent.remember(key(1), known("auto-api"), now);
        for about in [
            "Deployment shop/web",
            "Deployment other/api",
            "Pod shop/api",
        ] {
            let about = about.to_owned();
            assert_eq!(recent.request(&Key { about, ..key(1) }, now), None);
        }
        recent.remove(&key(1));
        assert_eq!(recent.request(&key(1), now), None);
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::default();
        let now = Instant::now();
        for id in 0..2 * MOST {
            recent.remember(key(id), known("auto-api"), now);
        }
        let memory = recent.lock();
        assert!(memory.answers.len() <= MOST && memory.order.len() <= MOST);
        drop(memory);
        assert!(recent.request(&key(2 * MOST - 1), now).is_some());
    }
}
