//! How fast a channel is told: one message at a time, at the pace of its service, and less often while it fails. A message that
//! alone does not get through waits by itself, and holds up no other one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rollback_notify::Kind;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_mins(5);

/// How long it is remembered of which requests was told.
const RECENT: Duration = Duration::from_mins(1);
/// For how long news of many requests is gathered that comes one after the other.
const GATHERED: Duration = Duration::from_secs(15);

/// One channel of one namespace.
#[derive(Debug, Default)]
pub struct Lane {
    /// Whether something is on its way.
    pub is_busy: bool,
    /// Before then nothing is sent.
    not_before: Option<Instant>,
    /// What did not get through, by its identity.
    tried: HashMap<String, Tried>,
    /// The requests that were told of in the last minute, by their UID, with when.
    told: HashMap<String, Instant>,
}

/// A message that did not get through.
#[derive(Debug)]
struct Tried {
    failures: u32,
    /// How often another one got through after it had failed: then it is to blame itself.
    passed_by: u32,
    not_before: Instant,
    /// Whether nothing else got through since.
    is_latest: bool,
}

/// Which of two messages goes first: the one that may be sent, the one that others passed by less often, the older one. Of
/// those that wait, the one whose wait is over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    not_before: Option<Instant>,
    passed_by: u32,
}

impl Lane {
    /// When something may be sent.
    pub fn ready_at(&self, now: Instant) -> Instant {
        self.not_before.unwrap_or(now).max(now)
    }

    /// Whose turn this message is.
    pub fn turn(&self, identity: &str, now: Instant) -> Turn {
        let tried = self.tried.get(identity);
        Turn {
            not_before: tried.map(|it| it.not_before).filter(|at| *at > now),
            passed_by: tried.map_or(0, |it| it.passed_by),
        }
    }

    /// Whether this message failed and nothing got through since: nobody knows yet which of both is to blame.
    pub fn is_open(&self, identity: &str) -> bool {
        self.tried.get(identity).is_some_and(|it| it.is_latest)
    }

    /// When this message may be sent.
    pub fn message_at(&self, identity: &str, now: Instant) -> Instant {
        let own = self.turn(identity, now).not_before;
        self.ready_at(now).max(own.unwrap_or(now))
    }

    /// Of how many requests was told in the last minute.
    pub fn recent(&self, now: Instant) -> usize {
        let recent = self.told.values();
        recent
            .filter(|at| now.duration_since(**at) < RECENT)
            .count()
    }

    /// Until when news is gathered while there is much of it.
    pub fn gathers_until(&self) -> Option<Instant> {
        self.told.values().max().map(|at| *at + GATHERED)
    }

    /// Of these requests was told.
    pub fn told<'a>(&mut self, requests: impl Iterator<Item = &'a String>, now: Instant) {
        self.told.retain(|_, at| now.duration_since(*at) < RECENT);
        self.told.extend(requests.map(|uid| (uid.clone(), now)));
    }

    /// Forgets what failed and is not to be sent any more.
    pub fn keep(&mut self, is_due: impl Fn(&str) -> bool) {
        self.tried.retain(|identity, _| is_due(identity));
    }

    /// Whether something is remembered that failed.
    pub fn has_tried(&self) -> bool {
        !self.tried.is_empty()
    }

    /// The service has taken or judged this message, so it works.
    pub fn answered(&mut self, identity: &str, kind: Kind, now: Instant) {
        self.is_busy = false;
        self.tried.remove(identity);
        // What failed before may have failed because nothing worked: once more, after what is not to blame.
        for tried in self.tried.values_mut().filter(|it| it.is_latest) {
            tried.is_latest = false;
            tried.passed_by = tried.passed_by.saturating_add(1);
            tried.not_before = now;
        }
        self.not_before = Some(now + kind.pace());
    }

    /// This message is not sent at all.
    pub fn dropped(&mut self, identity: &str) {
        self.is_busy = false;
        self.tried.remove(identity);
    }

    /// This message did not get through. `chance` is any number. How long the others wait depends on how many different ones
    /// failed, for one alone may be to blame itself.
    pub fn failed(&mut self, identity: &str, after: Option<Duration>, now: Instant, chance: u32) {
        self.is_busy = false;
        let tried = self.tried.entry(identity.to_owned()).or_insert(Tried {
            failures: 0,
            passed_by: 0,
            not_before: now,
            is_latest: true,
        });
        tried.failures = tried.failures.saturating_add(1);
        tried.not_before = now + wait(tried.failures, after, chance);
        tried.is_latest = true;
        let different = self.tried.values().filter(|it| it.is_latest).count();
        let different = u32::try_from(different).unwrap_or(u32::MAX);
        self.not_before = Some(now + wait(different, after, chance));
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

    #[test]
    fn one_message_that_always_fails_waits_alone_and_goes_last() {
        let (mut lane, mut now) = (Lane::default(), Instant::now());
        for _ in 0..10 {
            lane.failed("x", None, now, 0);
            now = lane.message_at("x", now);
        }
        lane.failed("x", None, now, 0);
        assert!(lane.message_at("y", now) <= now + Duration::from_secs(1));
        assert!(lane.message_at("x", now) >= now + Duration::from_mins(4));
        assert!(lane.turn("y", now) < lane.turn("x", now));
        // Its wait is over: from the first that passes it by on, every other one is first.
        let later = now + Duration::from_hours(1);
        assert_eq!(lane.turn("y", later), lane.turn("x", later));
        lane.answered("y", Kind::Webhook, later);
        assert!(lane.turn("z", later) < lane.turn("x", later));
    }

    #[test]
    fn it_is_known_of_how_many_requests_was_told_lately() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        for seconds in 0..9 {
            let at = now + Duration::from_secs(seconds);
            lane.told([format!("request-{}", seconds / 3)].iter(), at);
        }
        let last = now + Duration::from_secs(8);
        assert_eq!(lane.recent(last), 3);
        assert_eq!(lane.gathers_until(), Some(last + GATHERED));
        assert_eq!(lane.recent(last + RECENT), 0);
    }

    #[test]
    fn a_service_that_takes_nothing_is_asked_less_often_and_when_it_works_again_for_everything() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        for number in 0..20 {
            lane.failed(&number.to_string(), None, now, 0);
        }
        assert_eq!(lane.ready_at(now), now + LONGEST);
        let later = now + LONGEST;
        lane.answered("3", Kind::Webhook, later);
        assert!(lane.message_at("4", later) < later + Duration::from_secs(1));
        lane.keep(|identity| identity == "4");
        assert_eq!(lane.turn("5", later), lane.turn("3", later));
    }
}
