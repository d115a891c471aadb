//! Times in which nothing is rolled back.

use croner::Cron;
use croner::errors::CronError;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rollback_api::policy::FreezeWindow;

/// A window that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Name of the window.
    pub window: String,
    /// When it ends, or why it cannot be read.
    pub until: Result<Timestamp, String>,
}

/// The window that keeps everything as it is now: of several the one that ends last. A window that cannot be read
/// is open: somebody wanted a freeze, and nobody can tell that it is over.
pub fn frozen(windows: &[FreezeWindow], now: Timestamp) -> Option<Frozen> {
    let open = windows.iter().filter_map(|window| {
        let until = end(window, now).transpose()?;
        let window = window.name.clone();
        Some(Frozen { window, until })
    });
    open.max_by_key(|frozen| *frozen.until.as_ref().unwrap_or(&Timestamp::MAX))
}

/// When the window ends that began last, if it is still open. By the clock of its zone: a window that begins in the
/// hour that a change to summer time skips begins when that hour is over.
fn end(window: &FreezeWindow, now: Timestamp) -> Result<Option<Timestamp>, String> {
    let zone = TimeZone::get(&window.time_zone)
        .map_err(|_| format!("timeZone: there is no zone {}", window.time_zone))?;
    let cron: Cron = window
        .schedule
        .parse()
        .map_err(|error: CronError| format!("schedule: {error}"))?;
    let start = match cron.find_previous_occurrence(&now.to_zoned(zone), true) {
        Ok(start) => start.timestamp(),
        // A schedule such as 30 February has no occurrence at all.
        Err(CronError::TimeSearchLimitExceeded) => return Ok(None),
        Err(error) => return Err(format!("schedule: {error}")),
    };
    let lasts = SignedDuration::from_mins(i64::from(window.duration_minutes));
    let end = start.saturating_add(lasts).unwrap_or(Timestamp::MAX);
    Ok((end > now).then_some(end))
}
