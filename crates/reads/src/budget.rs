//! How much memory what was read may take.

use std::sync::atomic::{AtomicUsize, Ordering};

/// An amount of memory that reads take from. Estimated, and rather too high than too low.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
    most: usize,
}

impl Budget {
    /// So many bytes.
    pub const fn of(bytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(bytes),
            most: bytes,
        }
    }

    /// Takes, if there is enough.
    pub fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What is left.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// What is taken.
    pub fn taken(&self) -> usize {
        self.most.saturating_sub(self.left())
    }
}
