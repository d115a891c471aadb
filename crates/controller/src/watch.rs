//! Watches of single Deployments, for as long as a request works on them. There is no watch on all
//! Deployments: what is not being rolled back costs nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use rollback_api::RollbackRequest;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

/// Seconds after which a watch that went silent is made anew.
pub const WATCH_SECONDS: u32 = 60;

/// How long to wait after a change before the next is told: a rollout changes its Deployment many
/// times a second.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether a request should look again. The end of the list counts, however empty it is: the
/// Deployment may have gone between the read that led to this watch and its beginning.
fn is_news<K>(event: &Result<Event<K>, watcher::Error>) -> bool {
    match event {
        Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => true,
        Ok(Event::Init | Event::InitApply(_)) | Err(_) => false,
    }
}

/// Whether there was news within this time; `None` when there will never be any again.
async fn news_during<K>(
    time: Duration,
    events: &mut (impl Stream<Item = Result<Event<K>, watcher::Error>> + Unpin),
) -> Option<bool> {
    let mut news = false;
    let mut over = std::pin::pin!(tokio::time::sleep(time));
    loop {
        tokio::select! {
            () = &mut over => return Some(news),
            event = events.next() => news |= is_news(&event?),
        }
    }
}

/// The running watches, by UID of the request.
pub struct Watches {
    client: Client,
    changed: UnboundedSender<ObjectRef<RollbackRequest>>,
    running: Mutex<HashMap<String, AbortHandle>>,
}

impl Watches {
    /// No watches yet. `client` must not have a read timeout; `changed` hears of every change.
    pub fn new(client: Client, changed: UnboundedSender<ObjectRef<RollbackRequest>>) -> Self {
        Self {
            client,
            changed,
            running: Mutex::default(),
        }
    }

    /// Looks after a Deployment for a request, if nobody does yet.
    pub fn start(
        &self,
        uid: &str,
        request: ObjectRef<RollbackRequest>,
        namespace: &str,
        deployment: &str,
    ) {
        let mut running = self.locked();
        if running.contains_key(uid) {
            return;
        }
        let api: Api<PartialObjectMeta<Deployment>> =
            Api::namespaced(self.client.clone(), namespace);
        let only = watcher::Config::default()
            .fields(&format!("metadata.name={deployment}"))
            .timeout(WATCH_SECONDS);
        let changed = self.changed.clone();
        let task = tokio::spawn(async move {
            let mut events = watcher(api, only).default_backoff().boxed();
            let mut news = false;
            loop {
                if news {
                    if changed.send(request.clone()).is_err() {
                        return;
                    }
                    let Some(more) = news_during(PAUSE, &mut events).await else {
                        return;
                    };
                    news = more;
                } else {
                    let Some(event) = events.next().await else {
                        return;
                    };
                    news = is_news(&event);
                }
            }
        });
        running.insert(uid.to_owned(), task.abort_handle());
    }

    /// Ends the watch of a request.
    pub fn stop(&self, uid: &str) {
        if let Some(task) = self.locked().remove(uid) {
            task.abort();
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
