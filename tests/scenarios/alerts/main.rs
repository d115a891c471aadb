//! Alerts.
fn main() {}
