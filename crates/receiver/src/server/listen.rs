//! Connections: one delivery each, within a time limit for all of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::Connection;
use crate::authenticate::Peer;
use crate::limits::{ARRIVAL, CONNECTION, Connections, Slot};
use crate::metrics::Metrics;

/// Most headers, and most bytes of them.
const HEADERS: usize = 64;
const HEAD: usize = 16 * 1024;
/// How long, and how much, is still read of a body that is not taken, so that the answer arrives before the connection ends.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;
/// How long deliveries under way may take after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long nothing is accepted after an error: most of them mean that there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// What connections are served with.
#[derive(Clone)]
pub struct Listen {
    /// How many there may be.
    pub connections: Connections,
    /// How they are encrypted; not at all without it.
    pub tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// The routes.
    pub router: Router,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Serves until `stop`, and then what is under way.
pub async fn serve(listener: TcpListener, listen: Listen, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(slot) = listen.connections.enter() else {
            listen.metrics.dropped("full");
            continue;
        };
        tasks.spawn(connection(listen.clone(), stream, slot));
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(
            "shutdown grace period exceeded, aborting in-flight deliveries; their senders send them again"
        );
    }
}

async fn connection(listen: Listen, stream: TcpStream, slot: Slot) {
    let began = Instant::now();
    let metrics = listen.metrics.clone();
    let evicted = slot.evicted.clone();
    let served = tokio::time::timeout_at(
        (began + CONNECTION).into(),
        encrypted(listen, stream, slot, began + ARRIVAL),
    );
    tokio::select! {
        () = evicted.cancelled() => metrics.dropped("evicted"),
        served = served => match served {
            Ok(Ok(())) => {}
            Ok(Err(word)) => metrics.dropped(word),
            Err(_) => metrics.dropped("too-long"),
        },
    }
}

async fn encrypted(
    listen: Listen,
    stream: TcpStream,
    slot: Slot,
    until: Instant,
) -> Result<(), &'static str> {
    // It only makes answers come sooner.
    let _ = stream.set_nodelay(true);
    let slot = Arc::new(slot);
    let Some(tls) = &listen.tls else {
        let connection = Connection {
            slot,
            until,
            peer: None,
        };
        return http(listen.router, stream, connection).await;
    };
    let config = tls.borrow().clone();
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = match tokio::time::timeout_at(until.into(), handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Err("handshake"),
        Err(_) => return Err("too-slow"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer =
        certificates.map(|shown| Peer(shown.iter().map(|it| it.clone().into_owned()).collect()));
    let connection = Connection { slot, until, peer };
    http(listen.router, stream, connection).await
}

async fn http<S>(router: Router, stream: S, connection: Connection) -> Result<(), &'static str>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let left = connection.until.saturating_duration_since(Instant::now());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connection.clone());
        router.clone().oneshot(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(left)
        .keep_alive(false)
        .max_headers(HEADERS)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown()
        .await;
    match served {
        Ok(parts) => {
            linger(parts.io.into_inner()).await;
            Ok(())
        }
        Err(error) if error.is_timeout() => Err("too-slow"),
        Err(_) => Err("cut"),
    }
}

/// Ends a connection so that the answer arrives: while something comes in that nobody reads, the other side may be told
/// that the connection was reset, and never see it.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let rest = async {
        stream.shutdown().await?;
        let mut part = [0; 8192];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut part).await? {
                0 => break,
                some => left = left.saturating_sub(some),
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whatever goes wrong now, the answer has been given.
    let _ = tokio::time::timeout(LINGER, rest).await;
}
