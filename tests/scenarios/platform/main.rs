//! Many Deployments in one request, on a real API server: which are found, in which order they are
//! written, what becomes of the others when one fails, and who may stop it in the middle.
//!
//! Each test has a namespace and a controller process of its own, and asserts on what the API server
//! holds and on its audit log.

mod crash;
mod failure;
mod identity;
mod large;
mod others;
mod people;
mod record;
mod selection;
mod stage;
mod waves;
