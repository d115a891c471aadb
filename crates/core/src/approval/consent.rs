//! What people have agreed to, and what is part of it: the one place where that is asked.
//!
//! A Deployment is begun upon approvals that suffice at that moment, and that is stored before it is touched
//! (`status.targets[].begun`). From then on it is carried out, restored and given back as the plan says that was
//! approved, also when approvals are taken back, become too old, or the plan changes for those that have not begun.
//! Nothing else makes a write ours: annotations can be written by anybody.

use jiff::Timestamp;
use rollback_api::status::{Approval, Begun, BegunUpon, JobRule, Plan, Rules, TargetStatus};
use rollback_api::{RollbackRequestStatus, WorkloadRef};

use crate::approval::{self, approver};
use crate::execution::phase::TargetPhase;
use crate::execution::step::Step;
use crate::message::text::plain;
use crate::observed::Deployment;

/// How many plans are kept upon which something was begun.
const MOST_PLANS: usize = 5;
/// How many approvals of one plan are kept.
const MOST_APPROVALS: usize = 15;
/// Longest name of an approver that is kept with a target.
const NAME_LIMIT: usize = 200;

/// Whether `step` is part of what was agreed to. Our own records need nobody's approval; everything else is done for
/// a Deployment that was begun, as the plan says upon which it was; and Jobs before that as the present plan says, while
/// its approvals suffice.
pub fn covers(status: &RollbackRequestStatus, step: &Step) -> bool {
    let begun = |workload: &WorkloadRef| {
        let is_meant = |progress: &TargetStatus| progress.is_of(workload.kind, &workload.name);
        let mut targets = status.targets.iter();
        targets.find(|progress| is_meant(progress) && is_begun(progress))
    };
    match step {
        Step::Claim(_)
        | Step::BackUp(_)
        | Step::Publish(_)
        | Step::Release(_)
        | Step::AddFinalizer
        | Step::EmptyMailbox
        | Step::DropFinalizer => true,
        Step::Revert(write) | Step::Disown(write) => begun(&write.workload).is_some(),
        Step::ForceDelete { workload, .. } => begun(workload)
            .and_then(|progress| rules(status, progress))
            .is_some_and(|rules| rules.remedies.force_delete_after_seconds.is_some()),
        // Before the Deployment is begun, as the present plan says, while its approvals suffice.
        Step::PlaceHold(place) => status.plan.as_ref().is_some_and(|plan| {
            let mut targets = plan.targets.iter();
            approval::suffices(plan, &status.approvals)
                && targets.any(|target| {
                    target.workload == place.workload && target.holds.contains(&place.hold)
                })
        }),
        Step::RunJob { workload, rule, .. } => {
            match begun(workload).filter(|progress| is_under_way(progress)) {
                Some(progress) => rules(status, progress).is_some_and(|rules| names(rules, rule)),
                None => status.plan.as_ref().is_some_and(|plan| {
                    approval::suffices(plan, &status.approvals) && names(&plan.rules, rule)
                }),
            }
        }
        // What was taken is given back, whatever anybody says by then.
        Step::Scale(scale) if scale.to > 0 => {
            let mut scaled = status.scaled_down.iter();
            scaled.any(|scaled| scaled.workload == scale.workload && scaled.from == scale.to)
        }
        Step::Scale(scale) => status
            .targets
            .iter()
            .filter(|progress| is_begun(progress))
            .filter_map(|progress| rules(status, progress))
            .flat_map(|rules| &rules.capacity.scale_down)
            .any(|known| known.means(scale.workload.kind, &scale.workload.name)),
    }
}

/// Whether these rules have this very Job, with its pod, its `ServiceAccount` and its images.
fn names(rules: &Rules, job: &JobRule) -> bool {
    rules.jobs.contains(job)
}

/// Whether the Deployment was begun, ever.
pub fn is_begun(progress: &TargetStatus) -> bool {
    progress.begun.is_some()
}

/// Whether it was begun, and that still stands: an intent of which nothing came may have been forgotten.
fn is_under_way(progress: &TargetStatus) -> bool {
    is_begun(progress) && (progress.revert.is_some() || progress.reverted_at.is_some())
}

/// Whether anything that the Deployment has can be of this request: it was begun, and the Deployment was changed
/// since. Who changed it is another question.
pub fn may_have_written(progress: &TargetStatus, deployment: &Deployment) -> bool {
    let begun = progress.begun.as_ref();
    begun.is_some_and(|begun| deployment.generation() > begun.generation)
}

/// The rules by which a target is carried out: those of the plan upon which it was begun.
pub fn rules<'a>(status: &'a RollbackRequestStatus, progress: &TargetStatus) -> Option<&'a Rules> {
    let plan = status.plan.as_ref()?;
    Some(earlier(plan, status, progress).unwrap_or(&plan.rules))
}

/// The rules of another plan than the present one, when the target is under way upon that.
fn earlier<'a>(
    plan: &Plan,
    status: &'a RollbackRequestStatus,
    progress: &TargetStatus,
) -> Option<&'a Rules> {
    let begun = progress
        .begun
        .as_ref()
        .filter(|_| is_under_way(progress))
        .filter(|begun| begun.plan_digest != plan.digest)?;
    let upon = entry(status, &begun.plan_digest)?;
    upon.rules.as_ref()
}

fn entry<'a>(status: &'a RollbackRequestStatus, digest: &str) -> Option<&'a BegunUpon> {
    let mut plans = status.begun_upon.iter();
    plans.find(|upon| upon.plan_digest == digest)
}

/// The present plan, and beside it those upon which a target is under way: the same targets under other rules.
pub struct Plans<'a> {
    present: &'a Plan,
    earlier: Vec<(String, Plan)>,
}

impl<'a> Plans<'a> {
    /// Of this status; `plan` is the present one.
    pub fn of(plan: &'a Plan, status: &RollbackRequestStatus) -> Self {
        let mut all = Vec::new();
        for progress in &status.targets {
            let Some(begun) = &progress.begun else {
                continue;
            };
            let known = all.iter().any(|(digest, _)| *digest == begun.plan_digest);
            if let Some(rules) = earlier(plan, status, progress).filter(|_| !known) {
                let rules = rules.clone();
                let plan = Plan {
                    rules,
                    ..plan.clone()
                };
                all.push((begun.plan_digest.clone(), plan));
            }
        }
        Self {
            present: plan,
            earlier: all,
        }
    }

    /// The plan by which a target is carried out.
    pub fn plan_for(&self, progress: &TargetStatus) -> &Plan {
        let begun = progress.begun.as_ref().filter(|_| is_under_way(progress));
        let upon = begun.and_then(|begun| {
            let mut plans = self.earlier.iter();
            plans.find(|(digest, _)| *digest == begun.plan_digest)
        });
        upon.map_or(self.present, |(_, plan)| plan)
    }
}

/// Whether one more plan can be remembered upon which something is begun. What has ended needs its plan no more.
pub fn has_place(plan: &Plan, status: &mut RollbackRequestStatus) -> bool {
    if entry(status, &plan.digest).is_some() || status.begun_upon.len() < MOST_PLANS {
        return true;
    }
    let is_needed = |upon: &BegunUpon| {
        status.targets.iter().any(|progress| {
            TargetPhase::of(status, progress) != TargetPhase::Ended
                && progress
                    .begun
                    .as_ref()
                    .is_some_and(|begun| begun.plan_digest == upon.plan_digest)
        })
    };
    let Some(free) = status.begun_upon.iter().position(|upon| !is_needed(upon)) else {
        return false;
    };
    status.begun_upon.remove(free);
    true
}

/// Stores that a target is begun upon the present plan: its intent has just been stored for the first time, or anew.
pub fn begin(plan: &Plan, status: &mut RollbackRequestStatus, index: usize, now: Timestamp) {
    let counted: Vec<Approval> = status
        .approvals
        .iter()
        .filter(|approval| approval.plan_digest == plan.digest)
        .cloned()
        .collect();
    let Some(progress) = status.targets.get_mut(index) else {
        return;
    };
    let generation = progress.revert.as_ref().map(|intent| intent.generation);
    let before = progress.begun.take();
    progress.begun = Some(Begun {
        at: before.as_ref().map_or(now, |begun| begun.at),
        generation: before
            .map(|begun| begun.generation)
            .or(generation)
            .unwrap_or_default(),
        plan_digest: plan.digest.clone(),
        approved_by: counted
            .iter()
            .take(MOST_PLANS)
            .map(|approval| plain(approver(approval), NAME_LIMIT))
            .collect(),
        automatic: approval::is_automatic(plan, &counted),
    });
    let place = status
        .begun_upon
        .iter()
        .position(|upon| upon.plan_digest == plan.digest);
    let place = place.unwrap_or_else(|| {
        status.begun_upon.push(BegunUpon {
            plan_digest: plan.digest.clone(),
            approvals: Vec::new(),
            rules: None,
            void: false,
        });
        status.begun_upon.len() - 1
    });
    let upon = &mut status.begun_upon[place];
    upon.void = false;
    for approval in counted {
        if upon.approvals.len() < MOST_APPROVALS && !upon.approvals.contains(&approval) {
            upon.approvals.push(approval);
        }
    }
}

/// Puts another plan in the place of the present one: its approvals count no more for what has not begun.
pub fn replace(status: &mut RollbackRequestStatus, next: Plan) {
    if let Some(before) = status.plan.replace(next) {
        let mut plans = status.begun_upon.iter_mut();
        if let Some(upon) = plans.find(|upon| upon.plan_digest == before.digest) {
            upon.rules.get_or_insert(before.rules);
        }
    }
    status.approvals.clear();
}

/// The rules or the guard have changed: what was begun and not written by now needs new approvals.
pub fn revoke(status: &mut RollbackRequestStatus) {
    status.approvals.clear();
    for upon in &mut status.begun_upon {
        upon.void = true;
    }
}

/// Whether the intent of a target stands: nothing has made it void since.
pub fn stands(status: &RollbackRequestStatus, progress: &TargetStatus) -> bool {
    let begun = progress.begun.as_ref();
    let upon = begun.and_then(|begun| entry(status, &begun.plan_digest));
    upon.is_some_and(|upon| !upon.void)
}

/// Everybody whose approval counts, or counted when something was begun, the first one first.
pub fn approvals(status: &RollbackRequestStatus) -> Vec<&Approval> {
    let mut all: Vec<&Approval> = Vec::new();
    let earlier = status.begun_upon.iter().flat_map(|upon| &upon.approvals);
    for approval in earlier.chain(&status.approvals) {
        if !all.contains(&approval) {
            all.push(approval);
        }
    }
    all.sort_by_key(|approval| approval.at);
    all
}

/// Those whose approvals a target is carried out upon, or would be begun upon.
pub fn approvals_of<'a>(
    status: &'a RollbackRequestStatus,
    progress: &TargetStatus,
) -> Vec<&'a Approval> {
    let begun = progress.begun.as_ref().filter(|_| is_under_way(progress));
    let Some(begun) = begun else {
        return status.approvals.iter().collect();
    };
    let Some(upon) = entry(status, &begun.plan_digest) else {
        return Vec::new();
    };
    let gave = |approval: &&Approval| {
        let name = plain(approver(approval), NAME_LIMIT);
        begun.approved_by.contains(&name)
    };
    upon.approvals.iter().filter(gave).collect()
}
