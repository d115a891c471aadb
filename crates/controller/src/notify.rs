//! People hear of it: the outbox beside the reconcile loop.
//!
//! A pass commits a status and hands it over ([`Outbox::committed`]); that is all that it has to do with it. What there is to
//! tell, and was not told, is delivered beside the loop ([`worker`]). What came of it is handed in, and the next pass writes it
//! into the status together with everything else ([`Outbox::advance`]), so that two never write the same status. After a crash
//! what is not in the status is told again, under the same key.

mod due;
mod lanes;
mod policies;
mod secrets;
mod trial;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use rollback_api::status::NotificationStatus;
use rollback_api::{ACKNOWLEDGED_BY, RollbackPolicy, RollbackRequest, RollbackRequestStatus};
use rollback_core::notify::cursor::{self, Receipt};
use rollback_core::report::review;
use rollback_observe::newer::Served;
use rollback_observe::{self as observe};
use tokio::sync::{Notify, mpsc};

use crate::context::Context;
use crate::reconcile::{Error, store};
use policies::{Policies, Trial};

pub use worker::run;

/// Whose turn it is to be looked at again.
pub type Asked = mpsc::UnboundedReceiver<ObjectRef<RollbackRequest>>;

/// What is to be told, and what was.
pub struct Outbox {
    /// The channels of each namespace.
    pub policies: Policies,
    entries: Mutex<HashMap<String, Entry>>,
    /// The requests that were listed, while a list goes on.
    listed: Mutex<HashSet<String>>,
    changed: Notify,
    ask: mpsc::UnboundedSender<ObjectRef<RollbackRequest>>,
    trials: Mutex<Trials>,
}

/// How many channels wait to be tried at most; whoever asks for more waits for nothing.
const MOST_TRIALS: usize = 10;
/// For how long somebody waits for a trial. A standby sees what is asked for, too, and must not do it when it leads one day.
const TRIAL_WAITS: SignedDuration = SignedDuration::from_mins(1);

/// The channels that somebody wants to be tried, with when that was seen.
#[derive(Default)]
struct Trials(Vec<(Timestamp, Trial)>);

impl Trials {
    fn ask(&mut self, trial: Trial, now: Timestamp) {
        self.0.retain(|(at, _)| is_awaited(*at, now));
        if self.0.len() < MOST_TRIALS {
            self.0.push((now, trial));
        }
    }

    fn take(&mut self, now: Timestamp) -> Vec<Trial> {
        let all = std::mem::take(&mut self.0).into_iter();
        let awaited = all.filter(|(at, _)| is_awaited(*at, now));
        awaited.map(|(_, trial)| trial).collect()
    }
}

fn is_awaited(asked: Timestamp, now: Timestamp) -> bool {
    now.duration_since(asked) <= TRIAL_WAITS
}

/// One request.
#[derive(Clone)]
struct Entry {
    /// As it was committed last.
    request: Arc<RollbackRequest>,
    /// What was delivered and is not in its status yet.
    receipts: Vec<Receipt>,
    /// How many of them, from the first on, are in the status that a pass is about to write.
    entered: usize,
    /// Whether what is due has to be found out anew.
    is_new: bool,
    /// When it was touched last.
    at: Timestamp,
}

impl Outbox {
    /// An empty one, and whose turn it is to be looked at again.
    pub fn new() -> (Arc<Self>, Asked) {
        let (ask, asked) = mpsc::unbounded_channel();
        let outbox = Self {
            policies: Policies::default(),
            entries: Mutex::default(),
            listed: Mutex::default(),
            changed: Notify::new(),
            ask,
            trials: Mutex::default(),
        };
        (Arc::new(outbox), asked)
    }

    /// Takes what the watch of the policies tells.
    pub fn policy(&self, event: &Event<DeserializeGuard<RollbackPolicy>>) {
        if let Some(trial) = self.policies.take(event) {
            let mut trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
            trials.ask(trial, Timestamp::now());
        }
        self.changed.notify_one();
    }

    fn trials(&self) -> Vec<Trial> {
        let mut trials = self.trials.lock().unwrap_or_else(PoisonError::into_inner);
        trials.take(Timestamp::now())
    }

    /// The next `status.notifications` of a request whose next status is otherwise this one. Where the policy has no channels,
    /// what it has.
    pub fn advance(
        &self,
        request: &RollbackRequest,
        status: &RollbackRequestStatus,
        now: Timestamp,
    ) -> Option<NotificationStatus> {
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let Some(policy) = self.policies.of(namespace) else {
            return status.notifications.clone();
        };
        let receipts = self.receipts(request);
        cursor::advance(Some(&policy), request, status, &receipts, now)
    }

    /// Takes a request as it is stored now. Never waits for anything.
    pub fn committed(&self, request: &RollbackRequest, now: Timestamp) {
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let (Some(_), Some(uid)) = (self.policies.of(namespace), request.uid()) else {
            return;
        };
        if request.spec.dry_run {
            return;
        }
        let mut entries = self.locked();
        let before = entries.remove(&uid);
        let receipts = before.map(|entry| entry.receipts.into_iter().skip(entry.entered));
        let entry = Entry {
            request: Arc::new(request.clone()),
            receipts: receipts.into_iter().flatten().collect(),
            entered: 0,
            is_new: true,
            at: now,
        };
        entries.insert(uid, entry);
        drop(entries);
        self.changed.notify_one();
    }

    /// Forgets a request that is gone.
    pub fn gone(&self, uid: &str) {
        self.locked().remove(uid);
    }

    /// Takes what the watch of the requests tells: what was deleted, whoever took its finalizer away, waits for nobody any
    /// more. Of what has ended the end may still be owed.
    pub fn watched(&self, event: &Event<RollbackRequest>) {
        match event {
            Event::Init => self.listed().clear(),
            Event::InitApply(request) => {
                self.listed().extend(request.uid());
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut *self.listed());
                let mut entries = self.locked();
                entries.retain(|uid, entry| has_ended(entry) || listed.contains(uid));
            }
            Event::Apply(_) => {}
            Event::Delete(request) => {
                let uid = request.uid().unwrap_or_default();
                let mut entries = self.locked();
                if entries.get(&uid).is_some_and(|entry| !has_ended(entry)) {
                    entries.remove(&uid);
                }
            }
        }
    }

    /// What is to be stored now. It is kept until it is: [`Outbox::committed`].
    fn receipts(&self, request: &RollbackRequest) -> Vec<Receipt> {
        let uid = request.metadata.uid.as_deref().unwrap_or_default();
        let mut entries = self.locked();
        let Some(entry) = entries.get_mut(uid) else {
            return Vec::new();
        };
        entry.entered = entry.receipts.len();
        entry.receipts.clone()
    }

    fn has_receipts(&self, request: &RollbackRequest) -> bool {
        let uid = request.metadata.uid.as_deref().unwrap_or_default();
        let entries = self.locked();
        entries
            .get(uid)
            .is_some_and(|entry| !entry.receipts.is_empty())
    }

    /// Hands in what came of a delivery, and asks for a pass that stores it.
    fn hand_in(&self, uid: &str, receipt: Receipt, now: Timestamp) {
        let mut entries = self.locked();
        let Some(entry) = entries.get_mut(uid) else {
            return;
        };
        entry.receipts.push(receipt);
        entry.is_new = true;
        entry.at = now;
        let of = ObjectRef::from_obj(entry.request.as_ref());
        drop(entries);
        // Whoever listens ends with the process.
        let _ = self.ask.send(of);
    }

    fn listed(&self) -> MutexGuard<'_, HashSet<String>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_ended(entry: &Entry) -> bool {
    let status = entry.request.status.as_ref();
    status.is_some_and(|it| it.outcome.is_some())
}

/// What is left to tell of a request that is over, as far as the cache knows. Nothing is read for it, however many there are,
/// unless there is something.
pub async fn after_end(cached: &RollbackRequest, context: &Context) -> Result<(), Error> {
    let outbox = &context.outbox;
    let namespace = cached.namespace().unwrap_or_default();
    let is_told = outbox.policies.of(&namespace).is_some();
    if !is_told || !is_owed(cached, outbox, Timestamp::now()) || !context.leader.elected().await {
        return Ok(());
    }
    match observe::request(&context.client, cached).await? {
        Some(Served::Known(live)) => finish(live, context).await,
        Some(Served::Newer(_)) | None => {
            outbox.gone(&cached.uid().unwrap_or_default());
            Ok(())
        }
    }
}

/// The same of one that was read just now.
pub async fn finish(mut live: Box<RollbackRequest>, context: &Context) -> Result<(), Error> {
    let now = Timestamp::now();
    let outbox = &context.outbox;
    let namespace = live.namespace().unwrap_or_default();
    let (Some(policy), Some(status)) = (outbox.policies.of(&namespace), &live.status) else {
        return Ok(());
    };
    if !is_owed(&live, outbox, now) {
        return Ok(());
    }
    let receipts = outbox.receipts(&live);
    let next = cursor::advance(Some(&policy), &live, status, &receipts, now);
    if next != status.notifications {
        if let Some(status) = &mut live.status {
            status.notifications = next;
        }
        *live = store(context, &mut live).await?;
    }
    outbox.committed(&live, now);
    Ok(())
}

/// Whether there is something to tell, to store or to count of a request that is over, as far as the cache knows.
fn is_owed(cached: &RollbackRequest, outbox: &Outbox, now: Timestamp) -> bool {
    let Some(status) = &cached.status else {
        return false;
    };
    let kept = status.notifications.as_ref();
    let told = |key: &str| {
        let channels = kept.into_iter().flat_map(|it| &it.channels);
        channels.flat_map(|it| &it.told).any(|it| it.key == key)
    };
    let is_acknowledged = cached.annotations().contains_key(ACKNOWLEDGED_BY);
    let is_counted = kept.is_none_or(|it| it.acknowledged.is_some());
    let is_review_due = review::is_overdue(cached, now) && !told("ReviewOverdue");
    !cursor::is_settled(status, now)
        || outbox.has_receipts(cached)
        || (is_acknowledged && !is_counted)
        || is_review_due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uid: &str, status: &serde_json::Value) -> RollbackRequest {
        let request = serde_json::json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1",
            "kind": "RollbackRequest",
            "metadata": {"name": uid, "namespace": "shop", "uid": uid},
            "spec": {"targets": [], "reason": {"category": "ErrorRate", "summary": ""}},
            "status": status,
        });
        serde_json::from_value(request).unwrap()
    }

    /// As if passes had committed these.
    fn holding(requests: &[RollbackRequest]) -> Arc<Outbox> {
        let (outbox, _) = Outbox::new();
        for request in requests {
            let entry = Entry {
                request: Arc::new(request.clone()),
                receipts: Vec::new(),
                entered: 0,
                is_new: true,
                at: Timestamp::UNIX_EPOCH,
            };
            outbox.locked().insert(request.uid().unwrap(), entry);
        }
        outbox
    }

    fn held(outbox: &Outbox) -> Vec<String> {
        let mut held: Vec<String> = outbox.locked().keys().cloned().collect();
        held.sort_unstable();
        held
    }

    #[test]
    fn what_was_deleted_while_it_waited_is_forgotten_and_what_has_ended_is_told_to_its_end() {
        let outcome = serde_json::json!({
            "result": "Cancelled", "reason": "CancelledByUser", "effect": "None", "at": "2026-11-23T15:00:00Z",
            "message": "",
        });
        let waiting = request("waiting", &serde_json::json!({}));
        let ended = request("ended", &serde_json::json!({"outcome": outcome}));
        let both = [waiting.clone(), ended.clone()];
        let outbox = holding(&both);
        outbox.watched(&Event::Apply(waiting.clone()));
        assert_eq!(held(&outbox), ["ended", "waiting"]);
        outbox.watched(&Event::Delete(waiting.clone()));
        outbox.watched(&Event::Delete(ended.clone()));
        assert_eq!(held(&outbox), ["ended"]);
        // The watch was made anew, and what was deleted meanwhile is not in the list.
        let outbox = holding(&both);
        outbox.watched(&Event::Init);
        outbox.watched(&Event::InitApply(waiting));
        outbox.watched(&Event::InitDone);
        assert_eq!(held(&outbox), ["ended", "waiting"]);
        outbox.watched(&Event::Init);
        outbox.watched(&Event::InitDone);
        assert_eq!(held(&outbox), ["ended"]);
    }

    fn trial(asked: &str) -> Trial {
        Trial {
            namespace: "shop".to_owned(),
            policy_uid: "1".to_owned(),
            channel: "team".to_owned(),
            asked: asked.to_owned(),
        }
    }

    #[test]
    fn what_a_standby_was_asked_to_try_long_ago_is_not_tried_when_it_leads() {
        let (mut trials, start) = (Trials::default(), Timestamp::UNIX_EPOCH);
        for number in 0..20 {
            trials.ask(trial(&number.to_string()), start);
        }
        let later = start + SignedDuration::from_mins(2);
        trials.ask(trial("new"), later);
        assert_eq!(trials.take(later), [trial("new")]);
        assert_eq!(trials.take(later), []);
    }
}
