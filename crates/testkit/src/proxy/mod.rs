//! A proxy between a client and the API server that breaks things at a chosen request.
//!
//! It listens on plain HTTP on loopback, so the client's kubeconfig names it as the server; the
//! bearer token travels on in the header. Answers are streamed, so watches work as usual.

mod calls;
mod severable;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use futures::{StreamExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use calls::Onlooker;
pub use calls::{Call, Errand};
use severable::{Line, Severable};

use crate::User;

/// The moment of a mutating request at which a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The action runs, then the request goes on as if nothing had happened: somebody else was faster.
    Aside,
    /// The action runs and the connection drops: the API server never hears of the request.
    BeforeForward,
    /// The API server has answered; the action runs and the connection drops, so that the client
    /// never learns that the request was carried out.
    AfterCommit,
    /// The API server has answered; the action runs, and only then does the client get its answer.
    BeforeAnswer,
    /// The client has its answer; then the action runs.
    AfterAnswer,
    /// The action runs and the client gets this status; the API server never hears of the request.
    Refused(StatusCode),
}

/// What of the traffic is held up, on connections that stay open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Silence {
    /// Nothing.
    #[default]
    None,
    /// Requests arrive and are carried out, but no byte of an answer comes back.
    Answers,
    /// Requests do not arrive, and no byte of an answer comes back.
    Everything,
}

/// A request that may change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Its place among all mutating requests that the proxy saw, from 0.
    pub index: usize,
    /// The HTTP method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// Whether it only tries out what would happen.
    pub dry_run: bool,
}

type Action = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;
type Filter = Box<dyn Fn(&Mutation) -> bool + Send>;

/// What is to happen at which request.
pub struct Fault {
    nth: usize,
    point: Point,
    filter: Filter,
    action: Action,
}

impl Fault {
    /// At the n-th mutating request after arming, from 1.
    pub fn new(nth: usize, point: Point) -> Self {
        Self {
            nth,
            point,
            filter: Box::new(|_| true),
            action: Box::new(|| Box::pin(async {})),
        }
    }

    /// Counts only the requests that the filter accepts.
    #[must_use]
    pub fn only(mut self, filter: impl Fn(&Mutation) -> bool + Send + 'static) -> Self {
        self.filter = Box::new(filter);
        self
    }

    /// Runs this at that point: usually it kills the client. It may block for a moment.
    #[must_use]
    pub fn run(self, action: impl FnOnce() + Send + 'static) -> Self {
        self.run_async(move || async move { action() })
    }

    /// Runs this at that point and waits for it.
    #[must_use]
    pub fn run_async<F>(mut self, action: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.action = Box::new(move || Box::pin(action()));
        self
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fault({:?} of request {})", self.point, self.nth)
    }
}

/// A running proxy. Dropping stops it and drops the connections that wait for an answer.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    client: reqwest::Client,
    ledger: Mutex<Ledger>,
    silence: watch::Sender<Silence>,
}

#[derive(Debug, Default)]
struct Ledger {
    mutations: Vec<Mutation>,
    armed: Vec<Fault>,
    fired: usize,
    abandoned: usize,
    onlooker: Onlooker,
}

impl Proxy {
    /// Starts a proxy to the API server at `upstream`, whose certificate `ca_pem` vouches for.
    pub async fn start(upstream: &str, ca_pem: &[u8]) -> Result<Self> {
        Self::with_headers(upstream, ca_pem, HeaderMap::new()).await
    }

    /// The same, for a client that sends no credentials over plain HTTP, as kubectl does: it is taken
    /// for this user of an embedded cluster.
    pub async fn start_as(user: User, upstream: &str, ca_pem: &[u8]) -> Result<Self> {
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", user.token());
        headers.insert(header::AUTHORIZATION, HeaderValue::try_from(bearer)?);
        Self::with_headers(upstream, ca_pem, headers).await
    }

    /// A proxy that adds these headers where the client has not set them.
    async fn with_headers(upstream: &str, ca_pem: &[u8], headers: HeaderMap) -> Result<Self> {
        crate::install_crypto_provider();
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .tls_certs_only([reqwest::Certificate::from_pem(ca_pem)?])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Well before the API server closes idle connections: a body that is streamed cannot be
            // sent twice, so a request must not meet a closing one.
            .pool_idle_timeout(Duration::from_secs(20))
            .build()?;
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client,
            ledger: Mutex::default(),
            silence: watch::Sender::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Line>();
        let task = tokio::spawn(async move {
            // It only ends with this task.
            drop(axum::serve(Severable(listener), app).await);
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// What the client's kubeconfig has to name as the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The mutating requests that came so far, in order.
    pub fn mutations(&self) -> Vec<Mutation> {
        self.shared.ledger().mutations.clone()
    }

    /// Arms a fault. It happens once; several can be armed at the same time.
    pub fn arm(&self, fault: Fault) {
        self.shared.ledger().armed.push(fault);
    }

    /// Forgets the faults that have not happened.
    pub fn disarm(&self) {
        self.shared.ledger().armed.clear();
    }

    /// How many faults have happened.
    pub fn fired(&self) -> usize {
        self.shared.ledger().fired
    }

    /// From now on, shows every request to this, reads and watches included, before it goes on. When there is
    /// something to be done first, the request waits for that; others do not.
    pub fn on_call(&self, look: impl FnMut(&Call) -> Option<Errand> + Send + 'static) {
        self.shared.ledger().onlooker = Onlooker::new(look);
    }

    /// A handle that holds up the traffic and lets it go on, for the action of a fault too.
    pub fn switch(&self) -> Switch {
        Switch(Arc::clone(&self.shared))
    }

    /// How many requests the client has given up while it waited for the answer.
    pub fn abandoned(&self) -> usize {
        self.shared.ledger().abandoned
    }
}

/// Holds up the traffic of a [`Proxy`] and lets it go on.
#[derive(Clone, Debug)]
pub struct Switch(Arc<Shared>);

impl Switch {
    /// From now on, watches that are already open included.
    pub fn set(&self, silence: Silence) {
        self.0.silence.send_replace(silence);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a mutating request; gives the fault whose turn it is.
    fn note(&self, request: &Request) -> Option<Fault> {
        let method = request.method();
        if ![Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method) {
            return None;
        }
        let ledger = &mut *self.ledger();
        let mutation = Mutation {
            index: ledger.mutations.len(),
            method: method.clone(),
            path: request.uri().path().to_owned(),
            dry_run: request
                .uri()
                .query()
                .is_some_and(|query| query.contains("dryRun=All")),
        };
        for fault in &mut ledger.armed {
            if (fault.filter)(&mutation) {
                fault.nth = fault.nth.saturating_sub(1);
            }
        }
        ledger.mutations.push(mutation);
        let due = ledger.armed.iter().position(|fault| fault.nth == 0)?;
        ledger.fired += 1;
        Some(ledger.armed.remove(due))
    }

    /// The API server's answer, or that it could not be reached.
    async fn answer(self: &Arc<Self>, request: Request) -> Response {
        let waiting = Waiting(Some(self));
        self.may_pass(|silence| *silence != Silence::Everything)
            .await;
        let answer = self.forward(request).await;
        self.may_pass(|silence| *silence == Silence::None).await;
        waiting.over();
        match answer {
            Ok(answer) => self.streamed(answer),
            Err(error) => bad_gateway(&error),
        }
    }

    async fn may_pass(&self, free: impl FnMut(&Silence) -> bool) {
        // The sender is right here, so it cannot be gone.
        drop(self.silence.subscribe().wait_for(free).await);
    }

    fn streamed(self: &Arc<Self>, answer: reqwest::Response) -> Response {
        let status = answer.status();
        let headers = end_to_end(answer.headers());
        let shared = Arc::clone(self);
        let body = answer.bytes_stream().then(move |chunk| {
            let shared = Arc::clone(&shared);
            async move {
                shared.may_pass(|silence| *silence == Silence::None).await;
                chunk
            }
        });
        let mut response = Response::new(Body::from_stream(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    async fn forward(&self, request: Request) -> reqwest::Result<reqwest::Response> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let body = if body.is_end_stream() {
            reqwest::Body::default()
        } else {
            reqwest::Body::wrap_stream(body.into_data_stream())
        };
        self.client
            .request(head.method, format!("{}{path}", self.upstream))
            .headers(end_to_end(&head.headers))
            .body(body)
            .send()
            .await
    }
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    let errand = shared.ledger().onlooker.look(&Call::of(&request));
    if let Some(errand) = errand {
        errand.await;
    }
    let Some(fault) = shared.note(&request) else {
        return shared.answer(request).await;
    };
    match fault.point {
        Point::Aside => {
            (fault.action)().await;
            shared.answer(request).await
        }
        Point::BeforeForward => {
            (fault.action)().await;
            line.sever()
        }
        Point::AfterCommit => {
            if let Ok(answer) = shared.forward(request).await {
                // The whole answer: by then the API server is done with the request.
                drop(answer.bytes().await);
            }
            (fault.action)().await;
            line.sever()
        }
        Point::BeforeAnswer => {
            let answer = shared.answer(request).await;
            (fault.action)().await;
            answer
        }
        Point::AfterAnswer => {
            let answer = shared.answer(request).await;
            and_then(answer, fault.action)
        }
        Point::Refused(status) => {
            (fault.action)().await;
            refusal(status)
        }
    }
}

/// Runs the action once the body is on its way to the client.
fn and_then(answer: Response, action: Action) -> Response {
    let afterwards = AtTheEnd(Some(action));
    answer.map(|body| {
        let stream = body.into_data_stream().map(move |chunk| {
            // Owned by the stream, so it is dropped with it: when the last byte was taken.
            let _afterwards = &afterwards;
            chunk
        });
        Body::from_stream(stream)
    })
}

struct AtTheEnd(Option<Action>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        if let Some(action) = self.0.take() {
            tokio::spawn(async move {
                // The last bytes leave for the socket right after the body is dropped.
                tokio::time::sleep(Duration::from_millis(20)).await;
                action().await;
            });
        }
    }
}

/// A request whose client waits for the answer; it is given up when this is dropped before the end.
struct Waiting<'a>(Option<&'a Shared>);

impl Waiting<'_> {
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.ledger().abandoned += 1;
        }
    }
}

/// As the API server says it.
fn refusal(status: StatusCode) -> Response {
    let body = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": status.canonical_reason().unwrap_or_default().replace(' ', ""),
        "message": "the proxy of the test says so",
        "code": status.as_u16(),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn bad_gateway(error: &reqwest::Error) -> Response {
    let mut response = Response::new(Body::from(Bytes::from(error.to_string())));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// Without the headers that belong to one of the two connections.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::HOST,
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    headers
}
