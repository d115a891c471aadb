//! One of several controllers leads: the one that the Lease names. [`election`] decides, this asks and
//! writes, and [`gate`] keeps the others from writing.
//!
//! Every write to the Lease carries the `resourceVersion` that was read, so of two that want it one
//! gets it. The Lease keeps controllers out of each other's way; what keeps a rollback right, whoever
//! leads, are the preconditions of its own writes.

pub mod definitions;
pub mod election;
pub mod leader;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use rollback_api::{CONTROLLER_VERSION, FIELD_MANAGER};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::Metrics;
use definitions::Definitions;
use election::{Election, Lost, Move, Record, Terms};
use leader::{Hold, LeaderOnly};

/// This controller as a candidate, and as the leader.
pub struct Leadership {
    hold: watch::Sender<Hold>,
    metrics: Arc<Metrics>,
    definitions: Definitions,
    candidate: Option<Candidate>,
}

/// What it takes when there is an election.
struct Candidate {
    api: Api<Lease>,
    name: String,
    election: Election,
    /// The Lease as we wrote it last; it saves a read as long as nobody else writes.
    ours: Option<Lease>,
    /// Whom we stand by for, to say it once.
    standing_by_for: Option<String>,
}

impl Leadership {
    /// Nobody leads yet. The lease has a client of its own: it must not queue behind anything.
    pub fn new(
        config: &Config,
        mut api_server: kube::Config,
        metrics: Arc<Metrics>,
    ) -> kube::Result<Self> {
        let terms = Terms::of_seconds(config.lease_seconds);
        api_server.default_retry = false;
        api_server.connect_timeout = Some(terms.patience());
        let client = Client::try_from(api_server)?;
        let definitions = Definitions::new(client.clone());
        let candidate = config.leader_elect.then(|| Candidate {
            api: Api::namespaced(client, &config.lease_namespace),
            name: lease_name(config.namespace.as_deref()),
            election: Election::new(config.identity.clone().unwrap_or_else(own_name), terms),
            ours: None,
            standing_by_for: None,
        });
        Ok(Self {
            hold: watch::Sender::new(Hold::Not),
            metrics,
            definitions,
            candidate,
        })
    }

    /// Why this controller cannot lead, whoever does; `None` when it can.
    pub fn why_not(&self) -> watch::Receiver<Option<String>> {
        self.definitions.why_not()
    }

    /// What lets writes pass while this controller leads.
    pub fn leader(&self) -> LeaderOnly {
        LeaderOnly::new(self.hold.subscribe())
    }

    /// Stands by, then leads; at once when there is no election, and never before the API server serves the definitions
    /// that this controller was built with. Ends with an error when it has led and no longer does: what it has under
    /// way belongs to somebody else now, so the process has to end. Ends without one when it is asked
    /// to stop while it stands by.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<(), Lost> {
        let end = self.campaign(stop).await;
        if end.is_err() {
            self.hold.send_replace(Hold::Not);
            self.metrics.leads(false);
        }
        end
    }

    async fn campaign(&mut self, stop: CancellationToken) -> Result<(), Lost> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = self.definitions.wait() => {}
        }
        let Some(candidate) = &mut self.candidate else {
            self.hold.send_replace(Hold::Always);
            self.metrics.leads(true);
            return std::future::pending().await;
        };
        loop {
            let began = Instant::now();
            candidate
                .attempt(&self.hold, &self.metrics, &mut self.definitions)
                .await?;
            let now = Instant::now();
            candidate.election.check(now)?;
            let retry = candidate.election.terms().retry;
            if let Some(until) = candidate.election.held_until() {
                let next = (began + retry).min(until);
                tokio::time::sleep(next.saturating_duration_since(now)).await;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(retry) => {}
            }
        }
    }

    /// Gives the lease away, so that the next one need not wait for it to run out. Nothing is written
    /// any more when this begins, and nothing may be under way.
    pub async fn release(mut self) {
        self.hold.send_replace(Hold::Not);
        self.metrics.leads(false);
        if let Some(candidate) = &mut self.candidate {
            candidate.release().await;
        }
    }
}

impl Candidate {
    /// One try to get or to keep the lease. That it fails is no news to the caller, unless it means that
    /// the lease is lost.
    async fn attempt(
        &mut self,
        hold: &watch::Sender<Hold>,
        metrics: &Metrics,
        definitions: &mut Definitions,
    ) -> Result<(), Lost> {
        let now = Instant::now();
        self.election.check(now)?;
        let patience = self.election.terms().patience();
        let limit = match self.election.held_until() {
            Some(until) => patience.min(until.saturating_duration_since(now)),
            None => patience,
        };
        let led = self.election.held_until().is_some();
        match tokio::time::timeout(limit, self.turn(definitions)).await {
            Ok(Ok(())) => {}
            Ok(Err(Failed::Lost(lost))) => return Err(lost),
            Ok(Err(Failed::Kube(error))) => {
                tracing::warn!(%error, lease = self.name, "the lease could not be read or written");
            }
            Err(_) => tracing::warn!(lease = self.name, "the API server is slow with the lease"),
        }
        let Some(until) = self.election.held_until() else {
            return Ok(());
        };
        self.election.check(Instant::now())?;
        hold.send_replace(Hold::Until(until));
        if !led {
            metrics.leads(true);
            tracing::info!(
                lease = self.name,
                identity = self.election.identity(),
                "became leader"
            );
        }
        Ok(())
    }

    async fn turn(&mut self, definitions: &mut Definitions) -> Result<(), Failed> {
        // Gone from here until a write succeeds: whatever goes wrong, the next try reads first.
        let lease = match self.ours.take() {
            Some(lease) => Some(lease),
            None => self.api.get_opt(&self.name).await?,
        };
        let record = lease.as_ref().map(Record::of);
        let sent = Instant::now();
        let written = match self.election.decide(record.as_ref(), sent)? {
            Move::Wait => {
                self.stand_by(record.and_then(|record| record.holder));
                return Ok(());
            }
            // They may be older than when this controller began to stand by. Another one may be of their age.
            Move::Create | Move::Take if !definitions.fit().await => return Ok(()),
            Move::Create => {
                let mut lease = signed(self.election.claim(None, Timestamp::now()));
                lease.metadata.name = Some(self.name.clone());
                self.api.create(&post(), &lease).await?
            }
            Move::Take | Move::Renew => {
                let lease = signed(self.election.claim(lease, Timestamp::now()));
                self.api.replace(&self.name, &post(), &lease).await?
            }
        };
        self.election.written(sent);
        self.ours = Some(written);
        Ok(())
    }

    fn stand_by(&mut self, holder: Option<String>) {
        if self.standing_by_for != holder {
            tracing::info!(lease = self.name, holder, "not the leader, standing by");
            self.standing_by_for = holder;
        }
    }

    /// What was under way when the process was asked to stop may still arrive, and a connection may
    /// break, so it is tried for a while.
    async fn release(&mut self) {
        let terms = self.election.terms();
        let holds = self.election.held_until().is_some();
        let mut why = "the API server is slow".to_owned();
        let released = tokio::time::timeout(terms.patience(), async {
            loop {
                match self.give_away().await {
                    Ok(()) => return true,
                    Err(error) => why = error.to_string(),
                }
                if !holds {
                    return false;
                }
                tokio::time::sleep(terms.retry / 20).await;
            }
        });
        if !released.await.unwrap_or(false) {
            let lease = &self.name;
            tracing::warn!(
                why,
                lease,
                "the lease is not released; it runs out by itself"
            );
        }
    }

    /// Somebody else's lease is left alone.
    async fn give_away(&self) -> kube::Result<()> {
        let lease = self.api.get_opt(&self.name).await?;
        let free = lease.and_then(|lease| self.election.released(lease, Timestamp::now()));
        if let Some(free) = free {
            self.api.replace(&self.name, &post(), &free).await?;
            tracing::info!(lease = self.name, "the lease is released");
        }
        Ok(())
    }
}

/// Why a try did not work.
enum Failed {
    Lost(Lost),
    Kube(kube::Error),
}

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<kube::Error> for Failed {
    fn from(error: kube::Error) -> Self {
        Self::Kube(error)
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The Lease with the version of who holds it, so that others can tell (`kubectl rollback doctor`).
fn signed(mut lease: Lease) -> Lease {
    let annotations = lease.metadata.annotations.get_or_insert_default();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    annotations.insert(CONTROLLER_VERSION.to_owned(), version);
    lease
}

/// Controllers that look after different namespaces do not compete.
fn lease_name(namespace: Option<&str>) -> String {
    match namespace {
        None => "rollback-controller".to_owned(),
        Some(namespace) => format!("rollback-controller-{namespace}"),
    }
}

/// A name that no other process has, for a controller that runs outside of a pod.
fn own_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = RandomState::new().hash_one(Duration::ZERO);
    format!("{}_{}_{random:016x}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_leases_of_their_own() {
        assert_eq!(lease_name(None), "rollback-controller");
        assert_eq!(lease_name(Some("shop")), "rollback-controller-shop");
    }

    #[test]
    fn two_processes_have_different_names() {
        assert_ne!(own_name(), own_name());
    }
}
