//! The analysis of one version: its Deployment is read when it changes, its pods are watched meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::core::Selector;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use rollback_api::request::{Category, RequestReason, Trigger};
use rollback_api::{RollbackRequest, WATCH_SOURCE};
use rollback_core::evidence::trigger::watch::{self, Fault, Finding, Look, Remembered};
use rollback_core::evidence::trigger::{self, live_since};
use rollback_core::message::text::plain;
use rollback_observe as observe;
use rollback_observe::version::{Live, MEMORY, events as events_of, live, pods, selector};
use rollback_reads::bounded::Bounded;
use rollback_reads::budget::Budget;
use rollback_reads::value::weight;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::Identity;
use super::identity;
use crate::context::Context;
use crate::events;
use crate::reconcile::chain;
use crate::record::Name;
use crate::watch::WATCH_SECONDS;

/// How long further changes are waited for before the next look: a rollout changes many times a second.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it is waited before everything is read again, where that has shown what the watches do not: the events.
const AGAIN: Duration = Duration::from_secs(5);
/// How long the first list of the pods may take.
const LIST_LIMIT: Duration = Duration::from_secs(15);
/// The longest time between two looks.
const LONGEST: Duration = Duration::from_hours(1);
/// The longest time after a failure until it is tried again.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// Why a look came to nothing. It is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Something could not be read.
    #[error("observing failed")]
    Observe(#[from] observe::Error),
    /// The pods were not listed in time, or not any more.
    #[error("the pods are not told of")]
    Pods,
    /// There is no room in memory for what is judged.
    #[error("there is no room for its Deployment, its history and its pods")]
    Room,
    /// There is no identity to ask in.
    #[error("there is no identity to ask in")]
    Identity(#[from] identity::Error),
    /// The request could not be created.
    #[error("creating the RollbackRequest")]
    Ask(#[source] kube::Error),
    /// What has its name could not be read.
    #[error("reading the RollbackRequest that has the name of the one to create")]
    Look(#[source] kube::Error),
    /// Nothing was asked for: other requests have all names that it may have.
    #[error(
        "every name that the RollbackRequest may have is taken by another one; look at them, and delete those that nobody wants: {0}"
    )]
    Taken(String),
}

/// What was there when everything was read again.
enum Confirmed {
    /// The analysis is over; with the digest of the version whose rollback was asked for, if it was.
    Ended(Option<String>),
    /// The watches told of something that is not so any more.
    NotYet,
}

/// What came of creating a request.
enum Asked {
    /// It was made.
    Now,
    /// It was there.
    Before,
    /// Something else has its name.
    Taken,
}

/// One Deployment whose version is under analysis.
pub struct Version {
    /// What every pass needs.
    pub context: Arc<Context>,
    /// Client of the watches.
    pub watches: Client,
    /// In whose name it is asked.
    pub identity: Arc<Identity>,
    /// Which Deployment.
    pub name: Name,
    /// Tells that the Deployment has changed.
    pub changed: Arc<Notify>,
    /// Digest of the version whose rollback was asked for already.
    pub asked_before: Option<String>,
}

impl Version {
    /// Analyses it to the end. Gives the digest of the version whose rollback was asked for, if it was.
    pub async fn analyse(&self) -> Option<String> {
        let mut known = Remembered::default();
        let mut failures = 0_u32;
        loop {
            match Box::pin(self.follow(&mut known, &mut failures)).await {
                Ok(end) => return end,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.context.metrics.failed("analysis");
                    let (namespace, workload) = (&self.name.namespace, &self.name);
                    let why = chain(&error);
                    tracing::warn!(%namespace, %workload, why, failures, "a version under analysis is looked at again later");
                    tokio::time::sleep(backoff(failures)).await;
                }
            }
        }
    }

    async fn follow(
        &self,
        known: &mut Remembered,
        failures: &mut u32,
    ) -> Result<Option<String>, Error> {
        let Some(mut live) = self.read().await? else {
            return Ok(None);
        };
        let Some(selector) = selector(&live.deployment) else {
            return Ok(None);
        };
        let mut news = self.pods(&selector);
        let mut pods = Pods::default();
        tokio::time::timeout(LIST_LIMIT, pods.fill(&mut news))
            .await
            .map_err(|_| Error::Pods)??;
        let mut place = Place::default();
        loop {
            place.hold(live.memory + pods.memory)?;
            let seen: Vec<Value> = pods.by_name.values().cloned().collect();
            *failures = 0;
            match judge(&live, &seen, &[], known) {
                Finding::Quiet => return Ok(None),
                Finding::Fire(_) => {
                    if let Confirmed::Ended(asked) = Box::pin(self.confirm(known)).await? {
                        return Ok(asked);
                    }
                    pods.drain(&mut news, AGAIN).await?;
                }
                Finding::Watch(until) => {
                    tokio::select! {
                        () = self.changed.notified() => {
                            tokio::time::sleep(PAUSE).await;
                            let Some(now) = self.read().await? else { return Ok(None) };
                            live = now;
                        }
                        next = news.next() => {
                            pods.take(next.ok_or(Error::Pods)?)?;
                            pods.drain(&mut news, PAUSE).await?;
                        }
                        () = tokio::time::sleep(time_until(until)) => {}
                    }
                }
            }
        }
    }

    /// What is judged, as it is now; `None` when there is nothing to judge, nobody wants that, or it was done.
    async fn read(&self) -> Result<Option<Live>, Error> {
        let live = live(&self.context.client, &self.name.namespace, &self.name.name).await?;
        Ok(live.filter(|live| {
            let digest = live.deployment.template().digest();
            let is_wanted = live.triggers.watch && live.deployment.opts_in();
            is_wanted && self.asked_before.as_ref() != Some(&digest)
        }))
    }

    /// Reads everything again before anything is written: what the watches told may be old.
    async fn confirm(&self, known: &mut Remembered) -> Result<Confirmed, Error> {
        let Some(live) = self.read().await? else {
            return Ok(Confirmed::Ended(None));
        };
        let namespace = &self.name.namespace;
        let pods = pods(&self.context.client, namespace, &live.deployment).await?;
        // What is around the version is said in events alone: they hold a rollback back, and never bring one about.
        let events = events_of(&self.context.client, namespace, &pods).await;
        match judge(&live, &pods, &events, known) {
            Finding::Fire(fault) => {
                let asked = self.ask(&live, &fault).await?;
                Ok(Confirmed::Ended(Some(asked)))
            }
            Finding::Quiet => Ok(Confirmed::Ended(None)),
            Finding::Watch(_) => Ok(Confirmed::NotYet),
        }
    }

    async fn ask(&self, live: &Live, fault: &Fault) -> Result<String, Error> {
        let digest = live.deployment.template().digest();
        let mut request = wanted(&self.name.namespace, live, fault);
        let category = request.spec.reason.category;
        let names = trigger::request_names(&live.deployment, category, WATCH_SOURCE);
        for name in &names {
            request.metadata.name = Some(name.clone());
            let asked = match self.create(&request).await? {
                Asked::Now => "asked",
                Asked::Before => "already asked",
                Asked::Taken => continue,
            };
            tracing::info!(
                namespace = %self.name.namespace,
                workload = %self.name,
                request = name,
                trouble = fault.trouble.as_str(),
                asked,
                "a new version is to be rolled back"
            );
            return Ok(digest);
        }
        Err(Error::Taken(names.join(", ")))
    }

    /// Creates the request, or finds it. What else has its name says nothing about this version, and somebody has to
    /// hear of it.
    async fn create(&self, request: &RollbackRequest) -> Result<Asked, Error> {
        let client = self.identity.client(&self.context.client).await?;
        let api: Api<RollbackRequest> = Api::namespaced(client, &self.name.namespace);
        match api.create(&PostParams::default(), request).await {
            Ok(_) => return Ok(Asked::Now),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => {
                let expired = matches!(&error, kube::Error::Api(status) if status.code == 401);
                if expired {
                    self.identity.forget().await;
                }
                return Err(Error::Ask(error));
            }
        }
        let own = self.context.client.clone();
        let api: Api<RollbackRequest> = Api::namespaced(own, &self.name.namespace);
        let (there, why) = match api.get(&request.name_any()).await {
            Ok(there) => {
                let ours = [trigger::WATCH, trigger::RECEIVER];
                match trigger::difference(&there, request, &ours) {
                    None => return Ok(Asked::Before),
                    Some(why) => (Some(there), why),
                }
            }
            // Ours can be read.
            Err(kube::Error::SerdeError(_)) => (None, "it cannot be read".to_owned()),
            Err(error) => return Err(Error::Look(error)),
        };
        self.context.metrics.name_taken();
        tracing::warn!(
            namespace = %self.name.namespace,
            workload = %self.name,
            request = request.name_any(),
            why,
            "the name of a request is taken by another one"
        );
        if let Some(there) = there {
            events::name_taken(&self.context, &there, &why, Timestamp::now()).await;
        }
        Ok(Asked::Taken)
    }

    fn pods(
        &self,
        selector: &Selector,
    ) -> impl Stream<Item = watcher::Result<Event<Bounded<Pod>>>> + Unpin + use<> {
        let api: Api<Bounded<Pod>> = Api::namespaced(self.watches.clone(), &self.name.namespace);
        let config = watcher::Config::default()
            .timeout(WATCH_SECONDS)
            .streaming_lists()
            .labels_from(selector);
        watcher(api, config).default_backoff().boxed()
    }
}

fn judge(live: &Live, pods: &[Value], events: &[Value], known: &mut Remembered) -> Finding {
    let look = Look {
        deployment: &live.deployment,
        replica_sets: &live.replica_sets,
        pods,
        events,
        ledger: live.ledger.as_ref(),
        rules: &live.triggers,
        marks: &live.marks,
        known,
        now: Timestamp::now(),
    };
    let (verdict, next) = watch::judge(&look);
    *known = next;
    verdict
}

/// How much memory all analyses may take.
const ALL: usize = 48 << 20;

static ROOM: Budget = Budget::of(ALL);

/// Room in memory, until it is dropped.
#[derive(Default)]
struct Place(usize);

impl Place {
    /// Holds so much from now on.
    fn hold(&mut self, memory: usize) -> Result<(), Error> {
        ROOM.give(std::mem::take(&mut self.0));
        if !ROOM.take(memory) {
            return Err(Error::Room);
        }
        self.0 = memory;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        ROOM.give(self.0);
    }
}

/// The pods of one Deployment, as far as they are judged.
#[derive(Default)]
struct Pods {
    by_name: HashMap<String, Value>,
    memory: usize,
    listed: bool,
}

impl Pods {
    /// Fails when there are more than are judged.
    fn take(&mut self, event: watcher::Result<Event<Bounded<Pod>>>) -> Result<(), Error> {
        match event {
            Ok(Event::Init) => {
                self.by_name.clear();
                self.memory = 0;
                self.listed = false;
            }
            Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                let name = pod.name_any();
                let pod = slim(pod);
                self.memory += weight(&pod);
                if let Some(before) = self.by_name.insert(name, pod) {
                    self.memory = self.memory.saturating_sub(weight(&before));
                }
            }
            Ok(Event::InitDone) => self.listed = true,
            Ok(Event::Delete(pod)) => {
                if let Some(before) = self.by_name.remove(&pod.name_any()) {
                    self.memory = self.memory.saturating_sub(weight(&before));
                }
            }
            Err(error) => {
                tracing::warn!(%error, kind = "Pod", "a watch failed and is made anew");
            }
        }
        if self.memory > MEMORY {
            return Err(Error::Room);
        }
        Ok(())
    }

    /// Until all that are there have been told of.
    async fn fill(
        &mut self,
        news: &mut (impl Stream<Item = watcher::Result<Event<Bounded<Pod>>>> + Unpin),
    ) -> Result<(), Error> {
        while !self.listed {
            self.take(news.next().await.ok_or(Error::Pods)?)?;
        }
        Ok(())
    }

    /// What comes within this time; a list that began is waited for.
    async fn drain(
        &mut self,
        news: &mut (impl Stream<Item = watcher::Result<Event<Bounded<Pod>>>> + Unpin),
        time: Duration,
    ) -> Result<(), Error> {
        let mut over = std::pin::pin!(tokio::time::sleep(time));
        loop {
            tokio::select! {
                next = news.next() => self.take(next.ok_or(Error::Pods)?)?,
                () = &mut over => break,
            }
        }
        tokio::time::timeout(LIST_LIMIT, self.fill(news))
            .await
            .map_err(|_| Error::Pods)?
    }
}

/// What of a pod is judged.
fn slim(pod: Bounded<Pod>) -> Value {
    // One that is too large shows no symptom: nobody is blamed for what was not read.
    let mut fields = pod.fields.unwrap_or_default();
    let status = fields.remove("status");
    let gates = fields
        .remove("spec")
        .and_then(|mut spec| Some(spec.get_mut("readinessGates")?.take()));
    json!({
        "metadata": {
            "name": pod.metadata.name,
            "deletionTimestamp": pod.metadata.deletion_timestamp,
            "ownerReferences": pod.metadata.owner_references,
        },
        "spec": {"readinessGates": gates},
        "status": status,
    })
}

/// The request for the rollback of this version.
fn wanted(namespace: &str, live: &Live, fault: &Fault) -> RollbackRequest {
    let deployment = &live.deployment;
    let began = live_since(deployment, &live.replica_sets, live.ledger.as_ref());
    let summary = fault.evidence.first().map_or("", String::as_str);
    let reason = RequestReason {
        category: Category::HealthCheck,
        summary: plain(
            &format!(
                "{} of {}: {summary}",
                fault.trouble.as_str(),
                deployment.name()
            ),
            500,
        ),
        root_cause: String::new(),
        impact: String::new(),
        incident_url: None,
    };
    let digest = deployment.template().digest();
    let trigger = Trigger {
        source: WATCH_SOURCE.to_owned(),
        alert: fault.trouble.as_str().to_owned(),
        id: format!("{} {digest}", fault.trouble.as_str()),
        started_at: began.map_or(fault.since, |began| began.max(fault.since)),
        pending_seconds: Some(0),
        pod: None,
        evidence: fault
            .evidence
            .iter()
            .map(|it| plain(it, 500))
            .take(10)
            .collect(),
    };
    let to = watch::destination(deployment, live.ledger.as_ref());
    let mut request = trigger::request(namespace, deployment, to, reason, trigger);
    request.spec.requested_by = Some(trigger::account(trigger::WATCH));
    request
}

fn time_until(at: Timestamp) -> Duration {
    let left = at.duration_since(Timestamp::now());
    Duration::try_from(left).unwrap_or_default().min(LONGEST)
}

fn backoff(failures: u32) -> Duration {
    Duration::from_millis(500)
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LONGEST_BACKOFF)
}
