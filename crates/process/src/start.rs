//! From `main` to the exit code.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// What is logged whatever `RUST_LOG` says.
const ALWAYS: [&str; 2] = [
    // Of an answer that it cannot read, the client logs every byte: whole lists, and whatever is in them.
    "kube_client::client=error",
    // Why the program stops.
    "rollback_process=error",
];

/// Runs a program of this name to its end. `filter` says what is logged where `RUST_LOG` says nothing.
pub fn run<E: std::error::Error>(
    name: &str,
    filter: &str,
    program: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    log(filter);
    // One TLS provider in the whole process; it cannot have been set before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "the {name} stops");
            ExitCode::FAILURE
        }
    }
}

fn log(filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let always = ALWAYS.into_iter().filter_map(|it| it.parse().ok());
    let filter = always.fold(filter, EnvFilter::add_directive);
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .init();
}
