//! `quarantine`: versions that are not chosen unless they are named.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{ListParams, Patch};
use rollback_api::ledger::Quarantined;
use rollback_api::open_enum::OrNewer;
use rollback_api::policy::Enforce;
use rollback_api::{LIFT, LIFTED_BY, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use rollback_core::time::stamp;
use serde_json::{Value, json};

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::{Cluster, writes};
use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{self, clean, remark, say, say_all, table};
use crate::to;

/// Lists them.
pub async fn list(cluster: &Cluster, format: Option<Format>) -> Result<Ending, Error> {
    let api = cluster.api::<RevisionLedger>();
    let ledgers = cluster.list(&api, ListParams::default()).await?;
    let now = Timestamp::now();
    let held: Vec<(&RevisionLedger, Held)> = ledgers
        .iter()
        .flat_map(|ledger| held(ledger, now).into_iter().map(move |it| (ledger, it)))
        .collect();
    if format == Some(Format::Name) {
        held.iter()
            .try_for_each(|(ledger, _)| say(&format!("revisionledger/{}", ledger.name_any())))?;
        return Ok(Ending::Done);
    }
    if output::data(
        format,
        &held
            .iter()
            .map(|(ledger, it)| data(ledger, it))
            .collect::<Vec<_>>(),
    )? {
        return Ok(Ending::Done);
    }
    if held.is_empty() {
        remark(&format!(
            "Nothing is in quarantine in namespace {}.",
            clean(&cluster.namespace)
        ));
        return Ok(Ending::Done);
    }
    let rows: Vec<Vec<String>> = held.iter().map(|(ledger, it)| row(ledger, it)).collect();
    say_all(&table(
        &["WORKLOAD", "REVISION", "IMAGE", "UNTIL", "BY", "ENFORCED"],
        &rows,
    ))?;
    Ok(Ending::Done)
}

/// A version in quarantine.
struct Held<'a> {
    digest: &'a str,
    revision: Option<i64>,
    images: Vec<&'a str>,
    until: Option<Timestamp>,
    by: Option<&'a str>,
    /// What becomes of a write that brings it back; none when admission does not recognize it.
    enforce: Option<OrNewer<Enforce>>,
}

/// What the ledger holds for bad, and what only admission knows because the workload was made again since.
fn held(ledger: &RevisionLedger, now: Timestamp) -> Vec<Held<'_>> {
    let spec = &ledger.spec;
    let met = |digest: &str| spec.quarantine.iter().find(|it| it.digest == digest);
    let known = spec.templates.iter();
    let known = known.filter(|entry| ledger::is_quarantined(entry, None, now));
    let held = known.map(|entry| Held {
        digest: &entry.digest,
        revision: entry.revision,
        images: entry.images.iter().map(|it| it.image.as_str()).collect(),
        until: entry.bad_until,
        by: entry.judged_by.as_deref(),
        enforce: met(&entry.digest).map(|it| it.enforce),
    });
    let is_new = |it: &&Quarantined| {
        now < it.until && !spec.templates.iter().any(|entry| entry.digest == it.digest)
    };
    let others = spec.quarantine.iter().filter(is_new).map(|it| Held {
        digest: &it.digest,
        revision: None,
        images: it
            .images
            .iter()
            .filter_map(|image| image.names.last())
            .map(String::as_str)
            .collect(),
        until: Some(it.until),
        by: Some(&it.request),
        enforce: Some(it.enforce),
    });
    held.chain(others).collect()
}

fn data(ledger: &RevisionLedger, held: &Held) -> Value {
    json!({
        "workload": ledger.spec.target_ref, "revision": held.revision, "digest": held.digest,
        "images": held.images, "badUntil": held.until, "judgedBy": held.by, "enforce": held.enforce,
    })
}

fn row(ledger: &RevisionLedger, held: &Held) -> Vec<String> {
    let images: Vec<String> = held.images.iter().map(|image| clean(image)).collect();
    let dash = || "-".to_owned();
    vec![
        clean(&ledger.spec.target_ref.to_string()),
        number(held),
        images.join(","),
        held.until.map_or_else(dash, stamp),
        held.by.map_or_else(dash, clean),
        held.enforce
            .map_or_else(dash, |word| clean(&format!("{word:?}"))),
    ]
}

fn number(held: &Held) -> String {
    held.revision
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
            "The controller takes it up within seconds: kubectl rollback history {}{}",
            clean(&deployment),
            flags_to_here()
        ));
    }
    Ok(Ending::Done)
}

fn none(deployment: &str) -> Error {
    Error::Refused(format!(
        "Of Deployment {} nothing is in quarantine. kubectl rollback quarantine list{} shows what is.",
        clean(deployment),
        flags_to_here()
    ))
}

/// The digest that is meant: the only one, or that of the revision.
fn chosen(
    ledger: &RevisionLedger,
    deployment: &str,
    revision: Option<&str>,
) -> Result<String, Error> {
    let held = held(ledger, Timestamp::now());
    let word = revision.map(|word| word.strip_prefix("revision-").unwrap_or(word));
    let is_meant = |entry: &&Held| word.is_none_or(|word| number(entry) == word);
    let meant: Vec<&Held> = held.iter().filter(is_meant).collect();
    match (held.as_slice(), meant.as_slice()) {
        ([], _) => Err(none(deployment)),
        (_, [only]) => Ok(only.digest.to_owned()),
        (_, [] | [_, _, ..]) => {
            let numbers: Vec<String> = held.iter().map(|entry| number(entry)).collect();
            Err(Error::Refused(format!(
                "Of Deployment {} these revisions are in quarantine: {}. Name one: kubectl rollback quarantine lift {} REVISION{}.",
                clean(deployment),
                numbers.join(", "),
                clean(deployment),
                flags_to_here()
            )))
        }
    }
}
