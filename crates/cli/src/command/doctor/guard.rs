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
/// What to type where the server could write who asks and who approves.
const APPLY_STAMP: &str = "kubectl apply -f deploy/21-guard-stamp.yaml";
/// What was looked at.
const CHECK: &str = "guard";
/// Why that matters.
const WHY: &str = "without all of them, as they were made, no approval counts, because anybody could have written it";
/// How the rule that refuses a forged name begins. Others refuse for reasons of their own, which shows nothing about this one.
const COMPARED: &str = "spec.requestedBy must say who you are";
/// Whose name is forged.
const SOMEBODY_ELSE: &str = "nobody@rollback-doctor.invalid";

/// Looks at each object that has to be there.
pub async fn look(client: &Client) -> Vec<Finding> {
    let Ok(expected) = Expected::shipped() else {
        return Vec::new();
    };
    let (mut faults, mut missing) = (Vec::new(), Vec::new());
    let (mut many, mut is_served) = (0, true);
    for kind in GuardKind::ALL {
        let found = match objects(client, kind).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if kind.stamps() && status.code == 404 => {
                is_served = false;
                continue;
            }
            Err(error) => return vec![Finding::unknown(CHECK, &error, APPLY)],
        };
        for place in expected.places().filter(|it| it.kind == kind) {
            match find(place, &found) {
                Some(object) => {
                    many += 1;
                    faults.extend(wrong(place, object, &expected));
                }
                None if kind.stamps() => missing.push(is_missing(place)),
                None => faults.push(is_missing(place)),
            }
        }
    }
    let mut findings: Vec<Finding> = faults
        .into_iter()
        .map(|seen| Finding::fault(CHECK, seen, WHY, APPLY))
        .collect();
    if findings.is_empty() {
        let seen = format!("{many} policies and bindings are there, as they were made");
        findings.push(Finding::ok(CHECK, seen));
    }
    findings.push(who_writes(is_served, missing));
    findings
}

/// Who writes who asks and who approves. What checks it is the same everywhere.
fn who_writes(is_served: bool, missing: Vec<String>) -> Finding {
    const CHECK: &str = "identity";
    if !is_served {
        let seen = "who asks and who approves write it, and the API server compares it: it has no MutatingAdmissionPolicy v1";
        return Finding::ok(CHECK, seen);
    }
    match missing.into_iter().next() {
        None => Finding::ok(CHECK, "the API server writes who asks and who approves"),
        Some(seen) => Finding::warning(
            CHECK,
            seen,
            "who asks and who approves write it themselves, and the API server only compares it; this one could write it",
            APPLY_STAMP,
        ),
    }
}

fn find<'a>(place: &Place, found: &'a [DynamicObject]) -> Option<&'a DynamicObject> {
    found.iter().find(|object| object.name_any() == place.name)
}

fn is_missing(place: &Place) -> String {
    format!("{} {} is missing", place.kind.as_str(), place.name)
}

/// Where an object is not the one that was meant.
fn wrong(place: &Place, object: &DynamicObject, expected: &Expected) -> Option<String> {
    let (kind, name) = (place.kind.as_str(), &place.name);
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
        Err(kube::Error::Api(status)) if status.message.contains(COMPARED) => {
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
