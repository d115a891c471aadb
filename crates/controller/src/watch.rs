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
use rollback_core::approval::{self, consent};
use rollback_core::decide::fallback;
use rollback_core::execution::job;
use rollback_core::execution::phase::{FEW, TargetPhase, due};
use rollback_core::history::ledger;
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

/// Most watches of one request. Each is a connection.
const MOST_OF_REQUEST: usize = 25;
/// Most watches of the requests of one namespace, all together: what is beyond is looked at now and then.
const MOST_OF_NAMESPACE: usize = 100;

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
    /// The ledger with this name, whose workload another request may hold.
    Ledger(String),
    /// The ledgers with these names, out of all in the namespace.
    Ledgers(BTreeSet<String>),
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
                fallback::target(target, progress),
                TargetPhase::of(status, progress),
            )
        })
        .filter(|(_, phase)| *phase != TargetPhase::Ended)
        .collect();
    let names = open.iter().map(|(target, _)| target.workload.name.clone());
    let deployments: BTreeSet<Watched> = if plan.targets.len() <= FEW {
        names.map(Watched::Deployment).collect()
    } else {
        // The same set to the end, so that the watch is not made anew whenever one has ended.
        let all = plan
            .targets
            .iter()
            .map(|target| target.workload.name.clone());
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
            let set = target.source_name()?;
            let hash = set.strip_prefix(&target.workload.name)?.strip_prefix('-')?;
            Some([
                Watched::Pods(hash.to_owned()),
                Watched::Warnings(set.to_owned()),
            ])
        })
        .flatten();
    let turn = due(plan, status, request.rollout().parallelism);
    let claiming: BTreeSet<String> = turn
        .into_iter()
        .filter_map(|index| Some((plan.targets.get(index)?, status.targets.get(index)?)))
        .filter(|(_, progress)| match TargetPhase::of(status, progress) {
            TargetPhase::Waiting => approval::suffices(plan, &status.approvals),
            phase => !phase.is_written(),
        })
        .map(|(target, _)| ledger::name_of(&target.workload))
        .collect();
    let ledgers: Vec<Watched> = if plan.targets.len() <= FEW {
        claiming.into_iter().map(Watched::Ledger).collect()
    } else {
        let all = plan.targets.iter().map(|it| ledger::name_of(&it.workload));
        let any = (!claiming.is_empty()).then(|| Watched::Ledgers(all.collect()));
        any.into_iter().collect()
    };
    let upon = consent::Plans::of(plan, status);
    let jobs = plan
        .targets
        .iter()
        .zip(&status.targets)
        .filter(|(_, progress)| {
            plan.targets.len() <= FEW && TargetPhase::of(status, progress) != TargetPhase::Ended
        })
        .filter_map(|(target, progress)| {
            let target = fallback::target(target, progress);
            let (_, running) = job::open(request, upon.plan_for(progress), &target, progress)?;
            Some(Watched::Job(running.job.clone()))
        });
    deployments
        .into_iter()
        .chain(pods)
        .chain(ledgers)
        .chain(jobs)
        .take(MOST_OF_REQUEST)
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

/// The running watches of one request.
#[derive(Default)]
struct Running {
    namespace: String,
    tasks: HashMap<Watched, AbortHandle>,
}

/// The running watches, by UID of the request.
pub struct Watches {
    client: Client,
    changed: UnboundedSender<ObjectRef<RollbackRequest>>,
    running: Mutex<HashMap<String, Running>>,
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
    /// more. False when the namespace has too many watches already, so that it has to look by itself now and then.
    pub fn keep(&self, request: &RollbackRequest, status: &RollbackRequestStatus) -> bool {
        let Some(uid) = request.uid() else {
            return true;
        };
        let namespace = request.namespace().unwrap_or_default();
        let wanted = wanted(request, status);
        let pause = if status.targets.len() > FEW {
            PAUSE_OF_MANY
        } else {
            PAUSE
        };
        let mut all = self.locked();
        let others = all
            .iter()
            .filter(|(other, it)| **other != uid && it.namespace == namespace)
            .map(|(_, it)| it.tasks.len());
        let room = MOST_OF_NAMESPACE.saturating_sub(others.sum());
        let running = all.entry(uid).or_default();
        running.namespace = namespace;
        let running = &mut running.tasks;
        running.retain(|watched, task| {
            let keep = wanted.contains(watched);
            if !keep {
                task.abort();
            }
            keep
        });
        let mut all_are_kept = true;
        for watched in wanted {
            if running.len() >= room && !running.contains_key(&watched) {
                all_are_kept = false;
                continue;
            }
            running
                .entry(watched)
                .or_insert_with_key(|watched| self.start(request, watched, pause));
        }
        all_are_kept
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
            Watched::Ledgers(names) => {
                let all = watcher::Config::default();
                let these = Meant::These(names.clone());
                self.follow::<RevisionLedger>(reference, &namespace, all, these, pause)
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
            // One object at a time, and its metadata only.
            let config = config.timeout(WATCH_SECONDS).streaming_lists();
            let mut news = watcher(api, config)
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
            .flat_map(|running| running.tasks.into_values())
        {
            task.abort();
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use rollback_api::request::To;
    use serde_json::json;

    use super::*;

    /// A client of a server that never answers.
    fn client() -> Client {
        let server = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, tower::BoxError>>()
        });
        Client::new(server, "default")
    }

    /// A request for so many Deployments, approved, whose claims are to be made.
    fn many(number: usize, targets: usize) -> (RollbackRequest, RollbackRequestStatus) {
        let names: Vec<String> = (0..targets).map(|target| format!("d-{target}")).collect();
        let mut request: RollbackRequest = serde_json::from_value(json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest",
            "metadata": {"name": format!("r-{number}"), "namespace": "flood", "uid": format!("u-{number}")},
            "spec": {
                "targets": names.iter().map(|name| json!({"name": name, "to": To::previous()})).collect::<Vec<_>>(),
                "reason": {"category": "ErrorRate", "summary": "x"},
                "rollout": {"parallelism": 50},
            },
        }))
        .unwrap();
        request.status = None;
        let target = |name: &String| {
            json!({
                "name": name, "uid": "u", "from": "sha256:a", "to": "sha256:b",
                "sourceRef": format!("{name}-abc@s"), "replicas": 1,
            })
        };
        let rules = rollback_core::plan::rules::rules(&request, None, false);
        let status = json!({
            "observedGeneration": 1,
            "plan": {
                "digest": "sha256:p", "plannedAt": "2026-11-30T00:00:00Z", "notAfter": "2026-11-30T09:00:00Z",
                "rules": rules, "guard": "", "targets": names.iter().map(target).collect::<Vec<_>>(),
            },
            "approvals": [{"by": {"username": "bob"}, "planDigest": "sha256:p", "at": "2026-11-30T00:00:00Z"}],
            "targets": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        });
        (request, serde_json::from_value(status).unwrap())
    }

    #[tokio::test]
    async fn watches_are_bounded_by_request_and_by_namespace() {
        let (changed, _news) = tokio::sync::mpsc::unbounded_channel();
        let watches = Watches::new(client(), changed);
        for targets in [1, FEW, FEW + 1, 200] {
            let (request, status) = many(0, targets);
            let wanted = wanted(&request, &status).len();
            assert!(
                wanted > 0 && wanted <= MOST_OF_REQUEST,
                "{targets}: {wanted}"
            );
        }
        let kept: Vec<bool> = (0..200)
            .map(|number| {
                let (request, status) = many(number, FEW);
                watches.keep(&request, &status)
            })
            .collect();
        assert!(kept[0] && !kept[199]);
        let count = |watches: &Watches| -> usize {
            let all = watches.locked();
            all.values().map(|running| running.tasks.len()).sum()
        };
        assert_eq!(count(&watches), MOST_OF_NAMESPACE);
        // Another namespace has its own.
        let (mut request, status) = many(1000, FEW);
        request.metadata.namespace = Some("good".to_owned());
        assert!(watches.keep(&request, &status));
        // A place that is given back is taken by who looks next.
        watches.stop("u-0");
        let (request, status) = many(199, FEW);
        watches.keep(&request, &status);
        assert!(count(&watches) > MOST_OF_NAMESPACE);
    }
}
