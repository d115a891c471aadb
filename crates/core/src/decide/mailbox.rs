//! Waiting for people.

use jiff::Timestamp;
use rollback_api::status::Plan;
use rollback_api::{RequestState, RollbackRequest, RollbackRequestStatus};

use super::automatic;
use crate::approval::{self, Mailbox, TO_APPROVE};
use crate::execution::job;
use crate::execution::step::Step;
use crate::observed::view::{Terms, WorkingView};
use crate::report::conditions::{AWAITING_APPROVAL, GUARD_MISSING, RequestDecision};
use crate::time;

/// Counts the approval that stands in the mailbox, if it is one. While nobody accepts the risk for the data, the request
/// is `Blocked`, and says whom to ask.
pub(super) fn read(
    request: &RollbackRequest,
    view: &WorkingView,
    terms: &Terms,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> RequestDecision {
    let decision = open(request, view, terms, plan, status, now);
    match &plan.data_risk {
        None => decision,
        Some(risk) => RequestDecision {
            state: Some(RequestState::Blocked),
            message: format!("{} {}", risk.message, decision.message),
            ..decision
        },
    }
}

fn open(
    request: &RollbackRequest,
    view: &WorkingView,
    terms: &Terms,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> RequestDecision {
    if !terms.guard.holes.is_empty() {
        return RequestDecision::waiting(
            plan,
            now,
            GUARD_MISSING,
            format!(
                "No approval counts: the admission policies that make approvals true are not all in force ({}). An administrator puts them back with kubectl apply -f deploy/, or kubectl replace -f when somebody has added to them.",
                terms.guard.holes.join("; ")
            ),
        );
    }
    if let Some(said) = automatic::say(request, view, terms, plan, status, now) {
        return said;
    }
    match approval::read(request, plan, &status.approvals, now) {
        Mailbox::Valid(valid) => {
            // Of one person the last word counts.
            let by = valid.by.username.clone();
            status
                .approvals
                .retain(|approval| approval.by.username != by);
            status.approvals.push(valid);
            let message = if approval::suffices(plan, &status.approvals) {
                preparing(plan)
            } else {
                "An approval was counted.".to_owned()
            };
            RequestDecision::again(message)
        }
        Mailbox::Invalid(objection) => {
            RequestDecision::waiting(plan, now, "ApprovalInvalid", format!("{objection}."))
        }
        Mailbox::Empty if approval::is_to_be_put_away(request, plan) => RequestDecision::take(
            vec![Step::EmptyMailbox],
            "An approval was counted; the annotations are put away for the next approver.",
        ),
        Mailbox::Empty => {
            let counted = status.approvals.len();
            let open = super::freezing::holds(plan, view, status, now);
            let frozen = open.map_or_else(String::new, |frozen| {
                format!("{} ", super::freezing::message(plan, &frozen))
            });
            let said = automatic::held_back(plan, status).unwrap_or_default();
            let said = if said.is_empty() {
                String::new()
            } else {
                format!("{said} ")
            };
            RequestDecision::waiting(
                plan,
                now,
                AWAITING_APPROVAL,
                format!(
                    "{said}{frozen}{}{}{counted} of {} approvals until {}. {TO_APPROVE}{}",
                    job::told(plan),
                    approval::because_of_a_machine(plan),
                    plan.rules.approvals.required,
                    time::stamp(plan.not_after),
                    approval::how_to_approve(request, plan, terms.guard.typed)
                ),
            )
        }
    }
}

fn preparing(plan: &Plan) -> String {
    match plan.targets.as_slice() {
        [only] => super::revert::preparing(&only.workload.name),
        many => format!("Approved; claiming and saving {} Deployments.", many.len()),
    }
}
