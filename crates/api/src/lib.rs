//! The kinds of `rollback.broxiva.com/v1alpha1`: what people and machines write, and what the
//! controller answers. Types only: no client, no runtime, no decisions.
//!
//! - [`RollbackRequest`]: one rollback, asked for once. Its spec never changes.
//! - [`RollbackPolicy`]: the rules of a namespace; the one named [`POLICY_NAME`] is in force.
//! - [`RevisionLedger`]: the controller's memory about one workload, and the lock on it.

pub mod category;
pub mod conditions;
pub mod hold;
pub mod identity;
pub mod ledger;
pub mod names;
pub mod open_enum;
pub mod policy;
pub mod request;
pub mod served;
pub mod status;
pub mod unknown;
pub mod workload;

pub use conditions::{ConditionType, Reason, RequestState};
pub use identity::Identity;
pub use ledger::{RevisionLedger, RevisionLedgerSpec};
pub use names::*;
pub use policy::{RollbackPolicy, RollbackPolicySpec};
pub use request::{RollbackRequest, RollbackRequestSpec};
pub use status::RollbackRequestStatus;
pub use workload::{TargetRef, WorkloadKind, WorkloadRef};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;

/// The three definitions as they are installed, in the order of their file names. What only the controller writes takes
/// words that this version does not know.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut request = RollbackRequest::crd();
    for status in fields(&mut request, "status") {
        open_enum::open(status);
        status::raise_limits(status);
        status::take_defaults_out(status);
    }
    request::default_status(&mut request);
    let mut ledger = RevisionLedger::crd();
    for spec in fields(&mut ledger, "spec") {
        open_enum::open(spec);
    }
    vec![ledger, RollbackPolicy::crd(), request]
}

/// The schema of a field, in each version.
fn fields<'a>(
    definition: &'a mut CustomResourceDefinition,
    field: &'a str,
) -> impl Iterator<Item = &'a mut JSONSchemaProps> {
    definition
        .spec
        .versions
        .iter_mut()
        .filter_map(move |version| {
            let schema = version.schema.as_mut()?.open_api_v3_schema.as_mut()?;
            schema.properties.as_mut()?.get_mut(field)
        })
}
