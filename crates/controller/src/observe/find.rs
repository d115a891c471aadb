//! The Deployments that a request finds, before there is a plan.

use std::collections::BTreeMap;

use kube::ResourceExt;
use rollback_api::RevisionLedger;
use rollback_api::request::Target;
use rollback_core::observed::{Deployment, ReplicaSet, Seen, SeenTarget};

use super::{Error, FEW, Read, Scope, all_of, lifted, raw, reading, spec_of};

/// Finds them: few that are named by reading each, all others by reading what the namespace has.
pub async fn targets(scope: &Scope<'_>) -> Result<(Vec<SeenTarget>, Read), Error> {
    let asked = &scope.request.spec.targets;
    let named: Vec<(usize, &str)> = asked
        .iter()
        .enumerate()
        .filter_map(|(index, target)| Some((index, target.name.as_deref()?)))
        .collect();
    if named.len() < asked.len() || named.len() > FEW {
        return listed(scope).await;
    }
    let reads: Vec<_> = named
        .into_iter()
        .map(|(index, name)| by_name(scope, index, name))
        .collect();
    let mut read = Read::default();
    let mut targets = Vec::new();
    for (seen, ledger) in all_of(reads).await? {
        read.ledgers
            .extend(ledger.map(|ledger| (seen.name.clone(), ledger)));
        targets.push(seen);
    }
    Ok((targets, read))
}

async fn by_name(
    scope: &Scope<'_>,
    asked: usize,
    name: &str,
) -> Result<(SeenTarget, Option<RevisionLedger>), Error> {
    let (deployment, ledger) = futures::try_join!(scope.deployment(name), scope.ledger(name))?;
    let replica_sets = match deployment.found() {
        Some(deployment) => scope.history(deployment).await?,
        None => Vec::new(),
    };
    Ok((
        seen(name, asked, deployment, replica_sets, ledger.as_ref()),
        ledger,
    ))
}

fn seen(
    name: &str,
    asked: usize,
    deployment: Seen<Deployment>,
    replica_sets: Vec<ReplicaSet>,
    ledger: Option<&RevisionLedger>,
) -> SeenTarget {
    SeenTarget {
        name: name.to_owned(),
        asked,
        deployment,
        replica_sets,
        ledger: spec_of(ledger),
        lifted: lifted(ledger),
        ..SeenTarget::default()
    }
}

async fn listed(scope: &Scope<'_>) -> Result<(Vec<SeenTarget>, Read), Error> {
    let client = scope.client();
    let (deployments, sets, ledgers) = futures::try_join!(
        async {
            reading(
                "the Deployments",
                raw::deployments(&client, scope.namespace).await,
            )
        },
        async {
            reading(
                "the ReplicaSets",
                raw::all_replica_sets(&client, scope.namespace).await,
            )
        },
        scope.all_ledgers(),
    )?;
    let mut by_owner: BTreeMap<String, Vec<ReplicaSet>> = BTreeMap::new();
    for set in sets {
        let owner = set.controller_uid().unwrap_or_default().to_owned();
        by_owner.entry(owner).or_default().push(set);
    }
    let mut targets = Vec::new();
    for (asked, target) in scope.request.spec.targets.iter().enumerate() {
        let found = deployments
            .iter()
            .filter(|deployment| is_meant(target, deployment));
        let before = targets.len();
        targets.extend(found.map(|deployment| {
            let name = deployment.name();
            let sets = by_owner.get(deployment.uid()).cloned().unwrap_or_default();
            seen(
                name,
                asked,
                Seen::Found(deployment.clone()),
                sets,
                ledgers.get(name),
            )
        }));
        if let (true, Some(name)) = (targets.len() == before, &target.name) {
            targets.push(seen(name, asked, Seen::Absent, Vec::new(), None));
        }
    }
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let ledgers = ledgers
        .into_iter()
        .filter(|(name, ledger)| names.contains(&name.as_str()) && ledger.uid().is_some())
        .collect();
    let read = Read {
        ledgers,
        ..Read::default()
    };
    Ok((targets, read))
}

/// Whether an entry of the spec means this Deployment.
fn is_meant(target: &Target, deployment: &Deployment) -> bool {
    let labels = deployment.0.pointer("/metadata/labels");
    let has = |key: &String, value: &String| {
        let label = labels.and_then(|labels| labels.get(key)?.as_str());
        label == Some(value.as_str())
    };
    match (&target.name, &target.name_prefix, &target.selector) {
        (Some(name), _, _) => deployment.name() == name,
        (None, Some(prefix), _) => deployment.name().starts_with(prefix.as_str()),
        // A selector without labels would mean everything, so it means nothing.
        (None, None, Some(selector)) => {
            !selector.match_labels.is_empty()
                && selector
                    .match_labels
                    .iter()
                    .all(|(key, value)| has(key, value))
        }
        (None, None, None) => false,
    }
}
