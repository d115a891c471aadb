//! Room in memory for passes. One with an ordinary request takes little, and any number of those run; one that has more to
//! read than that waits until there is room for it, and gives its place to others meanwhile. Namespaces take turns.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rollback_observe::Size;

/// For how long a namespace that waits keeps its place without asking again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many passes of this size there may be at the same time; `None` for any number.
fn at_once(size: Size) -> Option<usize> {
    match size {
        Size::Small => None,
        Size::Medium => Some(2),
        Size::Large => Some(1),
    }
}

/// Who has a turn, and who waits for one.
#[derive(Debug, Default)]
pub struct ReadPermits(Arc<Mutex<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    medium: Queue,
    large: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    taken: usize,
    /// Namespaces, who came first at the beginning, and when each asked last.
    waiting: Vec<(String, Instant)>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct ReadPermit {
    queues: Arc<Mutex<Queues>>,
    size: Size,
}

impl ReadPermits {
    /// A turn for a pass in this namespace; `None` when others are first. Ask again soon, or lose the place.
    pub fn take(&self, size: Size, namespace: &str, now: Instant) -> Option<ReadPermit> {
        let mut queues = locked(&self.0);
        if let (Some(queue), Some(most)) = (queues.of(size), at_once(size)) {
            queue
                .waiting
                .retain(|(_, asked)| now.duration_since(*asked) < PATIENCE);
            let place = queue.waiting.iter().position(|(it, _)| it == namespace);
            let is_first = place.unwrap_or(queue.waiting.len()) + queue.taken < most;
            if !is_first {
                match place {
                    Some(place) => queue.waiting[place].1 = now,
                    None => queue.waiting.push((namespace.to_owned(), now)),
                }
                return None;
            }
            if let Some(place) = place {
                queue.waiting.remove(place);
            }
            queue.taken += 1;
        }
        Some(ReadPermit {
            queues: self.0.clone(),
            size,
        })
    }
}

impl Queues {
    fn of(&mut self, size: Size) -> Option<&mut Queue> {
        match size {
            Size::Small => None,
            Size::Medium => Some(&mut self.medium),
            Size::Large => Some(&mut self.large),
        }
    }
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        if let Some(queue) = locked(&self.queues).of(self.size) {
            queue.taken = queue.taken.saturating_sub(1);
        }
    }
}

fn locked(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns() {
        let turns = ReadPermits::default();
        let now = Instant::now();
        let take = |namespace: &str, now: Instant| turns.take(Size::Large, namespace, now);
        let first = take("flood", now).unwrap();
        assert!(take("flood", now).is_none());
        assert!(take("good", now).is_none());
        assert!(take("flood", now).is_none());
        drop(first);
        // The flood waited first, and has one place however often it asks.
        let second = take("flood", now).unwrap();
        assert!(take("flood", now).is_none());
        drop(second);
        assert!(take("flood", now).is_none());
        let good = take("good", now).unwrap();
        drop(good);
        // Who does not ask any more keeps nobody waiting.
        assert!(take("good", now + PATIENCE).is_some());
    }

    #[test]
    fn small_ones_wait_for_nobody() {
        let turns = ReadPermits::default();
        let now = Instant::now();
        let all: Vec<_> = (0..100)
            .map(|_| turns.take(Size::Small, "a", now))
            .collect();
        assert!(all.iter().all(Option::is_some));
        let medium = [0, 1].map(|_| turns.take(Size::Medium, "a", now));
        assert!(medium.iter().all(Option::is_some));
        assert!(turns.take(Size::Medium, "a", now).is_none());
        drop(medium);
        assert!(turns.take(Size::Medium, "a", now).is_some());
    }
}
