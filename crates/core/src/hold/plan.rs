//! Which hold a plan has for an owner: the narrowest means that it has, or why it has none.

use rollback_api::hold::{GitSource, HeldObject, HoldMeans, PlannedHold};
use serde_json::Value;

use super::how;
use crate::message::text::plain;
use crate::observed::{Deployment, Fetched};
use crate::plan::owner::{Lookup, Owner, is_listed, is_object, text};

/// How many of the things that wait as well are listed.
const MOST_OTHERS: usize = 20;
const APPLICATION_SETS: &str = "applicationsets";

/// What was read to know whether an owner can be held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoldRead {
    /// Whether the controller has the right to it; none when nobody asked.
    pub granted: Option<bool>,
    /// What makes or applies the owner, where [`above`] names that.
    pub above: Fetched<Value>,
}

/// The permission that a means takes: group, resource, verb, and the namespace that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group.
    pub group: &'static str,
    /// Resource.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name of the `ClusterRole` that grants it.
    pub role: &'static str,
}

/// How an owner would be held, if there is a way.
pub fn means(owner: &Owner) -> Option<HoldMeans> {
    match owner {
        Owner::FluxKustomization { .. } => Some(HoldMeans::FluxReconcileDisabled),
        Owner::FluxHelmRelease { .. } => Some(HoldMeans::FluxSuspend),
        Owner::ArgoCd { .. } => Some(HoldMeans::ArgoAutomationOff),
        Owner::Helm { .. }
        | Owner::Kubectl
        | Owner::Olm { .. }
        | Owner::Operator { .. }
        | Owner::Known { .. } => None,
    }
}

/// What the controller has to be granted for that. `object` is the owner as it was read.
pub fn right(owner: &Owner, deployment: &Deployment, object: &Value) -> Option<Right> {
    let namespace = text(object, "/metadata/namespace").to_owned();
    Some(match means(owner)? {
        // No endpoint: a permission that the guard asks for, since anybody who may patch Deployments could write it.
        HoldMeans::FluxReconcileDisabled => Right {
            group: "kustomize.toolkit.fluxcd.io",
            resource: "kustomizations",
            verb: "hold",
            namespace: text(&deployment.0, "/metadata/namespace").to_owned(),
            role: "rollback-hold-flux-kustomization",
        },
        HoldMeans::FluxSuspend => Right {
            group: "helm.toolkit.fluxcd.io",
            resource: "helmreleases",
            verb: "patch",
            namespace,
            role: "rollback-hold-flux-helmrelease",
        },
        HoldMeans::ArgoAutomationOff => Right {
            group: "argoproj.io",
            resource: "applications",
            verb: "patch",
            namespace,
            role: "rollback-hold-argocd",
        },
        HoldMeans::Newer(_) => return None,
    })
}

/// What would write a hold away again: the object to read, if the owner says that there is one.
pub fn above(owner: &Owner, object: &Value) -> Option<Lookup> {
    let Owner::ArgoCd { .. } = owner else {
        return None;
    };
    let own = text(object, "/metadata/namespace").to_owned();
    let (plural, namespace, name) = match maker(object)? {
        Maker::ApplicationSet(name) => (APPLICATION_SETS, own, name),
        Maker::Application(namespace, name) => ("applications", namespace.unwrap_or(own), name),
    };
    let lookup = Lookup {
        group: "argoproj.io",
        version: "v1alpha1",
        plural,
        namespace: Some(namespace),
        name,
    };
    is_object(&lookup).then_some(lookup)
}

/// Who makes or applies an Application.
enum Maker {
    ApplicationSet(String),
    /// With its namespace, when it is not that of Argo CD.
    Application(Option<String>, String),
}

fn maker(application: &Value) -> Option<Maker> {
    let owners = application.pointer("/metadata/ownerReferences");
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    if let Some(set) = owners.find(|owner| text(owner, "/kind") == "ApplicationSet") {
        return Some(Maker::ApplicationSet(text(set, "/name").to_owned()));
    }
    let tracking = application.pointer("/metadata/annotations/argocd.argoproj.io~1tracking-id");
    let (parent, tracked) = tracking.and_then(Value::as_str)?.split_once(':')?;
    let (namespace, parent) = match parent.split_once('_') {
        Some((namespace, parent)) => (Some(namespace.to_owned()), parent.to_owned()),
        None => (None, parent.to_owned()),
    };
    let own = format!(
        "argoproj.io/Application:{}/{}",
        text(application, "/metadata/namespace"),
        text(application, "/metadata/name")
    );
    (tracked == own).then_some(Maker::Application(namespace, parent))
}

/// The hold that a plan has for an owner that undoes a rollback, or why there is none.
///
/// # Errors
/// A sentence: why it cannot be held, and what to do about that.
pub fn planned(
    owner: &Owner,
    deployment: &Deployment,
    object: &Fetched<Value>,
    read: &HoldRead,
) -> Result<PlannedHold, String> {
    let who = owner.told();
    let Some(means) = means(owner) else {
        return Err(format!("The controller has no way to hold {who}."));
    };
    let Some(found) = object.found() else {
        return Err(format!("It cannot be held, because {who} was not read."));
    };
    if !is_listed(owner, deployment, object) {
        return Err(format!(
            "It is not held, because {who} does not list the Deployment: its marks can be set by anybody who may write that."
        ));
    }
    if read.granted == Some(false) {
        let right = right(owner, deployment, found);
        return Err(right.map_or_else(String::new, |right| ungranted(&right)));
    }
    stands(&who, found, read)?;
    let on = if super::is_on_the_workload(means) {
        &deployment.0
    } else {
        found
    };
    let kind = match means {
        HoldMeans::FluxReconcileDisabled => "Deployment",
        HoldMeans::FluxSuspend => "HelmRelease",
        HoldMeans::ArgoAutomationOff => "Application",
        HoldMeans::Newer(_) => "",
    };
    let held = HeldObject {
        kind: kind.to_owned(),
        namespace: text(on, "/metadata/namespace").to_owned(),
        name: text(on, "/metadata/name").to_owned(),
        uid: text(on, "/metadata/uid").to_owned(),
    };
    let before = super::pointer(means).and_then(|path| on.pointer(&path).cloned());
    let before = before.filter(|value| !value.is_null());
    Ok(PlannedHold {
        means,
        owner: plain(&who, 600),
        object: held,
        before: before.map(|value| value.to_string()),
        others: others(means, deployment, found),
        git: git(owner, found),
    })
}

/// The sentence that says what to bind.
pub fn ungranted(right: &Right) -> String {
    format!(
        "The controller may not hold it: bind the ClusterRole {} to the ServiceAccount rollback-controller of rollback-system in namespace {}, then create a new request.",
        right.role,
        plain(&right.namespace, 63)
    )
}

/// Whether a hold would stand: nothing writes the owner back that it stands on.
fn stands(who: &str, object: &Value, read: &HoldRead) -> Result<(), String> {
    let Some(maker) = maker(object) else {
        return Ok(());
    };
    let project = match text(object, "/spec/project") {
        "" => "default".to_owned(),
        project => plain(project, 63),
    };
    let window = format!("or put a deny sync window for it into AppProject {project}");
    match maker {
        Maker::ApplicationSet(name) => {
            if read.above.found().is_some_and(leaves_sync_policy) {
                return Ok(());
            }
            Err(format!(
                "{who} is made by ApplicationSet {}, which would end a hold: let that leave it alone (spec.ignoreApplicationDifferences with jsonPointers: [/spec/syncPolicy]), {window}.",
                plain(&name, 253)
            ))
        }
        Maker::Application(_, name) => {
            let parent = read.above.found();
            let automated = parent.map(|parent| {
                let automated = parent.pointer("/spec/syncPolicy/automated");
                automated.is_some_and(|it| {
                    !it.is_null() && it.get("enabled") != Some(&Value::Bool(false))
                })
            });
            if automated == Some(false) {
                return Ok(());
            }
            Err(format!(
                "{who} is applied by Application {}, which would end a hold: switch off the automatic sync of that one, {window}.",
                plain(&name, 253)
            ))
        }
    }
}

/// Whether an `ApplicationSet` does not write back what somebody changes of the sync policy of its Applications.
fn leaves_sync_policy(set: &Value) -> bool {
    let policy = text(set, "/spec/syncPolicy/applicationsSync");
    if policy == "create-only" || policy == "create-delete" {
        return true;
    }
    let rules = set.pointer("/spec/ignoreApplicationDifferences");
    let rules = rules.and_then(Value::as_array).into_iter().flatten();
    // One that is for a single Application by its name is not looked into.
    let mut rules = rules.filter(|rule| text(rule, "/name").is_empty());
    rules.any(|rule| {
        let pointers = rule.get("jsonPointers").and_then(Value::as_array);
        let mut pointers = pointers.into_iter().flatten().filter_map(Value::as_str);
        pointers.any(|pointer| {
            ["/spec/syncPolicy", "/spec/syncPolicy/automated"].contains(&pointer)
                || pointer == "/spec/syncPolicy/automated/enabled"
        })
    })
}

/// What else waits, as the owner lists it.
fn others(means: HoldMeans, deployment: &Deployment, object: &Value) -> Vec<String> {
    let namespace = text(&deployment.0, "/metadata/namespace");
    let name = deployment.name();
    let all: Vec<String> = match means {
        HoldMeans::FluxReconcileDisabled | HoldMeans::Newer(_) => Vec::new(),
        HoldMeans::FluxSuspend => {
            let entries = object.pointer("/status/inventory/entries");
            let entries = entries.and_then(Value::as_array).into_iter().flatten();
            entries
                .map(|entry| text(entry, "/id"))
                .filter(|id| *id != format!("{namespace}_{name}_apps_Deployment"))
                .map(|id| plain(&by_id(id), 600))
                .collect()
        }
        HoldMeans::ArgoAutomationOff => {
            let resources = object.pointer("/status/resources");
            let resources = resources.and_then(Value::as_array).into_iter().flatten();
            resources
                .filter(|it| {
                    text(it, "/kind") != "Deployment"
                        || text(it, "/name") != name
                        || text(it, "/namespace") != namespace
                })
                .map(|it| {
                    let path = [text(it, "/namespace"), text(it, "/name")];
                    plain(&format!("{} {}", text(it, "/kind"), path.join("/")), 600)
                })
                .collect()
        }
    };
    let surplus = all.len().saturating_sub(MOST_OTHERS);
    let mut shown: Vec<String> = all.into_iter().take(MOST_OTHERS).collect();
    if surplus > 0 {
        shown.push(format!("{surplus} more"));
    }
    shown
}

/// `NAMESPACE_NAME_GROUP_KIND`, as Flux writes it, in the words of everybody else.
fn by_id(id: &str) -> String {
    match id.split('_').collect::<Vec<_>>().as_slice() {
        [namespace, name, _, kind] => format!("{kind} {namespace}/{name}"),
        _ => id.to_owned(),
    }
}

/// Where the owner takes its version from, as far as it tells.
fn git(owner: &Owner, object: &Value) -> Option<GitSource> {
    let some = |value: String| Some(plain(&value, 500)).filter(|value| !value.is_empty());
    let at = |pointer: &str| some(text(object, pointer).to_owned());
    let first = |pointers: &[&str]| pointers.iter().find_map(|pointer| at(pointer));
    let joined = |kind: &str, name: &str| {
        let (kind, name) = (at(kind)?, at(name)?);
        Some(format!("{kind} {name}"))
    };
    Some(match owner {
        Owner::FluxKustomization { .. } => GitSource {
            repository: joined("/spec/sourceRef/kind", "/spec/sourceRef/name"),
            path: at("/spec/path"),
            revision: at("/status/lastAppliedRevision"),
        },
        Owner::FluxHelmRelease { .. } => GitSource {
            repository: joined(
                "/spec/chart/spec/sourceRef/kind",
                "/spec/chart/spec/sourceRef/name",
            )
            .or_else(|| joined("/spec/chartRef/kind", "/spec/chartRef/name")),
            path: at("/spec/chart/spec/chart"),
            revision: first(&[
                "/status/history/0/chartVersion",
                "/status/lastAttemptedRevision",
            ]),
        },
        Owner::ArgoCd { .. } => GitSource {
            repository: first(&["/spec/source/repoURL", "/spec/sources/0/repoURL"]),
            path: first(&[
                "/spec/source/path",
                "/spec/source/chart",
                "/spec/sources/0/path",
                "/spec/sources/0/chart",
            ]),
            revision: first(&["/status/sync/revision", "/status/sync/revisions/0"]),
        },
        Owner::Helm { .. }
        | Owner::Kubectl
        | Owner::Olm { .. }
        | Owner::Operator { .. }
        | Owner::Known { .. } => return None,
    })
}

/// What a plan says of a hold, after what the owner would do.
pub fn told(hold: &PlannedHold) -> String {
    let others = if hold.others.is_empty() {
        match hold.means {
            HoldMeans::FluxReconcileDisabled => {
                " Everything else that it applies goes on.".to_owned()
            }
            HoldMeans::FluxSuspend | HoldMeans::ArgoAutomationOff | HoldMeans::Newer(_) => {
                " It lists nothing else that would wait.".to_owned()
            }
        }
    } else {
        format!(
            " So does everything else that it applies: {}.",
            hold.others.join(", ")
        )
    };
    let git = hold.git.as_ref().and_then(super::place_in_git);
    let owed = git.map_or_else(String::new, |git| {
        format!(" The other version is then owed to Git: {git}.")
    });
    format!(
        "Before the revert it is put on hold: it {}, until somebody releases it.{others}{owed}",
        how(hold.means)
    )
}
