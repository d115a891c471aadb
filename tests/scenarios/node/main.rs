//! A real node: real containers crash, cannot be made or answer wrongly, and a real kubelet says so in its own words.
//! `cargo xtask test --test node` runs these, as root; see `docs/testing.md`.

mod causes;
mod healthy;
mod service;
mod stage;
mod unready;
mod words;
