//! Identity of a workload: `StatefulSet/api` and `Deployment/api` are two, and one that was deleted and made again is
//! another one.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// Kind of a workload. It implies the API version.
    #[derive(Default, PartialOrd, Ord, Hash)]
    pub enum WorkloadKind {
        /// `apps/v1`.
        #[default]
        Deployment,
    }
}

impl WorkloadKind {
    /// API version of the kind; `None` when only a newer version knows it.
    pub fn api_version(self) -> Option<&'static str> {
        match self {
            Self::Deployment => Some("apps/v1"),
            Self::Newer(_) => None,
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One workload, by identity and not only by name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadRef {
    /// Kind of the workload.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// Name of the workload.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the workload; one that was made again has another.
    #[schemars(length(max = 64))]
    pub uid: String,
}

impl WorkloadRef {
    /// A Deployment.
    pub fn deployment(name: &str, uid: &str) -> Self {
        Self {
            kind: WorkloadKind::Deployment,
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.name)
    }
}

/// Which workload of the namespace a person means.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.kind) || self.kind == 'Deployment'")
    .message("kind must be Deployment; no other kind can be named here yet"))]
pub struct TargetRef {
    /// Kind of the workload; only Deployment.
    #[serde(default = "deployment")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl TargetRef {
    /// Whether it means the workload with this kind and name.
    pub fn means(&self, kind: WorkloadKind, name: &str) -> bool {
        self.kind == kind.as_str() && self.name == name
    }
}

/// What a kind is that nobody gives.
pub(crate) fn deployment() -> String {
    WorkloadKind::Deployment.as_str().to_owned()
}

/// Whether a kind need not be given.
pub(crate) fn is_deployment(kind: &str) -> bool {
    kind == WorkloadKind::Deployment.as_str()
}
