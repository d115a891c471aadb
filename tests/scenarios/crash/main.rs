//! Scenarios: crash.
