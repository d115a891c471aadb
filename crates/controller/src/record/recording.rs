//! In which namespaces evidence is recorded, and by which rules.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rollback_core::evidence::LedgerRules;

/// How long an answer is used. Watches tell of nearly every change before.
const LIFETIME: Duration = Duration::from_mins(10);
/// From how many namespaces on those that were not asked about lately are forgotten.
const MANY: usize = 10_000;

/// Whether and how a namespace is looked after.
#[derive(Clone, Debug, PartialEq)]
pub enum Recording {
    /// Not at all: it has not opted in.
    Closed,
    /// By these rules, which may be not to record.
    Open(LedgerRules),
}

impl Recording {
    /// Whether evidence is recorded.
    pub fn records(&self) -> bool {
        match self {
            Self::Closed => false,
            Self::Open(rules) => rules.keep.record,
        }
    }
}

/// What is known of namespaces.
#[derive(Default)]
pub struct RecordingCache(Mutex<HashMap<String, Cached>>);

struct Cached {
    scope: Recording,
    until: Instant,
}

impl RecordingCache {
    /// The scope of a namespace, unless that is not known or may have changed.
    pub fn fresh(&self, namespace: &str) -> Option<Recording> {
        let known = self.locked();
        let known = known.get(namespace)?;
        (Instant::now() < known.until).then(|| known.scope.clone())
    }

    /// Remembers the scope, and gives the one that was known before.
    pub fn learn(&self, namespace: &str, scope: Recording) -> Option<Recording> {
        let now = Instant::now();
        let mut all = self.locked();
        if all.len() > MANY {
            all.retain(|_, known| now < known.until);
        }
        let until = now + LIFETIME;
        let before = all.insert(namespace.to_owned(), Cached { scope, until });
        before.map(|known| known.scope)
    }

    /// The scope of this namespace, or of all, may have changed.
    pub fn expire(&self, namespace: Option<&str>) {
        let now = Instant::now();
        let mut all = self.locked();
        match namespace {
            Some(namespace) => {
                if let Some(known) = all.get_mut(namespace) {
                    known.until = now;
                }
            }
            None => all.values_mut().for_each(|known| known.until = now),
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Cached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_changed_is_asked_again_and_compared() {
        let scopes = RecordingCache::default();
        assert_eq!(scopes.fresh("shop"), None);
        assert_eq!(scopes.learn("shop", Recording::Closed), None);
        assert_eq!(scopes.fresh("shop"), Some(Recording::Closed));
        scopes.expire(Some("shop"));
        scopes.expire(Some("other"));
        assert_eq!(scopes.fresh("shop"), None);
        let open = Recording::Open(LedgerRules::default());
        assert_eq!(scopes.learn("shop", open.clone()), Some(Recording::Closed));
        scopes.expire(None);
        assert_eq!(scopes.fresh("shop"), None);
        assert_eq!(scopes.learn("shop", Recording::Closed), Some(open));
    }
}
