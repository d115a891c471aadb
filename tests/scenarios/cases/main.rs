//! The conformance cases.
//!
//! One test for each numbered case of rollback semantics (`case_NN_...`): what `kubectl rollout
//! undo` gets wrong, what it leaves open, and where parity is expected. All of them run against the
//! real Deployment controller. Each has a namespace and a controller process of its own, polls with a
//! deadline, and asserts on what the API server holds and what its audit log says.
//!
//! Most bring about the same situation a second time, without a controller, and let the real kubectl
//! roll that one back. What came of both is recorded for `docs/conformance.md`.

mod admission;
mod blocked;
mod during;
mod exact;
mod foreseen;
mod hearsay;
mod history;
mod kubectl;
mod limits;
mod named;
mod numbers;
mod owners;
mod races;
mod refused;
mod remembered;
mod selection;
mod situation;
mod stage;
mod status;
mod together;
mod trouble;
mod write;
