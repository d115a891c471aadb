//! Fair shares of what is limited for all namespaces together, so that one of them cannot take all of it.
//!
//! A namespace that has none gets a place as long as one is free. One that has some gets more only while there is room:
//! at most three times as many as are left, and never the last one. Alone it gets three quarters; several that want
//! everything share it evenly, and there is one left for whoever comes next.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How many times as many as are left one namespace may have.
const FACTOR: usize = 3;
/// How soon it is tried again at the earliest.
const AGAIN: Duration = Duration::from_millis(50);
/// How far two tries of one namespace are apart, however many wait there.
const APART: Duration = Duration::from_millis(2);

/// What is shared.
pub struct Shares {
    places: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    all: usize,
    of: HashMap<String, Of>,
}

/// What one namespace has.
#[derive(Default)]
struct Of {
    places: usize,
    /// When the last of those that wait tries again.
    last_try: Option<Instant>,
}

/// A place, until it is dropped.
pub struct Share {
    shares: Arc<Shares>,
    namespace: String,
}

impl Shares {
    /// So many places; without a limit when there are none.
    pub fn new(places: usize) -> Arc<Self> {
        let no_limit = usize::MAX / (FACTOR + 1);
        Arc::new(Self {
            places: if places == 0 { no_limit } else { places },
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// A place for this namespace, or how long to wait before it is tried again.
    pub fn try_take(self: &Arc<Self>, namespace: &str) -> Result<Share, Duration> {
        let mut taken = self.locked();
        let free = self.places.saturating_sub(taken.all);
        let of = taken.of.entry(namespace.to_owned()).or_default();
        let may = match of.places {
            0 => free > 0,
            has => free > 1 && has < free * FACTOR,
        };
        if may {
            of.places += 1;
            taken.all += 1;
            return Ok(Share {
                shares: self.clone(),
                namespace: namespace.to_owned(),
            });
        }
        let now = Instant::now();
        let next = of.last_try.map(|last| last + APART);
        let at = next.map_or(now + AGAIN, |next| next.max(now + AGAIN));
        of.last_try = Some(at);
        Err(at.saturating_duration_since(now))
    }

    /// A place for this namespace, when it is its turn. Who waits has none.
    pub async fn take(self: &Arc<Self>, namespace: &str) -> Share {
        loop {
            let mut freed = pin!(self.freed.notified());
            // From here on nothing is missed.
            freed.as_mut().enable();
            if let Ok(share) = self.try_take(namespace) {
                return share;
            }
            freed.await;
        }
    }

    fn give_back(&self, namespace: &str) {
        let mut taken = self.locked();
        taken.all = taken.all.saturating_sub(1);
        if let Some(of) = taken.of.get_mut(namespace) {
            of.places = of.places.saturating_sub(1);
        }
        // What waits somewhere is forgotten as well: it comes again by itself.
        taken.of.retain(|_, of| of.places > 0);
        drop(taken);
        self.freed.notify_waiters();
    }

    fn locked(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.give_back(&self.namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as it gets.
    fn all(shares: &Arc<Shares>, namespace: &str) -> Vec<Share> {
        std::iter::from_fn(|| shares.try_take(namespace).ok()).collect()
    }

    #[test]
    fn nobody_takes_everything() {
        let table = [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (200, 150)];
        for (places, expected) in table {
            let shares = Shares::new(places);
            let taken = all(&shares, "a");
            assert_eq!(taken.len(), expected, "of {places}");
            let second = shares.try_take("b");
            assert_eq!(second.is_ok(), places > 1, "of {places}");
        }
    }

    #[test]
    fn what_is_given_back_goes_to_who_has_less() {
        let shares = Shares::new(16);
        let mut greedy = all(&shares, "a");
        let mut other = all(&shares, "b");
        assert_eq!((greedy.len(), other.len()), (12, 3));
        for _ in 0..4 {
            greedy.pop();
            assert!(shares.try_take("a").is_err());
            other.extend(all(&shares, "b"));
        }
        assert_eq!((greedy.len(), other.len()), (8, 6));
        drop((greedy, other));
        assert_eq!(all(&shares, "c").len(), 12);
    }

    /// However many wait, they do not try all at once.
    #[test]
    fn tries_are_spread() {
        let shares = Shares::new(1);
        let _taken = all(&shares, "a");
        let began = Instant::now();
        let waits: Vec<Duration> = (0..1000)
            .filter_map(|_| shares.try_take("a").err())
            .collect();
        // However long the machine takes for this loop, each is at least so much later than the one before.
        let longest = waits.last().copied().unwrap_or_default();
        let last = Instant::now() + longest - began;
        assert!(last >= AGAIN + APART * 999, "{last:?}");
        assert!(
            shares
                .try_take("b")
                .is_err_and(|wait| wait < Duration::from_millis(60))
        );
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_given_back() {
        let shares = Shares::new(2);
        let first = shares.take("a").await;
        let waiting = tokio::spawn({
            let shares = shares.clone();
            async move { shares.take("a").await }
        });
        let other = shares.take("b").await;
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let again = waiting.await;
        assert!(again.is_ok());
        drop(other);
    }
}
