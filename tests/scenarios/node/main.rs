//! A real node: real containers crash, cannot be made or answer wrongly, and a real kubelet says so in its own words.
//! `cargo xtask test --test node` runs these, as root; see `docs/testing.md`.

mod by_itself;
mod causes;
#[path = "../health/everywhere.rs"]
mod everywhere;
mod fallback;
mod healthy;
mod liveness;
mod plugin;
mod secrets;
mod service;
mod shipped;
mod smoke;
mod stage;
mod unready;
mod words;
