//! `rollback-controller`: watches `RollbackRequests` and carries them out.
//!
//! A request goes through [`reconcile`]: read ([`observe`]), decide (`rollback-core`), commit the
//! status, act ([`act`]), tell people of it ([`events`]). Of several controllers one does so, the others stand by
//! ([`lease`]). Everything else here is plumbing.

mod act;
mod analysis;
mod config;
mod context;
mod events;
mod lease;
mod ledger;
mod metrics;
mod newer;
mod observe;
mod read_permits;
mod reconcile;
mod record;
mod run;
mod selftest;
mod server;
mod shares;
mod watch;

use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> std::process::ExitCode {
    let config = config::Config::parse();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
    // Of an answer that it cannot read, the client logs every byte: whole lists, and whatever is in them.
    let filter = match "kube_client::client=error".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .init();
    // One TLS provider in the whole process; it cannot have been set before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return std::process::ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run::run(config)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the controller stops");
            std::process::ExitCode::FAILURE
        }
    }
}
