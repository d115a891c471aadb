//! What has to be read of the owners that are held, or are to be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::api::ListParams;
use kube::{Api, Client};
use rollback_api::hold::{HeldObject, HoldMeans};
use rollback_api::policy::SelfHealing;
use rollback_api::status::{PlannedTarget, TargetStatus};
use rollback_api::{HOLDS_LABEL, RevisionLedger};
use rollback_core::hold;
use rollback_core::hold::plan::{HoldRead, Right};
use rollback_core::observed::view::{HoldSeen, Live};
use rollback_core::observed::{Deployment, Fetched};
use rollback_core::plan::owner::{Lookup, Owner, healing};
use rollback_reads::budget::Budget;
use serde_json::Value;

use super::plan::Planner;
use super::{Error, Pass, RequestScope, access, all_of, raw, reading};

/// How much memory the object of one hold may take.
const MEMORY: usize = 4 << 20;

/// One object of a tool. A kind that this cluster does not serve says nothing: its owner may live in another cluster.
pub(super) async fn look(client: &Client, lookup: &Lookup, budget: &Budget) -> Fetched<Value> {
    let namespace = lookup.namespace.as_ref();
    let path = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    let url = format!(
        "/apis/{}/{}{path}/{}",
        lookup.group, lookup.version, lookup.plural
    );
    match raw::get_or_status(client, url, &lookup.name, budget).await {
        Ok(object) => Fetched::Found(object),
        Err(kube::Error::Api(status)) if raw::names_an_object(&status) => Fetched::Absent,
        Err(_) => Fetched::Unknown,
    }
}

/// The object that a hold stands on.
pub async fn object(client: &Client, means: HoldMeans, held: &HeldObject) -> Fetched<Value> {
    match hold::lookup(means, held) {
        Some(lookup) => look(client, &lookup, &Budget::of(MEMORY)).await,
        None => Fetched::Unknown,
    }
}

/// Objects that are held for ledgers of this namespace, other than the one of this name, and are not to be released: by
/// their UID.
///
/// # Errors
/// The ledgers could not be read.
pub async fn held_by_others(
    client: &Client,
    namespace: &str,
    ledger: &str,
) -> Result<BTreeSet<String>, Error> {
    let api: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(HOLDS_LABEL);
    let ledgers = reading("the RevisionLedgers", api.list(&labelled).await)?;
    let others = ledgers
        .items
        .into_iter()
        .filter(|other| other.metadata.name.as_deref() != Some(ledger));
    let holds = others.flat_map(|other| other.spec.holds);
    Ok(holds
        .filter(|hold| hold.release.is_none())
        .map(|hold| hold.object.uid)
        .collect())
}

/// What has to be known of the owners that undo a rollback, before a plan can have them held. Whether the controller has
/// the right to it only the controller can ask.
pub(super) async fn reads(
    scope: &RequestScope<'_>,
    planner: Planner,
    on: SelfHealing,
    owned: Vec<(Owner, &Deployment)>,
    objects: &BTreeMap<Owner, Fetched<Value>>,
) -> Result<BTreeMap<Owner, HoldRead>, Error> {
    if on != SelfHealing::Hold {
        return Ok(BTreeMap::new());
    }
    let mut wanted = BTreeMap::new();
    for (owner, deployment) in owned {
        let object = objects.get(&owner).cloned().unwrap_or_default();
        if healing(&owner, deployment, &object).may_undo()
            && let Some(found) = object.found()
        {
            let right = hold::plan::right(&owner, deployment, found);
            let above = hold::plan::above(&owner, found);
            wanted.insert(owner, (right, above));
        }
    }
    let reads = wanted
        .into_iter()
        .map(|(owner, (right, above))| async move {
            let granted = match (planner, right) {
                (Planner::Controller, Some(right)) => Some(is_granted(scope, &right).await?),
                (Planner::Controller | Planner::Client, _) => None,
            };
            let above = match above {
                Some(lookup) => look(scope.reader.client, &lookup, scope.budget).await,
                None => Fetched::Unknown,
            };
            Ok((owner, HoldRead { granted, above }))
        });
    Ok(all_of(reads.collect()).await?.into_iter().collect())
}

async fn is_granted(scope: &RequestScope<'_>, right: &Right) -> Result<bool, Error> {
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        resource: Some(right.resource.to_owned()),
        verb: Some(right.verb.to_owned()),
        namespace: Some(right.namespace.clone()),
        ..ResourceAttributes::default()
    };
    access::may(scope.reader.client, attributes).await
}

impl Pass<'_> {
    /// The objects of the holds of a target, until the intent to write it is stored.
    pub(super) async fn holds(
        &self,
        target: &PlannedTarget,
        progress: &TargetStatus,
        live: &Live,
    ) -> Result<Vec<HoldSeen>, Error> {
        if progress.revert.is_some() {
            return Ok(Vec::new());
        }
        let memory = &self.knowledge.memory;
        let reads = target.holds.iter().map(|planned| async move {
            let object = if hold::is_on_the_workload(planned.means) {
                let deployment = live.deployment.as_ref();
                deployment.map_or(Fetched::Absent, |it| Fetched::Found(it.0.clone()))
            } else {
                object(self.scope.reader.client, planned.means, &planned.object).await
            };
            let uid = &planned.object.uid;
            Ok(HoldSeen {
                object,
                rejection: memory.refused_holds.get(uid).cloned(),
                placed: memory.placed_holds.get(uid).copied().unwrap_or_default(),
            })
        });
        all_of(reads.collect()).await
    }
}
