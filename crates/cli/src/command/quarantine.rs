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

/// What the ledger holds for bad, and what only admission knows: of a rollback that is under way, or of a workload that was
/// made again since.
fn held(ledger: &RevisionLedger, now: Timestamp) -> Vec<Held<'_>> {
    let spec = &ledger.spec;
    let met = |digest: &str| spec.quarantine.iter().find(|it| it.digest == digest);
    let known = spec.templates.iter();
    let known = known.filter(|entry| ledger::is_quarantined(entry, None, now));
    let held: Vec<Held> = known
        .map(|entry| Held {
            digest: &entry.digest,
            revision: entry.revision,
            images: entry.images.iter().map(|it| it.image.as_str()).collect(),
            until: entry.bad_until,
            by: entry.judged_by.as_deref(),
            enforce: met(&entry.digest).map(|it| it.enforce),
        })
        .collect();
    let digests: Vec<&str> = held.iter().map(|entry| entry.digest).collect();
    let is_new = |it: &&Quarantined| now < it.until && !digests.contains(&it.digest.as_str());
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
    let others: Vec<Held> = others.collect();
    held.into_iter().chain(others).collect()
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

/// Digits of a digest that tell it from the others.
const DIGITS: usize = 12;

/// How one of them is named to lift it: by its revision, and one that has none by its digest.
fn name(held: &Held) -> String {
    let digits = || {
        clean(
            &held
                .digest
                .chars()
                .take("sha256:".len() + DIGITS)
                .collect::<String>(),
        )
    };
    held.revision
        .map_or_else(digits, |number| number.to_string())
}

/// Whether a word means it: its revision, one of its images, or the beginning of its digest.
fn is_meant(held: &Held, word: &str) -> bool {
    let digits = word.strip_prefix("sha256:").unwrap_or(word);
    let digest = held.digest.strip_prefix("sha256:").unwrap_or(held.digest);
    held.revision
        .is_some_and(|number| number.to_string() == word)
        || held.images.contains(&word)
        || (digits.len() >= DIGITS && digest.starts_with(digits))
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
    let is_meant = |entry: &&Held| word.is_none_or(|word| is_meant(entry, word));
    let meant: Vec<&Held> = held.iter().filter(is_meant).collect();
    match (held.as_slice(), meant.as_slice()) {
        ([], _) => Err(none(deployment)),
        (_, [only]) => Ok(only.digest.to_owned()),
        (_, [] | [_, _, ..]) => {
            let numbers: Vec<String> = held.iter().map(name).collect();
            Err(Error::Refused(format!(
                "Of Deployment {} these are in quarantine, by revision or digest: {}. Name one: kubectl rollback quarantine lift {} REVISION{}.",
                clean(deployment),
                numbers.join(", "),
                clean(deployment),
                flags_to_here()
            )))
        }
    }
}
