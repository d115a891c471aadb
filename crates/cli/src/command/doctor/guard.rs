//! Whether the admission policies are there that make approvals true, whether they are what this plugin was built with, and
//! whether the API server obeys them.

use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::{Client, ResourceExt};
use rollback_api::{GUARD_LABEL, RollbackRequest};
use rollback_observe::guard::{Expected, GuardKind, Place};
use serde_json::{Value, json};

use super::{Finding, Verdict};
use crate::cluster::{Cluster, FIELD_MANAGER};
use crate::error::Error;
use crate::output::clean;

/// What to type when something is wrong with it.
const APPLY: &str = "kubectl apply -f deploy/20-guard.yaml";
/// What was looked at.
const CHECK: &str = "guard";
/// Why that matters.
const WHY: &str = "without all of them, as they were made, no approval counts, because anybody could have written it";
/// The policy that refuses a forged name, as the API server quotes it. Others refuse for reasons of their own, which shows
/// nothing about this one.
const STAMPS: &str = "'rollback-guard-stamps'";
/// Whose name is forged.
const SOMEBODY_ELSE: &str = "nobody@rollback-doctor.invalid";

/// Looks at each object that has to be there.
pub async fn look(client: &Client) -> Vec<Finding> {
    let Ok(expected) = Expected::shipped() else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    let mut many = 0;
    for kind in GuardKind::ALL {
        let found = match objects(client, kind).await {
            Ok(found) => found,
            Err(error) => return vec![Finding::unknown(CHECK, &error, APPLY)],
        };
        let wanted: Vec<&Place> = expected.places().filter(|it| it.kind == kind).collect();
        many += wanted.len();
        faults.extend(
            wanted
                .iter()
                .filter_map(|place| wrong(place, &found, &expected)),
        );
    }
    if faults.is_empty() {
        let seen = format!("{many} policies and bindings are there, as they were made");
        return vec![Finding::ok(CHECK, seen)];
    }
    let faults = faults.into_iter();
    faults
        .map(|seen| Finding::fault(CHECK, seen, WHY, APPLY))
        .collect()
}

/// What is wrong with one object.
fn wrong(place: &Place, found: &[DynamicObject], expected: &Expected) -> Option<String> {
    let (kind, name) = (place.kind.as_str(), &place.name);
    let is_it = |object: &&DynamicObject| object.name_any() == *name;
    let Some(object) = found.iter().find(is_it) else {
        return Some(format!("{kind} {name} is missing"));
    };
    let spec = object.data.get("spec").unwrap_or(&Value::Null);
    let path = expected.difference(place, spec)?;
    Some(format!(
        "{kind} {name} differs from what this plugin was built with ({})",
        clean(&path)
    ))
}

async fn objects(client: &Client, kind: GuardKind) -> kube::Result<Vec<DynamicObject>> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
    let labelled = ListParams::default().labels(GUARD_LABEL);
    Ok(api.list(&labelled).await?.items)
}

/// Forges a request in the name of somebody else, by a dry run that stores nothing: the API server has to refuse it, or to
/// put the true name into it.
pub async fn obeyed(cluster: &Cluster) -> Result<Option<Finding>, Error> {
    const CHECK: &str = "guard in force";
    let forged = json!({
        "metadata": {"generateName": "rollback-doctor-"},
        "spec": {
            "targets": [{"kind": "Deployment", "name": "rollback-doctor", "to": {"previous": {}}}],
            "reason": {"category": "Feature", "summary": "kubectl rollback doctor tries the guard; nothing is stored"},
            "requestedBy": {"username": SOMEBODY_ELSE},
        },
    });
    let forged: RollbackRequest =
        serde_json::from_value(forged).map_err(|error| Error::Format(error.to_string()))?;
    let parameters = PostParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    };
    let api = cluster.api::<RollbackRequest>();
    Ok(match api.create(&parameters, &forged).await {
        Ok(made) => {
            let by = made.spec.requested_by.map(|by| by.username);
            Some(if by.as_deref() == Some(SOMEBODY_ELSE) {
                Finding::fault(
                    CHECK,
                    "a request in the name of somebody else would be stored",
                    "the API server does not obey the policies, so anybody may ask and approve as anybody",
                    APPLY,
                )
            } else {
                Finding::ok(CHECK, "a forged request got your own name")
            })
        }
        Err(kube::Error::Api(status)) if status.message.contains(STAMPS) => {
            Some(Finding::ok(CHECK, "a forged request was refused"))
        }
        // Without the definitions, or without the right to ask, there is nothing to try.
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(kube::Error::Api(status)) => Some(Finding {
            check: CHECK,
            verdict: Verdict::Unknown,
            seen: if status.code == 403 {
                "it was not tried: you may not ask for rollbacks here".to_owned()
            } else {
                format!("it could not be tried: {}", clean(&status.message))
            },
            why: "nobody can tell from here whether the API server obeys it",
            next: "kubectl rollback doctor, as somebody who may ask for rollbacks".to_owned(),
        }),
        Err(error) => return Err(error.into()),
    })
}
