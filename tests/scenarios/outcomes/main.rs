//! Every way in which a request ends, and every way in which it is refused, on a real API server.
//!
//! Each test has a namespace and a controller process of its own, under the controller's own
//! `ServiceAccount`, and asserts on what the API server holds. They run in parallel.
//! `cargo xtask test` starts one cluster for all of them; `cargo test` alone works too.

mod approvals;
mod bad_input;
mod checks;
mod described;
mod ends;
mod expect;
mod failed;
mod forged;
mod guard;
mod newer;
mod people;
mod policies;
mod reapply;
mod refused;
mod running;
mod scope;
mod selftest;
mod upgrade;
mod words;
