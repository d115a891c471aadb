//! New versions under analysis: while a Deployment that opts in rolls out, its pods are watched, and when they show that the
//! version is to blame, its rollback is asked for.
//!
//! There is no watch on the pods of the cluster. The recorder's watch of the Deployments tells which of them are not
//! complete; those that opt in get an analysis of their own, which ends when the version is well, or when it has been asked
//! about. What is asked for goes the way of every request, in the name of a `ServiceAccount` that can do nothing else.

mod identity;
mod version;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::Client;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, JoinSet};

pub use identity::Identity;
use version::Version;

use crate::context::Context;
use crate::record::Name;
use crate::shares::Shares;

/// How long after an analysis that ended with news of its Deployment the next one begins.
const PAUSE: Duration = Duration::from_millis(250);

/// A Deployment that opts in has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub name: Name,
    /// Digest of its pod template.
    pub digest: String,
    /// Whether every replica runs its template and is available.
    pub complete: bool,
}

/// An analysis.
struct Running {
    /// Tells it that its Deployment has changed.
    changed: Arc<Notify>,
    task: AbortHandle,
}

/// What came of an analysis.
struct Ended {
    name: Name,
    /// Digest of the version whose rollback was asked for.
    asked: Option<String>,
}

/// The analyses that run.
struct Analyses {
    context: Arc<Context>,
    watches: Client,
    identity: Arc<Identity>,
    /// Each analysis needs one. Who waits has none, so a namespace with many does not keep others from theirs.
    slots: Arc<Shares>,
    running: HashMap<Name, Running>,
    /// The version of each Deployment whose rollback was asked for last, until the Deployment is complete again.
    asked: HashMap<Name, String>,
    tasks: JoinSet<Ended>,
}

/// Analyses while this controller leads. Never ends.
pub async fn run(
    context: Arc<Context>,
    watches: Client,
    identity: Identity,
    slots: Arc<Shares>,
    mut changes: UnboundedReceiver<Change>,
) {
    let mut analyses = Analyses {
        context,
        watches,
        identity: Arc::new(identity),
        slots,
        running: HashMap::new(),
        asked: HashMap::new(),
        tasks: JoinSet::new(),
    };
    loop {
        tokio::select! {
            Some(change) = changes.recv() => analyses.take(change),
            Some(ended) = analyses.tasks.join_next() => analyses.close(ended),
            else => std::future::pending().await,
        }
    }
}

impl Analyses {
    fn take(&mut self, change: Change) {
        let Change {
            name,
            digest,
            complete,
        } = change;
        if complete {
            self.asked.remove(&name);
        }
        if let Some(running) = self.running.get(&name) {
            running.changed.notify_one();
        } else if !complete && self.asked.get(&name) != Some(&digest) {
            self.open(name, Duration::ZERO);
        }
    }

    fn open(&mut self, name: Name, pause: Duration) {
        let changed = Arc::new(Notify::new());
        let version = Version {
            context: self.context.clone(),
            watches: self.watches.clone(),
            identity: self.identity.clone(),
            name: name.clone(),
            changed: changed.clone(),
            asked_before: self.asked.get(&name).cloned(),
        };
        let slots = self.slots.clone();
        let of = name.clone();
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            let _slot = slots.take(&of.namespace).await;
            let asked = Box::pin(version.analyse()).await;
            Ended { name: of, asked }
        });
        self.running.insert(name, Running { changed, task });
    }

    fn close(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "an analysis ended unexpectedly");
                self.running
                    .retain(|_, running| !running.task.is_finished());
                return;
            }
        };
        if let Some(digest) = ended.asked {
            self.asked.insert(ended.name.clone(), digest);
        }
        let Some(running) = self.running.remove(&ended.name) else {
            return;
        };
        // What happened after its last look.
        if running.changed.notified().now_or_never().is_some() {
            self.open(ended.name, PAUSE);
        }
    }
}
