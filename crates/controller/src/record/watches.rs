//! What the watches tell. Objects are decoded one at a time and dropped at once: nothing is kept of a Deployment that
//! does not change.

use std::fmt::{self, Debug};

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, select_all};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::{
    LIFT, QUARANTINE_LABEL, RevisionLedger, RollbackPolicy, WORKLOAD_NAME_ANNOTATION, WorkloadKind,
};
use rollback_core::observed::Deployment;
use rollback_reads::bounded::Bounded;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::watch::WATCH_SECONDS;

/// A Deployment, which has a ledger or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}/{}", WorkloadKind::Deployment, self.name)
    }
}

impl Name {
    fn of(object: &impl ResourceExt) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

/// The Deployment that owns a ledger, or that one is about which is kept for admission without an owner; the controller
/// alone writes whose it is.
fn owner(ledger: &PartialObjectMeta<RevisionLedger>) -> Option<Name> {
    let mut owners = ledger.owner_references().iter();
    let owner = owners.find(|owner| owner.kind == WorkloadKind::Deployment.as_str());
    let kept = ledger.annotations().get(WORKLOAD_NAME_ANNOTATION);
    Some(Name {
        namespace: ledger.namespace().unwrap_or_default(),
        name: owner.map(|owner| &owner.name).or(kept)?.clone(),
    })
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// All Deployments are about to be listed: what happened before may have been missed.
    Listing,
    /// All have been listed.
    Listed,
    /// Nothing may be heard for a while.
    Lost,
    /// A Deployment is there, or has changed.
    Deployment {
        /// Which.
        name: Name,
        /// Whether every replica runs its template and is available.
        complete: bool,
        /// Digest of its template, when it opts in to being rolled back without a person.
        automatic: Option<String>,
    },
    /// A Deployment is gone.
    Gone(Name),
    /// A ledger is there, or has changed.
    Ledger {
        /// Whose.
        name: Name,
        /// Whether somebody lifts a quarantine.
        lifts: bool,
        /// Whether admission looks at one.
        quarantined: bool,
    },
    /// The ledger of this Deployment is gone.
    NoLedger(Name),
    /// Who may do what, or by which rules, may have changed in this namespace, or in any.
    Rules(Option<String>),
}

/// All watches.
pub fn watch(
    client: &Client,
    namespace: Option<&str>,
) -> SelectAll<BoxStream<'static, WatchEvent>> {
    select_all([
        deployments(client, namespace),
        follow::<RevisionLedger>(client, namespace, of_ledgers),
        follow::<RollbackPolicy>(client, namespace, of_rules),
        follow::<RoleBinding>(client, namespace, of_rules),
    ])
}

fn watching() -> watcher::Config {
    // Without pages: what is there is told of one by one, so that one object at a time is in memory.
    watcher::Config::default()
        .timeout(WATCH_SECONDS)
        .streaming_lists()
}

fn deployments(client: &Client, namespace: Option<&str>) -> BoxStream<'static, WatchEvent> {
    let api: Api<Bounded<v1::Deployment>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    watcher(api, watching())
        .default_backoff()
        .map(|event| match event {
            Ok(event) => of_deployments(event),
            Err(error) => {
                tracing::warn!(%error, kind = "Deployment", "a watch failed and is made anew");
                WatchEvent::Lost
            }
        })
        .boxed()
}

fn follow<K>(
    client: &Client,
    namespace: Option<&str>,
    told: fn(Event<PartialObjectMeta<K>>) -> Option<WatchEvent>,
) -> BoxStream<'static, WatchEvent>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<PartialObjectMeta<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    watcher(api, watching())
        .default_backoff()
        .filter_map(move |event| {
            let event = match event {
                Ok(event) => told(event),
                Err(error) => {
                    tracing::warn!(%error, kind = %K::kind(&()), "a watch failed and is made anew");
                    None
                }
            };
            std::future::ready(event)
        })
        .boxed()
}

fn of_deployments(event: Event<Bounded<v1::Deployment>>) -> WatchEvent {
    match event {
        Event::Init => WatchEvent::Listing,
        Event::InitDone => WatchEvent::Listed,
        Event::InitApply(object) | Event::Apply(object) => of_deployment(object),
        Event::Delete(object) => WatchEvent::Gone(Name::of(&object)),
    }
}

fn of_deployment(object: Bounded<v1::Deployment>) -> WatchEvent {
    let name = Name::of(&object);
    // One that is too large to be read is not complete, and is not analysed.
    let mut fields = object.fields.unwrap_or_default();
    let annotations = object.metadata.annotations.filter(|_| !fields.is_empty());
    let metadata = json!({"generation": object.metadata.generation, "annotations": annotations});
    fields.insert("metadata".to_owned(), metadata);
    let deployment = Deployment(Value::Object(fields));
    let opts_in = deployment.opts_in();
    WatchEvent::Deployment {
        name,
        complete: deployment.is_complete(),
        automatic: opts_in.then(|| deployment.template().digest()),
    }
}

fn of_ledgers(event: Event<PartialObjectMeta<RevisionLedger>>) -> Option<WatchEvent> {
    match event {
        Event::Init | Event::InitDone => None,
        Event::InitApply(ledger) | Event::Apply(ledger) => Some(WatchEvent::Ledger {
            lifts: ledger.annotations().contains_key(LIFT),
            quarantined: ledger.labels().contains_key(QUARANTINE_LABEL),
            name: owner(&ledger)?,
        }),
        Event::Delete(ledger) => owner(&ledger).map(WatchEvent::NoLedger),
    }
}

/// What is there at the beginning is no change: everything is asked about anew then.
fn of_rules<K: Resource<DynamicType = ()>>(
    event: Event<PartialObjectMeta<K>>,
) -> Option<WatchEvent> {
    match event {
        Event::Init => Some(WatchEvent::Rules(None)),
        Event::InitApply(_) | Event::InitDone => None,
        Event::Apply(object) | Event::Delete(object) => Some(WatchEvent::Rules(object.namespace())),
    }
}
