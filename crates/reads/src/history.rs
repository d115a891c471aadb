//! The `ReplicaSets` of a Deployment. There may be any number of them, of any size, and whoever may make one decides on
//! that: so metadata come first, and templates only as far as there is room, those that matter before the others.
//!
//! A `ReplicaSet` whose template was not read has no `spec`.

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Client, Resource};
use rollback_core::observed::{Deployment, ReplicaSet};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::TooLarge;
use crate::budget::Budget;
use crate::is_too_large;
use crate::list::{self, End, Objects, Parts, What};
use crate::value::Managers;

/// How many whole `ReplicaSets` are asked for at first. More than Deployments keep that nobody has told to keep more.
const FIRST: u32 = 50;
/// How many bytes these may have.
const FIRST_BYTES: usize = 1 << 20;
/// How many objects a page of metadata has.
const PAGE: u32 = 250;
/// How many `ReplicaSets` of one Deployment are known by their metadata.
const MOST_KNOWN: usize = 2_000;
/// How many templates are read at the same time.
const AT_ONCE: usize = 4;
/// How many templates that are too large are tried, one after the other.
const MOST_TRIED: usize = 8;

/// Which templates are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// How many at most. The one that is live comes first, then the newest.
    pub templates: usize,
    /// How many bytes they may take in memory, all together.
    pub memory: usize,
    /// A revision that is wanted whatever its age.
    pub revision: Option<i64>,
    /// Whether a history that is not read whole is worth nothing, so that no time is spent on a part of it.
    pub all_or_nothing: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The `ReplicaSets` that the Deployment controls; those that were not read without `spec`.
    pub sets: Vec<ReplicaSet>,
    /// Whether there are more than are known.
    pub cut: bool,
}

/// Which objects a Deployment counts as its own.
pub fn selector(deployment: &Deployment) -> Option<Selector> {
    let selector = deployment.0.pointer("/spec/selector")?.clone();
    serde_json::from_value::<LabelSelector>(selector)
        .ok()?
        .try_into()
        .ok()
}

/// The history of a Deployment. Ordinary ones take one request; of others, metadata come first.
pub async fn history(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
    wish: Wish,
    budget: &Budget,
) -> kube::Result<Found> {
    let Some(selector) = selector(deployment) else {
        return Ok(Found::default());
    };
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let labelled = ListParams::default().labels_from(&selector);
    let (mut sets, uid) = (Vec::new(), deployment.uid());
    let mut objects = Objects::new(budget, Managers::Dropped, |set| {
        let set = ReplicaSet(set);
        let is_its = set.controller_uid() == Some(uid);
        if is_its {
            sets.push(set);
        }
        is_its
    });
    let few = labelled.clone().limit(FIRST);
    let page = list::page(client, &url, What::Whole, &few, FIRST_BYTES, &mut objects).await;
    match page {
        Ok((None, _)) => return Ok(Found { sets, cut: false }),
        Ok(_) => objects.give_back(),
        Err(error) if is_too_large(&error) => objects.give_back(),
        Err(error) => return Err(error),
    }
    drop(sets);
    if wish.all_or_nothing {
        return Err(TooLarge::Memory.into());
    }
    live(client, namespace, deployment, wish, budget).await
}

/// The history of a Deployment with metadata first and few templates, for who wants to know what is live only.
pub async fn live(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
    wish: Wish,
    budget: &Budget,
) -> kube::Result<Found> {
    let Some(selector) = selector(deployment) else {
        return Ok(Found::default());
    };
    let uid = deployment.uid();
    let (heads, cut) = heads(client, namespace, Some(&selector), |owner| owner == uid).await?;
    let sets = templates(client, namespace, deployment, heads, wish, budget).await?;
    Ok(Found { sets, cut })
}

/// One `ReplicaSet` by its name; `list` is all that is asked for.
pub async fn named(
    client: &Client,
    namespace: &str,
    name: &str,
    budget: &Budget,
) -> kube::Result<Option<ReplicaSet>> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let mut found = None;
    let mut objects = Objects::new(budget, Managers::Dropped, |set| {
        let set = ReplicaSet(set);
        let is_meant = set.name() == name;
        if is_meant {
            found = Some(set);
        }
        is_meant
    });
    list::page(
        client,
        &url,
        What::Whole,
        &only,
        crate::answer::LARGEST,
        &mut objects,
    )
    .await?;
    Ok(found)
}

/// The metadata of one `ReplicaSet` by its name, if something controls it.
pub async fn head(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<ReplicaSet>> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let mut found = None;
    let mut parts = Parts::new(|head: Head| {
        if let Some(owner) = head
            .metadata
            .controller()
            .filter(|_| head.metadata.name == name)
        {
            found = Some(head.metadata.known(&owner));
        }
    });
    list::pages(client, &url, What::Metadata, only, &mut parts).await?;
    Ok(found)
}

/// The metadata of `ReplicaSets`, of those whose controller is wanted, and whether there are more than are known.
pub async fn heads(
    client: &Client,
    namespace: &str,
    selector: Option<&Selector>,
    is_wanted: impl Fn(&str) -> bool,
) -> kube::Result<(Vec<ReplicaSet>, bool)> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let mut parameters = ListParams::default().limit(PAGE);
    if let Some(selector) = selector {
        parameters = parameters.labels_from(selector);
    }
    let mut heads = Vec::new();
    let mut surplus = false;
    let mut parts = Parts::new(|head: Head| {
        let Some(owner) = head.metadata.controller().filter(|it| is_wanted(&it.uid)) else {
            return;
        };
        if heads.len() < MOST_KNOWN {
            heads.push(head.metadata.known(&owner));
        } else {
            surplus = true;
        }
    });
    let end = list::pages(client, &url, What::Metadata, parameters, &mut parts).await?;
    Ok((heads, surplus || end == End::Cut))
}

/// Reads the templates of those that matter: the one that is live, the one that is wished for, then the newest.
pub async fn templates(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
    heads: Vec<ReplicaSet>,
    wish: Wish,
    budget: &Budget,
) -> kube::Result<Vec<ReplicaSet>> {
    let mut heads = heads;
    sort(&mut heads, deployment, wish.revision);
    let before = budget.left();
    let names: Vec<String> = heads
        .iter()
        .filter(|set| !set.is_deleting())
        .take(wish.templates)
        .map(|set| set.name().to_owned())
        .collect();
    let reads: Vec<_> = names
        .iter()
        .map(|name| named(client, namespace, name, budget))
        .collect();
    let mut reads = stream::iter(reads).buffered(AT_ONCE);
    let mut tried = 0;
    while let Some(read) = reads.next().await {
        if before.saturating_sub(budget.left()) > wish.memory {
            break;
        }
        match read {
            Ok(Some(set)) => {
                let same = |head: &&mut ReplicaSet| head.uid() == set.uid();
                if let Some(head) = heads.iter_mut().find(same) {
                    *head = set;
                }
            }
            Ok(None) => {}
            // This one is too large, which says nothing about the next.
            Err(error) if is_too_large(&error) => {
                tried += 1;
                if tried >= MOST_TRIED {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(heads)
}

/// The order in which templates are read.
fn sort(heads: &mut [ReplicaSet], deployment: &Deployment, wanted: Option<i64>) {
    let live = deployment.revision();
    heads.sort_by_cached_key(|set| {
        let number = number(set);
        let is_live = live.is_some() && number == live;
        let is_wanted = wanted.is_some_and(|wanted| {
            number == Some(wanted) || former(set).any(|former| former == wanted)
        });
        // What has no number yet was made just now.
        let newest = std::cmp::Reverse(number.unwrap_or(i64::MAX));
        (!is_live, !is_wanted, newest)
    });
}

fn number(set: &ReplicaSet) -> Option<i64> {
    set.annotation(rollback_api::REVISION)?.parse().ok()
}

fn former(set: &ReplicaSet) -> impl Iterator<Item = i64> {
    set.annotation(rollback_api::REVISION_HISTORY)
        .unwrap_or_default()
        .split(',')
        .filter_map(|number| number.trim().parse().ok())
}

#[derive(Deserialize)]
struct Head {
    metadata: Metadata,
}

/// What of the metadata is kept. Labels and annotations may be of any size, so only those that are looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    #[serde(default)]
    creation_timestamp: Option<String>,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Annotations,
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
struct Labels {
    #[serde(rename = "pod-template-hash")]
    hash: Option<String>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "deployment.kubernetes.io/revision")]
    revision: Option<String>,
    #[serde(rename = "deployment.kubernetes.io/revision-history")]
    history: Option<String>,
    #[serde(rename = "kubernetes.io/change-cause")]
    cause: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    controller: bool,
}

/// How much of a text that anybody may write is kept.
const TEXT: usize = 4096;

impl Metadata {
    fn controller(&self) -> Option<Owner> {
        let mut owners = self.owner_references.iter();
        owners.find(|owner| owner.controller).cloned()
    }

    fn known(self, owner: &Owner) -> ReplicaSet {
        let mut annotations = serde_json::Map::new();
        let texts = [
            (rollback_api::REVISION, self.annotations.revision),
            (rollback_api::REVISION_HISTORY, self.annotations.history),
            (rollback_api::CHANGE_CAUSE, self.annotations.cause),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                let text: String = text.chars().take(TEXT).collect();
                annotations.insert(key.to_owned(), Value::String(text));
            }
        }
        let mut metadata = json!({
            "name": self.name, "uid": self.uid, "creationTimestamp": self.creation_timestamp,
            "labels": {"pod-template-hash": self.labels.hash},
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
                "controller": true,
            }],
        });
        if let Some(at) = self.deletion_timestamp {
            metadata["deletionTimestamp"] = Value::String(at);
        }
        ReplicaSet(json!({ "metadata": metadata }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, number: &str, former: &str) -> ReplicaSet {
        ReplicaSet(json!({"metadata": {"name": name, "annotations": {
            "deployment.kubernetes.io/revision": number, "deployment.kubernetes.io/revision-history": former,
        }}}))
    }

    #[test]
    fn the_live_one_comes_first_and_then_what_is_asked_for_and_then_the_newest() {
        let deployment = Deployment(
            json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "7"}}}),
        );
        let mut sets = vec![
            set("a", "1", ""),
            set("b", "9", ""),
            set("c", "7", ""),
            set("d", "5", "2,3"),
            set("e", "", ""),
            set("f", "8", ""),
        ];
        sort(&mut sets, &deployment, Some(3));
        let order: String = sets.iter().map(ReplicaSet::name).collect();
        assert_eq!(order, "cdebfa");
    }
}
