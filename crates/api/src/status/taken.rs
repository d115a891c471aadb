//! What is taken from a workload for a while, and given back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::WorkloadRef;

/// Something that is taken from a workload for a while, and given back. It is stored before it is taken, so that whoever
/// comes after a crash knows what is owed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Taken<T> {
    /// From which workload.
    #[serde(flatten)]
    pub workload: WorkloadRef,
    /// What it had, and gets back.
    pub from: T,
    /// When the intent was stored, before anything was written.
    pub intended_at: Timestamp,
    /// When it was seen to be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// When it was seen to be given back, or to be somebody else's by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Timestamp>,
}

impl<T> Taken<T> {
    /// The intent to take it.
    pub fn intended(workload: WorkloadRef, from: T, now: Timestamp) -> Self {
        Self {
            workload,
            from,
            intended_at: now,
            taken_at: None,
            restored_at: None,
        }
    }

    /// Whether it is not yet given back.
    pub fn is_owed(&self) -> bool {
        self.restored_at.is_none()
    }
}
