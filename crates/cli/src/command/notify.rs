//! `notify test`: whether a channel works, and what it would get. The controller sends, because it is its rights, its network and
//! its list of hosts that count.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::Patch;
use rollback_api::policy::{Channel, Notifications};
use rollback_api::{POLICY_NAME, RollbackPolicy, TEST_CHANNEL};
use rollback_core::notify::{self, Message, test_event};
use serde_json::{Value, json};

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::{Cluster, writes};
use crate::error::Error;
use crate::output::{self, clean, complain, say};

/// How long the controller has for an answer.
const PATIENCE: Duration = Duration::from_secs(75);
/// How often is looked for it.
const LOOK: Duration = Duration::from_millis(250);

/// Has the controller send a message.
pub async fn test(
    cluster: &Cluster,
    format: Option<Format>,
    channel: &str,
) -> Result<Ending, Error> {
    find(cluster, channel).await?;
    let asked = format!("{channel}/{}", Timestamp::now());
    let patch = json!({"metadata": {"annotations": {TEST_CHANNEL: asked}}});
    let policies = cluster.api::<RollbackPolicy>();
    policies
        .patch(POLICY_NAME, &writes(), &Patch::Merge(&patch))
        .await?;
    let name = test_event(&asked);
    let answer = tokio::time::timeout(PATIENCE, answer(cluster, &name)).await;
    let Ok(event) = answer else {
        complain("The controller has not answered. Whether it is there: kubectl rollback doctor");
        return Ok(Ending::NotDone);
    };
    let event = event?;
    let note = clean(event.note.as_deref().unwrap_or_default());
    let is_sent = event.type_.as_deref() == Some("Normal");
    let told = json!({"channel": channel, "sent": is_sent, "message": note});
    let is_told = output::data(format, &told)?;
    if is_sent {
        if !is_told {
            say(&format!("{note}."))?;
        }
        return Ok(Ending::Done);
    }
    complain(&format!("{note}."));
    Ok(Ending::Failed)
}

async fn answer(cluster: &Cluster, name: &str) -> Result<Event, Error> {
    let events = cluster.api::<Event>();
    loop {
        if let Some(event) = events.get_opt(name).await? {
            return Ok(event);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Prints what a channel would get, without sending it.
pub async fn show(
    cluster: &Cluster,
    format: Option<Format>,
    channel: &str,
    request: Option<&str>,
) -> Result<Ending, Error> {
    let (policy, channel) = find(cluster, channel).await?;
    let now = Timestamp::now();
    let messages: Vec<Message> = match request {
        None => vec![notify::test_message(&cluster.namespace, &channel.name, now)],
        Some(name) => {
            let request = cluster.request(name).await?;
            let status = request.status.clone().unwrap_or_default();
            let all = notify::messages(&request, &status, &policy.links, now).into_iter();
            all.filter(|it| notify::takes(&policy, &channel, it))
                .collect()
        }
    };
    let laid_out = messages
        .iter()
        .flat_map(|it| notify::laid_out(&channel, it, now));
    let laid_out: Vec<Value> = laid_out.collect();
    if !output::data(format, &laid_out)? {
        for body in &laid_out {
            let text = serde_json::to_string_pretty(body).unwrap_or_default();
            say(&output::harmless(&text))?;
        }
    }
    if laid_out.is_empty() {
        complain("There is nothing to tell in this channel.");
    }
    Ok(Ending::Done)
}

async fn find(cluster: &Cluster, name: &str) -> Result<(Notifications, Channel), Error> {
    let policy = cluster.api::<RollbackPolicy>().get_opt(POLICY_NAME).await?;
    let notifications = policy
        .and_then(|policy| policy.spec.notifications)
        .unwrap_or_default();
    let channel = notifications
        .channels
        .iter()
        .find(|it| it.name == name)
        .cloned();
    let names = notifications.channels.iter().map(|it| clean(&it.name));
    let names: Vec<String> = names.collect();
    let channel = channel.ok_or_else(|| {
        Error::Refused(format!(
            "The policy of namespace {} has no notification channel {}; it has: {}.",
            clean(&cluster.namespace),
            clean(name),
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        ))
    })?;
    Ok((notifications, channel))
}
