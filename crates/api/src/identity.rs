//! Who somebody is.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// An authenticated user, as the API server knows it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// User name.
    #[schemars(length(max = 1000))]
    pub username: String,

    /// UID that the authenticator gave, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub uid: Option<String>,

    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 1000)))]
    pub groups: Vec<String>,
}
