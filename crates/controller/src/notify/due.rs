//! What is due of a request, and whether anything can come of it any more.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use rollback_api::status::ChannelStatus;
use rollback_core::notify::cursor::{self, Receipt};
use rollback_core::notify::{self, Message};
use rollback_core::time;

use super::{Entry, Outbox};
use crate::context::Context;

/// How many seconds a pass that was asked for has to come.
const PASS_SECONDS: i64 = 2;
/// For how long a request is kept in mind of which nothing is due any more.
const KEPT: SignedDuration = SignedDuration::from_mins(10);

/// What is due of one request.
#[derive(Default)]
pub(super) struct Waiting {
    /// By the name of the channel, in the order of the facts.
    pub due: BTreeMap<String, Vec<Message>>,
    /// What is told again from time to time, by the name of the channel.
    pub standing: BTreeMap<String, Message>,
    /// When there will be more by itself.
    pub wake: Option<Timestamp>,
}

/// What the status says of a channel.
pub(super) fn stored<'a>(entry: &'a Entry, channel: &str) -> Option<&'a ChannelStatus> {
    let kept = entry.request.status.as_ref()?.notifications.as_ref()?;
    kept.channels.iter().find(|it| it.name == channel)
}

/// What the service calls the message of this request.
pub(super) fn known(entry: &Entry, channel: &str) -> Option<String> {
    let of_channel = |it: &&Receipt| it.channel == channel;
    let mut new = entry.receipts.iter().rev().filter(of_channel);
    let new = new.find_map(|it| it.message.clone());
    new.or_else(|| stored(entry, channel)?.message.clone())
}

/// What is due of a request.
pub(super) fn waiting(outbox: &Outbox, entry: &Entry, now: Timestamp) -> Waiting {
    let request = entry.request.as_ref();
    let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
    let (Some(policy), Some(status)) = (outbox.policies.of(namespace), &request.status) else {
        return Waiting::default();
    };
    let mut due: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    let all = cursor::due(&policy, request, &entry.receipts, now);
    let standing = cursor::standing(&policy, request, &all, now).into_iter();
    let standing = standing.map(|it| (it.channel.name.clone(), it.message));
    let standing = standing.collect();
    for one in all {
        due.entry(one.channel.name.clone())
            .or_default()
            .push(one.message);
    }
    let kept = status.notifications.as_ref();
    let level = kept
        .and_then(|it| it.escalation.as_ref())
        .and_then(|it| it.next_at);
    // When it is overdue a pass has been asked for, and is asked for again if it does not come.
    let level = level.map(|at| {
        if at > now {
            at
        } else {
            time::after(now, PASS_SECONDS)
        }
    });
    let by_time = notify::due_by_time(request, status, now);
    Waiting {
        due,
        standing,
        wake: level.into_iter().chain(by_time).min(),
    }
}

/// Whether a request is not in the cache: a pass may have handed it over right after the watch told that it is deleted.
pub(super) fn is_gone(context: &Context, entry: &Entry) -> bool {
    let of = ObjectRef::from_obj(entry.request.as_ref());
    let cache = context.open.as_ref();
    cache.is_some_and(|(cache, _)| {
        cache
            .get(&of)
            .is_none_or(|it| it.uid() != entry.request.uid())
    })
}

/// Whether nothing can come any more of a request that is over.
pub(super) fn is_done_with(entry: &Entry, waiting: Option<&Waiting>, now: Timestamp) -> bool {
    let status = entry.request.status.as_ref();
    if entry.is_new || status.is_none_or(|it| it.outcome.is_none()) {
        return false;
    }
    let kept = status.and_then(|it| it.notifications.as_ref());
    let is_stored = entry.receipts.is_empty() && kept.is_some_and(|it| it.settled);
    let is_quiet = waiting.is_none_or(|it| it.wake.is_none() && it.due.values().all(Vec::is_empty));
    let age = now.duration_since(entry.at);
    // What was deleted is stored by nobody.
    is_stored || (is_quiet && age > KEPT) || age > cursor::STALE
}
