//! `history`: the revisions of a Deployment, with what is known of each.

use jiff::Timestamp;
use serde_json::json;

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::{self, clean, elapsed, remark, say, say_all, table};
use crate::to;
use crate::versions::{CarriedOut, Version, Versions};

/// How many digits of a digest tell versions apart in a table.
const SHORT_DIGEST: usize = "sha256:".len() + 12;

/// Prints it.
pub async fn run(cluster: &Cluster, format: Option<Format>, word: &str) -> Result<Ending, Error> {
    let versions = Versions::read(cluster, &to::deployment(word)?).await?;
    let versions = versions.with_people(cluster).await;
    let now = Timestamp::now();
    match format {
        Some(Format::Name) => {
            // As `diff` and `--to` take them.
            let numbers = versions.list(now).into_iter().filter_map(|it| it.revision);
            for number in numbers {
                say(&number.to_string())?;
            }
        }
        Some(Format::Json | Format::Yaml | Format::Md | Format::Html) => {
            let name = versions.deployment.name();
            let found = json!({
                "kind": "Deployment", "name": name, "namespace": cluster.namespace,
                "revisions": versions.list(now), "unread": versions.unread(), "isCut": versions.is_cut,
            });
            output::data(format, &found)?;
        }
        Some(Format::Wide) => say_all(&text(&versions, now, true))?,
        None => say_all(&text(&versions, now, false))?,
    }
    if versions.is_cut || versions.unread() > 0 {
        let many = versions.unread();
        let more = if versions.is_cut { "at least " } else { "" };
        remark(&format!(
            "There is too much history to show all of it: {more}{many} older revisions are left out."
        ));
    }
    Ok(Ending::Done)
}

/// The table.
pub fn text(versions: &Versions, now: Timestamp, wide: bool) -> Vec<String> {
    let mut head = vec!["REVISION", "IMAGE", "AGE", "VERDICT", "ROLLBACKS"];
    if wide {
        head.extend(["DIGEST", "KEPT IN", "JUDGED BY"]);
    }
    head.push("CHANGE-CAUSE");
    let rows: Vec<Vec<String>> = versions
        .list(now)
        .iter()
        .map(|it| row(it, now, wide))
        .collect();
    table(&head, &rows)
}

fn row(version: &Version, now: Timestamp, wide: bool) -> Vec<String> {
    let images: Vec<String> = version.images.values().map(|image| clean(image)).collect();
    let age = version
        .created_at
        .map_or_else(|| "-".to_owned(), |at| elapsed(at, now));
    let mut row = vec![
        number(version),
        images.join(","),
        age,
        verdict(version, now),
        rollbacks(version),
    ];
    if wide {
        row.push(version.digest.chars().take(SHORT_DIGEST).collect());
        row.push(version.source.as_str().to_owned());
        row.push(version.judged_by.clone().unwrap_or_else(|| "-".to_owned()));
    }
    row.push(
        version
            .change_cause
            .clone()
            .unwrap_or_else(|| "-".to_owned()),
    );
    row
}

/// Its number, and whether it runs.
pub fn number(version: &Version) -> String {
    let number = version
        .revision
        .map_or_else(|| "-".to_owned(), |number| number.to_string());
    if version.runs {
        format!("{number} (runs)")
    } else {
        number
    }
}

/// What it is held for.
pub fn verdict(version: &Version, now: Timestamp) -> String {
    match (version.in_quarantine, version.quarantined_until) {
        (true, Some(until)) => format!(
            "{}, in quarantine for {}",
            version.verdict,
            elapsed(now, until)
        ),
        (true, None) => format!("{}, in quarantine", version.verdict),
        (false, _) => version.verdict.clone(),
    }
}

/// Which requests rolled it back, or went back to it, and the people behind them.
pub fn rollbacks(version: &Version) -> String {
    let away = version.rolled_back_by.iter();
    let away = away.map(|it| format!("rolled back by {}{}", it.request, people(it)));
    let back = version.brought_back_by.iter();
    let back = back.map(|it| format!("brought back by {}{}", it.request, people(it)));
    let said: Vec<String> = away.chain(back).collect();
    if said.is_empty() {
        "-".to_owned()
    } else {
        said.join(", ")
    }
}

/// The people behind the request, where they are known.
pub fn people(rollback: &CarriedOut) -> String {
    let Some(asked_by) = &rollback.asked_by else {
        return String::new();
    };
    let approved = match rollback.approved_by.as_slice() {
        [] => String::new(),
        names => format!(", approved by {}", names.join(" and ")),
    };
    format!(" ({asked_by}{approved})")
}
