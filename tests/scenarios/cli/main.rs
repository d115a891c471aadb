//! The plugin as people type it: the real binary, with the kubeconfig of each of them, against a real API server with
//! the real controller beside it.

mod asking;
mod channels;
mod faults;
mod field;
mod formats;
mod holds;
mod hostile;
mod looking;
mod pages;
mod people;
mod planning;
mod risks;
mod stage;
mod terminal;
#[allow(dead_code, reason = "the kinds that other tests ask for")]
#[path = "../preflight/tools.rs"]
mod tools;
mod transcript;
mod watching;
