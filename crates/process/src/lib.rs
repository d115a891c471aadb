//! What the binaries share around their work: how they start, log and stop, what they show of themselves, and how they
//! talk to the API server.

pub mod client;
pub mod listen;
pub mod pages;
pub mod start;
pub mod stop;
