//! The next step of a request.
//!
//! ```text
//! Planning -> AwaitingApproval -> BackingUp -> Reverting -> RollingOut -> Verifying -> end
//!                   ^---------- rules or guard changed ---------'
//! ```
//! Before the intent to revert is stored, a person may still withdraw and the request may still
//! expire. After the Deployment has been seen with the old template nothing goes back any more.

mod ending;
mod preconditions;
mod recovery;
mod revert;

use jiff::Timestamp;
use rollback_api::status::{Outcome, Plan, PlannedTarget, TargetStatus};
use rollback_api::{Reason, RollbackRequest, RollbackRequestStatus, Word};

use crate::approval::{self, Mailbox};
use crate::conditions::{self, Stand};
use crate::observed::{Observed, Seen};
use crate::plan::{self, end, target_name};
use crate::step::{Decision, Phase, Step};
use crate::time;
use ending::winding_up;
use preconditions::revalidate;
use recovery::{rolling_out, verifying};
use revert::{preparing, writing};

/// The next step of `request`, given what was observed at `now`.
///
/// # Guarantees
/// Total and deterministic. No [`Step::Revert`] without sufficient approvals of exactly the plan
/// whose digest can be recomputed from `observed`, without the claim, or for a Deployment that is not
/// in the state that was approved. A request that has ended stays as it ended.
pub fn decide(request: &RollbackRequest, observed: &Observed, now: Timestamp) -> Decision {
    let mut status = request.status.clone().unwrap_or_default();
    status.observed_generation = request.metadata.generation.unwrap_or_default();
    let next = advance(request, observed, &mut status, now);
    conditions::project(request, &mut status, &next, now);
    Decision {
        status,
        step: next.step,
    }
}

/// Ends the request; the next pass reports it.
fn finish(status: &mut RollbackRequestStatus, outcome: Outcome) -> Stand {
    let message = outcome.message.clone();
    status.outcome = Some(outcome);
    Stand::new(Step::Again, message)
}

fn advance(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let phase = Phase::of(status);
    if let Some(outcome) = ended_early(request, status, phase, now) {
        return finish(status, outcome);
    }
    match phase {
        Phase::Planning => planning(request, observed, status, now),
        Phase::AwaitingApproval => awaiting_approval(request, observed, status, now),
        Phase::BackingUp | Phase::Reverting => writing(request, observed, status, now),
        Phase::RollingOut => rolling_out(request, observed, status, now),
        Phase::Verifying => verifying(request, observed, status, now),
        Phase::Ended => winding_up(request, observed, status, now),
    }
}

/// What ends a request before the intent to revert is stored, whatever it is waiting for.
fn ended_early(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    phase: Phase,
    now: Timestamp,
) -> Option<Outcome> {
    if phase > Phase::BackingUp {
        return None;
    }
    if let Some(outcome) = approval::withdrawn(request, now) {
        return Some(outcome);
    }
    if request
        .metadata
        .generation
        .is_some_and(|generation| generation != 1)
    {
        return Some(end(
            Word::Refused,
            Reason::SpecChanged,
            "spec: it was changed after the request was created, which the admission policies of deploy/ prevent when they are installed. \
             A request is asked for once: create a new one with another name. Nothing was changed.",
            now,
        ));
    }
    let known = request
        .spec
        .requested_by
        .as_ref()
        .is_some_and(|by| !by.username.is_empty());
    if !known {
        return Some(end(
            Word::Refused,
            Reason::RequesterUnknown,
            "spec.requestedBy: the API server did not stamp who asks. Install the admission policies of deploy/, then create a new request. Nothing was changed.",
            now,
        ));
    }
    status
        .plan
        .as_ref()
        .filter(|plan| plan.not_after <= now)
        .map(|plan| plan::expired(plan.not_after, now))
}

fn planning(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let unread = observed.policy == Seen::Unknown
        || observed.ledger == Seen::Unknown
        || observed.opted_in == Seen::Unknown;
    if observed.deployment == Seen::Unknown || (unread && observed.deployment != Seen::Absent) {
        return Stand::recheck(now, "Reading the Deployment and the rules for it.");
    }
    match plan::make(request, observed, now) {
        Err(outcome) => finish(status, outcome),
        Ok(plan) => {
            status.targets = plan
                .targets
                .iter()
                .map(|target| TargetStatus {
                    name: target.name.clone(),
                    ..TargetStatus::default()
                })
                .collect();
            status.approvals.clear();
            let digest = plan.digest.clone();
            status.plan = Some(plan);
            if request.spec.dry_run {
                return finish(
                    status,
                    end(
                        Word::Succeeded,
                        Reason::DryRun,
                        format!(
                            "This is a dry run: the plan {digest} is in status.plan. Nothing was changed."
                        ),
                        now,
                    ),
                );
            }
            Stand::new(Step::Again, "The plan is published.")
        }
    }
}

fn awaiting_approval(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    if let Err(stand) = revalidate(request, observed, status, now) {
        return stand;
    }
    let Some(plan) = status.plan.clone() else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    if !observed.guard.missing.is_empty() {
        return Stand::waiting(
            &plan,
            now,
            "GuardMissing",
            format!(
                "No approval counts: the admission policies that make approvals true are not all there ({} missing). An administrator installs them with kubectl apply -f deploy/.",
                observed.guard.missing.join(", ")
            ),
        );
    }
    match approval::read(request, &plan, &status.approvals, now) {
        Mailbox::Valid(valid) => {
            status.approvals.push(valid);
            let message = if approval::suffices(&plan, &status.approvals) {
                preparing(target_name(request).unwrap_or_default())
            } else {
                "An approval was counted.".to_owned()
            };
            Stand::new(Step::Again, message)
        }
        Mailbox::Invalid(objection) => {
            Stand::waiting(&plan, now, "ApprovalInvalid", format!("{objection}."))
        }
        Mailbox::Empty => {
            let counted = status.approvals.len();
            Stand::waiting(
                &plan,
                now,
                "AwaitingApproval",
                format!(
                    "{counted} of {} approvals until {}. To approve: {}",
                    plan.rules.approvals_required,
                    time::stamp(plan.not_after),
                    approval::how_to_approve(request, &plan)
                ),
            )
        }
    }
}

/// The plan, its one target and how far that has come.
fn only_target(status: &RollbackRequestStatus) -> Option<(&Plan, &PlannedTarget, &TargetStatus)> {
    let plan = status.plan.as_ref()?;
    Some((plan, plan.targets.first()?, status.targets.first()?))
}

fn uid(request: &RollbackRequest) -> &str {
    request.metadata.uid.as_deref().unwrap_or_default()
}
