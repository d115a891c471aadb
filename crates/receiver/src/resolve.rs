//! Which Deployment an alert is about, and whether what it complains of is what is live now.
//!
//! An alert that comes late, or again, must not roll back the version that came after the bad one: so what is bad has to be
//! live, and to have been live already when the trouble began.

pub mod about;
mod messenger;
pub mod names;
mod read;
mod release;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use rollback_api::RevisionLedgerSpec;
use rollback_core::evidence::trigger::live_since;
use rollback_core::observed::{Deployment, ReplicaSet};
use rollback_reads::budget::Budget;
use rollback_reads::{get, is_too_large};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use about::About;

/// Label by which an alert may say which image is bad.
pub const BAD_IMAGE: &str = "rollback_bad_image";
/// Label by which an alert may say what is bad: a revision number, a digest of a template, a hash of a `ReplicaSet`, an
/// image or its tag.
pub const BAD_REVISION: &str = "bad_revision";

/// Label with the release that Sentry saw the event of.
const RELEASE: &str = "sentry_release";

/// How many Deployments are in memory at the same time, whoever delivers. Each takes at most [`read::ROOM`].
const AT_ONCE: usize = 6;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// A Deployment as it is now, as long as it keeps its place in memory.
#[derive(Clone, Debug)]
pub struct Live {
    /// Where it is.
    pub namespace: String,
    /// The Deployment.
    pub deployment: Deployment,
    replica_sets: Vec<ReplicaSet>,
    ledger: Option<RevisionLedgerSpec>,
    /// UID of the `ReplicaSet` of the pod that the alert is about.
    blamed: Option<String>,
    _place: Option<Arc<SemaphorePermit<'static>>>,
}

/// Why there is nothing to ask for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unresolved {
    /// It is about no Deployment that there is.
    #[error("{0}")]
    NotMapped(String),
    /// The namespace does not let this program look.
    #[error("{0}")]
    NotAllowed(String),
    /// The API server does not answer now.
    #[error("the API server does not answer: {0}")]
    Unavailable(String),
}

/// Reads the Deployment that an alert is about: the first of these that there is. What leads nowhere lets the next speak.
pub async fn live(client: &Client, abouts: &[About]) -> Result<Live, Unresolved> {
    let mut why: Vec<String> = Vec::new();
    for about in abouts {
        match one(client, about).await {
            Err(Unresolved::NotMapped(reason)) => why.push(reason),
            found => return found,
        }
    }
    Err(Unresolved::NotMapped(why.join("; ")))
}

async fn one(client: &Client, about: &About) -> Result<Live, Unresolved> {
    // Who has to wait too long is told to send it again. It is never closed.
    let place = PLACES.acquire().await.ok().map(Arc::new);
    let room = Budget::of(read::ROOM);
    let live = match about {
        About::Deployment { namespace, name } => {
            of_deployment(client, namespace, name, None, &room).await
        }
        About::Pod { namespace, name } => of_pod(client, namespace, name, &room).await,
    }?;
    Ok(Live {
        _place: place,
        ..live
    })
}

async fn of_deployment(
    client: &Client,
    namespace: &str,
    name: &str,
    blamed: Option<String>,
    room: &Budget,
) -> Result<Live, Unresolved> {
    let (deployment, ledger) = futures::try_join!(
        get::deployment(client, namespace, name, room),
        read::ledger(client, namespace, name)
    )
    .map_err(|error| failed(namespace, &error))?;
    let Some(deployment) = deployment else {
        return Err(Unresolved::NotMapped(format!(
            "there is no Deployment {namespace}/{name}"
        )));
    };
    let replica_sets = read::live_set(client, namespace, &deployment, room)
        .await
        .map_err(|error| failed(namespace, &error))?;
    Ok(Live {
        namespace: namespace.to_owned(),
        deployment,
        replica_sets,
        ledger,
        blamed,
        _place: None,
    })
}

/// Pods that crash come and go: of one that is gone its name still says which `ReplicaSet` made it.
async fn of_pod(
    client: &Client,
    namespace: &str,
    name: &str,
    room: &Budget,
) -> Result<Live, Unresolved> {
    let pod = read::pod(client, namespace, name, room)
        .await
        .map_err(|error| failed(namespace, &error))?;
    let of_pod = match &pod {
        Some(pod) => owner(pod, "ReplicaSet"),
        None => name.rsplit_once('-').map(|(set, _)| set),
    };
    let Some(set) = of_pod else {
        return Err(Unresolved::NotMapped(format!(
            "the pod {namespace}/{name} belongs to no ReplicaSet"
        )));
    };
    let set = read::replica_set(client, namespace, set)
        .await
        .map_err(|error| failed(namespace, &error))?;
    let Some((set, deployment)) = set
        .as_ref()
        .and_then(|set| Some((set, owner(&set.0, "Deployment")?)))
    else {
        return Err(Unresolved::NotMapped(format!(
            "the pod {namespace}/{name} belongs to no Deployment that there is"
        )));
    };
    let blamed = Some(set.uid().to_owned());
    let live = of_deployment(client, namespace, deployment, blamed, room).await?;
    if live.tells_of_others() {
        return Err(Unresolved::NotMapped(format!(
            "the pod {namespace}/{name} is of the Deployment {deployment}, which tells of others and is not what it is about"
        )));
    }
    Ok(live)
}

/// Name of the controller of an object, if it is of this kind.
fn owner<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let is_meant = |owner: &&Value| {
        owner.get("controller") == Some(&Value::Bool(true))
            && owner.get("kind").and_then(Value::as_str) == Some(kind)
            && owner
                .get("apiVersion")
                .and_then(Value::as_str)
                .is_some_and(|version| version.starts_with("apps/"))
    };
    owners.iter().find(is_meant)?.get("name")?.as_str()
}

/// What an error of the API server means for the alert.
fn failed(namespace: &str, error: &kube::Error) -> Unresolved {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => Unresolved::NotAllowed(format!(
            "namespace {namespace} does not let the receiver look: bind the ClusterRoles rollback-receiver-reader and \
             rollback-trigger to ServiceAccount rollback-system/rollback-receiver there"
        )),
        // Sending it again would not help.
        other if is_too_large(other) => Unresolved::NotMapped(format!(
            "what it is about in namespace {namespace} is larger than the receiver reads: {}",
            short(other)
        )),
        other => Unresolved::Unavailable(short(other)),
    }
}

/// An error in a few words, for logs and answers.
pub fn short(error: &kube::Error) -> String {
    rollback_core::message::text::plain(&error.to_string(), 200)
}

impl Live {
    /// Whether it is an exporter, by its name, by the name that it has among others, or by a container of it.
    fn tells_of_others(&self) -> bool {
        let template = self.deployment.template();
        let labels = template.as_json().pointer("/metadata/labels");
        let called = labels.and_then(|labels| labels.get("app.kubernetes.io/name")?.as_str());
        let images = template.main_images();
        let containers = images.keys().map(String::as_str);
        containers
            .chain(called)
            .chain([self.deployment.name()])
            .any(messenger::is_exporter)
    }

    /// Why an alert that began at this time, with these labels, is not about what is live now; `None` when it is.
    pub fn stale(
        &self,
        started_at: Timestamp,
        labels: &BTreeMap<String, String>,
    ) -> Option<String> {
        if let Some(release) = labels.get(RELEASE)
            && release::is_another(release, &self.deployment.template())
        {
            return Some("the release that it is about is not live".to_owned());
        }
        let set = self.deployment.live_set(&self.replica_sets);
        if let Some(blamed) = &self.blamed
            && set.map(ReplicaSet::uid) != Some(blamed)
        {
            return Some("the pod that it is about is not of the version that is live".to_owned());
        }
        if let Some(image) = labels.get(BAD_IMAGE)
            && !self.has_image(image)
        {
            return Some("the image that it is about is not live".to_owned());
        }
        if let Some(revision) = labels.get(BAD_REVISION)
            && !self.is_revision(revision, set)
        {
            return Some("the revision that it is about is not live".to_owned());
        }
        match live_since(&self.deployment, &self.replica_sets, self.ledger.as_ref()) {
            None => Some("it is not known since when what is live has been live".to_owned()),
            Some(since) if started_at < since => Some(format!(
                "it began at {started_at:.0}, and what is live has been live since {since:.0} only"
            )),
            Some(_) => None,
        }
    }

    fn has_image(&self, image: &str) -> bool {
        let images = self.deployment.template().images();
        images.values().any(|live| live == image)
    }

    fn is_revision(&self, revision: &str, set: Option<&ReplicaSet>) -> bool {
        let hash = set.and_then(|set| {
            let labels = set.0.pointer("/metadata/labels")?;
            labels.get(rollback_api::POD_TEMPLATE_HASH)?.as_str()
        });
        let images = self.deployment.template().images();
        let tags = images.values().filter_map(|image| tag(image));
        self.deployment
            .revision()
            .is_some_and(|number| number.to_string() == revision)
            || self.deployment.template().digest() == revision
            || hash == Some(revision)
            || self.has_image(revision)
            || tags.into_iter().any(|tag| tag == revision)
    }
}

/// Tag of an image: what follows the last colon, unless that is the port of a registry.
fn tag(image: &str) -> Option<&str> {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let (_, tag) = image.rsplit_once(':')?;
    (!tag.contains('/')).then_some(tag)
}

#[cfg(test)]
mod tests;
