//! The next steps of a request.
//!
//! ```text
//! Planning -> AwaitingApproval -> BackingUp -> Reverting -> RollingOut -> Verifying -> end
//!                   ^---------- rules or guard changed ---------'             |
//!                                                     one failed -> Restoring -> end
//! ```
//! Each target goes this way by itself, some at the same time, one wave after the other. Until its intent to
//! revert is stored, a person may still withdraw and the request may still expire; those that have begun by then are
//! carried out. Once a Deployment has been seen with the old template nothing goes back any more.

pub mod automatic;
pub mod capacity;
pub mod crowd;
mod ending;
pub mod fallback;
pub mod finalizer;
mod freezing;
mod holding;
mod jobs;
pub mod kept;
mod lapse;
mod mailbox;
mod preconditions;
mod recovery;
mod remedies;
pub mod restore;
mod retry;
mod revert;
mod summary;
mod together;
pub mod write;

use jiff::Timestamp;
use rollback_api::status::{Measured, Outcome, Plan, PlannedTarget, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequest, RollbackRequestStatus};

use crate::approval;
use crate::approval::consent;
use crate::execution::outcome::{self, Ending, effect_of, end};
use crate::execution::phase::{Stage, has_begun, waits};
use crate::execution::step::{Decision, Next, Step};
use crate::health;
use crate::observed::View;
use crate::observed::view::{Own, PlanningView};
use crate::plan::{self, uid};
use crate::report::conditions::{self, RequestDecision};
use ending::winding_up;
use together::working;

/// The next steps of `request`, given what was read of it at `now`. A view that is not of its phase is read again.
///
/// # Guarantees
/// Total and deterministic. No [`Step::Revert`] to the old template without sufficient approvals of exactly the
/// plan whose digest can be recomputed from `view`, without the claim, or for a Deployment that is not
/// in the state that was approved. A request that has ended stays as it ended.
///
/// Nothing but our own records (plan, claim, backup, report, status), release and dropping the finalizer is asked for
/// before approvals suffice. When a Deployment is begun they suffice, are young enough and not taken back, the guard is
/// whole, no freeze is open and the request has been neither denied nor cancelled, and was approved in time. That is stored
/// with the first intent and outlives everything (`begun`); nothing that stands on an object, such as an
/// annotation, takes its place. What was begun is finished, restored and given back as the plan says that was
/// approved; a fallback, a Job, a deletion by force, scaling down or a further Deployment that it did not name is not.
/// Nothing is written for a request that is not held by its finalizer.
pub fn decide(request: &RollbackRequest, view: &View, now: Timestamp) -> Decision {
    if let Some(decision) = finalizer::first(request) {
        return decision;
    }
    let mut status = request.status.clone().unwrap_or_default();
    status.observed_generation = request.metadata.generation.unwrap_or_default();
    let mut decision = advance(request, view, &mut status, now);
    let asked = decision.steps.len();
    decision.steps.retain(|step| consent::covers(&status, step));
    if decision.steps.len() < asked {
        // Nothing asks for that. If it ever does, it is not done, and somebody gets to know.
        let what = "Something was to be done that no approval covers, so it is not: report this as a fault of the controller.";
        decision = RequestDecision {
            next: Next::Wait {
                until: Some(crate::time::after(now, 60)),
            },
            message: what.to_owned(),
            ..decision
        };
    }
    conditions::project(request, &mut status, &decision, now);
    Decision {
        status,
        steps: decision.steps,
        next: decision.next,
    }
}

/// Ends the request; the next pass reports it.
fn finish(status: &mut RollbackRequestStatus, ending: Ending) -> RequestDecision {
    let effect = outcome::effect(status);
    finish_with(status, ending.with(effect))
}

/// Ends the request, of which is known what it changed.
fn finish_with(status: &mut RollbackRequestStatus, outcome: Outcome) -> RequestDecision {
    let message = outcome.message.clone();
    status.outcome = Some(outcome);
    RequestDecision::again(message)
}

fn advance(
    request: &RollbackRequest,
    view: &View,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> RequestDecision {
    if status.outcome.is_some() {
        return match view {
            View::Ended(view) => winding_up(request, view, status, now),
            View::TurnedAway(_) | View::Planning(_) | View::Working(_) => unfit(now),
        };
    }
    if let View::Working(view) = view {
        write::forget_refused(view, status);
    }
    if let Some(ending) = ended_early(request, status, now) {
        if !has_begun(status) {
            return finish(status, ending);
        }
        if waits(status) {
            let effect = outcome::effect(status);
            status.stopped.get_or_insert(ending.silently(effect));
        }
    }
    if waits(status) {
        lapse::lapse(request, status, now);
    }
    let is_planned = match Stage::of(status) {
        Stage::Planning | Stage::Ended(_) => false,
        Stage::Working(_) => true,
    };
    let decision = match view {
        View::TurnedAway(ending) if !is_planned => finish(status, ending.clone()),
        View::Planning(view) if !is_planned => planning(request, view, status, now),
        View::Working(view) if is_planned => working(request, view, status, now),
        View::TurnedAway(_) | View::Planning(_) | View::Working(_) | View::Ended(_) => unfit(now),
    };
    // What becomes too old meanwhile is void at that moment, and not when somebody looks again for another reason.
    let is_open = status.outcome.is_none() && waits(status);
    match lapse::next_lapse(status).filter(|lapse| is_open && *lapse > now) {
        Some(lapse) if matches!(decision.next, Next::Wait { .. }) => RequestDecision {
            next: decision.next.or(Next::Wait { until: Some(lapse) }),
            ..decision
        },
        Some(_) | None => decision,
    }
}

/// What was read is not what this phase needs.
fn unfit(now: Timestamp) -> RequestDecision {
    RequestDecision::recheck(now, "Reading the Deployments and the rules for them.")
}

/// What ends a request before anything is begun, and spares what has not begun afterwards.
fn ended_early(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    now: Timestamp,
) -> Option<Ending> {
    if let Some(outcome) = approval::withdrawn(request, now) {
        return Some(outcome);
    }
    if request
        .metadata
        .generation
        .is_some_and(|generation| generation != 1)
    {
        return Some(end(
            RequestState::Refused,
            Reason::SpecChanged,
            "spec: it was changed after the request was created, which the admission policies of deploy/ prevent when they are installed. \
             A request is asked for once.",
            now,
        )
        .next("Create a new one with another name."));
    }
    let known = request
        .spec
        .requested_by
        .as_ref()
        .is_some_and(|by| !by.username.is_empty());
    if !known {
        return Some(
            end(
                RequestState::Refused,
                Reason::RequesterUnknown,
                "spec.requestedBy: the API server did not stamp who asks.",
                now,
            )
            .next("Install the admission policies of deploy/, then create a new request."),
        );
    }
    let plan = status.plan.as_ref().filter(|plan| plan.not_after <= now)?;
    // Approved in time, the others may take longer: their approvals must be young enough all the same.
    let expires = !has_begun(status) || !approval::suffices(plan, &status.approvals);
    expires.then(|| plan::expired(plan, &status.approvals, now))
}

fn planning(
    request: &RollbackRequest,
    view: &PlanningView,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> RequestDecision {
    match plan::make(request, view, now) {
        Err(ending) => finish(status, ending),
        Ok(plan) => {
            status.targets = plan
                .targets
                .iter()
                .map(|target| TargetStatus {
                    before: before(&plan, &target.workload.name, view),
                    ..TargetStatus::begins(target.workload.kind, &target.workload.name)
                })
                .collect();
            status.approvals.clear();
            let digest = plan.digest.clone();
            status.plan = Some(plan);
            if request.spec.dry_run {
                return finish(
                    status,
                    end(
                        RequestState::Succeeded,
                        Reason::DryRun,
                        format!("This is a dry run: the plan {digest} is in status.plan."),
                        now,
                    ),
                );
            }
            RequestDecision::again("The plan is published.")
        }
    }
}

/// What the checks say of the bad version, so that somebody can see what the rollback changed.
fn before(plan: &Plan, name: &str, view: &PlanningView) -> Vec<Measured> {
    let readings = view.before.get(name);
    readings.map_or_else(Vec::new, |readings| health::measured(&plan.rules, readings))
}

/// One target in one pass: what is planned for it, and what this process knows of its writes to it.
#[derive(Clone, Copy)]
struct TargetScope<'a> {
    request: &'a RollbackRequest,
    plan: &'a Plan,
    target: &'a PlannedTarget,
    own: &'a Own,
    now: Timestamp,
}

impl TargetScope<'_> {
    fn uid(&self) -> &str {
        uid(self.request)
    }

    fn namespace(&self) -> &str {
        self.request
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }
}

/// What one target needs next.
#[derive(Clone)]
struct TargetDecision {
    step: Option<Step>,
    next: Next,
    message: String,
}

impl TargetDecision {
    fn again(message: impl Into<String>) -> Self {
        Self {
            step: None,
            next: Next::Again,
            message: message.into(),
        }
    }

    fn take(step: Step, message: impl Into<String>) -> Self {
        Self {
            step: Some(step),
            ..Self::again(message)
        }
    }

    fn wait(until: Option<Timestamp>, message: impl Into<String>) -> Self {
        Self {
            step: None,
            next: Next::Wait { until },
            message: message.into(),
        }
    }

    /// Something was not read: look again soon.
    fn recheck(now: Timestamp, message: impl Into<String>) -> Self {
        Self::wait(Some(crate::time::after(now, 1)), message)
    }

    /// The target has ended.
    fn end(scope: TargetScope, progress: &mut TargetStatus, ending: Ending) -> Self {
        let effect = effect_of(progress, write::was_never_made(progress, scope.own));
        Self::end_with(progress, ending.with(effect))
    }

    /// The target has ended, and what it changed is known otherwise.
    fn end_with(progress: &mut TargetStatus, outcome: Outcome) -> Self {
        let message = outcome.message.clone();
        progress.outcome.get_or_insert(outcome);
        Self::again(message)
    }
}
