//! `RevisionLedger`: what the controller remembers about one workload, and the lock on it.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::category::Urgency;
use crate::hold::Hold;
use crate::open_enum::{OrNewer, open_enum};
use crate::policy::Enforce;
use crate::{RequestState, WorkloadRef};

/// Memory and lock of one workload, which owns it. Written only by the controller, always with
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
    doc = "What the controller remembers about one workload, and the lock on it",
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
    /// The workload; one that was made again has another history.
    pub target_ref: WorkloadRef,

    /// The request that may change the workload now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,

    /// The rollbacks that were carried out, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub rollbacks: Vec<Rollback>,

    /// What is known of each pod template, the one that ran last at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub templates: Vec<Evidence>,

    /// The versions that admission recognizes when somebody brings them back, by name of the workload, so that one that
    /// was deleted and made again is met as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub quarantine: Vec<Quarantined>,

    /// The holds on the owners of the workload: which are to be placed, stand, or are to be released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub holds: Vec<Hold>,
}

/// How many versions in quarantine a ledger holds.
pub const MAX_QUARANTINED: usize = 20;
/// Longest pod spec by which a version in quarantine is recognized, in bytes of JSON.
pub const MAX_POD_SPEC_BYTES: usize = 32 * 1024;

/// A version in quarantine, as admission recognizes it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// Digest of its template.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Name of the request that rolled it back.
    #[schemars(length(max = 253))]
    pub request: String,
    /// Who asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub requested_by: Option<String>,
    /// Why, as the request says it.
    #[serde(default)]
    #[schemars(length(max = 300))]
    pub why: String,
    /// Until when, whoever may then bring it back. Admission has no clock: it takes the time that the API server itself
    /// notes in `managedFields` of each write.
    pub until: Timestamp,
    /// What becomes of a write that brings it back.
    pub enforce: OrNewer<Enforce>,
    /// The images that made it another version than the one that was restored: who brings back all of them brings it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub images: Vec<QuarantinedImage>,
    /// Its pod spec, when no image made it another version. With neither it is not recognized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true))]
    pub pod_spec: Option<serde_json::Value>,
}

/// An image of a version in quarantine.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct QuarantinedImage {
    /// Name of the container.
    #[schemars(length(max = 63))]
    pub container: String,
    /// The ways to name the image. One that begins with `@` is a digest, whatever stands before it.
    #[schemars(length(max = 8), extend("items" = {"type": "string", "maxLength": 600}))]
    pub names: Vec<String>,
}

/// How many templates a ledger remembers.
pub const MAX_TEMPLATES: usize = 20;
/// Longest template that is kept whole, in bytes of JSON.
pub const MAX_TEMPLATE_BYTES: usize = 256 * 1024;
/// Most that all templates together may take.
pub const MAX_TEMPLATES_BYTES: usize = 512 * 1024;

/// What is known of one pod template.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Digest of the template.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Its revision number when it ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub revision: Option<i64>,
    /// Its images, and what the kubelets made of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub images: Vec<RunningImage>,
    /// When it was last what the Deployment asked for.
    pub last_live: Timestamp,
    /// Since when it is what the Deployment asks for, this time; absent when it is not, or when nobody saw it begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_since: Option<Timestamp>,
    /// When each of its replicas was available for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_available: Option<Timestamp>,
    /// Since when each of its replicas is available; absent when it does not run, or is not well now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_since: Option<Timestamp>,
    /// For how many seconds all in all each of its replicas was available before that.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub soaked_seconds: i64,
    /// What it is held for.
    #[serde(default)]
    pub verdict: Verdict,
    /// Which request, or who, said so; absent when it follows from its time alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub judged_by: Option<String>,
    /// When it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_at: Option<Timestamp>,
    /// Until when a bad template is not chosen unless it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_until: Option<Timestamp>,
    /// The template itself, as JSON. Kept for the newest good ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub template: Option<String>,
}

/// An image, and what the kubelets made of its name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunningImage {
    /// Name of the container.
    #[schemars(length(max = 63))]
    pub container: String,
    /// The image as the template names it.
    #[schemars(length(max = 500))]
    pub image: String,
    /// The image as a pod reported it (`imageID`), which a moved tag does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub image_id: Option<String>,
}

open_enum! {
    /// What a template is held for.
    #[derive(Default)]
    pub enum Verdict {
        /// Nobody knows. Never taken for good.
        #[default]
        Unknown,
        /// Each replica was available for long enough, or a rollback to it passed its checks.
        Good,
        /// It was rolled back.
        Bad,
    }
}

/// How many rollbacks a ledger remembers.
pub const MAX_ROLLBACKS: usize = 50;

/// The request that may change a workload now.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Name of the request.
    #[schemars(length(max = 253))]
    pub request: String,
    /// UID of the request.
    #[schemars(length(max = 64))]
    pub request_uid: String,
    /// How urgent it is: a more urgent one may take over until the Deployment is written.
    pub urgency: OrNewer<Urgency>,
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
    /// How it ended for this Deployment.
    pub outcome: RequestState,
    /// Whether nobody approved it but the policy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// Whether checks showed that what was restored is well.
    #[serde(default)]
    pub verified: bool,
}
