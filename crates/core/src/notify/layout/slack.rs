//! Slack: blocks of plain text, so that nothing of others is read as markup; the three characters that Slack reads are escaped.
//! <https://docs.slack.dev/reference/block-kit/blocks>, <https://docs.slack.dev/messaging/formatting-message-text>

use serde_json::{Value, json};

use super::{fit, shrunk};
use crate::notify::{Message, Weight};

/// Longest header.
const HEADER: usize = 150;
/// Longest text of a section.
const SECTION: usize = 3000;
/// Longest field of a section, and how many there may be.
const FIELD: (usize, usize) = (2000, 10);
/// Most that all of a message may be: a limit that is not documented lies above 12,000 characters.
const WHOLE: usize = 11_000;
/// Longest text for notifications.
const BRIEF: usize = 500;

/// `text` and `blocks` of a message.
pub fn layout(message: &Message) -> Value {
    shrunk(message, lay_out, |value| {
        value["blocks"].to_string().chars().count() <= WHOLE
    })
}

/// What stands in the thread of a message: one line, and what there is to do.
pub fn reply(message: &Message) -> Value {
    let mut blocks = vec![section(&format!(
        "{} {}",
        sign(message.weight),
        message.title
    ))];
    let text: Vec<&str> = message.text.iter().map(String::as_str).collect();
    if !text.is_empty() {
        blocks.push(section(&text.join("\n")));
    }
    json!({"text": brief(message), "blocks": blocks})
}

/// Whether the whole channel should see what is said in a thread.
pub fn is_broadcast(message: &Message) -> bool {
    message.weight == Weight::Critical
}

fn lay_out(message: &Message) -> Value {
    let header = format!("{} {}", sign(message.weight), message.title);
    let mut blocks = vec![json!({"type": "header", "text": plain(&header, HEADER)})];
    if !message.text.is_empty() {
        blocks.push(section(&message.text.join("\n")));
    }
    let fields = message.facts.iter().take(FIELD.1);
    let fields: Vec<Value> = fields
        .map(|(name, value)| plain(&format!("{name}\n{value}"), FIELD.0))
        .collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    if let Some(todo) = &message.todo {
        blocks.push(section(&todo.what));
        let command = fit(&todo.command.replace('`', "'"), SECTION - 10, escaped);
        blocks.push(json!({"type": "section", "text":
            {"type": "mrkdwn", "text": format!("```{command}```"), "verbatim": true}}));
    }
    let links = message.links.iter().map(|(title, url)| {
        let title = fit(&title.replace(['|', '*', '_', '~', '`'], " "), 100, escaped);
        format!("<{}|{title}>", fit(url, 2000, escaped))
    });
    let links: Vec<String> = links.collect();
    let joined = links.join("  ");
    if !joined.is_empty() && joined.chars().count() <= SECTION {
        blocks.push(json!({"type": "section", "text":
            {"type": "mrkdwn", "text": joined, "verbatim": true}}));
    }
    json!({"text": brief(message), "blocks": blocks})
}

fn brief(message: &Message) -> String {
    fit(
        &format!("{} {}", sign(message.weight), message.title),
        BRIEF,
        escaped,
    )
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": plain(text, SECTION)})
}

fn plain(text: &str, limit: usize) -> Value {
    let text = if text.trim().is_empty() { "-" } else { text };
    json!({"type": "plain_text", "text": fit(text, limit, escaped), "emoji": false})
}

fn sign(weight: Weight) -> &'static str {
    match weight {
        Weight::Info => "\u{2139}\u{fe0f}",
        Weight::Warning => "\u{26a0}\u{fe0f}",
        Weight::Critical => "\u{1f6a8}",
    }
}

fn escaped(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}
