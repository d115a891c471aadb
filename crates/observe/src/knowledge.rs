//! What the controller knows that nobody can read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rollback_core::decide::crowd::Crowd;
use rollback_core::observed::{LastLog, Rejection};

/// What the controller knows at the beginning of a pass.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// The open requests that came before this one, as far as its cache knows.
    pub crowd: Option<Crowd>,
    /// The controller's own namespace, where everything automatic is switched off.
    pub home: String,
    /// What this process remembers of the request.
    pub memory: Arc<Memory>,
}

/// What one process remembers of its own writes for a request, and of what it has read. All of it may be gone.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The API server's last word on the write to each Deployment.
    pub rejections: HashMap<String, Rejection>,
    /// Generations that the API server answered to writes, by the name of the Deployment.
    pub accepted: HashMap<String, i64>,
    /// Generations in the intents that this process has stored, by the name of the Deployment.
    pub intended: HashMap<String, i64>,
    /// Why a Job cannot be run, by its name.
    pub refused_jobs: HashMap<String, String>,
    /// Whether the API server refused to let a pod be deleted by force.
    pub may_not_delete: bool,
    /// The log that was read last for each Deployment whose containers crash.
    pub logs: HashMap<String, LastLog>,
    /// Why a Deployment cannot be scaled down, by its name.
    pub refused_scale: BTreeMap<String, String>,
    /// The API server's last word on placing a hold, by the UID of its object.
    pub refused_holds: HashMap<String, Rejection>,
    /// How often a hold was placed, by the UID of its object.
    pub placed_holds: HashMap<String, u32>,
}
