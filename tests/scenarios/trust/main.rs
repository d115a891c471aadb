//! People who want more than they may, approvals that come from somewhere else, states that change under one's
//! hands, and text that wants to be obeyed: nothing is rolled back without an approval of exactly that.
//!
//! Whether something was rolled back is read from the API server's audit log, so these need an embedded cluster.
//! Each test has a namespace and a controller process of its own, and they run in parallel.

mod boundary;
mod boundary_change;
mod boundary_judge;
mod deputy;
mod deputy_later;
mod expiry;
mod freeze;
mod glass;
mod job_identity;
mod machines;
mod ownership;
mod poison;
mod poison_check;
mod poison_input;
mod raced;
mod replay;
mod stage;
mod unreadable;
mod urgency;
mod withdrawal;
