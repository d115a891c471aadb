//! What people are told beyond Events: messages, where each goes, and what was told already.
//!
//! A message is read from the facts of a committed status and has a key: together with the UID of the request the key says
//! which message it is, whenever and wherever it is made again. What is to be delivered is what the facts give cause for and
//! the cursor in the status has not. So a crash between delivery and cursor tells the same again, under the same key.

pub mod cursor;
pub mod escalation;
mod facts;
pub mod layout;
mod links;
mod messages;
mod storm;

use jiff::Timestamp;
use rollback_api::policy::{Channel, EndResult, NotificationEvent, Notifications};
use rollback_api::request::{Category, Urgency};
use serde_json::{Value, json};

use crate::history::template;

pub use messages::{due_by_time, messages};
pub use storm::{STORM, is_summary, summary, summary_over};

/// What a message is about, for its routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Something happened.
    Event(NotificationEvent),
    /// Nobody has answered, and this level is asked.
    Level(i32),
    /// Somebody has said that they see to it.
    Acknowledged,
    /// It needs nobody any more, for a channel that is told of no end and keeps something open.
    Over,
    /// Somebody wants to see whether a channel works.
    Test,
}

impl About {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event(event) => event.as_str(),
            Self::Level(_) => "Escalated",
            Self::Acknowledged => "Acknowledged",
            Self::Over => "Over",
            Self::Test => "Test",
        }
    }
}

/// How much somebody should worry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody has to look now.
    Critical,
}

/// Whether somebody has to do something for the request now, as a pager asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Open,
    /// Yes, and somebody does.
    Acknowledged,
    /// No; nothing is settled by that.
    Unchanged,
    /// Not any more.
    Closed,
}

/// One message, before any channel lays it out. Every text is in one line and without what looks like a secret; it is still
/// text of others, so each layout escapes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What makes it the same message, together with the UID of the request. Letters, digits and dashes.
    pub key: String,
    /// What it is about.
    pub about: About,
    /// Since when there is cause for it.
    pub at: Timestamp,
    /// How much somebody should worry.
    pub weight: Weight,
    /// Whether somebody has to do something now.
    pub standing: Standing,
    /// What happened, in one line.
    pub title: String,
    /// The same in sentences.
    pub text: Vec<String>,
    /// What belongs to it, by name.
    pub facts: Vec<(&'static str, String)>,
    /// What to do now, and the command for it.
    pub todo: Option<Todo>,
    /// Where there is more, with what each is called.
    pub links: Vec<(String, String)>,
    /// Of what.
    pub request: Subject,
}

/// What somebody has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Todo {
    /// Who has to do what.
    pub what: String,
    /// What to type; safe to paste.
    pub command: String,
}

/// The request that a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What it rolls back, in a few words.
    pub workloads: String,
    /// What kind of trouble it is about.
    pub category: Category,
    /// How urgent it is.
    pub urgency: Urgency,
    /// How it ended, when it has.
    pub result: Option<EndResult>,
}

impl Message {
    /// The same for the same message, and different from every other one.
    pub fn identity(&self) -> String {
        format!("{}.{}", self.request.uid, self.key)
    }
}

/// Whether this channel is told this.
pub fn takes(policy: &Notifications, channel: &Channel, message: &Message) -> bool {
    let event = match message.about {
        About::Test => return true,
        About::Acknowledged => return channel.pager_duty.is_some(),
        About::Over => return keeps_open(channel),
        About::Level(level) => return is_asked(policy, channel, level),
        About::Event(event) => event,
    };
    let Some(on) = &channel.on else {
        return NotificationEvent::QUIET.contains(&event);
    };
    let wanted = |wanted: NotificationEvent| match on.events.as_slice() {
        [] => NotificationEvent::QUIET.contains(&wanted),
        some => some.contains(&wanted),
    };
    let request = &message.request;
    // What is held back waits for approvals too, and is told once.
    let is_wanted = wanted(event)
        || (event == NotificationEvent::HeldBack && wanted(NotificationEvent::AwaitingApproval));
    let is_end = [NotificationEvent::Ended, NotificationEvent::Failed].contains(&event);
    let ends = |result| on.results.is_empty() || on.results.contains(&result);
    is_wanted
        && (on.categories.is_empty() || on.categories.contains(&request.category))
        && (on.urgencies.is_empty() || on.urgencies.contains(&request.urgency))
        && (!is_end || request.result.is_none_or(ends))
}

/// Whether something stands in this channel until it is told that it is over, as an incident does.
pub(crate) fn keeps_open(channel: &Channel) -> bool {
    channel.pager_duty.is_some() || channel.alertmanager.is_some()
}

fn is_asked(policy: &Notifications, channel: &Channel, level: i32) -> bool {
    let index = usize::try_from(level.saturating_sub(1)).unwrap_or(usize::MAX);
    let levels = policy.escalation.iter().flat_map(|it| &it.levels);
    levels
        .skip(index)
        .take(1)
        .any(|it| it.channels.contains(&channel.name))
}

/// A few letters and digits that stand for these words.
fn short(words: &[&str]) -> String {
    let digest = template::digest(&json!(words));
    let digits = digest.trim_start_matches("sha256:").chars();
    digits.take(12).collect()
}

/// What is sent to see whether a channel works.
pub fn test_message(namespace: &str, channel: &str, at: Timestamp) -> Message {
    let text = |text: &str| crate::message::text::plain(text, 253);
    Message {
        key: format!("Test-{}", short(&[namespace, channel, &at.to_string()])),
        about: About::Test,
        at,
        weight: Weight::Info,
        standing: Standing::Unchanged,
        title: format!("Test of the notification channel {}", text(channel)),
        text: vec!["Somebody asked for this message with kubectl rollback notify test. Nothing happened, and nobody has to do anything.".to_owned()],
        facts: vec![("Namespace", text(namespace))],
        todo: None,
        links: Vec::new(),
        request: Subject {
            namespace: namespace.to_owned(),
            name: "test".to_owned(),
            uid: "test".to_owned(),
            workloads: String::new(),
            category: Category::HealthCheck,
            urgency: Urgency::Low,
            result: None,
        },
    }
}

/// Name of the Event that says what became of a test that was asked for in these words.
pub fn test_event(asked: &str) -> String {
    format!("default.test-{}", short(&[asked]))
}

/// What a channel would be sent, as its service gets it, but for addresses and keys.
pub fn laid_out(channel: &Channel, message: &Message, now: Timestamp) -> Vec<Value> {
    if channel.slack.is_some() {
        vec![layout::slack::layout(message)]
    } else if channel.teams.is_some() {
        vec![layout::teams::layout(message)]
    } else if channel.pager_duty.is_some() {
        let events = layout::pagerduty::layout(message).into_iter();
        events.map(|(_, event)| event).collect()
    } else if channel.alertmanager.is_some() {
        layout::alertmanager::layout(message, now)
            .into_iter()
            .collect()
    } else if channel.email.is_some() {
        let letter = layout::email::layout(message);
        vec![json!({"subject": letter.subject, "body": letter.body})]
    } else {
        vec![layout::webhook::layout(message)]
    }
}
