//! One round of the checks that are due, against the pods of one version and nobody else: a Service may still lead to
//! pods of the other one.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use rollback_api::POD_TEMPLATE_HASH;
use rollback_api::policy::{HttpCheck, Prometheus, PrometheusCheck, Scheme};
use rollback_api::status::{PlannedTarget, Rules};
use rollback_core::health::Check;
use rollback_core::health::promql::{self, Names};
use rollback_core::observed::{Answer, Found, HttpAnswer, NoAnswer, PodState, Reading, ReplicaSet};
use rollback_probe::Failure;
use rollback_probe::allow::AllowList;
use rollback_probe::http::How;

use super::pods::hash_of;
use super::service::{self, Endpoint};
use super::{Error, RequestScope, reading};

/// How many pods one round of one check asks at most.
const MAX_PODS: usize = 10;
/// How many pods one page of a list has.
const PAGE: u32 = 200;
/// How many pods of one version are looked at.
const MOST_PODS: usize = 5000;
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
            deployment: &target.workload.name,
            baseline: target.from_since,
            replica_set: set,
            limit: LONGEST,
        }
    }
}

/// Makes one round of each check, all at the same time.
pub async fn ask(
    scope: &RequestScope<'_>,
    subject: Subject<'_>,
    checks: &[Check<'_>],
) -> Result<Vec<Reading>, Error> {
    let needs_pods = checks.iter().any(|check| match check {
        Check::Http(check) => check.url.is_none(),
        Check::Pods(_) => true,
        Check::Number(..) | Check::Job(_) => false,
    });
    let pods = if needs_pods {
        pods(scope.reader.client, scope.namespace, subject.replica_set).await?
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
    scope: &RequestScope<'_>,
    subject: Subject<'_>,
    check: &Check<'_>,
    pods: &[Pod],
) -> Option<Reading> {
    let found = match check {
        Check::Http(http) => match &http.url {
            Some(url) => Found::Outside(outside(scope, subject, http, url).await),
            None => of_pods(scope, subject, http, pods).await,
        },
        Check::Number(server, number) => {
            Found::Number(ask_number(scope, subject, server, number).await)
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
    scope: &RequestScope<'_>,
    subject: Subject<'_>,
    check: &HttpCheck,
    pods: &[Pod],
) -> Found {
    let endpoints = match &check.service {
        None if check.is_readiness_probe() => match as_probed(pods) {
            Some(asked) => asked,
            None => return Found::Outside(Err(NoAnswer::NotAsked(NO_PROBE.to_owned()))),
        },
        None => with(&Asked::of(check), own_port(check, pods)),
        Some(name) => {
            let port = check.port.unwrap_or_default();
            let client = scope.reader.client;
            match service::endpoints(client, scope.namespace, name, port, pods).await {
                Ok(endpoints) => with(&Asked::of(check), endpoints),
                Err(why) => return Found::Outside(Err(NoAnswer::NotAsked(why))),
            }
        }
    };
    let asked: Vec<_> = endpoints
        .into_iter()
        .take(MAX_PODS)
        .map(|(endpoint, asked)| ask_one(scope, subject, check, endpoint, asked))
        .collect();
    let answers = futures::stream::iter(asked).buffered(AT_ONCE).collect();
    Found::Answers(answers.await)
}

/// Why a pod is not asked as its kubelet does.
const NO_PROBE: &str = "preset ReadinessProbe: no container of the new pods has a readinessProbe with httpGet; say port and path instead";

/// What a pod is asked for, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    path: String,
    how: How,
}

impl Asked {
    /// As the check says.
    fn of(check: &HttpCheck) -> Self {
        let headers = check.headers.iter();
        Self {
            path: check.path().to_owned(),
            how: How {
                tls: check.scheme == Some(Scheme::Https),
                host: check.host.clone(),
                headers: headers
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
            },
        }
    }
}

fn with(asked: &Asked, endpoints: Vec<Endpoint>) -> Vec<(Endpoint, Asked)> {
    let each = endpoints.into_iter();
    each.map(|endpoint| (endpoint, asked.clone())).collect()
}

/// The ready pods, each as its kubelet asks it; `None` when none is asked by HTTP.
fn as_probed(pods: &[Pod]) -> Option<Vec<(Endpoint, Asked)>> {
    let mut ways = pods
        .iter()
        .filter_map(|pod| Some((pod, probed(pod)?)))
        .peekable();
    ways.peek()?;
    let ready = ways.filter(|(pod, _)| is_ready(pod));
    Some(
        ready
            .filter_map(|(pod, (port, asked))| Some((Endpoint::of(pod, None, port)?, asked)))
            .collect(),
    )
}

/// The port and the rest of the first `readinessProbe` of a pod that asks by HTTP.
fn probed(pod: &Pod) -> Option<(u16, Asked)> {
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let (container, get) =
        containers.find_map(|it| Some((it, it.readiness_probe.as_ref()?.http_get.as_ref()?)))?;
    let port = match &get.port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports
                .find(|port| port.name.as_ref() == Some(name))?
                .container_port
        }
    };
    let (mut host, mut headers) = (None, Vec::new());
    for header in get.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            host = Some(header.value.clone());
        } else {
            headers.push((header.name.clone(), header.value.clone()));
        }
    }
    // Without a '/' the kubelet puts one there.
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let tls = get.scheme.as_deref() == Some("HTTPS");
    let how = How { tls, host, headers };
    Some((u16::try_from(port).ok()?, Asked { path, how }))
}

fn own_port(check: &HttpCheck, pods: &[Pod]) -> Vec<Endpoint> {
    let Some(port) = check.port.and_then(|port| u16::try_from(port).ok()) else {
        return Vec::new();
    };
    pods.iter()
        .filter(|pod| is_ready(pod))
        .filter_map(|pod| Endpoint::of(pod, None, port))
        .collect()
}

fn limit(subject: Subject<'_>, asked: i32) -> Duration {
    seconds(asked).min(subject.limit)
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
}

async fn ask_one(
    scope: &RequestScope<'_>,
    subject: Subject<'_>,
    check: &HttpCheck,
    endpoint: Endpoint,
    asked: Asked,
) -> Answer {
    let text = check.body_contains.as_deref();
    let limit = limit(subject, check.timeout_seconds);
    let answer = scope
        .reader
        .probe
        .pod_by(
            endpoint.address,
            endpoint.port,
            &asked.path,
            &asked.how,
            text,
            limit,
        )
        .await;
    Answer {
        pod: endpoint.pod,
        result: heard(answer),
    }
}

async fn outside(
    scope: &RequestScope<'_>,
    subject: Subject<'_>,
    check: &HttpCheck,
    url: &str,
) -> Result<HttpAnswer, NoAnswer> {
    let entries = subject
        .rules
        .verification
        .external_urls
        .iter()
        .map(String::as_str);
    let allowed = AllowList::parse(entries).map_err(|(position, oddity)| {
        NoAnswer::NotAsked(format!(
            "verification.externalUrls[{position}] of the policy: {oddity}"
        ))
    })?;
    let text = check.body_contains.as_deref();
    let limit = limit(subject, check.timeout_seconds);
    heard(
        scope
            .reader
            .probe
            .external(url, &allowed, text, limit)
            .await,
    )
}

fn heard(answer: Result<rollback_probe::http::Answer, Failure>) -> Result<HttpAnswer, NoAnswer> {
    match answer {
        Ok(answer) => Ok(HttpAnswer {
            status: answer.status,
            body_matches: answer.body_matches,
        }),
        Err(Failure::NotAllowed(refusal)) => Err(NoAnswer::NotAsked(refusal.to_string())),
        Err(failure @ Failure::Unresolvable { .. }) => Err(NoAnswer::NotAsked(failure.to_string())),
        Err(failure) => Err(NoAnswer::Unanswered(failure.to_string())),
    }
}

async fn ask_number(
    scope: &RequestScope<'_>,
    subject: Subject<'_>,
    server: &Prometheus,
    check: &PrometheusCheck,
) -> Result<f64, String> {
    let names = Names {
        namespace: scope.namespace,
        deployment: subject.deployment,
        replica_set: subject.replica_set.name(),
        baseline_at: subject.baseline,
        window_seconds: u32::try_from(check.window_seconds)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN),
    };
    let query = match (check.preset, &check.query) {
        (Some(preset), _) => promql::query(preset, &names),
        (None, Some(own)) => promql::expand(own, &names),
        (None, None) => return Err("the check has no query".to_owned()),
    };
    let query = query.map_err(|missing| missing.to_string())?;
    let limit = limit(subject, check.timeout_seconds);
    let number = scope.reader.probe.query(&server.url, &query, limit).await;
    number.map_err(|unknown| unknown.to_string())
}

/// The pods of this `ReplicaSet` that are not on their way out.
async fn pods(
    client: &Client,
    namespace: &str,
    replica_set: &ReplicaSet,
) -> Result<Vec<Pod>, Error> {
    let Some(hash) = hash_of(replica_set) else {
        return Ok(Vec::new());
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut page = ListParams::default()
        .labels(&format!("{POD_TEMPLATE_HASH}={hash}"))
        .limit(PAGE);
    let is_meant = |pod: &Pod| {
        let owners = pod.owner_references();
        pod.metadata.deletion_timestamp.is_none()
            && owners
                .iter()
                .any(|owner| owner.controller == Some(true) && owner.uid == replica_set.uid())
    };
    let mut pods = Vec::new();
    loop {
        let list = reading("the pods", api.list(&page).await)?;
        pods.extend(list.items.into_iter().filter(is_meant));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if pods.len() < MOST_PODS => page = page.continue_token(&token),
            Some(_) | None => return Ok(pods),
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(containers: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "api-1"}, "spec": {"containers": containers},
            "status": {"podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_asked_as_its_kubelet_does() {
        let probe = json!({"httpGet": {
            "path": "ready", "port": "web", "scheme": "HTTPS",
            "httpHeaders": [{"name": "HOST", "value": "shop.example"}, {"name": "X-Probe", "value": "1"}],
        }});
        let sidecar = json!({"name": "sidecar", "readinessProbe": {"tcpSocket": {"port": 1}}});
        let app = json!({"name": "app", "readinessProbe": probe,
            "ports": [{"name": "admin", "containerPort": 9000}, {"name": "web", "containerPort": 8443}]});
        let asked = as_probed(&[pod(&json!([sidecar, app]))]).unwrap();
        let (endpoint, asked) = &asked[0];
        assert_eq!((endpoint.port, asked.path.as_str()), (8443, "/ready"));
        let how = How {
            tls: true,
            host: Some("shop.example".to_owned()),
            headers: vec![("X-Probe".to_owned(), "1".to_owned())],
        };
        assert_eq!(asked.how, how);
    }

    #[test]
    fn a_plain_probe_is_a_plain_question() {
        let app = json!([{"name": "app", "readinessProbe": {"httpGet": {"port": 8080}}}]);
        let asked = as_probed(&[pod(&app)]).unwrap();
        assert_eq!((asked[0].0.port, asked[0].1.path.as_str()), (8080, "/"));
        assert_eq!(asked[0].1.how, How::default());
    }

    #[test]
    fn without_such_a_probe_nobody_is_asked() {
        let command = json!({"exec": {"command": ["true"]}});
        assert_eq!(
            as_probed(&[pod(&json!([{"name": "app", "readinessProbe": command}]))]),
            None
        );
        assert_eq!(as_probed(&[]), None);
        // A name that no port has.
        let app = json!([{"name": "app", "readinessProbe": {"httpGet": {"port": "web"}}}]);
        assert_eq!(as_probed(&[pod(&app)]), None);
    }
}
