//! A bound for every answer of a client that is not a watch, whoever reads it and however.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::Limited;
use kube::client::Body;
use tower::{Layer, Service};

use crate::answer::LARGEST;

/// Gives up answers that are too long. Watches have no end, so theirs are bounded by [`crate::bounded`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Shorten;

/// See [`Shorten`].
#[derive(Clone, Debug)]
pub struct Shortened<S>(S);

impl<S> Layer<S> for Shorten {
    type Service = Shortened<S>;

    fn layer(&self, inner: S) -> Shortened<S> {
        Shortened(inner)
    }
}

impl<S, B> Service<Request<Body>> for Shortened<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Limited<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let most = if is_watch(&request) {
            usize::MAX
        } else {
            // A little more, so that who reads in parts says it in words.
            LARGEST + LARGEST / 2
        };
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Limited::new(body, most))) })
    }
}

fn is_watch<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query
        .split('&')
        .any(|it| it == "watch=true" || it == "watch=1")
}
