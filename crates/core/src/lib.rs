//! What to do next, as pure functions: no client, no runtime, no clock.
//!
//! One pass over a request reads an [`observed::View`], calls [`decide::decide`], commits the
//! status that comes out of it, and only then takes the one [`execution::step::Step`]. Everything that can be
//! known about a request is in its status and in the cluster, so that a crash is just another pass.

pub mod approval;
pub mod decide;
pub mod evidence;
pub mod execution;
pub mod health;
pub mod history;
pub mod hold;
pub mod message;
pub mod notify;
pub mod observed;
pub mod plan;
pub mod report;
pub mod time;
