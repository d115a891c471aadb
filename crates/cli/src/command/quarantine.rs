//! `quarantine`: versions that are not chosen unless they are named.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, Patch};
use rollback_api::ledger::Evidence;
use rollback_api::{LIFT, LIFTED_BY, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use rollback_core::time::stamp;
use serde_json::{Value, json};

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::{Cluster, writes};
use crate::error::Error;
use crate::output::{self, clean, remark, say, say_all, table};
use crate::to;

/// Lists them.
pub async fn list(cluster: &Cluster, format: Option<Format>) -> Result<Ending, Error> {
    let api = cluster.api::<RevisionLedger>();
    let ledgers = cluster.list(&api, ListParams::default()).await?;
    let now = Timestamp::now();
    let held: Vec<(&RevisionLedger, &Evidence)> = ledgers
        .iter()
        .flat_map(|ledger| held(ledger, now).map(move |entry| (ledger, entry)))
        .collect();
    if format == Some(Format::Name) {
        held.iter()
            .try_for_each(|(ledger, _)| say(&format!("revisionledger/{}", ledger.name_any())))?;
        return Ok(Ending::Done);
    }
    if output::data(format, &held.iter().map(|it| data(*it)).collect::<Vec<_>>())? {
        return Ok(Ending::Done);
    }
    if held.is_empty() {
        remark(&format!(
            "Nothing is in quarantine in namespace {}.",
            clean(&cluster.namespace)
        ));
        return Ok(Ending::Done);
    }
    let rows: Vec<Vec<String>> = held.into_iter().map(row).collect();
    say_all(&table(
        &["WORKLOAD", "REVISION", "IMAGE", "UNTIL", "BY"],
        &rows,
    ))?;
    Ok(Ending::Done)
}

fn held(ledger: &RevisionLedger, now: Timestamp) -> impl Iterator<Item = &Evidence> {
    let entries = ledger.spec.templates.iter();
    entries.filter(move |entry| ledger::is_quarantined(entry, None, now))
}

fn data((ledger, entry): (&RevisionLedger, &Evidence)) -> Value {
    json!({
        "workload": ledger.spec.target_ref, "revision": entry.revision, "digest": entry.digest,
        "images": entry.images, "badUntil": entry.bad_until, "judgedBy": entry.judged_by,
    })
}

fn row((ledger, entry): (&RevisionLedger, &Evidence)) -> Vec<String> {
    let images: Vec<String> = entry.images.iter().map(|it| clean(&it.image)).collect();
    let dash = || "-".to_owned();
    vec![
        clean(&ledger.spec.target_ref.to_string()),
        number(entry),
        images.join(","),
        entry.bad_until.map_or_else(dash, stamp),
        entry.judged_by.as_deref().map_or_else(dash, clean),
    ]
}

fn number(entry: &Evidence) -> String {
    entry
        .revision
        .map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Lifts the quarantine of one version, in my own name.
pub async fn lift(
    cluster: &Cluster,
    format: Option<Format>,
    word: &str,
    revision: Option<&str>,
) -> Result<Ending, Error> {
    let deployment = to::deployment(word)?;
    let name = ledger::name(WorkloadKind::Deployment, &deployment);
    let api = cluster.api::<RevisionLedger>();
    let found = api.get_opt(&name).await?;
    let digest = found.as_ref().map_or_else(
        || Err(none(&deployment)),
        |ledger| chosen(ledger, &deployment, revision),
    )?;
    let me = cluster.who().await?;
    let patch = json!({"metadata": {"annotations": {LIFT: digest, LIFTED_BY: me}}});
    let written = api.patch(&name, &writes(), &Patch::Merge(&patch)).await?;
    if format == Some(Format::Name) {
        say(&format!("revisionledger/{}", clean(&name)))?;
    } else if !output::data(format, &written)? {
        say(&format!("revisionledger/{} lifted", clean(&name)))?;
        remark(&format!(
            "The controller takes it up within seconds: kubectl rollback history {}",
            clean(&deployment)
        ));
    }
    Ok(Ending::Done)
}

fn none(deployment: &str) -> Error {
    Error::Refused(format!(
        "Of Deployment {} nothing is in quarantine. kubectl rollback quarantine list shows what is.",
        clean(deployment)
    ))
}

/// The digest that is meant: the only one, or that of the revision.
fn chosen(
    ledger: &RevisionLedger,
    deployment: &str,
    revision: Option<&str>,
) -> Result<String, Error> {
    let held: Vec<&Evidence> = held(ledger, Timestamp::now()).collect();
    let word = revision.map(|word| word.strip_prefix("revision-").unwrap_or(word));
    let is_meant = |entry: &&&Evidence| word.is_none_or(|word| number(entry) == word);
    let meant: Vec<&&Evidence> = held.iter().filter(is_meant).collect();
    match (held.as_slice(), meant.as_slice()) {
        ([], _) => Err(none(deployment)),
        (_, [only]) => Ok(only.digest.clone()),
        (_, [] | [_, _, ..]) => {
            let numbers: Vec<String> = held.iter().map(|entry| number(entry)).collect();
            Err(Error::Refused(format!(
                "Of Deployment {} these revisions are in quarantine: {}. Name one: kubectl rollback quarantine lift {} REVISION.",
                clean(deployment),
                numbers.join(", "),
                clean(deployment)
            )))
        }
    }
}
