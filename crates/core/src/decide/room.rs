//! Room for the old version: Deployments that the policy names are made smaller, one after the other, and get back what
//! they had when the request ends.
//!
//! What a Deployment had is stored before it is touched, and every write tests that it still has it. What somebody else
//! has changed meanwhile is theirs.

use jiff::Timestamp;
use rollback_api::RollbackRequestStatus;
use rollback_api::status::{Cause, CauseKind, Plan, Room, TargetStatus};

use super::{Turn, remedies};
use crate::conditions::Stand;
use crate::consent;
use crate::observed::{Observed, Seen};
use crate::phase::TargetPhase;
use crate::step::{Scale, Step};
use crate::text::plain;
use crate::time;

/// Seconds that the scheduler gets to use the room that was made, before more is made.
const PATIENCE_SECONDS: i64 = 10;

/// Whether something is to be read because room is wanted or owed.
pub fn is_wanted(plan: &Plan, status: &RollbackRequestStatus) -> bool {
    status.room.iter().any(is_owed) || !candidates(plan, status).is_empty()
}

/// The Deployments that may be made smaller now: those that the rules name by which a Deployment without room is
/// carried out, and that the request does not roll back.
pub fn candidates<'a>(plan: &Plan, status: &'a RollbackRequestStatus) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let rules = without_room(status).filter_map(|progress| consent::rules(status, progress));
    for name in rules.flat_map(|rules| &rules.scale_down) {
        let is_target = plan.targets.iter().any(|target| target.name == *name);
        if !is_target && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn is_owed(room: &Room) -> bool {
    room.given_back_at.is_none()
}

/// The targets whose pods have no room now.
fn without_room(status: &RollbackRequestStatus) -> impl Iterator<Item = &TargetStatus> {
    let cause = |progress: &TargetStatus| {
        let second = progress.second.as_ref();
        let rollout = second.map_or(progress.rollout.as_ref(), |second| second.rollout.as_ref());
        rollout?.cause.clone()
    };
    status
        .targets
        .iter()
        .filter(|progress| TargetPhase::of(status, progress) == TargetPhase::RollingOut)
        .filter(move |progress| cause(progress).is_some_and(|cause| lacks_room(&cause)))
}

/// No node takes the pods, or a quota does not let them be made.
fn lacks_room(cause: &Cause) -> bool {
    match cause.kind {
        CauseKind::Unschedulable => true,
        CauseKind::Refused => cause.message.contains("quota"),
        CauseKind::CrashLoop
        | CauseKind::ImagePull
        | CauseKind::Config
        | CauseKind::Volume
        | CauseKind::Unready => false,
    }
}

/// Makes room, as long as some is missing: the next step, if there is one.
pub(super) fn make(
    plan: &Plan,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Option<Turn> {
    if let Some(index) = status
        .room
        .iter()
        .position(|room| room.scaled_at.is_none() && is_owed(room))
    {
        return Some(follow(observed, status, index, now));
    }
    without_room(status).next()?;
    let last = status.room.iter().filter_map(|room| room.scaled_at).max();
    let next = last.map(|last| time::after(last, PATIENCE_SECONDS));
    if let Some(next) = next.filter(|next| *next > now) {
        return Some(Turn::wait(Some(next), "Room was made for the old version."));
    }
    let known = |name: &str| status.room.iter().any(|room| room.deployment == name);
    let (name, deployment) = candidates(plan, status)
        .into_iter()
        .filter(|name| !known(name))
        .filter_map(|name| Some((name, observed.room(name).found()?)))
        .find(|(_, deployment)| deployment.desired() > 0 && !deployment.is_deleting())?;
    let from = i32::try_from(deployment.desired()).ok()?;
    let message = format!(
        "Making room: Deployment {} is to be made smaller.",
        plain(name, 253)
    );
    let name = name.to_owned();
    status.room.push(Room {
        deployment: name,
        uid: deployment.uid().to_owned(),
        from,
        intended_at: now,
        scaled_at: None,
        given_back_at: None,
    });
    Some(Turn::again(message))
}

/// One whose intent is stored: written, seen to be written, or given up.
fn follow(
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    index: usize,
    now: Timestamp,
) -> Turn {
    let room = status.room[index].clone();
    let name = plain(&room.deployment, 253);
    let size = match size(observed, &room) {
        Seen::Unknown => return Turn::recheck(now, format!("Reading Deployment {name}.")),
        Seen::Absent => None,
        Seen::Found(size) => Some(size),
    };
    if size == Some(0) {
        status.room[index].scaled_at = Some(now);
        return Turn::again(format!("Deployment {name} makes room."));
    }
    let refusal = observed.room_refused.get(&room.deployment);
    if size == Some(i64::from(room.from)) && refusal.is_none() {
        let step = scale(&room, room.from, 0);
        return Turn::take(step, format!("Making Deployment {name} smaller for room."));
    }
    status.room[index].given_back_at = Some(now);
    let why = refusal.map_or_else(
        || "somebody changed it meanwhile".to_owned(),
        |refusal| format!(
            "the API server refuses that: {}. An administrator binds the ClusterRole rollback-make-room in this namespace",
            plain(refusal, 300).trim_end_matches('.')
        ),
    );
    let warning = format!("Deployment {name} was not made smaller to make room: {why}.");
    if let Some(progress) = status.targets.first_mut() {
        remedies::warn(progress, warning.clone());
    }
    Turn::again(warning)
}

/// How many replicas the very Deployment asks for now.
fn size(observed: &Observed, room: &Room) -> Seen<i64> {
    match observed.room(&room.deployment) {
        Seen::Unknown => Seen::Unknown,
        Seen::Found(deployment) if deployment.uid() == room.uid && !deployment.is_deleting() => {
            Seen::Found(deployment.desired())
        }
        Seen::Absent | Seen::Found(_) => Seen::Absent,
    }
}

fn scale(room: &Room, from: i32, to: i32) -> Step {
    Step::Scale(Scale {
        deployment: room.deployment.clone(),
        uid: room.uid.clone(),
        from,
        to,
    })
}

/// Gives back what was taken, before anything else is wound up: `None` when nothing is owed.
pub(super) fn give_back(
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    message: &str,
    now: Timestamp,
) -> Option<Stand> {
    let mut steps = Vec::new();
    let mut unread = false;
    for room in status.room.iter_mut().filter(|room| is_owed(room)) {
        let size = match observed.room(&room.deployment) {
            Seen::Unknown => {
                unread = true;
                continue;
            }
            Seen::Found(deployment) if deployment.uid() == room.uid => Some(deployment.desired()),
            Seen::Absent | Seen::Found(_) => None,
        };
        if size == Some(0) && room.from > 0 {
            steps.push(scale(room, 0, room.from));
        } else {
            // It has it back, or it is gone, or it is somebody else's by now.
            room.given_back_at = Some(now);
        }
    }
    if !steps.is_empty() {
        return Some(Stand::take(steps, message));
    }
    unread.then(|| Stand::recheck(now, message))
}
