//! What one pod shows, as far as a trigger has to tell it apart: the fault of what runs in it, or of what it runs on.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::health::diagnose::{node_comes, sandbox_event};
use crate::health::reasons::{self, CONFIG, Gate, NOT_STARTED, PULLING, SANDBOX, WRONG_NAME};
use crate::observed::workload::{condition, controller_uid, list, string};
use crate::time;

/// What one pod shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// It is ready.
    Well,
    /// It is on its way, or was never ready.
    Coming,
    /// A container of it crashes over and over.
    Crash,
    /// An image of it does not exist, or is not ours to pull.
    ImagePull,
    /// An image of it cannot be had, and it was not said here whose fault that is.
    PullAgain,
    /// An image of it cannot be had because the registry does not answer as it should.
    Registry,
    /// A container of it cannot be made as the template asks.
    Config,
    /// It was ready, and is not any more since then.
    Unready(Timestamp),
    /// Its containers are ready since then, and a readiness gate is shut.
    Gated(Timestamp),
    /// Something around it keeps it from coming up that is not of the version: its sandbox, a container that something puts
    /// into it, a gate that nobody opens yet, a node that comes.
    Around,
    /// No node takes it.
    Unscheduled,
    /// Nothing is heard of it, or its node is lost: its containers were last seen to be well.
    Lost,
}

/// How long a container must run after it crashed until it counts as well again.
const RECOVERED_AFTER_SECONDS: i64 = 30;
/// From how many restarts on a container crashes even though it is well at the moment.
const MANY_RESTARTS: i64 = 4;
/// How long ago the last of them may be: the kubelet forgets about crashes after the same time.
const FORGOTTEN_AFTER_SECONDS: i64 = 600;
/// What is said when the registry, or the way there, is at fault.
const UNREACHABLE: [&str; 17] = [
    "timeout",
    "timed out",
    "deadline exceeded",
    "connection re",
    "no such host",
    "server misbehaving",
    "network is unreachable",
    "no route to host",
    "toomanyrequests",
    "too many requests",
    "unexpected eof",
    "tls handshake",
    "x509",
    "500 internal",
    "502 bad",
    "503 service",
    "504 gateway",
];
/// What is said when the image is at fault.
const MISSING: [&str; 8] = [
    "not found",
    "manifest unknown",
    "does not exist",
    "access denied",
    "unauthorized",
    "authorization failed",
    "no match for platform",
    "invalid reference",
];

/// What is known besides the pod.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// Names of the containers that its template has; none when that is not read, and then all are taken for its own.
    pub own: &'a BTreeSet<String>,
    /// Events, if they were read.
    pub events: &'a [Value],
    /// What its version changed that may itself be what keeps it from coming up.
    pub changed: Changed,
    /// When it was looked at.
    pub now: Timestamp,
}

/// What a version changed of what lies around its own containers, against the version before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changed {
    /// Annotations, by which containers are injected and told what to do.
    pub annotations: bool,
    /// What its sandbox is made by: the runtime and the network.
    pub sandbox: bool,
}

/// What a pod shows.
pub fn of(pod: &Value, beside: Beside<'_>) -> Symptom {
    let is_own =
        |status: &&Value| beside.own.is_empty() || beside.own.contains(string(status, "/name"));
    let (own, others): (Vec<&Value>, Vec<&Value>) = statuses(pod).partition(is_own);
    let mut waiting = own.iter().filter_map(|status| waits(status));
    if let Some(symptom) = waiting.next() {
        return symptom;
    }
    if own.iter().any(|status| crashes(status, beside.now)) {
        return Symptom::Crash;
    }
    match ready(pod) {
        Some((true, _)) => Symptom::Well,
        _ if is_hindered(pod, &own, &others, beside) => Symptom::Around,
        Some((false, since)) => not_ready(pod, &own, since),
        None if string(pod, "/status/phase") == "Unknown" => Symptom::Lost,
        None => not_ready(pod, &own, None),
    }
}

/// Whether something that is not of the version keeps a pod from coming up.
fn is_hindered(pod: &Value, own: &[&Value], others: &[&Value], beside: Beside<'_>) -> bool {
    let fails = |status: &&Value| {
        let is_running = status.pointer("/state/running").is_some();
        let is_unready = is_running && status.get("ready").and_then(Value::as_bool) == Some(false);
        waits(status).is_some() || crashes(status, beside.now) || is_unready
    };
    // Some that are injected wait for the version: they are no excuse for one that has started and is not ready.
    let may_be_injected = !beside.changed.annotations && own.iter().all(|it| is_in_no_way(it));
    let is_sandbox = |status: &Value| SANDBOX.contains(&string(status, "/state/waiting/reason"));
    let lacks_sandbox =
        || statuses(pod).any(is_sandbox) || sandbox_event(pod, beside.events).is_some();
    (may_be_injected && others.iter().any(fails))
        || (!beside.changed.sandbox && lacks_sandbox())
        || (is_unplaced(pod) && node_comes(pod, beside.events, beside.now).is_some())
}

/// Whether a container is ready, or has not started yet.
fn is_in_no_way(status: &Value) -> bool {
    let is_ready = status.get("ready").and_then(Value::as_bool) == Some(true);
    let has_started = [
        "/state/running",
        "/state/terminated",
        "/lastState/terminated",
    ]
    .iter()
    .any(|state| status.pointer(state).is_some());
    is_ready || !has_started
}

/// Whether the scheduler says that no node takes the pod.
fn is_unplaced(pod: &Value) -> bool {
    condition(pod, "PodScheduled").is_some_and(|it| string(it, "/status") == "False")
}

/// Whether a pod counts: it is neither on its way out nor over.
pub fn counts(pod: &Value) -> bool {
    pod.pointer("/metadata/deletionTimestamp")
        .is_none_or(Value::is_null)
        && !["Succeeded", "Failed"].contains(&string(pod, "/status/phase"))
}

/// Whether a pod is on its way out and still has time for that. One that is overdue hangs on a lost node, and nothing waits
/// for it.
pub fn is_leaving(pod: &Value, now: Timestamp) -> bool {
    moment(pod, "/metadata/deletionTimestamp").is_some_and(|until| now <= until)
}

/// Whether this `ReplicaSet` made the pod.
pub fn is_of(pod: &Value, replica_set_uid: &str) -> bool {
    controller_uid(pod) == Some(replica_set_uid)
}

/// Since when the pod is ready, or is not: for one that never was, since it began.
pub fn turned_at(pod: &Value) -> Option<Timestamp> {
    ready(pod)?.1
}

/// What the pod or its container says about its trouble, in the words of the kubelet or the scheduler.
pub fn words(pod: &Value) -> String {
    let of_container = statuses(pod).find_map(|status| {
        let name = string(status, "/name");
        let reason = string(status, "/state/waiting/reason");
        let message = string(status, "/state/waiting/message");
        let exit = status.pointer("/lastState/terminated/exitCode");
        match (reason, exit.and_then(Value::as_i64)) {
            ("" | "ContainerCreating" | "PodInitializing", None) => None,
            ("", Some(code)) => Some(format!(
                "container {name} ended with exit code {code} and was started {} times again",
                restarts(status)
            )),
            (reason, _) => Some(format!("container {name}: {reason} {message}")),
        }
    });
    of_container.unwrap_or_else(|| {
        let scheduled =
            condition(pod, "PodScheduled").filter(|it| string(it, "/status") == "False");
        let unready = condition(pod, "Ready");
        if let (None, Some(Gate::Shut(words) | Gate::Awaited(words))) =
            (scheduled, reasons::gate(pod))
        {
            return words;
        }
        let told = scheduled
            .or(unready)
            .map_or("", |it| string(it, "/message"));
        told.to_owned()
    })
}

fn not_ready(pod: &Value, containers: &[&Value], since: Option<Timestamp>) -> Symptom {
    if is_unplaced(pod) {
        return Symptom::Unscheduled;
    }
    let main: Vec<&Value> = list(pod, "/status/containerStatuses").collect();
    let is_ready = |status: &&Value| status.get("ready").and_then(Value::as_bool) == Some(true);
    if !main.is_empty() && main.iter().all(is_ready) {
        return all_ready(pod, since);
    }
    let started = containers
        .iter()
        .filter_map(|status| moment(status, "/state/running/startedAt"))
        .max();
    let all_run = main
        .iter()
        .all(|status| status.pointer("/state/running").is_some());
    match (since, started) {
        (Some(since), Some(started)) if all_run && !main.is_empty() && since > started => {
            Symptom::Unready(since)
        }
        (Some(_) | None, Some(_) | None) => Symptom::Coming,
    }
}

/// A pod that is not ready although its containers are: a gate, or nothing is heard of its node.
fn all_ready(pod: &Value, since: Option<Timestamp>) -> Symptom {
    match reasons::gate(pod) {
        None => Symptom::Lost,
        Some(Gate::Awaited(_)) => Symptom::Around,
        Some(Gate::Shut(_)) => {
            let ready = condition(pod, "ContainersReady");
            let ready = ready.filter(|it| string(it, "/status") == "True");
            let ready = ready.and_then(|it| moment(it, "/lastTransitionTime"));
            ready.or(since).map_or(Symptom::Coming, Symptom::Gated)
        }
    }
}

/// What a container waits for, when that is a trouble.
fn waits(status: &Value) -> Option<Symptom> {
    let reason = string(status, "/state/waiting/reason");
    if NOT_STARTED.contains(&reason) {
        // It takes turns with the back-off from then on.
        let is_again = restarts(status) > 0;
        return Some(if is_again {
            Symptom::Crash
        } else {
            Symptom::Config
        });
    }
    if reason == "CrashLoopBackOff" {
        return Some(Symptom::Crash);
    }
    if CONFIG.contains(&reason) {
        return Some(Symptom::Config);
    }
    if WRONG_NAME.contains(&reason) {
        return Some(Symptom::ImagePull);
    }
    PULLING
        .contains(&reason)
        .then(|| pull(string(status, "/state/waiting/message")))
}

/// Whose fault it is that an image cannot be had.
fn pull(message: &str) -> Symptom {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|state| message.contains(state));
    if says(&UNREACHABLE) {
        Symptom::Registry
    } else if says(&MISSING) {
        Symptom::ImagePull
    } else {
        Symptom::PullAgain
    }
}

/// Whether a container crashes over and over, also in the moments in which it runs.
fn crashes(status: &Value, now: Timestamp) -> bool {
    let restarts = restarts(status);
    if status.pointer("/state/terminated").is_some() {
        let ended_well = status.pointer("/state/terminated/exitCode") == Some(&Value::from(0));
        return restarts >= 1 && !ended_well;
    }
    let Some(ended) = moment(status, "/lastState/terminated/finishedAt") else {
        return false;
    };
    if restarts < 2 {
        return false;
    }
    let is_ready = status.get("ready").and_then(Value::as_bool) == Some(true);
    let limit = match (is_ready, restarts >= MANY_RESTARTS) {
        (false, _) | (true, true) => FORGOTTEN_AFTER_SECONDS,
        (true, false) => RECOVERED_AFTER_SECONDS,
    };
    let since = moment(status, "/state/running/startedAt").unwrap_or(ended);
    now < time::after(since, limit)
}

fn restarts(status: &Value) -> i64 {
    status
        .get("restartCount")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// Whether the pod is ready, and since when it is so.
fn ready(pod: &Value) -> Option<(bool, Option<Timestamp>)> {
    let condition = condition(pod, "Ready")?;
    let since = moment(condition, "/lastTransitionTime");
    match string(condition, "/status") {
        "True" => Some((true, since)),
        "False" => Some((false, since)),
        // The node controller writes Unknown when it hears nothing.
        _ => None,
    }
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/status/initContainerStatuses").chain(list(pod, "/status/containerStatuses"))
}

fn moment(value: &Value, pointer: &str) -> Option<Timestamp> {
    string(value, pointer).parse().ok()
}
