//! Admission policies that alter or forbid Deployments of one namespace.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::APP;

const VALIDATING: &str = "ValidatingAdmissionPolicy";
const MUTATING: &str = "MutatingAdmissionPolicy";

/// The annotation that [`Plugin::alter`] adds to pod templates.
pub const ADDED: &str = "testkit.broxiva.com/mesh";

/// A policy, named like the namespace that it is for, and its binding.
pub struct Plugin {
    client: Client,
    name: String,
    kind: &'static str,
}

impl Plugin {
    /// Forbids every update of a Deployment that is not like this.
    pub async fn forbid(scene: &Scene, allowed: &str, message: &str) -> Result<Self> {
        let validations = json!([{"expression": allowed, "message": message}]);
        Self::install(scene, VALIDATING, json!({"validations": validations})).await
    }

    /// Adds [`ADDED`] to the pod template of every update.
    pub async fn alter(scene: &Scene) -> Result<Self> {
        let change = format!(
            "Object{{spec: Object.spec{{template: Object.spec.template{{metadata: \
             Object.spec.template.metadata{{annotations: {{'{ADDED}': 'on'}}}}}}}}}}"
        );
        Self::mutate(scene, &change).await
    }

    /// Annotates the Deployment itself in every update.
    pub async fn annotate(scene: &Scene) -> Result<Self> {
        let change =
            format!("Object{{metadata: Object.metadata{{annotations: {{'{ADDED}': 'on'}}}}}}");
        Self::mutate(scene, &change).await
    }

    /// Gives the container this image in every update.
    pub async fn pin_image(scene: &Scene, image: &str) -> Result<Self> {
        let change = format!(
            "Object{{spec: Object.spec{{template: Object.spec.template{{spec: \
             Object.spec.template.spec{{containers: [\
             Object.spec.template.spec.containers{{name: 'app', image: '{image}'}}]}}}}}}}}"
        );
        Self::mutate(scene, &change).await
    }

    async fn mutate(scene: &Scene, change: &str) -> Result<Self> {
        let mutations = json!([{
            "patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change},
        }]);
        let spec = json!({"reinvocationPolicy": "Never", "mutations": mutations});
        Self::install(scene, MUTATING, spec).await
    }

    async fn install(scene: &Scene, kind: &'static str, mut spec: Value) -> Result<Self> {
        let name = scene.ns();
        let plugin = Self {
            client: scene.client(User::Admin).await?,
            name: name.to_owned(),
            kind,
        };
        let updates = json!({
            "apiGroups": ["apps"], "apiVersions": ["v1"],
            "operations": ["UPDATE"], "resources": ["deployments"],
        });
        // The policies are there for the whole cluster, and other tests are in it.
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        spec["matchConstraints"] = json!({"namespaceSelector": here, "resourceRules": [updates]});
        let mut binding = json!({"policyName": name});
        if kind == VALIDATING {
            binding["validationActions"] = json!(["Deny"]);
        }
        for (kind, spec) in [(kind.to_owned(), spec), (format!("{kind}Binding"), binding)] {
            let object = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": &kind,
                "metadata": {"name": name}, "spec": spec,
            });
            let apply = PatchParams::apply("testkit").force();
            let api = plugin.api(&kind);
            api.patch(name, &apply, &Patch::Apply(&object)).await?;
        }
        Ok(plugin)
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind))
    }

    /// Takes the policy away; the API server forgets it a moment later.
    pub async fn remove(self) -> Result<()> {
        for kind in [format!("{}Binding", self.kind), self.kind.to_owned()] {
            let api = self.api(&kind);
            api.delete(&self.name, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

/// What the API server says to a write: the Deployment that it would store, or why not.
pub type Answer = Result<Value, kube::core::Status>;

/// Waits until the API server answers a dry run with this image like this: it takes up policies some
/// time after it has accepted them.
pub async fn try_out(
    scene: &Scene,
    image: &str,
    looks_right: impl Fn(&Answer) -> bool,
) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), "apps/v1", "Deployment");
    let patch =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}});
    let dry_run = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    eventually("the policy is enforced", PATIENCE, async || {
        let answer = match api.patch(APP, &dry_run, &Patch::Strategic(&patch)).await {
            Ok(stored) => Ok(serde_json::to_value(stored)?),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(error) => return Err(error.into()),
        };
        ensure!(looks_right(&answer), "the API server says {answer:?}");
        Ok(())
    })
    .await
}

/// Whether the pod template carries what [`Plugin::alter`] adds.
pub fn is_altered(deployment: &Value) -> bool {
    let annotations = deployment.pointer("/spec/template/metadata/annotations");
    annotations.is_some_and(|annotations| annotations.get(ADDED).is_some())
}
