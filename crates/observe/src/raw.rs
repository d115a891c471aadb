//! Deployments and `ReplicaSets` as the API server serves them, byte for byte: typed structs would drop
//! the fields that are newer than they are. Each read takes from a budget of memory and ends where that does.

use k8s_openapi::api::apps::v1;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Status;
use kube::{Client, Resource};
use rollback_core::observed::{Deployment, ReplicaSet};
use rollback_reads::answer::{LARGEST, TooLarge};
use rollback_reads::budget::Budget;
pub use rollback_reads::get::deployment;
pub use rollback_reads::history::selector;
use rollback_reads::list::{self, End, Objects, What};
use rollback_reads::value::Managers;
use rollback_reads::{get as one, history};
use serde_json::Value;

/// How many objects one page of a list has.
const PAGE: u32 = 500;
/// How many pods that are on their way out are looked at.
const MOST_LEAVING: usize = 500;

/// One `ReplicaSet`, or `None`.
pub async fn replica_set(
    client: &Client,
    namespace: &str,
    name: &str,
    budget: &Budget,
) -> kube::Result<Option<ReplicaSet>> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    Ok(get(client, url, name, budget).await?.map(ReplicaSet))
}

/// One object as it is served, or `None`.
pub async fn get(
    client: &Client,
    url: String,
    name: &str,
    budget: &Budget,
) -> kube::Result<Option<Value>> {
    one::found(get_or_status(client, url, name, budget).await)
}

/// One object as it is served, or what the API server says instead.
pub async fn get_or_status(
    client: &Client,
    url: String,
    name: &str,
    budget: &Budget,
) -> kube::Result<Value> {
    one::whole(client, &url, name, budget).await
}

/// Whether it is an object that was not found, and not its kind.
pub fn names_an_object(status: &Status) -> bool {
    let details = status.details.as_ref();
    status.code == 404 && details.is_some_and(|details| !details.name.is_empty())
}

/// The metadata of one object, or `None`: for what is only asked whether it is there.
pub async fn get_metadata(
    client: &Client,
    url: String,
    name: &str,
    budget: &Budget,
) -> kube::Result<Option<Value>> {
    one::found(one::metadata(client, &url, name, budget).await)
}

/// The Deployments of the namespace that are wanted.
pub async fn deployments(
    client: &Client,
    namespace: &str,
    budget: &Budget,
    is_wanted: impl Fn(&Deployment) -> bool,
) -> kube::Result<Vec<Deployment>> {
    let url = v1::Deployment::url_path(&(), Some(namespace));
    let mut found = Vec::new();
    let mut items = Objects::new(budget, Managers::Kept, |object| {
        let deployment = Deployment(object);
        let wanted = is_wanted(&deployment);
        if wanted {
            found.push(deployment);
        }
        wanted
    });
    let all = ListParams::default().limit(PAGE);
    whole(list::pages(client, &url, What::Whole, all, &mut items).await?)?;
    Ok(found)
}

/// The `ReplicaSets` of the namespace whose controller is wanted.
pub async fn replica_sets_of(
    client: &Client,
    namespace: &str,
    budget: &Budget,
    is_wanted: impl Fn(&str) -> bool,
) -> kube::Result<Vec<ReplicaSet>> {
    let url = v1::ReplicaSet::url_path(&(), Some(namespace));
    let mut found = Vec::new();
    let mut items = Objects::new(budget, Managers::Dropped, |object| {
        let set = ReplicaSet(object);
        let wanted = set.controller_uid().is_some_and(&is_wanted);
        if wanted {
            found.push(set);
        }
        wanted
    });
    let mut page = ListParams::default().limit(PAGE);
    loop {
        // A page that is too long is not asked for in smaller ones: then metadata come first.
        match list::page(client, &url, What::Whole, &page, LARGEST, &mut items).await {
            Ok((None, _)) => return Ok(found),
            Ok((Some(next), _)) => page = page.continue_token(&next),
            Err(error) => {
                items.give_back();
                return Err(error);
            }
        }
    }
}

/// The first objects, as they are served: for what explains and decides nothing.
pub async fn list(
    client: &Client,
    url: String,
    parameters: &ListParams,
    budget: &Budget,
) -> kube::Result<Vec<Value>> {
    list::first(client, &url, parameters.clone(), budget).await
}

/// All objects, as they are served.
pub async fn all(
    client: &Client,
    url: String,
    parameters: &ListParams,
    budget: &Budget,
) -> kube::Result<Vec<Value>> {
    let mut found = Vec::new();
    let mut items = Objects::new(budget, Managers::Dropped, |object| {
        found.push(object);
        true
    });
    let pages = parameters.clone().limit(PAGE);
    whole(list::pages(client, &url, What::Whole, pages, &mut items).await?)?;
    Ok(found)
}

/// What of the history is wanted when only what is live, and what was before it, matters.
pub fn newest(budget: &Budget) -> history::Wish {
    history::Wish {
        templates: 4,
        memory: budget.left(),
        revision: None,
        all_or_nothing: false,
    }
}

/// The `ReplicaSets` of the Deployment by their metadata, whatever there is of them.
pub async fn owners(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
) -> kube::Result<Vec<ReplicaSet>> {
    let Some(selector) = selector(deployment) else {
        return Ok(Vec::new());
    };
    let uid = deployment.uid();
    let (heads, _) =
        history::heads(client, namespace, Some(&selector), |owner| owner == uid).await?;
    Ok(heads)
}

/// The pods that the Deployment's selector finds and that are on their way out.
pub async fn leaving_pods(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
    budget: &Budget,
) -> kube::Result<Vec<Value>> {
    let Some(selector) = selector(deployment) else {
        return Ok(Vec::new());
    };
    let url = Pod::url_path(&(), Some(namespace));
    let labelled = ListParams::default().labels_from(&selector).limit(PAGE);
    let mut pods = Vec::new();
    let mut items = Objects::new(budget, Managers::Dropped, |pod| {
        let leaves = pod.pointer("/metadata/deletionTimestamp").is_some();
        let is_kept = leaves && pods.len() < MOST_LEAVING;
        if is_kept {
            pods.push(pod);
        }
        is_kept
    });
    list::pages(client, &url, What::Whole, labelled, &mut items).await?;
    Ok(pods)
}

/// Nothing is decided by a part of a list.
pub fn whole(end: End) -> kube::Result<()> {
    match end {
        End::Reached => Ok(()),
        End::Cut => Err(TooLarge::Memory.into()),
    }
}
