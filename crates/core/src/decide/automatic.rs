//! What the policy says to a request that came by itself, in the place of people.
//!
//! It is said once for each plan, and stays: what was held back is not let go later by itself, when nobody expects it any
//! more. A person may approve what the policy has not.

use jiff::Timestamp;
use rollback_api::policy::ApprovalMode;
use rollback_api::request::{Category, Trigger};
use rollback_api::status::{
    Approval, AutoApproval, AutoApprovalRules, BlockedBy, Plan, PlannedTarget,
};
use rollback_api::{AUTOMATIC, RollbackRequest, RollbackRequestStatus};

use crate::history::ledger;
use crate::message::redact::redact;
use crate::message::text::plain;
use crate::observed::view::{Terms, WorkingView};
use crate::observed::{Deployment, Pace, TargetView};
use crate::report::conditions::RequestDecision;
use crate::{approval, plan, time};

/// For how long after a version went live what is reported may have begun before it, where nobody says how long the rule
/// waited that reports it: as long as most rules do.
const BEFORE_SECONDS: i64 = 900;
/// How many objects that cannot be read are named.
const NAMED: usize = 5;

/// Decides, unless that was done for this plan; `None` when there is nothing to decide.
pub(super) fn say(
    request: &RollbackRequest,
    view: &WorkingView,
    terms: &Terms,
    plan: &Plan,
    status: &mut RollbackRequestStatus,
    now: Timestamp,
) -> Option<RequestDecision> {
    let trigger = request.spec.trigger.as_ref()?;
    let rules = plan.rules.auto_approval.as_ref()?;
    if is_said(plan, status) {
        return None;
    }
    let Some(pace) = &terms.pace else {
        return Some(RequestDecision::recheck(
            now,
            "Reading what holds rollbacks back.",
        ));
    };
    let seen = view.target(0);
    if !seen.has_ledger() {
        return Some(RequestDecision::recheck(now, "Reading the Deployment."));
    }
    let blocked_by = blocked_by(request, plan, rules, seen, pace, now);
    let message = match &blocked_by {
        Some((blocked_by, why)) => format!(
            "Not approved by the policy ({}): {why}",
            blocked_by.as_str()
        ),
        None => format!(
            "Approved by the policy, because {} reports {}.",
            plain(&trigger.source, 63),
            plain(&trigger.alert, 200)
        ),
    };
    if blocked_by.is_none() {
        status.approvals.push(Approval {
            by: request.spec.requested_by.clone().unwrap_or_default(),
            plan_digest: plan.digest.clone(),
            at: now,
            checklist: Vec::new(),
            automatic: true,
            break_glass: None,
            accepts_data_risk: None,
        });
    }
    status.auto_approval = Some(AutoApproval {
        plan_digest: plan.digest.clone(),
        blocked_by: blocked_by.map(|(blocked_by, _)| blocked_by),
        message: message.clone(),
        evidence: evidence(trigger, seen),
        at: now,
    });
    Some(RequestDecision::again(message))
}

/// Whether the policy has to decide about this request in this pass: what it decides by is read for that.
pub fn is_asked(request: &RollbackRequest, status: &RollbackRequestStatus) -> bool {
    let open = |plan: &Plan| !is_said(plan, status) && !approval::suffices(plan, &status.approvals);
    let undecided = status.outcome.is_none() && status.plan.as_ref().is_some_and(open);
    request.spec.trigger.is_some() && undecided
}

/// Whether the policy has spoken about this very plan.
fn is_said(plan: &Plan, status: &RollbackRequestStatus) -> bool {
    let said = status.auto_approval.as_ref();
    said.is_some_and(|said| said.plan_digest == plan.digest)
}

/// What the policy said about this very plan when it did not approve it, for those who have to.
pub(super) fn held_back<'a>(plan: &Plan, status: &'a RollbackRequestStatus) -> Option<&'a str> {
    let said = status.auto_approval.as_ref()?;
    (said.plan_digest == plan.digest && said.blocked_by.is_some()).then_some(said.message.as_str())
}

/// The first thing that holds it back, and what that means.
fn blocked_by(
    request: &RollbackRequest,
    plan: &Plan,
    rules: &AutoApprovalRules,
    seen: &TargetView,
    pace: &Pace,
    now: Timestamp,
) -> Option<(BlockedBy, String)> {
    if let Some(field) = plan::beyond(request).into_iter().next() {
        // No plan is made of such a request; but a plan may be older than that rule.
        let why = format!("{field} is for people to ask for. A person has to decide.");
        return Some((BlockedBy::NotAllowed, why));
    }
    by_rule(plan, rules, pace).or_else(|| {
        let (Some(deployment), [target]) = (seen.deployment(), plan.targets.as_slice()) else {
            let why = "it is not about one Deployment that is there. A person has to decide.";
            return Some((BlockedBy::MultipleTargets, why.to_owned()));
        };
        by_past(rules, deployment, target, seen, now)
            .or_else(|| by_beginning(request, target))
            .or_else(|| by_share(request, deployment))
    })
}

fn by_rule(plan: &Plan, rules: &AutoApprovalRules, pace: &Pace) -> Option<(BlockedBy, String)> {
    let people = "A person has to decide.";
    if !rules.triggers.approve {
        let why = format!("triggers.approve of the RollbackPolicy is off. {people}");
        return Some((BlockedBy::NotAllowed, why));
    }
    match rules.approval {
        ApprovalMode::Automatic => {}
        ApprovalMode::Manual | ApprovalMode::Refused => {
            let why = format!("the decision matrix leaves this category to people. {people}");
            return Some((BlockedBy::Category, why));
        }
    }
    if rules.triggers.paused {
        let why = format!("triggers.paused of the RollbackPolicy is set. {people}");
        return Some((BlockedBy::Paused, why));
    }
    match pace.paused {
        Some(false) => {}
        Some(true) => {
            let why = format!(
                "everything automatic is switched off by the ConfigMap rollback-automatic of the controller's namespace. {people}"
            );
            return Some((BlockedBy::Paused, why));
        }
        None => {
            let why = format!(
                "the controller may not read the ConfigMap rollback-automatic of its own namespace, which could switch it off. {people}"
            );
            return Some((BlockedBy::Unknown, why));
        }
    }
    if plan.data_risk.is_some() {
        let why = format!("the data may not fit the old version. {people}");
        return Some((BlockedBy::DataRisk, why));
    }
    if plan.targets.len() != 1 || !plan.skipped.is_empty() {
        let why = format!("it is about more than one Deployment. {people}");
        return Some((BlockedBy::MultipleTargets, why));
    }
    let most = usize::try_from(rules.triggers.most_per_hour).unwrap_or_default();
    (pace.recent >= most).then(|| {
        let why = format!(
            "this namespace has had {} rollbacks without a person in the last hour, and triggers.mostPerHour allows {most}. {}{people}",
            pace.recent,
            unread(pace)
        );
        (BlockedBy::HourlyLimit, why)
    })
}

/// What was counted because nobody can tell what it says.
fn unread(pace: &Pace) -> String {
    if pace.unreadable.is_empty() {
        return String::new();
    }
    let named: Vec<&str> = pace
        .unreadable
        .iter()
        .map(String::as_str)
        .take(NAMED)
        .collect();
    let rest = pace.unreadable.len().saturating_sub(NAMED);
    let rest = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!(
        "Counted because what it says cannot be read: {}{rest}. ",
        named.join(", ")
    )
}

fn by_past(
    rules: &AutoApprovalRules,
    deployment: &Deployment,
    target: &PlannedTarget,
    seen: &TargetView,
    now: Timestamp,
) -> Option<(BlockedBy, String)> {
    let people = "A person has to decide.";
    let name = plain(&target.workload.name, 253);
    if !deployment.opts_in() {
        let why = format!(
            "Deployment {name} does not have the annotation {AUTOMATIC}: enabled. {people}"
        );
        return Some((BlockedBy::NotOptedIn, why));
    }
    let ledger = ledger::current(seen.ledger(), &target.workload.uid);
    let rollbacks = ledger.map_or(&[][..], |ledger| ledger.rollbacks.as_slice());
    if let Some(brought) =
        ledger::brought_by(seen.ledger(), &target.workload.uid, &target.from.digest)
    {
        let why = format!(
            "what runs was itself brought by the rollback {}, and a rollback is not rolled back without a person.",
            plain(&brought.request, 253)
        );
        return Some((BlockedBy::TargetIsRollback, why));
    }
    let same = rollbacks
        .iter()
        .rev()
        .find(|rollback| rollback.from_digest == target.from.digest);
    if let Some(before) = same {
        let why = format!(
            "this very version was rolled back before, by {} on {}, and came again. {people}",
            plain(&before.request, 253),
            time::stamp(before.at)
        );
        return Some((BlockedBy::PreviouslyRolledBack, why));
    }
    if let Some(since) = gone_back_by_hand(seen, target) {
        let why = format!(
            "what runs was live before and was gone back to on {}, and a rollback is not rolled back without a person, whoever made it.",
            time::stamp(since)
        );
        return Some((BlockedBy::TargetIsRollback, why));
    }
    let cool = i64::from(rules.triggers.cool_down_seconds);
    let last = rollbacks.last();
    if let Some(last) = last.filter(|last| now < time::after(last.at, cool)) {
        let why = format!(
            "Deployment {name} was rolled back on {}, less than triggers.coolDownSeconds ago. {people}",
            time::stamp(last.at)
        );
        return Some((BlockedBy::CoolDown, why));
    }
    let Some(since) = target.from_since else {
        let why = format!("nobody can tell since when this version runs. {people}");
        return Some((BlockedBy::Unknown, why));
    };
    (now >= time::after(since, i64::from(rules.triggers.blame_seconds))).then(|| {
        let why = format!(
            "this version runs since {}, longer than triggers.blameSeconds, so something else may be wrong. {people}",
            time::stamp(since)
        );
        (BlockedBy::TooLate, why)
    })
}

/// One pod of many is not the version: as many of its pods must be ill as the controller's own watch asks for, half of
/// them. That says something of health checks alone: pods that answer with errors may all be ready. As long as old pods
/// are left, all that are ready may be of this version: then so many are ill at least.
fn by_share(request: &RollbackRequest, deployment: &Deployment) -> Option<(BlockedBy, String)> {
    let pod = request.spec.trigger.as_ref()?.pod.as_ref()?;
    match request.spec.reason.category {
        Category::HealthCheck => {}
        Category::ErrorRate
        | Category::Latency
        | Category::BusinessLogic
        | Category::Security
        | Category::Feature => return None,
    }
    let updated = deployment.updated();
    let ill = updated.saturating_sub(deployment.ready()).max(0);
    (updated > 1 && ill.saturating_mul(2) < updated).then(|| {
        let told = if deployment.replicas() > updated {
            "only so many are known to be of this version and not ready, because pods of other versions are left"
        } else {
            "only so many of this version are not ready"
        };
        let why = format!(
            "it is about the pod {}, and {told}: {ill} of {updated}. A person has to decide.",
            plain(pod, 253)
        );
        (BlockedBy::FewPods, why)
    })
}

/// Since when what runs is live again, where the ledger has seen it before.
fn gone_back_by_hand(seen: &TargetView, target: &PlannedTarget) -> Option<Timestamp> {
    let known = ledger::evidence(seen.ledger(), &target.workload.uid);
    let live = known
        .last()
        .filter(|entry| entry.digest == target.from.digest)?;
    let since = live.live_since?;
    live.first_available
        .filter(|first| *first < since)
        .map(|_| since)
}

/// An alert that fires soon after a version went live may be about the one before: nobody rolls back a fix without a person.
fn by_beginning(request: &RollbackRequest, target: &PlannedTarget) -> Option<(BlockedBy, String)> {
    let trigger = request.spec.trigger.as_ref()?;
    let since = target.from_since?;
    let is_soon = trigger.started_at < time::after(since, BEFORE_SECONDS);
    (trigger.pending_seconds.is_none() && is_soon).then(|| {
        let why = format!(
            "{} fired at {}, soon after this version went live on {}, and how long its rule waits is not known (forSeconds of the source, or a label for): the trouble may have begun before. A person has to decide.",
            plain(&trigger.alert, 200),
            time::stamp(trigger.started_at),
            time::stamp(since)
        );
        (BlockedBy::Unknown, why)
    })
}

/// What it was said upon: the words of the sender, and what the controller sees itself.
fn evidence(trigger: &Trigger, seen: &TargetView) -> Vec<String> {
    let mut evidence: Vec<String> = trigger
        .evidence
        .iter()
        .map(|sentence| plain(&redact(sentence), 500))
        .collect();
    if let Some(deployment) = seen.deployment() {
        evidence.push(format!(
            "{} of {} replicas are available, {} of them of the version that runs.",
            deployment.available(),
            deployment.desired(),
            deployment.updated()
        ));
    }
    evidence
}
