//! What the controller remembers of the versions of each Deployment, whether anybody asks for a rollback or not.
//!
//! Each test has a namespace and a controller of its own, and asserts on the ledger that the API server holds and on
//! its audit log.

mod good;
mod lift;
mod quiet;
mod record;
mod stage;
