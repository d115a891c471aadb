//! A channel is tried because somebody asks for that: a message goes there, and an Event of the policy says what became of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use rollback_api::{FIELD_MANAGER, GROUP, POLICY_NAME, VERSION};
use rollback_core::message::redact::redact;
use rollback_core::message::text::plain;
use rollback_core::notify::{test_event, test_message};
use rollback_notify::{Answer, Client};

use super::policies::Trial;
use super::secrets::{self, Unreachable};
use crate::context::Context;

/// Longest text of an Event.
const NOTE_LIMIT: usize = 1000;

/// Tries a channel, once, and says what became of it.
pub async fn run(context: &Context, client: &Client, trial: &Trial) {
    let now = Timestamp::now();
    let answer = sent(context, client, trial, now).await;
    let (reason, note) = match answer {
        Ok(()) => (
            "NotificationTested",
            format!("The channel {} has taken the message", trial.channel),
        ),
        Err(why) => (
            "NotificationFailed",
            format!("Nothing comes through the channel {}: {why}", trial.channel),
        ),
    };
    let event = event(trial, reason, &note, now);
    let api: Api<Event> = Api::namespaced(context.client.clone(), &trial.namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::warn!(%error, namespace = trial.namespace, "an Event was not sent");
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
    let address = address.map_err(|Unreachable::Now(why)| why)?;
    let message = test_message(&trial.namespace, &trial.channel, now);
    match client.deliver(&address, &message, None, now).await {
        Answer::Delivered { .. } => Ok(()),
        Answer::Later { why, .. } | Answer::Refused { why } => Err(why),
    }
}

fn event(trial: &Trial, reason: &str, note: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(test_event(&trial.asked)),
            namespace: Some(trial.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Notify".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(plain(&redact(note), NOTE_LIMIT)),
        reason: Some(reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some("RollbackPolicy".to_owned()),
            name: Some(POLICY_NAME.to_owned()),
            namespace: Some(trial.namespace.clone()),
            uid: Some(trial.policy_uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("{GROUP}/controller")),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        type_: Some(
            if reason == "NotificationTested" {
                "Normal"
            } else {
                "Warning"
            }
            .to_owned(),
        ),
        ..Event::default()
    }
}
