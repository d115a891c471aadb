//! What may be done about a rollout that does not go on, and what a person has to know of it.

use jiff::Timestamp;
use rollback_api::status::{PlannedTarget, TargetStatus};
use serde_json::Value;

use super::{TargetDecision, TargetScope};
use crate::execution::step::{Next, Step};
use crate::message::text::plain;
use crate::observed::LastLog;
use crate::observed::view::Leaving;
use crate::observed::workload::controller_uid;
use crate::time;

/// Most warnings that a target keeps.
const MAX_WARNINGS: usize = 16;

/// Keeps a warning, once, as far as there is room.
pub(super) fn warn(progress: &mut TargetStatus, warning: String) {
    if progress.warnings.len() < MAX_WARNINGS && !progress.warnings.contains(&warning) {
        progress.warnings.push(warning);
    }
}

/// Says what is missing when the policy asks for the log of a container that crashes and the controller may not read it.
pub(super) fn tell_of_logs(scope: TargetScope, log: Option<&LastLog>, progress: &mut TargetStatus) {
    if log.is_some_and(|log| log.forbidden) {
        let namespace = scope.namespace();
        warn(
            progress,
            format!(
                "The policy asks for the log of a container that crashes (rollout.logTailLines), but the controller may not read logs in namespace {namespace}. \
                 The rollback goes on without it. An administrator of the namespace binds ClusterRole rollback-read-logs there to ServiceAccount rollback-controller."
            ),
        );
    }
}

/// Deletes, when the policy allows that, a pod of this Deployment that should have been gone for so many seconds: one in
/// a pass, and it is written down before. Otherwise `turn` stands, and it is looked again when the time of one is over.
pub(super) fn force_delete(
    scope: TargetScope,
    leaving: Option<&Leaving>,
    progress: &mut TargetStatus,
    decision: TargetDecision,
) -> TargetDecision {
    let seconds = scope.plan.rules.remedies.force_delete_after_seconds;
    let Some((seconds, leaving)) = seconds.zip(leaving) else {
        return decision;
    };
    if leaving.may_not_delete {
        warn(progress, powerless(scope));
        return decision;
    }
    let overdue = |pod: &Value| {
        let end = moment(pod, "/metadata/deletionTimestamp")?;
        Some((time::after(end, i64::from(seconds)), pod.clone()))
    };
    let mut hanging: Vec<(Timestamp, Value)> = leaving
        .pods
        .iter()
        .filter(|pod| is_ours(pod, scope.target, leaving) && !was_forced(pod))
        .filter_map(overdue)
        .collect();
    hanging.sort_by_key(|(due, _)| *due);
    let Some((due, pod)) = hanging.first() else {
        return decision;
    };
    if *due > scope.now {
        let next = decision.next.or(Next::Wait { until: Some(*due) });
        return TargetDecision { next, ..decision };
    }
    let name = field(pod, "/metadata/name");
    warn(
        progress,
        format!(
            "Pod {} hung while it ended and is deleted by force, {seconds} seconds after its time was over. If its node still runs, so may its containers: look at the node.",
            plain(name, 253)
        ),
    );
    let step = Step::ForceDelete {
        workload: scope.target.workload.clone(),
        pod: name.to_owned(),
        uid: field(pod, "/metadata/uid").to_owned(),
    };
    TargetDecision::take(step, decision.message)
}

fn powerless(scope: TargetScope) -> String {
    format!(
        "A pod hangs while it ends, and the policy lets it be deleted by force (remedies.forceDeleteAfterSeconds), but the API server refused that. \
         Nothing was deleted. An administrator binds ClusterRole rollback-force-delete in namespace {} to ServiceAccount rollback-controller, or somebody deletes the pod.",
        scope.namespace()
    )
}

fn field<'a>(pod: &'a Value, pointer: &str) -> &'a str {
    let value = pod.pointer(pointer).and_then(Value::as_str);
    value.unwrap_or_default()
}

fn moment(pod: &Value, pointer: &str) -> Option<Timestamp> {
    field(pod, pointer).parse().ok()
}

/// Whether a pod has no time left already: then only its finalizers keep it, and deleting it again does nothing.
fn was_forced(pod: &Value) -> bool {
    let grace = pod.pointer("/metadata/deletionGracePeriodSeconds");
    grace.and_then(Value::as_i64) == Some(0)
}

/// Whether a pod belongs to a `ReplicaSet` of this very Deployment, both by UID.
fn is_ours(pod: &Value, target: &PlannedTarget, leaving: &Leaving) -> bool {
    let owner = controller_uid(pod);
    owner.is_some()
        && !field(pod, "/metadata/uid").is_empty()
        && leaving.owners.iter().any(|set| {
            Some(set.uid()) == owner && set.controller_uid() == Some(target.workload.uid.as_str())
        })
}
