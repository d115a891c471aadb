//! How many connections there are, and which one has to go when there is one too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The connections that are open, up to a limit.
///
/// Somebody who opens many and sends nothing must not keep others away. So a new connection is always let in, and the one
/// that has waited longest for the end of its request goes: whoever sends a request in one piece is never the longest.
#[derive(Clone, Debug)]
pub struct Connections {
    limit: usize,
    bodies: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    count: usize,
    /// Bytes of bodies that are held.
    bytes: usize,
    /// Those whose request has not come in whole, the oldest first.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// One connection. Dropping it makes room.
#[derive(Debug)]
pub struct Slot {
    number: u64,
    held: Mutex<usize>,
    /// Cancelled when the connection has to go.
    pub evicted: CancellationToken,
    connections: Connections,
}

impl Connections {
    /// At most so many connections, whose bodies together hold at most so many bytes.
    pub fn new(limit: usize, bodies: usize) -> Self {
        Self {
            limit,
            bodies,
            open: Arc::default(),
        }
    }

    /// Lets one more in, if need be in the place of another. `None` when all of them are being worked on.
    pub fn enter(&self) -> Option<Slot> {
        let mut open = self.lock();
        if open.count >= self.limit && !open.evict(None) {
            return None;
        }
        open.next += 1;
        open.count += 1;
        let number = open.next;
        let evicted = CancellationToken::new();
        open.waiting.insert(number, evicted.clone());
        Some(Slot {
            number,
            held: Mutex::new(0),
            evicted,
            connections: self.clone(),
        })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Ends the oldest of those that wait, other than this one.
    fn evict(&mut self, except: Option<u64>) -> bool {
        let oldest = self.waiting.keys().copied().find(|it| Some(*it) != except);
        let Some(token) = oldest.and_then(|oldest| self.waiting.remove(&oldest)) else {
            return false;
        };
        token.cancel();
        true
    }
}

impl Slot {
    /// Holds so many bytes more of a body. False when there is no room for them.
    pub fn hold(&self, bytes: usize) -> bool {
        let mut open = self.connections.lock();
        if open.bytes + bytes > self.connections.bodies {
            return false;
        }
        open.bytes += bytes;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        true
    }

    /// Has the one go that has waited longest, other than this one: there is room as soon as it has gone.
    pub fn make_room(&self) {
        self.connections.lock().evict(Some(self.number));
    }

    /// Its request has come in whole and is its sender's: from here on it stays until it is answered.
    pub fn keep(&self) {
        self.connections.lock().waiting.remove(&self.number);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.connections.lock();
        open.bytes = open.bytes.saturating_sub(held);
        open.count = open.count.saturating_sub(1);
        open.waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_takes_the_place_of_the_one_that_waits_longest() {
        let connections = Connections::new(2, 10);
        let first = connections.enter().unwrap();
        let second = connections.enter().unwrap();
        let third = connections.enter().unwrap();
        assert!(first.evicted.is_cancelled());
        assert!(!second.evicted.is_cancelled() && !third.evicted.is_cancelled());
    }

    #[test]
    fn what_is_worked_on_stays() {
        let connections = Connections::new(1, 10);
        let first = connections.enter().unwrap();
        first.keep();
        assert!(connections.enter().is_none());
        assert!(!first.evicted.is_cancelled());
        drop(first);
        assert!(connections.enter().is_some());
    }

    #[test]
    fn bodies_together_have_a_limit_and_give_back_what_they_held() {
        let connections = Connections::new(9, 10);
        let slow = connections.enter().unwrap();
        let other = connections.enter().unwrap();
        assert!(slow.hold(8));
        assert!(!other.hold(3));
        other.make_room();
        assert!(slow.evicted.is_cancelled() && !other.evicted.is_cancelled());
        drop(slow);
        assert!(other.hold(3));
    }
}
