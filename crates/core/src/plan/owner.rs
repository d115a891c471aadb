//! Who else writes a Deployment, by the marks that tools leave on it.

mod healing;
pub mod writers;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::message::shell;
use crate::message::text::plain;
use crate::observed::workload::Deployment;
use crate::plan::references::is_subdomain;

pub use healing::{Assessed, Healing, assess, healing, is_listed};
use writers::Writer;

const ARGO_TRACKING: &str = "argocd.argoproj.io/tracking-id";
/// Field managers of Argo CD: server-side apply, and client-side apply.
const ARGO_MANAGERS: [&str; 2] = ["argocd-controller", "argocd-application-controller"];
/// Where Argo CD and its applications are unless somebody decided otherwise.
const ARGO_NAMESPACE: &str = "argocd";
const FLUX_KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const FLUX_HELM: &str = "helm.toolkit.fluxcd.io";
const HELM_RELEASE: &str = "meta.helm.sh/release-name";
const HELM_NAMESPACE: &str = "meta.helm.sh/release-namespace";
const INSTANCE: &str = "app.kubernetes.io/instance";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const CSV: &str = "ClusterServiceVersion";

/// Somebody else who writes the Deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// An Application of Argo CD.
    ArgoCd {
        /// Its name; empty when Argo CD wrote the Deployment and does not say for which one.
        application: String,
        /// Its namespace, when it is not that of Argo CD.
        namespace: Option<String>,
    },
    /// A Kustomization of Flux.
    FluxKustomization {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A `HelmRelease` of Flux.
    FluxHelmRelease {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Helm, from a terminal or a pipeline.
    Helm {
        /// Name of the release.
        release: String,
        /// Its namespace.
        namespace: String,
    },
    /// `kubectl apply`, from a terminal or a pipeline.
    Kubectl,
    /// The Operator Lifecycle Manager.
    Olm {
        /// The `ClusterServiceVersion`.
        name: String,
        /// Its namespace.
        namespace: Option<String>,
    },
    /// A tool of which the marks are all that is known.
    Known {
        /// Which.
        writer: Writer,
        /// What it calls what it applies.
        name: String,
    },
    /// An operator: the Deployment has a controller.
    Operator {
        /// Kind of the controller.
        kind: String,
        /// Its name.
        name: String,
    },
}

impl Owner {
    /// The owner as a reader knows it.
    pub fn told(&self) -> String {
        let path =
            |namespace: &str, name: &str| format!("{}/{}", plain(namespace, 63), plain(name, 253));
        match self {
            Self::ArgoCd { application, .. } if application.is_empty() => {
                "an Argo CD application that is not named on it".to_owned()
            }
            Self::ArgoCd {
                application,
                namespace,
            } => match namespace {
                Some(namespace) => format!("Argo CD application {}", path(namespace, application)),
                None => format!("Argo CD application {}", plain(application, 253)),
            },
            Self::FluxKustomization { namespace, name } => {
                format!("Flux Kustomization {}", path(namespace, name))
            }
            Self::FluxHelmRelease { namespace, name } => {
                format!("Flux HelmRelease {}", path(namespace, name))
            }
            Self::Helm { release, namespace } => {
                format!("Helm release {}", path(namespace, release))
            }
            Self::Kubectl => "kubectl apply".to_owned(),
            Self::Olm { name, .. } => {
                format!(
                    "the Operator Lifecycle Manager ({CSV} {})",
                    plain(name, 253)
                )
            }
            Self::Known { writer, name } => writer.told(name),
            Self::Operator { kind, name } => format!("{} {}", plain(kind, 63), plain(name, 253)),
        }
    }
}

/// An object to read, to learn whether an owner undoes what others write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// API group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Resource.
    pub plural: &'static str,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// A text in an object, by JSON pointer; empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A label of an object; empty when there is none.
fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object
        .pointer("/metadata/labels")
        .and_then(|labels| labels.get(key)?.as_str())
        .unwrap_or_default()
}

/// An annotation of an object; empty when there is none.
fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(key)?.as_str())
        .unwrap_or_default()
}

/// Field managers that scale a Deployment to nothing, because something else serves in its place.
const FLAGGER: &str = "flagger";
const ARGO_ROLLOUTS: &str = "rollouts-controller";

/// What serves in the place of a Deployment that asks for no replicas, by who took them away; `None` when nothing shows that.
pub fn serves_instead(deployment: &Deployment) -> Option<String> {
    if deployment.desired() != 0 {
        return None;
    }
    let name = plain(deployment.name(), 253);
    let command = shell::name(deployment.name(), "DEPLOYMENT");
    let scaled = |manager: &str| {
        let all = deployment
            .0
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array);
        all.into_iter().flatten().any(|entry| {
            let has_replicas = entry.pointer("/fieldsV1/f:spec/f:replicas").is_some();
            has_replicas && text(entry, "/manager") == manager
        })
    };
    if scaled(FLAGGER) {
        return Some(format!(
            "Flagger has scaled it down: Deployment {name}-primary of its Canary serves (kubectl get canary; kubectl get deployment {command}-primary)"
        ));
    }
    scaled(ARGO_ROLLOUTS).then(|| {
        format!(
            "Argo Rollouts has scaled it down: the Rollout whose spec.workloadRef names {name} serves (kubectl get rollouts.argoproj.io; kubectl argo rollouts undo ROLLOUT)"
        )
    })
}

/// Whether one of the managers wrote fields of the object, by this operation if one is given.
fn is_managed_by(object: &Value, managers: &[&str], operation: Option<&str>) -> bool {
    object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|entry| {
            managers.contains(&text(entry, "/manager"))
                && operation.is_none_or(|operation| text(entry, "/operation") == operation)
        })
}

/// Everybody else who writes the Deployment, sorted.
pub fn owners(deployment: &Deployment) -> Vec<Owner> {
    let object = &deployment.0;
    let mut found = BTreeSet::new();
    let argo = argo(deployment);
    let flux_release = flux(object, FLUX_HELM);
    found.extend(
        flux(object, FLUX_KUSTOMIZE)
            .map(|(namespace, name)| Owner::FluxKustomization { namespace, name }),
    );
    let namespace = text(object, "/metadata/namespace");
    let known = writers::known(object, namespace, deployment.name());
    let by_fleet = known.iter().any(|(writer, _)| *writer == Writer::Fleet);
    found.extend(
        known
            .into_iter()
            .map(|(writer, name)| Owner::Known { writer, name }),
    );
    // Flux and Fleet leave the marks of Helm as well.
    let helm = if by_fleet {
        ""
    } else {
        annotation(object, HELM_RELEASE)
    };
    match flux_release {
        Some((namespace, name)) => {
            found.insert(Owner::FluxHelmRelease { namespace, name });
        }
        None if !helm.is_empty() => {
            let own = text(object, "/metadata/namespace");
            let namespace = match annotation(object, HELM_NAMESPACE) {
                "" => own,
                namespace => namespace,
            };
            found.insert(Owner::Helm {
                release: helm.to_owned(),
                namespace: namespace.to_owned(),
            });
        }
        None => {}
    }
    // Argo CD without server-side apply leaves the annotation of kubectl as well.
    if argo.is_none() && is_applied_by_kubectl(object) {
        found.insert(Owner::Kubectl);
    }
    found.extend(argo);
    found.extend(operator(object));
    found.into_iter().collect()
}

fn is_applied_by_kubectl(object: &Value) -> bool {
    !annotation(object, LAST_APPLIED).is_empty()
        || is_managed_by(object, &["kubectl"], Some("Apply"))
}

/// The labels that Flux puts on everything it applies: namespace and name.
fn flux(object: &Value, group: &str) -> Option<(String, String)> {
    let namespace = label(object, &format!("{group}/namespace"));
    let name = label(object, &format!("{group}/name"));
    (!namespace.is_empty() && !name.is_empty()).then(|| (namespace.to_owned(), name.to_owned()))
}

fn argo(deployment: &Deployment) -> Option<Owner> {
    let object = &deployment.0;
    let tracking = annotation(object, ARGO_TRACKING);
    if tracking.is_empty() {
        // Helm charts set the label too, so it counts only where Argo CD is known to have written.
        return is_managed_by(object, &ARGO_MANAGERS, None).then(|| Owner::ArgoCd {
            application: label(object, INSTANCE).to_owned(),
            namespace: None,
        });
    }
    let (instance, tracked) = tracking.split_once(':')?;
    let namespace = text(object, "/metadata/namespace");
    // The annotation of a copy names the object that it was copied from.
    if tracked != format!("apps/Deployment:{namespace}/{}", deployment.name()) {
        return None;
    }
    let (namespace, application) = match instance.split_once('_') {
        Some((namespace, application)) => (Some(namespace.to_owned()), application),
        None => (None, instance),
    };
    Some(Owner::ArgoCd {
        application: application.to_owned(),
        namespace,
    })
}

/// What runs the Deployment as a part of its own.
fn operator(object: &Value) -> Option<Owner> {
    let references = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let mut references = references.into_iter().flatten();
    if label(object, "olm.owner.kind") == CSV && !label(object, "olm.owner").is_empty() {
        let namespace = label(object, "olm.owner.namespace");
        return Some(Owner::Olm {
            name: label(object, "olm.owner").to_owned(),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        });
    }
    let is_csv = |reference: &Value| text(reference, "/kind") == CSV;
    let owning = references.find(|reference| {
        is_csv(reference) || reference.get("controller").and_then(Value::as_bool) == Some(true)
    })?;
    let name = text(owning, "/name").to_owned();
    Some(if is_csv(owning) {
        Owner::Olm {
            name,
            namespace: None,
        }
    } else {
        Owner::Operator {
            kind: text(owning, "/kind").to_owned(),
            name,
        }
    })
}

/// The object to read to learn whether the owner undoes what others write. None where there is no
/// such object, or where no object can have its name.
pub fn lookup(owner: &Owner) -> Option<Lookup> {
    let lookup = match owner {
        Owner::ArgoCd {
            application,
            namespace,
        } => Lookup {
            group: "argoproj.io",
            version: "v1alpha1",
            plural: "applications",
            namespace: Some(namespace.as_deref().unwrap_or(ARGO_NAMESPACE).to_owned()),
            name: application.clone(),
        },
        Owner::FluxKustomization { namespace, name } => Lookup {
            group: FLUX_KUSTOMIZE,
            version: "v1",
            plural: "kustomizations",
            namespace: Some(namespace.clone()),
            name: name.clone(),
        },
        Owner::FluxHelmRelease { namespace, name } => Lookup {
            group: FLUX_HELM,
            version: "v2",
            plural: "helmreleases",
            namespace: Some(namespace.clone()),
            name: name.clone(),
        },
        Owner::Helm { .. }
        | Owner::Kubectl
        | Owner::Olm { .. }
        | Owner::Known { .. }
        | Owner::Operator { .. } => return None,
    };
    is_object(&lookup).then_some(lookup)
}

/// Whether an object can have this name and namespace: anything else may be the path to another one.
pub fn is_object(lookup: &Lookup) -> bool {
    let place = lookup.namespace.as_deref().unwrap_or_default();
    is_namespace(place) && is_subdomain(&lookup.name)
}

/// A namespace is one label, without dots.
fn is_namespace(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && is_subdomain(name)
}

/// An Application as the `argocd` command names it.
fn argo_name(application: &str, namespace: Option<&str>) -> String {
    let name = shell::name(application, "APPLICATION");
    match namespace {
        Some(namespace) => format!("{}/{name}", shell::name(namespace, "NAMESPACE")),
        None => name.to_owned(),
    }
}

/// The command that keeps the owner from writing this Deployment, where there is one.
pub fn pause_command(owner: &Owner, deployment: &Deployment) -> Option<String> {
    match owner {
        Owner::ArgoCd {
            application,
            namespace,
        } => {
            let name = shell::name(application, "APPLICATION");
            let qualified = argo_name(application, namespace.as_deref());
            let namespace =
                shell::name(namespace.as_deref().unwrap_or(ARGO_NAMESPACE), "NAMESPACE");
            Some(format!(
                "argocd app set {qualified} --sync-policy none (or: kubectl patch applications.argoproj.io {name} -n {namespace} \
                 --type merge -p '{{\"spec\":{{\"syncPolicy\":{{\"automated\":null}}}}}}')"
            ))
        }
        Owner::FluxKustomization { .. } => Some(format!(
            "kubectl annotate deployment {} -n {} {FLUX_KUSTOMIZE}/reconcile=disabled",
            shell::name(deployment.name(), "DEPLOYMENT"),
            shell::name(text(&deployment.0, "/metadata/namespace"), "NAMESPACE"),
        )),
        Owner::FluxHelmRelease { namespace, name } => Some(format!(
            "flux suspend helmrelease {} -n {}",
            shell::name(name, "HELMRELEASE"),
            shell::name(namespace, "NAMESPACE"),
        )),
        Owner::Known {
            writer: Writer::Keel,
            ..
        } => Some(format!(
            "kubectl annotate deployment {} -n {} keel.sh/policy=never --overwrite",
            shell::name(deployment.name(), "DEPLOYMENT"),
            shell::name(text(&deployment.0, "/metadata/namespace"), "NAMESPACE"),
        )),
        Owner::Helm { .. }
        | Owner::Kubectl
        | Owner::Olm { .. }
        | Owner::Known { .. }
        | Owner::Operator { .. } => None,
    }
}
