//! How a request is carried out: its phases, what a decision may ask for, and what is left behind.

pub mod artifact;
pub mod intent;
pub mod job;
pub mod outcome;
pub mod phase;
pub mod step;
pub mod taken;
