//! One round of the checks that are due, against the pods of one version and nobody else: a Service may still lead to
//! pods of the other one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use rollback_api::POD_TEMPLATE_HASH;
use rollback_api::policy::HttpCheck;
use rollback_api::status::{PlannedTarget, Rules};
use rollback_core::health::Check;
use rollback_core::observed::{Answer, Found, Heard, PodState, Reading, ReplicaSet, Silence};

use super::service::{self, Endpoint};
use super::{Error, Scope, reading};

/// How many pods one round of one check asks at most.
const MAX_PODS: usize = 10;
/// How many answers one check waits for at the same time.
const AT_ONCE: usize = 10;
/// Longest time for one answer, whatever the check says: a pass has a minute.
const LONGEST: Duration = Duration::from_secs(40);

/// Whom the checks are about.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The rules of the request.
    pub rules: &'a Rules,
    /// Name of the Deployment.
    pub deployment: &'a str,
    /// Since when the bad version runs.
    pub baseline: Option<Timestamp>,
    /// The version whose pods are asked.
    pub replica_set: &'a ReplicaSet,
    /// Longest time for one answer.
    pub limit: Duration,
}

impl<'a> Subject<'a> {
    /// The version that a target has been rolled back to.
    pub fn restored(rules: &'a Rules, target: &'a PlannedTarget, set: &'a ReplicaSet) -> Self {
        Self {
            rules,
            deployment: &target.name,
            baseline: target.from_since,
            replica_set: set,
            limit: LONGEST,
        }
    }
}

/// Makes one round of each check, all at the same time.
pub async fn ask(
    scope: &Scope<'_>,
    subject: Subject<'_>,
    checks: &[Check<'_>],
) -> Result<Vec<Reading>, Error> {
    let needs_pods = checks.iter().any(|check| match check {
        Check::Http(check) => check.url.is_none(),
        Check::Pods(_) => true,
        Check::Number(..) | Check::Job(_) => false,
    });
    let pods = if needs_pods {
        pods(&scope.context.client, scope.namespace, subject.replica_set).await?
    } else {
        Vec::new()
    };
    let rounds: Vec<BoxFuture<'_, Option<Reading>>> = checks
        .iter()
        .map(|check| {
            let round = round(scope, subject, check, &pods);
            Box::pin(round) as BoxFuture<'_, Option<Reading>>
        })
        .collect();
    let readings = futures::future::join_all(rounds).await;
    Ok(readings.into_iter().flatten().collect())
}

async fn round(
    scope: &Scope<'_>,
    subject: Subject<'_>,
    check: &Check<'_>,
    pods: &[Pod],
) -> Option<Reading> {
    let found = match check {
        Check::Http(http) => match &http.url {
            Some(url) => Found::Outside(Err(Silence::Unasked(url.clone()))),
            None => of_pods(scope, subject, http, pods).await,
        },
        Check::Number(server, number) => {
            Found::Number(Err(format!("{} {}", server.url, number.name)))
        }
        Check::Pods(_) => Found::Pods(pods.iter().map(state).collect()),
        // A smoke test is followed, and not asked.
        Check::Job(_) => return None,
    };
    Some(Reading {
        kind: check.kind(),
        check: check.name().to_owned(),
        at: scope.now,
        found,
    })
}

/// Asks every pod, at its own port or at the one that the Service leads to.
async fn of_pods(
    scope: &Scope<'_>,
    subject: Subject<'_>,
    check: &HttpCheck,
    pods: &[Pod],
) -> Found {
    let endpoints = match &check.service {
        None => own_port(check, pods),
        Some(name) => {
            let uids: BTreeSet<String> = pods.iter().filter_map(ResourceExt::uid).collect();
            let port = check.port.unwrap_or_default();
            let client = &scope.context.client;
            match service::endpoints(client, scope.namespace, name, port, &uids).await {
                Ok(endpoints) => endpoints,
                Err(why) => return Found::Outside(Err(Silence::Unasked(why))),
            }
        }
    };
    let asked: Vec<_> = endpoints
        .into_iter()
        .take(MAX_PODS)
        .map(|endpoint| ask_one(scope, subject, check, endpoint))
        .collect();
    let answers = futures::stream::iter(asked).buffered(AT_ONCE).collect();
    Found::Answers(answers.await)
}

fn own_port(check: &HttpCheck, pods: &[Pod]) -> Vec<Endpoint> {
    let Some(port) = check.port.and_then(|port| u16::try_from(port).ok()) else {
        return Vec::new();
    };
    pods.iter()
        .filter(|pod| is_ready(pod))
        .filter_map(|pod| {
            Some(Endpoint {
                pod: pod.name_any(),
                address: address(pod)?,
                port,
            })
        })
        .collect()
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

async fn ask_one(
    scope: &Scope<'_>,
    subject: Subject<'_>,
    check: &HttpCheck,
    endpoint: Endpoint,
) -> Answer {
    let context = scope.context;
    let result = if context.networks.allow(endpoint.address) {
        let at = std::net::SocketAddr::new(endpoint.address, endpoint.port);
        let url = format!("http://{at}{}", check.path());
        let limit = seconds(check.timeout_seconds).min(subject.limit);
        match context.http.get(url).timeout(limit).send().await {
            Ok(response) => Ok(Heard {
                status: response.status().as_u16(),
                body_matches: None,
            }),
            Err(error) if error.is_timeout() => {
                Err(Silence::Unanswered("no answer in time".to_owned()))
            }
            Err(_) => Err(Silence::Unanswered(
                "connection refused or unreachable".to_owned(),
            )),
        }
    } else {
        Err(Silence::Unasked(format!(
            "{} is outside the networks that --probe-networks allows",
            endpoint.address
        )))
    };
    Answer {
        pod: endpoint.pod,
        result,
    }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
}

/// The pods of this `ReplicaSet` that are not on their way out.
async fn pods(
    client: &Client,
    namespace: &str,
    replica_set: &ReplicaSet,
) -> Result<Vec<Pod>, Error> {
    let labels = replica_set.0.pointer("/metadata/labels");
    let hash = labels.and_then(|labels| labels.get(POD_TEMPLATE_HASH)?.as_str());
    let Some(hash) = hash else {
        return Ok(Vec::new());
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{POD_TEMPLATE_HASH}={hash}"));
    let pods = reading("the pods", api.list(&labelled).await)?;
    let is_meant = |pod: &Pod| {
        let owners = pod.owner_references();
        pod.metadata.deletion_timestamp.is_none()
            && owners
                .iter()
                .any(|owner| owner.controller == Some(true) && owner.uid == replica_set.uid())
    };
    Ok(pods.items.into_iter().filter(is_meant).collect())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

fn state(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let containers = status
        .into_iter()
        .flat_map(|status| [&status.init_container_statuses, &status.container_statuses])
        .flatten()
        .flatten();
    PodState {
        name: pod.name_any(),
        ready: is_ready(pod),
        restarts: containers.map(|one| i64::from(one.restart_count)).sum(),
    }
}
