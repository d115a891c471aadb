//! The pods of the version that is coming up, and the Events about them.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, Resource};
use rollback_api::POD_TEMPLATE_HASH;
use rollback_core::health::diagnose::{End, speaks_in_events};
use rollback_core::observed::{LastLog, ReplicaSet};
use rollback_reads::budget::Budget;
use serde_json::Value;

use super::{Error, raw, reading};

/// How many pods are looked at to see why a rollout does not go on.
const MAX_LOOKED_AT: u32 = 50;
/// How many pods that wait for a volume or for a probe are asked about.
const MAX_WAITING: usize = 5;
/// How the kubelet begins when it has no log to give, in an answer that says all is well.
const NO_LOG: &str = "unable to retrieve container logs for ";
/// Most of a log that is read, in bytes: the policy's lines may be long.
const MAX_LOG_BYTES: i64 = 64 * 1024;

/// Pods with the hash of this `ReplicaSet`, as they are served. They explain and decide nothing, so a cache may answer.
pub async fn raw_pods(
    client: &Client,
    namespace: &str,
    replica_set: &ReplicaSet,
    budget: &Budget,
) -> Result<Vec<Value>, Error> {
    let Some(hash) = hash_of(replica_set) else {
        return Ok(Vec::new());
    };
    let labelled = ListParams::default()
        .labels(&format!("{POD_TEMPLATE_HASH}={hash}"))
        .limit(MAX_LOOKED_AT)
        .match_any();
    let url = Pod::url_path(&(), Some(namespace));
    reading("the pods", raw::list(client, url, &labelled, budget).await)
}

/// Events about pods that are not ready: what is wrong with a volume or a probe is said nowhere else. They explain and decide
/// nothing, so that they cannot be read is no reason to stop.
pub async fn events(
    client: &Client,
    namespace: &str,
    pods: &[Value],
    budget: &Budget,
) -> Vec<Value> {
    let mut events = Vec::new();
    for pod in pods
        .iter()
        .filter(|pod| speaks_in_events(pod))
        .take(MAX_WAITING)
    {
        let Some(uid) = pod.pointer("/metadata/uid").and_then(Value::as_str) else {
            continue;
        };
        let about = ListParams::default()
            .fields(&format!("involvedObject.uid={uid}"))
            .limit(MAX_LOOKED_AT);
        let url = Event::url_path(&(), Some(namespace));
        match raw::list(client, url, &about, budget).await {
            Ok(found) => events.extend(found),
            Err(_) => break,
        }
    }
    events
}

/// What the container wrote last before it ended that time. That it cannot be had is no reason to stop: the log may be
/// gone, the kubelet away, or the power to read it not granted.
pub async fn last_log(client: &Client, namespace: &str, end: End, lines: i32) -> LastLog {
    let parameters = LogParams {
        container: Some(end.container.clone()),
        previous: true,
        tail_lines: Some(i64::from(lines)),
        limit_bytes: Some(MAX_LOG_BYTES),
        ..LogParams::default()
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let (text, forbidden) = match api.logs(&end.pod, &parameters).await {
        // Of a container that is gone already, the kubelet says so in the place of its log.
        Ok(text) if text.starts_with(NO_LOG) => (String::new(), false),
        Ok(text) => (text, false),
        Err(kube::Error::Api(status)) => (String::new(), status.is_forbidden()),
        Err(_) => (String::new(), false),
    };
    LastLog {
        end,
        text,
        forbidden,
    }
}

/// The hash that its pods have.
pub fn hash_of(replica_set: &ReplicaSet) -> Option<&str> {
    let labels = replica_set.0.pointer("/metadata/labels")?;
    labels.get(POD_TEMPLATE_HASH)?.as_str()
}
