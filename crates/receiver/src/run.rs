//! Starting, serving and stopping.

use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use rollback_process::listen::{Unusable, bind};
use rollback_process::{client, pages, stop};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::config::{self, Arguments, File};
use crate::limits::{BODIES, Connections};
use crate::metrics::Metrics;
use crate::server::listen::{self, Listen};
use crate::server::{self, Receiver};
use crate::tls;

/// How long connecting to the API server may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long one of its answers may take.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Why the receiver stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] config::Error),
    /// Nothing says how deliveries are encrypted.
    #[error("give --tls-cert and --tls-key, or --insecure-http where something else ends TLS")]
    NoTls,
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// No API server is configured.
    #[error("finding the API server; set KUBECONFIG or run in a pod with a ServiceAccount")]
    ApiServer(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("preparing the client of the API server")]
    Client(#[from] kube::Error),
    /// An address cannot be used.
    #[error(transparent)]
    Listen(#[from] Unusable),
}

/// Runs until SIGTERM or SIGINT, then answers what is under way, and returns.
pub async fn run(arguments: &Arguments) -> Result<(), Error> {
    let stop = stop::at_signal();
    let file = File::read(&arguments.config, arguments.tls_cert.is_some())?;
    let metrics = Arc::new(Metrics::new(&file.sources));
    let (tls, follow) = encryption(arguments, &file, &metrics)?;
    let client = client().await?;
    let connections = Connections::new(arguments.connections as usize, BODIES);
    let ready = Arc::new(AtomicBool::new(false));
    let (numbers, open) = (metrics.clone(), connections.clone());
    let is_ready = ready.clone();
    let why_not = move || {
        let is_ready = is_ready.load(Ordering::Relaxed);
        (!is_ready).then(|| "no deliveries are taken".to_owned())
    };
    let pages = pages::router(why_not, move || numbers.page(open.count()));
    let pages_listener = bind(arguments.metrics_address).await?;
    let listener = bind(arguments.address).await?;
    let concurrency = arguments.concurrency as usize;
    let receiver = Receiver::new(file.sources, &client, concurrency, metrics.clone());
    let listen = Listen {
        connections,
        tls,
        router: server::router(Arc::new(receiver)),
        metrics,
    };
    ready.store(true, Ordering::Relaxed);
    tracing::info!(address = %arguments.address, "deliveries are taken");
    let serving = async {
        listen::serve(listener, listen, stop.clone()).await;
        ready.store(false, Ordering::Relaxed);
    };
    tokio::select! {
        () = serving => {}
        () = follow => {}
        // It goes on until the deliveries have been answered.
        _ = pages::serve(pages_listener, pages, future::pending()) => {}
    }
    Ok(())
}

type Encryption = (
    Option<watch::Receiver<Arc<ServerConfig>>>,
    BoxFuture<'static, ()>,
);

fn encryption(
    arguments: &Arguments,
    file: &File,
    metrics: &Arc<Metrics>,
) -> Result<Encryption, Error> {
    match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => {
            let files = tls::Files::new(certificate, key, &file.sources);
            let (tls, follow) = files.watch(metrics.clone())?;
            Ok((Some(tls), follow.boxed()))
        }
        (Some(_) | None, Some(_) | None) if arguments.insecure_http => {
            tracing::warn!(
                "deliveries are taken without TLS: whoever listens to the network reads their secrets"
            );
            Ok((None, future::pending().boxed()))
        }
        (Some(_) | None, Some(_) | None) => Err(Error::NoTls),
    }
}

/// Nothing is tried again here: the sender sends it again, and knows best for how long.
async fn client() -> Result<kube::Client, Error> {
    let config = kube::Config::infer().await?;
    let config = client::for_answers(config, CONNECT_LIMIT, READ_LIMIT);
    Ok(client::client(config)?)
}
