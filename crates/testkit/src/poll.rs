//! Waiting for what the cluster will get to in its own time.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(75);

/// Repeats `attempt` until it succeeds. When the deadline passes, the error says what was waited for
/// and why the last attempt was not good enough, so let `attempt` fail with what it saw.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut before = None;
    loop {
        // One attempt must not hang past the deadline, or the message below would never be read.
        let left = deadline.saturating_sub(start.elapsed()).max(INTERVAL);
        let reason = match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => reason,
            Err(_) => before
                .take()
                .unwrap_or_else(|| anyhow!("the only attempt did not come back")),
        };
        if start.elapsed() >= deadline {
            return Err(reason.context(format!("gave up after {deadline:?}: {what}")));
        }
        before = Some(reason);
        tokio::time::sleep(INTERVAL).await;
    }
}
