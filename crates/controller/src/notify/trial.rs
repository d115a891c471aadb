//! A channel is tried because somebody asks for that: a message goes there, and an Event of the policy says what became of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use rollback_api::{GROUP, POLICY_NAME, VERSION};
use rollback_core::message::redact::redact;
use rollback_core::message::text::plain;
use rollback_core::notify::{test_event, test_message};
use rollback_core::report::notice::Notice;
use rollback_notify::{Answer, Client};

use super::policies::Trial;
use super::secrets::{self, Unreachable};
use crate::context::Context;
use crate::events;

/// Longest text of an Event.
const NOTE_LIMIT: usize = 1000;

/// Tries a channel, once, and says what became of it.
pub async fn run(context: &Context, client: &Client, trial: &Trial) {
    let now = Timestamp::now();
    let answer = sent(context, client, trial, now).await;
    let (warning, reason, note) = match answer {
        Ok(()) => (
            false,
            "NotificationTested",
            format!("The channel {} has taken the message", trial.channel),
        ),
        Err(why) => (
            true,
            "NotificationFailed",
            format!("Nothing comes through the channel {}: {why}", trial.channel),
        ),
    };
    let notice = Notice {
        at: now,
        warning,
        reason,
        action: "Notify",
        note: plain(&redact(&note), NOTE_LIMIT),
        key: None,
    };
    let name = test_event(&trial.asked);
    if let Err(error) = events::create(context, policy(trial), &name, notice).await {
        tracing::warn!(%error, namespace = trial.namespace, "nobody is told what became of a test");
    }
}

/// The policy, as an Event names it.
fn policy(trial: &Trial) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some("RollbackPolicy".to_owned()),
        name: Some(POLICY_NAME.to_owned()),
        namespace: Some(trial.namespace.clone()),
        uid: Some(trial.policy_uid.clone()),
        ..ObjectReference::default()
    }
}

async fn sent(
    context: &Context,
    client: &Client,
    trial: &Trial,
    now: Timestamp,
) -> Result<(), String> {
    let policy = context.outbox.policies.of(&trial.namespace);
    let mut channels = policy.iter().flat_map(|policy| &policy.channels);
    let channel = channels.find(|it| it.name == trial.channel);
    let channel = channel.ok_or("the policy has no channel of this name")?;
    let address = secrets::address(&context.client, &trial.namespace, channel).await;
    let address = address.map_err(|Unreachable(why)| why)?;
    let message = test_message(&trial.namespace, &trial.channel, now);
    match client.deliver(&address, &message, None, now).await {
        Answer::Delivered { .. } => Ok(()),
        Answer::Later { why, .. } | Answer::Refused { why } => Err(why),
    }
}
