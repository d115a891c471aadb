//! How a message looks in each channel, within its limits, and escaped for it.

pub mod alertmanager;
pub mod email;
pub mod pagerduty;
pub mod slack;
pub mod teams;
pub mod webhook;

use serde_json::{Map, Value, json};

use super::{Message, Weight};
use crate::message::text::plain;

/// As much of `text` as fits into `limit` characters once each is escaped; what is cut off leaves an ellipsis.
fn fit(text: &str, limit: usize, escape: fn(char) -> Option<&'static str>) -> String {
    let width = |c: char| escape(c).map_or(1, str::len);
    let whole: usize = text.chars().map(width).sum();
    let room = if whole > limit {
        limit.saturating_sub(1)
    } else {
        limit
    };
    let mut fitted = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += width(c);
        if used > room {
            fitted.push('…');
            break;
        }
        match escape(c) {
            Some(escaped) => fitted.push_str(escaped),
            None => fitted.push(c),
        }
    }
    fitted
}

/// The message with less and less of its text, facts and links, until it fits.
fn shrunk<T>(message: &Message, lay_out: impl Fn(&Message) -> T, fits: impl Fn(&T) -> bool) -> T {
    let mut message = bounded(message);
    loop {
        let laid_out = lay_out(&message);
        let has_less = message.text.len() > 1 && message.text.pop().is_some();
        if fits(&laid_out)
            || !(has_less || message.facts.pop().is_some() || message.links.pop().is_some())
        {
            return laid_out;
        }
    }
}

/// What no shrinking takes away is short from the beginning.
fn bounded(message: &Message) -> Message {
    let mut message = message.clone();
    message.title = plain(&message.title, 1000);
    message.request.workloads = plain(&message.request.workloads, 300);
    for text in &mut message.text {
        *text = plain(text, 2000);
    }
    for (_, value) in &mut message.facts {
        *value = plain(value, 2000);
    }
    if let Some(todo) = &mut message.todo {
        todo.what = plain(&todo.what, 500);
        todo.command = plain(&todo.command, 1000);
    }
    message
}

/// Everything that a message says, for programs.
fn details(message: &Message) -> Map<String, Value> {
    let mut details = Map::new();
    for (name, value) in &message.facts {
        details.insert((*name).to_owned(), json!(value));
    }
    details.insert("Text".to_owned(), json!(message.text));
    if let Some(todo) = &message.todo {
        details.insert("To do".to_owned(), json!(todo.what));
        details.insert("Command".to_owned(), json!(todo.command));
    }
    details
}

fn severity(weight: Weight) -> &'static str {
    match weight {
        Weight::Info => "info",
        Weight::Warning => "warning",
        Weight::Critical => "critical",
    }
}

/// What the services take for one and the same trouble: the request.
fn incident(message: &Message) -> String {
    format!("rollback/{}", message.request.uid)
}
