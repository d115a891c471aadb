//! The intents to write Deployments, as they are stored before the writes.

use rollback_api::RollbackRequestStatus;
use rollback_api::status::{Intent, TargetStatus};

/// The intents that are new in `after`: names of Deployments, and the generations that the writes are for. Whoever commits
/// `after` knows of these that no other process wrote upon them before.
pub fn stored<'a>(
    before: Option<&'a RollbackRequestStatus>,
    after: &'a RollbackRequestStatus,
) -> impl Iterator<Item = (&'a str, i64)> {
    after.targets.iter().flat_map(move |progress| {
        let same = |old: &&TargetStatus| old.is_of(progress.kind, &progress.name);
        let old = before.and_then(|before| before.targets.iter().find(same));
        let known: Vec<i64> = old.into_iter().flat_map(generations).collect();
        generations(progress)
            .filter(move |generation| !known.contains(generation))
            .map(|generation| (progress.name.as_str(), generation))
    })
}

fn generations(progress: &TargetStatus) -> impl Iterator<Item = i64> {
    let fallback = progress.fallback.as_ref();
    let restore = progress.restore.as_ref();
    let intents: [Option<&Intent>; 3] = [
        progress.revert.as_ref(),
        fallback.and_then(|fallback| fallback.intent.as_ref()),
        restore.and_then(|restore| restore.intent.as_ref()),
    ];
    intents
        .into_iter()
        .flatten()
        .map(|intent| intent.generation)
}
