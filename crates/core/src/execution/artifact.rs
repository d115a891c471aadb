//! ConfigMaps that the controller leaves behind: the backup of a workload and the incident report.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rollback_api::status::PlannedTarget;
use rollback_api::{
    ARTIFACT_LABEL, BREAK_GLASS_LABEL, REQUEST_NAME_ANNOTATION, REQUEST_UID_LABEL, RollbackRequest,
    WORKLOAD_KIND_LABEL, WORKLOAD_NAME_ANNOTATION, WorkloadKind, WorkloadRef,
};
use serde_json::{Value, json};

use crate::approval::consent;
use crate::history::template::{self, Template};
use crate::observed::Deployment;

/// What a ConfigMap of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// The Deployment before it was touched.
    Backup,
    /// The report.
    Incident,
}

impl ArtifactKind {
    /// Value of [`ARTIFACT_LABEL`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Incident => "incident",
        }
    }
}

/// A ConfigMap to be written once. Its name follows from the request alone, so that writing it again
/// is the same write.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// Name of the ConfigMap.
    pub name: String,
    /// The workload that it is about; an incident may be about several.
    pub workload: Option<WorkloadRef>,
    /// Its data.
    pub data: BTreeMap<String, String>,
}

impl Artifact {
    /// The ConfigMap. It has no owner: it outlives the request, and somebody has to delete it knowingly.
    pub fn config_map(&self, request: &RollbackRequest) -> Value {
        let mut config_map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": request.metadata.namespace,
                "labels": {
                    "app.kubernetes.io/managed-by": rollback_api::FIELD_MANAGER,
                    ARTIFACT_LABEL: self.kind.as_str(),
                    REQUEST_UID_LABEL: request.metadata.uid,
                },
                "annotations": {REQUEST_NAME_ANNOTATION: request.metadata.name},
            },
            "immutable": true,
            "data": self.data,
        });
        if let Some(workload) = &self.workload {
            let metadata = &mut config_map["metadata"];
            metadata["labels"][WORKLOAD_KIND_LABEL] = json!(workload.kind);
            metadata["annotations"][WORKLOAD_NAME_ANNOTATION] = json!(workload.name);
        }
        let alone = request.status.as_ref().is_some_and(|status| {
            let approvals = consent::approvals(status);
            approvals.iter().any(|one| one.break_glass.is_some())
        });
        if alone {
            config_map["metadata"]["labels"][BREAK_GLASS_LABEL] = json!("true");
        }
        config_map
    }
}

/// Name of the backup of one target.
pub fn backup_name(request: &RollbackRequest, kind: WorkloadKind, name: &str) -> String {
    let identity = json!([request.metadata.uid, kind, name]);
    format!("rollback-backup-{}", short(&template::digest(&identity)))
}

/// The Deployment as it was, and the template that is about to replace its own.
pub fn backup(
    request: &RollbackRequest,
    target: &PlannedTarget,
    deployment: &Deployment,
    restored: &Template,
) -> Artifact {
    Artifact {
        kind: ArtifactKind::Backup,
        name: backup_name(request, target.workload.kind, &target.workload.name),
        workload: Some(target.workload.clone()),
        data: BTreeMap::from([
            ("deployment.json".to_owned(), deployment.0.to_string()),
            ("template.json".to_owned(), restored.as_json().to_string()),
        ]),
    }
}

/// Bytes that a backup takes.
pub fn backup_size(deployment: &Deployment, restored: &Template) -> usize {
    deployment.0.to_string().len() + restored.as_json().to_string().len()
}

/// The Deployment in the data of a backup; `None` when it is none.
pub fn backed_up(data: &BTreeMap<String, String>) -> Option<Deployment> {
    let value: Value = serde_json::from_str(data.get("deployment.json")?).ok()?;
    value.is_object().then_some(Deployment(value))
}

/// `rollback-YYYYMMDD-HHMMSS`, from the end of the request.
pub fn incident_stem(end: Timestamp) -> String {
    end.strftime("rollback-%Y%m%d-%H%M%S").to_string()
}

/// Name of the incident: the stem, and a suffix that follows from the request.
pub fn incident_name(request: &RollbackRequest, end: Timestamp) -> String {
    let identity = template::digest(&json!([request.metadata.uid]));
    let suffix: String = short(&identity).chars().take(8).collect();
    format!("{}-{suffix}", incident_stem(end))
}

/// Sixteen hex digits of a digest.
fn short(digest: &str) -> String {
    digest
        .trim_start_matches("sha256:")
        .chars()
        .take(16)
        .collect()
}
