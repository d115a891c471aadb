//! E-mail: plain text, one thread for each request (RFC 5322, 3.6.4).

use super::severity;
use crate::message::text::plain;
use crate::notify::{Message, Weight};

/// Longest subject.
const SUBJECT: usize = 200;
/// What stands behind the @ of our identifiers.
const DOMAIN: &str = "rollback.broxiva.com";

/// A letter, but for who writes it and who gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// The same for the same message.
    pub message_id: String,
    /// What it answers: the first one of its request, whether that was ever sent or not.
    pub thread: String,
}

/// The letter.
pub fn layout(message: &Message) -> Letter {
    let urgent = match message.weight {
        Weight::Info => String::new(),
        Weight::Warning | Weight::Critical => format!("[{}] ", severity(message.weight)),
    };
    let mut lines = vec![message.title.clone(), String::new()];
    lines.extend(message.text.iter().cloned());
    if let Some(todo) = &message.todo {
        lines.push(String::new());
        lines.push(todo.what.clone());
        lines.push(format!("    {}", todo.command));
    }
    lines.push(String::new());
    lines.extend(
        message
            .facts
            .iter()
            .map(|(name, value)| format!("{name}: {value}")),
    );
    lines.push(String::new());
    lines.extend(
        message
            .links
            .iter()
            .map(|(title, url)| format!("{title}: {url}")),
    );
    Letter {
        subject: plain(&format!("{urgent}{}", message.title), SUBJECT),
        body: lines.join("\n"),
        message_id: id(&message.identity()),
        thread: id(&message.request.uid),
    }
}

fn id(words: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let words: String = words.chars().filter(|c| harmless(*c)).take(200).collect();
    format!("<{words}@{DOMAIN}>")
}
