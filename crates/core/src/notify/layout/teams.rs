//! Microsoft Teams: an adaptive card in the envelope that a workflow takes, as Alertmanager's `msteamsv2` sends it. What comes from
//! others stands in `TextRun`s, which know no markup.
//! <https://adaptivecards.io/explorer/TextRun.html>

use serde_json::{Value, json};

use super::shrunk;
use crate::message::text::plain;
use crate::notify::{Message, Weight};

/// Largest message, in bytes: Teams takes about 28 KB, with everything.
const WHOLE: usize = 24 * 1024;
/// Longest text.
const TEXT: usize = 2000;

/// The body of the POST.
pub fn layout(message: &Message) -> Value {
    shrunk(message, lay_out, |value| value.to_string().len() <= WHOLE)
}

fn lay_out(message: &Message) -> Value {
    let mut body = vec![text(
        &message.title,
        &json!({"size": "Large", "weight": "Bolder", "color": color(message.weight)}),
    )];
    body.extend(message.text.iter().map(|it| text(it, &json!({}))));
    for (name, value) in &message.facts {
        body.push(json!({"type": "RichTextBlock", "inlines": [
            run(&format!("{name}: "), &json!({"weight": "Bolder"})),
            run(value, &json!({})),
        ]}));
    }
    if let Some(todo) = &message.todo {
        body.push(text(&todo.what, &json!({"weight": "Bolder"})));
        body.push(text(&todo.command, &json!({"fontType": "Monospace"})));
    }
    let actions = message.links.iter().map(
        |(title, url)| json!({"type": "Action.OpenUrl", "title": plain(title, 100), "url": url}),
    );
    let actions: Vec<Value> = actions.collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "fallbackText": plain(&message.title, TEXT),
                "body": body,
                "actions": actions,
                "msteams": {"width": "full"},
            },
        }],
    })
}

fn text(words: &str, style: &Value) -> Value {
    json!({"type": "RichTextBlock", "inlines": [run(words, style)]})
}

fn run(words: &str, style: &Value) -> Value {
    let mut run = json!({"type": "TextRun", "text": plain(words, TEXT)});
    for (name, value) in style.as_object().into_iter().flatten() {
        run[name] = value.clone();
    }
    run
}

fn color(weight: Weight) -> &'static str {
    match weight {
        Weight::Info => "Good",
        Weight::Warning => "Warning",
        Weight::Critical => "Attention",
    }
}
