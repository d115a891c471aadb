//! The next step of a request.
//!
//! ```text
//! Planning -> AwaitingApproval -> BackingUp -> Reverting -> RollingOut -> Verifying -> end
//!                   ^---------- rules or guard changed ---------'
//! ```
//! Before the intent to revert is stored, a person may still withdraw and the request may still
//! expire. After the Deployment has been seen with the old template nothing goes back any more.

use jiff::Timestamp;
use rollback_api::ledger::Rollback;
use rollback_api::status::{
    Artifact as ArtifactStatus, Outcome, Plan, PlannedTarget, Revert as Intent, RolloutStatus,
    TargetStatus,
};
use rollback_api::{
    CHANGE_CAUSE, FINALIZER, Reason, RevisionLedgerSpec, RollbackRequest, RollbackRequestStatus,
    Word,
};
use serde_json::{Value, json};

use crate::approval::{self, Mailbox};
use crate::artifact::{self, Artifact};
use crate::conditions::{self, Stand};
use crate::history::History;
use crate::ledger::{self, Holder};
use crate::observed::{Access, Deployment, Observed, Rejection, Seen};
use crate::plan::{self, end};
use crate::rollout::{self, Counts, Rollout};
use crate::template::Template;
use crate::text::plain;
use crate::{health, report, time};

/// What to commit, and what to do once it is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status to commit first.
    pub status: RollbackRequestStatus,
    /// The one thing to do then.
    pub step: Step,
}

/// One idempotent write, or none. Its result is not returned but observed by the next pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing to do before something changes, or until then.
    Wait {
        /// When to look again though nothing changed.
        until: Option<Timestamp>,
    },
    /// Only the status moved on: look again at once.
    Again,
    /// Write the claim into the ledger of the Deployment.
    Claim {
        /// Name of the Deployment, and of its ledger.
        deployment: String,
        /// What the ledger has to say.
        ledger: RevisionLedgerSpec,
    },
    /// Save the Deployment.
    BackUp(Artifact),
    /// Write the old template.
    Revert(Revert),
    /// Write the incident report.
    Publish(Artifact),
    /// Give the claim back and remember the rollback.
    Release {
        /// Name of the Deployment, and of its ledger.
        deployment: String,
        /// What the ledger has to say.
        ledger: RevisionLedgerSpec,
    },
    /// Let the request go: nothing is owed any more.
    DropFinalizer,
    /// Nothing left to do, ever.
    Done,
}

/// The one write to a Deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Revert {
    /// Name of the Deployment.
    pub deployment: String,
    /// Generation that the preconditions name.
    pub generation: i64,
    /// The JSON Patch, preconditions first.
    pub patch: Value,
}

/// The state of a request, read from its facts and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// There is no plan.
    Planning,
    /// The plan lacks approvals.
    AwaitingApproval,
    /// Approved; the intent to revert is not stored.
    BackingUp,
    /// The intent is stored; the Deployment has not been seen with the old template.
    Reverting,
    /// The old template is in place; not every replica is available.
    RollingOut,
    /// Every replica is available; the checks are not done.
    Verifying,
    /// It has ended.
    Ended,
}

impl Phase {
    /// Reads the facts.
    pub fn of(status: &RollbackRequestStatus) -> Self {
        if status.outcome.is_some() {
            return Self::Ended;
        }
        let (Some(plan), Some(progress)) = (&status.plan, status.targets.first()) else {
            return Self::Planning;
        };
        if plan.targets.is_empty() {
            Self::Planning
        } else if progress
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.completed_at.is_some())
        {
            Self::Verifying
        } else if progress.reverted_at.is_some() {
            Self::RollingOut
        } else if !approval::suffices(plan, &status.approvals) {
            Self::AwaitingApproval
        } else if progress.revert.is_some() {
            Self::Reverting
        } else {
            Self::BackingUp
        }
    }
}

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
        Phase::BackingUp => backing_up(request, observed, status, now),
        Phase::Reverting => reverting(request, observed, status, now),
        Phase::RollingOut => rolling_out(request, observed, status, now),
        Phase::Verifying => verifying(request, observed, status, now),
        Phase::Ended => winding_up(request, observed, status),
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
    if observed.deployment == Seen::Unknown {
        return Stand::recheck(now, "Reading the Deployment.");
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

/// Where the Deployment stands between the plan and the revert.
enum Before<'a> {
    /// Not read.
    Unknown,
    /// As planned.
    AsPlanned(&'a Deployment),
    /// It has the old template already.
    Reverted(&'a Deployment),
    /// Nothing can be done for the plan any more.
    Over(Outcome),
}

fn before_revert<'a>(observed: &'a Observed, target: &PlannedTarget, now: Timestamp) -> Before<'a> {
    let deployment = match &observed.deployment {
        Seen::Unknown => return Before::Unknown,
        Seen::Found(deployment) if deployment.uid() == target.uid => deployment,
        Seen::Absent | Seen::Found(_) => {
            return Before::Over(end(
                Word::Failed,
                Reason::TargetGone,
                format!(
                    "Deployment {} was deleted, or deleted and made again, since the plan was made. Nothing was changed. Create a new request if there is still something to roll back.",
                    target.name
                ),
                now,
            ));
        }
    };
    let digest = deployment.template().digest();
    if digest == target.to_digest {
        Before::Reverted(deployment)
    } else if digest == target.from_digest {
        Before::AsPlanned(deployment)
    } else {
        Before::Over(end(
            Word::Superseded,
            Reason::TemplateChanged,
            format!(
                "Somebody deployed another version of {} since the plan was made, so what the plan calls bad does not run any more. Nothing was changed. Create a new request if the new version has to be rolled back too.",
                target.name
            ),
            now,
        ))
    }
}

/// The plan, its one target and how far that has come.
fn only_target(status: &RollbackRequestStatus) -> Option<(&Plan, &PlannedTarget, &TargetStatus)> {
    let plan = status.plan.as_ref()?;
    Some((plan, plan.targets.first()?, status.targets.first()?))
}

/// What has to hold from the plan to the moment of the revert. Ok: the Deployment is as planned and
/// the plan is still the one that was approved.
fn revalidate<'a>(
    request: &RollbackRequest,
    observed: &'a Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Result<&'a Deployment, Stand> {
    let Some((plan, target, _)) = only_target(status) else {
        return Err(Stand::new(Step::Again, "The plan is missing."));
    };
    let deployment = match before_revert(observed, target, now) {
        Before::Unknown => return Err(Stand::recheck(now, "Reading the Deployment.")),
        Before::Over(outcome) => return Err(finish(status, outcome)),
        Before::Reverted(deployment) => {
            return Err(already_reverted(request, deployment, status, now));
        }
        Before::AsPlanned(deployment) => deployment,
    };
    if let Some(renewed) = plan::renewed(plan, request, observed, now) {
        status.plan = Some(renewed);
        status.approvals.clear();
        for progress in &mut status.targets {
            progress.revert = None;
        }
        return Err(Stand::new(
            Step::Again,
            "The policy or the admission policies changed, so the plan has a new digest and earlier approvals are void.",
        ));
    }
    Ok(deployment)
}

/// The Deployment has the old template. Either a pass of ours wrote it and did not live to say so, or
/// somebody was faster.
fn already_reverted(
    request: &RollbackRequest,
    deployment: &Deployment,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let intended = status
        .targets
        .first()
        .is_some_and(|progress| progress.revert.is_some());
    if intended || deployment.was_reverted_by(uid(request)) {
        return reverted(deployment, status, now);
    }
    let outcome = end(
        Word::Succeeded,
        Reason::NoOp,
        format!(
            "Deployment {} already has the template that was asked for; somebody else was faster. Nothing was changed.",
            deployment.name()
        ),
        now,
    );
    finish(status, outcome)
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
            Stand::new(Step::Again, "An approval was counted.")
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

fn backing_up(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let deployment = match ready_to_write(request, observed, status, now) {
        Ok(deployment) => deployment,
        Err(stand) => return stand,
    };
    let Some((_, target, _)) = only_target(status) else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    if observed.ledger == Seen::Unknown {
        return Stand::recheck(now, "Reading the ledger.");
    }
    let held = observed.ledger.found();
    match (
        ledger::holder(held, &target.uid, uid(request)),
        &observed.rival,
    ) {
        (Holder::Nobody, _)
        | (
            Holder::Other(_),
            Seen::Found(crate::observed::Rival { active: false, .. }) | Seen::Absent,
        ) => {
            let step = Step::Claim {
                deployment: target.name.clone(),
                ledger: ledger::claimed(held, request, target),
            };
            return Stand::new(step, format!("Claiming Deployment {}.", target.name));
        }
        (Holder::Other(claim), Seen::Found(_) | Seen::Unknown) => {
            let message = format!(
                "Waiting for RollbackRequest {}, which works on Deployment {}.",
                plain(&claim.request, 253),
                target.name
            );
            return Stand::new(
                Step::Wait {
                    until: Some(time::after(now, 5)),
                },
                message,
            );
        }
        (Holder::Us, _) => {}
    }
    let restored = match planned_template(observed, target, now) {
        Ok(template) => template,
        Err(outcome) => return finish(status, outcome),
    };
    match observed.backup {
        Seen::Unknown => Stand::recheck(now, "Reading the backup."),
        Seen::Absent => {
            let backup = artifact::backup(request, target, deployment, &restored);
            Stand::new(
                Step::BackUp(backup),
                format!("Saving Deployment {}.", target.name),
            )
        }
        Seen::Found(at) => {
            let config_map = artifact::backup_name(request, &target.name);
            let step = revert_step(request, target, deployment, &restored);
            let message = format!("Writing the old template to Deployment {}.", target.name);
            let intent = Intent {
                intended_at: now,
                progressing: deployment.progressing(),
            };
            if let Some(progress) = status.targets.first_mut() {
                progress.backup = Some(ArtifactStatus { config_map, at });
                progress.revert = Some(intent);
            }
            Stand::new(step, message)
        }
    }
}

/// What has to hold right before each write that leads to the revert: the plan is still the one that
/// was approved, the Deployment may be touched, and everybody involved may do this themselves.
fn ready_to_write<'a>(
    request: &RollbackRequest,
    observed: &'a Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Result<&'a Deployment, Stand> {
    let deployment = revalidate(request, observed, status, now)?;
    if let Some(outcome) = plan::blocked(deployment, now) {
        return Err(finish(status, outcome));
    }
    if !observed.guard.missing.is_empty() {
        return Err(Stand::recheck(
            now,
            "No approval counts while admission policies are missing.",
        ));
    }
    match &observed.access {
        Seen::Unknown | Seen::Absent => Err(Stand::recheck(
            now,
            "Asking the API server who may do this.",
        )),
        Seen::Found(Access::Allowed) => Ok(deployment),
        Seen::Found(Access::Denied { who, what }) => Err(finish(
            status,
            end(
                Word::Refused,
                Reason::Forbidden,
                format!(
                    "{} may not {}, so they cannot have it done either. Nothing was changed. Ask somebody who may.",
                    plain(who, 200),
                    plain(what, 300)
                ),
                now,
            ),
        )),
    }
}

/// The template that was approved, as it stands in the history now.
fn planned_template(
    observed: &Observed,
    target: &PlannedTarget,
    now: Timestamp,
) -> Result<Template, Outcome> {
    let history = History::of(&target.uid, &observed.replica_sets);
    let revision = history
        .revisions
        .into_iter()
        .find(|revision| revision.uid == target.replica_set_uid);
    let Some(revision) = revision else {
        return Err(end(
            Word::Refused,
            Reason::HistoryPruned,
            format!(
                "ReplicaSet {} with revision {} was deleted since the plan was made. Nothing was changed. Create a new request, and raise spec.revisionHistoryLimit of the Deployment if this happens again.",
                target.replica_set, target.to_revision
            ),
            now,
        ));
    };
    if revision.template.digest() != target.to_digest {
        return Err(end(
            Word::Refused,
            Reason::DigestMismatch,
            format!(
                "Somebody edited the template of ReplicaSet {} since the plan was made, so it is not what was approved. Nothing was changed. Create a new request and look at its plan closely.",
                target.replica_set
            ),
            now,
        ));
    }
    Ok(revision.template)
}

fn reverting(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let deployment = match ready_to_write(request, observed, status, now) {
        Ok(deployment) => deployment,
        Err(stand) => return stand,
    };
    if let Some(outcome) = rejected(deployment, observed.rejection.as_ref(), now) {
        return finish(status, outcome);
    }
    let Some((_, target, _)) = only_target(status) else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    if ledger::holder(observed.ledger.found(), &target.uid, uid(request)) != Holder::Us {
        let step = Step::Claim {
            deployment: target.name.clone(),
            ledger: ledger::claimed(observed.ledger.found(), request, target),
        };
        return Stand::new(step, format!("Claiming Deployment {} again.", target.name));
    }
    match planned_template(observed, target, now) {
        Err(outcome) => finish(status, outcome),
        Ok(restored) => Stand::new(
            revert_step(request, target, deployment, &restored),
            format!("Writing the old template to Deployment {}.", target.name),
        ),
    }
}

/// A refusal is final when it was given for the Deployment as it still is.
fn rejected(
    deployment: &Deployment,
    rejection: Option<&Rejection>,
    now: Timestamp,
) -> Option<Outcome> {
    let rejection =
        rejection.filter(|rejection| rejection.generation == deployment.generation())?;
    Some(end(
        Word::Failed,
        Reason::PatchRejected,
        format!(
            "The API server does not take the old template of Deployment {} (HTTP {}): {}. Nothing was changed.",
            deployment.name(),
            rejection.code,
            plain(&rejection.message, 800).trim_end_matches('.')
        ),
        now,
    ))
}

/// The one write: template and change-cause, if the Deployment is still the one that was just read.
fn revert_step(
    request: &RollbackRequest,
    target: &PlannedTarget,
    deployment: &Deployment,
    restored: &Template,
) -> Step {
    let cause = format!(
        "rollback to revision {} by RollbackRequest {} ({})",
        target.to_revision,
        request.metadata.name.as_deref().unwrap_or_default(),
        uid(request)
    );
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": target.uid}),
        json!({"op": "test", "path": "/metadata/generation", "value": deployment.generation()}),
    ];
    // The map must be there before a key can be added, and must not be replaced if it came meanwhile.
    if !deployment.has_annotations() {
        patch.push(json!({"op": "test", "path": "/metadata/annotations", "value": null}));
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    patch.push(json!({"op": "replace", "path": "/spec/template", "value": restored.as_json()}));
    let change_cause = format!("/metadata/annotations/{}", CHANGE_CAUSE.replace('/', "~1"));
    patch.push(json!({"op": "add", "path": change_cause, "value": cause}));
    Step::Revert(Revert {
        deployment: target.name.clone(),
        generation: deployment.generation(),
        patch: Value::Array(patch),
    })
}

/// Stores that the Deployment has the old template, and from when its time counts.
fn reverted(deployment: &Deployment, status: &mut RollbackRequestStatus, now: Timestamp) -> Stand {
    let timeout = status
        .plan
        .as_ref()
        .map_or(0, |plan| plan.rules.rollout_timeout_seconds);
    if let Some(progress) = status.targets.first_mut() {
        progress.reverted_at = Some(now);
        progress.rollout = Some(RolloutStatus {
            deadline: time::after(now, i64::from(timeout)),
            desired: deployment.desired(),
            updated: 0,
            available: 0,
            completed_at: None,
        });
        // What the Deployment controller says before it has looked at our write is about the bad version.
        if let (true, Some(revert)) = (
            deployment.observed_generation() < deployment.generation(),
            &mut progress.revert,
        ) {
            revert.progressing = deployment.progressing();
        }
    }
    Stand::new(Step::Again, "The old template is in place.")
}

fn rolling_out(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let Some((plan, target, progress)) = only_target(status) else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    let deadline = progress.rollout.as_ref().map(|rollout| rollout.deadline);
    let rules = plan.rules.clone();
    match rollout::judge(
        &observed.deployment,
        &observed.replica_sets,
        target,
        progress,
        now,
    ) {
        Rollout::Unknown => Stand::recheck(now, "Reading the Deployment."),
        Rollout::Gone(message) => {
            finish(status, end(Word::Failed, Reason::TargetGone, message, now))
        }
        Rollout::Superseded(message) => finish(
            status,
            end(Word::Superseded, Reason::TemplateChanged, message, now),
        ),
        Rollout::Failed(counts, reason, message) => {
            count(status, counts);
            finish(
                status,
                end(
                    Word::Failed,
                    reason,
                    format!("{message} {}", what_next(request)),
                    now,
                ),
            )
        }
        Rollout::InProgress(counts, message) => {
            count(status, counts);
            Stand::new(Step::Wait { until: deadline }, message)
        }
        Rollout::Empty(counts) => {
            count(status, counts);
            let message = "The old template is in place, but the Deployment asks for no replicas, so nothing could show that it is well.";
            finish(
                status,
                end(Word::Succeeded, Reason::Unverified, message, now),
            )
        }
        Rollout::Complete(counts) => {
            count(status, counts);
            if let Some(progress) = status.targets.first_mut() {
                progress.verification = Some(health::begin(&rules, now));
                if let Some(rollout) = &mut progress.rollout {
                    rollout.completed_at = Some(now);
                }
            }
            Stand::new(Step::Again, "Every replica is available.")
        }
    }
}

fn count(status: &mut RollbackRequestStatus, counts: Counts) {
    if let Some(rollout) = status
        .targets
        .first_mut()
        .and_then(|progress| progress.rollout.as_mut())
    {
        rollout.desired = counts.desired;
        rollout.updated = counts.updated;
        rollout.available = counts.available;
    }
}

fn what_next(request: &RollbackRequest) -> String {
    format!(
        "The old template stays in place; the Deployment as it was before is in the backup named in status.targets. Escalate: kubectl describe rbr {} and the pods' own events say more.",
        plain(request.metadata.name.as_deref().unwrap_or_default(), 253)
    )
}

fn verifying(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Stand {
    let Some((plan, target, progress)) = only_target(status) else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    let rules = plan.rules.clone();
    match rollout::judge(
        &observed.deployment,
        &observed.replica_sets,
        target,
        progress,
        now,
    ) {
        Rollout::Gone(message) => {
            return finish(status, end(Word::Failed, Reason::TargetGone, message, now));
        }
        Rollout::Superseded(message) => {
            return finish(
                status,
                end(Word::Superseded, Reason::TemplateChanged, message, now),
            );
        }
        Rollout::Unknown
        | Rollout::InProgress(..)
        | Rollout::Complete(_)
        | Rollout::Empty(_)
        | Rollout::Failed(..) => {}
    }
    if rules.http.is_empty() {
        let message = "Rolled back, and every replica is available. The policy defines no checks, so nothing else shows that the old version is well: look yourself.";
        return finish(
            status,
            end(Word::Succeeded, Reason::Unverified, message, now),
        );
    }
    let Some(progress) = status.targets.first_mut() else {
        return Stand::new(Step::Again, "The plan is missing.");
    };
    let verification = progress
        .verification
        .get_or_insert_with(|| health::begin(&rules, now));
    health::fold(&rules, verification, &observed.readings);
    match health::verdict(&rules, verification, now) {
        health::Verdict::Checking(message) => {
            let until = Some(health::wake(&rules, verification, now));
            Stand::new(Step::Wait { until }, message)
        }
        health::Verdict::Passed => {
            verification.completed_at = Some(now);
            let message = format!(
                "Rolled back, every replica is available, and {} of {} checks passed.",
                rules.http.len(),
                rules.http.len()
            );
            finish(
                status,
                end(Word::Succeeded, Reason::RolledBack, message, now),
            )
        }
        health::Verdict::Failed(message) => {
            let message = format!(
                "Rolled back, but the old version is not well either: {message}. {}",
                what_next(request)
            );
            finish(
                status,
                end(Word::Failed, Reason::ChecksFailed, message, now),
            )
        }
    }
}

/// What is owed after the end: the report, the claim, the finalizer, in this order.
fn winding_up(
    request: &RollbackRequest,
    observed: &Observed,
    status: &mut RollbackRequestStatus,
) -> Stand {
    let message = status
        .outcome
        .as_ref()
        .map_or_else(String::new, |outcome| outcome.message.clone());
    if let (None, Some(report)) = (&status.incident, report::incident(request, status)) {
        match observed.incident {
            Seen::Unknown | Seen::Absent => return Stand::new(Step::Publish(report), message),
            Seen::Found(at) => {
                status.incident = Some(ArtifactStatus {
                    config_map: report.name,
                    at,
                })
            }
        }
    }
    if let Some(step) = release(request, observed, status) {
        return Stand::new(step, message);
    }
    let held = request
        .metadata
        .finalizers
        .as_ref()
        .is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == FINALIZER));
    Stand::new(
        if held {
            Step::DropFinalizer
        } else {
            Step::Done
        },
        message,
    )
}

/// Gives the claim back, if we hold it.
fn release(
    request: &RollbackRequest,
    observed: &Observed,
    status: &RollbackRequestStatus,
) -> Option<Step> {
    let (_, target, progress) = only_target(status)?;
    let held = observed.ledger.found();
    if ledger::holder(held, &target.uid, uid(request)) != Holder::Us {
        return None;
    }
    let rollback = progress
        .reverted_at
        .zip(status.outcome.as_ref())
        .map(|(at, outcome)| Rollback {
            request: request.metadata.name.clone().unwrap_or_default(),
            request_uid: uid(request).to_owned(),
            spec_digest: ledger::spec_digest(request),
            from_digest: target.from_digest.clone(),
            to_digest: target.to_digest.clone(),
            at,
            outcome: outcome.word,
        });
    Some(Step::Release {
        deployment: target.name.clone(),
        ledger: ledger::released(held, target, rollback),
    })
}

fn uid(request: &RollbackRequest) -> &str {
    request.metadata.uid.as_deref().unwrap_or_default()
}
