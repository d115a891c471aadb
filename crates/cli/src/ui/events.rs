//! That something has changed, pushed to the pages. What has changed they fetch themselves.

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, StreamExt};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use rollback_api::RollbackRequest;
use serde::de::DeserializeOwned;

use super::{Named, Shared};

/// How often a page is told that the connection is still there.
const ALIVE: Duration = Duration::from_secs(15);

/// Changes of any request.
pub async fn any(State(app): Shared) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    changes(
        app.cluster.api::<PartialObjectMeta<RollbackRequest>>(),
        watcher::Config::default(),
    )
}

/// Changes of one request.
pub async fn one(
    State(app): Shared,
    Path(name): Named,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    changes(
        app.cluster.api::<PartialObjectMeta<RollbackRequest>>(),
        only,
    )
}

/// One event for each change. A watch that fails is begun anew, and that is a change too.
fn changes<K>(
    api: Api<K>,
    config: watcher::Config,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watched = watcher(api, config).default_backoff();
    let told = watched.filter_map(async |seen| match seen {
        Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => {
            // Without any data a browser does not pass it on.
            Some(Ok(Event::default().event("changed").data("-")))
        }
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_) => None,
    });
    Sse::new(told).keep_alive(KeepAlive::new().interval(ALIVE))
}
