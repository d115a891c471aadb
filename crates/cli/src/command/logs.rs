//! `status -w --logs`: the logs of the new pods as they come, and what these pods use where that is measured. A pod whose
//! logs cannot be read is told once.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncReadExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ListParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rollback_api::RollbackRequest;
use rollback_reads::budget::Budget;
use rollback_reads::{get, history};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::clean;

/// How many lines wait to be printed. When they are not taken, no more are read.
const WAITING: usize = 256;
/// Longest line that is read as one, in bytes. What is printed of it is shorter.
const LONGEST: usize = 16 << 10;
/// How many of the lines are read that were there before somebody looked.
const TAIL: i64 = 50;
/// How often it is asked what pods use. Metrics servers measure about as often.
const PERIOD: Duration = Duration::from_secs(15);
/// How much memory the answers may take.
const MEMORY: usize = 16 << 20;
/// By how much the clocks of those who write times may differ.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// The logs of one request.
pub struct Logs {
    client: Client,
    namespace: String,
    lines: Receiver<String>,
    sender: Sender<String>,
    followed: BTreeSet<String>,
    /// Ended when this is dropped.
    tasks: JoinSet<()>,
}

/// The new pods of one Deployment.
struct Pods {
    client: Client,
    namespace: String,
    deployment: String,
    /// Older pods are not new.
    since: Timestamp,
    /// The names of those that have come.
    new: watch::Sender<BTreeSet<String>>,
    sender: Sender<String>,
}

impl Logs {
    /// Of nothing yet.
    pub fn new(cluster: &Cluster) -> Self {
        let (sender, lines) = channel(WAITING);
        Self {
            client: cluster.client.clone(),
            namespace: cluster.namespace.clone(),
            lines,
            sender,
            followed: BTreeSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Begins with the Deployments that were begun since the last look.
    pub fn look(&mut self, request: &RollbackRequest) {
        let targets = request.status.iter().flat_map(|status| &status.targets);
        for target in targets {
            let Some(begun) = &target.begun else {
                continue;
            };
            if !self.followed.insert(target.name.clone()) {
                continue;
            }
            let since = begun.at.saturating_sub(SLACK).unwrap_or(begun.at);
            let pods = Pods {
                client: self.client.clone(),
                namespace: self.namespace.clone(),
                deployment: target.name.clone(),
                since,
                new: watch::Sender::default(),
                sender: self.sender.clone(),
            };
            self.tasks.spawn(pods.follow());
        }
    }

    /// The next line.
    pub async fn next(&mut self) -> String {
        match self.lines.recv().await {
            Some(line) => line,
            // We hold a sender, so this never comes.
            None => std::future::pending().await,
        }
    }

    /// The lines that are there already.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }
}

impl Pods {
    async fn follow(self) {
        let budget = Budget::of(MEMORY);
        let read = get::deployment(&self.client, &self.namespace, &self.deployment, &budget).await;
        let deployment = match read {
            Ok(Some(deployment)) => deployment,
            Ok(None) => return,
            Err(error) => {
                return self
                    .say(&self.deployment, &cannot("looked at", error))
                    .await;
            }
        };
        let Some(selector) = history::selector(&deployment) else {
            return;
        };
        let labels = selector.to_string();
        futures::join!(self.logs(&labels), self.usage(&labels));
    }

    /// A line of ours, not of the pod.
    async fn say(&self, who: &str, line: &str) {
        // Nobody listens any more when the command ends.
        drop(self.sender.send(format!("{}: {line}", clean(who))).await);
    }

    async fn logs(&self, labels: &str) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let wanted = watcher::Config::default().labels(labels);
        let mut pods = pin!(
            watcher(api.clone(), wanted)
                .default_backoff()
                .applied_objects()
        );
        let (mut begun, mut streams) = (BTreeSet::new(), JoinSet::new());
        while let Some(pod) = pods.next().await {
            let pod = match pod {
                Ok(pod) => pod,
                Err(error) if is_forbidden(&error) => {
                    return self
                        .say(
                            &self.deployment,
                            "you may not look at its pods, so there are no logs",
                        )
                        .await;
                }
                // It is tried again; that the connection is lost is said of the request.
                Err(_) => continue,
            };
            if !self.is_new(&pod) {
                continue;
            }
            self.new.send_if_modified(|new| new.insert(pod.name_any()));
            let many = pod.spec.as_ref().map_or(0, |spec| {
                spec.containers.len() + spec.init_containers.iter().flatten().count()
            }) > 1;
            for status in statuses(&pod).filter(|it| has_run(it)) {
                let key = (pod.uid(), status.name.clone(), status.restart_count);
                if begun.insert(key) {
                    let stream = Stream {
                        api: api.clone(),
                        pod: pod.name_any(),
                        container: status.name.clone(),
                        many,
                        sender: self.sender.clone(),
                    };
                    streams.spawn(stream.follow());
                }
            }
        }
    }

    fn is_new(&self, pod: &Pod) -> bool {
        let created = pod.creation_timestamp().map(|at| at.0);
        created.is_some_and(|at| at >= self.since)
    }

    /// Asks whenever a pod has come, and after a while again. Until it is not served, or nobody may ask: that is nothing
    /// to be said.
    async fn usage(&self, labels: &str) {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}", self.namespace);
        let mut new = self.new.subscribe();
        loop {
            let waited = tokio::time::timeout(PERIOD, new.changed()).await;
            if matches!(waited, Ok(Err(_))) {
                return;
            }
            let names = new.borrow_and_update().clone();
            if names.is_empty() {
                continue;
            }
            let listed = ListParams::default().labels(labels);
            let request = kube::core::Request::new(format!("{path}/pods")).list(&listed);
            let Ok(request) = request else {
                return;
            };
            let Ok(found) = get::send(&self.client, request, &Budget::of(MEMORY)).await else {
                return;
            };
            let is_new = |pod: &&Value| {
                let name = pod.pointer("/metadata/name").and_then(Value::as_str);
                name.is_some_and(|name| names.contains(name))
            };
            let pods = found["items"].as_array().into_iter().flatten();
            for line in pods.filter(is_new).filter_map(used) {
                drop(self.sender.send(line).await);
            }
        }
    }
}

/// What a pod uses, as it is measured: `api-5d4f uses CPU 12m, memory 34Mi`, with the container where there are several.
fn used(pod: &Value) -> Option<String> {
    let name = pod.pointer("/metadata/name")?.as_str()?;
    let containers = pod["containers"].as_array()?;
    let one = |container: &Value| {
        let text = |pointer: &str| container.pointer(pointer)?.as_str().map(clean);
        let (cpu, memory) = (text("/usage/cpu")?, text("/usage/memory")?);
        let of = match containers.len() {
            1 => String::new(),
            _ => format!("{}: ", text("/name")?),
        };
        Some(format!("{of}CPU {cpu}, memory {memory}"))
    };
    let parts: Vec<String> = containers.iter().filter_map(one).collect();
    (!parts.is_empty()).then(|| format!("{} uses {}", clean(name), parts.join("; ")))
}

/// One container, the time that it runs.
struct Stream {
    api: Api<Pod>,
    pod: String,
    container: String,
    many: bool,
    sender: Sender<String>,
}

impl Stream {
    async fn follow(self) {
        let wanted = LogParams {
            follow: true,
            container: Some(self.container.clone()),
            tail_lines: Some(TAIL),
            ..LogParams::default()
        };
        match self.api.log_stream(&self.pod, &wanted).await {
            Ok(stream) => self.lines(stream).await,
            Err(error) => {
                self.send(&cannot("read", error)).await;
            }
        }
    }

    /// Whether somebody still listens.
    async fn send(&self, line: &str) -> bool {
        let container = if self.many {
            format!("/{}", clean(&self.container))
        } else {
            String::new()
        };
        let line = format!("{}{container}: {}", clean(&self.pod), clean(line));
        self.sender.send(line).await.is_ok()
    }

    async fn lines(&self, stream: impl AsyncBufRead) {
        let mut stream = pin!(stream);
        let (mut bytes, mut begun) = ([0; 4096], Vec::new());
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            for line in split(&mut begun, &bytes[..read]) {
                if !self.send(&line).await {
                    return;
                }
            }
        }
        if !begun.is_empty() {
            self.send(&String::from_utf8_lossy(&begun)).await;
        }
    }
}

/// The lines that are whole with these bytes; the rest is kept. One that is too long is cut.
fn split(begun: &mut Vec<u8>, bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for byte in bytes {
        let is_end = *byte == b'\n';
        if !is_end {
            begun.push(*byte);
        }
        if is_end || begun.len() >= LONGEST {
            lines.push(String::from_utf8_lossy(begun).into_owned());
            begun.clear();
        }
    }
    lines
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    // Those that come first too: a migration, or a sidecar that starts before the rest.
    status.flat_map(|it| {
        let first = it.init_container_statuses.iter().flatten();
        first.chain(it.container_statuses.iter().flatten())
    })
}

/// Whether there is anything to read of it, now or from the time before it crashed.
fn has_run(status: &ContainerStatus) -> bool {
    let mut now_and_before = status.state.iter().chain(&status.last_state);
    now_and_before.any(|state| state.running.is_some() || state.terminated.is_some())
}

fn cannot(what: &str, error: kube::Error) -> String {
    format!("its logs cannot be {what}: {}", Error::from(error))
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_none_is_endless() {
        let mut begun = Vec::new();
        assert!(split(&mut begun, b"half").is_empty());
        assert_eq!(split(&mut begun, b" a line\n\nnext"), ["half a line", ""]);
        begun.clear();
        let lines = split(&mut begun, &vec![b'x'; 2 * LONGEST + 1]);
        assert_eq!(lines.len(), 2);
        assert_eq!(begun.len(), 1);
    }

    #[test]
    fn what_a_pod_uses_is_one_line() {
        let pod = serde_json::json!({"metadata": {"name": "api\u{1b}[2J"}, "containers": [
            {"name": "app", "usage": {"cpu": "12m", "memory": "34Mi"}},
        ]});
        assert_eq!(used(&pod).unwrap(), "api [2J uses CPU 12m, memory 34Mi");
        assert_eq!(used(&serde_json::json!({})), None);
    }
}
