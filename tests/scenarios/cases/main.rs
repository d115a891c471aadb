//! The conformance cases.
//!
//! One test for each numbered case of rollback semantics (`case_NN_...`): what `kubectl rollout
//! undo` gets wrong, what it leaves open, and where parity is expected. All of them run against the
//! real Deployment controller. Each has a namespace and a controller process of its own, polls with a
//! deadline, and asserts on what the API server holds and what its audit log says.

mod during;
mod history;
mod limits;
mod named;
mod odd;
mod races;
mod selection;
mod stage;
mod status;
mod write;
