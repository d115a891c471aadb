//! Holds: that the owner of a workload is asked to leave it alone, so that what was rolled back stays rolled back.

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// How an owner is kept from writing a workload.
    #[derive(PartialOrd, Ord)]
    pub enum HoldMeans {
        /// The Deployment is told to be left alone by a Flux Kustomization
        /// (`kustomize.toolkit.fluxcd.io/reconcile: disabled`). Everything else of it goes on.
        FluxReconcileDisabled,
        /// A Flux `HelmRelease` is suspended: nothing of it is upgraded or corrected.
        FluxSuspend,
        /// The automatic sync of an Argo CD Application is switched off: nothing of it is synced by itself.
        ArgoAutomationOff,
    }
}

/// The object that a hold stands on.
#[derive(
    KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord,
)]
#[serde(rename_all = "camelCase")]
pub struct HeldObject {
    /// Its kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID: one that was made again is not held.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Where an owner takes what it applies from, as far as its status tells.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// The repository, or the object that stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub repository: Option<String>,
    /// Where in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub path: Option<String>,
    /// The revision that was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub revision: Option<String>,
}

/// A hold that is to be placed before the revert.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedHold {
    /// How.
    pub means: HoldMeans,
    /// The owner, as a reader knows it.
    #[schemars(length(max = 600))]
    pub owner: String,
    /// The object that is written.
    pub object: HeldObject,
    /// What stands there now, as JSON; absent when there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub before: Option<String>,
    /// What else waits as long as it is held, as far as the owner lists it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 21), extend("items" = {"type": "string", "maxLength": 600}))]
    pub others: Vec<String>,
    /// What has to be changed there until the hold can be released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
}

/// How many holds one workload can have.
pub const MAX_HOLDS: usize = 4;

/// A hold, as the ledger of its workload remembers it: stored before it is placed, and until it is released.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// How.
    pub means: HoldMeans,
    /// The owner, as a reader knows it.
    #[schemars(length(max = 600))]
    pub owner: String,
    /// The object that is written.
    pub object: HeldObject,
    /// What stood there before, as JSON, which is put back; absent when there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub before: Option<String>,
    /// Name of the request that it is for.
    #[schemars(length(max = 253))]
    pub request: String,
    /// UID of that request.
    #[schemars(length(max = 64))]
    pub request_uid: String,
    /// When that was decided.
    pub at: Timestamp,
    /// Where the version comes from that is kept away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// The images that have to be changed there, as `CONTAINER: IMAGE -> IMAGE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("items" = {"type": "string", "maxLength": 1100}))]
    pub images: Vec<String>,
    /// That it is to be released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<HoldRelease>,
}

/// That a hold is to be released.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HoldRelease {
    /// Who said so.
    #[schemars(length(max = 300))]
    pub by: String,
    /// Why.
    #[schemars(length(max = 300))]
    pub why: String,
    /// When.
    pub at: Timestamp,
}
