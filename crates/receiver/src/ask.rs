//! From alerts to requests: each firing alert about what is live becomes one `RollbackRequest`, whoever sends it how often.

mod category;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use rollback_api::RollbackRequest;
use rollback_core::text::plain;
use rollback_receiver::alert::{Alert, State};
use serde::Serialize;

use crate::config::Source;
use crate::limits::{Key, Recent};
use crate::resolve::about::{About, about};
use crate::resolve::{Live, Unresolved, live, short};

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
    /// The API server does not answer; it has to be sent again.
    Unavailable,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Asked,
        Self::AlreadyAsked,
        Self::Stale,
        Self::Resolved,
        Self::Ignored,
        Self::NotMapped,
        Self::NotAllowed,
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
    recent: Recent,
}

/// A firing alert that is about something, and since when.
struct Firing<'a> {
    index: usize,
    alert: &'a Alert,
    started_at: Timestamp,
    key: Key,
}

impl Asker {
    /// Asks by this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            recent: Recent::default(),
        }
    }

    /// Answers the alerts of one delivery of a source, which came at `now`; in their order.
    pub async fn answer(&self, source: &Source, alerts: &[Alert], now: Timestamp) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; alerts.len()];
        let mut firing: BTreeMap<About, Vec<Firing<'_>>> = BTreeMap::new();
        for (index, alert) in alerts.iter().enumerate() {
            match self.sort(source, index, alert, now) {
                Ok((about, it)) => firing.entry(about).or_default().push(it),
                Err(answer) => answers[index] = Some(answer),
            }
        }
        let mut work = Vec::new();
        for (about, firing) in firing {
            work.push(self.about(source, about, firing));
        }
        let mut all = futures::stream::iter(work).buffer_unordered(SIDE_BY_SIDE);
        while let Some(some) = all.next().await {
            for (index, answer) in some {
                answers[index] = Some(answer);
            }
        }
        answers.into_iter().flatten().collect()
    }

    /// What it is about, if it fires and the source may ask for that.
    fn sort<'a>(
        &self,
        source: &Source,
        index: usize,
        alert: &'a Alert,
        now: Timestamp,
    ) -> Result<(About, Firing<'a>), Answer> {
        let say = |outcome, message: String| Err(answer(alert, outcome, message));
        match &alert.state {
            State::Firing => {}
            State::Resolved => {
                self.recent.forget(&source.name, &alert.id);
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
        let key = Key {
            source: source.name.clone(),
            id: alert.id.clone(),
            started_at: alert.started_at,
        };
        if let Some(request) = self.recent.request(&key, Instant::now()) {
            let mut known = answer(
                alert,
                Outcome::AlreadyAsked,
                "it was sent before".to_owned(),
            );
            known.request = Some(request);
            return Err(known);
        }
        let about = match about(source, &alert.labels) {
            Ok(about) => about,
            Err(why) => return say(Outcome::NotMapped, why),
        };
        let namespace = about.namespace();
        if !source
            .namespaces
            .iter()
            .any(|it| it == "*" || it == namespace)
        {
            return say(
                Outcome::NotAllowed,
                format!(
                    "source {} may not ask in namespace {namespace}: add it under namespaces of the source",
                    source.name
                ),
            );
        }
        let firing = Firing {
            index,
            alert,
            // A clock that is ahead makes no alert newer than what it is about.
            started_at: started_at.min(now),
            key,
        };
        Ok((about, firing))
    }

    /// Answers the alerts about one Deployment.
    async fn about(
        &self,
        source: &Source,
        about: About,
        firing: Vec<Firing<'_>>,
    ) -> Vec<(usize, Answer)> {
        let live = live(&self.client, &about).await;
        let mut made: HashMap<String, Answer> = HashMap::new();
        let mut answers = Vec::new();
        for it in firing {
            let answer = match &live {
                Ok(live) => self.one(source, live, &it, &mut made).await,
                Err(unresolved) => answer(it.alert, word(unresolved), unresolved.to_string()),
            };
            answers.push((it.index, answer));
        }
        answers
    }

    async fn one(
        &self,
        source: &Source,
        live: &Live,
        firing: &Firing<'_>,
        made: &mut HashMap<String, Answer>,
    ) -> Answer {
        let alert = firing.alert;
        if live.deployment.is_deleting() {
            let reason = "the Deployment is being deleted".to_owned();
            return answer(alert, Outcome::NotMapped, reason);
        }
        if let Some(why) = live.stale(firing.started_at, &alert.labels) {
            return answer(alert, Outcome::Stale, why);
        }
        let request = request::request(source, live, alert, firing.started_at);
        let name = request.metadata.name.clone().unwrap_or_default();
        let mut answer = match made.get(&name) {
            Some(before) => Answer {
                alert: plain(&alert.name, 200),
                outcome: match before.outcome {
                    Outcome::Asked => Outcome::AlreadyAsked,
                    other => other,
                },
                ..before.clone()
            },
            None => self.create(&live.namespace, alert, &request).await,
        };
        if let Outcome::Asked | Outcome::AlreadyAsked = answer.outcome {
            let full = format!("{}/{name}", live.namespace);
            answer.request = Some(full.clone());
            self.recent
                .remember(firing.key.clone(), full, Instant::now());
        }
        made.entry(name).or_insert_with(|| answer.clone());
        answer
    }

    async fn create(&self, namespace: &str, alert: &Alert, request: &RollbackRequest) -> Answer {
        let api: Api<RollbackRequest> = Api::namespaced(self.client.clone(), namespace);
        let (outcome, message) = match api.create(&PostParams::default(), request).await {
            Ok(_) => (Outcome::Asked, String::new()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => (
                Outcome::AlreadyAsked,
                "this version has a request already".to_owned(),
            ),
            Err(kube::Error::Api(status)) if status.is_forbidden() => (
                Outcome::NotAllowed,
                format!(
                    "{}; to let the receiver ask in namespace {namespace}, bind the ClusterRole rollback-trigger to \
                     ServiceAccount rollback-system/rollback-receiver there",
                    plain(&status.message, 400)
                ),
            ),
            Err(kube::Error::Api(status)) if is_final(status.code) => {
                (Outcome::NotAllowed, plain(&status.message, 400))
            }
            Err(error) => (Outcome::Unavailable, short(&error)),
        };
        answer(alert, outcome, message)
    }
}

/// Whether asking the same again would be answered the same.
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && code != 401 && code != 408 && code != 429
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
