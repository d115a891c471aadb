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

/// Prints it.
pub async fn run(
    cluster: &Cluster,
    format: Option<Format>,
    word: &str,
    from: &str,
    to: &str,
) -> Result<Ending, Error> {
    let versions = Versions::read(cluster, &to::deployment(word)?).await?;
    let changes = diff::changes(&versions.named(from)?, &versions.named(to)?);
    let found = json!({
        "kind": "Deployment", "name": versions.deployment.name(), "namespace": cluster.namespace,
        "from": from, "to": to, "changes": changes,
    });
    if output::data(format, &found)? {
        return Ok(Ending::Done);
    }
    if changes.is_empty() {
        remark("They do not differ.");
    }
    changes.iter().try_for_each(|line| say(&clean(line)))?;
    Ok(Ending::Done)
}
