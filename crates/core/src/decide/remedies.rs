//! What may be done about a rollout that does not go on, and what a person has to know of it.

use rollback_api::status::TargetStatus;

use super::Scope;

/// Most warnings that a target keeps.
const MAX_WARNINGS: usize = 16;

/// Keeps a warning, once, as far as there is room.
pub(super) fn warn(progress: &mut TargetStatus, warning: String) {
    if progress.warnings.len() < MAX_WARNINGS && !progress.warnings.contains(&warning) {
        progress.warnings.push(warning);
    }
}

/// Says what is missing when the policy asks for the log of a container that crashes and the controller may not read it.
pub(super) fn tell_of_logs(scope: Scope, progress: &mut TargetStatus) {
    let log = scope.seen.last_log.as_ref();
    if log.is_some_and(|log| log.forbidden) {
        let namespace = scope
            .request
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default();
        warn(
            progress,
            format!(
                "The policy asks for the log of a container that crashes (rollout.logTailLines), but the controller may not read logs in namespace {namespace}. \
                 The rollback goes on without it. An administrator of the namespace binds ClusterRole rollback-read-logs there to ServiceAccount rollback-controller."
            ),
        );
    }
}
