//! `diff`: what differs between two revisions. What may be a secret is never shown.

use rollback_core::history::diff;
use serde_json::json;

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::{self, clean, remark, say};
use crate::to;
use crate::versions::Versions;

/// What is said when nothing differs.
pub const SAME: &str = "They do not differ.";

/// Prints it.
pub async fn run(
    cluster: &Cluster,
    format: Option<Format>,
    word: &str,
    from: &str,
    to: &str,
) -> Result<Ending, Error> {
    let versions = Versions::read(cluster, &to::deployment(word)?).await?;
    let changes = changes(&versions, from, to)?;
    let found = json!({
        "kind": "Deployment", "name": versions.deployment.name(), "namespace": cluster.namespace,
        "from": from, "to": to, "changes": changes,
    });
    if output::data(format, &found)? {
        return Ok(Ending::Done);
    }
    if changes.is_empty() {
        remark(SAME);
    }
    changes.iter().try_for_each(|line| say(line))?;
    Ok(Ending::Done)
}

/// What differs between two revisions, as they are typed, for a reader.
pub fn changes(versions: &Versions, from: &str, to: &str) -> Result<Vec<String>, Error> {
    let changes = diff::changes(&versions.named(from)?, &versions.named(to)?);
    Ok(changes.iter().map(|line| clean(line)).collect())
}
