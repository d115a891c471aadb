//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether the first list of requests is complete.
    pub ready: Arc<AtomicBool>,
    /// Why this controller cannot lead, when it cannot.
    pub why_not: watch::Receiver<Option<String>>,
}

/// The routes.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let listing = "the requests are being listed".to_owned();
    let is_listed = pages.ready.load(Ordering::Relaxed);
    let why_not = pages.why_not.borrow().clone();
    match why_not.or((!is_listed).then_some(listing)) {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], pages.metrics.page())
}
