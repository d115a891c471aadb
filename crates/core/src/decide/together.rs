//! All targets of a request in one pass: those under way, what a failure means for the others, those
//! whose turn it is, and the end of all.

use jiff::Timestamp;
use rollback_api::policy::OnUnwell;
use rollback_api::request::OnFailure;
use rollback_api::status::{Outcome, Plan, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequest, RollbackRequestStatus};

use super::fallback::as_it_is_meant;
use super::preconditions::{forget_intents, look_at_unwritten, revalidate, void_approvals};
use super::recovery::{rolling_out, verifying};
use super::restore::restoring;
use super::retry::retrying;
use super::revert::writing;
use super::summary::{is_failure, summary, tally};
use super::{TargetDecision, TargetScope, capacity, finish_with, freezing, jobs, mailbox};
use crate::approval;
use crate::approval::consent::{self, Plans};
use crate::execution::outcome::{self, effect_of, end};
use crate::execution::phase::{TargetPhase, due, result, waits};
use crate::execution::step::Next;
use crate::message::text::plain;
use crate::observed::TargetView;
use crate::observed::view::{Terms, WorkingView};
use crate::report::conditions::RequestDecision;

/// One pass over all targets.
pub(super) fn working(
    request: &RollbackRequest,
    view: &WorkingView,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> RequestDecision {
    let Some(plan) = status.plan.clone() else {
        return RequestDecision::again("The plan is missing.");
    };
    let mut decisions = under_way(request, view, &plan, status, now);
    decisions.extend(capacity::make(&plan, &view.capacity, status, now));
    stop_after_failure(request, &plan, status, now);
    spare(status, now);
    let mut decision = None;
    if open(status, |phase| !phase.is_written()) {
        match go_on(request, view, &plan, status, now) {
            Ok((more, waiting)) => {
                decisions.extend(more);
                // What the others are doing goes on meanwhile.
                decision = waiting;
            }
            Err(waiting) => decision = Some(waiting),
        }
        // A target may just have failed before its write.
        stop_after_failure(request, &plan, status, now);
        spare(status, now);
    }
    if !open(status, |_| true) {
        let outcome = summary(&plan, status, now);
        return finish_with(status, outcome);
    }
    combine(&plan, status, decisions, decision)
}

fn open(status: &RollbackRequestStatus, which: impl Fn(TargetPhase) -> bool) -> bool {
    status.targets.iter().any(|progress| {
        let phase = TargetPhase::of(status, progress);
        phase != TargetPhase::Ended && which(phase)
    })
}

/// Those that were written: each as the plan says upon which it was begun.
fn under_way(
    request: &RollbackRequest,
    view: &WorkingView,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Vec<TargetDecision> {
    let chosen = due(plan, status, request.rollout().parallelism);
    let plans = Plans::of(plan, status);
    let mut decisions = Vec::new();
    for index in chosen {
        let (Some(target), Some(progress)) = (plan.targets.get(index), status.targets.get(index))
        else {
            continue;
        };
        let scope = TargetScope {
            request,
            plan: plans.plan_for(progress),
            target,
            own: view.target(index).own(),
            now,
        };
        let mut next = progress.clone();
        let phase = TargetPhase::of(status, progress);
        let Some(decision) = written(scope, phase, view.target(index), &mut next) else {
            continue;
        };
        status.targets[index] = next;
        decisions.push(decision);
    }
    decisions
}

/// One that was written. A view that does not fit is of another phase: it is read again.
fn written(
    scope: TargetScope,
    phase: TargetPhase,
    view: &TargetView,
    progress: &mut TargetStatus,
) -> Option<TargetDecision> {
    Some(match (phase, view) {
        (TargetPhase::Waiting | TargetPhase::Reverting | TargetPhase::Ended, _) => return None,
        (TargetPhase::RollingOut, TargetView::RollingOut(view)) => {
            as_it_is_meant(scope, progress, |scope, progress| {
                rolling_out(scope, view, progress)
            })
        }
        (TargetPhase::Verifying, TargetView::Verifying(view)) => {
            as_it_is_meant(scope, progress, |scope, progress| {
                verifying(scope, view, progress)
            })
        }
        (TargetPhase::Retrying, TargetView::Retrying(view)) => retrying(scope, view, progress),
        (TargetPhase::Restoring, TargetView::Restoring(view)) => restoring(scope, view, progress),
        (
            TargetPhase::RollingOut
            | TargetPhase::Verifying
            | TargetPhase::Retrying
            | TargetPhase::Restoring,
            TargetView::NotDue
            | TargetView::Failed
            | TargetView::Awaiting(_)
            | TargetView::Written(_)
            | TargetView::Claiming(_)
            | TargetView::Writing(_)
            | TargetView::RollingOut(_)
            | TargetView::Verifying(_)
            | TargetView::Retrying(_)
            | TargetView::Restoring(_),
        ) => TargetDecision::recheck(scope.now, "Reading the Deployment."),
    })
}

/// Those that have not been written: whether the plan still holds, whether enough people have
/// approved it, and the way to the write. Those that have begun go on meanwhile.
fn go_on(
    request: &RollbackRequest,
    view: &WorkingView,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Result<(Vec<TargetDecision>, Option<RequestDecision>), RequestDecision> {
    let mut decisions = look_at_unwritten(request, view, plan, status, now);
    if !open(status, |phase| !phase.is_written()) {
        return Ok((decisions, None));
    }
    let parallelism = request.rollout().parallelism;
    let is_unread = |index: &usize| view.target(*index).is_unread();
    if due(plan, status, parallelism).iter().all(is_unread) {
        return Ok((decisions, None));
    }
    let Some(terms) = &view.terms else {
        return Err(RequestDecision::recheck(now, "Reading the rules."));
    };
    revalidate(request, view, terms, status, now)?;
    if let Some(at_risk) = jobs::found_risk(request, status) {
        void_approvals(view, status, Some(at_risk));
        return Err(RequestDecision::again(
            "A Job says that the old version may not be able to live with the data, so the plan has a new digest and earlier approvals are void.",
        ));
    }
    forget_intents(view, status);
    let begun = status.targets.iter().enumerate().any(|(index, progress)| {
        TargetPhase::of(status, progress) == TargetPhase::Reverting && !is_unread(&index)
    });
    if begun || approval::suffices(plan, &status.approvals) {
        super::preconditions::guarded(view, terms, status)?;
    }
    let held = held_back(request, view, terms, plan, status, now);
    for index in due(plan, status, parallelism) {
        // One that cannot be read delays nobody but itself.
        let Some(target) = plan.targets.get(index).filter(|_| !is_unread(&index)) else {
            continue;
        };
        let phase = TargetPhase::of(status, &status.targets[index]);
        match phase {
            TargetPhase::Waiting if held.is_some() => continue,
            TargetPhase::Waiting | TargetPhase::Reverting => {}
            TargetPhase::RollingOut
            | TargetPhase::Verifying
            | TargetPhase::Retrying
            | TargetPhase::Restoring
            | TargetPhase::Ended => continue,
        }
        if phase == TargetPhase::Waiting && !consent::has_place(plan, status) {
            let why = "It waits until something that was begun upon an earlier plan has ended.";
            decisions.push(TargetDecision::recheck(now, why));
            continue;
        }
        let scope = TargetScope {
            request,
            plan,
            target,
            own: view.target(index).own(),
            now,
        };
        decisions.push(writing(
            scope,
            view.target(index),
            &mut status.targets[index],
        ));
        let progress = &status.targets[index];
        if phase == TargetPhase::Waiting && progress.revert.is_some() {
            consent::begin(plan, status, index, now);
        }
    }
    Ok((decisions, held))
}

/// What keeps a Deployment from being begun: approvals that do not suffice, or a freeze.
fn held_back(
    request: &RollbackRequest,
    view: &WorkingView,
    terms: &Terms,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Option<RequestDecision> {
    if status.stopped.is_some() || !waits(status) {
        return None;
    }
    if !approval::suffices(plan, &status.approvals) {
        return Some(mailbox::read(request, view, terms, plan, status, now));
    }
    let open = freezing::holds(plan, view, status, now)?;
    Some(freezing::decision(plan, &open, now))
}

/// The first target that failed, or ended otherwise than it should.
fn failed(status: &RollbackRequestStatus) -> Option<(&TargetStatus, &Outcome)> {
    status.targets.iter().find_map(|progress| {
        let outcome = progress
            .outcome
            .as_ref()
            .filter(|outcome| is_failure(outcome))?;
        Some((progress, outcome))
    })
}

/// Stores, once, that a failure keeps the others from beginning.
fn stop_after_failure(
    request: &RollbackRequest,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) {
    if status.stopped.is_some() {
        return;
    }
    let Some((progress, outcome)) = failed(status) else {
        return;
    };
    let state = match request.rollout().on_failure {
        OnFailure::Continue => return,
        OnFailure::Restore => RequestState::Restored,
        OnFailure::Stop if puts_back(status, progress, outcome) => RequestState::Restored,
        OnFailure::Stop if plan.targets.len() == 1 => return,
        OnFailure::Stop => RequestState::Failed,
    };
    let message = format!(
        "{}: {}",
        plain(&progress.name, 253),
        plain(&outcome.message, 600)
    );
    let effect = outcome::effect(status);
    status.stopped = Some(end(state, Reason::TargetsFailed, message, now).silently(effect));
}

/// Whether the policy brings back what was there before, because a check says that the old version is not well. That
/// nobody could tell is no reason.
fn puts_back(status: &RollbackRequestStatus, progress: &TargetStatus, outcome: &Outcome) -> bool {
    let rules = consent::rules(status, progress);
    rules.is_some_and(|rules| rules.verification.on_failure == OnUnwell::Restore)
        && outcome.reason == Reason::ChecksFailed
}

/// Those that have not begun when the others are stopped.
fn spare(status: &mut RollbackRequestStatus, now: Timestamp) {
    let Some(why) = status.stopped.clone() else {
        return;
    };
    let waiting: Vec<bool> = status
        .targets
        .iter()
        .map(|progress| TargetPhase::of(status, progress) == TargetPhase::Waiting)
        .collect();
    for (progress, is_waiting) in status.targets.iter_mut().zip(waiting) {
        if is_waiting {
            let what = if consent::is_begun(progress) {
                // Its intent was forgotten, but a write may have been on its way.
                "Not carried out"
            } else {
                "Not begun"
            };
            let message = format!("{what}: {}", plain(&why.message, 300));
            let ending = end(RequestState::Cancelled, Reason::NotBegun, message, now);
            progress.outcome = Some(ending.with(effect_of(progress, false)));
        }
    }
}

/// What all targets together ask for.
fn combine(
    plan: &Plan,
    status: &RollbackRequestStatus,
    decisions: Vec<TargetDecision>,
    waiting: Option<RequestDecision>,
) -> RequestDecision {
    let mut decision = waiting.unwrap_or_else(|| RequestDecision {
        next: Next::Done,
        ..RequestDecision::again("")
    });
    let mut messages = Vec::new();
    let mut next = if decision.next == Next::Done {
        None
    } else {
        Some(decision.next)
    };
    for of_target in decisions {
        decision.steps.extend(of_target.step);
        next = Some(next.map_or(of_target.next, |next| next.or(of_target.next)));
        messages.push(of_target.message);
    }
    decision.next = next.unwrap_or(Next::Again);
    if decision.message.is_empty() {
        decision.message = match (plan.targets.len(), messages.into_iter().next()) {
            (1, Some(only)) => only,
            (_, first) => progress(status, first),
        };
    }
    decision
}

/// `12 of 200 Deployments have ended (11 RolledBack, 1 ChecksFailed), 10 are under way. ...`
fn progress(status: &RollbackRequestStatus, first: Option<String>) -> String {
    let phase = |progress: &TargetStatus| TargetPhase::of(status, progress);
    let results: Vec<&Outcome> = status
        .targets
        .iter()
        .filter(|progress| phase(progress) == TargetPhase::Ended)
        .filter_map(result)
        .collect();
    let under_way = status
        .targets
        .iter()
        .filter(|progress| ![TargetPhase::Waiting, TargetPhase::Ended].contains(&phase(progress)))
        .count();
    let ended = if results.is_empty() {
        String::new()
    } else {
        format!(" ({})", tally(&results))
    };
    let first = first.map_or_else(String::new, |first| format!(" {first}"));
    format!(
        "{} of {} Deployments have ended{ended}, {under_way} are under way.{first}",
        results.len(),
        status.targets.len()
    )
}
