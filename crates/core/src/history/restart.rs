//! What tools write into a pod template only so that its pods are started anew: marks. A template that differs from another
//! in marks alone runs the same version.
//!
//! The digest of configuration that a chart puts into an annotation (`checksum/config`, and whatever ends in `-hash` of its
//! author's making) is no mark: it comes with the release, and says that the release brings another configuration.

use serde_json::Value;

/// Annotations that are marks: kubectl (and `oc`, Argo CD, Lens, k9s, which write the same), Rancher, the console of
/// `OpenShift`, `KubeSphere`, Reloader, Wave, Keel, the operators of Vault, 1Password and Infisical, and the one that the
/// documentation of Helm tells one to fill with chance.
const ANNOTATIONS: [&str; 14] = [
    "alpha.vault.security.banzaicloud.io/secret-reload-count",
    "cattle.io/timestamp",
    "configmap.fabric8.io/update-on-change",
    "keel.sh/update-time",
    "kubectl.kubernetes.io/restartedAt",
    "kubesphere.io/restartedAt",
    "openshift.openshift.io/restartedAt",
    "operator.1password.io/lastRestarted",
    "reloader.stakater.com/last-reloaded-from",
    "rollme",
    "secrets.infisical.com/auto-reload",
    "vault.security.banzaicloud.io/secret-reload-count",
    "vso.secrets.hashicorp.com/restartedAt",
    "wave.pusher.com/config-hash",
];
/// Beginnings of annotations that are marks, each followed by the name of a Secret.
const PREFIXES: [&str; 2] = [
    "secrets.doppler.com/secretsupdate.",
    "secrets.infisical.com/managed-secret.",
];

/// Whether an annotation of a pod template is a mark.
pub fn is_mark(annotation: &str) -> bool {
    ANNOTATIONS.contains(&annotation) || PREFIXES.iter().any(|known| annotation.starts_with(known))
}

/// Whether a variable of a container is a mark: Reloader writes `STAKATER_NAME_CONFIGMAP` and `STAKATER_NAME_SECRET`.
pub fn is_mark_variable(variable: &Value) -> bool {
    let name = variable.get("name").and_then(Value::as_str);
    let is_named = name.is_some_and(|name| {
        name.strip_prefix("STAKATER_").is_some_and(|rest| {
            ["_CONFIGMAP", "_SECRET", "_SECRETPROVIDERCLASS"]
                .iter()
                .any(|end| rest.ends_with(end))
        })
    });
    is_named && variable.get("valueFrom").is_none()
}
