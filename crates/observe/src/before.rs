//! What the checks say of the bad version, while the plan is made. It explains and decides nothing, so it never holds
//! the plan up: little time, few Deployments, and what fails is left out.

use std::time::Duration;

use rollback_api::status::Rules;
use rollback_core::execution::phase::FEW;
use rollback_core::health;
use rollback_core::history::History;
use rollback_core::observed::{Fetched, Observed, ObservedTarget, Reading, ReplicaSet};
use rollback_core::plan::rules_now;

use super::RequestScope;
use super::checks::{Subject, ask};

/// Longest time for one answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Who is asked, and what.
pub struct Asked {
    rules: Rules,
    /// Name of each Deployment, and what it runs.
    targets: Vec<(String, Option<ReplicaSet>)>,
}

/// What is to be asked of the Deployments that were found: nothing without checks, or of many Deployments.
pub fn asked(scope: &RequestScope<'_>, observed: &Observed) -> Asked {
    let rules = rules_now(scope.request, observed);
    let nobody = health::checks(&rules).next().is_none() || observed.targets.len() > FEW;
    let few = observed.targets.iter().filter(|_| !nobody);
    Asked {
        targets: few
            .map(|seen| (seen.name.clone(), running(seen).cloned()))
            .collect(),
        rules,
    }
}

/// One round of every check for each target, in their order.
pub async fn readings(scope: &RequestScope<'_>, asked: &Asked) -> Vec<Vec<Reading>> {
    let checks: Vec<_> = health::checks(&asked.rules).collect();
    let rounds = asked.targets.iter().map(async |(deployment, running)| {
        let Some(replica_set) = running else {
            return Vec::new();
        };
        let subject = Subject {
            rules: &asked.rules,
            deployment,
            baseline: replica_set.created_at(),
            replica_set,
            limit: LIMIT,
        };
        let round = tokio::time::timeout(2 * LIMIT, ask(scope, subject, &checks));
        match round.await {
            Ok(Ok(readings)) => readings,
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    });
    futures::future::join_all(rounds).await
}

/// The `ReplicaSet` of what runs.
fn running(seen: &ObservedTarget) -> Option<&ReplicaSet> {
    let Fetched::Found(deployment) = &seen.deployment else {
        return None;
    };
    let history = History::of(deployment.uid(), &seen.replica_sets, &[]);
    let running = history.holding(&deployment.template())?;
    seen.replica_sets
        .iter()
        .find(|set| set.uid() == running.uid)
}
