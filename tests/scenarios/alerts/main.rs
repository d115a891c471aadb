//! Alerts become requests: from each source by HTTP with real signatures, against a real API server.
//!
//! Each test has a namespace and a receiver process of its own, and they run in parallel. No controller runs: what the
//! receiver writes is the request, and nothing else.

mod allowed;
mod amazon;
mod delivered;
mod field;
mod hostile;
mod large;
mod mapped;
mod recovered;
mod refused;
mod repeated;
mod sources;
mod stage;
mod taken;
mod tls;
