//! What can be asked over the network to learn whether a version is well: pods and other URLs over HTTP, and
//! Prometheus. Nothing here decides anything, and nothing here knows Kubernetes.
//!
//! Who writes a policy chooses what is asked, so every address is judged before it is connected to
//! ([`networks`]), a name is resolved once and only the addresses that were judged are connected to, and nothing
//! that an answer holds gets into an error.

pub mod allow;
pub mod http;
pub mod networks;
pub mod pinned;
pub mod prometheus;
mod wire;

pub use wire::{Client, Failure, Refusal, Setup};
