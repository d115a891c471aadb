//! Capacity for the old version: Deployments that the policy names are scaled down, one after the other, and get back what
//! they had when the request ends.
//!
//! What a Deployment had is stored before it is touched, and every write tests that it still has it. What somebody else
//! has changed meanwhile is theirs.

use jiff::Timestamp;
use rollback_api::RollbackRequestStatus;
use rollback_api::status::{Cause, CauseKind, Plan, ScaledDown, TargetStatus};

use super::{TargetDecision, remedies};
use crate::approval::consent;
use crate::execution::phase::TargetPhase;
use crate::execution::step::{Scale, Step};
use crate::message::text::plain;
use crate::observed::Fetched;
use crate::observed::view::Capacity;
use crate::report::conditions::RequestDecision;
use crate::time;

/// Seconds that the scheduler gets to use the capacity that was freed, before more is freed.
const PATIENCE_SECONDS: i64 = 10;

/// Whether something is to be read because capacity is wanted, or replicas are owed.
pub fn is_wanted(plan: &Plan, status: &RollbackRequestStatus) -> bool {
    status.scaled_down.iter().any(is_owed) || !candidates(plan, status).is_empty()
}

/// The Deployments that may be scaled down now: those that the rules name by which a Deployment without capacity is
/// carried out, and that the request does not roll back.
pub fn candidates<'a>(plan: &Plan, status: &'a RollbackRequestStatus) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let rules = without_capacity(status).filter_map(|progress| consent::rules(status, progress));
    for name in rules.flat_map(|rules| &rules.capacity.scale_down) {
        let is_target = plan.targets.iter().any(|target| target.name == *name);
        if !is_target && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn is_owed(scaled: &ScaledDown) -> bool {
    scaled.restored_at.is_none()
}

/// The targets whose pods find no capacity now.
fn without_capacity(status: &RollbackRequestStatus) -> impl Iterator<Item = &TargetStatus> {
    let cause = |progress: &TargetStatus| {
        let fallback = progress.fallback.as_ref();
        let rollout = fallback.map_or(progress.rollout.as_ref(), |fallback| {
            fallback.rollout.as_ref()
        });
        rollout?.cause.clone()
    };
    status
        .targets
        .iter()
        .filter(|progress| TargetPhase::of(status, progress) == TargetPhase::RollingOut)
        .filter(move |progress| cause(progress).is_some_and(|cause| lacks_capacity(&cause)))
}

/// No node takes the pods, or a quota does not let them be made.
fn lacks_capacity(cause: &Cause) -> bool {
    match cause.kind {
        CauseKind::Unschedulable => true,
        CauseKind::Refused => cause.message.contains("quota"),
        CauseKind::CrashLoop
        | CauseKind::ImagePull
        | CauseKind::Config
        | CauseKind::Volume
        | CauseKind::Unready
        | CauseKind::Newer(_) => false,
    }
}

/// Frees capacity, as long as some is missing: the next step, if there is one.
pub(super) fn make(
    plan: &Plan,
    seen: &Capacity,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Option<TargetDecision> {
    if let Some(index) = status
        .scaled_down
        .iter()
        .position(|scaled| scaled.scaled_at.is_none() && is_owed(scaled))
    {
        return Some(follow(seen, status, index, now));
    }
    without_capacity(status).next()?;
    let last = status
        .scaled_down
        .iter()
        .filter_map(|scaled| scaled.scaled_at)
        .max();
    let next = last.map(|last| time::after(last, PATIENCE_SECONDS));
    if let Some(next) = next.filter(|next| *next > now) {
        return Some(TargetDecision::wait(
            Some(next),
            "Capacity was freed for the old version.",
        ));
    }
    let known = |name: &str| {
        status
            .scaled_down
            .iter()
            .any(|scaled| scaled.deployment == name)
    };
    let (name, deployment) = candidates(plan, status)
        .into_iter()
        .filter(|name| !known(name))
        .filter_map(|name| Some((name, seen.of(name).found()?)))
        .find(|(_, deployment)| deployment.desired() > 0 && !deployment.is_deleting())?;
    let from = i32::try_from(deployment.desired()).ok()?;
    let message = format!(
        "Freeing capacity: Deployment {} is to be scaled down.",
        plain(name, 253)
    );
    let name = name.to_owned();
    status.scaled_down.push(ScaledDown {
        deployment: name,
        uid: deployment.uid().to_owned(),
        from,
        intended_at: now,
        scaled_at: None,
        restored_at: None,
    });
    Some(TargetDecision::again(message))
}

/// One whose intent is stored: written, seen to be written, or given up.
fn follow(
    seen: &Capacity,
    status: &mut RollbackRequestStatus,
    index: usize,
    now: Timestamp,
) -> TargetDecision {
    let scaled = status.scaled_down[index].clone();
    let name = plain(&scaled.deployment, 253);
    let size = match size(seen, &scaled) {
        Fetched::Unknown => {
            return TargetDecision::recheck(now, format!("Reading Deployment {name}."));
        }
        Fetched::Absent => None,
        Fetched::Found(size) => Some(size),
    };
    if size == Some(0) {
        status.scaled_down[index].scaled_at = Some(now);
        return TargetDecision::again(format!("Deployment {name} is scaled down."));
    }
    let refusal = seen.refused.get(&scaled.deployment);
    if size == Some(i64::from(scaled.from)) && refusal.is_none() {
        let step = scale(&scaled, scaled.from, 0);
        return TargetDecision::take(
            step,
            format!("Scaling down Deployment {name} to free capacity."),
        );
    }
    status.scaled_down[index].restored_at = Some(now);
    let why = refusal.map_or_else(
        || "somebody changed it meanwhile".to_owned(),
        |refusal| format!(
            "the API server refuses that: {}. An administrator binds the ClusterRole rollback-scale-down in this namespace",
            plain(refusal, 300).trim_end_matches('.')
        ),
    );
    let warning = format!("Deployment {name} was not scaled down to free capacity: {why}.");
    if let Some(progress) = status.targets.first_mut() {
        remedies::warn(progress, warning.clone());
    }
    TargetDecision::again(warning)
}

/// How many replicas the very Deployment asks for now.
fn size(seen: &Capacity, scaled: &ScaledDown) -> Fetched<i64> {
    match seen.of(&scaled.deployment) {
        Fetched::Unknown => Fetched::Unknown,
        Fetched::Found(deployment)
            if deployment.uid() == scaled.uid && !deployment.is_deleting() =>
        {
            Fetched::Found(deployment.desired())
        }
        Fetched::Absent | Fetched::Found(_) => Fetched::Absent,
    }
}

fn scale(scaled: &ScaledDown, from: i32, to: i32) -> Step {
    Step::Scale(Scale {
        deployment: scaled.deployment.clone(),
        uid: scaled.uid.clone(),
        from,
        to,
    })
}

/// Gives back what was taken, before anything else is wound up: `None` when nothing is owed.
pub(super) fn give_back(
    seen: &Capacity,
    status: &mut RollbackRequestStatus,
    message: &str,
    now: Timestamp,
) -> Option<RequestDecision> {
    let mut steps = Vec::new();
    let mut unread = false;
    for scaled in status
        .scaled_down
        .iter_mut()
        .filter(|scaled| is_owed(scaled))
    {
        let size = match seen.of(&scaled.deployment) {
            Fetched::Unknown => {
                unread = true;
                continue;
            }
            Fetched::Found(deployment) if deployment.uid() == scaled.uid => {
                Some(deployment.desired())
            }
            Fetched::Absent | Fetched::Found(_) => None,
        };
        if size == Some(0) && scaled.from > 0 {
            steps.push(scale(scaled, 0, scaled.from));
        } else {
            // It has it back, or it is gone, or it is somebody else's by now.
            scaled.restored_at = Some(now);
        }
    }
    if !steps.is_empty() {
        return Some(RequestDecision::take(steps, message));
    }
    unread.then(|| RequestDecision::recheck(now, message))
}
