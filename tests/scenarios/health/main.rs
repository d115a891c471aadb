//! Whether it is well again: checks, Jobs, the gate for the data, causes and remedies, and what is told afterwards.
//!
//! Each test has a namespace and a controller process of its own, and they run in parallel.

mod capacity;
mod causes;
mod checks;
mod everywhere;
mod gate;
mod jobs;
mod remedies;
mod reminder;
mod secrets;
mod slices;
mod stage;
mod unwell;
