//! Whether a request that has one of our names is the one that would be asked for.
//!
//! The names can be computed by whoever reads the Deployment, so a name alone says nothing: a request under it may be
//! somebody else's, or about something else, and then the version that is live has not been asked about at all.

use jiff::Timestamp;
use rollback_api::request::{From, Target};
use rollback_api::{Identity, Reason, RollbackRequest};

use crate::message::text::plain;
use crate::plan;

/// Whom the API server knows the controller's own watch as.
pub const WATCH: &str = "system:serviceaccount:rollback-system:rollback-watch";
/// Whom the API server knows the receiver of alerts as, where it runs as it is shipped.
pub const RECEIVER: &str = "system:serviceaccount:rollback-system:rollback-receiver";

/// The identity of a ServiceAccount of this name, with the groups that each has. Without a uid: the account may be another
/// one by the time that it asks.
pub fn account(username: &str) -> Identity {
    let namespace = username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .map_or("", |(namespace, _)| namespace);
    Identity {
        username: username.to_owned(),
        uid: None,
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
    }
}

/// Why what is there is not what would be asked for; `None` when it is, so that nobody has to ask again. `ours`: whom
/// the API server knows those as who ask by themselves.
pub fn difference(
    there: &RollbackRequest,
    wanted: &RollbackRequest,
    ours: &[&str],
) -> Option<String> {
    if there.spec.trigger.is_none() {
        return Some("it did not come by itself".to_owned());
    }
    let by = there.spec.requested_by.as_ref();
    let by = by.map_or("", |by| by.username.as_str());
    if !ours.contains(&by) {
        return Some(format!("{} asked for it", plain(by, 200)));
    }
    if !plan::beyond(there).is_empty() {
        return Some("it asks for more than to go back".to_owned());
    }
    if bad(there).is_none() || bad(there) != bad(wanted) {
        return Some("it is about another Deployment or another version".to_owned());
    }
    if there.spec.reason.category != wanted.spec.reason.category {
        return Some("it is about another kind of trouble".to_owned());
    }
    let wanted = wanted.spec.trigger.as_ref()?;
    is_no_answer(there, &wanted.source, wanted.started_at).map(str::to_owned)
}

/// Why a request of the same content is no answer to an alert of this source that began then: it was refused for
/// something that does not hold for this one.
pub fn is_no_answer(
    there: &RollbackRequest,
    source: &str,
    started_at: Timestamp,
) -> Option<&'static str> {
    let asked = there.spec.trigger.as_ref()?;
    let outcome = there.outcome()?;
    if outcome.reason == Reason::SourceNotAllowed && asked.source != source {
        return Some("its source may not ask here");
    }
    let is_newer = asked.started_at < started_at;
    if outcome.reason == Reason::AlertOlderThanVersion && is_newer {
        return Some("it was about an older alert");
    }
    // What fires anew is another matter than what was let lie: the policy may have been put right since, and there may be
    // somebody now. How often is bounded by the names that there are.
    let was_let_lie = matches!(
        outcome.reason,
        Reason::SourceNotAllowed | Reason::NotApprovedInTime
    );
    if was_let_lie && is_newer {
        return Some("it ended without a decision, and it fires anew");
    }
    is_of_the_moment(outcome.reason).then_some("it was refused for what may not hold any more")
}

/// Whether a request was refused for something that has to do with the moment, and not with the version that it is about:
/// an alert that comes again has to be asked about again, or whoever brought about that moment has silenced it for good.
fn is_of_the_moment(reason: Reason) -> bool {
    match reason {
        Reason::TooManyOpenRequests
        | Reason::Paused
        | Reason::NamespaceNotOptedIn
        | Reason::DeploymentDeleting
        | Reason::LegacyRollback
        | Reason::Forbidden
        | Reason::ReferenceMissing
        | Reason::SelfHealingOwner
        | Reason::HoldNotPlaced
        | Reason::TooLarge
        | Reason::RequesterUnknown => true,
        Reason::RolledBack
        | Reason::NoOp
        | Reason::Equivalent
        | Reason::Unverified
        | Reason::AlreadyRolledBack
        | Reason::DryRun
        | Reason::NotLive
        | Reason::TemplateChanged
        | Reason::DeniedByApprover
        | Reason::CancelledByUser
        | Reason::Deleted
        | Reason::NotApprovedInTime
        | Reason::DeploymentNotFound
        | Reason::NoHistory
        | Reason::RevisionNotFound
        | Reason::ImageNotInHistory
        | Reason::VersionNotInHistory
        | Reason::Ambiguous
        | Reason::HotfixForward
        | Reason::Unsupported
        | Reason::SpecChanged
        | Reason::HistoryPruned
        | Reason::DigestMismatch
        | Reason::TargetGone
        | Reason::PatchRejected
        | Reason::RolloutTimedOut
        | Reason::RolloutFailed
        | Reason::ChecksFailed
        | Reason::RolledBackByAnother
        | Reason::TooMany
        | Reason::NothingFound
        | Reason::NoKnownGood
        | Reason::BackupNotFound
        | Reason::BackupMismatch
        | Reason::TargetsRefused
        | Reason::NotBegun
        | Reason::TargetsFailed
        | Reason::TemplateMutated
        | Reason::Overwritten
        | Reason::RestoreFailed
        | Reason::RestoredFromBackup
        | Reason::HealthUnknown
        | Reason::HookVetoed
        | Reason::HookFailed
        | Reason::SourceNotAllowed
        | Reason::AlertOlderThanVersion
        | Reason::DidNotHelp
        | Reason::Newer(_) => false,
    }
}

/// The one Deployment that a request is about, and the digest of its bad version.
fn bad(request: &RollbackRequest) -> Option<(&str, &str)> {
    let [
        Target {
            name: Some(name),
            from:
                Some(From {
                    template_digest: Some(digest),
                    ..
                }),
            ..
        },
    ] = request.spec.targets.as_slice()
    else {
        return None;
    };
    Some((name, digest))
}
