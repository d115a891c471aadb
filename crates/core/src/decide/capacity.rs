//! Capacity for the old version: Deployments that the policy names are scaled down, one after the other, and get back what
//! they had when the request ends.
//!
//! What a Deployment had is stored before it is touched, and every write tests that it still has it. What somebody else
//! has changed meanwhile is theirs.

use jiff::Timestamp;
use rollback_api::status::{Cause, CauseKind, Plan, Taken, TargetStatus};
use rollback_api::{RollbackRequestStatus, WorkloadKind};

use super::{TargetDecision, remedies};
use crate::approval::consent;
use crate::execution::phase::TargetPhase;
use crate::execution::step::{Scale, Step};
use crate::execution::taken::{self, Next, Seen};
use crate::message::text::plain;
use crate::observed::view::Capacity;
use crate::observed::{Deployment, Fetched};
use crate::report::conditions::RequestDecision;
use crate::time;

/// Replicas of a Deployment that is scaled down.
const DURING: i32 = 0;

/// Seconds that the scheduler gets to use the capacity that was freed, before more is freed.
const PATIENCE_SECONDS: i64 = 10;

/// Whether something is to be read because capacity is wanted, or replicas are owed.
pub fn is_wanted(plan: &Plan, status: &RollbackRequestStatus) -> bool {
    status.scaled_down.iter().any(Taken::is_owed) || !candidates(plan, status).is_empty()
}

/// The Deployments that may be scaled down now: those that the rules name by which a Deployment without capacity is
/// carried out, and that the request does not roll back.
pub fn candidates<'a>(plan: &Plan, status: &'a RollbackRequestStatus) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let rules = without_capacity(status).filter_map(|progress| consent::rules(status, progress));
    for known in rules.flat_map(|rules| &rules.capacity.scale_down) {
        let name = known.name.as_str();
        let is_target = plan
            .targets
            .iter()
            .any(|target| known.means(target.workload.kind, &target.workload.name));
        if known.means(WorkloadKind::Deployment, name) && !is_target && !names.contains(&name) {
            names.push(name);
        }
    }
    names
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
        | CauseKind::Sandbox
        | CauseKind::AwaitingNode
        | CauseKind::Gate
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
        .position(|scaled| scaled.taken_at.is_none() && scaled.is_owed())
    {
        return Some(follow(seen, status, index, now));
    }
    without_capacity(status).next()?;
    let last = status
        .scaled_down
        .iter()
        .filter_map(|scaled| scaled.taken_at)
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
            .any(|scaled| scaled.workload.name == name)
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
    let scaled = Taken::intended(deployment.workload(), from, now);
    status.scaled_down.push(scaled);
    Some(TargetDecision::again(message))
}

/// One whose intent is stored: written, seen to be written, or given up.
fn follow(
    seen: &Capacity,
    status: &mut RollbackRequestStatus,
    index: usize,
    now: Timestamp,
) -> TargetDecision {
    let scaled = &mut status.scaled_down[index];
    let name = plain(&scaled.workload.name, 253);
    let refusal = seen.refused.get(&scaled.workload.name);
    let replicas = match seen.of(&scaled.workload.name) {
        Fetched::Found(deployment) if deployment.is_deleting() => Seen::Gone,
        found @ (Fetched::Unknown | Fetched::Absent | Fetched::Found(_)) => {
            replicas_of(found, scaled)
        }
    };
    match taken::take(scaled, replicas, &DURING, refusal.is_some(), now) {
        Next::Read => {
            return TargetDecision::recheck(now, format!("Reading Deployment {name}."));
        }
        Next::Done => return TargetDecision::again(format!("Deployment {name} is scaled down.")),
        Next::Write { from, to } => {
            return TargetDecision::take(
                scale(scaled, from, to),
                format!("Scaling down Deployment {name} to free capacity."),
            );
        }
        Next::Lost => {}
    }
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
fn replicas_of(found: &Fetched<Deployment>, scaled: &Taken<i32>) -> Seen<i32> {
    match found {
        Fetched::Unknown => Seen::Unread,
        Fetched::Found(deployment) if deployment.uid() == scaled.workload.uid => {
            // No server stores more than fits.
            Seen::Has(i32::try_from(deployment.desired()).unwrap_or(i32::MAX))
        }
        Fetched::Absent | Fetched::Found(_) => Seen::Gone,
    }
}

fn scale(scaled: &Taken<i32>, from: i32, to: i32) -> Step {
    Step::Scale(Scale {
        workload: scaled.workload.clone(),
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
    let owed = status.scaled_down.iter_mut();
    for scaled in owed.filter(|scaled| scaled.is_owed()) {
        let replicas = replicas_of(seen.of(&scaled.workload.name), scaled);
        match taken::give_back(scaled, replicas, &DURING, now) {
            Next::Read => unread = true,
            Next::Write { from, to } => steps.push(scale(scaled, from, to)),
            Next::Done | Next::Lost => {}
        }
    }
    if !steps.is_empty() {
        return Some(RequestDecision::take(steps, message));
    }
    unread.then(|| RequestDecision::recheck(now, message))
}
