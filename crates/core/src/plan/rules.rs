//! The rules in force for one request: its policy, the decision matrix, and what its claims are worth.

use rollback_api::policy::{
    ApprovalMode, Approvals, DataGate, Decision, Environment, HttpCheck, JobTemplate, Ledger,
    Rollout, Triggers, Verification,
};
use rollback_api::request::{Category, Urgency};
use rollback_api::status::{AutoApprovalRules, JobRule, JobStage, Rules};
use rollback_api::{RollbackPolicySpec, RollbackRequest};

use crate::execution::job;
use crate::history::template;
use crate::message::text::plain;

/// Seconds that each of several Deployments has to come back, unless the request says otherwise.
const MANY_TIMEOUT_SECONDS: i32 = 180;
/// Longest phrase that an approver types.
const LONGEST_PHRASE: usize = 100;

/// How the names of everybody begin who is not a person, by the names that Kubernetes gives.
const SYSTEM: &str = "system:";
/// Groups that no person is in.
const MACHINES: [&str; 2] = ["system:serviceaccounts", "system:nodes"];

/// The rules in force for a request. Without a policy those of production. `expedited`: the requester may ask for more
/// urgency than the category has.
pub fn rules(
    request: &RollbackRequest,
    policy: Option<&RollbackPolicySpec>,
    expedited: bool,
) -> Rules {
    let urgency = urgency(request, policy, expedited);
    let expedited = expedited && makes_a_difference(request, policy);
    let policy = policy.cloned().unwrap_or_default();
    let jobs = jobs(&policy);
    let auto_approval = request.spec.trigger.is_some().then(|| AutoApprovalRules {
        approval: approval_mode(request.spec.reason.category, Some(&policy)),
        // Who may ask, and when the operator asks by itself, changes nothing of a plan that is made.
        triggers: Triggers {
            approve: policy.triggers.approve,
            paused: policy.triggers.paused,
            cool_down_seconds: policy.triggers.cool_down_seconds,
            most_per_hour: policy.triggers.most_per_hour,
            blame_seconds: policy.triggers.blame_seconds,
            ..Triggers::default()
        },
    });
    let timeout = request
        .rollout()
        .timeout_seconds
        .unwrap_or(if request.is_many() {
            MANY_TIMEOUT_SECONDS
        } else {
            policy.rollout.timeout_seconds
        });
    let level = urgency.max(default_urgency(request.spec.reason.category, Some(&policy)));
    let environment = policy.environment;
    let four_eyes = policy
        .approvals
        .four_eyes
        .unwrap_or(environment.four_eyes());
    let asked_by_machine = machine(request)
        .filter(|_| four_eyes && !is_trusted(request, &policy.approvals.trusted_machines));
    let mut approvals_required = required(&policy.approvals, level, expedited);
    if asked_by_machine.is_some() {
        approvals_required = approvals_required.max(2);
    }
    let verification = Verification {
        soak_seconds: soak(request, policy.verification.soak_seconds),
        http: checks(request, policy.verification.http),
        jobs: Vec::new(),
        ..policy.verification
    };
    Rules {
        environment,
        approvals: Approvals {
            required: approvals_required,
            by_urgency: Vec::new(),
            // Absent means yes.
            four_eyes: (!four_eyes).then_some(false),
            trusted_machines: Vec::new(),
            confirm_phrase: Some(phrase(policy.approvals.confirm_phrase, environment)),
            checklist: policy
                .approvals
                .checklist
                .or_else(|| Some(environment.checklist())),
            ..policy.approvals
        },
        asked_by_machine,
        urgency,
        expedited,
        auto_approval,
        freeze_windows: policy.freeze_windows,
        capacity: policy.capacity,
        rollout: Rollout {
            timeout_seconds: timeout,
            ..policy.rollout
        },
        verification,
        jobs,
        data_gate: DataGate {
            migration_status: None,
            ..policy.data_gate
        },
        remedies: policy.remedies,
        report: policy.report,
        git_ops: policy.git_ops,
        // How versions are remembered changes nothing of a plan that is made.
        ledger: Ledger {
            quarantine_seconds: policy.ledger.quarantine_seconds,
            ..Ledger::default()
        },
        quarantine: policy.quarantine,
    }
}

/// The phrase of the policy, if it is one, or that of the environment.
fn phrase(of_policy: Option<String>, environment: Environment) -> String {
    of_policy
        .filter(|phrase| is_phrase(phrase))
        .unwrap_or_else(|| environment.confirm_phrase().to_owned())
}

/// Whether the schema of today lets a policy have this phrase. One that was stored before does not count: approvers are told
/// to paste it into a shell.
fn is_phrase(phrase: &str) -> bool {
    let is_harmless =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | ',' | ':' | '/' | '_' | '-');
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    phrase.len() <= LONGEST_PHRASE
        && is_edge(phrase.chars().next())
        && is_edge(phrase.chars().next_back())
        && phrase.chars().all(is_harmless)
}

/// The checks of the policy, then those of the request. One of the policy with the same name, which may have come after
/// the plan, is the one that counts.
fn checks(request: &RollbackRequest, of_policy: Vec<HttpCheck>) -> Vec<HttpCheck> {
    let more = request.spec.verification.iter().flat_map(|more| &more.http);
    let more: Vec<HttpCheck> = more
        .filter(|check| of_policy.iter().all(|other| other.name != check.name))
        .cloned()
        .collect();
    of_policy.into_iter().chain(more).collect()
}

/// A request may ask for a longer time, and not for a shorter one.
fn soak(request: &RollbackRequest, of_policy: i32) -> i32 {
    let more = request.spec.verification.as_ref();
    more.and_then(|more| more.soak_seconds)
        .map_or(of_policy, |own| own.max(of_policy))
}

/// The Jobs of a policy, in the order in which they run.
pub fn jobs(policy: &RollbackPolicySpec) -> Vec<JobRule> {
    stages(policy)
        .flat_map(|(stage, templates)| templates.iter().map(move |template| (stage, template)))
        .map(|(stage, template)| (stage, template, job::pod_of(&template.pod_spec)))
        .map(|(stage, template, pod)| JobRule {
            stage,
            name: template.name.clone(),
            pod_digest: pod_digest(template),
            service_account: pod.as_ref().map(|pod| pod.service_account.clone()),
            containers: pod.map_or_else(Vec::new, |pod| pod.containers),
            image_of: template.image_of.clone(),
            timeout_seconds: template.timeout_seconds,
            log_tail_lines: template.log_tail_lines,
            on_failure: template.on_failure,
        })
        .collect()
}

/// The Job of a rule, as the policy has it: none when the policy says something else by now.
pub fn job_template<'a>(policy: &'a RollbackPolicySpec, rule: &JobRule) -> Option<&'a JobTemplate> {
    stages(policy)
        .filter(|(stage, _)| *stage == rule.stage)
        .flat_map(|(_, templates)| templates)
        .find(|template| template.name == rule.name && pod_digest(template) == rule.pod_digest)
}

fn stages(policy: &RollbackPolicySpec) -> impl Iterator<Item = (JobStage, &[JobTemplate])> {
    [
        (
            JobStage::MigrationStatus,
            policy.data_gate.migration_status.as_slice(),
        ),
        (JobStage::PreRollback, policy.hooks.pre_rollback.as_slice()),
        (JobStage::Smoke, policy.verification.jobs.as_slice()),
        (
            JobStage::PostRollback,
            policy.hooks.post_rollback.as_slice(),
        ),
    ]
    .into_iter()
}

fn pod_digest(template: &JobTemplate) -> String {
    template::digest(&template.pod_spec)
}

/// The machine that asks, if one does: then whoever approves may be who made it ask, by a commit, by an alert, or because
/// they may act as it, and a second person has to look. Somebody without a name is nobody whom one could tell apart.
fn machine(request: &RollbackRequest) -> Option<String> {
    let by = request.spec.requested_by.as_ref();
    let name = by.map_or("", |by| by.username.as_str());
    let is_machine = name.is_empty()
        || name.starts_with(SYSTEM)
        || by.is_some_and(|by| {
            by.groups
                .iter()
                .any(|group| MACHINES.contains(&group.as_str()))
        });
    let name = if name.is_empty() {
        "somebody without a name".to_owned()
    } else {
        plain(name, 253)
    };
    match &request.spec.trigger {
        Some(trigger) => Some(format!(
            "{name}, for the source {}",
            plain(&trigger.source, 63)
        )),
        None => is_machine.then_some(name),
    }
}

/// Whether the policy says that one person is enough for what this machine asks.
fn is_trusted(request: &RollbackRequest, trusted: &[String]) -> bool {
    let by = request.spec.requested_by.as_ref();
    by.is_some_and(|by| trusted.contains(&by.username))
}

/// How many people must approve. An urgency is a claim: it may ask for more people, but for fewer only when the
/// requester may expedite.
fn required(approvals: &Approvals, level: Urgency, expedited: bool) -> i32 {
    let wanted = wanted(approvals, level);
    if expedited {
        wanted
    } else {
        wanted.max(approvals.required)
    }
}

/// How many people must approve at this urgency.
fn wanted(approvals: &Approvals, level: Urgency) -> i32 {
    let mut entries = approvals.by_urgency.iter();
    entries
        .find(|entry| entry.urgency == level)
        .map_or(approvals.required, |entry| entry.required)
}

fn entry(category: Category, policy: Option<&RollbackPolicySpec>) -> Option<&Decision> {
    let matrix = policy.map_or(&[][..], |policy| policy.decision_matrix.as_slice());
    matrix.iter().find(|entry| entry.category == category)
}

/// Who decides on requests of this category.
pub fn approval_mode(category: Category, policy: Option<&RollbackPolicySpec>) -> ApprovalMode {
    let overridden = entry(category, policy).and_then(|entry| entry.approval);
    overridden.unwrap_or(match category {
        Category::Feature => ApprovalMode::Refused,
        Category::HealthCheck => ApprovalMode::Automatic,
        Category::ErrorRate | Category::Latency | Category::BusinessLogic | Category::Security => {
            ApprovalMode::Manual
        }
    })
}

/// The urgency of requests of this category that name none.
pub fn default_urgency(category: Category, policy: Option<&RollbackPolicySpec>) -> Urgency {
    entry(category, policy)
        .and_then(|entry| entry.urgency)
        .unwrap_or(category.default_urgency())
}

/// How urgent it is: more than the category implies only for who may expedite.
pub fn urgency(
    request: &RollbackRequest,
    policy: Option<&RollbackPolicySpec>,
    expedited: bool,
) -> Urgency {
    let default = default_urgency(request.spec.reason.category, policy);
    match request.spec.urgency {
        Some(claimed) if claimed <= default || expedited => claimed,
        Some(_) | None => default,
    }
}

/// Whether the request claims more urgency than its category has.
pub fn is_hurried(request: &RollbackRequest, policy: Option<&RollbackPolicySpec>) -> bool {
    let default = default_urgency(request.spec.reason.category, policy);
    request
        .spec
        .urgency
        .is_some_and(|claimed| claimed > default)
}

/// Whether it makes a difference that the requester may expedite: only then somebody has to ask.
pub fn makes_a_difference(request: &RollbackRequest, policy: Option<&RollbackPolicySpec>) -> bool {
    let default = default_urgency(request.spec.reason.category, policy);
    let level = urgency(request, policy, true).max(default);
    let fewer =
        policy.is_some_and(|policy| wanted(&policy.approvals, level) < policy.approvals.required);
    let frozen = policy.is_some_and(|policy| !policy.freeze_windows.is_empty());
    is_hurried(request, policy) || fewer || (frozen && level >= Urgency::Critical)
}
