//! The mailbox: whether what stands in the annotations is an approval of this plan.
//!
//! Admission refuses most of what is refused here. It is checked again because the annotations are
//! worth nothing without the guard, and the guard may have been away.

pub mod consent;
pub mod freeze;

use std::collections::BTreeSet;

use jiff::Timestamp;
use rollback_api::Identity;
use rollback_api::status::{Approval, Plan};
use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, BREAK_GLASS, CANCELLED_BY,
    CHECKLIST, CONFIRM, DENIED_BY, DENIED_REASON, PLAN, Reason, RequestState, RollbackRequest,
    WITHDRAWN_BY,
};

use crate::execution::outcome::{Ending, end};
use crate::message::shell;
use crate::message::text::plain;

/// What stands in the mailbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Mailbox {
    /// Nothing new.
    Empty,
    /// A valid approval that is not counted yet.
    Valid(Approval),
    /// Something that does not count, and why.
    Invalid(String),
}

/// What stands in a message before what to type.
pub const TO_APPROVE: &str = "To approve: ";
/// The groups of whoever types this into a shell, one a line.
const MY_GROUPS: &str =
    r#"$(kubectl auth whoami -o jsonpath='{range .status.userInfo.groups[*]}{@}{"\n"}{end}')"#;
/// Longest name of a user that is repeated in a message.
const NAME_LIMIT: usize = 200;
/// Shortest and longest reason for breaking the glass, and for accepting a risk.
const REASON_LIMITS: std::ops::RangeInclusive<usize> = 10..=1000;

/// Who has taken the own approval back; empty when nobody has.
pub fn withdrawn_by(request: &RollbackRequest) -> &str {
    annotation(request, WITHDRAWN_BY)
}

fn annotation<'a>(request: &'a RollbackRequest, key: &str) -> &'a str {
    request
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(key))
        .map_or("", String::as_str)
}

/// Whether an approval stands in the mailbox that is not counted yet.
pub fn is_pending(request: &RollbackRequest, counted: &[Approval]) -> bool {
    let by = annotation(request, APPROVED_BY);
    let glass = broken_glass(request).is_some();
    // Somebody who was counted may still break the glass.
    let is_counted = |approval: &Approval| {
        approval.by.username == by && (approval.break_glass.is_some() || !glass)
    };
    !by.is_empty() && !counted.iter().any(is_counted)
}

/// The annotations of an approval, and who gave it: not everywhere does the API server take those two away with it.
pub const MAILBOX: [&str; 8] = [
    APPROVED_BY,
    CONFIRM,
    PLAN,
    CHECKLIST,
    BREAK_GLASS,
    ACCEPT_DATA_RISK,
    APPROVER_UID,
    APPROVER_GROUPS,
];

/// Whether an approval of this plan stands in the mailbox that was counted.
pub fn is_to_be_put_away(request: &RollbackRequest, plan: &Plan) -> bool {
    !annotation(request, APPROVED_BY).is_empty() && annotation(request, PLAN) == plan.digest
}

/// Reads the approval in the mailbox against the plan and those already counted.
pub fn read(
    request: &RollbackRequest,
    plan: &Plan,
    counted: &[Approval],
    now: Timestamp,
) -> Mailbox {
    if !is_pending(request, counted) {
        return Mailbox::Empty;
    }
    let by = annotation(request, APPROVED_BY);
    match objection(request, plan, by) {
        Some(objection) => Mailbox::Invalid(objection),
        None => Mailbox::Valid(Approval {
            by: Identity {
                username: by.to_owned(),
                uid: Some(annotation(request, APPROVER_UID).to_owned())
                    .filter(|uid| !uid.is_empty()),
                groups: stamped_groups(request),
            },
            plan_digest: plan.digest.clone(),
            at: now,
            checklist: ticked_items(request, plan),
            automatic: false,
            break_glass: broken_glass(request).map(|why| plain(why, *REASON_LIMITS.end())),
            accepts_data_risk: plan
                .data_risk
                .as_ref()
                .map(|_| plain(accepted_risk(request), *REASON_LIMITS.end())),
        }),
    }
}

/// Why the mailbox holds no valid approval of this plan.
fn objection(request: &RollbackRequest, plan: &Plan, by: &str) -> Option<String> {
    let requester = request.spec.requested_by.as_ref();
    let shown = plain(by, NAME_LIMIT);
    if annotation(request, WITHDRAWN_BY) == by {
        return Some(format!(
            "{shown} has taken the approval back. To approve after all, remove {WITHDRAWN_BY} in the same command"
        ));
    }
    if annotation(request, PLAN) != plan.digest {
        return Some(format!(
            "The approval of {shown} is for another plan, or has become too old. Read the plan again and approve it with {PLAN}={}",
            shell::word(&plan.digest)
        ));
    }
    if annotation(request, CONFIRM) != plan.rules.confirm_phrase() {
        return Some(format!(
            "The approval of {shown} lacks the typed confirmation. Set {CONFIRM}={}",
            shell::quoted(plan.rules.confirm_phrase())
        ));
    }
    if stamped_groups(request).is_empty() {
        return Some(format!(
            "The approval of {shown} does not say which groups {shown} is in ({APPROVER_GROUPS}), so it has not passed the API server's check, and nobody knows who wrote it. Check that the admission policies of deploy/ are installed, and approve again"
        ));
    }
    if by.starts_with("system:serviceaccount:")
        || stamped_groups(request)
            .iter()
            .any(|group| group == "system:serviceaccounts")
    {
        return Some(format!(
            "{shown} is a ServiceAccount; only a person can approve"
        ));
    }
    if let Some(objection) = unaccepted_risk(request, plan, &shown) {
        return Some(objection);
    }
    if let Some(why) = broken_glass(request) {
        return unfit_to_break_glass(plan, why, &shown);
    }
    let unticked = plan
        .rules
        .checklist()
        .iter()
        .filter(|item| ticked(request).all(|name| name != item.name));
    let unticked: Vec<String> = unticked
        .map(|item| format!("{} ({})", item.name, plain(&item.text, 200)))
        .collect();
    if !unticked.is_empty() {
        return Some(format!(
            "The approval of {shown} leaves items of the checklist open: {}. See to them, then set {CHECKLIST}={}",
            unticked.join(", "),
            checklist(plan)
        ));
    }
    if plan.rules.four_eyes() && requester.is_none_or(|requester| requester.username == by) {
        return Some(format!(
            "{shown} asked for this rollback; in {} somebody else has to approve",
            environment(plan)
        ));
    }
    None
}

fn unfit_to_break_glass(plan: &Plan, why: &str, shown: &str) -> Option<String> {
    if !plan.rules.approvals.break_glass {
        return Some(format!(
            "The policy of this namespace lets nobody approve alone (approvals.breakGlass). Remove {BREAK_GLASS} from the approval of {shown} and ask another approver"
        ));
    }
    if !REASON_LIMITS.contains(&why.trim().chars().count()) {
        return Some(format!(
            "{shown} approves alone without saying why. Set {BREAK_GLASS} to the reason, in {} to {} characters",
            REASON_LIMITS.start(),
            REASON_LIMITS.end()
        ));
    }
    None
}

/// Each approver of a plan whose data are at risk accepts that risk, and says why. Nothing waives it. What the risk is
/// stands in front of every message of such a plan already.
fn unaccepted_risk(request: &RollbackRequest, plan: &Plan, shown: &str) -> Option<String> {
    plan.data_risk.as_ref()?;
    let why = accepted_risk(request).chars().count();
    (!REASON_LIMITS.contains(&why)).then(|| {
        format!(
            "The approval of {shown} does not accept the risk for the data. Whoever accepts it sets {ACCEPT_DATA_RISK} to the reason, in {} to {} characters",
            REASON_LIMITS.start(),
            REASON_LIMITS.end()
        )
    })
}

/// Why the approver accepts the risk for the data; empty when they do not.
fn accepted_risk(request: &RollbackRequest) -> &str {
    annotation(request, ACCEPT_DATA_RISK).trim()
}

/// What stands beside the approval as the reason for approving alone.
fn broken_glass(request: &RollbackRequest) -> Option<&str> {
    let annotations = request.metadata.annotations.as_ref()?;
    annotations.get(BREAK_GLASS).map(String::as_str)
}

/// The items of the plan that the approver ticked.
fn ticked_items(request: &RollbackRequest, plan: &Plan) -> Vec<String> {
    let items = plan.rules.checklist().iter().map(|item| &item.name);
    items
        .filter(|name| ticked(request).any(|ticked| ticked == *name))
        .cloned()
        .collect()
}

/// What the approver ticked.
fn ticked(request: &RollbackRequest) -> impl Iterator<Item = &str> {
    let items = annotation(request, CHECKLIST).split(',');
    items.filter(|name| !name.is_empty())
}

/// All items, as an approver types them into a shell.
fn checklist(plan: &Plan) -> String {
    let items = plan.rules.checklist().iter();
    let names: Vec<&str> = items.map(|item| item.name.as_str()).collect();
    shell::word(&names.join(","))
}

fn environment(plan: &Plan) -> &'static str {
    match plan.rules.environment {
        rollback_api::policy::Environment::Production => "production",
        rollback_api::policy::Environment::Staging => "staging",
        rollback_api::policy::Environment::Development => "development",
    }
}

fn stamped_groups(request: &RollbackRequest) -> Vec<String> {
    annotation(request, APPROVER_GROUPS)
        // Not by lines(), which would take a group that ends in a carriage return for another one.
        .split('\n')
        .filter(|group| !group.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Who approved: the name of the person, or that it was the policy.
pub fn approver(approval: &Approval) -> &str {
    if approval.automatic {
        "the RollbackPolicy"
    } else {
        &approval.by.username
    }
}

/// Whether the policy approved this very plan in the place of people.
pub fn is_automatic(plan: &Plan, counted: &[Approval]) -> bool {
    let of_this = |approval: &Approval| approval.automatic && approval.plan_digest == plan.digest;
    counted.iter().any(of_this)
}

/// Whether enough different people approved this very plan, one broke the glass, or the policy did.
pub fn suffices(plan: &Plan, counted: &[Approval]) -> bool {
    let people: BTreeSet<&str> = counted
        .iter()
        .filter(|approval| approval.plan_digest == plan.digest && !approval.automatic)
        .map(|approval| approval.by.username.as_str())
        .collect();
    breaks_glass(plan, counted)
        || is_automatic(plan, counted)
        || i32::try_from(people.len())
            .is_ok_and(|people| people >= plan.rules.approvals.required.max(1))
}

/// Whether one person approved this very plan alone.
pub fn breaks_glass(plan: &Plan, counted: &[Approval]) -> bool {
    let broke =
        |approval: &Approval| approval.break_glass.is_some() && approval.plan_digest == plan.digest;
    plan.rules.approvals.break_glass && counted.iter().any(broke)
}

/// Why two people are asked for although the policy asks for fewer, and a space behind it; empty when that is not so.
pub fn because_of_a_machine(plan: &Plan) -> String {
    let machine = plan.rules.asked_by_machine.as_ref();
    machine.map_or_else(String::new, |machine| {
        format!(
            "Two different people approve, because a machine asked ({}), and one person alone could stand behind it. ",
            plain(machine, 400)
        )
    })
}

/// What to type to approve this plan. Where people put something of their own, the quotes are there already.
/// With `typed`, who approves writes the own groups as well; `kubectl auth whoami` knows them.
pub fn how_to_approve(request: &RollbackRequest, plan: &Plan, typed: bool) -> String {
    let checklist = if plan.rules.checklist().is_empty() {
        String::new()
    } else {
        format!(" {CHECKLIST}={}", checklist(plan))
    };
    let groups = if typed {
        format!(" {APPROVER_GROUPS}=\"{MY_GROUPS}\"")
    } else {
        String::new()
    };
    let risk = if plan.data_risk.is_some() {
        format!(" {ACCEPT_DATA_RISK}='WHY-IT-IS-ACCEPTABLE'")
    } else {
        String::new()
    };
    format!(
        "kubectl annotate rbr {} {APPROVED_BY}='YOUR-USER-NAME' {CONFIRM}={} {PLAN}={}{checklist}{groups}{risk} --overwrite",
        shell::name(
            request.metadata.name.as_deref().unwrap_or_default(),
            "REQUEST"
        ),
        shell::quoted(plan.rules.confirm_phrase()),
        shell::word(&plan.digest)
    )
}

/// How the request ends because a person does not want it any more.
pub fn withdrawn(request: &RollbackRequest, now: Timestamp) -> Option<Ending> {
    if request.metadata.deletion_timestamp.is_some() {
        return Some(end(
            RequestState::Cancelled,
            Reason::Deleted,
            "The request was deleted.",
            now,
        ));
    }
    let cancelled_by = annotation(request, CANCELLED_BY);
    if !cancelled_by.is_empty() {
        let by = plain(cancelled_by, NAME_LIMIT);
        let what = format!("{by} cancelled the request.");
        return Some(end(RequestState::Cancelled, Reason::CancelledByUser, what, now).by(by));
    }
    let denied_by = annotation(request, DENIED_BY);
    (!denied_by.is_empty()).then(|| {
        let by = plain(denied_by, NAME_LIMIT);
        let why = plain(annotation(request, DENIED_REASON), 1000);
        let why = if why.is_empty() {
            "no reason given".to_owned()
        } else {
            why
        };
        let what = format!("{by} denied the request: {why}.");
        end(RequestState::Denied, Reason::DeniedByApprover, what, now).by(by)
    })
}
