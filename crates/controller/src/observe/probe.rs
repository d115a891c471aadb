//! HTTP checks against the pods of the old version, and not against a Service that may still lead to
//! pods of the bad one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::POD_TEMPLATE_HASH;
use rollback_api::policy::HttpCheck;
use rollback_core::diagnose::speaks_in_events;
use rollback_core::observed::{Answer, Reading, ReplicaSet};

use serde_json::Value;

use super::{Error, raw, reading};
use crate::context::Context;

/// How many pods one round asks at most.
const MAX_PODS: usize = 10;
/// How many answers one round waits for at the same time.
const AT_ONCE: usize = 10;

/// How many pods are looked at to see why a rollout does not go on.
const MAX_LOOKED_AT: u32 = 50;
/// How many pods that wait for a volume are asked about.
const MAX_WAITING: usize = 5;

/// Pods with the hash of this `ReplicaSet`, as they are served. They explain and decide nothing, so a cache may answer.
pub async fn raw_pods(
    client: &Client,
    namespace: &str,
    replica_set: &ReplicaSet,
) -> Result<Vec<Value>, Error> {
    let Some(hash) = hash_of(replica_set) else {
        return Ok(Vec::new());
    };
    let labelled = ListParams::default()
        .labels(&format!("{POD_TEMPLATE_HASH}={hash}"))
        .limit(MAX_LOOKED_AT)
        .match_any();
    let url = Pod::url_path(&(), Some(namespace));
    reading("the pods", raw::list(client, url, &labelled).await)
}

/// Events about pods that wait for their containers: what is wrong with a volume is said nowhere else. That they
/// cannot be read is no reason to stop.
pub async fn mount_events(
    client: &Client,
    namespace: &str,
    pods: &[Value],
) -> Result<Vec<Value>, Error> {
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
        match raw::list(client, url, &about).await {
            Ok(found) => events.extend(found),
            Err(kube::Error::Api(status)) if status.is_forbidden() => break,
            Err(source) => return reading("the Events", Err(source)),
        }
    }
    Ok(events)
}

fn hash_of(replica_set: &ReplicaSet) -> Option<&str> {
    let labels = replica_set.0.pointer("/metadata/labels")?;
    labels.get(POD_TEMPLATE_HASH)?.as_str()
}

/// A pod that can be asked.
pub struct Target {
    name: String,
    address: IpAddr,
}

/// Ready pods of this `ReplicaSet`, at most [`MAX_PODS`].
pub async fn pods(
    client: &Client,
    namespace: &str,
    replica_set: &ReplicaSet,
) -> Result<Vec<Target>, Error> {
    let Some(hash) = hash_of(replica_set) else {
        return Ok(Vec::new());
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{POD_TEMPLATE_HASH}={hash}"));
    let pods = reading("the pods", api.list(&labelled).await)?;
    Ok(pods
        .items
        .iter()
        .filter(|pod| belongs_to(pod, replica_set) && is_ready(pod))
        .filter_map(|pod| {
            let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
            Some(Target {
                name: pod.name_any(),
                address,
            })
        })
        .take(MAX_PODS)
        .collect())
}

fn belongs_to(pod: &Pod, replica_set: &ReplicaSet) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == replica_set.uid())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True")
        })
}

/// Asks every pod, one round for each check.
pub async fn ask(
    context: &Context,
    checks: &[HttpCheck],
    pods: &[Target],
    now: Timestamp,
) -> Vec<Reading> {
    let mut readings = Vec::with_capacity(checks.len());
    for check in checks {
        let asked: Vec<_> = pods
            .iter()
            .map(|pod| ask_one(context, check, pod))
            .collect();
        let answers = futures::stream::iter(asked)
            .buffered(AT_ONCE)
            .collect()
            .await;
        readings.push(Reading {
            check: check.name.clone(),
            at: now,
            answers,
        });
    }
    readings
}

/// One GET. The body is not read: nothing of it may end up in a status or a log.
async fn ask_one(context: &Context, check: &HttpCheck, pod: &Target) -> Answer {
    let result = match u16::try_from(check.port.unwrap_or_default()) {
        Ok(port) if context.networks.allow(pod.address) => {
            let url = format!(
                "http://{}{}",
                SocketAddr::new(pod.address, port),
                check.path()
            );
            let limit = Duration::from_secs(u64::try_from(check.timeout_seconds).unwrap_or(1));
            match context.http.get(url).timeout(limit).send().await {
                Ok(response) => Ok(response.status().as_u16()),
                Err(error) => Err(describe(&error)),
            }
        }
        Ok(_) => Err(format!(
            "{} is outside the networks that --probe-networks allows",
            pod.address
        )),
        Err(_) => Err("the check names no port".to_owned()),
    };
    Answer {
        pod: pod.name.clone(),
        result,
    }
}

fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "connection refused or unreachable".to_owned()
    } else {
        "the answer is not HTTP".to_owned()
    }
}
