//! Starting, serving and stopping.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use kube::client::ClientBuilder;
use rollback_reads::layer::Shorten;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Arguments, File};
use crate::limits::{BODIES, Connections};
use crate::metrics::Metrics;
use crate::server::listen::{self, Listen};
use crate::server::pages::{self, Pages};
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
    #[error("listening at {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs until SIGTERM or SIGINT, then answers what is under way, and returns.
pub async fn run(arguments: &Arguments) -> Result<(), Error> {
    let stop = CancellationToken::new();
    let signal = stop.clone();
    tokio::spawn(async move {
        shutdown_signal().await;
        signal.cancel();
    });
    let file = File::read(&arguments.config, arguments.tls_cert.is_some())?;
    let metrics = Arc::new(Metrics::new(&file.sources));
    let (tls, follow) = encryption(arguments, &file, &metrics)?;
    let client = client().await?;
    let connections = Connections::new(arguments.connections as usize, BODIES);
    let ready = Arc::new(AtomicBool::new(false));
    let pages = pages::router(Pages {
        metrics: metrics.clone(),
        connections: connections.clone(),
        ready: ready.clone(),
    });
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
        _ = axum::serve(pages_listener, pages).into_future() => {}
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
            Ok((None, std::future::pending().boxed()))
        }
        (Some(_) | None, Some(_) | None) => Err(Error::NoTls),
    }
}

/// Nothing is tried again here: the sender sends it again, and knows best for how long.
async fn client() -> Result<kube::Client, Error> {
    let mut config = kube::Config::infer().await?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.read_timeout = Some(READ_LIMIT);
    config.reset_reader_on_write = true;
    let client = ClientBuilder::try_from(config)?;
    Ok(client.with_layer(&Shorten).build())
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })
}

async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut stream) => {
                stream.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
