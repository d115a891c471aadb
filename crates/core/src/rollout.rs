//! Whether the old version is up, judged from the Deployment and its `ReplicaSets` alone.

use jiff::Timestamp;
use rollback_api::Reason;
use rollback_api::status::{PlannedTarget, TargetStatus};

use crate::observed::{Deployment, ReplicaSet, Seen};
use crate::text::plain;
use crate::time;

/// Reason of `Progressing` when the Deployment controller gives up.
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// How far the rollout of the old version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// The Deployment was not read.
    Unknown,
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
    seen: &Seen<Deployment>,
    replica_sets: &[ReplicaSet],
    target: &PlannedTarget,
    progress: &TargetStatus,
    now: Timestamp,
) -> Rollout {
    let deployment = match seen {
        Seen::Unknown => return Rollout::Unknown,
        Seen::Absent => return Rollout::Gone(gone(&target.name, "was deleted")),
        Seen::Found(deployment) => deployment,
    };
    if deployment.uid() != target.uid {
        return Rollout::Gone(gone(&target.name, "was deleted and made again"));
    }
    if deployment.is_deleting() {
        return Rollout::Gone(gone(&target.name, "is being deleted"));
    }
    if deployment.template().digest() != target.to_digest {
        return Rollout::Superseded(format!(
            "Somebody changed the pod template of Deployment {} after it was rolled back. Their change stands; see kubectl get deployment {} -o yaml --show-managed-fields for who it was.",
            target.name, target.name
        ));
    }
    let counts = Counts {
        desired: deployment.desired(),
        updated: deployment.updated(),
        available: deployment.available(),
    };
    let running = replica_sets
        .iter()
        .find(|set| is_running(set, deployment, target));
    let settled = deployment.observed_generation() >= deployment.generation() && running.is_some();
    if settled && counts.desired == 0 && deployment.replicas() == 0 {
        return Rollout::Empty(counts);
    }
    let all = [counts.updated, counts.available, deployment.replicas()];
    if settled && counts.desired > 0 && all.iter().all(|count| *count == counts.desired) {
        return Rollout::Complete(counts);
    }
    let missing = missing(deployment, counts, settled, running);
    if settled && failed_since(deployment, progress, now) {
        let message = plain(deployment.condition_message("Progressing"), 500);
        return Rollout::Failed(
            counts,
            Reason::RolloutFailed,
            format!("{missing} The Deployment controller gave up: {message}"),
        );
    }
    match &progress.rollout {
        Some(rollout) if now >= rollout.deadline => Rollout::Failed(
            counts,
            Reason::RolloutTimedOut,
            format!(
                "{missing} The time allowed ended at {}.",
                time::stamp(rollout.deadline)
            ),
        ),
        Some(_) | None => Rollout::InProgress(counts, missing),
    }
}

fn is_running(set: &ReplicaSet, deployment: &Deployment, target: &PlannedTarget) -> bool {
    set.controller_uid() == Some(deployment.uid())
        && !set.is_deleting()
        && set.template().digest() == target.to_digest
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
pub fn wake(seen: &Seen<Deployment>, progress: &TargetStatus, now: Timestamp) -> Option<Timestamp> {
    let deadline = progress.rollout.as_ref().map(|rollout| rollout.deadline);
    let counts = seen
        .found()
        .and_then(|deployment| had_its_time(deployment, progress))
        .filter(|at| *at > now);
    deadline.into_iter().chain(counts).min()
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
    running: Option<&ReplicaSet>,
) -> String {
    let name = deployment.name();
    if !settled {
        return format!(
            "Deployment {name}: the Deployment controller has not taken up the old template yet."
        );
    }
    let failure = running
        .and_then(ReplicaSet::failure)
        .map_or_else(String::new, |failure| {
            let failure = plain(failure, 500);
            format!(" Pods cannot be made: {}.", failure.trim_end_matches('.'))
        });
    format!(
        "Deployment {name}: {} of {} replicas run the old template, {} are available.{failure}",
        counts.updated, counts.desired, counts.available
    )
}
