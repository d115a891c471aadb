//! What the pods of the shop answer when they are asked how they are.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use axum::{Router, extract::State, response::IntoResponse};
use http::{StatusCode, Uri, header};
use tokio::{net::TcpListener, task::JoinHandle};

/// The port that every [`HealthServer`] listens on: fake pods differ by their address.
pub const HEALTH_PORT: u16 = 18_080;

/// What a [`HealthServer`] says, until it is told to say something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// How long the client has to wait for it.
    pub delay: Duration,
    /// Where the client is sent, if anywhere.
    pub location: Option<String>,
}

impl Answer {
    /// 200 without delay.
    pub fn healthy() -> Self {
        Self::status(200)
    }

    /// This status, without delay.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            body: String::new(),
            delay: Duration::ZERO,
            location: None,
        }
    }

    /// Go and ask there instead.
    pub fn redirect(url: &str) -> Self {
        Self {
            location: Some(url.to_owned()),
            ..Self::status(302)
        }
    }

    /// The same after a delay.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn with_body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

/// An HTTP server on a loopback address of its own, in the place of a pod.
#[derive(Debug)]
pub struct HealthServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    answer: Answer,
    exceptions: Vec<(String, Answer)>,
    paths: Vec<String>,
}

impl HealthServer {
    /// Listens on an address that nobody else on this machine uses. It is healthy at first.
    pub async fn start() -> Result<Self> {
        for _ in 0..1_000 {
            if let Ok(server) = Self::start_at(unique_loopback()).await {
                return Ok(server);
            }
        }
        bail!("no free loopback address with port {HEALTH_PORT}")
    }

    /// Listens on this address, for a pod whose address is already known.
    pub async fn start_at(ip: Ipv4Addr) -> Result<Self> {
        let address = SocketAddr::from((ip, HEALTH_PORT));
        let listener = TcpListener::bind(address).await?;
        let shared = Arc::new(Mutex::new(Shared {
            answer: Answer::healthy(),
            exceptions: Vec::new(),
            paths: Vec::new(),
        }));
        let app = Router::new()
            .fallback(reply)
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // It only ends with this task.
            drop(axum::serve(listener, app).await);
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// The address of the pod.
    pub fn ip(&self) -> String {
        self.address.ip().to_string()
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on, say this to everybody.
    pub fn answer(&self, answer: Answer) {
        let mut shared = lock(&self.shared);
        shared.answer = answer;
        shared.exceptions.clear();
    }

    /// From now on, say this at this path.
    pub fn answer_at(&self, path: &str, answer: Answer) {
        let mut shared = lock(&self.shared);
        shared.exceptions.retain(|(known, _)| known != path);
        shared.exceptions.push((path.to_owned(), answer));
    }

    /// How many requests have come so far.
    pub fn count(&self) -> usize {
        lock(&self.shared).paths.len()
    }

    /// The paths that were asked for so far, in order.
    pub fn paths(&self) -> Vec<String> {
        lock(&self.shared).paths.clone()
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn reply(State(shared): State<Arc<Mutex<Shared>>>, uri: Uri) -> impl IntoResponse {
    let answer = {
        let mut shared = lock(&shared);
        shared.paths.push(uri.path().to_owned());
        let exception = shared
            .exceptions
            .iter()
            .find(|(path, _)| path == uri.path());
        exception
            .map_or(&shared.answer, |(_, answer)| answer)
            .clone()
    };
    tokio::time::sleep(answer.delay).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let location = answer.location.map(|url| [(header::LOCATION, url)]);
    (status, location, answer.body)
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loopback address that this process has not given out before. Processes start in different
/// corners of 127.0.0.0/8, so that they seldom meet; whoever binds must be ready to try the next.
pub fn unique_loopback() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 0x7f10_0000; // 127.16.0.0, clear of what people use by hand
    const SIZE: u32 = 0x00e0_0000; // up to 127.239.255.255
    let corner = std::process::id().wrapping_mul(4_093);
    loop {
        let offset = corner.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % SIZE;
        // Addresses that end in 0 or 255 look like networks and broadcasts.
        if !matches!(offset % 256, 0 | 255) {
            return Ipv4Addr::from(FIRST + offset);
        }
    }
}
