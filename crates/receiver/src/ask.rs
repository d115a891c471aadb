//! From alerts to requests: each firing alert about what is live becomes one `RollbackRequest`, whoever sends it how often.

mod category;
mod create;
mod group;
mod request;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use rollback_api::RollbackRequest;
use rollback_core::evidence::trigger::{began_at, is_no_answer, request_names};
use rollback_core::message::text::plain;
use rollback_receiver::alert::{Alert, State};
use serde::Serialize;

use crate::config::Source;
use crate::limits::{Beginnings, Key, Recent, RecentRequest};
use crate::metrics::Metrics;
use crate::resolve::about::{About, about};
use crate::resolve::{Live, Unresolved, live};
use create::{Creator, Made};
use group::Group;

/// How many Deployments of one delivery are looked at side by side.
const SIDE_BY_SIDE: usize = 4;

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A request was made.
    Asked,
    /// There is one already.
    AlreadyAsked,
    /// It is not about what is live.
    Stale,
    /// It is over.
    Resolved,
    /// It does not fire, or says nothing that could be answered.
    Ignored,
    /// It is about no Deployment.
    NotMapped,
    /// The source or the namespace does not allow it.
    NotAllowed,
    /// The delivery is about more than is looked up of one.
    LeftOut,
    /// The API server does not answer; it has to be sent again.
    Unavailable,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Asked,
        Self::AlreadyAsked,
        Self::Stale,
        Self::Resolved,
        Self::Ignored,
        Self::NotMapped,
        Self::NotAllowed,
        Self::LeftOut,
        Self::Unavailable,
    ];

    /// Its name in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::AlreadyAsked => "already-asked",
            Self::Stale => "stale",
            Self::Resolved => "resolved",
            Self::Ignored => "ignored",
            Self::NotMapped => "not-mapped",
            Self::NotAllowed => "not-allowed",
            Self::LeftOut => "left-out",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What is said about one alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What it is called.
    pub alert: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Namespace and name of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Why, or what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Makes requests.
pub struct Asker {
    client: Client,
    creator: Creator,
    recent: Recent,
    beginnings: Beginnings,
    metrics: Arc<Metrics>,
    /// Where the next delivery that has too much begins.
    turn: AtomicUsize,
}

/// A firing alert that is about something, and since when.
struct Firing<'a> {
    index: usize,
    alert: &'a Alert,
    started_at: Timestamp,
    /// How long it had lasted by then, where that is known.
    pending_seconds: Option<u32>,
    key: Key,
}

impl Asker {
    /// Asks by this client.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self {
            creator: Creator::new(client.clone()),
            client,
            recent: Recent::default(),
            beginnings: Beginnings::default(),
            metrics,
            turn: AtomicUsize::new(0),
        }
    }

    /// Answers the alerts of one delivery of a source, which came at `now`; in their order.
    pub async fn answer(&self, source: &Source, alerts: &[Alert], now: Timestamp) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; alerts.len()];
        let mut firing: BTreeMap<Vec<About>, Group<Firing<'_>>> = BTreeMap::new();
        for (index, alert) in alerts.iter().enumerate() {
            match self.sort(source, index, alert, now) {
                Ok((abouts, it)) => firing
                    .entry(group::kin(&abouts))
                    .or_default()
                    .add(abouts, it),
                Err(answer) => answers[index] = Some(answer),
            }
        }
        let (groups, left_out) = self.in_time(firing.into_values().collect());
        for it in left_out.into_iter().flat_map(|group| group.members) {
            let why = format!(
                "this delivery is about more than the {} things that are looked up of one: it has its turn when it is sent again",
                group::MOST
            );
            answers[it.index] = Some(answer(it.alert, Outcome::LeftOut, why));
        }
        let mut work = Vec::new();
        for group in groups {
            work.push(self.about(source, group));
        }
        let mut all = futures::stream::iter(work).buffer_unordered(SIDE_BY_SIDE);
        while let Some(some) = all.next().await {
            for (index, answer) in some {
                answers[index] = Some(answer);
            }
        }
        answers.into_iter().flatten().collect()
    }

    /// Those that can be looked up in time, and the others. What was answered by a request takes no place.
    fn in_time<'a>(
        &self,
        groups: Vec<Group<Firing<'a>>>,
    ) -> (Vec<Group<Firing<'a>>>, Vec<Group<Firing<'a>>>) {
        let now = Instant::now();
        let is_known = |group: &Group<Firing<'_>>| {
            let mut members = group.members.iter();
            members.all(|it| self.recent.request(&it.key, now).is_some())
        };
        let (mut known, new): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_known);
        let turn = if new.len() > group::MOST {
            self.turn.fetch_add(group::MOST, Ordering::Relaxed)
        } else {
            0
        };
        let (new, left_out) = group::cut(new, turn);
        known.extend(new);
        (known, left_out)
    }

    /// What it is about, if it fires and the source may ask for that.
    fn sort<'a>(
        &self,
        source: &Source,
        index: usize,
        alert: &'a Alert,
        now: Timestamp,
    ) -> Result<(Vec<About>, Firing<'a>), Answer> {
        let say = |outcome, message: String| Err(answer(alert, outcome, message));
        match &alert.state {
            State::Firing => {}
            State::Resolved => {
                self.recent.forget(&source.name, &alert.id);
                self.beginnings.forget(&source.name, &alert.id);
                return say(Outcome::Resolved, String::new());
            }
            State::Ignored(why) => return say(Outcome::Ignored, why.clone()),
        }
        let Some(started_at) = alert.started_at else {
            return say(
                Outcome::Ignored,
                "it does not say when it began, so nobody can tell which version it is about"
                    .to_owned(),
            );
        };
        // One that fires again began when it began first.
        let known = self
            .beginnings
            .of(&source.name, &alert.id, started_at, alert.is_repeat);
        let Some(started_at) = known else {
            return say(
                Outcome::Stale,
                "it fired before, and since when is not known here".to_owned(),
            );
        };
        let abouts = match about(source, &alert.labels) {
            Ok(abouts) => abouts,
            Err(why) => return say(Outcome::NotMapped, why),
        };
        let abouts = match allowed(source, abouts) {
            Ok(abouts) => abouts,
            Err(why) => return say(Outcome::NotAllowed, why),
        };
        let key = Key {
            source: source.name.clone(),
            about: abouts.first().map(named).unwrap_or_default(),
            id: alert.id.clone(),
            started_at: alert.started_at,
        };
        let firing = Firing {
            index,
            alert,
            // A clock that is ahead makes no alert newer than what it is about.
            started_at: started_at.min(now),
            pending_seconds: alert.pending_seconds.or(source.for_seconds),
            key,
        };
        Ok((abouts, firing))
    }

    /// Answers the alerts about one Deployment.
    async fn about(&self, source: &Source, group: Group<Firing<'_>>) -> Vec<(usize, Answer)> {
        let mut answers = Vec::new();
        let mut new = Vec::new();
        let mut there = HashMap::new();
        for it in group.members {
            match self.sent_before(source, &it, &mut there).await {
                Some(answer) => answers.push((it.index, answer)),
                None => new.push(it),
            }
        }
        if new.is_empty() {
            return answers;
        }
        let live = self.live(&group.ways).await;
        let mut made: HashMap<String, Made> = HashMap::new();
        for it in new {
            let answer = match &live {
                Ok(live) => self.one(source, live, &it, &mut made).await,
                Err(unresolved) => answer(it.alert, word(unresolved), unresolved.to_string()),
            };
            answers.push((it.index, answer));
        }
        answers
    }

    /// The Deployment to which the first of these leads.
    async fn live(&self, ways: &[Vec<About>]) -> Result<Live, Unresolved> {
        let mut found = Err(Unresolved::NotMapped(String::new()));
        for abouts in ways {
            found = live(&self.client, abouts).await;
            if !matches!(found, Err(Unresolved::NotMapped(_))) {
                break;
            }
        }
        found
    }

    /// The answer to an alert that was answered by a request that is still there, and still an answer. `there`: what has
    /// been found of the requests that are remembered.
    async fn sent_before(
        &self,
        source: &Source,
        firing: &Firing<'_>,
        there: &mut HashMap<RecentRequest, Option<RollbackRequest>>,
    ) -> Option<Answer> {
        let known = self.recent.request(&firing.key, Instant::now())?;
        let request = match there.entry(known.clone()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(self.creator.remembered(&known).await),
        };
        let is_answer = |request: &RollbackRequest| {
            is_no_answer(request, &source.name, firing.started_at).is_none()
        };
        if !request.as_ref().is_some_and(is_answer) {
            self.recent.remove(&firing.key);
            return None;
        }
        let message = "it was sent before".to_owned();
        let mut answer = answer(firing.alert, Outcome::AlreadyAsked, message);
        answer.request = Some(full(&known));
        Some(answer)
    }

    async fn one(
        &self,
        source: &Source,
        live: &Live,
        firing: &Firing<'_>,
        made: &mut HashMap<String, Made>,
    ) -> Answer {
        let alert = firing.alert;
        if live.deployment.is_deleting() {
            let reason = "the Deployment is being deleted".to_owned();
            return answer(alert, Outcome::NotMapped, reason);
        }
        let began = began_at(firing.started_at, firing.pending_seconds);
        if let Some(why) = live.stale(began, &alert.labels) {
            return answer(alert, Outcome::Stale, why);
        }
        let request = request::request(
            source,
            live,
            alert,
            firing.started_at,
            firing.pending_seconds,
        );
        let category = request.spec.reason.category;
        let names = request_names(&live.deployment, category, &source.name);
        let first = names.first().cloned().unwrap_or_default();
        let now = if let Some(before) = made.get(&first) {
            Made {
                outcome: match before.outcome {
                    Outcome::Asked => Outcome::AlreadyAsked,
                    other => other,
                },
                ..before.clone()
            }
        } else {
            let now = self.creator.create(&live.namespace, &names, request).await;
            self.warn(source, &live.namespace, &now);
            now
        };
        let mut answer = answer(alert, now.outcome, now.message.clone());
        if let Some(known) = &now.request {
            answer.request = Some(full(known));
            self.recent
                .remember(firing.key.clone(), known.clone(), Instant::now());
        }
        made.entry(first).or_insert(now);
        answer
    }

    /// That something else has our names is no accident, or may be none: somebody has to hear of it.
    fn warn(&self, source: &Source, namespace: &str, made: &Made) {
        for (request, why) in &made.taken {
            self.metrics.name_taken(&source.name);
            tracing::warn!(
                source = source.name,
                namespace,
                request,
                why,
                "the name of a request is taken by another one"
            );
        }
    }
}

/// Those in which the source may ask; otherwise what to do about it.
fn allowed(source: &Source, abouts: Vec<About>) -> Result<Vec<About>, String> {
    let is_allowed = |about: &About| {
        let mut namespaces = source.namespaces.iter();
        namespaces.any(|it| it == "*" || it == about.namespace())
    };
    let (may, others): (Vec<About>, Vec<About>) = abouts.into_iter().partition(is_allowed);
    match (may.is_empty(), others.first()) {
        (true, Some(other)) => Err(format!(
            "source {} may not ask in namespace {}: add it under namespaces of the source",
            source.name,
            other.namespace()
        )),
        (false, _) | (true, None) => Ok(may),
    }
}

/// What an alert is about, in one line.
fn named(about: &About) -> String {
    match about {
        About::Deployment { namespace, name } => format!("Deployment {namespace}/{name}"),
        About::Pod { namespace, name } => format!("Pod {namespace}/{name}"),
    }
}

fn full(known: &RecentRequest) -> String {
    format!("{}/{}", known.namespace, known.name)
}

fn answer(alert: &Alert, outcome: Outcome, message: String) -> Answer {
    Answer {
        alert: plain(&alert.name, 200),
        outcome,
        request: None,
        message,
    }
}

fn word(unresolved: &Unresolved) -> Outcome {
    match unresolved {
        Unresolved::NotMapped(_) => Outcome::NotMapped,
        Unresolved::NotAllowed(_) => Outcome::NotAllowed,
        Unresolved::Unavailable(_) => Outcome::Unavailable,
    }
}
