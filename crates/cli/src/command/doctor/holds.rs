//! Which owners are held in the namespace, and what is owed to Git for that.

use rollback_core::hold;

use super::Finding;
use crate::cluster::Cluster;
use crate::command::release;
use crate::output::clean;

/// What was looked at.
const CHECK: &str = "holds";
/// Why that matters.
const WHY: &str = "as long as an owner is held, what is in Git is not applied";

/// A finding for each hold.
pub async fn look(cluster: &Cluster) -> Vec<Finding> {
    let Ok(ledgers) = release::held(cluster).await else {
        // That ledgers cannot be read is told by others.
        return Vec::new();
    };
    let mut findings = Vec::new();
    for ledger in ledgers {
        let workload = &ledger.spec.target_ref;
        for it in &ledger.spec.holds {
            let owed =
                hold::owed(it).map_or_else(String::new, |owed| format!("; owed to Git: {owed}"));
            let seen = format!("{workload}: {}{owed}", hold::told(it));
            let next = hold::release_command(&cluster.namespace, &workload.name);
            findings.push(Finding::warning(CHECK, clean(&seen), WHY, next));
        }
    }
    findings
}
