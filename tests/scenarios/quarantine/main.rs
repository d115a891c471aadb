//! What was rolled back stays rolled back: who brings back a version in quarantine is warned or refused by the API server,
//! whoever it is, and whether the operator is there or not. What is another version passes.
//!
//! What nobody is to see happen is tried with `--dry-run=server`: admission is asked all the same.

mod attempts;
mod holds;
mod stage;
mod ways;
