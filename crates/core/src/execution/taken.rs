//! Taking something from a workload for a while and giving it back: replicas to free capacity, for one.
//!
//! What the workload had is stored before it is taken ([`Taken`]), and every write tests that it is still so. What
//! somebody else has changed meanwhile is theirs.

use jiff::Timestamp;
use rollback_api::status::Taken;

/// What the very workload has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// It could not be read.
    Unread,
    /// The workload is gone, or another one has its name.
    Gone,
    /// This.
    Has(T),
}

/// What follows for something that is taken or given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// It has to be read first.
    Read,
    /// It has to be written, if it still is the first of the two.
    Write {
        /// What it has now.
        from: T,
        /// What it gets.
        to: T,
    },
    /// It is as it should be. The record says since when.
    Done,
    /// It is somebody else's, or gone. Nothing is owed any more.
    Lost,
}

/// Takes it: `during` is what the workload has as long as it is taken.
pub fn take<T: Clone + PartialEq>(
    record: &mut Taken<T>,
    seen: Seen<T>,
    during: &T,
    is_refused: bool,
    now: Timestamp,
) -> Next<T> {
    match seen {
        Seen::Unread => Next::Read,
        Seen::Has(has) if has == *during => {
            record.taken_at = Some(now);
            Next::Done
        }
        Seen::Has(from) if from == record.from && !is_refused => Next::Write {
            from,
            to: during.clone(),
        },
        Seen::Has(_) | Seen::Gone => {
            record.restored_at = Some(now);
            Next::Lost
        }
    }
}

/// Gives it back.
pub fn give_back<T: Clone + PartialEq>(
    record: &mut Taken<T>,
    seen: Seen<T>,
    during: &T,
    now: Timestamp,
) -> Next<T> {
    match seen {
        Seen::Unread => Next::Read,
        Seen::Has(from) if from == *during && record.from != *during => Next::Write {
            from,
            to: record.from.clone(),
        },
        Seen::Has(has) => {
            record.restored_at = Some(now);
            if has == record.from {
                Next::Done
            } else {
                Next::Lost
            }
        }
        Seen::Gone => {
            record.restored_at = Some(now);
            Next::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use rollback_api::WorkloadRef;

    use super::*;

    fn four() -> Taken<i32> {
        let workload = WorkloadRef::deployment("reports", "uid-reports");
        Taken::intended(workload, 4, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn it_is_written_until_it_is_seen_to_be_taken() {
        let mut record = four();
        let now = Timestamp::UNIX_EPOCH;
        let mut next = |seen| take(&mut record, seen, &0, false, now);
        assert_eq!(next(Seen::Unread), Next::Read);
        for _ in 0..2 {
            assert_eq!(next(Seen::Has(4)), Next::Write { from: 4, to: 0 });
        }
        assert_eq!(next(Seen::Has(0)), Next::Done);
        assert_eq!((record.taken_at, record.restored_at), (Some(now), None));
    }

    #[test]
    fn what_somebody_else_changed_is_theirs() {
        for (seen, is_refused) in [
            (Seen::Has(7), false),
            (Seen::Gone, false),
            (Seen::Has(4), true),
        ] {
            let mut record = four();
            let next = take(&mut record, seen, &0, is_refused, Timestamp::UNIX_EPOCH);
            assert_eq!(next, Next::Lost);
            assert!(!record.is_owed() && record.taken_at.is_none());
        }
        for seen in [Seen::Has(7), Seen::Gone] {
            let mut record = four();
            assert_eq!(
                give_back(&mut record, seen, &0, Timestamp::UNIX_EPOCH),
                Next::Lost
            );
            assert!(!record.is_owed());
        }
    }

    #[test]
    fn it_is_owed_until_it_is_seen_to_be_given_back() {
        let mut record = four();
        let mut next = |seen| give_back(&mut record, seen, &0, Timestamp::UNIX_EPOCH);
        assert_eq!(next(Seen::Unread), Next::Read);
        for _ in 0..2 {
            assert_eq!(next(Seen::Has(0)), Next::Write { from: 0, to: 4 });
        }
        assert_eq!(next(Seen::Has(4)), Next::Done);
        assert!(!record.is_owed());
    }
}
