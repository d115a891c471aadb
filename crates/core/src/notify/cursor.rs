//! What was told already, as the status keeps it, and what therefore is still to be told.

use jiff::{SignedDuration, Timestamp};
use rollback_api::policy::{Channel, Notifications};
use rollback_api::status::{
    Acknowledged, ChannelStatus, DeliveryResult, Failing, MOST_TOLD, NotificationStatus, Told,
};
use rollback_api::{ACKNOWLEDGED_BY, RollbackRequest, RollbackRequestStatus};

use super::messages::{END, channel_fails, needs_person};
use super::{About, Message, Standing, escalation, keeps_open, messages, takes};
use crate::message::redact::redact;
use crate::message::text::plain;

/// How old news may become while a channel does not get through.
pub const STALE: SignedDuration = SignedDuration::from_hours(24);
/// Of a request that ended longer ago than this, and of which nothing was told, nothing is told any more.
const UNHEARD: SignedDuration = SignedDuration::from_hours(1);

/// What delivery hands in for the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Name of the channel.
    pub channel: String,
    /// The messages that are through with, by their keys.
    pub told: Vec<Told>,
    /// The name of the message at the service, when it has one now.
    pub message: Option<String>,
    /// That it does not get through; `None` when it does.
    pub failing: Option<Failing>,
}

impl Receipt {
    /// Whether it only says what was too old to be sent.
    pub fn is_untried(&self) -> bool {
        let mut told = self.told.iter();
        told.any(|it| it.result == DeliveryResult::Abandoned)
    }
}

/// One message that is still to be told in a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Due<'a> {
    /// Where.
    pub channel: &'a Channel,
    /// What.
    pub message: Message,
}

/// What is still to be told, channel by channel, in the order of the facts. `receipts` are those that are not in the status
/// yet.
pub fn due<'a>(
    policy: &'a Notifications,
    request: &RollbackRequest,
    receipts: &[Receipt],
    now: Timestamp,
) -> Vec<Due<'a>> {
    let Some(status) = &request.status else {
        return Vec::new();
    };
    let kept = status.notifications.as_ref();
    if kept.is_none() && receipts.is_empty() && has_long_ended(status, now) {
        return Vec::new();
    }
    let all = messages(request, status, &policy.links, now);
    let mut due = Vec::new();
    for channel in &policy.channels {
        let told = |key: &str| {
            let kept = kept.into_iter().flat_map(|kept| &kept.channels);
            let kept = kept
                .filter(|it| it.name == channel.name)
                .flat_map(|it| &it.told);
            let new = receipts.iter().filter(|it| it.channel == channel.name);
            let mut both = kept.chain(new.flat_map(|it| &it.told));
            both.any(|told| told.key == key)
        };
        // What does not fit into the status any more would be told again and again.
        if all.iter().filter(|it| told(&it.key)).count() >= MOST_TOLD {
            continue;
        }
        let own = channel_fails(&channel.name);
        let left = all.iter().filter(|it| it.key != own && !told(&it.key));
        let left = left.filter_map(|it| for_channel(policy, channel, it));
        due.extend(left.map(|message| Due { channel, message }));
    }
    due
}

/// What stands in the channels that forget it, unless they are told again: of each the last message that asks for somebody
/// and was told. After the end nothing is told again.
pub fn standing<'a>(
    policy: &'a Notifications,
    request: &RollbackRequest,
    due: &[Due],
    now: Timestamp,
) -> Vec<Due<'a>> {
    let status = request.status.as_ref();
    let Some(status) = status.filter(|it| it.outcome.is_none()) else {
        return Vec::new();
    };
    let mut channels = policy
        .channels
        .iter()
        .filter(|it| it.alertmanager.is_some());
    let Some(first) = channels.next() else {
        return Vec::new();
    };
    let all = messages(request, status, &policy.links, now);
    let open = all.iter().filter(|it| it.standing == Standing::Open);
    let open: Vec<&Message> = open.collect();
    let channels = std::iter::once(first).chain(channels);
    let standing = channels.filter_map(|channel| {
        let is_due = |it: &Message| {
            let mut due = due.iter().filter(|due| due.channel.name == channel.name);
            due.any(|due| due.message.key == it.key)
        };
        let mut told = open.iter().rev();
        let told = told.find(|it| takes(policy, channel, it) && !is_due(it))?;
        let message = (*told).clone();
        Some(Due { channel, message })
    });
    standing.collect()
}

/// The message, when this channel is told it. A channel that keeps something open is told of every end after which nobody has
/// to do anything, whatever it is told otherwise: nobody else closes what a message or a level has opened there.
fn for_channel(policy: &Notifications, channel: &Channel, message: &Message) -> Option<Message> {
    if takes(policy, channel, message) {
        return Some(message.clone());
    }
    let closes = is_end(message) && message.standing == Standing::Closed;
    (closes && keeps_open(channel)).then(|| Message {
        about: About::Over,
        ..message.clone()
    })
}

/// Whether this message is the end of its request.
pub fn is_end(message: &Message) -> bool {
    message.key == END
}

/// Whether a request stands for the incident that was opened for many in this channel, as far as its status and what was
/// delivered since say.
pub fn is_in_summary(
    request: &RollbackRequest,
    receipts: &[Receipt],
    channel: &str,
    now: Timestamp,
) -> bool {
    let Some(status) = &request.status else {
        return false;
    };
    let kept = status.notifications.as_ref();
    let stored = kept.into_iter().flat_map(|it| &it.channels);
    let stored = stored.filter(|it| it.name == channel);
    let new = receipts.iter().filter(|it| it.channel == channel);
    let told = stored.flat_map(|it| &it.told);
    let told: Vec<&Told> = told.chain(new.flat_map(|it| &it.told)).collect();
    if told
        .iter()
        .all(|it| it.result != DeliveryResult::Summarized)
    {
        return false;
    }
    let Some(outcome) = &status.outcome else {
        return true;
    };
    let end = told.iter().find(|it| it.key == END);
    let is_fresh = now.duration_since(outcome.at) <= STALE;
    let is_acknowledged = kept.is_some_and(|it| it.acknowledged.is_some());
    // An end that was told by itself has taken its request out of the others.
    is_fresh
        && match end {
            None => true,
            Some(end) => {
                end.result == DeliveryResult::Summarized
                    && needs_person(outcome)
                    && !is_acknowledged
            }
        }
}

/// Whether a message has become too old to be told. What a request still waits for people for is never too old.
pub fn is_stale(message: &Message, now: Timestamp) -> bool {
    let waits = message.standing == Standing::Open && message.request.result.is_none();
    !waits && now.duration_since(message.at) > STALE
}

fn has_long_ended(status: &RollbackRequestStatus, now: Timestamp) -> bool {
    let ended = status.outcome.as_ref();
    ended.is_some_and(|outcome| now.duration_since(outcome.at) > UNHEARD)
}

/// Whether there is nothing to do for a request that is over, as far as its cached status tells.
pub fn is_settled(status: &RollbackRequestStatus, now: Timestamp) -> bool {
    match &status.notifications {
        None => has_long_ended(status, now),
        Some(kept) => kept.settled,
    }
}

/// The next state of `status.notifications`: with what was handed in, who has acknowledged, and the level that is asked now.
/// Without channels in the policy nothing is begun, and what is there stays as it is.
pub fn advance(
    policy: Option<&Notifications>,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    receipts: &[Receipt],
    now: Timestamp,
) -> Option<NotificationStatus> {
    let before = status.notifications.clone();
    let Some(policy) = policy else {
        return before;
    };
    if request.spec.dry_run {
        return before;
    }
    let mut next = before.clone().unwrap_or_default();
    for receipt in receipts {
        enter(&mut next, receipt);
    }
    let is_named = |it: &ChannelStatus| {
        policy
            .channels
            .iter()
            .any(|channel| channel.name == it.name)
    };
    next.channels.retain(is_named);
    bound(&mut next, request, status, now);
    if next.acknowledged.is_none() {
        next.acknowledged = acknowledged(request, now);
    }
    next.escalation = escalation::advance(policy, request, status, &next, now);
    if next == NotificationStatus::default() {
        return before;
    }
    next.settled = status.outcome.is_some()
        && next
            .escalation
            .as_ref()
            .is_none_or(|it| it.next_at.is_none())
        && {
            let whole = RollbackRequest {
                status: Some(RollbackRequestStatus {
                    notifications: Some(next.clone()),
                    ..status.clone()
                }),
                ..request.clone()
            };
            due(policy, &whole, &[], now).is_empty()
        };
    Some(next)
}

/// Who has acknowledged, as the API server let them sign.
fn acknowledged(request: &RollbackRequest, now: Timestamp) -> Option<Acknowledged> {
    let annotations = request.metadata.annotations.as_ref()?;
    let by = annotations.get(ACKNOWLEDGED_BY)?.trim();
    (!by.is_empty()).then(|| Acknowledged {
        by: plain(by, 253),
        at: now,
    })
}

fn enter(next: &mut NotificationStatus, receipt: &Receipt) {
    let at = next
        .channels
        .iter()
        .position(|it| it.name == receipt.channel);
    let at = at.unwrap_or_else(|| {
        next.channels.push(ChannelStatus {
            name: receipt.channel.clone(),
            ..ChannelStatus::default()
        });
        next.channels.len() - 1
    });
    let Some(channel) = next.channels.get_mut(at) else {
        return;
    };
    for told in &receipt.told {
        if channel.told.iter().all(|it| it.key != told.key) {
            channel.told.push(told.clone());
        }
    }
    if let Some(message) = &receipt.message {
        channel.message = Some(message.clone()).filter(|it| !it.is_empty() && it.len() <= 80);
    }
    // Nothing was sent, so nobody knows.
    if receipt.is_untried() {
        return;
    }
    // Since when it fails was known before, when it failed before.
    channel.failing = match (&receipt.failing, channel.failing.take()) {
        (Some(now), Some(before)) => Some(Failing {
            since: before.since,
            message: now.message.clone(),
        }),
        (Some(now), None) => Some(now.clone()),
        (None, _) => None,
    };
}

/// Forgets what was told of what is no fact any more, an earlier plan for example, when there is too much of it.
fn bound(
    next: &mut NotificationStatus,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    now: Timestamp,
) {
    if next.channels.iter().all(|it| it.told.len() <= MOST_TOLD) {
        return;
    }
    let facts = messages(request, status, &[], now);
    for channel in &mut next.channels {
        let mut surplus = channel.told.len().saturating_sub(MOST_TOLD);
        channel.told.retain(|told| {
            let goes = surplus > 0 && facts.iter().all(|it| it.key != told.key);
            surplus -= usize::from(goes);
            !goes
        });
        channel.told.truncate(MOST_TOLD);
    }
}

/// That nothing gets through, in words that can be kept.
pub fn failing(since: Timestamp, why: &str) -> Failing {
    Failing {
        since,
        message: plain(&redact(why), 300),
    }
}

/// What becomes of these messages.
pub fn told<'a>(
    messages: impl IntoIterator<Item = &'a Message>,
    result: DeliveryResult,
    at: Timestamp,
) -> Vec<Told> {
    let messages = messages.into_iter();
    let told = messages.map(|message| Told {
        key: message.key.clone(),
        result,
        at,
    });
    told.collect()
}
