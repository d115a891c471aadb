//! What the checks say of the bad version, while the plan is made. It explains and decides nothing, so it never holds
//! the plan up: little time, few Deployments, and what fails is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use rollback_api::RollbackRequest;
use rollback_api::status::Rules;
use rollback_core::execution::phase::FEW;
use rollback_core::health;
use rollback_core::observed::view::RulesRead;
use rollback_core::observed::{Reading, ReplicaSet};
use rollback_core::plan::{Candidate, rules_now};

use super::RequestScope;
use super::checks::{Subject, ask};

/// Longest time for one answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Who is asked, and what.
pub struct Asked {
    rules: Rules,
    /// Name of each Deployment, and what it runs.
    targets: Vec<(String, ReplicaSet)>,
}

/// What is to be asked of the Deployments that were found: nothing without checks, or of many Deployments.
pub fn asked(request: &RollbackRequest, rules: &RulesRead, candidates: &[Candidate]) -> Asked {
    let rules = rules_now(request, rules);
    let nobody = health::checks(&rules).next().is_none() || candidates.len() > FEW;
    let few = candidates.iter().filter(|_| !nobody);
    let running = |seen: &Candidate| {
        let set = seen.deployment.as_ref()?.live_set(&seen.replica_sets)?;
        Some((seen.name.clone(), set.clone()))
    };
    Asked {
        targets: few.filter_map(running).collect(),
        rules,
    }
}

/// One round of every check for each Deployment, by its name.
pub async fn readings(
    scope: &RequestScope<'_>,
    asked: Option<Asked>,
) -> BTreeMap<String, Vec<Reading>> {
    let Some(asked) = asked else {
        return BTreeMap::new();
    };
    let checks: Vec<_> = health::checks(&asked.rules).collect();
    let rounds = asked.targets.iter().map(async |(deployment, replica_set)| {
        let subject = Subject {
            rules: &asked.rules,
            deployment,
            baseline: replica_set.created_at(),
            replica_set,
            limit: LIMIT,
        };
        let round = tokio::time::timeout(2 * LIMIT, ask(scope, subject, &checks));
        let readings = match round.await {
            Ok(Ok(readings)) => readings,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        (deployment.clone(), readings)
    });
    futures::future::join_all(rounds)
        .await
        .into_iter()
        .collect()
}
