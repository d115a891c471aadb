//! Each channel within its limits, whatever stands in a message.

use jiff::Timestamp;
use rollback_api::policy::NotificationEvent;
use rollback_api::request::{Category, Urgency};
use rollback_core::notify::layout::{alertmanager, email, pagerduty, slack, teams, webhook};
use rollback_core::notify::{About, Message, Standing, Subject, Todo, Weight, messages, summary};
use serde_json::Value;

use crate::world::Scene;

const HOSTILE: [&str; 14] = [
    "<!channel> @here <@U123>",
    "<https://evil.example|Approve here>",
    "*bold* _it_ ~gone~ `code` ```block```",
    "[click](https://evil.example) ![x](https://evil.example/p.png)",
    "</at><script>alert(1)</script>",
    "\u{202e}gnp.exe\u{1b}[31m",
    "a\r\nBcc: victim@evil.example\r\n\r\nbody",
    "{{alert}} ${jndi:ldap://evil} %s %n",
    "\"}],\"blocks\":[{\"type\":\"image\"}]",
    "'; kubectl delete ns shop; '",
    "$(reboot) `reboot` | sh",
    "&lt;b&gt; &amp;amp; &#60;",
    "\u{0}\u{7}\u{8}",
    "🚨🚨🚨 ok 🚨",
];

fn message(text: &str, standing: Standing) -> Message {
    let text = rollback_core::message::text::plain(text, 100_000);
    Message {
        key: "End".to_owned(),
        about: About::Event(NotificationEvent::Failed),
        at: "2026-11-23T15:00:00Z".parse().unwrap(),
        weight: Weight::Critical,
        standing,
        title: text.clone(),
        text: vec![text.clone(); 10],
        facts: vec![("Why", text.clone()); 12],
        todo: Some(Todo {
            what: text.clone(),
            command: "kubectl rollback approve api-5xx -n shop".to_owned(),
        }),
        links: vec![(
            "Grafana".to_owned(),
            "https://grafana.example/d/x?from=1&to=2".to_owned(),
        )],
        request: Subject {
            namespace: "shop".to_owned(),
            name: "api-5xx".to_owned(),
            uid: "0123".to_owned(),
            workloads: text,
            category: Category::ErrorRate,
            urgency: Urgency::High,
            result: None,
        },
    }
}

fn texts() -> Vec<String> {
    let long = [3, 150, 3000, 50_000].map(|times| "🚨<&>".repeat(times));
    HOSTILE
        .iter()
        .map(|it| (*it).to_owned())
        .chain(long)
        .chain([String::new()])
        .collect()
}

fn now() -> Timestamp {
    "2026-11-23T15:01:00Z".parse().unwrap()
}

fn strings<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|it| strings(it, found)),
        Value::Object(fields) => fields.values().for_each(|it| strings(it, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text that is there, and has at most so many characters.
fn within(text: &Value, most: usize) {
    let length = text.as_str().unwrap().chars().count();
    assert!((1..=most).contains(&length), "{length} of {most}: {text}");
}

/// A block of the kinds that every Slack has, within the limits of its documentation (Block Kit, reference of blocks).
fn is_a_slack_block(block: &Value) {
    const ANY: [&str; 2] = ["plain_text", "mrkdwn"];
    let text = |text: &Value, kinds: &[&str], most: usize| {
        assert!(kinds.contains(&text["type"].as_str().unwrap()), "{text}");
        within(&text["text"], most);
    };
    match block["type"].as_str().unwrap() {
        "header" => text(&block["text"], &["plain_text"], 150),
        "divider" => {}
        "section" => {
            assert!(!block["text"].is_null() || !block["fields"].is_null());
            if !block["text"].is_null() {
                text(&block["text"], &ANY, 3000);
            }
            let fields = block["fields"].as_array().cloned().unwrap_or_default();
            assert!(fields.len() <= 10);
            for field in &fields {
                text(field, &ANY, 2000);
            }
        }
        "context" => {
            let elements = block["elements"].as_array().unwrap();
            assert!((1..=10).contains(&elements.len()));
            for element in elements {
                text(element, &ANY, 3000);
            }
        }
        "actions" => {
            let elements = block["elements"].as_array().unwrap();
            assert!((1..=25).contains(&elements.len()));
            for button in elements {
                assert_eq!(button["type"], "button");
                text(&button["text"], &["plain_text"], 75);
                within(&button["url"], 3000);
            }
        }
        other => panic!("no block of Slack: {other}"),
    }
}

#[test]
fn slack_takes_every_message() {
    for text in texts() {
        let message = message(&text, Standing::Open);
        for laid_out in [slack::layout(&message), slack::reply(&message)] {
            assert!(laid_out["blocks"].to_string().chars().count() <= 12_000);
            within(&laid_out["text"], 40_000);
            let blocks = laid_out["blocks"].as_array().unwrap();
            assert!((1..=50).contains(&blocks.len()));
            for block in blocks {
                is_a_slack_block(block);
            }
        }
    }
}

#[test]
fn slack_reads_no_markup_of_others() {
    for text in HOSTILE {
        let laid_out = slack::layout(&message(text, Standing::Open));
        for block in laid_out["blocks"].as_array().unwrap() {
            let fields = block["fields"].as_array().cloned().unwrap_or_default();
            for part in fields
                .iter()
                .chain([&block["text"]])
                .filter(|it| !it.is_null())
            {
                let words = part["text"].as_str().unwrap();
                if part["type"] == "mrkdwn" {
                    assert!(
                        words.starts_with("```kubectl") || words.starts_with("<https://grafana"),
                        "{words}"
                    );
                } else {
                    assert!(!words.contains(['<', '>']), "{words}");
                }
            }
        }
        assert!(!laid_out["text"].as_str().unwrap().contains('<'));
    }
}

#[test]
fn teams_gets_cards_that_are_small_enough_and_read_no_markup() {
    for text in texts() {
        let card = teams::layout(&message(&text, Standing::Open));
        assert!(
            card.to_string().len() < 28 * 1024,
            "{}",
            card.to_string().len()
        );
        let content = &card["attachments"][0]["content"];
        assert_eq!(content["version"], "1.2");
        for block in content["body"].as_array().unwrap() {
            assert_eq!(block["type"], "RichTextBlock", "a TextBlock reads Markdown");
            for run in block["inlines"].as_array().unwrap() {
                assert_eq!(run["type"], "TextRun");
            }
        }
    }
}

#[test]
fn pagerduty_has_one_incident_for_a_request_and_takes_what_it_gets() {
    for text in texts() {
        let open = pagerduty::layout(&message(&text, Standing::Open));
        let closed = pagerduty::layout(&message(&text, Standing::Closed));
        let [(pagerduty::Queue::Events, trigger)] = open.as_slice() else {
            panic!("{open:?}")
        };
        let [
            (pagerduty::Queue::Events, resolve),
            (pagerduty::Queue::Changes, change),
        ] = closed.as_slice()
        else {
            panic!("{closed:?}")
        };
        assert_eq!(
            (&trigger["event_action"], &resolve["event_action"]),
            (&"trigger".into(), &"resolve".into())
        );
        assert_eq!(trigger["dedup_key"], resolve["dedup_key"]);
        assert!(trigger["dedup_key"].as_str().unwrap().len() <= 255);
        for event in [trigger, change] {
            assert!(
                event["payload"]["summary"]
                    .as_str()
                    .unwrap()
                    .chars()
                    .count()
                    <= 1024
            );
            assert!(event.to_string().len() < 512_000);
        }
        let seen_to = pagerduty::layout(&message(&text, Standing::Acknowledged));
        let [(pagerduty::Queue::Events, acknowledge)] = seen_to.as_slice() else {
            panic!("{seen_to:?}")
        };
        assert_eq!(acknowledge["event_action"], "acknowledge");
        assert_eq!(acknowledge["dedup_key"], trigger["dedup_key"]);
        let quiet = pagerduty::layout(&message(&text, Standing::Unchanged));
        assert!(matches!(quiet.as_slice(), [(pagerduty::Queue::Changes, _)]));
    }
}

#[test]
fn an_alert_keeps_its_labels_and_ends_with_the_request() {
    let open = alertmanager::layout(&message("a", Standing::Open), now()).unwrap();
    let closed = alertmanager::layout(&message("b <&>", Standing::Closed), now()).unwrap();
    assert_eq!(open[0]["labels"], closed[0]["labels"]);
    let ends = |body: &Value| {
        body[0]["endsAt"]
            .as_str()
            .unwrap()
            .parse::<Timestamp>()
            .unwrap()
    };
    assert!(ends(&open) > now() && ends(&closed) <= now());
    assert_eq!(
        alertmanager::layout(&message("c", Standing::Unchanged), now()),
        None
    );
    for text in texts() {
        let body = alertmanager::layout(&message(&text, Standing::Open), now()).unwrap();
        assert!(body.to_string().len() <= 64 * 1024);
        for name in body[0]["labels"].as_object().unwrap().keys() {
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
                "{name}"
            );
        }
    }
}

#[test]
fn a_letter_has_one_subject_and_one_thread() {
    for text in texts() {
        let letter = email::layout(&message(&text, Standing::Open));
        assert!(
            !letter.subject.contains(['\r', '\n']),
            "{:?}",
            letter.subject
        );
        assert!(letter.subject.chars().count() <= 200);
        assert_eq!(letter.message_id, "<0123.End@rollback.broxiva.com>");
        assert_eq!(letter.thread, "<0123@rollback.broxiva.com>");
    }
}

#[test]
fn an_event_has_what_cloudevents_asks_for() {
    for text in texts() {
        let event = webhook::layout(&message(&text, Standing::Open));
        for field in ["specversion", "id", "source", "type"] {
            assert!(
                event[field].as_str().is_some_and(|it| !it.is_empty()),
                "{field}"
            );
        }
        assert!(event.to_string().len() <= 64 * 1024);
    }
}

#[test]
fn many_are_one_and_the_same_ones_are_the_same() {
    let all: Vec<Message> = (0..200)
        .map(|number| {
            let mut message = message("x", Standing::Open);
            message.request.name = format!("request-{number}");
            message.request.uid = format!("uid-{number}");
            message
        })
        .collect();
    let mut all: Vec<&Message> = all.iter().collect();
    let one = summary(&all, "1", now()).unwrap();
    assert!(
        one.title.contains("200 rollbacks in namespace shop"),
        "{}",
        one.title
    );
    all.reverse();
    assert_eq!(summary(&all, "1", now()).unwrap().key, one.key);
    assert_eq!(summary(&[], "1", now()), None);
}

/// What is planted as a secret in each text that somebody can write, and in none of the messages.
#[test]
fn planted_secrets_arrive_nowhere() {
    let secrets = [
        "password=Tr0ub4dor&3",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "AKIAIOSFODNN7EXAMPLE",
        "https://user:hunter2hunter2@db.example/x",
        "xoxb-123456789012-123456789012-AbCdEfGhIjKlMnOpQrStUvWx",
    ];
    for secret in secrets {
        let mut scene = Scene::default();
        scene.settle();
        let reason = &mut scene.request.spec.reason;
        reason.summary = format!("It broke with {secret} in the log");
        reason.incident_url = Some(format!("https://chat.example/?token={secret}"));
        let told = messages(&scene.request, &scene.status(), &[], scene.now);
        assert!(!told.is_empty());
        for message in &told {
            for body in [
                slack::layout(message),
                teams::layout(message),
                webhook::layout(message),
            ] {
                let mut found = Vec::new();
                strings(&body, &mut found);
                let core = secret.rsplit(['=', ':', '@']).next().unwrap();
                let hidden = if secret.contains("hunter2") {
                    "hunter2"
                } else {
                    core
                };
                assert!(
                    found.iter().all(|it| !it.contains(hidden)),
                    "{secret}: {found:?}"
                );
            }
        }
    }
}
