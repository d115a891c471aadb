//! The plan: resolved once, from live reads, into identities.

pub mod data_risk;
pub mod owner;
pub mod references;
pub mod risks;
pub mod rules;

mod assess;
mod choose;
mod fallback;
mod proposal;
mod selection;
mod triggered;

use jiff::Timestamp;
use rollback_api::policy::ApprovalMode;
use rollback_api::request::{From, Target};
use rollback_api::status::{Approval, DataRisk, Plan, PlannedTarget, Rules, Skipped};
use rollback_api::{Reason, RequestState, RollbackPolicySpec, RollbackRequest};
use serde_json::{Value, json};

use assess::{MAX_NOTES, assess, too_large};
pub use assess::{Prospect, all_changes};
pub use choose::Chosen;
pub use proposal::{Candidate, Checked, Choice, Proposal, Proposed, propose};
use selection::{asked, divide};
pub(crate) use triggered::beyond;

use crate::execution::job;
use crate::execution::outcome::{Ending, end, refused};
use crate::history::ledger;
use crate::history::template::{self, Template};
use crate::message::shell;
use crate::message::text::plain;
use crate::observed::view::{PlanningView, RulesRead, Terms};
use crate::observed::{Deployment, Guard};
use crate::plan::rules::{approval_mode, default_urgency, is_hurried, rules};
use crate::{approval, time};

/// Annotation with which the Deployment's own controller is told to roll back.
const LEGACY_ROLLBACK: &str = "deprecated.deployment.rollback.to";

/// The digest that an approval binds to: who asks (the request's UID), in which round, under which rules and
/// guard, and exactly which template of which Deployment becomes which other one. Not the generation, so
/// that an autoscaler may work while a person thinks.
pub fn digest(
    request_uid: &str,
    round: i32,
    rules: &Rules,
    guard: &str,
    data_risk: Option<&DataRisk>,
    targets: &[PlannedTarget],
) -> String {
    let targets: Vec<_> = targets
        .iter()
        .map(|target| {
            let mut identity = json!({
                "kind": target.workload.kind,
                "uid": target.workload.uid,
                "wave": target.wave,
                "from": target.from.digest,
                "source": target.source_uid(),
                "to": target.to.digest,
                "stored": target.stored_digest,
                "fallbacks": target.fallbacks,
            });
            if !target.holds.is_empty() {
                identity["holds"] = json!(target.holds);
            }
            // Which Jobs there are, and as what they run, is in the rules.
            if rules.jobs.iter().any(|rule| rule.image_of.is_some()) {
                let images = rules.jobs.iter().map(|rule| job::image(target, rule).ok());
                identity["jobImages"] = json!(images.collect::<Vec<_>>());
            }
            identity
        })
        .collect();
    template::digest(&json!({
        "request": request_uid,
        "round": round,
        "rules": rules,
        "inForce": in_force(rules),
        "guard": guard,
        "dataRisk": data_risk,
        "targets": targets,
    }))
}

/// What the rules leave out where it is the default, in full: another version may have another default.
fn in_force(rules: &Rules) -> Value {
    let approvals = &rules.approvals;
    json!([
        [
            json!(approvals.required),
            json!(approvals.valid_for_seconds),
            json!(approvals.expire_after_seconds),
            json!(approvals.break_glass),
        ],
        rules.capacity,
        rules.rollout,
        rules.verification,
        rules.data_gate,
        rules.remedies,
        rules.report,
        rules.git_ops,
        rules.ledger,
    ])
}

/// A plan that nobody can approve: it has no digest, because it is not known yet which request it is for, and what makes
/// approvals true. Whoever may read the namespace can make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Until when it could be approved.
    pub not_after: Timestamp,
    /// The rules in force.
    pub rules: Rules,
    /// That the data may not fit the old version.
    pub data_risk: Option<DataRisk>,
    /// What would be done.
    pub targets: Vec<PlannedTarget>,
    /// What is left as it is.
    pub skipped: Vec<Skipped>,
}

impl Draft {
    /// The plan of this request, under this guard.
    fn sealed(self, request: &RollbackRequest, guard: &Guard, now: Timestamp) -> Plan {
        let Self {
            not_after,
            rules,
            data_risk,
            targets,
            skipped,
        } = self;
        let guard = guard.digest();
        let (uid, risk) = (uid(request), data_risk.as_ref());
        Plan {
            digest: digest(uid, 0, &rules, &guard, risk, &targets),
            round: 0,
            data_risk,
            planned_at: now,
            not_after,
            rules,
            guard,
            targets,
            skipped,
        }
    }
}

/// Makes the plan, or says how the request ends instead.
///
/// # Errors
/// The end of the request: it cannot or must not be done, or there is nothing to do.
pub fn make(
    request: &RollbackRequest,
    view: &PlanningView,
    now: Timestamp,
) -> Result<Plan, Ending> {
    let proposal = view.proposal.as_ref().map_err(Clone::clone)?;
    let plan = draft(request, &view.rules, proposal, now)?.sealed(request, &view.guard, now);
    too_large(&plan, now).map_or(Ok(plan), Err)
}

/// Makes a draft of what was proposed, or says how the request would end instead.
///
/// # Errors
/// The end of the request: it cannot or must not be done, or there is nothing to do.
pub fn draft(
    request: &RollbackRequest,
    rules: &RulesRead,
    proposal: &Proposal,
    now: Timestamp,
) -> Result<Draft, Ending> {
    let lines = lines_for(proposal.targets.len());
    let results: Vec<(&Proposed<Checked>, Result<PlannedTarget, Ending>)> = proposal
        .targets
        .iter()
        .map(|proposed| {
            let result = planned(request, rules, proposal, proposed, lines, now);
            (proposed, result)
        })
        .collect();
    let (targets, skipped) = if request.is_many() {
        divide(request, results, now)?
    } else {
        let only = results.into_iter().next().map(|(_, result)| result);
        (only.into_iter().collect::<Result<_, _>>()?, Vec::new())
    };
    let not_after = expiry(request, rules, now);
    if not_after <= now {
        return Err(end(
            RequestState::Expired,
            Reason::NotApprovedInTime,
            format!(
                "The time to approve ended at {}, before there was a plan: see spec.notAfter of the request and approvals.expireAfterSeconds of the policy.",
                time::stamp(not_after)
            ),
            now,
        )
        .next("If the rollback is still wanted, create a new RollbackRequest with another name and more time."));
    }
    let rules = rules_now(request, rules);
    let data_risk = data_risk::data_risk(&targets, &rules);
    let rules = data_risk::asking(rules, data_risk.as_ref());
    Ok(Draft {
        not_after,
        rules,
        data_risk,
        targets,
        skipped,
    })
}

/// One Deployment of the plan, or why it is none.
fn planned(
    request: &RollbackRequest,
    rules: &RulesRead,
    proposal: &Proposal,
    proposed: &Proposed<Checked>,
    lines: usize,
    now: Timestamp,
) -> Result<PlannedTarget, Ending> {
    let checked = proposed.choice.as_ref().map_err(Clone::clone)?;
    let Some(target) = asked(request, proposed.asked) else {
        return Err(unasked(now));
    };
    let mut planned = assess(target, checked, rules.policy.as_ref(), lines, now)?;
    let unlisted = risks::unlisted(proposal.unlisted.as_deref());
    planned.risks.splice(0..0, unlisted);
    let timeout = rules_now(request, rules).rollout.timeout_seconds;
    let Choice { deployment, chosen } = &checked.choice;
    planned
        .risks
        .extend(risks::deadline(deployment, &chosen.template, timeout));
    planned.risks.truncate(MAX_NOTES);
    Ok(planned)
}

/// How many lines of changes each of so many targets may take, so that all of them fit into one status.
fn lines_for(targets: usize) -> usize {
    (1200 / targets.max(1)).clamp(6, 40)
}

/// The same plan under the rules, guard and request that are there now, when they differ from those
/// it was made under. What to do is never resolved again.
pub fn renewed(
    plan: &Plan,
    request: &RollbackRequest,
    terms: &Terms,
    now: Timestamp,
) -> Option<Plan> {
    let rules = data_risk::asking(rules_now(request, &terms.rules), plan.data_risk.as_ref());
    let guard = terms.guard.digest();
    let digest = digest(
        uid(request),
        plan.round,
        &rules,
        &guard,
        plan.data_risk.as_ref(),
        &plan.targets,
    );
    (digest != plan.digest).then(|| Plan {
        digest,
        round: plan.round,
        planned_at: now,
        not_after: expiry(request, &terms.rules, now),
        rules,
        guard,
        data_risk: plan.data_risk.clone(),
        targets: plan.targets.clone(),
        skipped: plan.skipped.clone(),
    })
}

/// The same plan with another digest, so that everybody has to approve it again.
pub fn next_round(plan: &Plan, request: &RollbackRequest) -> Plan {
    let round = plan.round.saturating_add(1);
    Plan {
        digest: digest(
            uid(request),
            round,
            &plan.rules,
            &plan.guard,
            plan.data_risk.as_ref(),
            &plan.targets,
        ),
        round,
        ..plan.clone()
    }
}

/// The same plan with a risk for the data, which an approver has to accept: everybody has to approve it again.
pub fn at_risk(plan: &Plan, request: &RollbackRequest, message: String) -> Plan {
    let data_risk = Some(DataRisk { message });
    let rules = data_risk::asking(plan.rules.clone(), data_risk.as_ref());
    Plan {
        digest: digest(
            uid(request),
            plan.round,
            &rules,
            &plan.guard,
            data_risk.as_ref(),
            &plan.targets,
        ),
        rules,
        data_risk,
        ..plan.clone()
    }
}

/// The rules in force for a request, as they were read.
pub fn rules_now(request: &RollbackRequest, read: &RulesRead) -> Rules {
    rules(request, read.policy.as_ref(), read.expedited)
}

/// The end of a request whose time is over before anything was begun.
pub fn expired(plan: &Plan, approvals: &[Approval], now: Timestamp) -> Ending {
    let until = time::stamp(plan.not_after);
    let what = if approval::suffices(plan, approvals) {
        format!(
            "It was approved, but its turn did not come before {until}, because another request worked on the same Deployment or because of a freeze window."
        )
    } else {
        format!("Nobody approved before {until}.")
    };
    end(RequestState::Expired, Reason::NotApprovedInTime, what, now)
        .next("If the rollback is still wanted, create a new RollbackRequest with another name.")
}

fn expiry(request: &RollbackRequest, rules: &RulesRead, now: Timestamp) -> Timestamp {
    let created = request
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |created| created.0);
    let seconds = rules
        .policy
        .clone()
        .unwrap_or_default()
        .approvals
        .expire_after_seconds;
    let by_policy = time::after(created, i64::from(seconds));
    request
        .spec
        .not_after
        .map_or(by_policy, |own| own.min(by_policy))
}

/// UID of a request.
pub(crate) fn uid(request: &RollbackRequest) -> &str {
    request.metadata.uid.as_deref().unwrap_or_default()
}

fn supported(
    request: &RollbackRequest,
    policy: Option<&RollbackPolicySpec>,
    now: Timestamp,
) -> Result<(), Ending> {
    let other_kind = request
        .spec
        .targets
        .iter()
        .position(|target| target.kind != "Deployment");
    if let Some(index) = other_kind {
        return Err(refused(
            Reason::Unsupported,
            format!(
                "spec.targets[{index}].kind: only a Deployment can be rolled back. For a StatefulSet or DaemonSet use kubectl rollout undo."
            ),
            now,
        ));
    }
    match approval_mode(request.spec.reason.category, policy) {
        ApprovalMode::Automatic | ApprovalMode::Manual => Ok(()),
        ApprovalMode::Refused => Err(refused(
            Reason::HotfixForward,
            format!(
                "spec.reason.category: the decision matrix fixes trouble of the category {:?} forward and does not roll back for it. \
                 If customers are affected, create a new request with the category that says how. Who writes the RollbackPolicy may decide otherwise in decisionMatrix.",
                request.spec.reason.category
            ),
            now,
        )),
    }
}

/// The API server refuses this too, but by the default matrix: it does not know the policy.
fn not_too_urgent(
    request: &RollbackRequest,
    rules: &RulesRead,
    now: Timestamp,
) -> Result<(), Ending> {
    let policy = rules.policy.as_ref();
    if rules.expedited || !is_hurried(request, policy) {
        return Ok(());
    }
    let category = request.spec.reason.category;
    Err(refused(
        Reason::Forbidden,
        format!(
            "spec.urgency: trouble of the category {category:?} is {:?} here, and asking for more needs the verb expedite on rollbackrequests/expedite. \
             Create a new request without spec.urgency, or ask somebody who has the role rollback-expediter.",
            default_urgency(category, policy)
        ),
        now,
    ))
}

/// A check of a request does not take the place of one of the policy.
fn checks_of_its_own(
    request: &RollbackRequest,
    policy: Option<&RollbackPolicySpec>,
    now: Timestamp,
) -> Result<(), Ending> {
    let of_policy = policy.map_or(&[][..], |policy| policy.verification.http.as_slice());
    let more = request.spec.verification.iter().flat_map(|more| &more.http);
    let taken = more
        .enumerate()
        .find(|(_, check)| of_policy.iter().any(|other| other.name == check.name));
    let Some((index, check)) = taken else {
        return Ok(());
    };
    Err(refused(
        Reason::Unsupported,
        format!(
            "spec.verification.http[{index}].name: the policy has a check named {} already, and a request cannot replace it. Create a new request with another name for the check.",
            plain(&check.name, 63)
        ),
        now,
    ))
}

fn may_write(opted_in: Option<bool>, now: Timestamp) -> Result<(), Ending> {
    if opted_in == Some(false) {
        return Err(refused(
            Reason::NamespaceNotOptedIn,
            "This namespace does not let the rollback controller change Deployments. \
             An administrator opts it in by a RoleBinding of the ClusterRole rollback-executor to the controller's ServiceAccount.",
            now,
        ));
    }
    Ok(())
}

fn unasked(now: Timestamp) -> Ending {
    refused(
        Reason::Unsupported,
        "spec.targets: there is no such entry.",
        now,
    )
}

fn not_found(candidate: &Candidate, now: Timestamp) -> Ending {
    refused(
        Reason::DeploymentNotFound,
        format!(
            "spec.targets[{}].name: there is no Deployment {} in this namespace. Check the name and the namespace with kubectl get deployments.",
            candidate.asked,
            plain(&candidate.name, 253)
        ),
        now,
    )
}

/// Why this Deployment must not be touched now.
pub fn blocked(deployment: &Deployment, now: Timestamp) -> Option<Ending> {
    let name = deployment.name();
    if deployment.is_deleting() {
        return Some(refused(
            Reason::DeploymentDeleting,
            format!("Deployment {name} is being deleted. There is nothing to roll back."),
            now,
        ));
    }
    if deployment.is_paused() {
        return Some(refused(
            Reason::Paused,
            format!(
                "Deployment {name} is paused, so a rollback would not roll out. Resume it with kubectl rollout resume deployment/{}, then create a new request.",
                shell::name(name, "DEPLOYMENT")
            ),
            now,
        ));
    }
    if let Some(serves) = owner::serves_instead(deployment) {
        return Some(refused(
            Reason::Unsupported,
            format!("Deployment {name} asks for no replicas, and {serves}. Roll back what serves."),
            now,
        ));
    }
    deployment.annotation(LEGACY_ROLLBACK).map(|_| {
        refused(
            Reason::LegacyRollback,
            format!(
                "Deployment {name} carries the annotation {LEGACY_ROLLBACK}: its own controller is about to roll it back. Wait until the annotation is gone or remove it, then create a new request."
            ),
            now,
        )
    })
}

fn not_done_before(
    request: &RollbackRequest,
    seen: &Candidate,
    deployment: &Deployment,
    now: Timestamp,
) -> Result<(), Ending> {
    let Some(done) = ledger::already_done(seen.ledger.as_ref(), deployment.uid(), request) else {
        return Ok(());
    };
    Err(end(
        RequestState::Succeeded,
        Reason::AlreadyRolledBack,
        format!(
            "A request with this name and content rolled back {} on {} and ended as {}; creating it again does nothing. \
             To roll back once more, create a request with another name.",
            deployment.name(),
            time::stamp(done.at),
            done.outcome.as_str(),
        ),
        now,
    ))
}

fn bad_is_live(
    target: &Target,
    index: usize,
    current: &Template,
    now: Timestamp,
) -> Result<(), Ending> {
    let (what, live) = match &target.from {
        None => return Ok(()),
        Some(From {
            template_digest: Some(digest),
            ..
        }) => (format!("template {digest}"), *digest == current.digest()),
        Some(From {
            image: Some(image), ..
        }) => (
            format!("image {}", plain(image, 200)),
            current.images().values().any(|live| live == image),
        ),
        Some(From {
            template_digest: None,
            image: None,
        }) => {
            return Err(refused(
                Reason::Unsupported,
                format!(
                    "spec.targets[{index}].from: say what is bad by templateDigest or by image, or leave from out."
                ),
                now,
            ));
        }
    };
    if live {
        return Ok(());
    }
    Err(end(
        RequestState::Superseded,
        Reason::NotLive,
        format!(
            "The bad version ({what}) does not run any more, so there is nothing to roll back."
        ),
        now,
    ))
}
