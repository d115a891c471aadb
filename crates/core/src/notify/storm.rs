//! An incident with many requests is one message, not hundreds.

use jiff::Timestamp;
use rollback_api::policy::NotificationEvent;

use super::{About, Message, Standing, Subject, Todo, Weight, short};
use crate::message::shell;
use crate::message::text::plain;

/// From how many requests with something to tell on a channel is told of all of them together.
pub const STORM: usize = 8;
/// What its key begins with.
const KEY: &str = "Summary-";
/// How many of them are named.
const NAMED: usize = 10;

/// Whether this is the identity of such a message.
pub fn is_summary(identity: &str) -> bool {
    identity.starts_with(KEY)
}

/// One message instead of these, which are of one namespace: none when there are none. What it is the same message as
/// depends on what it tells, so that it can be told again; it is about one and the same trouble of the namespace, which is
/// known by the UID of its policy.
pub fn summary(messages: &[&Message], policy: &str, now: Timestamp) -> Option<Message> {
    let first = messages.first()?;
    let namespace = first.request.namespace.clone();
    let mut identities: Vec<String> = messages.iter().map(|it| it.identity()).collect();
    identities.sort_unstable();
    let identities: Vec<&str> = identities.iter().map(String::as_str).collect();
    let key = format!("{KEY}{}", short(&identities));
    let mut requests: Vec<&str> = messages.iter().map(|it| it.request.name.as_str()).collect();
    requests.sort_unstable();
    requests.dedup();
    let open = messages.iter().filter(|it| it.standing == Standing::Open);
    let open = open.count();
    let mut text: Vec<String> = counts(messages);
    text.push(format!(
        "Among them: {}",
        plain(&requests[..requests.len().min(NAMED)].join(", "), 1000)
    ));
    Some(Message {
        about: About::Event(NotificationEvent::NeedsPerson),
        at: now,
        weight: messages
            .iter()
            .map(|it| it.weight)
            .max()
            .unwrap_or(Weight::Info),
        standing: if open > 0 {
            Standing::Open
        } else {
            Standing::Unchanged
        },
        title: format!(
            "{} rollbacks in namespace {namespace} have news",
            requests.len()
        ),
        text,
        facts: vec![("Need somebody", open.to_string())],
        todo: Some(Todo {
            what: "Look at all of them:".to_owned(),
            command: format!(
                "kubectl rollback status -n {}",
                shell::name(&namespace, "NAMESPACE")
            ),
        }),
        links: Vec::new(),
        request: Subject {
            name: "many".to_owned(),
            uid: trouble(&namespace, policy),
            workloads: String::new(),
            namespace,
            ..first.request.clone()
        },
        key,
    })
}

/// That nobody has to do anything any more of what such messages were about.
pub fn summary_over(of: &Message, policy: &str) -> Message {
    let namespace = of.request.namespace.clone();
    Message {
        key: format!("{KEY}over"),
        about: About::Over,
        standing: Standing::Closed,
        weight: Weight::Info,
        title: format!("The rollbacks in namespace {namespace} need nobody any more"),
        text: Vec::new(),
        facts: Vec::new(),
        todo: None,
        request: Subject {
            uid: trouble(&namespace, policy),
            ..of.request.clone()
        },
        ..of.clone()
    }
}

/// What all summaries of a namespace are about, in place of a request.
fn trouble(namespace: &str, policy: &str) -> String {
    format!("{KEY}{}", short(&[namespace, policy]))
}

/// How many messages of each kind.
fn counts(messages: &[&Message]) -> Vec<String> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for message in messages {
        let word = message.about.as_str();
        match counts.iter_mut().find(|(of, _)| *of == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let counts = counts.into_iter();
    counts
        .map(|(word, count)| format!("{word}: {count}"))
        .collect()
}
