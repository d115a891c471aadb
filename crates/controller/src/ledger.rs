//! The one way in which a ledger is written, by requests and by the recorder alike.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client, ResourceExt};
use rollback_api::{
    FIELD_MANAGER, HOLDS_LABEL, LIFT, LIFTED_BY, QUARANTINE_LABEL, RELEASE, RELEASED_BY,
    RevisionLedger, RevisionLedgerSpec, WORKLOAD_NAME_ANNOTATION, WorkloadRef,
};
use rollback_core::history::ledger::{lift_stands, name_of};
use rollback_core::history::quarantine::{self, Enforced};
use rollback_observe::newer::RawLedger;
use serde_json::Value;

/// Creates the ledger, or replaces exactly the version that was read: a lost race is a conflict.
pub async fn write(
    client: &Client,
    namespace: &str,
    old: Option<&RevisionLedger>,
    spec: &RevisionLedgerSpec,
) -> kube::Result<()> {
    let api: Api<RevisionLedger> = Api::namespaced(client.clone(), namespace);
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let ledger = next(old, spec);
    let name = ledger.name_any();
    let written = match old {
        None => api.create(&parameters, &ledger).await,
        Some(_) => api.replace(&name, &parameters, &ledger).await,
    };
    written.map(|_| ())
}

/// Takes the claim out of exactly the version that was read, and leaves every other field as it is, known or not.
pub async fn without_claim(
    client: &Client,
    namespace: &str,
    ledger: RawLedger,
) -> kube::Result<()> {
    let name = ledger.metadata.name.clone().unwrap_or_default();
    let kind = ApiResource::erase::<RevisionLedger>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let mut object = DynamicObject::new(&name, &kind);
    object.metadata = ledger.metadata;
    object.metadata.managed_fields = None;
    object.data = Value::Object(ledger.fields);
    if let Some(spec) = object.data.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("claim");
    }
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    api.replace(&name, &parameters, &object).await.map(|_| ())
}

fn next(old: Option<&RevisionLedger>, spec: &RevisionLedgerSpec) -> RevisionLedger {
    let WorkloadRef { kind, name, uid } = &spec.target_ref;
    let mut ledger = RevisionLedger::new(&name_of(&spec.target_ref), spec.clone());
    let owner = |version: &str| OwnerReference {
        api_version: version.to_owned(),
        kind: kind.as_str().to_owned(),
        name: name.clone(),
        uid: uid.clone(),
        ..OwnerReference::default()
    };
    let enforced = quarantine::enforced(spec);
    if enforced.is_none() && spec.holds.is_empty() {
        // One that admission looks at outlives its Deployment, or deleting and making it again would end a quarantine.
        ledger.metadata.owner_references = kind.api_version().map(|version| vec![owner(version)]);
    }
    mark(&mut ledger, enforced);
    let Some(old) = old else { return ledger };
    ledger.metadata.resource_version = old.resource_version();
    // What a person wrote there is theirs, until it is done.
    ledger
        .metadata
        .annotations
        .clone_from(&old.metadata.annotations);
    ledger.metadata.labels.clone_from(&old.metadata.labels);
    mark(&mut ledger, enforced);
    let done = old
        .annotations()
        .get(LIFT)
        .is_some_and(|digest| !lift_stands(&old.spec, spec, digest));
    if done {
        ledger.annotations_mut().remove(LIFT);
        ledger.annotations_mut().remove(LIFTED_BY);
    }
    let released = old.annotations().get(RELEASE).is_some_and(|request| {
        let mut holds = spec.holds.iter();
        !holds.any(|hold| hold.request == *request && hold.release.is_none())
    });
    if released {
        ledger.annotations_mut().remove(RELEASE);
        ledger.annotations_mut().remove(RELEASED_BY);
    }
    ledger
}

/// Says whether admission has to look at the ledger and whether it has holds, and whose it is when no owner says so.
fn mark(ledger: &mut RevisionLedger, enforced: Option<Enforced>) {
    let name = ledger.spec.target_ref.name.clone();
    let holds = !ledger.spec.holds.is_empty();
    let labels = ledger.labels_mut();
    match enforced {
        None => labels.remove(QUARANTINE_LABEL),
        Some(Enforced::Warn) => labels.insert(QUARANTINE_LABEL.to_owned(), "warn".to_owned()),
        Some(Enforced::Deny) => labels.insert(QUARANTINE_LABEL.to_owned(), "deny".to_owned()),
    };
    if holds {
        labels.insert(HOLDS_LABEL.to_owned(), "true".to_owned());
    } else {
        labels.remove(HOLDS_LABEL);
    }
    let annotations = ledger.annotations_mut();
    if enforced.is_some() || holds {
        annotations.insert(WORKLOAD_NAME_ANNOTATION.to_owned(), name);
    } else {
        annotations.remove(WORKLOAD_NAME_ANNOTATION);
    }
}

#[cfg(test)]
mod tests {
    use rollback_api::ledger::{Evidence, Verdict};

    use super::*;

    fn ledger(verdict: Verdict) -> RevisionLedgerSpec {
        let entry = Evidence {
            digest: "sha256:bad".to_owned(),
            verdict,
            ..Evidence::default()
        };
        RevisionLedgerSpec {
            target_ref: WorkloadRef::deployment("api", "uid-1"),
            templates: vec![entry],
            ..RevisionLedgerSpec::default()
        }
    }

    #[test]
    fn a_lift_is_kept_until_it_is_taken_up_and_the_rest_for_ever() {
        let mut old = RevisionLedger::new("deployment-api", ledger(Verdict::Bad));
        old.metadata.resource_version = Some("7".to_owned());
        for (key, value) in [
            (LIFT, "sha256:bad"),
            (LIFTED_BY, "anna"),
            ("note", "look here"),
        ] {
            old.annotations_mut()
                .insert(key.to_owned(), value.to_owned());
        }
        let kept = next(Some(&old), &ledger(Verdict::Bad));
        assert_eq!(kept.annotations(), old.annotations());
        assert_eq!(kept.name_any(), "deployment-api");
        let owners: Vec<(&str, &str)> = kept
            .owner_references()
            .iter()
            .map(|owner| (owner.kind.as_str(), owner.name.as_str()))
            .collect();
        assert_eq!(owners, [("Deployment", "api")]);
        assert_eq!(kept.resource_version().as_deref(), Some("7"));
        let done = next(Some(&old), &ledger(Verdict::Unknown));
        let left: Vec<&str> = done.annotations().keys().map(String::as_str).collect();
        assert_eq!(left, ["note"]);
    }
}
