//! `doctor`: whether everything is there that a rollback needs. It changes nothing.

mod channels;
mod guard;
mod holds;
mod operator;
mod quarantine;
pub mod rights;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::ListParams;
use kube::{Api, Client};
use rollback_api::{GROUP, POLICY_NAME, RollbackPolicy, VERSION, served};
use serde::Serialize;
use serde_json::Value;

use super::policy;
use crate::Ending;
use crate::arguments::{Format, Place};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::{self, Paint, clean, say, span};

/// Where the controller runs.
const SYSTEM: &str = "rollback-system";
/// The Lease that says which replica leads. A controller for a single namespace has its name behind that.
const LEASE: &str = "rollback-controller";
/// The role by which a namespace opts in.
const EXECUTOR: &str = "rollback-executor";
/// Oldest minor version of a server of 1.x that can carry the guard: `ValidatingAdmissionPolicy` v1.
const OLDEST: u32 = 30;
/// Oldest minor version that it was run on.
const OLDEST_RUN: u32 = 35;
/// Seconds by which clocks may differ.
const SKEW: i64 = 30;

/// What a look has shown.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// You may not look, so nobody can tell.
    Unknown,
    /// A rollback will not work, or not for you.
    Fault,
}

/// One thing that was looked at.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// What it has shown.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// Why it matters; empty when all is well.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub why: &'static str,
    /// What to type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        let (verdict, seen) = (Verdict::Ok, seen.into());
        Self {
            check,
            verdict,
            seen,
            why: "",
            next: String::new(),
        }
    }

    /// Not as it should be.
    pub fn fault(
        check: &'static str,
        seen: impl Into<String>,
        why: &'static str,
        next: impl Into<String>,
    ) -> Self {
        let (seen, next) = (seen.into(), next.into());
        Self {
            check,
            verdict: Verdict::Fault,
            seen,
            why,
            next,
        }
    }

    /// Works, and could be better.
    pub fn warning(
        check: &'static str,
        seen: impl Into<String>,
        why: &'static str,
        next: impl Into<String>,
    ) -> Self {
        let verdict = Verdict::Warning;
        Self {
            verdict,
            ..Self::fault(check, seen, why, next)
        }
    }

    /// I may not look.
    pub fn unknown(check: &'static str, error: &kube::Error, next: impl Into<String>) -> Self {
        let seen = match error {
            kube::Error::Api(status) if status.code == 403 => "you may not look at it".to_owned(),
            other => format!("it could not be looked at: {}", clean(&other.to_string())),
        };
        Self {
            check,
            verdict: Verdict::Unknown,
            seen,
            why: "nobody can tell from here whether it is as it should be",
            next: next.into(),
        }
    }
}

/// Looks at everything, or at the operator only: then what cannot be looked at is a finding as well. It fails only when the API
/// server does not answer at all.
pub async fn run(cluster: &Cluster, place: &Place, operator: bool) -> Result<Ending, Error> {
    let mut findings = vec![server(&cluster.client).await?];
    findings.push(clock(&cluster.client).await?);
    findings.push(definitions(&cluster.client).await);
    findings.extend(guard::look(&cluster.client).await);
    findings.extend(guard::obeyed(cluster).await?);
    findings.push(quarantine::look(&cluster.client).await);
    findings.extend(operator::look(cluster).await);
    findings.push(operator::rights(cluster).await);
    if !operator {
        findings.push(namespace(cluster).await);
        findings.push(opted_in(cluster).await);
        findings.push(by_itself(cluster).await);
        findings.extend(holds::look(cluster).await);
        findings.extend(channels::look(cluster).await);
        findings.extend(rights::look(cluster).await?);
    }
    print(place.output, &findings)?;
    let is_well = findings.iter().all(|it| match it.verdict {
        Verdict::Ok | Verdict::Warning => true,
        Verdict::Unknown => !operator,
        Verdict::Fault => false,
    });
    Ok(if is_well {
        Ending::Done
    } else {
        Ending::Findings
    })
}

fn print(format: Option<Format>, findings: &[Finding]) -> Result<(), Error> {
    if output::data(format, &findings)? {
        return Ok(());
    }
    let paint = Paint::new();
    for it in findings {
        let mark = match it.verdict {
            Verdict::Ok => paint.good("ok"),
            Verdict::Warning => paint.waiting("!!"),
            Verdict::Unknown => paint.waiting("??"),
            Verdict::Fault => paint.bad("no"),
        };
        say(&format!("{mark}  {}: {}", it.check, it.seen))?;
        if !it.why.is_empty() {
            say(&format!("      why it matters: {}", it.why))?;
        }
        if !it.next.is_empty() {
            say(&format!("      type: {}", it.next))?;
        }
    }
    Ok(())
}

async fn server(client: &Client) -> Result<Finding, Error> {
    const CHECK: &str = "API server";
    let version = client.apiserver_version().await?;
    let plugin = env!("CARGO_PKG_VERSION");
    let seen = format!(
        "version {}, this plugin is {plugin}",
        clean(&version.git_version)
    );
    let digits: String = version
        .minor
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let minor = digits.parse::<u32>().ok();
    let minor = minor.filter(|_| version.major == "1");
    let next = "kubectl version, and upgrade the cluster";
    Ok(match minor {
        Some(minor) if minor < OLDEST => {
            let why = "the admission policies that make approvals true need 1.30";
            Finding::fault(CHECK, seen, why, next)
        }
        Some(minor) if minor < OLDEST_RUN => {
            let why = "nobody has tried a version as old as this (docs/compatibility.md)";
            Finding::warning(CHECK, seen, why, next)
        }
        Some(_) | None => Finding::ok(CHECK, seen),
    })
}

/// The server's clock, as its answers have it.
async fn clock(client: &Client) -> Result<Finding, Error> {
    const CHECK: &str = "clock";
    let request = http::Request::get("/version").body(kube::client::Body::empty());
    let answer = client
        .send(request.map_err(kube::Error::HttpError)?)
        .await?;
    let date = answer.headers().get(http::header::DATE);
    let theirs = date
        .and_then(|date| date.to_str().ok())
        .and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(theirs) = theirs else {
        return Ok(Finding::ok(CHECK, "the server does not say its time"));
    };
    let skew = Timestamp::now().duration_since(theirs.timestamp());
    let seen = format!("differs from the server's by {}", span(skew.abs()));
    Ok(if skew.abs() > SignedDuration::from_secs(SKEW) {
        let why = "times that are shown as elapsed, and deadlines, look wrong here";
        Finding::fault(CHECK, seen, why, "timedatectl set-ntp true")
    } else {
        Finding::ok(CHECK, seen)
    })
}

async fn definitions(client: &Client) -> Finding {
    const CHECK: &str = "definitions";
    const APPLY: &str = "kubectl apply -f crds/";
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let request = http::Request::get(path).body(Vec::new());
    let served = match request {
        Ok(request) => client.request::<Value>(request).await,
        Err(error) => Err(kube::Error::HttpError(error)),
    };
    let missing = match served {
        Ok(served) => served::missing(&served),
        Err(kube::Error::Api(status)) if status.code == 404 => served::missing(&Value::Null),
        Err(error) => return Finding::unknown(CHECK, &error, APPLY),
    };
    match missing.as_slice() {
        [] => Finding::ok(CHECK, "served, and not older than this plugin"),
        [first, ..] => Finding::fault(
            CHECK,
            format!(
                "older than this plugin, or not there: {} things are missing, {} is the first",
                missing.len(),
                clean(first)
            ),
            "the API server drops what it does not know from whatever is written",
            APPLY,
        ),
    }
}

async fn namespace(cluster: &Cluster) -> Finding {
    const CHECK: &str = "namespace";
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let name = clean(&cluster.namespace);
    match api.get_opt(&cluster.namespace).await {
        Ok(Some(_)) => Finding::ok(CHECK, name),
        Ok(None) => Finding::fault(
            CHECK,
            format!("{name} is not there"),
            "a rollback is asked for in the namespace of its Deployment",
            "kubectl get namespaces, and name one with -n",
        ),
        Err(error) => Finding::unknown(CHECK, &error, format!("kubectl get deployments -n {name}")),
    }
}

/// Whether the namespace lets the controller write: a binding of the role says so.
async fn opted_in(cluster: &Cluster) -> Finding {
    const CHECK: &str = "opt-in";
    let namespace = clean(&cluster.namespace);
    let create = format!(
        "kubectl create rolebinding {EXECUTOR} -n {namespace} --clusterrole {EXECUTOR} --serviceaccount {SYSTEM}:{LEASE}"
    );
    let bindings = cluster.api::<RoleBinding>();
    match bindings.list(&ListParams::default()).await {
        Ok(found) if found.items.iter().any(operator::is_for_it) => {
            Finding::ok(CHECK, format!("{namespace} has opted in ({EXECUTOR})"))
        }
        Ok(found) if found.items.iter().any(|it| it.role_ref.name == EXECUTOR) => Finding::fault(
            CHECK,
            format!("{namespace} binds {EXECUTOR}, but not to ServiceAccount {SYSTEM}/{LEASE}"),
            "the controller runs as that one, unless somebody installed it otherwise",
            create,
        ),
        Ok(_) => Finding::fault(
            CHECK,
            format!("no RoleBinding of {namespace} binds {EXECUTOR}"),
            "the controller changes nothing in a namespace that has not opted in (Refused/NamespaceNotOptedIn)",
            create,
        ),
        Err(error) => Finding::unknown(
            CHECK,
            &error,
            format!("kubectl get rolebindings -n {namespace}, or ask your administrator"),
        ),
    }
}

/// Whether what comes by itself is rolled back. That is for whoever owns the namespace to say, so neither is a fault.
async fn by_itself(cluster: &Cluster) -> Finding {
    const CHECK: &str = "by itself";
    let show = "kubectl rollback policy show";
    match cluster.api::<RollbackPolicy>().get_opt(POLICY_NAME).await {
        Ok(Some(policy)) => Finding::ok(CHECK, policy::triggers(&policy.spec.triggers)),
        Ok(None) => Finding::ok(
            CHECK,
            "there is no RollbackPolicy: the rules of production hold, and nothing asks but people",
        ),
        Err(error) => Finding::unknown(CHECK, &error, show),
    }
}
