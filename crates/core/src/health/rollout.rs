//! Whether the old version is up, judged from the Deployment and its `ReplicaSets`; the pods say why not.

use jiff::Timestamp;
use rollback_api::ledger::RunningImage;
use rollback_api::status::{Cause, CauseKind, PlannedTarget, RolloutStatus, Rules, TargetStatus};
use rollback_api::{Reason, RevisionLedgerSpec};

use serde_json::Value;

use crate::health::diagnose;
use crate::history::ledger;
use crate::message::shell;
use crate::message::text::plain;
use crate::observed::view::{Brought, Live, Signs};
use crate::observed::workload::integer;
use crate::observed::{Deployment, ReplicaSet};
use crate::time;

/// Reason of `Progressing` when the Deployment controller gives up.
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// How far the rollout of the old version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// The Deployment is gone, or another one has its name.
    Gone(String),
    /// Somebody wrote another template.
    Superseded(String),
    /// Not yet. The message says what is missing.
    InProgress(Counts, String),
    /// Every replica runs the old template and is available.
    Complete(Counts),
    /// The old template is in place, but no replicas are asked for.
    Empty(Counts),
    /// It will not come up, or not in time.
    Failed(Counts, Reason, String),
}

/// Replica counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked for.
    pub desired: i64,
    /// With the old template.
    pub updated: i64,
    /// Available.
    pub available: i64,
}

/// Judges the rollout of `target` after its revert.
///
/// The Deployment's own conditions are used with care: `Progressing` is sticky, so a failure that
/// stood there before the revert says nothing; and it may never be evaluated at all, so the deadline
/// is our own.
pub fn judge(
    brought: &Brought,
    target: &PlannedTarget,
    progress: &TargetStatus,
    rules: &Rules,
    now: Timestamp,
) -> Rollout {
    let Some(deployment) = &brought.live.deployment else {
        return Rollout::Gone(gone(&target.workload.name, "was deleted"));
    };
    if deployment.uid() != target.workload.uid {
        return Rollout::Gone(gone(&target.workload.name, "was deleted and made again"));
    }
    if deployment.is_deleting() {
        return Rollout::Gone(gone(&target.workload.name, "is being deleted"));
    }
    if !target.is_restored_by(&deployment.template().digest()) {
        return Rollout::Superseded(format!(
            "Somebody changed the pod template of Deployment {} after it was rolled back. Their change stands; see kubectl get deployment {} -o yaml --show-managed-fields for who it was.",
            target.workload.name,
            shell::name(&target.workload.name, "DEPLOYMENT")
        ));
    }
    let counts = Counts {
        desired: deployment.desired(),
        updated: deployment.updated(),
        available: deployment.available(),
    };
    let settled =
        deployment.observed_generation() >= deployment.generation() && brought.running.is_some();
    if settled && counts.desired == 0 && deployment.replicas() == 0 {
        return Rollout::Empty(counts);
    }
    if settled && deployment.is_complete() && !is_waiting_for_old_pods(deployment, rules) {
        return Rollout::Complete(counts);
    }
    let cause = progress
        .rollout
        .as_ref()
        .and_then(|rollout| rollout.cause.as_ref());
    let is_moved = settled
        && has_what_was_there(brought, deployment, progress)
        && cause.is_none_or(|cause| may_be_for_want_of_room(cause.kind));
    if is_moved && !is_waiting_for_old_pods(deployment, rules) {
        return Rollout::Complete(counts);
    }
    let missing = missing(deployment, counts, settled, cause);
    let is_over = end_of_grace(cause, rules).is_some_and(|end| now >= end);
    if let Some(cause) = cause.filter(|_| is_over) {
        return Rollout::Failed(
            counts,
            Reason::RolloutFailed,
            format!(
                "{missing} It has been so since {}, longer than the {} seconds that the policy allows.",
                time::stamp(cause.since),
                rules.rollout.grace_seconds
            ),
        );
    }
    if settled && failed_since(deployment, progress, now) {
        let message = plain(deployment.condition_message("Progressing"), 500);
        return Rollout::Failed(
            counts,
            Reason::RolloutFailed,
            format!("{missing} The Deployment controller gave up: {message}"),
        );
    }
    match &progress.rollout {
        Some(rollout) if now >= limit(rollout, rules) => Rollout::Failed(
            counts,
            Reason::RolloutTimedOut,
            format!(
                "{missing} The time allowed ended at {}.{}",
                time::stamp(limit(rollout, rules)),
                last_progress(rollout)
            ),
        ),
        Some(_) | None => Rollout::InProgress(counts, missing),
    }
}

/// When it is given up: at the deadline, or when nothing more has come up for as long as that since the last time.
fn limit(rollout: &RolloutStatus, rules: &Rules) -> Timestamp {
    let seconds = i64::from(rules.rollout.timeout_seconds);
    let after = |at| time::after(at, seconds);
    rollout
        .progressed_at
        .map_or(rollout.deadline, |at| after(at).max(rollout.deadline))
}

fn last_progress(rollout: &RolloutStatus) -> String {
    rollout.progressed_at.map_or_else(String::new, |at| {
        format!(" The last replica came up at {}.", time::stamp(at))
    })
}

/// Replicas with the old template that are available.
fn available(brought: &Brought) -> Option<i64> {
    integer(&brought.running.as_ref()?.0, "/status/availableReplicas")
}

/// Notes that more replicas with the old template are available than ever before. One that goes up and down is no progress.
pub fn note_progress(brought: &Brought, progress: &mut TargetStatus, now: Timestamp) {
    let (Some(rollout), Some(available)) = (&mut progress.rollout, available(brought)) else {
        return;
    };
    if available > rollout.most_available.unwrap_or_default() {
        rollout.most_available = Some(available);
        rollout.progressed_at = Some(now);
    }
}

/// Whether as many replicas are back as there were to be at the revert, and none of the bad version are left, while an
/// autoscaler asks for more by now: what was there is back.
fn has_what_was_there(brought: &Brought, deployment: &Deployment, progress: &TargetStatus) -> bool {
    let rollout = progress.rollout.as_ref();
    let Some(asked) = rollout.and_then(|rollout| rollout.desired_at_revert) else {
        return false;
    };
    let none_left = deployment.replicas() == deployment.updated();
    asked > 0
        && deployment.desired() > asked
        && none_left
        && available(brought).is_some_and(|available| available >= asked)
}

/// Whether those that an autoscaler asks for besides may lack only time and room. Whatever else keeps them from coming
/// up may be wrong with the version, and befall the others when they are started again.
fn may_be_for_want_of_room(kind: CauseKind) -> bool {
    match kind {
        CauseKind::Unschedulable
        | CauseKind::AwaitingNode
        | CauseKind::Sandbox
        | CauseKind::Unready => true,
        CauseKind::CrashLoop
        | CauseKind::ImagePull
        | CauseKind::Config
        | CauseKind::Volume
        | CauseKind::Refused
        | CauseKind::Gate
        | CauseKind::Newer(_) => false,
    }
}

/// Whether the Deployment has the old template: only then the `ReplicaSet` of the old version is of any interest.
pub fn is_in_place(target: &PlannedTarget, live: &Live) -> bool {
    let restored = |deployment: &Deployment| target.is_restored_by(&deployment.template().digest());
    live.deployment.as_ref().is_some_and(restored)
}

/// The `ReplicaSet` of the old version, as the Deployment has it now, if it is one of these.
pub fn running<'a>(
    target: &PlannedTarget,
    live: &Live,
    replica_sets: &'a [ReplicaSet],
) -> Option<&'a ReplicaSet> {
    let deployment = live.deployment.as_ref()?;
    let set = deployment.live_set(replica_sets);
    set.filter(|_| is_in_place(target, live))
}

/// Whether pods of the bad version are still on their way out, where that matters and the server tells.
fn is_waiting_for_old_pods(deployment: &Deployment, rules: &Rules) -> bool {
    rules.rollout.wait_for_termination && deployment.terminating().is_some_and(|pods| pods > 0)
}

/// What keeps the pods of the old version from becoming available, as it is seen now: `None` when nothing was seen
/// of the Deployment.
pub fn cause(
    brought: &Brought,
    signs: &Signs,
    progress: &TargetStatus,
    now: Timestamp,
) -> Option<Option<Cause>> {
    let deployment = brought.live.deployment.as_ref()?;
    if deployment.is_complete() {
        return Some(None);
    }
    let before = progress
        .rollout
        .as_ref()
        .and_then(|rollout| rollout.cause.as_ref());
    let running = brought.running.as_ref();
    let cause = diagnose::cause(running, &signs.pods, &signs.events, before, now);
    Some(cause.map(|cause| diagnose::quoting(cause, signs.last_log.as_ref())))
}

/// When the trouble has gone on for longer than the rules allow. What only an Event tells of has the whole time: anybody who
/// may create Events could have made it up, and a slow start looks like a probe that fails.
fn end_of_grace(cause: Option<&Cause>, rules: &Rules) -> Option<Timestamp> {
    cause
        .filter(|cause| diagnose::is_conclusive(cause.kind))
        .map(|cause| time::after(cause.since, i64::from(rules.rollout.grace_seconds)))
}

/// Images whose tag means something else now than when this version ran before: the same template
/// is then not the same software.
pub fn moved_tags(
    ledger: Option<&RevisionLedgerSpec>,
    pods: &[Value],
    target: &PlannedTarget,
) -> Vec<String> {
    let known = ledger::evidence(ledger, &target.workload.uid);
    let Some(before) = known.iter().find(|entry| entry.digest == target.to.digest) else {
        return Vec::new();
    };
    let now: Vec<(&str, &str)> = pods.iter().flat_map(image_ids).collect();
    let moved = |image: &&RunningImage| {
        let id = image.image_id.as_ref();
        id.is_some_and(|id| {
            now.iter()
                .any(|(container, other)| *container == image.container && *other != id)
        })
    };
    before
        .images
        .iter()
        .filter(moved)
        .take(8)
        .map(|image| {
            format!(
                "Container {}: {} is another image now than when this version ran before, because its tag was moved. What runs is not the old version. Deploy by digest.",
                plain(&image.container, 63),
                plain(&image.image, 200)
            )
        })
        .collect()
}

/// Containers of a pod, and what the kubelet made of their images.
pub fn image_ids(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .filter_map(|list| pod.pointer(list)?.as_array())
        .flatten()
        .filter_map(|status| {
            let (name, id) = (
                status.get("name")?.as_str()?,
                status.get("imageID")?.as_str()?,
            );
            (!id.is_empty()).then_some((name, id))
        })
}

fn gone(name: &str, how: &str) -> String {
    format!("Deployment {name} {how} meanwhile; what has its name now is not what was approved.")
}

/// When the old version has had the whole time that its Deployment gives it.
fn had_its_time(deployment: &Deployment, progress: &TargetStatus) -> Option<Timestamp> {
    let seconds = deployment.progress_deadline_seconds();
    progress.reverted_at.map(|at| time::after(at, seconds))
}

/// When to look again though nothing changes: when the time is over, and when a failure begins to
/// count, since the Deployment controller may have reported it a moment before and says it only once.
pub fn wake(
    seen: Option<&Deployment>,
    progress: &TargetStatus,
    rules: &Rules,
    now: Timestamp,
) -> Option<Timestamp> {
    let rollout = progress.rollout.as_ref();
    let deadline = rollout.map(|rollout| limit(rollout, rules));
    let cause = rollout.and_then(|rollout| rollout.cause.as_ref());
    let grace = end_of_grace(cause, rules);
    let counts = seen
        .and_then(|deployment| had_its_time(deployment, progress))
        .filter(|at| *at > now);
    deadline.into_iter().chain(counts).chain(grace).min()
}

/// Whether the Deployment controller reports a failure of the old version.
///
/// It counts from the last progress and not from our write, so what it reports before its whole time
/// has passed since the revert is about the version before; so is what it reported then already.
fn failed_since(deployment: &Deployment, progress: &TargetStatus, now: Timestamp) -> bool {
    let had_its_time = had_its_time(deployment, progress).is_some_and(|at| now >= at);
    let before = progress
        .revert
        .as_ref()
        .and_then(|revert| revert.progressing.as_ref());
    had_its_time
        && deployment
            .progressing()
            .is_some_and(|current| current.reason == DEADLINE_EXCEEDED && Some(&current) != before)
}

fn missing(
    deployment: &Deployment,
    counts: Counts,
    settled: bool,
    cause: Option<&Cause>,
) -> String {
    let name = deployment.name();
    if !settled {
        return format!(
            "Deployment {name}: the Deployment controller has not taken up the old template yet."
        );
    }
    let why = cause.map_or_else(String::new, |cause| {
        let pod = cause
            .pod
            .as_deref()
            .map_or_else(String::new, |pod| format!(" (pod {})", plain(pod, 253)));
        let message = plain(&cause.message, 500);
        let words = cause
            .last_words
            .as_deref()
            .map_or_else(String::new, |words| {
                format!(" It said last: \"{}\".", plain(words, 500))
            });
        format!(
            " {}{pod}: {}.{words}",
            cause.kind.as_str(),
            message.trim_end_matches('.')
        )
    });
    let old = deployment
        .terminating()
        .filter(|pods| *pods > 0 && deployment.is_complete());
    let old = old.map_or_else(String::new, |pods| {
        format!(" {pods} pods of the bad version are still on their way out.")
    });
    format!(
        "Deployment {name}: {} of {} replicas run the old template, {} are available.{why}{old}",
        counts.updated, counts.desired, counts.available
    )
}
