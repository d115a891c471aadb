//! `rollback-receiver`: takes alerts from monitoring systems, and asks for rollbacks in their name.
//!
//! A delivery goes through [`server`]: limited ([`limits`]), authenticated ([`authenticate`]), read (the library of this
//! crate), mapped to Deployments ([`resolve`]) and answered by a `RollbackRequest` ([`ask`]). Nothing else is written.

mod ask;
mod authenticate;
mod config;
mod limits;
mod metrics;
mod resolve;
mod run;
mod server;
mod tls;

use clap::Parser;
use rollback_process::start;

fn main() -> std::process::ExitCode {
    let arguments = config::Arguments::parse();
    start::run("receiver", "info", run::run(&arguments))
}
