//! `release`: ends the holds on the owners of a workload; and what is held, for `doctor` and whoever asks.

use kube::ResourceExt;
use kube::api::{ListParams, Patch};
use rollback_api::hold::Hold;
use rollback_api::{HOLDS_LABEL, RELEASE, RELEASED_BY, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use rollback_core::hold;
use serde_json::{Value, json};

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::{Cluster, writes};
use crate::error::Error;
use crate::output::{self, clean, remark, say};
use crate::to;

/// Releases the holds of one workload in my own name; without a workload, lists what is held in the namespace.
pub async fn run(
    cluster: &Cluster,
    format: Option<Format>,
    word: Option<&str>,
    request: Option<&str>,
) -> Result<Ending, Error> {
    match word {
        Some(word) => release(cluster, format, word, request).await,
        None => list(cluster, format).await,
    }
}

/// The ledgers of the namespace with a hold.
pub async fn held(cluster: &Cluster) -> Result<Vec<RevisionLedger>, Error> {
    let api = cluster.api::<RevisionLedger>();
    let labelled = ListParams::default().labels(HOLDS_LABEL);
    cluster.list(&api, labelled).await
}

async fn list(cluster: &Cluster, format: Option<Format>) -> Result<Ending, Error> {
    let ledgers = held(cluster).await?;
    let holds: Vec<(&RevisionLedger, &Hold)> = ledgers
        .iter()
        .flat_map(|ledger| ledger.spec.holds.iter().map(move |hold| (ledger, hold)))
        .collect();
    if format == Some(Format::Name) {
        holds
            .iter()
            .try_for_each(|(ledger, _)| say(&format!("revisionledger/{}", ledger.name_any())))?;
        return Ok(Ending::Done);
    }
    let data: Vec<Value> = holds
        .iter()
        .map(|(ledger, hold)| json!({"workload": ledger.spec.target_ref, "hold": hold}))
        .collect();
    if output::data(format, &data)? {
        return Ok(Ending::Done);
    }
    if holds.is_empty() {
        remark(&format!(
            "Nothing is held in namespace {}.",
            clean(&cluster.namespace)
        ));
    }
    for (ledger, hold) in holds {
        let workload = clean(&ledger.spec.target_ref.to_string());
        say(&format!("{workload}: {}", clean(&hold::told(hold))))?;
        if let Some(owed) = hold::owed(hold) {
            say(&format!("  owed to Git: {}", clean(&owed)))?;
        }
        let command = hold::release_command(&cluster.namespace, &ledger.spec.target_ref.name);
        say(&format!("  {command}"))?;
    }
    Ok(Ending::Done)
}

async fn release(
    cluster: &Cluster,
    format: Option<Format>,
    word: &str,
    request: Option<&str>,
) -> Result<Ending, Error> {
    let deployment = to::deployment(word)?;
    let name = ledger::name(WorkloadKind::Deployment, &deployment);
    let api = cluster.api::<RevisionLedger>();
    let found = api.get_opt(&name).await?;
    let holds = found.map(|ledger| ledger.spec.holds).unwrap_or_default();
    let meant = chosen(&holds, &deployment, request)?;
    let owners: Vec<String> = holds
        .iter()
        .filter(|hold| hold.request == meant)
        .map(|hold| clean(&hold.owner))
        .collect();
    let me = cluster.who().await?;
    let patch = json!({"metadata": {"annotations": {RELEASE: meant, RELEASED_BY: me}}});
    let written = api.patch(&name, &writes(), &Patch::Merge(&patch)).await?;
    if format == Some(Format::Name) {
        say(&format!("revisionledger/{}", clean(&name)))?;
    } else if !output::data(format, &written)? {
        say(&format!(
            "revisionledger/{} released ({})",
            clean(&name),
            owners.join(", ")
        ))?;
        remark(
            "The controller puts back what was there before within seconds, and the owner then applies what is in Git.",
        );
    }
    Ok(Ending::Done)
}

/// The request whose holds are meant: the only one, or the one that is named.
fn chosen(holds: &[Hold], deployment: &str, request: Option<&str>) -> Result<String, Error> {
    let mut names: Vec<&str> = holds
        .iter()
        .filter(|hold| hold.release.is_none())
        .map(|hold| hold.request.as_str())
        .filter(|name| request.is_none_or(|wanted| wanted == *name))
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Error::Refused(format!(
            "No owner of Deployment {} is held{}. kubectl rollback release shows what is.",
            clean(deployment),
            request.map_or_else(String::new, |name| format!(" for {}", clean(name)))
        ))),
        [_, _, ..] => Err(Error::Refused(format!(
            "Owners of Deployment {} are held for several requests: {}. Name one: kubectl rollback release {} REQUEST.",
            clean(deployment),
            clean(&names.join(", ")),
            clean(deployment)
        ))),
    }
}
