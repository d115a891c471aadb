//! Where events of watches become jobs.

use std::time::Duration;

use jiff::Timestamp;
use rollback_core::evidence::Notice;
use tokio::time::Instant;

use super::queue::Queue;
use super::recording::RecordingCache;
use super::watches::{Name, WatchEvent};

/// How long after a change it is looked at, with all that changed meanwhile.
pub const PAUSE: Duration = Duration::from_secs(1);
/// How much later each one is looked at when all are: a start must not be felt by anybody.
const STEP: Duration = Duration::from_millis(10);
/// For how long after a watch failed it may still bring what happened before.
const DOUBT: Duration = Duration::from_mins(1);

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Look at a Deployment.
    Look(Name),
    /// Bring the quarantine of a Deployment up to date, and nothing else, also where nothing is recorded.
    Quarantine(Name),
    /// See whether a namespace is recorded by now.
    Check(String),
    /// The same once more: the authorizer learns of a permission on its own, perhaps later than we do.
    CheckAgain(String),
    /// Find the Deployments of a namespace that is recorded by now.
    Find(String),
}

impl Job {
    /// Where it is to be done.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Look(name) | Self::Quarantine(name) => &name.namespace,
            Self::Check(namespace) | Self::CheckAgain(namespace) | Self::Find(namespace) => {
                namespace
            }
        }
    }
}

/// Where events of watches become jobs.
pub struct Schedule {
    /// What is to be done.
    pub queue: Queue<Job>,
    /// How many Deployments were listed since the list began; `None` when it has ended.
    listed: Option<u32>,
    /// Until when the watch of the Deployments may be late.
    doubt: Option<Instant>,
}

impl Schedule {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self {
            queue: Queue::new(),
            listed: Some(0),
            doubt: None,
        }
    }

    /// Nothing happened, as far as is known.
    pub fn nothing(&self) -> Notice {
        let doubtful = self.doubt.is_some_and(|until| Instant::now() < until);
        Notice {
            at: Timestamp::now(),
            dipped: false,
            gap: self.listed.is_some() || doubtful,
        }
    }

    /// Takes in what a watch tells.
    pub fn take(&mut self, event: WatchEvent, scopes: &RecordingCache) {
        match event {
            WatchEvent::Listing => self.listed = Some(0),
            WatchEvent::Listed => self.listed = None,
            WatchEvent::Lost => self.doubt = Some(Instant::now() + DOUBT),
            WatchEvent::Deployment { name, complete, .. } => {
                self.deployment(name, complete, scopes);
            }
            WatchEvent::Gone(name) => {
                // A ledger with a quarantine stays, and somebody has to see when it is over.
                let (nothing, job) = (self.nothing(), Job::Quarantine(name.clone()));
                self.queue.notice(&job, nothing, PAUSE);
                self.queue.forget(&Job::Look(name));
            }
            WatchEvent::Ledger {
                name,
                lifts,
                quarantined,
            } => {
                // Where all is recorded, a look at the Deployment sees to its quarantine as well.
                let looked_at = self.listed.is_none()
                    && scopes
                        .fresh(&name.namespace)
                        .is_some_and(|scope| scope.records());
                self.ledger(name, lifts || (quarantined && !looked_at));
            }
            WatchEvent::NoLedger(name) => {
                let nothing = self.nothing();
                self.queue.notice(&Job::Look(name), nothing, PAUSE);
            }
            WatchEvent::Rules(namespace) => {
                scopes.expire(namespace.as_deref());
                if let Some(namespace) = namespace {
                    let (nothing, job) = (self.nothing(), Job::Check(namespace));
                    self.queue.notice(&job, nothing, PAUSE);
                }
            }
        }
    }

    /// Whatever was written there: a claim that was in the way may be gone.
    fn ledger(&mut self, name: Name, due: bool) {
        let lift = Job::Quarantine(name.clone());
        if due {
            let nothing = self.nothing();
            self.queue.notice(&lift, nothing, PAUSE);
        }
        self.queue.let_go(&lift, PAUSE);
        self.queue.let_go(&Job::Look(name), PAUSE);
    }

    fn deployment(&mut self, name: Name, complete: bool, scopes: &RecordingCache) {
        let delay = match &mut self.listed {
            None => PAUSE,
            Some(count) => {
                *count = count.saturating_add(1);
                PAUSE + STEP * *count
            }
        };
        // Should the namespace be recorded one day, all of it is looked at then.
        let unrecorded = scopes
            .fresh(&name.namespace)
            .is_some_and(|scope| !scope.records());
        if !unrecorded {
            let notice = Notice {
                dipped: !complete,
                ..self.nothing()
            };
            self.queue.notice(&Job::Look(name), notice, delay);
        }
    }

    /// All Deployments of a namespace of which it is not known what happened there, and those with a quarantine.
    pub fn found(&mut self, namespace: &str, names: Vec<String>, quarantined: Vec<String>) {
        for (place, name) in (1_u32..).zip(quarantined) {
            let namespace = namespace.to_owned();
            let job = Job::Quarantine(Name { namespace, name });
            let nothing = self.nothing();
            self.queue.notice(&job, nothing, STEP * place);
        }
        for (place, name) in (1_u32..).zip(names) {
            let namespace = namespace.to_owned();
            let notice = Notice {
                gap: true,
                ..self.nothing()
            };
            let job = Job::Look(Name { namespace, name });
            self.queue.notice(&job, notice, STEP * place);
        }
    }
}
