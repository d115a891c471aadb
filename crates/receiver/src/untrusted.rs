//! The part of this crate that reads what strangers send, as a crate of its own: `fuzz/` builds it without the cluster
//! client and the server, whose code would only make each execution slower. Nothing else uses this file.

pub mod alert;
pub mod intake;
pub mod signature;
