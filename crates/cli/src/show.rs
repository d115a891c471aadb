//! A request for a reader at a terminal: where it stands, and what its plan would do.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use rollback_api::status::{
    CheckStatus, Plan, PlannedTarget, RolloutStatus, TargetStatus, VerificationStatus,
};
use rollback_api::{ConditionType, RequestState, RollbackRequest, RollbackRequestStatus};
use rollback_core::approval::{self, TO_APPROVE};
use rollback_core::execution::phase::{TargetPhase, result};
use rollback_core::message::shell;
use rollback_core::plan::all_changes;
use rollback_core::report::conditions;

use crate::here::flags_to_here;
use crate::output::{Paint, clean, elapsed, span};

/// Reason and message of the condition `Ready`; what is said before the controller has looked.
pub fn ready(request: &RollbackRequest) -> (String, String) {
    found(request).map_or_else(
        || {
            let message = "No controller has looked at it yet. If this stays so, type kubectl rollback doctor.";
            ("Pending".to_owned(), message.to_owned())
        },
        |ready| (clean(&ready.reason), clean(&ready.message)),
    )
}

/// A message without what to type by kubectl alone, and that: whoever has the plugin or its pages has a shorter way, which goes
/// to the same cluster and namespace.
pub fn split(message: &str) -> (&str, Option<&str>) {
    let Some(at) = message.find(TO_APPROVE) else {
        return (message, None);
    };
    let (message, command) = message.split_at(at);
    (message.trim_end(), Some(command))
}

/// The word of `Ready`, when it is one of ours.
pub fn state(request: &RollbackRequest) -> Option<RequestState> {
    let reason = found(request)?.reason.clone();
    serde_json::from_value(serde_json::Value::String(reason)).ok()
}

/// The condition `Ready`.
fn found(request: &RollbackRequest) -> Option<&Condition> {
    let mut conditions = request.status.as_ref()?.conditions.iter();
    conditions.find(|it| it.type_ == ConditionType::Ready.as_str())
}

/// Target and destination, as the columns of `kubectl get` have them.
pub fn summary(request: &RollbackRequest) -> (String, String) {
    let summary = request
        .status
        .as_ref()
        .and_then(|status| status.summary.as_ref());
    summary.map_or_else(
        || ("?".to_owned(), "?".to_owned()),
        |summary| (clean(&summary.target), clean(&summary.to)),
    )
}

/// When it was made.
pub fn created(request: &RollbackRequest) -> Timestamp {
    let created = request.creation_timestamp();
    created.map_or(Timestamp::UNIX_EPOCH, |at| at.0)
}

/// Where a request stands: itself, and below it each target with its rollout and its checks.
pub fn tree(request: &RollbackRequest, now: Timestamp, paint: Paint) -> Vec<String> {
    let (word, message) = ready(request);
    let (target, to) = summary(request);
    let until = request.outcome().map_or(now, |outcome| outcome.at);
    let mut lines = vec![format!(
        "{}  {}  {target} -> {to}  {}",
        paint.strong(&clean(&request.name_any())),
        paint.state(&word, state(request)),
        elapsed(created(request), until)
    )];
    lines.push(format!("  why: {}", asked(request)));
    if let Some(by) = approvals(request) {
        lines.push(format!("  approvals: {by}"));
    }
    let (message, by_kubectl) = split(&message);
    lines.push(format!("  {message}"));
    if by_kubectl.is_some() {
        lines.push(format!(
            "  to approve: kubectl rollback approve {}{}",
            shell::name(&request.name_any(), "REQUEST"),
            flags_to_here()
        ));
    }
    if let Some(status) = &request.status {
        lines.extend(targets(status, now, paint));
        if let Some(incident) = &status.incident {
            lines.push(format!(
                "  report: kubectl rollback report {}{} (ConfigMap {})",
                clean(&request.name_any()),
                flags_to_here(),
                clean(&incident.config_map)
            ));
        }
    }
    lines
}

/// Why it was asked for, and by whom.
pub fn asked(request: &RollbackRequest) -> String {
    let reason = &request.spec.reason;
    let by = request.spec.requested_by.as_ref();
    format!(
        "{} ({:?}), asked by {}",
        clean(&reason.summary),
        reason.category,
        by.map_or_else(|| "nobody knows whom".to_owned(), |by| clean(&by.username))
    )
}

/// Who has approved, and how many are asked for; none before there is a plan.
pub fn approvals(request: &RollbackRequest) -> Option<String> {
    let status = request.status.as_ref()?;
    let plan = status.plan.as_ref()?;
    let names: Vec<String> = status
        .approvals
        .iter()
        .filter(|it| it.plan_digest == plan.digest)
        .map(|it| clean(approval::approver(it)))
        .collect();
    let counted = format!(
        "{} of {}",
        names.len(),
        plan.rules.approvals.required.max(1)
    );
    Some(if names.is_empty() {
        counted
    } else {
        format!("{counted}: {}", names.join(", "))
    })
}

fn targets(status: &RollbackRequestStatus, now: Timestamp, paint: Paint) -> Vec<String> {
    let last = status.targets.len().saturating_sub(1);
    let mut lines = Vec::new();
    for (index, progress) in status.targets.iter().enumerate() {
        let (branch, below) = if index == last {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        lines.push(format!(
            "  {branch} {}",
            target(status, index, progress, now, paint)
        ));
        let details = details(progress, now);
        let last = details.len().saturating_sub(1);
        for (index, detail) in details.iter().enumerate() {
            let branch = if index == last { "└─" } else { "├─" };
            lines.push(format!("  {below} {branch} {detail}"));
        }
    }
    lines
}

fn target(
    status: &RollbackRequestStatus,
    index: usize,
    progress: &TargetStatus,
    now: Timestamp,
    paint: Paint,
) -> String {
    let planned = status
        .plan
        .as_ref()
        .and_then(|plan| plan.targets.get(index));
    let to = planned.map_or_else(String::new, |it| {
        format!(" -> {}", clean(&conditions::destination(it)))
    });
    let ended = result(progress);
    let word = ended.map_or(TargetPhase::of(status, progress).as_str(), |outcome| {
        outcome.reason.as_str()
    });
    let state = ended.map(|outcome| outcome.result);
    let begun = progress.begun.as_ref().map(|begun| begun.at);
    let took = begun.map_or_else(String::new, |begun| {
        format!(
            "  {}",
            elapsed(begun, ended.map_or(now, |outcome| outcome.at))
        )
    });
    format!(
        "{}/{}{to}  {}{took}",
        progress.kind,
        clean(&progress.name),
        paint.state(word, state)
    )
}

/// All that is known of how a target goes.
pub fn details(progress: &TargetStatus, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(rollout) = &progress.rollout {
        lines.extend(rollout_lines(rollout, now));
    }
    if let Some(verification) = &progress.verification {
        lines.extend(checks(verification));
    }
    for job in &progress.jobs {
        let end = job
            .end
            .as_ref()
            .map_or_else(|| "runs".to_owned(), |end| clean(&end.message));
        lines.push(format!("Job {}: {end}", clean(&job.name)));
    }
    if let Some(fallback) = &progress.fallback {
        lines.push(format!("fallback: {}", clean(&fallback.why)));
        lines.extend(
            fallback
                .rollout
                .iter()
                .flat_map(|it| rollout_lines(it, now)),
        );
        lines.extend(fallback.verification.iter().flat_map(checks));
    }
    lines.extend(
        progress
            .warnings
            .iter()
            .map(|it| format!("warning: {}", clean(it))),
    );
    let failed = progress
        .outcome
        .iter()
        .filter(|outcome| !conditions::is_settled(outcome));
    lines.extend(failed.map(|outcome| clean(&outcome.message)));
    lines
}

/// How a rollout goes.
pub fn rollout_lines(rollout: &RolloutStatus, now: Timestamp) -> Vec<String> {
    let pods = format!(
        "{} of {} replicas available",
        rollout.available, rollout.desired
    );
    let left = if rollout.completed_at.is_some() {
        String::new()
    } else {
        format!(", {} left", span(rollout.deadline.duration_since(now)))
    };
    let mut lines = vec![format!("rollout: {pods}{left}")];
    if let Some(cause) = &rollout.cause {
        let pod = cause
            .pod
            .as_deref()
            .map_or_else(String::new, |pod| format!(" in pod {}", clean(pod)));
        lines.push(format!(
            "cause: {}{pod} for {}: {}",
            cause.kind.as_str(),
            elapsed(cause.since, now),
            clean(&cause.message)
        ));
    }
    lines
}

fn checks(verification: &VerificationStatus) -> Vec<String> {
    verification.checks.iter().map(check).collect()
}

/// How a check goes.
pub fn check(check: &CheckStatus) -> String {
    let said = if check.passed_at.is_some() {
        "passed".to_owned()
    } else if check.rounds == 0 {
        "not asked yet".to_owned()
    } else {
        format!(
            "{}, {} good in a row",
            check.finding.as_str(),
            check.consecutive_successes
        )
    };
    let result = if check.last_result.is_empty() {
        String::new()
    } else {
        format!(" ({})", clean(&check.last_result))
    };
    format!(
        "check {} ({}): {said}{result}",
        clean(&check.name),
        check.kind.as_str()
    )
}

/// What a plan would do, for whoever approves it.
pub fn plan(request: &RollbackRequest, plan: &Plan, now: Timestamp, paint: Paint) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Request  {}: {}",
            paint.strong(&clean(&request.name_any())),
            asked(request)
        ),
        format!(
            "Plan     {}, expires in {}",
            clean(&plan.digest),
            span(plan.not_after.duration_since(now))
        ),
        rules_line(plan),
    ];
    lines.extend(changes(plan, paint));
    if let Some(by) = approvals(request) {
        lines.push(format!("Approvals {by}"));
    }
    lines
}

/// The rules that a plan is made under.
pub fn rules_line(plan: &Plan) -> String {
    format!("Rules    {}", rules(plan))
}

/// What would be done, what may go wrong, and what is left as it is.
pub fn changes(plan: &Plan, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for target in &plan.targets {
        lines.extend(planned(target, paint));
    }
    for skipped in &plan.skipped {
        lines.push(format!(
            "{}/{} is left as it is: {}",
            skipped.kind,
            clean(&skipped.name),
            clean(&skipped.message)
        ));
    }
    if let Some(risk) = &plan.data_risk {
        lines.push(format!(
            "{} {}",
            paint.bad("Risk for the data:"),
            clean(&risk.message)
        ));
    }
    lines
}

/// What is asked of whom.
pub fn rules(plan: &Plan) -> String {
    let rules = &plan.rules;
    let required = rules.approvals.required.max(1);
    let who = match (required, rules.four_eyes()) {
        (1, true) => "one approval, not by who asked".to_owned(),
        (1, false) => "one approval".to_owned(),
        (many, true) => format!("{many} different people approve, not who asked"),
        (many, false) => format!("{many} different people approve"),
    };
    let machine = approval::because_of_a_machine(plan);
    format!(
        "{:?}, {:?} urgency: {who}. {}",
        rules.environment,
        rules.urgency,
        clean(&machine)
    )
    .trim_end()
    .to_owned()
}

fn planned(target: &PlannedTarget, paint: Paint) -> Vec<String> {
    let from = target
        .from
        .revision
        .map_or_else(|| "what runs".to_owned(), |from| format!("revision {from}"));
    let mut lines = vec![format!(
        "{}  {from} -> {}",
        paint.strong(&clean(&target.workload.to_string())),
        clean(&conditions::destination(target))
    )];
    lines.extend(
        all_changes(target)
            .iter()
            .map(|it| format!("  {}", clean(it))),
    );
    lines.extend(
        target
            .notes
            .iter()
            .map(|it| format!("  note: {}", clean(it))),
    );
    for risk in &target.risks {
        lines.push(format!(
            "  {} {}",
            paint.waiting(&format!("risk ({}):", risk.kind.as_str())),
            clean(&risk.message)
        ));
    }
    for fallback in &target.fallbacks {
        lines.push(format!(
            "  if it does not do ({}): once, {}",
            fallback.when.as_str(),
            fallback_to(fallback)
        ));
    }
    lines
}

/// What a fallback goes to.
pub fn fallback_to(fallback: &rollback_api::status::Fallback) -> String {
    let images: Vec<String> = fallback
        .images
        .iter()
        .filter_map(|it| it.to.as_deref())
        .map(clean)
        .collect();
    match (fallback.to.revision, images.as_slice()) {
        (Some(revision), _) => format!("revision {revision}"),
        (None, []) => "another version".to_owned(),
        (None, images) => images.join(", "),
    }
}
