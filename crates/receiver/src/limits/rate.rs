//! How many deliveries a minute a sender gets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most senders that are told apart; of more, those that have been quiet longest are forgotten.
const SENDERS: usize = 1000;

/// One bucket of tokens for each sender: as many as it may send in a minute, filled again over a minute.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<String, Bucket>>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Rates {
    /// Takes one token of this sender, who gets so many a minute; otherwise how long it has to wait for the next.
    pub fn take(&self, sender: &str, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let most = f64::from(per_minute);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(sender) && buckets.len() >= SENDERS {
            forget(&mut buckets);
        }
        let bucket = buckets.entry(sender.to_owned()).or_insert(Bucket {
            tokens: most,
            filled: now,
        });
        let minutes = now.duration_since(bucket.filled).as_secs_f64() / 60.0;
        bucket.tokens = (bucket.tokens + minutes * most).min(most);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / most * 60.0))
    }
}

fn forget(buckets: &mut HashMap<String, Bucket>) {
    let quiet = buckets.iter().min_by_key(|(_, bucket)| bucket.filled);
    if let Some(sender) = quiet.map(|(sender, _)| sender.clone()) {
        buckets.remove(&sender);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_gets_its_share_and_not_that_of_others() {
        let rates = Rates::default();
        let start = Instant::now();
        for _ in 0..3 {
            assert!(rates.take("a", 3, start).is_ok());
        }
        let wait = rates.take("a", 3, start).unwrap_err();
        assert_eq!(wait, Duration::from_secs(20));
        assert!(rates.take("b", 3, start).is_ok());
        let later = start + wait + Duration::from_millis(1);
        assert!(rates.take("a", 3, later).is_ok());
        assert!(rates.take("a", 3, later).is_err());
    }

    #[test]
    fn senders_are_bounded() {
        let rates = Rates::default();
        let now = Instant::now();
        for sender in 0..3000 {
            assert!(rates.take(&sender.to_string(), 1, now).is_ok());
        }
        assert_eq!(rates.0.lock().unwrap().len(), SENDERS);
    }
}
