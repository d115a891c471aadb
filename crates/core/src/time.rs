//! Arithmetic on points in time that cannot fail.

use jiff::{SignedDuration, Timestamp};

/// `seconds` after `start`; the end of time if that lies beyond it.
pub fn after(start: Timestamp, seconds: i64) -> Timestamp {
    start
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// A duration as people read it: `1.2s`, `4m10s`, `2h5m`.
pub fn human(duration: SignedDuration) -> String {
    let total = duration.as_secs().max(0);
    let (hours, minutes, seconds) = (total / 3600, total % 3600 / 60, total % 60);
    match (hours, minutes) {
        (0, 0) => format!(
            "{seconds}.{}s",
            duration.subsec_millis().unsigned_abs() / 100
        ),
        (0, _) => format!("{minutes}m{seconds}s"),
        (_, _) => format!("{hours}h{minutes}m"),
    }
}

/// A point in time as reports print it: UTC, to the second.
pub fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_beyond_the_end_of_time_is_the_end_of_time() {
        assert_eq!(after(Timestamp::MAX, 1), Timestamp::MAX);
        assert_eq!(after(Timestamp::UNIX_EPOCH, 5).as_second(), 5);
    }

    #[test]
    fn durations_read_well() {
        let cases = [
            (1_250, "1.2s"),
            (59_999, "59.9s"),
            (60_000, "1m0s"),
            (250_000, "4m10s"),
            (7_500_000, "2h5m"),
            (-5, "0.0s"),
        ];
        for (millis, expected) in cases {
            assert_eq!(human(SignedDuration::from_millis(millis)), expected);
        }
        assert_eq!(stamp(Timestamp::UNIX_EPOCH), "1970-01-01 00:00:00 UTC");
    }
}
