//! How it is shown that a version is well.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChecklistItem, JobTemplate, fifteen, five, five_minutes, ok, two, two_minutes};

/// How it is shown that the old version is well.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Seconds from the end of the rollout until every check must have passed.
    #[serde(default = "two_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: i32,

    /// Seconds for which the old version is watched after its checks have passed. Whoever brings the bad version back
    /// in this time is named.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86_400))]
    pub soak_seconds: i32,

    /// HTTP checks: against the new pods, also those behind a Service, or of an address outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub http: Vec<HttpCheck>,

    /// Addresses outside the cluster that HTTP checks may ask, by their beginning: `https://status.example.com/health`
    /// stands for that path and everything below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("items" = {"type": "string", "maxLength": 500}))]
    pub external_urls: Vec<String>,

    /// Checks of numbers that Prometheus knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,

    /// Check of the new pods themselves: each is ready and does not restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCheck>,

    /// Smoke tests, each a Job that runs once the old version is up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jobs: Vec<JobTemplate>,

    /// What people check by hand, for the report. Defaults to the usual list of a shop; `[]` means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub manual: Option<Vec<ChecklistItem>>,

    /// What to do when the old version is not well either.
    #[serde(default)]
    pub on_failure: OnUnwell,
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            timeout_seconds: two_minutes(),
            soak_seconds: 0,
            http: Vec::new(),
            external_urls: Vec::new(),
            prometheus: None,
            pods: None,
            jobs: Vec::new(),
            manual: None,
            on_failure: OnUnwell::default(),
        }
    }
}

/// What to do when the old version is not well either. Never more than one thing, and never twice.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnwell {
    /// Leave it as it is, and call for people.
    #[default]
    Escalate,
    /// Try one version that is older still; it is in the plan, so it is approved with it.
    TryOlder,
    /// Bring back what was there before the rollback.
    Restore,
}

/// One HTTP GET that must be answered well: by each of the new pods at a port of theirs, by those of them that a Service
/// leads to, or by an address outside.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.url) ? !has(self.port) && !has(self.service) && !has(self.path) && !has(self.preset) : has(self.path) != has(self.preset) && (has(self.port) || has(self.preset) && self.preset == 'ReadinessProbe')")
        .message("say whom to ask: port (and service, for the port of a Service) with exactly one of path and preset, preset ReadinessProbe alone, or url alone"),
    validation = Rule::new("!has(self.preset) || self.preset != 'ReadinessProbe' || !(has(self.port) || has(self.service) || has(self.scheme) || has(self.host) || has(self.headers))")
        .message("preset ReadinessProbe asks as the container's own readinessProbe does: leave port, service, scheme, host and headers out, or say path and port yourself"),
    validation = Rule::new("!has(self.url) || !(has(self.scheme) || has(self.host))")
        .message("url says the scheme and the host itself: leave scheme and host out")
)]
pub struct HttpCheck {
    /// Name of the check, for the report.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Port of the pod, or of the Service when one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,

    /// Name of a Service in the namespace: those of the new pods are asked that it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub service: Option<String>,

    /// Path, for example `/health/ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^/[!-~]*$"))]
    pub path: Option<String>,

    /// One of the usual paths, instead of `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Endpoint>,

    /// How pods are asked. Over HTTPS any certificate will do, as for a kubelet: it is the pod's own. Defaults to `HTTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,

    /// What the header `Host` says, and over HTTPS the name that is asked for, for pods that serve several hosts. Defaults to
    /// the address of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub host: Option<String>,

    /// More headers for pods. They are shown in plans and reports, so they are no place for a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HttpHeader>,

    /// An address outside the cluster that `externalUrls` of the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), regex(pattern = r"^https?://[!-~]+$"))]
    pub url: Option<String>,

    /// Status code that means well.
    #[serde(default = "ok")]
    #[schemars(range(min = 100, max = 599))]
    pub expected_status: i32,

    /// What the body of the answer must contain, within its first 64 KiB. The body itself is kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub body_contains: Option<String>,

    /// How many rounds in a row every pod must answer well.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 20))]
    pub consecutive_successes: i32,

    /// Seconds between two rounds.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i32,

    /// Seconds that one answer may take.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i32,
}

impl HttpCheck {
    /// Whether it asks as the kubelet does.
    pub fn is_readiness_probe(&self) -> bool {
        self.preset == Some(Endpoint::ReadinessProbe)
    }

    /// Whether an answer with this status is well.
    pub fn takes(&self, status: u16) -> bool {
        if self.is_readiness_probe() {
            (200..400).contains(&status)
        } else {
            i32::from(status) == self.expected_status
        }
    }

    /// The status that is expected, for messages.
    pub fn expects(&self) -> String {
        if self.is_readiness_probe() {
            "200 to 399".to_owned()
        } else {
            self.expected_status.to_string()
        }
    }

    /// The path to ask for.
    pub fn path(&self) -> &str {
        match (&self.path, self.preset) {
            (Some(path), _) => path,
            (None, Some(preset)) => preset.path(),
            (None, None) => "/",
        }
    }

    /// What is asked, in short, for messages: never the query of an address.
    pub fn asks(&self) -> String {
        let address = |url: &str| url.split(['?', '#']).next().unwrap_or_default().to_owned();
        match (&self.url, &self.service) {
            (Some(url), _) => address(url),
            (None, Some(service)) => format!("{service}{}", address(self.path())),
            (None, None) => address(self.path()),
        }
    }
}

/// A header of an HTTP check.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// Its name.
    #[schemars(length(min = 1, max = 100), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    #[x_kube(validation = Rule::new("!(self.lowerAscii() in ['authorization', 'cookie', 'proxy-authorization', 'host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'expect'])")
        .message("this header cannot be set: Host is the field host, what holds a secret would be shown in plans and reports, and the others belong to the connection"))]
    pub name: String,

    /// What it says.
    #[schemars(length(max = 500), regex(pattern = r"^[ -~]*$"))]
    pub value: String,
}

/// How pods are asked.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    #[serde(rename = "HTTP")]
    Http,
    /// Over TLS.
    #[serde(rename = "HTTPS")]
    Https,
}

/// The usual paths of health checks.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/health`
    Health,
    /// `/health/live`
    Live,
    /// `/health/ready`
    Ready,
    /// `/api/health`
    ApiHealth,
    /// As the `readinessProbe` of the pod's first container that asks by HTTP does: its path, port, scheme and headers. What
    /// is well for a kubelet is well: an answer of 200 to 399.
    ReadinessProbe,
}

impl Endpoint {
    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
            Self::ApiHealth => "/api/health",
            Self::ReadinessProbe => "readinessProbe",
        }
    }
}

/// A Prometheus server, and what to ask it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Where it is, for example `http://prometheus.monitoring.svc:9090`. An administrator must have named it in the
    /// controller's `--prometheus-allow`, and its address must lie in a network that `--probe-networks` names.
    #[schemars(length(min = 1, max = 500), regex(pattern = r"^https?://[!-~]+$"))]
    pub url: String,

    /// The checks.
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<PrometheusCheck>,
}

/// One number of Prometheus, and between what bounds it means well. No answer, several numbers or none is never well.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.preset) != has(self.query) && (has(self.preset) || has(self.atMost) || has(self.atLeast)) && !(has(self.atMost) && has(self.atLeast))")
        .message("give exactly one of preset and query, and with a query exactly one of atMost and atLeast")
)]
pub struct PrometheusCheck {
    /// Name of the check, for the report.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// One of the usual numbers, with its usual bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Metric>,

    /// A query of your own that gives one number. `$namespace`, `$deployment`, `$replica_set`, `$window` and `$baseline`
    /// are filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2000))]
    pub query: Option<String>,

    /// The number may not be larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,

    /// The number may not be smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,

    /// Seconds that the number speaks of.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 5, max = 86_400))]
    pub window_seconds: i32,

    /// How many rounds in a row the number must be well.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 20))]
    pub consecutive_successes: i32,

    /// Seconds between two rounds.
    #[serde(default = "fifteen")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i32,

    /// Seconds that one answer may take.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i32,
}

/// The usual numbers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Part of the requests answered with 5xx: at most 0.01.
    ErrorRate,
    /// 99th percentile of the time to answer, in milliseconds: at most 2000.
    Latency,
    /// Restarts of the new pods in a minute: at most 3.
    Restarts,
    /// Requests in a second, as part of what there were before the bad version: at least 0.5.
    Throughput,
}

/// Check of the new pods themselves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodCheck {
    /// How often the containers of the new pods may have been restarted, all together.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_restarts: i32,

    /// How many looks in a row every pod must be ready.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 20))]
    pub consecutive_successes: i32,

    /// Seconds between two looks.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i32,
}
