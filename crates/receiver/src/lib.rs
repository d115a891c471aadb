//! Takes alerts from monitoring systems, and asks for rollbacks in their name.
//!
//! A delivery is limited, authenticated, read, mapped to Deployments, and answered by a `RollbackRequest` that says what
//! is bad. Nothing else is ever written.

pub mod alert;
pub mod intake;
pub mod signature;
