//! The admission policies that make approvals true: which of them are there, and which versions.
//!
//! They are watched, because they hardly ever change and a list of them costs a tenth of a second. When
//! an approval is about to be counted, those that make it true are read live: an approval that was
//! written while they were away must not count because a watch is late.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::GUARD_LABEL;
use rollback_api::status::GuardPolicy;
use rollback_core::observed::Guard;
use serde::de::DeserializeOwned;

use super::{Error, reading};
use crate::watch::WATCH_SECONDS;

/// The policies that mutate, as `deploy/20-guard.yaml` names them. Each has a binding of its name.
const MUTATING: [&str; 1] = ["rollback-guard-stamp"];
/// The policies that validate.
const VALIDATING: [&str; 11] = [
    "rollback-guard-approval",
    "rollback-guard-artifact",
    "rollback-guard-cancel",
    "rollback-guard-create",
    "rollback-guard-denial",
    "rollback-guard-deployment",
    "rollback-guard-finalizer",
    "rollback-guard-ledger",
    "rollback-guard-spec",
    "rollback-guard-stamps",
    "rollback-guard-status",
];
/// Those without which an approval could have been written by anybody.
const APPROVAL: [&str; 2] = ["rollback-guard-approval", "rollback-guard-stamps"];

/// The guard as the watches see it.
pub struct GuardWatch {
    mutating: Store<PartialObjectMeta<MutatingAdmissionPolicy>>,
    mutating_bindings: Store<PartialObjectMeta<MutatingAdmissionPolicyBinding>>,
    validating: Store<PartialObjectMeta<ValidatingAdmissionPolicy>>,
    validating_bindings: Store<PartialObjectMeta<ValidatingAdmissionPolicyBinding>>,
}

impl GuardWatch {
    /// The watches, and the future that keeps them up to date.
    pub fn new(client: &Client) -> (Self, BoxFuture<'static, ()>) {
        let (mutating, first) = watch(client);
        let (mutating_bindings, second) = watch(client);
        let (validating, third) = watch(client);
        let (validating_bindings, fourth) = watch(client);
        let guard = Self {
            mutating,
            mutating_bindings,
            validating,
            validating_bindings,
        };
        let all = futures::future::join_all([first, second, third, fourth]);
        (guard, all.map(|_| ()).boxed())
    }

    /// Waits until every watch has seen everything once.
    pub async fn ready(&self) {
        // A store whose writer is gone is never ready; then the process is ending.
        let _ = self.mutating.wait_until_ready().await;
        let _ = self.mutating_bindings.wait_until_ready().await;
        let _ = self.validating.wait_until_ready().await;
        let _ = self.validating_bindings.wait_until_ready().await;
    }

    /// The guard as last seen.
    pub fn seen(&self) -> Guard {
        guard([
            policies(&self.mutating),
            policies(&self.mutating_bindings),
            policies(&self.validating),
            policies(&self.validating_bindings),
        ])
    }

    /// The guard as last seen, with what makes an approval true as it is now.
    pub async fn confirmed(&self, client: &Client) -> Result<Guard, Error> {
        let live = futures::try_join!(
            live::<MutatingAdmissionPolicy>(client, &MUTATING),
            live::<MutatingAdmissionPolicyBinding>(client, &MUTATING),
            live::<ValidatingAdmissionPolicy>(client, &APPROVAL),
            live::<ValidatingAdmissionPolicyBinding>(client, &APPROVAL),
        );
        let (mutating, mutating_bindings, validating, validating_bindings) =
            reading("the admission policies", live)?;
        Ok(guard([
            updated(policies(&self.mutating), &mutating),
            updated(policies(&self.mutating_bindings), &mutating_bindings),
            updated(policies(&self.validating), &validating),
            updated(policies(&self.validating_bindings), &validating_bindings),
        ]))
    }
}

/// Policies or bindings of one kind by name; `None` for one that is not there.
type ByName = BTreeMap<String, Option<GuardPolicy>>;

fn watch<K>(client: &Client) -> (Store<PartialObjectMeta<K>>, BoxFuture<'static, ()>)
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let labelled = watcher::Config::default()
        .labels(GUARD_LABEL)
        .timeout(WATCH_SECONDS);
    let (store, writer) = reflector::store();
    let follow = watcher(api, labelled)
        .default_backoff()
        .modify(|object| object.metadata.managed_fields = None)
        .reflect(writer)
        .for_each(|event| {
            if let Err(error) = event {
                tracing::warn!(%error, kind = %K::kind(&()), "a watch failed and is made anew; no plan is made before the guard is seen");
            }
            std::future::ready(())
        });
    (store, follow.boxed())
}

fn policies<K>(store: &Store<PartialObjectMeta<K>>) -> ByName
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let known = store.state();
    known
        .iter()
        .map(|object| (object.name_any(), policy(object)))
        .collect()
}

/// An object on its way out no longer guards.
fn policy<K: Resource<DynamicType = ()>>(object: &PartialObjectMeta<K>) -> Option<GuardPolicy> {
    object
        .metadata
        .deletion_timestamp
        .is_none()
        .then(|| GuardPolicy {
            kind: K::kind(&()).into_owned(),
            name: object.metadata.name.clone().unwrap_or_default(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
        })
}

async fn live<K>(client: &Client, names: &[&str]) -> kube::Result<ByName>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let reads: Vec<_> = names
        .iter()
        .map(|name| api.get_metadata_opt(name))
        .collect();
    let found = futures::future::try_join_all(reads).await?;
    let labelled = |object: &PartialObjectMeta<K>| object.labels().contains_key(GUARD_LABEL);
    Ok(names
        .iter()
        .zip(found)
        .map(|(name, object)| {
            (
                (*name).to_owned(),
                object.filter(labelled).and_then(|object| policy(&object)),
            )
        })
        .collect())
}

fn updated(mut seen: ByName, live: &ByName) -> ByName {
    seen.extend(live.clone());
    seen
}

fn guard([mutating, mutating_bindings, validating, validating_bindings]: [ByName; 4]) -> Guard {
    let holes = [
        missing(&MUTATING, &mutating, "MutatingAdmissionPolicy"),
        missing(
            &MUTATING,
            &mutating_bindings,
            "MutatingAdmissionPolicyBinding",
        ),
        missing(&VALIDATING, &validating, "ValidatingAdmissionPolicy"),
        missing(
            &VALIDATING,
            &validating_bindings,
            "ValidatingAdmissionPolicyBinding",
        ),
    ]
    .concat();
    let mut present: Vec<GuardPolicy> =
        [mutating, mutating_bindings, validating, validating_bindings]
            .into_iter()
            .flat_map(BTreeMap::into_values)
            .flatten()
            .collect();
    present.sort();
    Guard { present, holes }
}

fn missing(expected: &[&str], present: &ByName, kind: &str) -> Vec<String> {
    expected
        .iter()
        .filter(|name| present.get(**name).is_none_or(Option::is_none))
        .map(|name| format!("{kind} {name} is missing"))
        .collect()
}
