//! The messages that a status gives cause for.

use jiff::{SignedDuration, Timestamp};
use rollback_api::policy::{Link, NotificationEvent as Event};
use rollback_api::status::{
    Approval, BlockedBy, EscalationAbout, EscalationStatus, Outcome, Plan, RolloutStatus,
    TargetStatus,
};
use rollback_api::{RequestState, RollbackRequest, RollbackRequestStatus};

use super::facts::{FEW, LINE, said};
use super::{About, Message, Standing, Subject, Todo, Weight, facts, links, short};
use crate::approval::{self, consent};
use crate::execution::phase::Phase;
use crate::message::shell;
use crate::report::conditions::{self, GUARD_MISSING};
use crate::report::{self, notice, review};
use crate::time::{self, stamp};

/// Up to how many troubles on the way are told.
const MOST_TROUBLES: usize = 8;
/// Up to which level is told; a policy has fewer.
const MOST_LEVELS: i32 = 10;
/// How long before a request expires that is said, unless it has less time anyway.
const EXPIRY_LEAD: SignedDuration = SignedDuration::from_mins(15);
/// After how many seconds a channel that does not get through is told of in the others.
const FAILS_FOR_LONG: i64 = 300;
/// Troubles on the way that need a person, by the reason of their Event, and what stands before and after the workloads in
/// their title.
const TROUBLES: [(&str, &str, &str); 6] = [
    (
        "BreakGlass",
        "One person approved the rollback of ",
        " alone",
    ),
    (
        "DataRiskAccepted",
        "The risk for the data of ",
        " was accepted",
    ),
    ("CauseFound", "The rollback of ", " meets trouble"),
    ("JobFailed", "The rollback of ", " meets trouble"),
    ("FallbackTried", "The rollback of ", " meets trouble"),
    ("Stopped", "The rollback of ", " meets trouble"),
];

/// The key of the end.
pub(super) const END: &str = "End";
/// Those of them that people have to know however it ended; the others are what the end is about.
const LASTING: [&str; 3] = ["BreakGlass", "DataRiskAccepted", "FallbackTried"];

/// Every message that there is cause for at `now`, in the order of the facts. None for a dry run.
pub fn messages(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    links: &[Link],
    now: Timestamp,
) -> Vec<Message> {
    if request.spec.dry_run {
        return Vec::new();
    }
    let teller = Teller::new(request, status, links, now);
    let mut told = Vec::new();
    match &status.outcome {
        None => {
            told.extend(teller.waiting());
            told.extend(teller.expiring());
            told.extend(teller.guard());
        }
        Some(outcome) => {
            told.push(teller.end(outcome));
            told.extend(teller.overdue());
        }
    }
    told.extend(teller.troubles());
    told.extend(teller.approved());
    told.extend(teller.begun());
    told.extend(teller.progress());
    told.extend(teller.levels());
    told.extend(teller.acknowledged());
    told.extend(teller.failing_channels());
    told.sort_by_key(|message| message.at);
    told
}

/// When the next message comes up by itself, if nothing else happens.
pub fn due_by_time(
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    let plan = status.plan.as_ref()?;
    let expiry = (Phase::of(status) == Phase::AwaitingApproval).then(|| expiry_told_at(plan));
    let review = status.outcome.as_ref().and_then(|_| review::due(request));
    let kept = status.notifications.iter().flat_map(|it| &it.channels);
    let failing = kept.filter_map(|it| Some(long_after(it.failing.as_ref()?.since)));
    let all = expiry.into_iter().chain(review).chain(failing);
    all.filter(|at| *at > now).min()
}

/// When a channel that does not get through is told of in the others.
fn long_after(since: Timestamp) -> Timestamp {
    time::after(since, FAILS_FOR_LONG)
}

/// The key of the message that this channel does not get through.
pub(super) fn channel_fails(name: &str) -> String {
    format!("ChannelFails-{}", short(&[name]))
}

fn expiry_told_at(plan: &Plan) -> Timestamp {
    let whole = plan.not_after.duration_since(plan.planned_at);
    let lead = EXPIRY_LEAD.min(whole / 4);
    plan.not_after.checked_sub(lead).unwrap_or(plan.not_after)
}

/// Whether a person has to look at such an end. What a person has decided needs no other one.
pub(super) fn needs_person(outcome: &Outcome) -> bool {
    let decided = [RequestState::Denied, RequestState::Cancelled].contains(&outcome.result);
    !decided && !conditions::is_settled(outcome)
}

/// Why the policy holds a request back, as long as the request waits for that.
pub(super) fn held_back(status: &RollbackRequestStatus) -> Option<BlockedBy> {
    let plan = status.plan.as_ref()?;
    let said = status.auto_approval.as_ref()?;
    said.blocked_by.filter(|_| said.plan_digest == plan.digest)
}

/// What every message of one request has in common.
struct Teller<'a> {
    request: &'a RollbackRequest,
    status: &'a RollbackRequestStatus,
    links: Vec<(String, String)>,
    facts: Vec<(&'static str, String)>,
    now: Timestamp,
    subject: Subject,
    /// The name and the namespace, as words of a command.
    place: String,
}

impl<'a> Teller<'a> {
    fn new(
        request: &'a RollbackRequest,
        status: &'a RollbackRequestStatus,
        links: &[Link],
        now: Timestamp,
    ) -> Self {
        let subject = facts::subject(request, status);
        let place = format!(
            "{} -n {}",
            shell::name(&subject.name, "REQUEST"),
            shell::name(&subject.namespace, "NAMESPACE")
        );
        Self {
            links: links::all(request, &subject, links, now),
            facts: facts::all(request, status, &subject),
            request,
            status,
            now,
            subject,
            place,
        }
    }

    fn message(
        &self,
        key: String,
        event: Event,
        at: Timestamp,
        weight: Weight,
        title: String,
    ) -> Message {
        Message {
            key,
            about: About::Event(event),
            at,
            weight,
            standing: Standing::Unchanged,
            title,
            text: Vec::new(),
            facts: self.facts.clone(),
            todo: None,
            links: self.links.clone(),
            request: self.subject.clone(),
        }
    }

    fn todo(&self, what: String, command: &str) -> Todo {
        Todo {
            what,
            command: format!("kubectl rollback {command} {}", self.place),
        }
    }

    /// What an approver has to know.
    fn to_approve(&self, plan: &Plan) -> Todo {
        let people = match plan.rules.approvals.required.max(1) {
            1 => "An approver".to_owned(),
            some => format!("{some} different approvers"),
        };
        let eyes = if plan.rules.four_eyes() {
            ", not the requester"
        } else {
            ""
        };
        let until = stamp(plan.not_after);
        self.todo(
            format!("{people}{eyes}: read the plan and approve it before {until}."),
            "approve",
        )
    }

    fn waiting(&self) -> Option<Message> {
        let plan = self.status.plan.as_ref()?;
        if Phase::of(self.status) != Phase::AwaitingApproval {
            return None;
        }
        let digest = short(&[&plan.digest]);
        let what = &self.subject.workloads;
        let mut message = match (&self.status.auto_approval, held_back(self.status)) {
            (Some(said_it), Some(_)) => {
                let title = format!("Rollback of {what} is held back and waits for a person");
                let key = format!("HeldBack-{digest}");
                let mut message =
                    self.message(key, Event::HeldBack, said_it.at, Weight::Warning, title);
                message.text.push(said(&said_it.message, LINE));
                let evidence = said_it.evidence.iter().take(5);
                message.text.extend(evidence.map(|it| said(it, LINE)));
                message
            }
            // The policy has not said yet what it makes of this plan.
            (_, None) if plan.rules.auto_approval.is_some() => return None,
            (_, _) => {
                let title = format!("Rollback of {what} waits for approval");
                let key = format!("AwaitingApproval-{digest}");
                self.message(
                    key,
                    Event::AwaitingApproval,
                    plan.planned_at,
                    Weight::Warning,
                    title,
                )
            }
        };
        if let Some(risk) = &plan.data_risk {
            message.text.push(said(&risk.message, LINE));
        }
        let two = approval::because_of_a_machine(plan);
        if !two.is_empty() {
            message.text.push(said(&two, LINE));
        }
        message.standing = Standing::Open;
        message.todo = Some(self.to_approve(plan));
        Some(message)
    }

    fn expiring(&self) -> Option<Message> {
        let plan = self.status.plan.as_ref()?;
        let at = expiry_told_at(plan);
        if Phase::of(self.status) != Phase::AwaitingApproval || at > self.now {
            return None;
        }
        let what = &self.subject.workloads;
        let title = format!("Rollback of {what} expires at {}", stamp(plan.not_after));
        let key = format!("Expiring-{}", short(&[&plan.digest]));
        let mut message = self.message(key, Event::Expiring, at, Weight::Critical, title);
        message.text.push(
            "Nobody has approved it so far. When it has expired, nothing is rolled back."
                .to_owned(),
        );
        message.standing = Standing::Open;
        message.todo = Some(self.to_approve(plan));
        Some(message)
    }

    fn guard(&self) -> Option<Message> {
        let missing = |it: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            it.reason == GUARD_MISSING
        };
        let condition = self.status.conditions.iter().find(missing)?;
        let title = format!(
            "No approval of the rollback of {} counts",
            self.subject.workloads
        );
        let at = condition.last_transition_time.0;
        // Each time anew.
        let key = format!("GuardMissing-{}", at.as_second());
        let mut message = self.message(key, Event::NeedsPerson, at, Weight::Critical, title);
        message.text.push(said(&condition.message, LINE));
        message.standing = Standing::Open;
        message.todo = Some(Todo {
            what: "An administrator of the cluster: put the admission policies back.".to_owned(),
            command: "kubectl rollback doctor --operator".to_owned(),
        });
        Some(message)
    }

    /// What went wrong on the way, in the words of the Events. When it has ended, what its end does not tell.
    fn troubles(&self) -> Vec<Message> {
        let told = notice::notices(self.status).into_iter();
        let told = told.filter_map(|notice| {
            let mut troubles = TROUBLES.iter();
            let trouble = troubles.find(|(reason, ..)| *reason == notice.reason)?;
            Some((notice, trouble))
        });
        let is_over = self.status.outcome.is_some();
        let troubles = told
            .take(MOST_TROUBLES)
            .filter(|(notice, _)| !is_over || LASTING.contains(&notice.reason))
            .map(|(notice, (_, before, after))| {
                let title = format!("{before}{}{after}", self.subject.workloads);
                let identity = notice.key.clone().unwrap_or_else(|| notice.note.clone());
                let key = format!("{}-{}", notice.reason, short(&[&identity]));
                let mut message =
                    self.message(key, Event::NeedsPerson, notice.at, Weight::Critical, title);
                message.text.push(said(&notice.note, LINE));
                if is_over {
                    message.todo = Some(self.todo("How it went:".to_owned(), "status"));
                } else {
                    message.standing = Standing::Open;
                    message.todo = Some(self.todo("Look how it goes on.".to_owned(), "status"));
                }
                message
            });
        troubles.collect()
    }

    fn approved(&self) -> Vec<Message> {
        let told = |approval: &&Approval| {
            let who = said(approval::approver(approval), 200);
            let title = format!("{who} approved the rollback of {}", self.subject.workloads);
            let key = format!(
                "Approved-{}",
                short(&[approval::approver(approval), &approval.plan_digest])
            );
            self.message(key, Event::Approved, approval.at, Weight::Info, title)
        };
        let approvals = consent::approvals(self.status);
        approvals.iter().take(FEW).map(told).collect()
    }

    fn begun(&self) -> Option<Message> {
        let begun = self
            .status
            .targets
            .iter()
            .filter_map(|it| it.begun.as_ref());
        let at = begun.map(|begun| begun.at).min()?;
        let title = format!("Rollback of {} has begun", self.subject.workloads);
        let mut message = self.message("Begun".to_owned(), Event::Begun, at, Weight::Info, title);
        message.todo = Some(self.todo("To watch it:".to_owned(), "status"));
        Some(message)
    }

    fn progress(&self) -> Vec<Message> {
        let step = |target: &TargetStatus, what: &str, words: &str, at: Timestamp| {
            let title = format!("Deployment {} {words}", said(&target.name, 253));
            let key = format!("{what}-{}", short(&[&target.name]));
            self.message(key, Event::Progress, at, Weight::Info, title)
        };
        let mut told = Vec::new();
        for target in self.status.targets.iter().take(FEW) {
            if let Some(at) = target.reverted_at {
                told.push(step(target, "Reverted", "has the old template", at));
            }
            let completed = |rollout: &RolloutStatus| rollout.completed_at;
            if let Some(at) = target.rollout.as_ref().and_then(completed) {
                told.push(step(
                    target,
                    "RolledOut",
                    "runs the old version with every replica",
                    at,
                ));
            }
        }
        told
    }

    fn end(&self, outcome: &Outcome) -> Message {
        let what = &self.subject.workloads;
        let (event, weight) = if needs_person(outcome) {
            let down = [RequestState::Failed, RequestState::Restored].contains(&outcome.result);
            let weight = if down {
                Weight::Critical
            } else {
                Weight::Warning
            };
            (Event::Failed, weight)
        } else {
            (Event::Ended, Weight::Info)
        };
        let title = format!("Rollback of {what}: {}", outcome.result.as_str());
        let mut message = self.message(END.to_owned(), event, outcome.at, weight, title);
        message.text.push(said(&outcome.message, LINE));
        if let Some(plan) = &self.status.plan {
            let approvals = consent::approvals(self.status);
            let owed = report::follow_ups(outcome, plan, &approvals);
            message
                .text
                .extend(owed.iter().take(4).map(|it| said(it, LINE)));
        }
        if event == Event::Failed {
            message.standing = Standing::Open;
            message.todo = Some(self.todo("Look what is left to do.".to_owned(), "status"));
        } else {
            message.standing = Standing::Closed;
            let command = if self.status.incident.is_some() {
                "report"
            } else {
                "status"
            };
            message.todo = Some(self.todo("How it went:".to_owned(), command));
        }
        message
    }

    fn overdue(&self) -> Option<Message> {
        let due = review::due(self.request).filter(|due| *due <= self.now)?;
        let what = &self.subject.workloads;
        let title = format!(
            "The review of the rollback of {what} is overdue since {}",
            stamp(due)
        );
        let key = "ReviewOverdue".to_owned();
        let mut message = self.message(key, Event::ReviewOverdue, due, Weight::Warning, title);
        let what = "Read the report, hold the review, then say so:".to_owned();
        message.todo = Some(self.todo(what, "report --reviewed"));
        Some(message)
    }

    /// The channels through which nothing has come for long: the others are told.
    fn failing_channels(&self) -> Vec<Message> {
        let kept = self.status.notifications.iter().flat_map(|it| &it.channels);
        let failing = kept.filter_map(|channel| {
            let failing = channel.failing.as_ref()?;
            let at = long_after(failing.since);
            let name = said(&channel.name, 40);
            let title = format!("Nothing comes through the notification channel {name}");
            let key = channel_fails(&channel.name);
            let mut message = self.message(key, Event::NeedsPerson, at, Weight::Warning, title);
            let since = stamp(failing.since);
            message
                .text
                .push(format!("Since {since}: {}", said(&failing.message, LINE)));
            Some(message).filter(|_| at <= self.now)
        });
        failing.collect()
    }

    /// Who sees to it, for those that page people until they know.
    fn acknowledged(&self) -> Option<Message> {
        let kept = self.status.notifications.as_ref()?;
        let acknowledged = kept.acknowledged.as_ref()?;
        let outcome = self.status.outcome.as_ref();
        if outcome.is_some_and(|it| !needs_person(it)) {
            return None;
        }
        let who = said(&acknowledged.by, 200);
        let title = format!("{who} sees to the rollback of {}", self.subject.workloads);
        let mut message = self.message(
            "Acknowledged".to_owned(),
            Event::NeedsPerson,
            acknowledged.at,
            Weight::Info,
            title,
        );
        message.about = About::Acknowledged;
        message.standing = Standing::Acknowledged;
        Some(message)
    }

    /// The level that is asked now, and those before it: a channel that was not told of its own when it was due, because
    /// several passed meanwhile or because it did not get through, is told late.
    fn levels(&self) -> Vec<Message> {
        let kept = self.status.notifications.as_ref();
        let kept = kept.filter(|it| it.acknowledged.is_none());
        let Some(escalation) = kept.and_then(|it| it.escalation.as_ref()) else {
            return Vec::new();
        };
        let levels = 1..=escalation.level.min(MOST_LEVELS);
        levels
            .filter_map(|level| self.level(escalation, level))
            .collect()
    }

    fn level(&self, escalation: &EscalationStatus, level: i32) -> Option<Message> {
        let at = escalation.notified_at;
        let mut message = match escalation.about {
            EscalationAbout::Waiting => self.waiting()?,
            EscalationAbout::Failed => self.end(self.status.outcome.as_ref()?),
            EscalationAbout::Newer(_) => return None,
        };
        message.key = format!("Level{level}-{}", escalation.about.as_str());
        message.about = About::Level(level);
        message.at = at;
        message.weight = Weight::Critical;
        message.standing = Standing::Open;
        message.title = format!("Level {level}: {}", message.title);
        let next = match escalation.next_at {
            Some(next) => format!(
                "level {} is asked at {}",
                escalation.level.saturating_add(1),
                stamp(next)
            ),
            None => "nobody else is asked".to_owned(),
        };
        message.text.push(format!(
            "Nobody has acknowledged it so far; unless somebody does, {next}. To acknowledge: kubectl rollback ack {}",
            self.place
        ));
        Some(message)
    }
}
