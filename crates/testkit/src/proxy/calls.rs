//! Every request that comes, reads included, shown to the test before it goes on.

use std::fmt;

use axum::extract::Request;
use futures::future::BoxFuture;
use http::Method;

/// A request, whether it changes something or only looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query; empty when there is none.
    pub query: String,
}

impl Call {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
        }
    }

    /// Whether it stays open and tells of changes.
    pub fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    /// Whether it only tries out what would happen.
    pub fn is_dry_run(&self) -> bool {
        self.query.contains("dryRun=All")
    }
}

/// What happens before a call goes on.
pub type Errand = BoxFuture<'static, ()>;

type Look = Box<dyn FnMut(&Call) -> Option<Errand> + Send>;

/// Who looks at every call.
#[derive(Default)]
pub(super) struct Onlooker(Option<Look>);

impl Onlooker {
    pub(super) fn new(look: impl FnMut(&Call) -> Option<Errand> + Send + 'static) -> Self {
        Self(Some(Box::new(look)))
    }

    pub(super) fn look(&mut self, call: &Call) -> Option<Errand> {
        self.0.as_mut()?(call)
    }
}

impl fmt::Debug for Onlooker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Onlooker")
    }
}
