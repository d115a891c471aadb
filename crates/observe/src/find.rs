//! The Deployments that a request finds, before there is a plan.

use std::collections::{BTreeMap, BTreeSet};

use rollback_api::request::Target;
use rollback_api::{RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use rollback_core::observed::{Deployment, ReplicaSet};
use rollback_core::plan::Candidate;
use rollback_reads::history::{self, Found as History};
use rollback_reads::is_too_large;

use super::target::MOST_TEMPLATES;
use super::{Error, FEW, RequestScope, Size, all_of, lifted, raw, reading, spec_of};

/// Finds them: few that are named by reading each, all others by reading what the namespace has.
pub async fn candidates(scope: &RequestScope<'_>) -> Result<Vec<Candidate>, Error> {
    let asked = &scope.request.spec.targets;
    let named: Vec<(usize, &str)> = asked
        .iter()
        .enumerate()
        .filter_map(|(index, target)| Some((index, target.name.as_deref()?)))
        .collect();
    let mut found = if named.len() < asked.len() || named.len() > FEW {
        listed(scope).await?
    } else {
        let reads = named.into_iter();
        all_of(
            reads
                .map(|(index, name)| by_name(scope, index, name))
                .collect(),
        )
        .await?
    };
    for seen in &mut found {
        let asked = scope.request.spec.targets.get(seen.asked);
        if let Some(name) = asked.and_then(|target| target.to.backup.as_deref()) {
            seen.backup = scope.backup(name).await?;
        }
    }
    Ok(found)
}

async fn by_name(scope: &RequestScope<'_>, asked: usize, name: &str) -> Result<Candidate, Error> {
    let (deployment, ledger) = futures::try_join!(scope.deployment(name), scope.ledger(name))?;
    let history = match &deployment {
        Some(deployment) => {
            let target = scope.request.spec.targets.get(asked);
            let wanted = target.and_then(|target| target.to.revision);
            scope.history_with(deployment, wanted).await?
        }
        None => History::default(),
    };
    Ok(seen(name, asked, deployment, history, ledger.as_ref()))
}

fn seen(
    name: &str,
    asked: usize,
    deployment: Option<Deployment>,
    history: History,
    ledger: Option<&RevisionLedger>,
) -> Candidate {
    Candidate {
        name: name.to_owned(),
        asked,
        deployment,
        replica_sets: history.sets,
        history_cut: history.cut,
        ledger: spec_of(ledger),
        lifted: lifted(ledger),
        backup: None,
    }
}

async fn listed(scope: &RequestScope<'_>) -> Result<Vec<Candidate>, Error> {
    let client = scope.client();
    let asked = &scope.request.spec.targets;
    let is_asked = |deployment: &Deployment| asked.iter().any(|it| is_meant(it, deployment));
    let deployments = raw::deployments(&client, scope.namespace, scope.budget, is_asked).await;
    let deployments = reading("the Deployments", deployments)?;
    let uids: BTreeSet<&str> = deployments.iter().map(Deployment::uid).collect();
    let ledger_of = |name: &str| ledger::name(WorkloadKind::Deployment, name);
    let names = deployments.iter().map(Deployment::name).map(ledger_of);
    let names: BTreeSet<String> = names.collect();
    let ((sets, cut), ledgers) = futures::try_join!(
        sets_of(scope, &deployments, &uids),
        scope.all_ledgers(|name| names.contains(name)),
    )?;
    let mut by_owner: BTreeMap<String, Vec<ReplicaSet>> = BTreeMap::new();
    for set in sets {
        let owner = set.controller_uid().unwrap_or_default().to_owned();
        by_owner.entry(owner).or_default().push(set);
    }
    let is_named = |deployment: &Deployment| {
        let name = Some(deployment.name());
        asked.iter().any(|target| target.name.as_deref() == name)
    };
    let mut targets = Vec::new();
    for (asked, target) in scope.request.spec.targets.iter().enumerate() {
        let found = deployments
            .iter()
            .filter(|deployment| is_meant(target, deployment));
        let before = targets.len();
        targets.extend(found.map(|deployment| {
            let name = deployment.name();
            // An entry that names it goes before one that finds it; found by several others it is refused, whatever its
            // history. So its history is needed once.
            let elsewhere = target.name.is_none() && is_named(deployment);
            let sets = (!elsewhere).then(|| by_owner.remove(deployment.uid()));
            let sets = sets.flatten().unwrap_or_default();
            let found = History { sets, cut };
            seen(
                name,
                asked,
                Some(deployment.clone()),
                found,
                ledgers.get(&ledger_of(name)),
            )
        }));
        if let (true, Some(name)) = (targets.len() == before, &target.name) {
            let nothing = History::default();
            targets.push(seen(name, asked, None, nothing, None));
        }
    }
    Ok(targets)
}

/// How much memory the history of one Deployment may take when there are too many of them.
const MOST_OF_ONE: usize = 12 << 20;

/// The `ReplicaSets` of these Deployments: all of them if there is room for that, else the newest of each.
async fn sets_of(
    scope: &RequestScope<'_>,
    deployments: &[Deployment],
    uids: &BTreeSet<&str>,
) -> Result<(Vec<ReplicaSet>, bool), Error> {
    let client = scope.client();
    let is_its = |owner: &str| uids.contains(owner);
    let whole = raw::replica_sets_of(&client, scope.namespace, scope.budget, is_its).await;
    match whole {
        Err(error) if scope.size == Size::Large && is_too_large(&error) => {}
        whole => return Ok((reading("the ReplicaSets", whole)?, false)),
    }
    let heads = history::heads(&client, scope.namespace, None, is_its).await;
    let (heads, cut) = reading("the ReplicaSets", heads)?;
    let mut by_owner: BTreeMap<String, Vec<ReplicaSet>> = BTreeMap::new();
    for set in heads {
        let owner = set.controller_uid().unwrap_or_default().to_owned();
        by_owner.entry(owner).or_default().push(set);
    }
    let mut sets = Vec::new();
    for (place, deployment) in deployments.iter().enumerate() {
        let heads = by_owner.remove(deployment.uid()).unwrap_or_default();
        let named = |target: &&Target| target.name.as_deref() == Some(deployment.name());
        let wish = history::Wish {
            templates: MOST_TEMPLATES,
            memory: (scope.budget.left() / (deployments.len() - place).max(1)).min(MOST_OF_ONE),
            revision: scope
                .request
                .spec
                .targets
                .iter()
                .find(named)
                .and_then(|target| target.to.revision),
            all_or_nothing: false,
        };
        let read = history::templates(
            &client,
            scope.namespace,
            deployment,
            heads,
            wish,
            scope.budget,
        );
        sets.extend(reading("the ReplicaSets", read.await)?);
    }
    Ok((sets, cut))
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
