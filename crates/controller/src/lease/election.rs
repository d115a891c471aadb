//! Who leads, decided from what the Lease says and from the monotonic clock of this machine.
//!
//! The times in the Lease are other machines' and are never read: a holder counts as alive for as long
//! as its Lease keeps changing, measured from the moment at which *we* saw the change. The holder
//! counts the other way, from the moment at which it *sent* its last write that was carried out.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How long things take, in the proportions of client-go: 15 s, 10 s and 2 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For how long a holder that is not heard of stays the holder.
    pub lease: Duration,
    /// For how long a holder trusts its last write.
    pub trust: Duration,
    /// Time between two tries.
    pub retry: Duration,
}

impl Terms {
    /// The terms that go with a lease of so many seconds.
    pub fn of_seconds(seconds: u32) -> Self {
        let lease = Duration::from_secs(u64::from(seconds));
        Self {
            lease,
            trust: lease * 2 / 3,
            retry: lease * 2 / 15,
        }
    }

    /// How long one request may take: a holder can afford one that hangs.
    pub fn patience(&self) -> Duration {
        self.trust / 2
    }
}

/// What matters of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its `resourceVersion`: another one is a sign of life.
    pub version: String,
    /// Who holds it; nobody after a release.
    pub holder: Option<String>,
    /// How long its holder wants to be waited for.
    pub lease: Option<Duration>,
}

impl Record {
    /// What matters of this one.
    pub fn of(lease: &Lease) -> Self {
        let spec = lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        Self {
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            holder: spec
                .and_then(|spec| spec.holder_identity.clone())
                .filter(|holder| !holder.is_empty()),
            lease: seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        }
    }
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// There is none: create it with us as the holder.
    Create,
    /// Nobody holds it, or nobody has heard of the holder for too long: write us into it.
    Take,
    /// It names us: write it again. A container that was started again in the same pod goes on so.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// Why somebody who led no longer does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The API server did not confirm the lease in time.
    #[error("the lease could not be renewed in time")]
    Overdue,
    /// The Lease names somebody else.
    #[error("{0} holds the lease now")]
    Taken(String),
}

/// One candidate.
#[derive(Debug)]
pub struct Election {
    identity: String,
    terms: Terms,
    /// The version of the Lease that was seen last, and when it was seen first.
    seen: Option<(String, Instant)>,
    held_until: Option<Instant>,
}

impl Election {
    /// A candidate that knows nothing yet.
    pub fn new(identity: String, terms: Terms) -> Self {
        Self {
            identity,
            terms,
            seen: None,
            held_until: None,
        }
    }

    /// Our name in the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The terms.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Until when this process may write; `None` when it does not lead.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Fails when the time is up for which the last write to the Lease was good.
    pub fn check(&self, now: Instant) -> Result<(), Lost> {
        match self.held_until {
            Some(until) if now >= until => Err(Lost::Overdue),
            Some(_) | None => Ok(()),
        }
    }

    /// What to do about the Lease that was read, or was not there, at `now`.
    pub fn decide(&mut self, record: Option<&Record>, now: Instant) -> Result<Move, Lost> {
        self.check(now)?;
        let Some(record) = record else {
            return Ok(Move::Create);
        };
        let Some(holder) = &record.holder else {
            return Ok(Move::Take);
        };
        if *holder == self.identity {
            return Ok(Move::Renew);
        }
        if self.held_until.is_some() {
            return Err(Lost::Taken(holder.clone()));
        }
        let since = match &self.seen {
            Some((version, since)) if *version == record.version => *since,
            Some(_) | None => {
                self.seen = Some((record.version.clone(), now));
                now
            }
        };
        let patience = record.lease.unwrap_or(self.terms.lease);
        if now.saturating_duration_since(since) < patience {
            return Ok(Move::Wait);
        }
        Ok(Move::Take)
    }

    /// The API server carried out a write of ours that was sent at `sent`.
    pub fn written(&mut self, sent: Instant) {
        self.held_until = Some(sent + self.terms.trust);
    }

    /// The Lease with us as the holder. What else is in it stays.
    pub fn claim(&self, lease: Option<Lease>, now: Timestamp) -> Lease {
        let known = lease.is_some();
        let mut lease = lease.unwrap_or_default();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(MicroTime(now));
            let transitions = spec.lease_transitions.unwrap_or_default();
            spec.lease_transitions = Some(transitions.saturating_add(known.into()));
        }
        spec.lease_duration_seconds = i32::try_from(self.terms.lease.as_secs()).ok();
        spec.renew_time = Some(MicroTime(now));
        lease
    }

    /// The Lease without a holder, if it is ours to give away.
    pub fn released(&self, mut lease: Lease, now: Timestamp) -> Option<Lease> {
        let spec = lease.spec.as_mut()?;
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return None;
        }
        *spec = LeaseSpec {
            holder_identity: Some(String::new()),
            // What client-go leaves behind: a candidate that looks at the duration alone waits no longer.
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..spec.clone()
        };
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn election() -> Election {
        Election::new("a".to_owned(), Terms::of_seconds(15))
    }

    fn leader(sent: Instant) -> Election {
        let mut election = election();
        election.written(sent);
        election
    }

    fn record(version: &str, holder: &str) -> Record {
        Record::of(&lease(version, holder, Some(15)))
    }

    fn lease(version: &str, holder: &str, seconds: Option<i32>) -> Lease {
        let mut lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: seconds,
                lease_transitions: Some(4),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_terms_are_those_of_client_go() {
        let terms = Terms::of_seconds(15);
        assert_eq!(
            [terms.lease, terms.trust, terms.retry, terms.patience()],
            [15, 10, 2, 5].map(Duration::from_secs)
        );
        for seconds in 3..=600 {
            let terms = Terms::of_seconds(seconds);
            // Two tries fit, and whoever stops trusting stops before anybody else may begin.
            assert!(terms.retry + terms.patience() < terms.trust && terms.trust < terms.lease);
        }
    }

    /// Each row: whether we lead, what the Lease says, what follows.
    #[test]
    fn the_first_look_decides() {
        let now = Instant::now();
        let taken = || Err(Lost::Taken("b".to_owned()));
        let rows = [
            (false, None, Ok(Move::Create)),
            (false, Some(""), Ok(Move::Take)),
            (false, Some("a"), Ok(Move::Renew)),
            (false, Some("b"), Ok(Move::Wait)),
            // Somebody deleted or emptied it; that is nobody's claim.
            (true, None, Ok(Move::Create)),
            (true, Some(""), Ok(Move::Take)),
            (true, Some("a"), Ok(Move::Renew)),
            (true, Some("b"), taken()),
        ];
        for (leads, holder, expected) in rows {
            let mut election = if leads { leader(now) } else { election() };
            let record = holder.map(|holder| record("1", holder));
            let decision = election.decide(record.as_ref(), now);
            assert_eq!(decision, expected, "leads: {leads}, holder: {holder:?}");
        }
    }

    #[test]
    fn a_lease_without_a_spec_is_nobodys() {
        let record = Record::of(&Lease::default());
        let decision = election().decide(Some(&record), Instant::now());
        assert_eq!(decision, Ok(Move::Take));
    }

    #[test]
    fn a_silent_holder_is_waited_for_from_when_we_saw_it() {
        let start = Instant::now();
        let mut election = election();
        let b = record("1", "b");
        for seconds in [0, 2, 14] {
            let decision = election.decide(Some(&b), start + seconds * SECOND);
            assert_eq!(decision, Ok(Move::Wait), "after {seconds} s");
        }
        // It lives: the count begins again.
        let alive = record("2", "b");
        for (seconds, expected) in [(15, Move::Wait), (29, Move::Wait), (30, Move::Take)] {
            let decision = election.decide(Some(&alive), start + seconds * SECOND);
            assert_eq!(decision, Ok(expected), "after {seconds} s");
        }
        // Somebody else was faster: a new holder is a new count.
        let c = record("3", "c");
        for (seconds, expected) in [(31, Move::Wait), (45, Move::Wait), (46, Move::Take)] {
            let decision = election.decide(Some(&c), start + seconds * SECOND);
            assert_eq!(decision, Ok(expected), "after {seconds} s");
        }
    }

    #[test]
    fn a_write_that_lost_a_race_changes_nothing() {
        let start = Instant::now();
        let mut election = election();
        let b = record("1", "b");
        assert_eq!(election.decide(Some(&b), start), Ok(Move::Wait));
        let late = start + 15 * SECOND;
        assert_eq!(election.decide(Some(&b), late), Ok(Move::Take));
        // 409: nothing was written, nobody told `written`.
        assert_eq!(election.held_until(), None);
        let c = record("2", "c");
        assert_eq!(election.decide(Some(&c), late), Ok(Move::Wait));
    }

    #[test]
    fn the_holder_says_how_long_it_wants_to_be_waited_for() {
        let start = Instant::now();
        for (written, waits) in [(Some(60), 60), (Some(1), 1), (Some(0), 15), (Some(-3), 15)]
            .into_iter()
            .chain([(None, 15)])
        {
            let mut election = election();
            let b = Record::of(&lease("1", "b", written));
            assert_eq!(election.decide(Some(&b), start), Ok(Move::Wait));
            let almost = start + (waits * SECOND).saturating_sub(Duration::from_millis(1));
            assert_eq!(election.decide(Some(&b), almost), Ok(Move::Wait));
            let decision = election.decide(Some(&b), start + waits * SECOND);
            assert_eq!(decision, Ok(Move::Take), "{written:?}");
        }
    }

    #[test]
    fn a_holder_trusts_its_last_write_from_when_it_was_sent() {
        let start = Instant::now();
        let mut election = leader(start);
        let ours = record("2", "a");
        assert_eq!(election.held_until(), Some(start + 10 * SECOND));
        let before = start + Duration::from_millis(9_999);
        assert_eq!(election.decide(Some(&ours), before), Ok(Move::Renew));
        let after = start + 10 * SECOND;
        // Even if the Lease still names us.
        assert_eq!(election.decide(Some(&ours), after), Err(Lost::Overdue));
        assert_eq!(election.check(after), Err(Lost::Overdue));
        // An answer that was sixty seconds on its way is worth nothing.
        election.written(start + 5 * SECOND);
        assert_eq!(election.check(start + 65 * SECOND), Err(Lost::Overdue));
    }

    /// Whenever the standby hears of the last write, and whatever lease it was itself started with.
    #[test]
    fn nobody_takes_over_before_the_holder_has_given_up() {
        let start = Instant::now();
        let moments = || (0..120).map(|seconds| start + seconds * SECOND);
        for (delay, own_lease) in [(0, 15), (0, 3), (0, 60), (5, 15), (40, 3)] {
            let holder = leader(start);
            let mut standby = Election::new("b".to_owned(), Terms::of_seconds(own_lease));
            let seen = record("7", "a");
            let gives_up = moments().find(|now| holder.check(*now).is_err()).unwrap();
            let takes = moments()
                .skip(delay)
                .find(|now| standby.decide(Some(&seen), *now) == Ok(Move::Take))
                .unwrap();
            assert!(
                gives_up < takes,
                "seen after {delay} s, own lease {own_lease} s"
            );
        }
    }

    /// The wall clocks of both sides jump; only the number of changes counts.
    #[test]
    fn times_in_the_lease_are_never_read() {
        let start = Instant::now();
        let jumps = [
            "1970-01-01T00:00:00Z",
            "2026-11-25T12:00:00Z",
            "2026-11-25T11:00:00Z",
            "2026-11-25T13:00:00Z",
            "9999-12-30T00:00:00Z",
        ];
        for jump in jumps {
            let holder = Election::new("b".to_owned(), Terms::of_seconds(15));
            let mut theirs = holder.claim(None, time(jump));
            theirs.metadata.resource_version = Some("1".to_owned());
            let mut standby = election();
            let looks = [(0, Move::Wait), (14, Move::Wait), (15, Move::Take)];
            for (seconds, expected) in looks {
                let decision = standby.decide(Some(&Record::of(&theirs)), start + seconds * SECOND);
                assert_eq!(decision, Ok(expected), "{jump}, after {seconds} s");
            }
            // Renewed with a clock that stands still, or went back: alive all the same.
            let mut renewed = holder.claim(Some(theirs), time(jump));
            renewed.metadata.resource_version = Some("2".to_owned());
            let decision = standby.decide(Some(&Record::of(&renewed)), start + 15 * SECOND);
            assert_eq!(decision, Ok(Move::Wait), "{jump}");
        }
        // Ours is good for as long as ever, whatever we wrote into it.
        for jump in jumps {
            let mut holder = election();
            holder.claim(None, time(jump));
            holder.written(start);
            assert_eq!(holder.held_until(), Some(start + 10 * SECOND), "{jump}");
        }
    }

    /// Each row: the Lease before, holder before, transitions after, whether it is acquired anew.
    #[test]
    fn transitions_count_changes_of_the_holder() {
        let before = time("2026-11-25T12:00:00Z");
        let now = time("2026-11-25T12:00:09Z");
        let rows = [
            (None, 0, true),
            (Some(""), 5, true),
            (Some("b"), 5, true),
            (Some("a"), 4, false),
        ];
        for (holder, transitions, anew) in rows {
            let old = holder.map(|holder| {
                let mut lease = lease("7", holder, Some(60));
                lease.metadata.labels = Some([("kept".to_owned(), "yes".to_owned())].into());
                if let Some(spec) = &mut lease.spec {
                    spec.acquire_time = Some(MicroTime(before));
                }
                lease
            });
            let claimed = election().claim(old.clone(), now);
            let spec = claimed.spec.clone().unwrap();
            assert_eq!(spec.holder_identity.as_deref(), Some("a"), "{holder:?}");
            assert_eq!(spec.lease_transitions, Some(transitions), "{holder:?}");
            assert_eq!(spec.lease_duration_seconds, Some(15), "{holder:?}");
            assert_eq!(spec.renew_time, Some(MicroTime(now)), "{holder:?}");
            let acquired = if anew { now } else { before };
            assert_eq!(spec.acquire_time, Some(MicroTime(acquired)), "{holder:?}");
            // The version that was read is the precondition of the write.
            assert_eq!(claimed.metadata, old.unwrap_or_default().metadata);
        }
        let mut full = lease("1", "b", None);
        if let Some(spec) = &mut full.spec {
            spec.lease_transitions = Some(i32::MAX);
        }
        let spec = election().claim(Some(full), now).spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(i32::MAX));
    }

    #[test]
    fn only_our_own_lease_is_given_away() {
        let now = time("2026-11-25T12:00:00Z");
        let election = election();
        let released = election.released(lease("7", "a", Some(15)), now).unwrap();
        assert_eq!(Record::of(&released).holder, None);
        assert_eq!(released.metadata.resource_version.as_deref(), Some("7"));
        let spec = released.spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(4));
        for holder in ["b", ""] {
            let theirs = lease("7", holder, Some(15));
            assert_eq!(election.released(theirs, now), None, "{holder:?}");
        }
        assert_eq!(election.released(Lease::default(), now), None);
    }
}
