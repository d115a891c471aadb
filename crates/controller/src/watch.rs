//! Watches of what requests wait for, for as long as they do. There is no watch on all Deployments or
//! pods of the cluster: what is not being rolled back costs nothing.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event as Warning, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::status::Source;
use rollback_api::{POD_TEMPLATE_HASH, RevisionLedger, RollbackRequest, RollbackRequestStatus};
use rollback_core::decide::second;
use rollback_core::phase::{FEW, TargetPhase, due};
use rollback_core::{approval, consent, job};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

/// Seconds after which a watch that went silent is made anew.
pub const WATCH_SECONDS: u32 = 60;

/// How long to wait after a change before the next is told: a rollout changes its Deployment many
/// times a second.
const PAUSE: Duration = Duration::from_millis(200);
/// The same for a request with many Deployments, of which some change all the time.
const PAUSE_OF_MANY: Duration = Duration::from_secs(1);

/// Events that tell of trouble of a pod.
const WARNINGS: &str = "involvedObject.kind=Pod,type=Warning";

/// One thing that is watched for a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Watched {
    /// One Deployment.
    Deployment(String),
    /// These Deployments, out of all in the namespace.
    Deployments(BTreeSet<String>),
    /// The pods with this hash.
    Pods(String),
    /// Warnings about the pods of this `ReplicaSet`.
    Warnings(String),
    /// The ledger of a Deployment that another request may hold.
    Ledger(String),
    /// A Job of the policy.
    Job(String),
}

/// What a request with this status waits for.
fn wanted(request: &RollbackRequest, status: &RollbackRequestStatus) -> BTreeSet<Watched> {
    let (Some(plan), None) = (&status.plan, &status.outcome) else {
        return BTreeSet::new();
    };
    let open: Vec<_> = plan
        .targets
        .iter()
        .zip(&status.targets)
        .map(|(target, progress)| {
            (
                second::target(target, progress),
                TargetPhase::of(status, progress),
            )
        })
        .filter(|(_, phase)| *phase != TargetPhase::Ended)
        .collect();
    let names = open.iter().map(|(target, _)| target.name.clone());
    let deployments: BTreeSet<Watched> = if plan.targets.len() <= FEW {
        names.map(Watched::Deployment).collect()
    } else {
        // The same set to the end, so that the watch is not made anew whenever one has ended.
        let all = plan.targets.iter().map(|target| target.name.clone());
        BTreeSet::from([Watched::Deployments(all.collect())])
    };
    // Of many, the pods are looked at now and then: they explain what the Deployments show.
    let pods = open
        .iter()
        .filter(|_| plan.targets.len() <= FEW)
        .filter(|(target, phase)| {
            // What is altered on its way gets a ReplicaSet that nobody knows beforehand.
            *phase == TargetPhase::RollingOut
                && target.source == Source::ReplicaSet
                && target.stored_digest.is_none()
        })
        .filter_map(|(target, _)| {
            let set = target.source_name.as_deref()?;
            let hash = set.strip_prefix(&target.name)?.strip_prefix('-')?;
            Some([
                Watched::Pods(hash.to_owned()),
                Watched::Warnings(set.to_owned()),
            ])
        })
        .flatten();
    let turn = due(plan, status, request.rollout().parallelism);
    let ledgers = turn
        .into_iter()
        .filter_map(|index| Some((plan.targets.get(index)?, status.targets.get(index)?)))
        .filter(|(_, progress)| match TargetPhase::of(status, progress) {
            TargetPhase::Waiting => approval::suffices(plan, &status.approvals),
            phase => !phase.is_written(),
        })
        .map(|(target, _)| Watched::Ledger(target.name.clone()));
    let upon = consent::Plans::of(plan, status);
    let jobs = plan
        .targets
        .iter()
        .zip(&status.targets)
        .filter(|(_, progress)| {
            plan.targets.len() <= FEW && TargetPhase::of(status, progress) != TargetPhase::Ended
        })
        .filter_map(|(target, progress)| {
            let target = second::target(target, progress);
            let (_, running) = job::open(request, upon.plan_for(progress), &target, progress)?;
            Some(Watched::Job(running.job.clone()))
        });
    deployments
        .into_iter()
        .chain(pods)
        .chain(ledgers)
        .chain(jobs)
        .collect()
}

/// Which of the objects that a watch sees are meant, by name.
#[derive(Clone, Debug)]
enum Meant {
    /// All.
    All,
    /// These.
    These(BTreeSet<String>),
    /// Those whose name begins so.
    Beginning(String),
}

impl Meant {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
            Self::Beginning(beginning) => name.starts_with(beginning),
        }
    }
}

/// How the names of the pods of a `ReplicaSet` begin, and so those of the Events about them: the API server cuts it off
/// where five characters of its own have room in a name of 63.
fn beginning_of_pods(replica_set: &str) -> String {
    format!("{replica_set}-").chars().take(58).collect()
}

/// Whether a request should look again. The end of the list counts, however empty it is: the
/// Deployment may have gone between the read that led to this watch and its beginning.
fn is_news<K: Resource<DynamicType = ()>>(
    event: &Result<Event<PartialObjectMeta<K>>, watcher::Error>,
    meant: &Meant,
) -> bool {
    let is_meant = |object: &PartialObjectMeta<K>| meant.has(&object.name_any());
    match event {
        Ok(Event::InitDone) => true,
        Ok(Event::Apply(object) | Event::Delete(object)) => is_meant(object),
        Ok(Event::Init | Event::InitApply(_)) | Err(_) => false,
    }
}

/// Whether there was news within this time; `None` when there will never be any again.
async fn news_during(
    time: Duration,
    news: &mut (impl Stream<Item = bool> + Unpin),
) -> Option<bool> {
    let mut any = false;
    let mut over = std::pin::pin!(tokio::time::sleep(time));
    loop {
        tokio::select! {
            () = &mut over => return Some(any),
            next = news.next() => any |= next?,
        }
    }
}

/// The running watches, by UID of the request.
pub struct Watches {
    client: Client,
    changed: UnboundedSender<ObjectRef<RollbackRequest>>,
    running: Mutex<HashMap<String, HashMap<Watched, AbortHandle>>>,
}

impl Watches {
    /// No watches yet. `client` must not have a read timeout; `changed` hears of every change.
    pub fn new(client: Client, changed: UnboundedSender<ObjectRef<RollbackRequest>>) -> Self {
        Self {
            client,
            changed,
            running: Mutex::default(),
        }
    }

    /// Looks after what a request with this status waits for, and no longer after what it does not wait for any
    /// more.
    pub fn keep(&self, request: &RollbackRequest, status: &RollbackRequestStatus) {
        let Some(uid) = request.uid() else { return };
        let wanted = wanted(request, status);
        let pause = if status.targets.len() > FEW {
            PAUSE_OF_MANY
        } else {
            PAUSE
        };
        let mut all = self.locked();
        let running = all.entry(uid).or_default();
        running.retain(|watched, task| {
            let keep = wanted.contains(watched);
            if !keep {
                task.abort();
            }
            keep
        });
        for watched in wanted {
            running
                .entry(watched)
                .or_insert_with_key(|watched| self.start(request, watched, pause));
        }
    }

    fn start(&self, request: &RollbackRequest, watched: &Watched, pause: Duration) -> AbortHandle {
        let namespace = request.namespace().unwrap_or_default();
        let reference = ObjectRef::from_obj(request);
        let only = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        match watched {
            Watched::Deployment(name) => {
                self.follow::<Deployment>(reference, &namespace, only(name), Meant::All, pause)
            }
            Watched::Deployments(names) => {
                let all = watcher::Config::default();
                let these = Meant::These(names.clone());
                self.follow::<Deployment>(reference, &namespace, all, these, pause)
            }
            Watched::Ledger(name) => {
                self.follow::<RevisionLedger>(reference, &namespace, only(name), Meant::All, pause)
            }
            Watched::Job(name) => {
                self.follow::<Job>(reference, &namespace, only(name), Meant::All, pause)
            }
            Watched::Pods(hash) => {
                let labelled =
                    watcher::Config::default().labels(&format!("{POD_TEMPLATE_HASH}={hash}"));
                self.follow::<Pod>(reference, &namespace, labelled, Meant::All, pause)
            }
            Watched::Warnings(set) => {
                let warnings = watcher::Config::default().fields(WARNINGS);
                let these = Meant::Beginning(beginning_of_pods(set));
                self.follow::<Warning>(reference, &namespace, warnings, these, pause)
            }
        }
    }

    fn follow<K>(
        &self,
        request: ObjectRef<RollbackRequest>,
        namespace: &str,
        config: watcher::Config,
        meant: Meant,
        pause: Duration,
    ) -> AbortHandle
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), namespace);
        let changed = self.changed.clone();
        let task = tokio::spawn(async move {
            let mut news = watcher(api, config.timeout(WATCH_SECONDS))
                .default_backoff()
                .map(|event| is_news(&event, &meant))
                .boxed();
            let mut any = false;
            loop {
                if any {
                    if changed.send(request.clone()).is_err() {
                        return;
                    }
                    let Some(more) = news_during(pause, &mut news).await else {
                        return;
                    };
                    any = more;
                } else {
                    let Some(next) = news.next().await else {
                        return;
                    };
                    any = next;
                }
            }
        });
        task.abort_handle()
    }

    /// Ends the watches of a request.
    pub fn stop(&self, uid: &str) {
        for task in self
            .locked()
            .remove(uid)
            .into_iter()
            .flat_map(HashMap::into_values)
        {
            task.abort();
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, HashMap<Watched, AbortHandle>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
