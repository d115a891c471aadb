//! Objects as the API server serves them, and the plainest world that takes the steps of a request.
//!
//! The Deployment `api` in namespace `shop` runs `v2` (revision 2, bad) and ran `v1` (revision 1); so does
//! every other Deployment that a test asks for.

#![allow(dead_code, reason = "every test file uses a part of this")]
#![allow(unused_imports, reason = "every test file uses a part of this")]

use std::collections::BTreeMap;

use rollback_api::RollbackRequestStatus;

pub mod kstatus;
mod objects;
pub mod patch;
mod reads;
mod scene;

pub use objects::*;
pub use reads::{Observed, ObservedTarget, made};
pub use scene::{Move, Scene};

/// UID of the Deployment.
pub const DEPLOYMENT: &str = "d-1";
/// UID of the request.
pub const REQUEST: &str = "7c9c41d6-8a9c-4c0e-9d3b-5d9b6f1f2a10";
/// The change-cause of the revert of that request.
pub const CAUSE: &str =
    "rollback to revision 1 by RollbackRequest api-5xx (7c9c41d6-8a9c-4c0e-9d3b-5d9b6f1f2a10)";
/// Who asks.
pub const REQUESTER: &str = "ann@broxiva.com";

/// Reason of a condition.
pub fn reason_of(status: &RollbackRequestStatus, kind: &str) -> String {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map_or_else(String::new, |condition| condition.reason.clone())
}

/// `type -> (status, reason)` of all conditions.
pub fn condition_map(status: &RollbackRequestStatus) -> BTreeMap<String, (String, String)> {
    status
        .conditions
        .iter()
        .map(|condition| {
            (
                condition.type_.clone(),
                (condition.status.clone(), condition.reason.clone()),
            )
        })
        .collect()
}
