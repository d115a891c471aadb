//! `RevisionLedger`: what the controller remembers about one Deployment, and the lock on it.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::Word;

/// Memory and lock of one Deployment, which owns it. Written only by the controller, always with
/// the `resourceVersion` that was read: a lost race is a lost claim.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "rollback.broxiva.com",
    version = "v1alpha1",
    kind = "RevisionLedger",
    namespaced,
    derive = "PartialEq",
    shortname = "rbl",
    category = "rollback",
    doc = "What the controller remembers about one Deployment, and the lock on it",
    printcolumn(
        name = "Claimed by",
        type_ = "string",
        json_path = ".spec.claim.request"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RevisionLedgerSpec {
    /// UID of the Deployment; a Deployment that was made again has another history.
    #[schemars(length(max = 64))]
    pub deployment_uid: String,

    /// The request that may change the Deployment now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,

    /// The rollbacks that were carried out, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub rollbacks: Vec<Rollback>,
}

/// How many rollbacks a ledger remembers.
pub const MAX_ROLLBACKS: usize = 50;

/// The request that may change a Deployment now.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Name of the request.
    #[schemars(length(max = 253))]
    pub request: String,
    /// UID of the request.
    #[schemars(length(max = 64))]
    pub request_uid: String,
}

/// One rollback that was carried out.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// Name of the request.
    #[schemars(length(max = 253))]
    pub request: String,
    /// UID of the request.
    #[schemars(length(max = 64))]
    pub request_uid: String,
    /// Digest of what the request asked for. The same name asking for the same is the same request,
    /// however often it is deleted and created again.
    #[schemars(length(max = 71))]
    pub spec_digest: String,
    /// Digest of the template that was rolled back: known bad.
    #[schemars(length(max = 71))]
    pub from_digest: String,
    /// Digest of the template that was restored.
    #[schemars(length(max = 71))]
    pub to_digest: String,
    /// When it was restored.
    pub at: Timestamp,
    /// How the request ended.
    pub outcome: Word,
}
