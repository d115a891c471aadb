//! What every pass needs, and what is remembered between passes. Nothing here is needed to be right
//! after a crash: it only saves requests to the API server.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use kube::runtime::reflector::Store;
use rollback_api::RollbackRequest;
use rollback_api::unknown::Unknown;
use rollback_core::decide::crowd::Crowd;
use rollback_observe::{self as observe, Knowledge, Size};

use crate::guard::GuardWatch;
use crate::lease::leader::LeaderOnly;
use crate::metrics::Metrics;
use crate::notify::Outbox;
use crate::read_permits::ReadPermits;
use crate::shares::Shares;
use crate::watch::Watches;

/// What every pass needs.
pub struct Context {
    /// Client of the passes: bounded reads, no hidden retries, no writes while somebody else leads.
    pub client: Client,
    /// Opens when this controller leads.
    pub leader: LeaderOnly,
    /// Asks pods, addresses outside and Prometheus for the checks.
    pub probe: rollback_probe::Client,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The admission policies that make approvals true.
    pub guard: Arc<GuardWatch>,
    /// Watches of the Deployments that are being rolled back.
    pub watches: Watches,
    /// The controller's own namespace.
    pub home: String,
    /// What people are told beyond Events.
    pub outbox: Arc<Outbox>,
    /// The cached requests of all namespaces, and how many of one namespace may be open.
    pub open: Option<(Store<RollbackRequest>, usize)>,
    /// Room in memory for passes that read much.
    pub read_permits: ReadPermits,
    /// Passes under way: each needs one, so that a namespace with many requests does not keep others from theirs.
    pub passes: Arc<Shares>,
    deciding: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    memory: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of one request while it is being worked on.
#[derive(Debug, Default)]
pub struct Memory {
    /// Failed passes in a row.
    pub failures: u32,
    /// Passes in a row in which one of the Deployments could not be read.
    pub partial_failures: u32,
    /// What its reads need to know of its writes, and of earlier reads.
    pub own: Arc<observe::Memory>,
    /// Names of the Events that were sent.
    pub told: HashSet<String>,
    /// What a newer controller has written into its status, as it was said last.
    pub newer: Option<Unknown>,
    /// How much its passes read.
    pub size: Size,
}

impl Context {
    /// A context with nothing remembered.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is made by somebody else, once"
    )]
    pub fn new(
        client: Client,
        leader: LeaderOnly,
        probe: rollback_probe::Client,
        metrics: Arc<Metrics>,
        guard: Arc<GuardWatch>,
        watches: Watches,
        home: String,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            client,
            leader,
            probe,
            metrics,
            guard,
            watches,
            home,
            outbox,
            open: None,
            read_permits: ReadPermits::default(),
            passes: Shares::new(0),
            deciding: Mutex::default(),
            memory: Mutex::default(),
        }
    }

    /// What nobody can read, as it is now, but the guard.
    pub fn knowledge(&self, request: &RollbackRequest) -> Knowledge {
        let uid = request.metadata.uid.as_deref().unwrap_or_default();
        Knowledge {
            crowd: self.crowd(request),
            home: self.home.clone(),
            memory: self.remember(uid, |memory| memory.own.clone()),
        }
    }

    /// The open requests that came before this one, as far as the cache knows.
    fn crowd(&self, request: &RollbackRequest) -> Option<Crowd> {
        let (requests, most) = self.open.as_ref()?;
        let all = requests.state();
        Some(Crowd::before(request, all.iter().map(AsRef::as_ref), *most))
    }

    /// The same with so many passes at the same time; without a limit when there are none.
    pub fn with_places(mut self, places: usize) -> Self {
        self.passes = Shares::new(places);
        self
    }

    /// Reads or changes what is remembered of the request with this UID.
    pub fn remember<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.locked().entry(uid.to_owned()).or_default())
    }

    /// Changes what the reads of the request with this UID know. A pass under way keeps what it began with.
    pub fn note(&self, uid: &str, change: impl FnOnce(&mut observe::Memory)) {
        self.remember(uid, |memory| change(Arc::make_mut(&mut memory.own)));
    }

    /// Forgets a request that has ended or is gone.
    pub fn forget(&self, uid: &str) {
        self.locked().remove(uid);
        self.watches.stop(uid);
    }

    /// Held while the policy of a namespace decides about one request, so that no two are counted as the last one of the
    /// hour. No namespace waits for another one.
    pub fn deciding(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut deciding = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        deciding.retain(|_, lock| Arc::strong_count(lock) > 1);
        deciding.entry(namespace.to_owned()).or_default().clone()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
