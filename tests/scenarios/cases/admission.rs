//! Admission that gets in the way, in the namespace of one test.

use anyhow::{Result, ensure};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::stage::{APP, deployments};

/// Policies that deny.
const VALIDATING: &str = "ValidatingAdmissionPolicy";
/// Policies that change.
const MUTATING: &str = "MutatingAdmissionPolicy";

/// The admission policies of this kind, or their bindings.
async fn api(scene: &Scene, kind: &str) -> Result<Api<DynamicObject>> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    let client = scene.client(User::Admin).await?;
    Ok(Api::all_with(client, &ApiResource::from_gvk(&kind)))
}

/// Adds a policy, named like the namespace that it is for, and its binding.
async fn add(
    scene: &Scene,
    kind: &str,
    resource: &str,
    mut spec: Value,
    mut binding: Value,
) -> Result<()> {
    let name = scene.ns();
    spec["matchConstraints"] = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "resourceRules": [{
            "apiGroups": ["apps"], "apiVersions": ["v1"],
            "operations": ["UPDATE"], "resources": [resource],
        }],
    });
    binding["policyName"] = json!(name);
    for (kind, spec) in [(kind.to_owned(), spec), (format!("{kind}Binding"), binding)] {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let apply = PatchParams::apply("testkit").force();
        let api = api(scene, &kind).await?;
        api.patch(name, &apply, &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// From now on the API server takes only what this expression allows of Deployments in this
/// namespace; the probe is a patch that it has to deny.
pub async fn forbid(scene: &Scene, expression: &str, message: &str, probe: &Value) -> Result<()> {
    let policy = json!({"validations": [{"expression": expression, "message": message}]});
    let binding = json!({"validationActions": ["Deny"]});
    add(scene, VALIDATING, "deployments", policy, binding).await?;
    let api = deployments(scene).await?;
    eventually("the probe is denied", PATIENCE, async || {
        let answer = api.patch(APP, &dry_run(), &Patch::Merge(probe)).await;
        let Err(error) = answer else {
            anyhow::bail!("it is still taken");
        };
        ensure!(error.to_string().contains(message), "{error}");
        Ok(())
    })
    .await
}

/// What is to be changed on its way in.
pub struct Change {
    /// `deployments` or `deployments/status`.
    pub resource: &'static str,
    /// Of which objects.
    pub when: &'static str,
    /// One element of `mutations`.
    pub mutation: Value,
}

/// From now on the API server changes what is written to Deployments in this namespace. Of the
/// `probe`, a patch, it has to make something that `is_changed`.
pub async fn change(
    scene: &Scene,
    change: &Change,
    probe: &Value,
    is_changed: impl Fn(&Value) -> bool,
) -> Result<()> {
    let policy = json!({
        "reinvocationPolicy": "Never",
        "matchConditions": [{"name": "these", "expression": change.when}],
        "mutations": [change.mutation],
    });
    add(scene, MUTATING, change.resource, policy, json!({})).await?;
    let api = deployments(scene).await?;
    eventually("the probe is changed", PATIENCE, async || {
        let probe = Patch::Merge(probe);
        let answer = match change.resource.split_once('/') {
            Some((_, status)) => {
                api.patch_subresource(status, APP, &dry_run(), &probe)
                    .await?
            }
            None => api.patch(APP, &dry_run(), &probe).await?,
        };
        let answer = serde_json::to_value(answer)?;
        ensure!(is_changed(&answer), "it is {answer}");
        Ok(())
    })
    .await
}

fn dry_run() -> PatchParams {
    PatchParams {
        dry_run: true,
        ..PatchParams::default()
    }
}

/// Takes away what [`forbid`] has added.
pub async fn permit(scene: &Scene) -> Result<()> {
    remove(scene, VALIDATING).await
}

/// Takes away what [`change`] has added.
pub async fn leave_alone(scene: &Scene) -> Result<()> {
    remove(scene, MUTATING).await
}

async fn remove(scene: &Scene, kind: &str) -> Result<()> {
    for kind in [format!("{kind}Binding"), kind.to_owned()] {
        let api = api(scene, &kind).await?;
        api.delete(scene.ns(), &DeleteParams::default()).await?;
    }
    Ok(())
}
