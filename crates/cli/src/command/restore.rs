//! `restore`: undoes what a request did. It is a request of its own, from the backup that was made before the first write,
//! and is approved like any other.

use jiff::Timestamp;
use kube::ResourceExt;
use rollback_api::RollbackRequest;
use rollback_api::status::TargetStatus;

use super::create;
use crate::Ending;
use crate::arguments::{Create, Place, Restore};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{Paint, clean, elapsed, remark, remark_all};
use crate::show;
use crate::to;

/// Shows what would be undone, and asks for it.
pub async fn run(cluster: &Cluster, place: &Place, restore: Restore) -> Result<Ending, Error> {
    let undone = cluster.request(&restore.request).await?;
    let names = restore.workloads.iter().map(|word| to::deployment(word));
    let names = names.collect::<Result<Vec<_>, Error>>()?;
    remark_all(&told(&undone, &names, Timestamp::now()));
    if undone.outcome().is_none() {
        remark(&format!(
            "It has not ended: what it still does comes first. To end it, type kubectl rollback cancel {}{}.",
            clean(&undone.name_any()),
            flags_to_here()
        ));
    }
    let mut wish = restore.wish;
    // The same trouble, seen from the other side; what went wrong this time only a person can say.
    wish.category = wish.category.or(Some(undone.spec.reason.category));
    let create = Create {
        workloads: restore.workloads,
        selector: None,
        prefix: None,
        all: false,
        to: Some(format!("backup-of={}", restore.request)),
        wish,
    };
    Box::pin(create::run(cluster, place, create)).await
}

fn told(undone: &RollbackRequest, names: &[String], now: Timestamp) -> Vec<String> {
    let name = clean(&undone.name_any());
    let status = undone.status.clone().unwrap_or_default();
    let is_meant = |it: &&TargetStatus| names.is_empty() || names.contains(&it.name);
    let mut lines = vec![format!(
        "To be undone: {name}, which was asked for {} ago: {}",
        elapsed(show::created(undone), now),
        show::ready(undone).0
    )];
    for target in status.targets.iter().filter(is_meant) {
        let workload = format!("{}/{}", target.kind, clean(&target.name));
        lines.push(match &target.backup {
            Some(backup) => format!(
                "  {} goes back to what there was before {name} (ConfigMap {})",
                Paint::off().strong(&workload),
                clean(&backup.config_map)
            ),
            None => format!("  {workload} was not written, so there is nothing to undo"),
        });
    }
    lines
}
