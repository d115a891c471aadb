//! What has to be known before a plan is made: whether what the old template refers to is there, what the API server
//! would make of the write, and who else works on the Deployment.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment as TypedDeployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, ResourceQuota, Secret, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Resource;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{Request, Status};
use rollback_api::FIELD_MANAGER;
use rollback_api::policy::SelfHealing;
use rollback_core::history::template::Template;
use rollback_core::hold::plan::HoldRead;
use rollback_core::observed::{Deployment, Fetched, Rehearsal, Surroundings, is_refusal};
use rollback_core::plan::owner::{self, Owner};
use rollback_core::plan::references::{Presence, Reference, ReferenceKind};
use rollback_core::plan::{Checked, Choice, Proposed, Prospect};
use rollback_reads::get;
use serde_json::Value;

use super::plan::Planner;
use super::{Error, RequestScope, all_of, holds, raw, reading};

/// Completes what was chosen with all that a plan looks at.
pub async fn checked(
    scope: &RequestScope<'_>,
    planner: Planner,
    on: SelfHealing,
    proposed: Vec<Proposed<Choice>>,
) -> Result<Vec<Proposed<Checked>>, Error> {
    let prospects: Vec<Proposed<(Choice, Prospect)>> = proposed
        .into_iter()
        .map(|proposed| {
            proposed.with(|choice| {
                let prospect = choice.prospect(scope.request);
                (choice, prospect)
            })
        })
        .collect();
    let chosen: Vec<_> = prospects
        .iter()
        .filter_map(|proposed| proposed.choice.as_ref().ok())
        .collect();
    let wanted = chosen.iter().flat_map(|(_, prospect)| &prospect.references);
    let wanted: Vec<Reference> = wanted.cloned().collect();
    let owners: BTreeSet<Owner> = chosen
        .iter()
        .flat_map(|(choice, _)| owner::owners(&choice.deployment))
        .collect();
    let owned = chosen.iter().map(|(choice, _)| choice.deployment.clone());
    let owned: Vec<Deployment> = owned.collect();
    let any = !chosen.is_empty();
    let rehearsals = prospects
        .into_iter()
        .map(|proposed| rehearsed(scope, planner, proposed));
    let (present, rehearsed, lists, owners) = futures::try_join!(
        look_up(scope, wanted),
        all_of(rehearsals.collect()),
        surroundings(scope, any),
        owner_objects(scope, owners),
    )?;
    let owned = owned.iter().flat_map(|deployment| {
        let owners = owner::owners(deployment).into_iter();
        owners.map(move |owner| (owner, deployment))
    });
    let holds = holds::reads(scope, planner, on, owned.collect(), &owners).await?;
    let check = |(choice, prospect, rehearsal): (Choice, Prospect, Rehearsal)| Checked {
        references: checked_references(prospect.references, &present),
        surroundings: surroundings_of(&choice.deployment, &lists, &owners, &holds),
        choice,
        rehearsal,
    };
    let rehearsed = rehearsed.into_iter();
    Ok(rehearsed.map(|proposed| proposed.with(check)).collect())
}

async fn rehearsed(
    scope: &RequestScope<'_>,
    planner: Planner,
    proposed: Proposed<(Choice, Prospect)>,
) -> Result<Proposed<(Choice, Prospect, Rehearsal)>, Error> {
    let Proposed {
        name,
        asked,
        choice,
    } = proposed;
    let choice = match (choice, planner) {
        (Err(ending), _) => Err(ending),
        (Ok((choice, prospect)), Planner::Client) => Ok((choice, prospect, Rehearsal::LeftOut)),
        (Ok((choice, prospect)), Planner::Controller) => {
            let rehearsal = rehearse(scope, &name, &prospect.patch).await?;
            Ok((choice, prospect, rehearsal))
        }
    };
    Ok(Proposed {
        name,
        asked,
        choice,
    })
}

fn surroundings_of(
    deployment: &Deployment,
    (autoscalers, budgets, quotas): &Lists,
    owners: &BTreeMap<Owner, Fetched<Value>>,
    holds: &BTreeMap<Owner, HoldRead>,
) -> Surroundings {
    let own = owner::owners(deployment).into_iter().map(|owner| {
        let object = owners.get(&owner).cloned().unwrap_or_default();
        (owner, object)
    });
    let own: Vec<(Owner, Fetched<Value>)> = own.collect();
    let read = own.iter().filter_map(|(owner, _)| {
        let read = holds.get(owner)?;
        Some((owner.clone(), read.clone()))
    });
    Surroundings {
        autoscalers: autoscalers.clone(),
        budgets: budgets.clone(),
        quotas: quotas.clone(),
        holds: read.collect(),
        owners: own,
    }
}

/// The references of one template, and whether what they name is there.
pub async fn references(
    scope: &RequestScope<'_>,
    template: &Template,
) -> Result<Vec<(Reference, Presence)>, Error> {
    let wanted = rollback_core::plan::references::references(template);
    let present = look_up(scope, wanted.clone()).await?;
    Ok(checked_references(wanted, &present))
}

/// What is known of one object: its keys, that it is not there, or why nothing is known.
#[derive(Clone, Debug)]
enum KnownObject {
    Keys(BTreeSet<String>),
    Absent,
    Unknown(String),
}

type ByName = BTreeMap<(ReferenceKind, String), KnownObject>;

/// Looks at each object once, however many templates refer to it.
async fn look_up(scope: &RequestScope<'_>, references: Vec<Reference>) -> Result<ByName, Error> {
    let mut keyed: BTreeMap<(ReferenceKind, String), bool> = BTreeMap::new();
    // A name that no object can have may be a path to another object: nobody asks for that.
    for reference in references.into_iter().filter(Reference::can_exist) {
        let keys = !reference.keys.is_empty();
        *keyed.entry((reference.kind, reference.name)).or_default() |= keys;
    }
    let reads: Vec<_> = keyed
        .iter()
        .map(|((kind, name), keys)| async move {
            Ok(((*kind, name.clone()), look(scope, *kind, name, *keys).await))
        })
        .collect();
    Ok(all_of(reads).await?.into_iter().collect())
}

/// What cannot be looked at is unknown, which is said in the plan: that somebody forgot a permission must not
/// keep production broken.
async fn look(
    scope: &RequestScope<'_>,
    kind: ReferenceKind,
    name: &str,
    keys: bool,
) -> KnownObject {
    let namespace = Some(scope.namespace);
    let url = match kind {
        ReferenceKind::ConfigMap => ConfigMap::url_path(&(), namespace),
        ReferenceKind::Secret => Secret::url_path(&(), namespace),
        ReferenceKind::PersistentVolumeClaim => PersistentVolumeClaim::url_path(&(), namespace),
        ReferenceKind::ServiceAccount => ServiceAccount::url_path(&(), namespace),
        ReferenceKind::PriorityClass => PriorityClass::url_path(&(), None),
    };
    let client = scope.client();
    let found = if keys {
        raw::get(&client, url, name, scope.budget).await
    } else {
        raw::get_metadata(&client, url, name, scope.budget).await
    };
    match found {
        Ok(Some(object)) => KnownObject::Keys(keys_of(&object)),
        Ok(None) => KnownObject::Absent,
        Err(kube::Error::Api(status)) => KnownObject::Unknown(format!("HTTP {}", status.code)),
        Err(_) => KnownObject::Unknown("the API server did not answer".to_owned()),
    }
}

/// The keys of a ConfigMap or Secret. The values are dropped here and go nowhere.
fn keys_of(object: &Value) -> BTreeSet<String> {
    ["data", "binaryData"]
        .iter()
        .filter_map(|field| object.get(field)?.as_object())
        .flat_map(|map| map.keys().cloned())
        .collect()
}

fn checked_references(references: Vec<Reference>, known: &ByName) -> Vec<(Reference, Presence)> {
    references
        .into_iter()
        .map(|reference| {
            let presence = match known.get(&(reference.kind, reference.name.clone())) {
                None if !reference.can_exist() => Presence::Missing,
                None => Presence::Unknown("it was not looked at".to_owned()),
                Some(KnownObject::Unknown(why)) => Presence::Unknown(why.clone()),
                Some(KnownObject::Absent) => Presence::Missing,
                Some(KnownObject::Keys(keys)) => {
                    let missing: Vec<String> = reference.keys.difference(keys).cloned().collect();
                    if missing.is_empty() {
                        Presence::Present
                    } else {
                        Presence::MissingKeys(missing)
                    }
                }
            };
            (reference, presence)
        })
        .collect()
}

/// Asks the API server, with all its plugins and webhooks, what it would make of the write. Nothing is stored.
async fn rehearse(scope: &RequestScope<'_>, name: &str, patch: &Value) -> Result<Rehearsal, Error> {
    let unsaid = |why: String| Ok(Rehearsal::Unsaid(why));
    let Ok(patch) = serde_json::from_value::<json_patch::Patch>(patch.clone()) else {
        return unsaid("the write cannot be expressed".to_owned());
    };
    let parameters = PatchParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let url = TypedDeployment::url_path(&(), Some(scope.namespace));
    let request = match Request::new(url).patch::<()>(name, &parameters, &Patch::Json(patch)) {
        Ok(request) => request,
        Err(error) => return unsaid(error.to_string()),
    };
    match get::send(scope.reader.client, request, scope.budget).await {
        Ok(stored) => Ok(Rehearsal::Stored(Deployment(stored))),
        // A webhook with side effects takes no dry runs; it may well take the write itself.
        Err(kube::Error::Api(status)) if takes_no_dry_run(&status) => {
            unsaid(status.message.clone())
        }
        Err(kube::Error::Api(status)) if is_refusal(status.code) => Ok(Rehearsal::Refused {
            code: status.code,
            message: status.message.clone(),
        }),
        Err(kube::Error::Api(status)) => {
            unsaid(format!("HTTP {}: {}", status.code, status.message))
        }
        Err(error) => reading("what the API server would make of the write", Err(error)),
    }
}

/// Whether it was not the write that was refused, but to say beforehand what would become of it.
fn takes_no_dry_run(status: &Status) -> bool {
    status.code == 400 && status.message.contains("does not support dry run")
}

type Lists = (
    Fetched<Vec<Value>>,
    Fetched<Vec<Value>>,
    Fetched<Vec<Value>>,
);

/// The autoscalers, disruption budgets and quotas of the namespace. They inform; without them a plan is made all
/// the same.
async fn surroundings(scope: &RequestScope<'_>, any: bool) -> Result<Lists, Error> {
    if !any {
        // There will be no plan.
        return Ok(Lists::default());
    }
    let client = scope.client();
    let namespace = Some(scope.namespace);
    let read = |url: String| {
        let client = client.clone();
        async move {
            raw::list(&client, url, &ListParams::default(), scope.budget)
                .await
                .map_or(Fetched::Unknown, Fetched::Found)
        }
    };
    Ok(futures::join!(
        read(HorizontalPodAutoscaler::url_path(&(), namespace)),
        read(PodDisruptionBudget::url_path(&(), namespace)),
        read(ResourceQuota::url_path(&(), namespace)),
    ))
}

/// The objects that say whether an owner heals itself. Unread is unknown.
async fn owner_objects(
    scope: &RequestScope<'_>,
    owners: BTreeSet<Owner>,
) -> Result<BTreeMap<Owner, Fetched<Value>>, Error> {
    let reads: Vec<_> = owners
        .into_iter()
        .map(|owner| async move {
            let Some(lookup) = owner::lookup(&owner) else {
                return Ok((owner, Fetched::Unknown));
            };
            let object = holds::look(scope.reader.client, &lookup, scope.budget).await;
            Ok((owner, object))
        })
        .collect();
    Ok(all_of(reads).await?.into_iter().collect())
}
