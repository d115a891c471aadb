//! What was told to whom: the cursor of the outbox, and how far the escalation is.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

/// Most messages that are kept of one channel: the latest.
pub const MOST_TOLD: usize = 32;

/// What people were told of a request, in a namespace whose policy has channels.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NotificationStatus {
    /// What was told, by channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub channels: Vec<ChannelStatus>,
    /// Who was asked last, and when the next one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<EscalationStatus>,
    /// Who has said that they see to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// True: the request has ended, and all of it has been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
}

/// What was told in one channel.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// Its name in the policy.
    #[schemars(length(max = 40))]
    pub name: String,
    /// What was told, each by its key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub told: Vec<Told>,
    /// The message of this request, where the service knows it by a name of its own: for Slack `CHANNEL/TS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub message: Option<String>,
    /// Since when nothing gets through, and why; absent when the last message did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
}

/// One message.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// What makes it the same message, together with the UID of the request.
    #[schemars(length(max = 63))]
    pub key: String,
    /// What became of it.
    pub result: DeliveryResult,
    /// When.
    pub at: Timestamp,
}

open_enum! {
    /// What became of a message.
    #[derive(Hash, PartialOrd, Ord)]
    pub enum DeliveryResult {
        /// The service has taken it.
        Delivered,
        /// It was told in one message together with others.
        Summarized,
        /// The service refuses the message itself, so it is not sent again.
        Refused,
        /// It could not be delivered for so long that it is no news any more.
        Abandoned,
    }
}

/// That nothing gets through.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failing {
    /// Since when.
    pub since: Timestamp,
    /// Why, without anything of the address or of what came back that could be a secret.
    #[schemars(length(max = 300))]
    pub message: String,
}

/// How far the escalation is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EscalationStatus {
    /// What it is about: a request that waits, or one that has failed.
    pub about: EscalationAbout,
    /// The last level that is told, counted from 1; 0 before the first.
    pub level: i32,
    /// When that level was decided to be told; for 0 when it began.
    pub notified_at: Timestamp,
    /// When the next one is; absent when there is none, or nobody has to be asked any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
}

open_enum! {
    /// What an escalation is about.
    #[derive(Hash, PartialOrd, Ord)]
    pub enum EscalationAbout {
        /// The request waits for a person.
        Waiting,
        /// The request has ended, and a person has to look.
        Failed,
    }
}

/// That somebody sees to it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// Who, as the API server let them sign.
    #[schemars(length(max = 253))]
    pub by: String,
    /// When the controller saw it.
    pub at: Timestamp,
}
