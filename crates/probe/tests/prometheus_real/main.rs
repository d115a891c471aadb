//! The queries of the presets and of policies against a real Prometheus, and what its answers and silences become.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what is wrong in a test ends it"
)]

mod live;
mod past;
mod presets;
mod queries;
mod real;
mod silence;
#[path = "../support/mod.rs"]
mod support;
mod world;
