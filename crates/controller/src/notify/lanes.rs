//! How fast a channel is told: one message at a time, at the pace of its service, and less often while it fails.

use std::time::{Duration, Instant};

use rollback_notify::Kind;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_mins(5);

/// One channel of one namespace.
#[derive(Debug, Default)]
pub struct Lane {
    /// Whether something is on its way.
    pub is_busy: bool,
    /// Failures in a row.
    failures: u32,
    /// Before then nothing is sent.
    not_before: Option<Instant>,
}

impl Lane {
    /// When something may be sent.
    pub fn ready_at(&self, now: Instant) -> Instant {
        self.not_before.unwrap_or(now).max(now)
    }

    /// Whether something may be sent now.
    pub fn is_ready(&self, now: Instant) -> bool {
        !self.is_busy && self.ready_at(now) <= now
    }

    /// The service has answered, whatever it made of the message.
    pub fn answered(&mut self, kind: Kind, now: Instant) {
        self.is_busy = false;
        self.failures = 0;
        self.not_before = Some(now + kind.pace());
    }

    /// It did not work. `chance` is any number.
    pub fn failed(&mut self, after: Option<Duration>, now: Instant, chance: u32) {
        self.is_busy = false;
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait(self.failures, after, chance));
    }
}

/// How long to wait after so many failures: at least what the service asks for, and up to half as long again, so that not
/// everybody comes back at the same moment.
fn wait(failures: u32, after: Option<Duration>, chance: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(LONGEST).max(after.unwrap_or_default());
    wait + wait / 2 * (chance % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_grows_to_a_limit_and_never_falls_below_what_is_asked_for() {
        assert_eq!(wait(1, None, 0), Duration::from_secs(1));
        assert_eq!(wait(4, None, 0), Duration::from_secs(8));
        assert_eq!(wait(u32::MAX, None, 0), LONGEST);
        assert_eq!(
            wait(1, Some(Duration::from_secs(30)), 0),
            Duration::from_secs(30)
        );
        assert!(wait(1, Some(Duration::from_secs(30)), 999) < Duration::from_secs(45));
    }
}
