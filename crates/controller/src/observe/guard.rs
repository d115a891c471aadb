//! The admission policies that make approvals true: which of them are there, and which versions.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::GUARD_LABEL;
use rollback_api::status::GuardPolicy;
use rollback_core::observed::Guard;

use super::{Error, reading};

/// The policies that mutate, as `deploy/20-guard.yaml` names them. Each has a binding of its name.
const MUTATING: [&str; 1] = ["rollback-guard-stamp"];
/// The policies that validate.
const VALIDATING: [&str; 11] = [
    "rollback-guard-approval",
    "rollback-guard-artifact",
    "rollback-guard-cancel",
    "rollback-guard-create",
    "rollback-guard-denial",
    "rollback-guard-deployment",
    "rollback-guard-finalizer",
    "rollback-guard-ledger",
    "rollback-guard-spec",
    "rollback-guard-stamps",
    "rollback-guard-status",
];

/// Reads the guard.
pub async fn guard(client: &Client) -> Result<Guard, Error> {
    let lists = futures::try_join!(
        list::<MutatingAdmissionPolicy>(client),
        list::<MutatingAdmissionPolicyBinding>(client),
        list::<ValidatingAdmissionPolicy>(client),
        list::<ValidatingAdmissionPolicyBinding>(client),
    );
    let (mutating, mutating_bindings, validating, validating_bindings) =
        reading("the admission policies", lists)?;
    let missing = [
        missing(&MUTATING, &mutating, "MutatingAdmissionPolicy"),
        missing(
            &MUTATING,
            &mutating_bindings,
            "MutatingAdmissionPolicyBinding",
        ),
        missing(&VALIDATING, &validating, "ValidatingAdmissionPolicy"),
        missing(
            &VALIDATING,
            &validating_bindings,
            "ValidatingAdmissionPolicyBinding",
        ),
    ]
    .concat();
    let mut present = [mutating, mutating_bindings, validating, validating_bindings].concat();
    present.sort();
    Ok(Guard { present, missing })
}

/// The objects of one kind that belong to the guard. A server that does not know the kind has none.
async fn list<K>(client: &Client) -> kube::Result<Vec<GuardPolicy>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let labelled = ListParams::default().labels(GUARD_LABEL);
    match api.list_metadata(&labelled).await {
        Ok(list) => Ok(list
            .items
            .iter()
            .filter(|object| object.metadata.deletion_timestamp.is_none())
            .map(|object| GuardPolicy {
                kind: K::kind(&()).into_owned(),
                name: object.name_any(),
                uid: object.uid().unwrap_or_default(),
                generation: object.metadata.generation.unwrap_or_default(),
            })
            .collect()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn missing(expected: &[&str], present: &[GuardPolicy], kind: &str) -> Vec<String> {
    expected
        .iter()
        .filter(|name| !present.iter().any(|policy| policy.name == **name))
        .map(|name| format!("{kind} {name}"))
        .collect()
}
