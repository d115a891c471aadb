//! Requests that come by themselves: how they are named and made, and since when a version is live.

mod asked;
mod census;
pub mod symptom;
pub mod watch;

use jiff::Timestamp;
use rollback_api::ledger::Evidence;
use rollback_api::request::{Category, From, RequestReason, Target, To, Trigger};
use rollback_api::{
    REVISION_HISTORY, RevisionLedgerSpec, RollbackRequest, RollbackRequestSpec, WorkloadRef,
};
use serde_json::json;

pub use asked::{RECEIVER, WATCH, account, difference, is_no_answer};

use crate::history::ledger;
use crate::history::template;
use crate::observed::{Deployment, ReplicaSet};
use crate::time;

/// How much of the name of a Deployment stands in the name of its request.
const STEM: usize = 200;
/// How many names a request may have: the next one is for when something else has taken those before,
/// or when what they were about was refused for something of the moment.
pub const NAMES: u8 = 10;

/// Name of the request for this version of this Deployment: the same whoever asks, however often, while the version is
/// live. One that is deployed again after it was rolled back has another revision number, and so another name.
pub fn request_name(deployment: &Deployment, category: Category) -> String {
    name(&Version::of(deployment), category, None)
}

/// All names that this request may have when this source asks, in the order in which they are tried. Only the first one
/// is the same whoever asks, so that the requests of one source do not take the names of another.
pub fn request_names(deployment: &Deployment, category: Category, source: &str) -> Vec<String> {
    let version = Version::of(deployment);
    let others = (1..NAMES).map(|place| name(&version, category, Some((source, place))));
    [name(&version, category, None)]
        .into_iter()
        .chain(others)
        .collect()
}

/// What is live of a workload.
struct Version {
    workload: WorkloadRef,
    digest: String,
    revision: Option<i64>,
}

impl Version {
    fn of(deployment: &Deployment) -> Self {
        Self {
            workload: deployment.workload(),
            digest: deployment.template().digest(),
            revision: deployment.revision(),
        }
    }
}

fn name(version: &Version, category: Category, other: Option<(&str, u8)>) -> String {
    let mut identity = vec![
        json!(version.workload),
        json!(version.digest),
        json!(version.revision),
        json!(format!("{category:?}")),
    ];
    identity.extend(other.map(|other| json!(other)));
    let identity = template::digest(&json!(identity));
    let suffix: String = identity
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect();
    let stem: String = version.workload.name.chars().take(STEM).collect();
    format!("auto-{}-{suffix}", stem.trim_end_matches(['.', '-']))
}

/// The request for the rollback of what is live now, and of nothing else.
pub fn request(
    namespace: &str,
    deployment: &Deployment,
    to: To,
    reason: RequestReason,
    trigger: Trigger,
) -> RollbackRequest {
    let workload = deployment.workload();
    let spec = RollbackRequestSpec {
        targets: vec![Target {
            kind: workload.kind.as_str().to_owned(),
            name: Some(workload.name),
            from: Some(From {
                template_digest: Some(deployment.template().digest()),
                image: None,
            }),
            to,
            ..Target::default()
        }],
        reason,
        urgency: None,
        not_after: None,
        rollout: None,
        verification: None,
        trigger: Some(trigger),
        dry_run: false,
        requested_by: None,
    };
    let name = request_name(deployment, spec.reason.category);
    let mut request = RollbackRequest::new(&name, spec);
    request.metadata.namespace = Some(namespace.to_owned());
    request
}

/// When a trouble began at the latest: a rule that waits before it fires tells when it fired.
pub fn began_at(started_at: Timestamp, pending_seconds: Option<u32>) -> Timestamp {
    time::after(started_at, -i64::from(pending_seconds.unwrap_or_default()))
}

/// Since when what is live now has been live; never earlier than it was. `None` when nobody can tell.
///
/// Where it is not known, the last progress of the Deployment is taken: it was live then already.
pub fn live_since(
    deployment: &Deployment,
    replica_sets: &[ReplicaSet],
    ledger: Option<&RevisionLedgerSpec>,
) -> Option<Timestamp> {
    known_since(deployment, replica_sets, ledger).or_else(|| {
        deployment.live_set(replica_sets)?;
        deployment.progressing()?.last_update_time.parse().ok()
    })
}

/// The same, where it is known: a `ReplicaSet` that was made for this rollout tells by its own age. One that had another
/// number before was rolled back to, and is older than its rollout: then the ledger may have seen it begin.
pub fn known_since(
    deployment: &Deployment,
    replica_sets: &[ReplicaSet],
    ledger: Option<&RevisionLedgerSpec>,
) -> Option<Timestamp> {
    let set = deployment.live_set(replica_sets)?;
    if !had_another_number(set) {
        return set.created_at();
    }
    let digest = deployment.template().digest();
    let known = ledger::evidence(ledger, deployment.uid())
        .last()
        .filter(|entry: &&Evidence| entry.digest == digest);
    known.and_then(|entry| entry.live_since)
}

/// Since when what is live is so because it was gone back to, whoever did that. `None` where it was not, or nobody can tell.
pub fn gone_back_since(
    deployment: &Deployment,
    replica_sets: &[ReplicaSet],
    ledger: Option<&RevisionLedgerSpec>,
) -> Option<Timestamp> {
    let set = deployment.live_set(replica_sets)?;
    had_another_number(set).then(|| live_since(deployment, replica_sets, ledger))?
}

/// Whether a `ReplicaSet` was live before, under another number.
fn had_another_number(set: &ReplicaSet) -> bool {
    set.annotation(REVISION_HISTORY)
        .is_some_and(|numbers| !numbers.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use rollback_api::WorkloadKind;
    use rollback_api::open_enum::NewerValue;

    use super::*;

    #[test]
    fn the_name_of_a_request_tells_kinds_apart() {
        let version = |kind| Version {
            workload: WorkloadRef {
                kind,
                name: "api".to_owned(),
                uid: "uid".to_owned(),
            },
            digest: "sha256:1".to_owned(),
            revision: Some(1),
        };
        let newer = WorkloadKind::Newer(NewerValue::new("StatefulSet").unwrap());
        let [deployment, stateful_set] = [WorkloadKind::Deployment, newer]
            .map(|kind| name(&version(kind), Category::ErrorRate, None));
        assert_ne!(deployment, stateful_set);
    }
}
