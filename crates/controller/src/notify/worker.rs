//! What delivers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use rollback_api::RollbackRequest;
use rollback_api::policy::Channel;
use rollback_api::status::DeliveryResult;
use rollback_core::notify::cursor::{self, Receipt};
use rollback_core::notify::{self, Message, STORM, Standing};
use rollback_notify::{Answer, Client, Kind};
use tokio::task::{self, JoinError, JoinSet};

use super::due::{Waiting, is_done_with, is_gone, known, stored, waiting};
use super::lanes::Lane;
use super::secrets::{self, Unreachable};
use super::{Entry, Outbox, has_ended, trial};
use crate::context::Context;

/// Longest time between two looks.
const LOOK: Duration = Duration::from_secs(30);
/// How often what stands is told again.
const REMIND: Duration = Duration::from_mins(4);

/// Namespace and name of a channel.
type Place = (String, String);

/// What is sent now.
struct Batch {
    place: Place,
    channel: Channel,
    kind: Kind,
    message: Message,
    /// What it stands for: the request, its messages, and what the service calls its message.
    stands_for: Vec<(String, Vec<Message>)>,
    known: Option<String>,
    /// The request of which it tells again what was told.
    reminds_of: Option<String>,
    /// Until when more is gathered to be told with it.
    not_before: Option<Instant>,
    /// What is settled together with it.
    also: Option<Message>,
    is_summary: bool,
}

/// What came of it.
struct Done {
    batch: Batch,
    /// None when it was too old to be sent at all.
    answer: Option<Answer>,
}

/// Delivers, as long as this controller leads.
pub async fn run(context: Arc<Context>, client: Client) {
    if !context.leader.elected().await {
        std::future::pending::<()>().await;
    }
    let mut worker = Worker {
        context,
        client,
        lanes: HashMap::new(),
        waiting: HashMap::new(),
        under_way: JoinSet::new(),
        tasks: HashMap::new(),
        reminded: HashMap::new(),
    };
    loop {
        let look = worker.go_on();
        worker.try_channels();
        tokio::select! {
            () = worker.context.outbox.changed.notified() => {}
            Some(done) = worker.under_way.join_next_with_id() => match done {
                Ok((id, done)) => {
                    worker.tasks.remove(&id);
                    worker.settle(done);
                }
                Err(error) => worker.broke_off(&error),
            },
            () = tokio::time::sleep(look) => {}
        }
    }
}

struct Worker {
    context: Arc<Context>,
    client: Client,
    lanes: HashMap<Place, Lane>,
    waiting: HashMap<String, Waiting>,
    under_way: JoinSet<Done>,
    /// What is under way, and where.
    tasks: HashMap<task::Id, (Place, String)>,
    /// When a channel was told last what stands in it, by the UID of the request.
    reminded: HashMap<(Place, String), Instant>,
}

impl Worker {
    fn outbox(&self) -> &Outbox {
        &self.context.outbox
    }

    /// Tries the channels that somebody asks for.
    fn try_channels(&self) {
        for trial in self.outbox().trials() {
            let (context, client) = (self.context.clone(), self.client.clone());
            tokio::spawn(async move { trial::run(&context, &client, &trial).await });
        }
    }

    /// Sends what can be sent now; how long there is nothing to do then, unless something happens.
    fn go_on(&mut self) -> Duration {
        let now = Timestamp::now();
        self.look(now);
        let mut places: Vec<(Place, Channel)> = Vec::new();
        for namespace in self.namespaces() {
            let Some(policy) = self.outbox().policies.of(&namespace) else {
                continue;
            };
            for channel in &policy.channels {
                places.push(((namespace.clone(), channel.name.clone()), channel.clone()));
            }
        }
        let mut next = LOOK;
        let instant = Instant::now();
        for (place, channel) in places {
            if self.lanes.get(&place).is_some_and(|it| it.is_busy) {
                continue;
            }
            self.forget_failures(&place);
            let Some(batch) = self.batch(place, channel, now, instant) else {
                continue;
            };
            let lane = self.lanes.entry(batch.place.clone()).or_default();
            let ready_at = lane.message_at(&batch.message.identity(), instant);
            let ready_at = batch
                .not_before
                .map_or(ready_at, |gathered| gathered.max(ready_at));
            if ready_at <= instant {
                self.send(batch);
            } else {
                next = next.min(ready_at.duration_since(instant));
            }
        }
        let wakes = self.waiting.values().filter_map(|it| it.wake);
        let wake = wakes.min().map(|at| at.duration_since(now));
        let wake = wake.map(|it| Duration::try_from(it).unwrap_or_default());
        next.min(wake.unwrap_or(LOOK))
            .max(Duration::from_millis(20))
    }

    /// Finds out what is due of what has changed, and of what time has brought.
    fn look(&mut self, now: Timestamp) {
        let context = self.context.clone();
        let mut entries = context.outbox.locked();
        entries.retain(|uid, entry| !is_done_with(entry, self.waiting.get(uid), now));
        self.waiting.retain(|uid, _| entries.contains_key(uid));
        self.reminded
            .retain(|(_, uid), _| entries.contains_key(uid));
        let (mut asks, mut anew, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (uid, entry) in entries.iter_mut() {
            let woken = self.waiting.get(uid).and_then(|it| it.wake);
            let is_woken = woken.is_some_and(|at| at <= now);
            if !entry.is_new && !is_woken {
                continue;
            }
            if is_woken && !has_ended(entry) && is_gone(&context, entry) {
                gone.push(uid.clone());
                continue;
            }
            if is_woken {
                asks.push(ObjectRef::from_obj(entry.request.as_ref()));
            }
            entry.is_new = false;
            anew.push((uid.clone(), entry.clone()));
        }
        for uid in gone {
            entries.remove(&uid);
            self.waiting.remove(&uid);
        }
        drop(entries);
        // No pass waits for this.
        for (uid, entry) in anew {
            let found = waiting(&context.outbox, &entry, now);
            self.waiting.insert(uid, found);
        }
        for of in asks {
            // The next level is decided by a pass.
            let _ = context.outbox.ask.send(of);
        }
    }

    fn namespaces(&self) -> Vec<String> {
        let entries = self.outbox().locked();
        let namespaces = entries
            .values()
            .filter_map(|it| it.request.metadata.namespace.clone());
        let mut namespaces: Vec<String> = namespaces.collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
    }

    /// Forgets what failed in a channel and is no news any more.
    fn forget_failures(&mut self, place: &Place) {
        let Some(lane) = self.lanes.get_mut(place).filter(|it| it.has_tried()) else {
            return;
        };
        let due = self.waiting.values();
        let due = due.filter_map(|it| it.due.get(&place.1)).flatten();
        let due: HashSet<String> = due.map(Message::identity).collect();
        // What a summary tells is another thing each time; it is forgotten with what it stands for.
        lane.keep(|identity| {
            due.contains(identity) || !due.is_empty() && notify::is_summary(identity)
        });
    }

    /// The next thing to send to a channel: the oldest message of those that failed least, or one for all when there is too
    /// much.
    fn batch(
        &self,
        place: Place,
        channel: Channel,
        now: Timestamp,
        instant: Instant,
    ) -> Option<Batch> {
        let kind = Kind::of(&channel)?;
        let entries = self.outbox().locked();
        let mut with_news: Vec<(&String, &Entry, &Vec<Message>)> = Vec::new();
        // What only settles an incident pages nobody, and has to reach its own one.
        let is_alone = |it: &Message| kind == Kind::PagerDuty && settles(it);
        for (uid, entry) in entries.iter() {
            let is_here = entry.request.metadata.namespace.as_deref() == Some(place.0.as_str());
            let due = self.waiting.get(uid).and_then(|it| it.due.get(&place.1));
            if let Some(due) = due.filter(|due| is_here && !due.is_empty()) {
                with_news.push((uid, entry, due));
            }
        }
        let for_people = |due: &[Message]| due.iter().any(|it| !is_alone(it));
        let many = with_news.iter().filter(|(_, _, due)| for_people(due));
        let many = many.count();
        let lane = self.lanes.get(&place);
        // One after the other is as much as all at once: then what comes in some seconds is told together.
        let is_flood = kind.is_for_people() && lane.is_some_and(|it| it.recent(instant) > STORM);
        let gathers_until = lane.and_then(Lane::gathers_until);
        let not_before = gathers_until.filter(|at| is_flood && *at > instant);
        let has_alone = with_news.iter().any(|(_, _, due)| due.iter().any(is_alone));
        let gathers = not_before.is_some() && has_alone;
        if kind.is_for_people() && !gathers && (many > STORM || (is_flood && many > 1)) {
            let gathered = with_news.iter().map(|(uid, _, due)| {
                let together = due.iter().filter(|it| !is_alone(it));
                ((*uid).clone(), together.cloned().collect::<Vec<Message>>())
            });
            let gathered: Vec<(String, Vec<Message>)> =
                gathered.filter(|(_, due)| !due.is_empty()).collect();
            let all: Vec<&Message> = gathered.iter().flat_map(|(_, due)| due).collect();
            let policy = self.outbox().policies.uid(&place.0);
            let message = notify::summary(&all, &policy, now)?;
            return Some(Batch {
                stands_for: gathered,
                reminds_of: None,
                also: None,
                not_before,
                place,
                channel,
                kind,
                message,
                known: None,
                is_summary: true,
            });
        }
        let lane = lane.filter(|it| it.has_tried());
        let singles = with_news.into_iter();
        let singles = singles.flat_map(|(uid, entry, due)| {
            let next = candidates(lane, due).into_iter();
            next.map(move |it| (uid, entry, it))
        });
        let singles = singles.filter(|(_, _, it)| !gathers || is_alone(it));
        let first = singles.min_by_key(|(_, _, message)| {
            let turn = lane.map(|it| it.turn(&message.identity(), instant));
            (turn, message.at)
        });
        let Some((uid, entry, message)) = first else {
            drop(entries);
            return self.reminder(place, channel, kind, instant);
        };
        let message = message.clone();
        let ends_summary = kind == Kind::PagerDuty
            && cursor::is_end(&message)
            && self.is_last(&entries, uid, entry, &place, now);
        let also = ends_summary
            .then(|| notify::summary_over(&message, &self.outbox().policies.uid(&place.0)));
        Some(Batch {
            reminds_of: None,
            not_before: not_before.filter(|_| !is_alone(&message)),
            also,
            known: known(entry, &place.1),
            stands_for: vec![(uid.clone(), vec![message.clone()])],
            place,
            channel,
            kind,
            message,
            is_summary: false,
        })
    }

    /// What stands in a channel and was not told there for some time. It is in no status: whoever leads next tells it at once.
    fn reminder(
        &self,
        place: Place,
        channel: Channel,
        kind: Kind,
        instant: Instant,
    ) -> Option<Batch> {
        let mut standing = self.waiting.iter().filter_map(|(uid, waiting)| {
            let message = waiting.standing.get(&place.1)?;
            (message.request.namespace == place.0).then_some((uid, message))
        });
        let (uid, message) = standing.find(|(uid, _)| {
            let last = self.reminded.get(&(place.clone(), (*uid).clone()));
            last.is_none_or(|at| instant.duration_since(*at) >= REMIND)
        })?;
        Some(Batch {
            reminds_of: Some(uid.clone()),
            stands_for: Vec::new(),
            known: None,
            also: None,
            not_before: None,
            message: message.clone(),
            is_summary: false,
            place,
            channel,
            kind,
        })
    }

    /// Whether this request is the last one that an incident for many in this channel stands for.
    fn is_last(
        &self,
        entries: &HashMap<String, Entry>,
        uid: &str,
        entry: &Entry,
        place: &Place,
        now: Timestamp,
    ) -> bool {
        let stands = |request: &RollbackRequest, receipts: &[Receipt]| {
            request.metadata.namespace.as_deref() == Some(place.0.as_str())
                && cursor::is_in_summary(request, receipts, &place.1, now)
        };
        if !stands(&entry.request, &entry.receipts) {
            return false;
        }
        let mut others = entries.iter().filter(|(other, _)| *other != uid);
        if others.any(|(_, it)| stands(&it.request, &it.receipts)) {
            return false;
        }
        // After a restart there are some of which nothing has come here yet.
        let cached = self
            .context
            .open
            .iter()
            .flat_map(|(cache, _)| cache.state());
        let mut cached = cached.filter(|it| {
            let other = it.metadata.uid.as_deref().unwrap_or_default();
            other != uid && !entries.contains_key(other)
        });
        !cached.any(|it| stands(&it, &[]))
    }

    fn send(&mut self, batch: Batch) {
        let now = Timestamp::now();
        if let Some(lane) = self.lanes.get_mut(&batch.place) {
            lane.is_busy = true;
        }
        let of = (batch.place.clone(), batch.message.identity());
        if batch.kind == Kind::Alertmanager {
            let told = batch.stands_for.iter().map(|(uid, _)| uid);
            for uid in told.chain(&batch.reminds_of) {
                let of = (batch.place.clone(), uid.clone());
                self.reminded.insert(of, Instant::now());
            }
        }
        let (context, client) = (self.context.clone(), self.client.clone());
        let task = self.under_way.spawn(async move {
            let answer = if cursor::is_stale(&batch.message, now) {
                None
            } else {
                Some(deliver(&context, &client, &batch, now).await)
            };
            Done { batch, answer }
        });
        self.tasks.insert(task.id(), of);
    }

    /// Nobody knows what became of a delivery: as if it had failed.
    fn broke_off(&mut self, error: &JoinError) {
        let Some((place, identity)) = self.tasks.remove(&error.id()) else {
            return;
        };
        tracing::warn!(%error, namespace = place.0, channel = place.1, "a delivery broke off");
        let lane = self.lanes.entry(place).or_default();
        lane.failed(&identity, None, Instant::now(), 0);
    }

    fn settle(&mut self, done: Done) {
        let Done { batch, answer } = done;
        let (now, instant) = (Timestamp::now(), Instant::now());
        let lane = self.lanes.entry(batch.place.clone()).or_default();
        let identity = batch.message.identity();
        let (result, message, failing) = match answer {
            Some(Answer::Delivered { message }) => {
                lane.answered(&identity, batch.kind, instant);
                if !settles(&batch.message) {
                    lane.told(batch.stands_for.iter().map(|(uid, _)| uid), instant);
                }
                let result = if batch.is_summary {
                    DeliveryResult::Summarized
                } else {
                    DeliveryResult::Delivered
                };
                (Some(result), message.filter(|_| !batch.is_summary), None)
            }
            None => {
                lane.dropped(&identity);
                tracing::warn!(
                    namespace = batch.place.0,
                    channel = batch.place.1,
                    message = identity,
                    "a notification is no news any more and is not sent"
                );
                (Some(DeliveryResult::Abandoned), None, None)
            }
            Some(Answer::Refused { why }) => {
                lane.answered(&identity, batch.kind, instant);
                (Some(DeliveryResult::Refused), None, Some(why))
            }
            Some(Answer::Later { after, why }) => {
                lane.failed(
                    &identity,
                    after,
                    instant,
                    now.subsec_nanosecond().unsigned_abs(),
                );
                (None, None, Some(why))
            }
        };
        self.context.metrics.notified(batch.kind.as_str(), result);
        if let Some(why) = &failing {
            tracing::warn!(
                namespace = batch.place.0,
                channel = batch.place.1,
                kind = batch.kind.as_str(),
                why = cursor::failing(now, why).message,
                is_final = result.is_some(),
                "a notification was not delivered"
            );
        }
        for (uid, messages) in &batch.stands_for {
            self.hand_in(
                &batch,
                uid,
                messages,
                result,
                message.clone(),
                failing.as_deref(),
                now,
            );
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is one column of a receipt")]
    fn hand_in(
        &mut self,
        batch: &Batch,
        uid: &str,
        messages: &[Message],
        result: Option<DeliveryResult>,
        message: Option<String>,
        failing: Option<&str>,
        now: Timestamp,
    ) {
        let told = result
            .map(|result| cursor::told(messages, result, now))
            .unwrap_or_default();
        let waiting = self
            .waiting
            .get_mut(uid)
            .and_then(|it| it.due.get_mut(&batch.place.1));
        if let Some(due) = waiting {
            due.retain(|due| told.iter().all(|told| told.key != due.key));
        }
        // That it still fails is known already.
        let is_known = self.is_failing(uid, &batch.place.1);
        if told.is_empty() && is_known == failing.is_some() {
            return;
        }
        let receipt = Receipt {
            channel: batch.place.1.clone(),
            told,
            message,
            failing: failing.map(|why| cursor::failing(now, why)),
        };
        self.outbox().hand_in(uid, receipt, now);
    }

    /// Whether the status, or what is on its way there, says that the channel fails.
    fn is_failing(&self, uid: &str, channel: &str) -> bool {
        let entries = self.outbox().locked();
        let Some(entry) = entries.get(uid) else {
            return false;
        };
        let mut new = entry.receipts.iter().rev();
        let new = new.find(|it| it.channel == channel && !it.is_untried());
        match new {
            Some(receipt) => receipt.failing.is_some(),
            None => stored(entry, channel).is_some_and(|it| it.failing.is_some()),
        }
    }
}

/// What may be the next message of a request. While nothing gets through only the oldest of those that failed is tried again,
/// so that the story comes in its order when the service works again.
fn candidates<'a>(lane: Option<&Lane>, due: &'a [Message]) -> Vec<&'a Message> {
    let mut has_failed = false;
    let candidates = due.iter().filter(|it| {
        let is_open = lane.is_some_and(|lane| lane.is_open(&it.identity()));
        let waits_for_other = is_open && has_failed;
        has_failed |= is_open;
        !waits_for_other
    });
    candidates.collect()
}

/// Whether a message says only what becomes of what was told before.
fn settles(message: &Message) -> bool {
    match message.standing {
        Standing::Closed | Standing::Acknowledged => true,
        Standing::Open | Standing::Unchanged => false,
    }
}

async fn deliver(context: &Context, client: &Client, batch: &Batch, now: Timestamp) -> Answer {
    let address = secrets::address(&context.client, &batch.place.0, &batch.channel).await;
    match address {
        Ok(address) => {
            let known = batch.known.as_deref();
            let answer = client.deliver(&address, &batch.message, known, now).await;
            match (&batch.also, &answer) {
                (Some(also), Answer::Delivered { .. }) => {
                    client.deliver(&address, also, None, now).await
                }
                (Some(_) | None, _) => answer,
            }
        }
        Err(Unreachable(why)) => Answer::Later { after: None, why },
    }
}
