//! The Jobs of the policy: begun one after the other, followed to their end, and what that end means.
//!
//! Each has a name that follows from the plan, so that a pass that begins in the middle finds what an earlier one has
//! begun. How one ended is a fact; it does not run a second time, whoever approves again.

use jiff::Timestamp;
use rollback_api::policy::OnJobFailure;
use rollback_api::status::{
    JobEnd, JobRule, JobStage, JobStatus, Plan, RollbackRequestStatus, TargetStatus,
};
use rollback_api::{Reason, RequestState, RollbackRequest};

use super::{TargetDecision, TargetScope, remedies};
use crate::execution::job;
use crate::execution::outcome;
use crate::execution::phase::FEW;
use crate::execution::step::Step;
use crate::message::shell;
use crate::message::text::plain;
use crate::observed::{Fetched, JobState, ObservedJob};
use crate::plan;
use crate::time;

/// How often a Job that nobody watches is looked at.
const UNWATCHED_SECONDS: i64 = 5;
/// How many Deployments a message names.
const NAMED: usize = 3;
/// How the words of the Jobs begin in the data risk of a plan.
const RISK: &str = "The Job that looks at the migrations of the data says no: ";

/// The Jobs before the write: the one that looks at the migrations, then those of `preRollback`. None when all of them
/// have ended, and none of them keeps the rollback from going on.
pub(super) fn before(
    scope: TargetScope,
    seen: &Fetched<ObservedJob>,
    progress: &mut TargetStatus,
) -> Option<TargetDecision> {
    run(scope, seen, progress, JobStage::MigrationStatus)
        .or_else(|| run(scope, seen, progress, JobStage::PreRollback))
}

/// The smoke tests. Their ends are folded into the checks, which judge.
pub(super) fn smoke(
    scope: TargetScope,
    seen: &Fetched<ObservedJob>,
    progress: &mut TargetStatus,
) -> Option<TargetDecision> {
    run(scope, seen, progress, JobStage::Smoke)
}

/// The Jobs after the checks.
pub(super) fn after(
    scope: TargetScope,
    seen: &Fetched<ObservedJob>,
    progress: &mut TargetStatus,
) -> Option<TargetDecision> {
    run(scope, seen, progress, JobStage::PostRollback)
}

/// Where one Job stands.
enum Standing {
    /// It has not ended.
    Going(Box<TargetDecision>),
    /// It has ended, as this pass has seen.
    EndsNow(JobEnd),
    /// It had ended before.
    Ended(JobEnd),
}

impl Standing {
    fn going(decision: TargetDecision) -> Self {
        Self::Going(Box::new(decision))
    }
}

fn run(
    scope: TargetScope,
    seen: &Fetched<ObservedJob>,
    progress: &mut TargetStatus,
    stage: JobStage,
) -> Option<TargetDecision> {
    let rules = scope.plan.rules.jobs.iter();
    for rule in rules.filter(|rule| rule.stage == stage) {
        let (end, is_new) = match follow(scope, seen, progress, rule) {
            Standing::Going(decision) => return Some(*decision),
            Standing::EndsNow(end) => (end, true),
            Standing::Ended(end) => (end, false),
        };
        if end.succeeded {
            continue;
        }
        match rule.on_failure {
            OnJobFailure::Warn => warn(scope, progress, rule, &end),
            // The checks judge; the other tests are not needed any more.
            OnJobFailure::Veto if rule.stage == JobStage::Smoke => return None,
            OnJobFailure::Veto => {
                if let Some(decision) = veto(scope, progress, rule, &end, is_new) {
                    return Some(decision);
                }
            }
        }
    }
    None
}

fn follow(
    scope: TargetScope,
    seen: &Fetched<ObservedJob>,
    progress: &mut TargetStatus,
    rule: &JobRule,
) -> Standing {
    let now = scope.now;
    let known = job::status_of(scope.request, scope.target, progress, rule).cloned();
    let Some(known) = known else {
        return begin(scope, progress, rule);
    };
    if let Some(end) = known.end {
        return Standing::Ended(end);
    }
    let deadline = job::deadline(rule, &known);
    let over = now >= deadline;
    match seen {
        Fetched::Found(ObservedJob { name, state }) if *name == known.job => match state {
            JobState::Running if over => ends(scope, progress, rule, failed(now, too_long(rule))),
            JobState::Running => Standing::going(running(scope, rule, deadline)),
            JobState::Refused(why) => ends(scope, progress, rule, failed(now, why.clone())),
            JobState::Ended {
                succeeded,
                exit_code,
                message,
                log,
            } => {
                let end = JobEnd {
                    at: now,
                    succeeded: *succeeded,
                    exit_code: *exit_code,
                    message: message.clone(),
                    log: log.clone(),
                };
                ends(scope, progress, rule, end)
            }
        },
        Fetched::Absent if over => {
            let why = format!("it could not be started before {}", time::stamp(deadline));
            ends(scope, progress, rule, failed(now, why))
        }
        Fetched::Absent => begin(scope, progress, rule),
        // Not read yet.
        Fetched::Unknown | Fetched::Found(_) => Standing::going(TargetDecision::recheck(
            now,
            format!("Reading {}.", title(scope, rule)),
        )),
    }
}

/// Stores the intent and starts the Job, or does the latter once more when nothing came of it.
fn begin(scope: TargetScope, progress: &mut TargetStatus, rule: &JobRule) -> Standing {
    let name = job::name(scope.request, scope.target, rule);
    intent(progress, rule, &name, scope.now);
    match job::image(scope.target, rule) {
        Err(why) => ends(scope, progress, rule, failed(scope.now, why)),
        Ok(image) => Standing::going(TargetDecision::take(
            Step::RunJob {
                workload: scope.target.workload.clone(),
                job: name,
                rule: rule.clone(),
                image,
            },
            format!("Starting {}.", title(scope, rule)),
        )),
    }
}

/// The intent to run this very Job. What is there of one that the policy had before, or that was for another version, is
/// put away.
fn intent<'a>(
    progress: &'a mut TargetStatus,
    rule: &JobRule,
    name: &str,
    now: Timestamp,
) -> &'a mut JobStatus {
    let fresh = JobStatus {
        stage: rule.stage,
        name: rule.name.clone(),
        job: name.to_owned(),
        intended_at: now,
        end: None,
    };
    let is_its = |status: &JobStatus| status.stage == rule.stage && status.name == rule.name;
    let place = progress.jobs.iter().position(is_its);
    let place = place.unwrap_or_else(|| {
        progress.jobs.push(fresh.clone());
        progress.jobs.len() - 1
    });
    let status = &mut progress.jobs[place];
    if status.job != name {
        *status = fresh;
    }
    status
}

/// Stores how a Job ended.
fn ends(scope: TargetScope, progress: &mut TargetStatus, rule: &JobRule, end: JobEnd) -> Standing {
    let name = job::name(scope.request, scope.target, rule);
    let status = intent(progress, rule, &name, scope.now);
    Standing::EndsNow(status.end.get_or_insert(end).clone())
}

fn failed(at: Timestamp, message: String) -> JobEnd {
    JobEnd {
        at,
        succeeded: false,
        exit_code: None,
        message,
        log: Vec::new(),
    }
}

fn too_long(rule: &JobRule) -> String {
    format!("it did not end within {} seconds", rule.timeout_seconds)
}

fn running(scope: TargetScope, rule: &JobRule, deadline: Timestamp) -> TargetDecision {
    let soon = time::after(scope.now, UNWATCHED_SECONDS);
    let until = if scope.plan.targets.len() > FEW {
        soon.min(deadline)
    } else {
        deadline
    };
    let message = format!(
        "{} is running; it may take until {}.",
        title(scope, rule),
        time::stamp(deadline)
    );
    TargetDecision::wait(Some(until), message)
}

/// `PreRollback Job drain of Deployment api`
fn title(scope: TargetScope, rule: &JobRule) -> String {
    format!(
        "{} Job {} of Deployment {}",
        rule.stage.as_str(),
        plain(&rule.name, 40),
        scope.target.workload.name
    )
}

fn said(end: &JobEnd) -> String {
    job::said(end, 600)
}

/// Stores, once, that a Job failed that may fail.
fn warn(scope: TargetScope, progress: &mut TargetStatus, rule: &JobRule, end: &JobEnd) {
    let text = format!(
        "{} failed, and the policy goes on all the same: {}.",
        title(scope, rule),
        said(end)
    );
    remedies::warn(progress, text);
}

/// What becomes of the rollback when a Job failed that may not fail; none when it goes on, because an approver has
/// accepted that or because the checks judge.
fn veto(
    scope: TargetScope,
    progress: &mut TargetStatus,
    rule: &JobRule,
    end: &JobEnd,
    is_new: bool,
) -> Option<TargetDecision> {
    let (title, said) = (title(scope, rule), said(end));
    let job = job::name(scope.request, scope.target, rule);
    let ended = |state, reason, message: String| outcome::end(state, reason, message, scope.now);
    match rule.stage {
        JobStage::MigrationStatus => {
            // The next pass puts it into the plan (`found_risk`) before it comes here, or waits for approvals.
            if is_new || scope.plan.data_risk.is_none() {
                return Some(TargetDecision::again(format!("{title} failed: {said}.")));
            }
            None
        }
        JobStage::PreRollback => {
            let message = format!("{title} says no, so the Deployment is not rolled back: {said}.");
            let ending = ended(RequestState::Refused, Reason::HookVetoed, message).next(format!(
                "Look at kubectl logs job/{}, put right what it found, and create a new request.",
                shell::name(&job, "JOB")
            ));
            Some(TargetDecision::end(scope, progress, ending))
        }
        JobStage::Smoke => None,
        // Of a stage that only a newer version knows it cannot be said that its failure does no harm.
        JobStage::PostRollback | JobStage::Newer(_) => {
            let message = format!(
                "Rolled back, and the checks passed, but {title} failed: {said}. The old version stays in place. Look at kubectl logs job/{}, and do by hand what it should have done.",
                shell::name(&job, "JOB")
            );
            let ending = ended(RequestState::Failed, Reason::HookFailed, message);
            Some(TargetDecision::end(scope, progress, ending))
        }
    }
}

/// The plan with the risk that the Jobs found which look at the migrations of the data; none when it has that already.
/// Whoever approved did not know of it, so approvals of the plan before are void.
pub(super) fn found_risk(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
) -> Option<Plan> {
    let plan = status.plan.as_ref()?;
    let words = migrations(request, plan, status)?;
    let known = plan.data_risk.as_ref().map(|risk| risk.message.as_str());
    if known.is_some_and(|known| known.contains(&words)) {
        return None;
    }
    // What another Job found later takes the place of what the first one found; what the plan knew before stays.
    let before = known
        .and_then(|known| known.split(RISK).next())
        .map_or("", str::trim_end);
    let message = match before {
        "" => words,
        before => format!("{before} {words}"),
    };
    Some(plan::at_risk(plan, request, message))
}

/// What the Jobs say that look at the migrations of the data. It only ever becomes more, so that no approval is void
/// because a target has come further.
fn migrations(
    request: &RollbackRequest,
    plan: &Plan,
    status: &RollbackRequestStatus,
) -> Option<String> {
    let mut failed: Vec<String> = Vec::new();
    for (target, progress) in plan.targets.iter().zip(&status.targets) {
        let rules = plan.rules.jobs.iter().filter(|rule| {
            rule.stage == JobStage::MigrationStatus && rule.on_failure == OnJobFailure::Veto
        });
        let ends = rules.filter_map(|rule| {
            job::status_of(request, target, progress, rule)?
                .end
                .as_ref()
        });
        for end in ends.filter(|end| !end.succeeded) {
            failed.push(format!(
                "Deployment {}, {}",
                target.workload.name,
                said(end)
            ));
        }
    }
    let more = failed.len().saturating_sub(NAMED);
    failed.truncate(NAMED);
    let named = failed.join("; ");
    let others = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    let contact = plan.rules.data_gate.contact.as_deref().map_or_else(
        || "whoever looks after the data".to_owned(),
        |contact| plain(contact, 200),
    );
    (!failed.is_empty()).then(|| {
        format!(
            "{RISK}{named}{others}. The old version may not be able to live with the data as it is now. Ask {contact}."
        )
    })
}
