//! Keeping the owners of a Deployment away, after approval and before the revert: the entry in the ledger, the write, and
//! the read that shows it. A hold that cannot be placed, or is not to be seen afterwards, ends the request with nothing
//! changed.

use rollback_api::hold::{Hold, PlannedHold};
use rollback_api::policy::SelfHealing;
use rollback_api::status::TargetStatus;
use rollback_api::{Reason, RequestState};
use serde_json::Value;

use super::revert::preparing;
use super::{TargetDecision, TargetScope};
use crate::execution::outcome::end;
use crate::execution::step::{PlaceHold, Step};
use crate::history::ledger;
use crate::hold::{self, HoldState};
use crate::message::text::plain;
use crate::observed::view::{HoldSeen, WritingView};

/// How often a hold is placed that somebody takes away again.
const MOST_TRIES: u32 = 3;

/// What has to be done until every owner is held; nothing once they are.
pub(super) fn before(
    scope: TargetScope,
    view: &WritingView,
    progress: &mut TargetStatus,
) -> Option<TargetDecision> {
    if scope.target.holds.is_empty() {
        return None;
    }
    if scope.plan.rules.git_ops.on_self_healing != SelfHealing::Hold {
        let why = "the policy does not have owners held any more.";
        let next = "Create a new request, which gets a new plan.".to_owned();
        return Some(refused(scope, progress, why, next));
    }
    let unread = HoldSeen::default();
    for (index, planned) in scope.target.holds.iter().enumerate() {
        let seen = view.holds.get(index).unwrap_or(&unread);
        if let Some(decision) = one(scope, view, planned, seen, progress) {
            return Some(decision);
        }
    }
    let mark = hold::mark(scope.request);
    let mut both = scope.target.holds.iter().zip(&view.holds);
    let any_of_ours = both.any(|(planned, seen)| {
        hold::state(planned.means, &planned.object.uid, &seen.object, &mark) == HoldState::Ours
    });
    if any_of_ours {
        progress.held_at.get_or_insert(scope.now);
    }
    None
}

fn one(
    scope: TargetScope,
    view: &WritingView,
    planned: &PlannedHold,
    seen: &HoldSeen,
    progress: &mut TargetStatus,
) -> Option<TargetDecision> {
    let owner = plain(&planned.owner, 300);
    let mark = hold::mark(scope.request);
    let held = view.claiming.ledger.as_ref();
    let of_object =
        |hold: &&Hold| hold.means == planned.means && hold.object.uid == planned.object.uid;
    let mut known = held
        .iter()
        .flat_map(|ledger| &ledger.holds)
        .filter(of_object);
    if known.clone().any(|hold| hold.release.is_some()) {
        let why = format!("Waiting until the last hold on {owner} is released.");
        return Some(TargetDecision::recheck(scope.now, why));
    }
    let ours = known.find(|hold| hold.request_uid == scope.uid());
    match hold::state(planned.means, &planned.object.uid, &seen.object, &mark) {
        HoldState::Unread => Some(TargetDecision::recheck(
            scope.now,
            format!("Reading {owner}."),
        )),
        HoldState::Gone => Some(refused(
            scope,
            progress,
            &format!("{owner} is gone, or was made again, since the plan was made."),
            "Create a new request, which gets a new plan.".to_owned(),
        )),
        HoldState::Ours if ours.is_none() => {
            // Another Deployment of this request shares it: what was there before is what the plan says.
            Some(remember(scope, view, planned, planned.before.clone()))
        }
        HoldState::Ours if hold::is_at_work(planned.means, &seen.object) => {
            let why = format!("Waiting until {owner} has ended what it began before it was held.");
            Some(TargetDecision::recheck(scope.now, why))
        }
        // In place; or held by somebody else since: theirs to end, and nothing of ours is there.
        HoldState::Ours | HoldState::Foreign => None,
        HoldState::Free(there) => match ours {
            Some(entry) if entry.before == there => {
                place(scope, planned, seen, there.as_deref(), progress)
            }
            Some(_) | None => Some(remember(scope, view, planned, there)),
        },
    }
}

/// The intent: who holds what, and what was there before.
fn remember(
    scope: TargetScope,
    view: &WritingView,
    planned: &PlannedHold,
    before: Option<String>,
) -> TargetDecision {
    let entry = hold::entry(scope.request, scope.target, planned, before, scope.now);
    let held = view.claiming.ledger.as_ref();
    let step = Step::Claim(ledger::holding(held, scope.target, entry));
    TargetDecision::take(step, preparing(&scope.target.workload.name))
}

fn place(
    scope: TargetScope,
    planned: &PlannedHold,
    seen: &HoldSeen,
    before: Option<&str>,
    progress: &mut TargetStatus,
) -> Option<TargetDecision> {
    let owner = plain(&planned.owner, 300);
    let annotations = hold::annotations(scope.request, scope.target, planned);
    let object = seen.object.found()?;
    let Some(patch) = hold::place(planned, object, before, &annotations) else {
        let why = format!("The plan holds {owner} by means that only a newer version knows.");
        return Some(refused(scope, progress, &why, "Run that.".to_owned()));
    };
    let what_to_do = || {
        format!(
            "Have it put on hold by hand, or bind the ClusterRole of docs/tasks/git.md in namespace {}, then create a new request.",
            plain(&planned.object.namespace, 63)
        )
    };
    if let Some(why) = refusal(seen, &patch) {
        let why = format!("{owner} could not be put on hold {why}.");
        return Some(refused(scope, progress, &why, what_to_do()));
    }
    if seen.placed >= MOST_TRIES {
        let why = format!("{owner} was put on hold, and somebody ends that each time.");
        return Some(refused(scope, progress, &why, what_to_do()));
    }
    let step = Step::PlaceHold(PlaceHold {
        workload: scope.target.workload.clone(),
        hold: planned.clone(),
        mark: annotations.mark,
        patch,
    });
    let message = format!("Putting {owner} on hold.");
    Some(TargetDecision::take(step, message))
}

/// What the API server said of this very write.
fn refusal(seen: &HoldSeen, patch: &Value) -> Option<String> {
    let rejection = seen.rejection.as_ref();
    let rejection = rejection.filter(|rejection| rejection.patch == *patch)?;
    let message = plain(&rejection.message, 800);
    let message = message.trim_end_matches('.');
    Some(format!("(HTTP {}): {message}", rejection.code))
}

fn refused(
    scope: TargetScope,
    progress: &mut TargetStatus,
    why: &str,
    next: String,
) -> TargetDecision {
    let what = format!(
        "Deployment {} is not rolled back, because it would not last: {why}",
        plain(&scope.target.workload.name, 253)
    );
    let ending = end(
        RequestState::Refused,
        Reason::HoldNotPlaced,
        what,
        scope.now,
    )
    .next(next);
    TargetDecision::end(scope, progress, ending)
}
