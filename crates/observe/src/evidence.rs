//! What the recorder of evidence reads.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::ledger::Claim;
use rollback_api::{
    POLICY_NAME, QUARANTINE_LABEL, RevisionLedger, RollbackPolicy, RollbackRequest,
    WORKLOAD_NAME_ANNOTATION, WorkloadKind,
};
use rollback_core::evidence::LedgerRules;
use rollback_core::history::ledger;
use rollback_core::observed::Deployment;
use rollback_reads::budget::Budget;
use rollback_reads::history;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Error, access, pods, raw, reading};

/// How many names one page of a list holds.
const PAGE: u32 = 500;

/// A Deployment and its ledger, as they are now.
pub async fn pair(
    client: &Client,
    namespace: &str,
    name: &str,
    budget: &Budget,
) -> Result<(Option<Deployment>, Option<RevisionLedger>), Error> {
    let ledgers: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    let ledger_name = ledger::name(WorkloadKind::Deployment, name);
    let (deployment, ledger) = futures::join!(
        raw::deployment(client, namespace, name, budget),
        ledgers.get_opt(&ledger_name)
    );
    Ok((
        reading("the Deployment", deployment)?,
        reading("the RevisionLedger", ledger)?,
    ))
}

/// Pods of the template that a Deployment asks for.
pub async fn pods(
    client: &Client,
    namespace: &str,
    deployment: &Deployment,
    budget: &Budget,
) -> Result<Vec<Value>, Error> {
    let wish = raw::newest(budget);
    let sets = history::history(client, namespace, deployment, wish, budget).await;
    let sets = reading("the ReplicaSets", sets)?.sets;
    match deployment.live_set(&sets) {
        Some(set) => pods::raw_pods(client, namespace, set, budget).await,
        None => Ok(Vec::new()),
    }
}

/// By which rules the ledgers of a namespace are kept; `None` where none may be made.
pub async fn rules(client: &Client, namespace: &str) -> Result<Option<LedgerRules>, Error> {
    if !access::may_keep_ledgers(client, namespace).await? {
        return Ok(None);
    }
    let api: Api<RollbackPolicy> = Api::namespaced(client.clone(), namespace);
    let policy = reading("the RollbackPolicy", api.get_opt(POLICY_NAME).await)?;
    Ok(Some(policy.map_or_else(LedgerRules::default, |policy| {
        LedgerRules {
            keep: policy.spec.ledger,
            enforce: policy.spec.quarantine.enforce,
        }
    })))
}

/// Whether the request that holds a claim is there to give it back.
pub async fn is_held(client: &Client, namespace: &str, claim: &Claim) -> Result<bool, Error> {
    let api: Api<RollbackRequest> = Api::namespaced(client.clone(), namespace);
    let found: Option<PartialObjectMeta<RollbackRequest>> = reading(
        "the RollbackRequest that holds the claim",
        api.get_metadata_opt(&claim.request).await,
    )?;
    Ok(found.is_some_and(|request| request.uid().as_ref() == Some(&claim.request_uid)))
}

/// Names of all Deployments of a namespace.
pub async fn names(client: &Client, namespace: &str) -> Result<Vec<String>, Error> {
    let api: Api<v1::Deployment> = Api::namespaced(client.clone(), namespace);
    let name = |object: &PartialObjectMeta<v1::Deployment>| Some(object.name_any());
    of_all(&api, "the Deployments", ListParams::default(), name).await
}

/// Names of the Deployments of a namespace of which a version is in a quarantine that admission looks at.
pub async fn quarantined(
    client: &Client,
    namespace: &str,
    which: Ledgers,
) -> Result<Vec<String>, Error> {
    let api: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    let name = |ledger: &PartialObjectMeta<RevisionLedger>| {
        ledger.annotations().get(WORKLOAD_NAME_ANNOTATION).cloned()
    };
    let wanted = match which {
        Ledgers::All => ListParams::default(),
        Ledgers::Enforced => ListParams::default().labels(QUARANTINE_LABEL),
    };
    of_all(&api, "the RevisionLedgers", wanted, name).await
}

/// Which ledgers of a namespace are looked at because of their quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledgers {
    /// Those that admission looks at; the others are looked at with their Deployments.
    Enforced,
    /// All: where nothing is recorded, nothing else takes up that the policy enforces them again.
    All,
}

/// What there is to say of all objects of a list, page by page.
async fn of_all<K>(
    api: &Api<K>,
    what: &'static str,
    wanted: ListParams,
    say: impl Fn(&PartialObjectMeta<K>) -> Option<String>,
) -> Result<Vec<String>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut said = Vec::new();
    let mut page = wanted.limit(PAGE);
    loop {
        let list = reading(what, api.list_metadata(&page).await)?;
        said.extend(list.items.iter().filter_map(&say));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(said),
        }
    }
}
