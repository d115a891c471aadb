//! Why the pods of a `ReplicaSet` do not become available, in one kind of trouble that does not flap.
//!
//! What is wrong is told by the status of pods and `ReplicaSets`, which only the control plane and the kubelets write. Events
//! add words: anybody who may create Events can make some up, so a trouble that only an Event tells of gives way to every
//! other, and ends nothing (`rollout`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::status::{Cause, CauseKind};
use serde_json::Value;

use crate::health::reasons::{
    self, CONFIG, Gate, NO_NODE_COMES, NODE_COMES, NODE_COMES_SECONDS, NOT_STARTED, PULLING,
    SANDBOX, SANDBOX_EVENTS, WRONG_NAME,
};
use crate::message::redact::redact;
use crate::message::text::plain;
use crate::observed::workload::{controller_uid, list, string};
use crate::observed::{LastLog, ReplicaSet};
use crate::time;

/// Longest message, in characters.
const LONGEST: usize = 500;

/// Reasons of a terminated container that never ran; their message is the runtime's, not the container's.
const NEVER_RAN: [&str; 2] = ["StartError", "ContainerCannotRun"];
/// Exit codes of a container that was ended by a signal: the one that asks, and the one that it cannot refuse.
const ENDED: [i64; 2] = [143, 137];
/// Reason of a container that was ended because it took too much memory.
const OUT_OF_MEMORY: &str = "OOMKilled";
/// Reasons of a waiting container that nothing is wrong with yet.
const COMING_UP: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Reason of events about a probe that fails.
const UNHEALTHY: &str = "Unhealthy";
/// How the kubelet begins when it restarts a container because of a probe.
const DEADLY: [&str; 2] = ["Liveness", "Startup"];
/// Reasons of events about volumes.
const MOUNT: [&str; 3] = ["FailedMount", "FailedAttachVolume", "FailedMapVolume"];

/// Trouble of one pod.
struct Trouble {
    kind: CauseKind,
    message: String,
    pod: Option<String>,
    /// How many pods it stands for.
    weight: i64,
    /// The container that crashes.
    crash: Option<Crash>,
}

/// Whose word there is for a trouble, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    /// The status of a pod or a `ReplicaSet` shows it.
    Status,
    /// Only an Event tells of it.
    Event,
    /// Only an Event tells of it, and it is no more than a probe that fails: whatever else is wrong explains more.
    Probe,
}

impl Witness {
    fn of(kind: CauseKind) -> Self {
        match kind {
            CauseKind::CrashLoop
            | CauseKind::ImagePull
            | CauseKind::Config
            | CauseKind::Unschedulable
            | CauseKind::AwaitingNode
            | CauseKind::Refused
            | CauseKind::Gate => Self::Status,
            // Of what is not known nothing follows: it ends nothing either.
            CauseKind::Volume | CauseKind::Sandbox | CauseKind::Newer(_) => Self::Event,
            CauseKind::Unready => Self::Probe,
        }
    }
}

/// Whether this kind of trouble ends a rollout when it goes on: nothing does that only Events tell of, and nothing that
/// others have to bring about, who take their time.
pub fn is_conclusive(kind: CauseKind) -> bool {
    let is_others = matches!(kind, CauseKind::AwaitingNode | CauseKind::Gate);
    Witness::of(kind) == Witness::Status && !is_others
}

/// A container that crashed, and what it left behind.
struct Crash {
    container: String,
    restarts: i64,
    words: Option<String>,
}

/// One end of one container: its log is read once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// How often it had been started again.
    pub restarts: i64,
}

/// The most telling trouble of the pods of this `ReplicaSet`, if there is any: what a status shows before what only Events
/// tell, then what most of them have, then what is worst, then the first pod by name. Other pods of the Deployment are not looked at.
pub fn cause(
    replica_set: Option<&ReplicaSet>,
    pods: &[Value],
    events: &[Value],
    before: Option<&Cause>,
    now: Timestamp,
) -> Option<Cause> {
    let told = most_telling(replica_set, pods, events, before, now)?;
    Some(continued(told, before, now))
}

/// The end that the cause is about, when the cause is a container that crashes: whose log would say more.
pub fn end_to_explain(
    replica_set: Option<&ReplicaSet>,
    pods: &[Value],
    events: &[Value],
    before: Option<&Cause>,
) -> Option<End> {
    // Whether a node comes says nothing about logs.
    let told = most_telling(replica_set, pods, events, before, Timestamp::MAX)?;
    let crash = told.crash?;
    Some(End {
        pod: told.pod?,
        container: crash.container,
        restarts: crash.restarts,
    })
}

/// Puts the end of the log of the crashing container in the place of what it said in its status.
pub fn quoting(mut cause: Cause, log: Option<&LastLog>) -> Cause {
    let log = log.filter(|log| {
        cause.kind == CauseKind::CrashLoop && cause.pod.as_deref() == Some(log.end.pod.as_str())
    });
    if let Some(words) = log.and_then(|log| last_words(&log.text)) {
        cause.last_words = Some(words);
    }
    cause
}

/// The end of what a container said, without what looks like a secret; its last words win.
fn last_words(text: &str) -> Option<String> {
    // What was taken out must not be cut in two beforehand: half of a secret looks like none.
    let lines: Vec<String> = redact(text)
        .trim_end()
        .lines()
        .map(|line| plain(line, LONGEST))
        .collect();
    let words = lines.join("\n");
    let words = words.trim();
    let skipped = words.chars().count().saturating_sub(LONGEST);
    let kept: String = words.chars().skip(skipped).collect();
    (!kept.is_empty()).then_some(kept)
}

fn most_telling(
    replica_set: Option<&ReplicaSet>,
    pods: &[Value],
    events: &[Value],
    before: Option<&Cause>,
    now: Timestamp,
) -> Option<Trouble> {
    let replica_set = replica_set?;
    let mut troubles: Vec<Trouble> = pods
        .iter()
        .filter(|pod| belongs(pod, replica_set))
        .filter_map(|pod| of_pod(pod, replica_set, events, before, now))
        .collect();
    troubles.extend(refused(replica_set));
    let best = troubles.iter().map(|it| Witness::of(it.kind)).min()?;
    troubles.retain(|it| Witness::of(it.kind) == best);
    let mut weights: BTreeMap<CauseKind, i64> = BTreeMap::new();
    for trouble in &troubles {
        let weight = weights.entry(trouble.kind).or_default();
        *weight = weight.saturating_add(trouble.weight);
    }
    let most = *weights.values().max()?;
    // Kinds are sorted by how telling they are.
    let kind = *weights.iter().find(|(_, weight)| **weight == most)?.0;
    troubles
        .into_iter()
        .filter(|trouble| trouble.kind == kind)
        .min_by(|one, other| one.pod.cmp(&other.pod))
}

/// Keeps the time of trouble that goes on, and its words where the kubelet takes turns with them.
fn continued(told: Trouble, before: Option<&Cause>, now: Timestamp) -> Cause {
    let before = before.filter(|before| before.kind == told.kind);
    let message = plain(&told.message, LONGEST);
    let same_pod = before.filter(|before| before.pod == told.pod);
    let message = match (told.kind, same_pod) {
        (CauseKind::ImagePull, Some(before)) if before.message.starts_with(&message) => {
            before.message.clone()
        }
        (
            CauseKind::CrashLoop
            | CauseKind::ImagePull
            | CauseKind::Config
            | CauseKind::Volume
            | CauseKind::Sandbox
            | CauseKind::Unschedulable
            | CauseKind::AwaitingNode
            | CauseKind::Refused
            | CauseKind::Gate
            | CauseKind::Unready
            | CauseKind::Newer(_),
            _,
        ) => message,
    };
    let kept = same_pod.and_then(|before| before.last_words.clone());
    let words = told.crash.and_then(|crash| crash.words.or(kept));
    Cause {
        kind: told.kind,
        message,
        pod: told.pod,
        last_words: words,
        since: before.map_or(now, |before| before.since),
    }
}

fn integer(value: &Value, pointer: &str) -> i64 {
    value
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// Whether a pod is one that the `ReplicaSet` counts: its own by UID, not on its way out, and not one
/// that has ended and was replaced.
fn belongs(pod: &Value, replica_set: &ReplicaSet) -> bool {
    let uid = controller_uid(pod).unwrap_or_default();
    !uid.is_empty()
        && uid == replica_set.uid()
        && pod.pointer("/metadata/deletionTimestamp").is_none()
        && !["Failed", "Succeeded"].contains(&string(pod, "/status/phase"))
}

fn of_pod(
    pod: &Value,
    replica_set: &ReplicaSet,
    events: &[Value],
    before: Option<&Cause>,
    now: Timestamp,
) -> Option<Trouble> {
    let simple = |(kind, message)| (kind, message, None);
    let (kind, message, crash) = of_containers(pod, replica_set, events, before)
        .or_else(|| unscheduled(pod, events, now).map(simple))
        .or_else(|| without_sandbox(pod, events).map(simple))
        .or_else(|| unmounted(pod, events).map(simple))
        .or_else(|| shut(pod).map(simple))
        .or_else(|| unready(pod, events).map(simple))?;
    Some(Trouble {
        kind,
        message,
        pod: Some(plain(string(pod, "/metadata/name"), 253)),
        weight: 1,
        crash,
    })
}

/// Containers of a pod with what they are called, init containers and sidecars included.
fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let labelled = |field: &'static str, label: &'static str| {
        list(pod, field).map(move |status| (label, status))
    };
    labelled("/status/initContainerStatuses", "init container")
        .chain(labelled("/status/containerStatuses", "container"))
}

type OfContainer = (CauseKind, String, Option<Crash>);

/// The worst trouble of a container.
fn of_containers(
    pod: &Value,
    replica_set: &ReplicaSet,
    events: &[Value],
    before: Option<&Cause>,
) -> Option<OfContainer> {
    // Once it was a crash loop it stays one, also while the container runs between two crashes.
    let known = before.is_some_and(|before| before.kind == CauseKind::CrashLoop);
    containers(pod)
        .filter_map(|(label, status)| {
            let (kind, mut message, crash) = of_container(label, status, known)?;
            if !is_of_template(replica_set, string(status, "/name")) {
                message = format!(
                    "{message} (it is not in the template: something puts it into the pods)"
                );
            }
            let probe = probe_events(pod, status, events).find(|event| is_deadly(event));
            if let (CauseKind::CrashLoop, Some(probe)) = (kind, probe) {
                message = format!("{message}. {}", redact(note(probe)));
            }
            Some((kind, message, crash))
        })
        // The first of the worst, so that the order of the API server decides.
        .min_by_key(|(kind, _, _)| *kind)
}

/// Whether a container is one of the version. What is not in the template is put into the pods by something else.
fn is_of_template(replica_set: &ReplicaSet, container: &str) -> bool {
    if replica_set.0.pointer("/spec/template/spec").is_none() {
        return true;
    }
    replica_set.template().images().contains_key(container)
}

/// `known` says that it was a crash loop before. Until then a container that was ended by a signal from outside, as the
/// kubelet does it because of a probe, has not crashed by itself, unless the kubelet holds it back.
fn of_container(label: &str, status: &Value, known: bool) -> Option<OfContainer> {
    let name = called(label, status);
    let waiting = string(status, "/state/waiting/reason");
    let detail = string(status, "/state/waiting/message");
    let restarts = integer(status, "/restartCount");
    if PULLING.contains(&waiting) || WRONG_NAME.contains(&waiting) {
        return Some((CauseKind::ImagePull, pull(&name, status, detail), None));
    }
    let last = last_end(status);
    let crashed = restarts > 0 && last.is_some_and(|end| integer(end, "/exitCode") != 0);
    // One that never starts is started again and again: from then on it is a crash loop, and stays one.
    if CONFIG.contains(&waiting) || (NOT_STARTED.contains(&waiting) && !crashed) {
        let message = format!("{name}: {waiting}{}", colon(detail));
        return Some((CauseKind::Config, message, None));
    }
    let by_itself = known || !last.is_some_and(was_ended);
    let is_crash = waiting == "CrashLoopBackOff" || (crashed && !is_ready(status) && by_itself);
    is_crash.then(|| {
        let end = last.map_or_else(String::new, how_it_ended);
        let plural = if restarts == 1 { "" } else { "s" };
        let message = format!("{name} crashes: {restarts} restart{plural}{end}");
        let crash = Crash {
            container: string(status, "/name").to_owned(),
            restarts,
            words: last.and_then(own_words),
        };
        (CauseKind::CrashLoop, message, Some(crash))
    })
}

fn called(label: &str, status: &Value) -> String {
    format!("{label} {}", plain(string(status, "/name"), 63))
}

fn is_ready(status: &Value) -> bool {
    status.get("ready").and_then(Value::as_bool) == Some(true)
}

fn never_ran(end: &Value) -> bool {
    NEVER_RAN.contains(&string(end, "/reason"))
}

/// Whether a container was ended by the signal that asks it to end, or by the one that it cannot refuse: by the kubelet,
/// most likely. What takes too much memory is ended like that as well, and is to blame.
fn was_ended(end: &Value) -> bool {
    ENDED.contains(&integer(end, "/exitCode")) && string(end, "/reason") != OUT_OF_MEMORY
}

fn how_it_ended(end: &Value) -> String {
    let reason = match string(end, "/reason") {
        "" => String::new(),
        reason => format!(" ({})", plain(reason, 63)),
    };
    // What the container itself said is kept apart: it may be the end of its log, with anything in it.
    let words = if never_ran(end) {
        colon(string(end, "/message"))
    } else {
        String::new()
    };
    let code = integer(end, "/exitCode");
    format!(", last exit code {code}{reason}{words}")
}

/// What a container left in its termination log.
fn own_words(end: &Value) -> Option<String> {
    if never_ran(end) {
        return None;
    }
    last_words(string(end, "/message"))
}

/// Events about probes of this container that fail.
fn probe_events<'a>(
    pod: &'a Value,
    status: &'a Value,
    events: &'a [Value],
) -> impl Iterator<Item = &'a Value> {
    let part = format!("{{{}}}", string(status, "/name"));
    events.iter().filter(move |event| {
        let fields = ["/involvedObject/fieldPath", "/regarding/fieldPath"];
        let path = fields.map(|field| string(event, field)).concat();
        string(event, "/reason") == UNHEALTHY
            && (path.is_empty() || path.ends_with(&part))
            && is_about(event, pod)
    })
}

/// Whether a probe is one of those after which the kubelet restarts the container.
fn is_deadly(event: &Value) -> bool {
    DEADLY.iter().any(|probe| note(event).starts_with(probe))
}

/// Whether a container was started and is not ready, or was just ended because it was not.
fn is_coming_up(status: &Value) -> bool {
    let in_state = |state: &str| status.pointer(state).is_some_and(Value::is_object);
    !is_ready(status) && (in_state("/state/running") || in_state("/state/terminated"))
}

/// A container that runs and does not become ready, by the last word of the kubelet about its probe. The kubelet
/// quotes what the probe said, which may be anything.
fn unready(pod: &Value, events: &[Value]) -> Option<(CauseKind, String)> {
    let latest = |status| {
        probe_events(pod, status, events).max_by_key(|event| (seen_at(event), note(event)))
    };
    containers(pod)
        .filter(|(_, status)| is_coming_up(status))
        .find_map(|(label, status)| {
            let said = redact(note(latest(status)?));
            let name = called(label, status);
            Some((
                CauseKind::Unready,
                format!("{name} runs and is not ready{}", colon(&said)),
            ))
        })
}

/// How the container ended when it last did: right now, or before it was started again.
fn last_end(status: &Value) -> Option<&Value> {
    status
        .pointer("/state/terminated")
        .filter(|end| end.is_object())
        .or_else(|| status.pointer("/lastState/terminated"))
        .filter(|end| end.is_object())
}

/// The same words whether the kubelet is pulling or waiting to pull again.
fn pull(name: &str, status: &Value, detail: &str) -> String {
    let image = match string(status, "/image") {
        "" => String::new(),
        image => format!(" {}", plain(image, 200)),
    };
    let waiting = string(status, "/state/waiting/reason");
    // While it waits, the kubelet quotes the error after words of its own.
    let quoted = detail.split_once("ErrImagePull: ").map(|(_, error)| error);
    let detail = match (waiting, quoted) {
        (_, Some(error)) => error,
        ("ImagePullBackOff", None) => "",
        (_, None) => detail,
    };
    format!(
        "{name}: image{image} cannot be pulled{}",
        colon(detail.trim_matches('"'))
    )
}

fn colon(detail: &str) -> String {
    match detail.trim() {
        "" => String::new(),
        detail => format!(": {detail}"),
    }
}

/// Whether a pod waits for its containers to be made. When that is because of a volume, only an event will say so.
fn waits_for_containers(pod: &Value) -> bool {
    let mut statuses = list(pod, "/status/initContainerStatuses")
        .chain(list(pod, "/status/containerStatuses"))
        .peekable();
    let coming_up = |status: &Value| COMING_UP.contains(&string(status, "/state/waiting/reason"));
    // A kubelet that has not answered yet has mounted nothing either.
    match statuses.peek() {
        None => string(pod, "/status/phase") == "Pending",
        Some(_) => statuses.any(coming_up),
    }
}

/// Whether a kubelet or an autoscaler may have something to say of a pod that it says nowhere but in events.
pub fn speaks_in_events(pod: &Value) -> bool {
    let silent = || containers(pod).any(|(_, status)| is_coming_up(status));
    if is_unschedulable(pod).is_some() {
        return true;
    }
    !string(pod, "/spec/nodeName").is_empty() && (waits_for_containers(pod) || silent())
}

/// A volume that is not there shows only in an event, while the containers wait to be created.
fn unmounted(pod: &Value, events: &[Value]) -> Option<(CauseKind, String)> {
    if !waits_for_containers(pod) {
        return None;
    }
    let latest = events
        .iter()
        .filter(|event| MOUNT.contains(&string(event, "/reason")) && is_about(event, pod))
        .max_by_key(|event| (seen_at(event), note(event)))?;
    let reason = string(latest, "/reason");
    Some((
        CauseKind::Volume,
        format!("{reason}{}", colon(&redact(note(latest)))),
    ))
}

/// Whether an event of either API is about this very pod.
fn is_about(event: &Value, pod: &Value) -> bool {
    ["/involvedObject", "/regarding"].iter().any(|about| {
        let Some(about) = event.pointer(about) else {
            return false;
        };
        let same = |field: &str, of_pod: &str| {
            let said = string(about, field);
            (!said.is_empty()).then(|| said == of_pod)
        };
        let of_pod = |field: &str| string(pod, field);
        let named = same("/name", of_pod("/metadata/name")) == Some(true)
            && same("/namespace", of_pod("/metadata/namespace")) != Some(false)
            && same("/kind", "Pod") != Some(false);
        // A pod of the same name may have been there before.
        same("/uid", of_pod("/metadata/uid")).unwrap_or(named)
    })
}

/// When an event was last seen; all forms sort as text.
fn seen_at(event: &Value) -> &str {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .iter()
    .map(|field| string(event, field))
    .find(|at| !at.is_empty())
    .unwrap_or_default()
}

fn note(event: &Value) -> &str {
    match string(event, "/message") {
        "" => string(event, "/note"),
        message => message,
    }
}

fn is_unschedulable(pod: &Value) -> Option<&Value> {
    list(pod, "/status/conditions").find(|condition| {
        string(condition, "/type") == "PodScheduled"
            && string(condition, "/status") == "False"
            && ["Unschedulable", "SchedulingGated"].contains(&string(condition, "/reason"))
    })
}

fn unscheduled(pod: &Value, events: &[Value], now: Timestamp) -> Option<(CauseKind, String)> {
    let condition = is_unschedulable(pod)?;
    let reason = string(condition, "/reason");
    let detail = colon(string(condition, "/message"));
    if let Some(event) = node_comes(pod, events, now) {
        let word = string(event, "/reason");
        let said = colon(&redact(note(event)));
        return Some((
            CauseKind::AwaitingNode,
            format!("{word}{said} ({reason}{detail})"),
        ));
    }
    Some((CauseKind::Unschedulable, format!("{reason}{detail}")))
}

/// The event by which an autoscaler says that a node comes for this pod, as long as that is fresh and it has not said
/// otherwise since.
pub fn node_comes<'a>(pod: &Value, events: &'a [Value], now: Timestamp) -> Option<&'a Value> {
    let latest = |reasons: &[&str]| {
        let about = events
            .iter()
            .filter(|event| reasons.contains(&string(event, "/reason")) && is_about(event, pod));
        about.max_by_key(|event| seen_at(event))
    };
    let comes = latest(&NODE_COMES)?;
    let is_over = latest(&NO_NODE_COMES).is_some_and(|other| seen_at(other) > seen_at(comes));
    let at: Timestamp = seen_at(comes).parse().ok()?;
    (!is_over && now < time::after(at, NODE_COMES_SECONDS)).then_some(comes)
}

/// A pod that has no sandbox: its containers wait, or say that themselves.
fn without_sandbox(pod: &Value, events: &[Value]) -> Option<(CauseKind, String)> {
    let of_container = containers(pod).find_map(|(label, status)| {
        let waiting = string(status, "/state/waiting/reason");
        let detail = string(status, "/state/waiting/message");
        let message = format!(
            "{}: {waiting}{}",
            called(label, status),
            colon(&redact(detail))
        );
        SANDBOX
            .contains(&waiting)
            .then_some((CauseKind::Sandbox, message))
    });
    of_container.or_else(|| {
        let event = sandbox_event(pod, events)?;
        let reason = string(event, "/reason");
        Some((
            CauseKind::Sandbox,
            format!("{reason}{}", colon(&redact(note(event)))),
        ))
    })
}

/// The last event about the sandbox of a pod whose containers wait to be made.
pub fn sandbox_event<'a>(pod: &Value, events: &'a [Value]) -> Option<&'a Value> {
    if !waits_for_containers(pod) {
        return None;
    }
    let about = events
        .iter()
        .filter(|event| SANDBOX_EVENTS.contains(&string(event, "/reason")) && is_about(event, pod));
    about.max_by_key(|event| (seen_at(event), note(event)))
}

/// A readiness gate that is not open, of a pod whose containers are all ready.
fn shut(pod: &Value) -> Option<(CauseKind, String)> {
    let mut main = list(pod, "/status/containerStatuses").peekable();
    if main.peek().is_none() || !main.all(is_ready) {
        return None;
    }
    match reasons::gate(pod)? {
        Gate::Awaited(words) | Gate::Shut(words) => Some((CauseKind::Gate, redact(&words))),
    }
}

/// Pods that the API server did not let the `ReplicaSet` make; as many as are missing.
fn refused(replica_set: &ReplicaSet) -> Option<Trouble> {
    let message = replica_set.failure()?;
    let desired = replica_set.0.pointer("/spec/replicas");
    let desired = desired.and_then(Value::as_i64).unwrap_or(1);
    let missing = desired.saturating_sub(integer(&replica_set.0, "/status/replicas"));
    Some(Trouble {
        kind: CauseKind::Refused,
        message: message.to_owned(),
        pod: None,
        weight: missing.max(1),
        crash: None,
    })
}
