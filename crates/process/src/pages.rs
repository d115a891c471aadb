//! `/metrics`, `/healthz` and `/readyz`, on an address of their own.

use std::future;
use std::io;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// The media type of [`text`].
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes. `why_not` is what `/readyz` says: why it is not ready, as long as there is a reason. It and `metrics` are made
/// anew each time that somebody asks.
pub fn router(
    why_not: impl Fn() -> Option<String> + Clone + Send + Sync + 'static,
    metrics: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Router {
    let readyz = move || {
        future::ready(match why_not() {
            None => (StatusCode::OK, "ok".to_owned()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        })
    };
    let metrics = move || future::ready(([(header::CONTENT_TYPE, OPEN_METRICS)], metrics()));
    Router::new()
        .route("/healthz", get(|| future::ready("ok")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Serves them until then.
pub async fn serve(
    listener: TcpListener,
    pages: Router,
    until: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, pages)
        .with_graceful_shutdown(until)
        .await
}

/// Everything in the registry, in the text format of `OpenMetrics`.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn it_is_ready_when_it_says_so() {
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = ready.clone();
        let why_not = move || (!is_ready.load(Ordering::Relaxed)).then(|| "not yet".to_owned());
        let pages = router(why_not, || text(&Registry::default()));
        let get = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            pages.clone().oneshot(request).await.unwrap()
        };
        assert_eq!(get("/healthz").await.status(), StatusCode::OK);
        let answer = get("/readyz").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(body, "not yet");
        ready.store(true, Ordering::Relaxed);
        assert_eq!(get("/readyz").await.status(), StatusCode::OK);
        let answer = get("/metrics").await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], OPEN_METRICS);
    }
}
