//! Holds on the owners of a Deployment: what is written to place one and to end it, and what is to be seen of it.
//!
//! A hold is three things: an entry in the ledger, stored before it is placed, which only we can write; the value on the
//! object that keeps the owner away; and beside it a mark that names the request. It is taken for ours only when all three
//! are there. The mark alone proves nothing; without it the value is somebody else's, and theirs to take away.

pub mod plan;
pub mod release;

use jiff::Timestamp;
use rollback_api::hold::{GitSource, HeldObject, Hold, HoldMeans, PlannedHold};
use rollback_api::status::PlannedTarget;
use rollback_api::{HELD_BECAUSE, HELD_BY, RollbackRequest};
use serde_json::{Value, json};

use crate::message::shell;
use crate::message::text::plain;
use crate::observed::Fetched;
use crate::plan::owner::{Lookup, text};
use crate::plan::uid;
use crate::time;

/// The annotation that keeps a Kustomization of Flux from an object, and that of applying it only sometimes.
const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";
const SSA: &str = "kustomize.toolkit.fluxcd.io/ssa";
/// How many images are remembered with a hold.
const MOST_IMAGES: usize = 10;

/// What is to be seen of a hold on its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// It could not be read, so nothing is known.
    Unread,
    /// The object is gone, or was made again.
    Gone,
    /// Nothing holds the owner; this stands there, as JSON.
    Free(Option<String>),
    /// It is held, with the mark of this request.
    Ours,
    /// It is held by somebody else.
    Foreign,
}

/// The mark of a request on what is held for it.
pub fn mark(request: &RollbackRequest) -> String {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    marked(
        &name(&request.metadata.namespace),
        &name(&request.metadata.name),
        uid(request),
    )
}

fn marked(namespace: &str, request: &str, uid: &str) -> String {
    format!("{namespace}/{request} ({uid})")
}

/// The mark of the request that a hold of the ledger is for.
pub fn mark_of(namespace: &str, hold: &Hold) -> String {
    marked(namespace, &hold.request, &hold.request_uid)
}

/// Where the value stands that holds.
fn pointer(means: HoldMeans) -> Option<String> {
    Some(match means {
        HoldMeans::FluxReconcileDisabled => annotation(RECONCILE),
        HoldMeans::FluxSuspend => "/spec/suspend".to_owned(),
        HoldMeans::ArgoAutomationOff => "/spec/syncPolicy/automated/enabled".to_owned(),
        HoldMeans::Newer(_) => return None,
    })
}

fn annotation(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('/', "~1"))
}

/// The value that holds.
fn holding(means: HoldMeans) -> Value {
    match means {
        HoldMeans::FluxReconcileDisabled => json!("disabled"),
        HoldMeans::FluxSuspend => json!(true),
        HoldMeans::ArgoAutomationOff => json!(false),
        HoldMeans::Newer(_) => Value::Null,
    }
}

/// The object to read, and to write. None for means of a newer version, and names that no object can have.
pub fn lookup(means: HoldMeans, object: &HeldObject) -> Option<Lookup> {
    let (group, version, plural) = match means {
        HoldMeans::FluxReconcileDisabled => ("apps", "v1", "deployments"),
        HoldMeans::FluxSuspend => ("helm.toolkit.fluxcd.io", "v2", "helmreleases"),
        HoldMeans::ArgoAutomationOff => ("argoproj.io", "v1alpha1", "applications"),
        HoldMeans::Newer(_) => return None,
    };
    Some(Lookup {
        group,
        version,
        plural,
        namespace: Some(object.namespace.clone()),
        name: object.name.clone(),
    })
}

/// Whether the object that is written is the workload itself.
pub fn is_on_the_workload(means: HoldMeans) -> bool {
    match means {
        HoldMeans::FluxReconcileDisabled => true,
        HoldMeans::FluxSuspend | HoldMeans::ArgoAutomationOff | HoldMeans::Newer(_) => false,
    }
}

/// What is to be seen of a hold; `mark` is that of the request in question.
pub fn state(means: HoldMeans, uid: &str, object: &Fetched<Value>, mark: &str) -> HoldState {
    let object = match object {
        Fetched::Unknown => return HoldState::Unread,
        Fetched::Absent => return HoldState::Gone,
        Fetched::Found(object) => object,
    };
    let Some(pointer) = pointer(means) else {
        return HoldState::Unread;
    };
    if text(object, "/metadata/uid") != uid
        || object.pointer("/metadata/deletionTimestamp").is_some()
    {
        return HoldState::Gone;
    }
    let value = object.pointer(&pointer).filter(|value| !value.is_null());
    if value == Some(&holding(means)) {
        let is_ours = text(object, &annotation(HELD_BY)) == mark;
        return if is_ours {
            HoldState::Ours
        } else {
            HoldState::Foreign
        };
    }
    if is_held_otherwise(means, object) {
        return HoldState::Foreign;
    }
    HoldState::Free(value.map(ToString::to_string))
}

/// Whether the owner is kept away by what we would not write.
fn is_held_otherwise(means: HoldMeans, object: &Value) -> bool {
    match means {
        HoldMeans::FluxReconcileDisabled => {
            let is = |key: &str, wanted: &str| {
                let label = format!("/metadata/labels/{}", key.replace('/', "~1"));
                [text(object, &label), text(object, &annotation(key))]
                    .iter()
                    .any(|value| value.eq_ignore_ascii_case(wanted))
            };
            is(RECONCILE, "disabled") || is(SSA, "Ignore")
        }
        HoldMeans::ArgoAutomationOff => {
            let automated = object.pointer("/spec/syncPolicy/automated");
            automated.is_none_or(Value::is_null)
        }
        HoldMeans::FluxSuspend | HoldMeans::Newer(_) => false,
    }
}

/// Whether the owner is in the middle of what it began before it was held: then it may still write.
pub fn is_at_work(means: HoldMeans, object: &Fetched<Value>) -> bool {
    let Some(object) = object.found() else {
        return false;
    };
    match means {
        HoldMeans::FluxSuspend => {
            let conditions = object
                .pointer("/status/conditions")
                .and_then(Value::as_array);
            conditions.into_iter().flatten().any(|condition| {
                text(condition, "/type") == "Reconciling" && text(condition, "/status") == "True"
            })
        }
        HoldMeans::ArgoAutomationOff => {
            object.get("operation").is_some_and(|it| !it.is_null())
                || text(object, "/status/operationState/phase") == "Running"
        }
        HoldMeans::FluxReconcileDisabled | HoldMeans::Newer(_) => false,
    }
}

/// What a held object says of its hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAnnotations {
    /// The mark of the request.
    pub mark: String,
    /// Why it is held, and what ends it.
    pub because: String,
}

/// What the object of a hold says: who, why, and two ways to end it, one of which needs no operator.
pub fn annotations(
    request: &RollbackRequest,
    target: &PlannedTarget,
    hold: &PlannedHold,
) -> HoldAnnotations {
    let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let summary = &request.spec.reason.summary;
    HoldAnnotations {
        mark: mark(request),
        because: format!(
            "The rollback operator keeps {} from undoing RollbackRequest {} of Deployment {}: {}. When Git does not want that version any more: {}. Without the operator: {}",
            plain(&hold.owner, 300),
            plain(&format!("{namespace}/{name}"), 320),
            plain(&target.workload.name, 253),
            plain(summary, 300).trim_end_matches('.'),
            release_command(namespace, &target.workload.name),
            manual_command(hold.means, &hold.object, hold.before.as_deref()),
        ),
    }
}

/// The command that ends the holds of a Deployment.
pub fn release_command(namespace: &str, deployment: &str) -> String {
    let namespace = shell::name(namespace, "NAMESPACE");
    format!("{} -n {namespace}", release_words(deployment))
}

/// The same, where the namespace is known.
pub fn release_words(deployment: &str) -> String {
    let deployment = shell::name(deployment, "DEPLOYMENT");
    format!("kubectl rollback release {deployment}")
}

/// What stood there before a hold, out of the JSON that is kept of it.
fn stood(before: Option<&str>) -> Option<Value> {
    before.and_then(|json| serde_json::from_str(json).ok())
}

/// The command that ends a hold when no operator does.
pub fn manual_command(means: HoldMeans, object: &HeldObject, before: Option<&str>) -> String {
    let name = shell::name(&object.name, "NAME");
    let namespace = shell::name(&object.namespace, "NAMESPACE");
    let merge = |kind: &str, patch: Value| {
        format!("kubectl patch {kind} {name} -n {namespace} --type merge -p '{patch}'")
    };
    let gone = json!({HELD_BY: null, HELD_BECAUSE: null});
    // Only what can have stood there; anything else is left out.
    let before = stood(before)
        .filter(Value::is_boolean)
        .unwrap_or(Value::Null);
    match means {
        HoldMeans::FluxReconcileDisabled => format!(
            "kubectl annotate deployment {name} -n {namespace} {RECONCILE}- {HELD_BY}- {HELD_BECAUSE}-"
        ),
        HoldMeans::FluxSuspend => merge(
            "helmreleases.helm.toolkit.fluxcd.io",
            json!({"metadata": {"annotations": gone}, "spec": {"suspend": before}}),
        ),
        HoldMeans::ArgoAutomationOff => merge(
            "applications.argoproj.io",
            json!({
                "metadata": {"annotations": gone},
                "spec": {"syncPolicy": {"automated": {"enabled": before}}},
            }),
        ),
        HoldMeans::Newer(_) => "see the newer version of the operator".to_owned(),
    }
}

/// What a ledger remembers of a hold before it is placed; `before` is what stands there now.
pub fn entry(
    request: &RollbackRequest,
    target: &PlannedTarget,
    hold: &PlannedHold,
    before: Option<String>,
    now: Timestamp,
) -> Hold {
    Hold {
        means: hold.means,
        owner: hold.owner.clone(),
        object: hold.object.clone(),
        before,
        request: request.metadata.name.clone().unwrap_or_default(),
        request_uid: uid(request).to_owned(),
        at: now,
        git: hold.git.clone(),
        images: images(target),
        release: None,
    }
}

/// The images that have to be changed in Git.
fn images(target: &PlannedTarget) -> Vec<String> {
    let images = target.images.iter().take(MOST_IMAGES).map(|change| {
        let image = |image: &Option<String>| plain(image.as_deref().unwrap_or("none"), 500);
        format!(
            "{}: {} -> {}",
            plain(&change.container, 63),
            image(&change.from),
            image(&change.to)
        )
    });
    images.collect()
}

/// The JSON Patch that places a hold, preconditions first: the object is this one, and nobody has changed what is there.
/// None for means of a newer version.
pub fn place(
    hold: &PlannedHold,
    object: &Value,
    before: Option<&str>,
    annotations: &HoldAnnotations,
) -> Option<Value> {
    let place = pointer(hold.means)?;
    let mut patch = vec![json!({"op": "test", "path": "/metadata/uid", "value": hold.object.uid})];
    let present = object.pointer("/metadata/annotations");
    if present.is_none_or(Value::is_null) {
        patch.push(json!({"op": "test", "path": "/metadata/annotations", "value": null}));
        patch.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    patch.push(json!({"op": "test", "path": place, "value": stood(before)}));
    patch.push(json!({"op": "add", "path": place, "value": holding(hold.means)}));
    for (key, value) in [
        (HELD_BY, &annotations.mark),
        (HELD_BECAUSE, &annotations.because),
    ] {
        patch.push(json!({"op": "add", "path": annotation(key), "value": value}));
    }
    Some(Value::Array(patch))
}

/// The JSON Patch that ends a hold of ours: puts back what was there, and takes the mark away. None where it is not there.
pub fn lift(hold: &Hold, object: &Fetched<Value>, mark: &str) -> Option<Value> {
    let place = pointer(hold.means)?;
    let found = object.found()?;
    if state(hold.means, &hold.object.uid, object, mark) != HoldState::Ours {
        return None;
    }
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": hold.object.uid}),
        json!({"op": "test", "path": annotation(HELD_BY), "value": mark}),
        json!({"op": "test", "path": place, "value": holding(hold.means)}),
    ];
    patch.push(match stood(hold.before.as_deref()) {
        Some(value) => json!({"op": "replace", "path": place, "value": value}),
        None => json!({"op": "remove", "path": place}),
    });
    for key in [HELD_BY, HELD_BECAUSE] {
        if found.pointer(&annotation(key)).is_some() {
            patch.push(json!({"op": "remove", "path": annotation(key)}));
        }
    }
    Some(Value::Array(patch))
}

/// What holds are to be told of, for a reader: how, since when, what for.
pub fn told(hold: &Hold) -> String {
    let released = match &hold.release {
        None => String::new(),
        Some(release) => format!(", being released: {}", plain(&release.why, 300)),
    };
    format!(
        "{} {} for RollbackRequest {} since {}{released}",
        plain(&hold.owner, 300),
        how(hold.means),
        plain(&hold.request, 253),
        time::stamp(hold.at)
    )
}

/// How an owner is held, as the end of a sentence that begins with its name.
pub fn how(means: HoldMeans) -> String {
    match means {
        HoldMeans::FluxReconcileDisabled => {
            format!("leaves the Deployment alone ({RECONCILE}: disabled on it)")
        }
        HoldMeans::FluxSuspend => "is suspended".to_owned(),
        HoldMeans::ArgoAutomationOff => {
            "does not sync by itself (syncPolicy.automated.enabled: false)".to_owned()
        }
        HoldMeans::Newer(word) => format!("is held ({})", word.as_str()),
    }
}

/// What is owed to Git until a hold can be released: where, and which images.
pub fn owed(hold: &Hold) -> Option<String> {
    owed_at(&hold.owner, hold.git.as_ref(), &hold.images)
}

/// The same of a hold that is planned.
pub fn owed_by_plan(target: &PlannedTarget, hold: &PlannedHold) -> Option<String> {
    owed_at(&hold.owner, hold.git.as_ref(), &images(target))
}

fn owed_at(owner: &str, git: Option<&GitSource>, images: &[String]) -> Option<String> {
    let place = place_in_git(git?).unwrap_or_else(|| plain(owner, 300));
    let images = if images.is_empty() {
        "the pod template".to_owned()
    } else {
        images.join("; ")
    };
    Some(format!("{place}: {images}"))
}

/// Where in Git, as far as the owner tells.
fn place_in_git(git: &GitSource) -> Option<String> {
    let part = |name: &str, value: &Option<String>| {
        let value = value.as_deref()?;
        Some(format!("{name} {}", plain(value, 300)))
    };
    let parts = [
        part("repository", &git.repository),
        part("path", &git.path),
        part("revision", &git.revision),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
