//! Whether the API server is asked about versions in quarantine. Rollbacks work without it.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Client};

use super::Finding;

/// What was looked at.
const CHECK: &str = "quarantine";
/// What to type when something is missing.
const APPLY: &str = "kubectl apply -f deploy/25-quarantine.yaml";
/// Why that matters.
const WHY: &str =
    "without them nobody is warned or refused who brings back a version that was rolled back";
/// The policy.
const POLICY: &str = "rollback-quarantine";
/// Its bindings.
const BINDINGS: [&str; 2] = ["rollback-quarantine-deny", "rollback-quarantine-warn"];

/// Looks whether the policy and its bindings are there.
pub async fn look(client: &Client) -> Finding {
    match missing(client).await {
        Err(error) => Finding::unknown(CHECK, &error, APPLY),
        Ok(missing) if missing.is_empty() => Finding::ok(
            CHECK,
            "who brings back a version in quarantine is warned or refused",
        ),
        Ok(missing) => {
            let seen = format!("missing: {}", missing.join(", "));
            Finding::fault(CHECK, seen, WHY, APPLY)
        }
    }
}

async fn missing(client: &Client) -> kube::Result<Vec<&'static str>> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let (policy, deny, warn) = futures::try_join!(
        policies.get_metadata_opt(POLICY),
        bindings.get_metadata_opt(BINDINGS[0]),
        bindings.get_metadata_opt(BINDINGS[1])
    )?;
    let found = [
        (POLICY, policy.is_some()),
        (BINDINGS[0], deny.is_some()),
        (BINDINGS[1], warn.is_some()),
    ];
    let missing = found.into_iter().filter(|(_, is_there)| !is_there);
    Ok(missing.map(|(name, _)| name).collect())
}
