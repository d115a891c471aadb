//! What is known before anything is written, and what follows when it was not known.
//!
//! The plan says what changes, what is missing, who else writes the Deployment and what may go wrong;
//! the API server is asked beforehand what it would make of the write. Every way to name a version,
//! requests that want the same Deployment, and what is left behind afterwards are here as well. Each
//! test has a namespace and a controller process of its own, and asserts on what the API server holds
//! and on its audit log.

mod admission;
mod afterwards;
mod backup;
mod draft;
mod dry_run;
mod image;
mod owners;
mod plugins;
mod queue;
mod queue_order;
mod references;
mod references_later;
mod revisions;
mod risks;
mod stage;
mod tools;
mod webhook;
