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
use tracing_subscriber::EnvFilter;

fn main() -> std::process::ExitCode {
    let config = config::Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Of an answer that it cannot read, the client logs every byte: whole Deployments, and whatever is in them.
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
    match runtime.block_on(run::run(&config)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the receiver stops");
            std::process::ExitCode::FAILURE
        }
    }
}
