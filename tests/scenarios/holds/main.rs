//! Owners that would undo a rollback are kept from it: placed after approval and before the revert, read back, remembered in
//! the ledger, and released so that what was there before is there again.
//!
//! The objects of Flux and Argo CD are as their documentation gives them. No controller of theirs runs here: what is shown
//! is what ours does to them. That these means hold real controllers is in `docs/gitops.md`.

mod crash;
mod ends;
mod means;
mod refused;
mod stage;
#[allow(dead_code, reason = "what other tests ask for")]
#[path = "../preflight/tools.rs"]
mod tools;
