//! The ledger of a Deployment as values: who holds it, what is known to be bad, what to write.

use rollback_api::ledger::{Claim, MAX_ROLLBACKS, Rollback};
use rollback_api::status::PlannedTarget;
use rollback_api::{RevisionLedgerSpec, RollbackRequest, Word};

use crate::template;

/// Who holds the claim on a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    /// Nobody.
    Nobody,
    /// The request itself.
    Us,
    /// Another request.
    Other(&'a Claim),
}

/// Who holds the claim, seen from the request with this UID. A ledger of a Deployment that has been
/// deleted since says nothing about the one that has its name now.
pub fn holder<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
    request_uid: &str,
) -> Holder<'a> {
    match current(ledger, deployment_uid).and_then(|ledger| ledger.claim.as_ref()) {
        None => Holder::Nobody,
        Some(claim) if claim.request_uid == request_uid => Holder::Us,
        Some(claim) => Holder::Other(claim),
    }
}

fn current<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
) -> Option<&'a RevisionLedgerSpec> {
    ledger.filter(|ledger| ledger.deployment_uid == deployment_uid)
}

/// Digests of the templates that were rolled back and not restored since.
pub fn bad_templates(ledger: Option<&RevisionLedgerSpec>, deployment_uid: &str) -> Vec<String> {
    let mut bad: Vec<String> = Vec::new();
    for rollback in current(ledger, deployment_uid).map_or(&[][..], |ledger| &ledger.rollbacks) {
        bad.push(rollback.from_digest.clone());
        if rollback.outcome == Word::Succeeded {
            bad.retain(|digest| *digest != rollback.to_digest);
        }
    }
    bad
}

/// The rollback that this very request, by name and content, has already carried out.
pub fn already_done<'a>(
    ledger: Option<&'a RevisionLedgerSpec>,
    deployment_uid: &str,
    request: &RollbackRequest,
) -> Option<&'a Rollback> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let digest = spec_digest(request);
    current(ledger, deployment_uid)?
        .rollbacks
        .iter()
        .find(|rollback| rollback.request == name && rollback.spec_digest == digest)
}

/// Digest of what a request asks for, whoever asks.
pub fn spec_digest(request: &RollbackRequest) -> String {
    let mut spec = request.spec.clone();
    spec.requested_by = None;
    template::digest(&serde_json::to_value(spec).unwrap_or_default())
}

/// The ledger with the claim of this request in it.
pub fn claimed(
    ledger: Option<&RevisionLedgerSpec>,
    request: &RollbackRequest,
    target: &PlannedTarget,
) -> RevisionLedgerSpec {
    let mut next = based_on(ledger, target);
    next.claim = Some(Claim {
        request: request.metadata.name.clone().unwrap_or_default(),
        request_uid: request.metadata.uid.clone().unwrap_or_default(),
    });
    next
}

/// The ledger without the claim, and with the rollback if one was carried out.
pub fn released(
    ledger: Option<&RevisionLedgerSpec>,
    target: &PlannedTarget,
    rollback: Option<Rollback>,
) -> RevisionLedgerSpec {
    let mut next = based_on(ledger, target);
    next.claim = None;
    next.rollbacks.extend(rollback);
    let surplus = next.rollbacks.len().saturating_sub(MAX_ROLLBACKS);
    next.rollbacks.drain(..surplus);
    next
}

fn based_on(ledger: Option<&RevisionLedgerSpec>, target: &PlannedTarget) -> RevisionLedgerSpec {
    current(ledger, &target.uid)
        .cloned()
        .unwrap_or_else(|| RevisionLedgerSpec {
            deployment_uid: target.uid.clone(),
            ..RevisionLedgerSpec::default()
        })
}
