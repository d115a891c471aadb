//! Scenarios: cases.
