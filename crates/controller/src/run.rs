//! Starting, serving and stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::client::ClientBuilder;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{
    Controller, Predicate, PredicateConfig, WatchStreamExt, controller, predicates, watcher,
};
use kube::{Api, Client, ResourceExt};
use rollback_api::{RollbackPolicy, RollbackRequest, RollbackRequestStatus};
use rollback_core::notify::cursor;
use rollback_notify::{Destinations, Services};
use rollback_observe::newer::{Newer, Served, served};
use rollback_probe::allow::{AllowList, Oddity};
use rollback_probe::networks::{Externals, Networks};
use rollback_process::client::{client, for_answers, for_watches};
use rollback_process::{listen, pages, stop};
use rollback_reads::bounded::Bounded;
use rollback_reads::layer::Shorten;
use tokio_util::sync::CancellationToken;

use crate::analysis::{self, Identity};
use crate::config::Config;
use crate::context::Context;
use crate::guard::{GuardWatch, Unreadable};
use crate::holds;
use crate::lease::Leadership;
use crate::lease::election::Lost;
use crate::lease::leader::LeaderOnly;
use crate::metrics::Metrics;
use crate::notify::{self, Outbox};
use crate::reconcile::{error_policy, reconcile};
use crate::record;
use crate::selftest;
use crate::shares::Shares;
use crate::watch::{WATCH_SECONDS, Watches};

/// The whole request once more, as kubectl applied it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How long one read of a pass may take.
const READ_LIMIT: Duration = Duration::from_secs(15);
/// How long passes under way may take after the signal to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why the controller stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No API server is configured.
    #[error("finding the API server; set KUBECONFIG or run in a pod with a ServiceAccount")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("preparing the client of the API server")]
    Client(#[source] kube::Error),
    /// What checks ask with cannot be made.
    #[error("preparing what checks ask with")]
    Probe(#[from] rollback_probe::Setup),
    /// What notifications are delivered with cannot be made.
    #[error("preparing what notifications are delivered with")]
    Notify(#[from] rollback_notify::Setup),
    /// An address of a Prometheus is none.
    #[error("reading --prometheus-allow")]
    Prometheus(#[from] Oddity),
    /// The guard that was built in cannot be read.
    #[error("reading the guard that this controller was built with")]
    Guard(#[from] Unreadable),
    /// The metrics address cannot be used.
    #[error(transparent)]
    Listen(#[from] listen::Unusable),
    /// The metrics are no longer served.
    #[error("serving metrics at --metrics-address")]
    Serve(#[from] std::io::Error),
    /// It has led and no longer does.
    #[error("leader election lost")]
    Lost(#[from] Lost),
}

/// Runs until SIGTERM or SIGINT, then finishes the passes under way, if they are quick, and returns.
pub async fn run(config: Config) -> Result<(), Error> {
    let stop = stop::at_signal();
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let listener = listen::bind(config.metrics_address).await?;
    let kubeconfig = kube::Config::infer().await?;
    let mut leadership =
        Leadership::new(&config, kubeconfig.clone(), metrics.clone()).map_err(Error::Client)?;
    let (is_listed, why_not) = (ready.clone(), leadership.why_not());
    let why_not = move || {
        let listing = "the requests are being listed".to_owned();
        let is_listed = is_listed.load(Ordering::Relaxed);
        why_not.borrow().clone().or((!is_listed).then_some(listing))
    };
    let numbers = metrics.clone();
    let pages = pages::router(why_not, move || numbers.page());
    let server = pages::serve(listener, pages, stop.clone().cancelled_owned());

    let leader = leadership.leader();
    let clients = clients(kubeconfig, &leader, config.lease_namespace.clone())?;
    let controller = control(&config, clients, leader, metrics, ready, stop.clone())?;
    let everything = async { tokio::join!(server, controller).0 };
    let end = tokio::select! {
        end = everything => end,
        () = overdue(stop.clone()) => {
            tracing::warn!(
                "shutdown grace period exceeded, aborting in-flight reconciles"
            );
            Ok(())
        }
        // A standby that is asked to stop has nothing to finish.
        stood_by = leadership.run(stop) => { stood_by?; Ok(()) }
    };
    // Whatever was under way is dropped by now.
    leadership.release().await;
    Ok(end?)
}

/// The moment from which nothing is waited for any more: a check may hang, and an API server too.
/// Every pass can be cut off anywhere, so this costs nothing but a little time later.
async fn overdue(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN_LIMIT).await;
}

/// In which ways the API server is talked to.
struct Clients {
    /// For passes: reads end, and writes need the lease.
    passes: Client,
    /// For watches, which are quiet for long.
    watches: Client,
    /// In whose name the controller's own watch asks.
    identity: Identity,
}

fn clients(config: kube::Config, leader: &LeaderOnly, home: String) -> Result<Clients, Error> {
    let passes = for_answers(config.clone(), CONNECT_LIMIT, READ_LIMIT);
    let identity = Identity::new(passes.clone(), leader.clone(), home);
    let passes = ClientBuilder::try_from(passes).map_err(Error::Client)?;
    Ok(Clients {
        passes: passes
            .with_layer(&leader.layer())
            .with_layer(&Shorten)
            .build(),
        watches: client(for_watches(config, CONNECT_LIMIT)).map_err(Error::Client)?,
        identity,
    })
}

fn control(
    config: &Config,
    clients: Clients,
    leader: LeaderOnly,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + use<>, Error> {
    let Clients {
        passes,
        watches,
        identity,
    } = clients;
    let watches = &watches;
    let probe = rollback_probe::Client::new(
        Networks(config.probe_networks.clone()),
        Externals(config.external_networks.clone()),
    )?;
    let prometheus = config.prometheus_allow.iter().map(String::as_str);
    let prometheus = AllowList::parse(prometheus).map_err(|(_, oddity)| oddity)?;
    let probe = probe.with_prometheus(prometheus);
    let deliverer = deliverer(config)?;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let deployments = received(receiver);
    let (outbox, asked) = Outbox::new();
    let deployment_watches = Watches::new(watches.clone(), sender);
    let (guard, follow_guard) = GuardWatch::new(watches, metrics.clone())?;
    let (reader, writer) = reflector::store();
    let home = config.lease_namespace.clone();
    let context = Context::new(
        passes,
        leader,
        probe,
        metrics,
        guard,
        deployment_watches,
        home,
        outbox.clone(),
    );
    let mut context = context.with_places(config.concurrency.into());
    context.open = Some((reader.clone(), config.max_open_requests as usize));
    let context = Arc::new(context);

    let requests = requests(config, watches, writer, ready, outbox.clone());
    context.metrics.count_reviews(reader.clone());
    let by_policy = reader.clone();
    let by_guard = reader.clone();
    let unguarded = context
        .guard
        .changes()
        .flat_map(move |()| futures::stream::iter(waiting(&by_guard, |_| true)));
    let limits = controller::Config::default().concurrency(config.concurrency);
    let guarded = context.clone();
    let (of_a_new_version, changes) = tokio::sync::mpsc::unbounded_channel();
    let recorder = record::run(
        context.clone(),
        watches.clone(),
        config.namespace.clone(),
        of_a_new_version,
    );
    let keeper = holds::run(context.clone(), watches.clone(), config.namespace.clone());
    let slots = Shares::new(config.max_analyses.into());
    let analyses = analysis::run(context.clone(), watches.clone(), identity, slots, changes);
    let tester = selftest::run(context.clone());
    let teller = notify::run(context.clone(), deliverer);
    let told = outbox.clone();
    let policies = watcher(
        scoped::<DeserializeGuard<RollbackPolicy>>(config, watches),
        watching(),
    )
    .default_backoff()
    .inspect_ok(move |event| told.policy(event))
    .touched_objects();
    let controller = Controller::for_stream(requests, reader)
        .with_config(limits)
        .watches_stream(policies, move |policy| {
            let namespace = policy.namespace();
            let is_told = outbox.policies.of(namespace.as_deref().unwrap_or_default());
            let is_told = is_told.is_some();
            let here = |request: &RollbackRequest| request.metadata.namespace == namespace;
            let mut affected = waiting(&by_policy, here);
            if is_told {
                affected.extend(untold(&by_policy, here));
            }
            affected
        })
        .reconcile_on(deployments)
        .reconcile_on(received(asked))
        .reconcile_on(unguarded)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, error_policy, context)
        .for_each(|result| {
            if let Err(controller::Error::QueueError(error)) = result {
                tracing::warn!(%error, "a watch failed and is made anew");
            }
            std::future::ready(())
        });
    Ok(async move {
        tokio::select! {
            // The first plan has to know the guard.
            () = async { guarded.guard.ready().await; controller.await } => {}
            () = follow_guard => {}
            () = recorder => {}
            () = keeper => {}
            () = analyses => {}
            () = tester => {}
            () = teller => {}
        }
    }
    .boxed())
}

/// What delivers notifications.
fn deliverer(config: &Config) -> Result<rollback_notify::Client, rollback_notify::Setup> {
    rollback_notify::Client::new(
        Destinations(config.notify_allow.clone()),
        Services {
            slack: config.slack_url.clone(),
            pagerduty: config.pagerduty_url.clone(),
        },
        Networks(config.probe_networks.clone()),
        Externals(config.external_networks.clone()),
    )
}

/// What comes through a channel.
fn received<T>(receiver: tokio::sync::mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

/// Every request that can be read, whenever its spec or its annotations change; all of them are kept in `writer`.
fn requests(
    config: &Config,
    watches: &Client,
    writer: Writer<RollbackRequest>,
    ready: Arc<AtomicBool>,
    outbox: Arc<Outbox>,
) -> impl Stream<Item = watcher::Result<RollbackRequest>> + Send + use<> {
    watcher(
        scoped::<Bounded<RollbackRequest>>(config, watches),
        watching(),
    )
    .default_backoff()
    .filter_map(|event| std::future::ready(legible(event)))
    .modify(slim)
    .inspect_ok(move |event| {
        outbox.watched(event);
        if matches!(event, watcher::Event::InitDone) {
            ready.store(true, Ordering::Relaxed);
        }
    })
    .reflect(writer)
    .applied_objects()
    .predicate_filter(
        predicates::generation.combine(predicates::annotations),
        PredicateConfig::default(),
    )
}

fn watching() -> watcher::Config {
    // Without pages: what is there is told of one by one.
    watcher::Config::default()
        .timeout(WATCH_SECONDS)
        .streaming_lists()
}

/// Without what nobody reads of a request in the cache: a pass reads the request itself.
fn slim(request: &mut RollbackRequest) {
    request.metadata.managed_fields = None;
    request.metadata.owner_references = None;
    request.metadata.labels = None;
    if let Some(annotations) = &mut request.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let ended = request.status.as_mut();
    if let Some(status) = ended.filter(|status| status.outcome.is_some()) {
        // What is left to do is to remind somebody of the review.
        status.targets.clear();
        status.approvals.clear();
        if let Some(plan) = &mut status.plan {
            plan.targets.clear();
            plan.skipped.clear();
        }
        request.spec.targets.clear();
        request.spec.verification = None;
        if let Some(trigger) = &mut request.spec.trigger {
            trigger.evidence.clear();
        }
        for text in [
            &mut request.spec.reason.summary,
            &mut request.spec.reason.root_cause,
            &mut request.spec.reason.impact,
        ] {
            text.clear();
        }
    }
}

/// Without the requests that cannot be read, or that would take too much memory: one of them must not end the list of all
/// others.
fn legible(
    event: watcher::Result<watcher::Event<Bounded<RollbackRequest>>>,
) -> Option<watcher::Result<watcher::Event<RollbackRequest>>> {
    use watcher::Event;
    let (of, read): (fn(RollbackRequest) -> Event<RollbackRequest>, _) = match event {
        Ok(Event::Init) => return Some(Ok(Event::Init)),
        Ok(Event::InitDone) => return Some(Ok(Event::InitDone)),
        Err(error) => return Some(Err(error)),
        Ok(Event::InitApply(read)) => (Event::InitApply, read),
        Ok(Event::Apply(read)) => (Event::Apply, read),
        Ok(Event::Delete(read)) => (Event::Delete, read),
    };
    let (namespace, name) = (read.metadata.namespace.clone(), read.metadata.name.clone());
    match served(read) {
        Ok(Served::Known(request)) => Some(Ok(of(*request))),
        Ok(Served::Newer(newer)) => Some(Ok(of(counted(*newer)))),
        Err(error) => {
            tracing::warn!(namespace, request = name, %error, "a request cannot be read and is left alone");
            None
        }
    }
}

/// A request of a newer controller, without the status that would be guessed. Only whether it has ended is kept, so that it
/// does not count as open; whoever looks at it reads it again.
fn counted(newer: Newer) -> RollbackRequest {
    let outcome = serde_json::from_value(newer.status["outcome"].clone()).ok();
    RollbackRequest {
        status: outcome.map(|outcome| RollbackRequestStatus {
            outcome: Some(outcome),
            ..RollbackRequestStatus::default()
        }),
        ..newer.request
    }
}

fn scoped<K>(config: &Config, client: &Client) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match &config.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Those of the requests that have not ended: their rules, or what makes approvals true, may have changed.
fn waiting(
    requests: &Store<RollbackRequest>,
    affected: impl Fn(&RollbackRequest) -> bool,
) -> Vec<ObjectRef<RollbackRequest>> {
    requests
        .state()
        .iter()
        .filter(|request| affected(request))
        .filter(|request| request.outcome().is_none())
        .map(|request| ObjectRef::from_obj(request.as_ref()))
        .collect()
}

/// Those of the requests that have ended, and of which people have not been told everything, as far as the cache knows.
fn untold(
    requests: &Store<RollbackRequest>,
    affected: impl Fn(&RollbackRequest) -> bool,
) -> Vec<ObjectRef<RollbackRequest>> {
    let now = Timestamp::now();
    let is_untold = |request: &RollbackRequest| {
        let ended = request.status.as_ref().filter(|it| it.outcome.is_some());
        ended.is_some_and(|status| !cursor::is_settled(status, now))
    };
    requests
        .state()
        .iter()
        .filter(|request| affected(request) && is_untold(request))
        .map(|request| ObjectRef::from_obj(request.as_ref()))
        .collect()
}
