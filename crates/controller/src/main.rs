//! `rollback-controller`: watches `RollbackRequests` and carries them out.
//!
//! A request goes through [`reconcile`]: read (`rollback-observe`), decide (`rollback-core`), commit the
//! status, act ([`act`]), tell people of it ([`events`], [`notify`]). Of several controllers one does so, the others stand by
//! ([`lease`]). Everything else here is plumbing.

mod act;
mod analysis;
mod config;
mod context;
mod events;
mod guard;
mod holds;
mod lease;
mod ledger;
mod metrics;
mod newer;
mod notify;
mod read_permits;
mod reconcile;
mod record;
mod run;
mod selftest;
mod shares;
mod watch;

use clap::Parser;
use rollback_process::start;

fn main() -> std::process::ExitCode {
    let config = config::Config::parse();
    start::run("controller", "info,kube_runtime=warn", run::run(config))
}
