//! Kinds of tools that own Deployments, as far as they are asked here.

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

/// A kind of a tool that this cluster does not have: group, version, kind and plural.
pub struct Kind(&'static str, &'static str, &'static str, &'static str);

pub const KUSTOMIZATION: Kind = Kind(
    "kustomize.toolkit.fluxcd.io",
    "v1",
    "Kustomization",
    "kustomizations",
);
pub const HELM_RELEASE: Kind = Kind(
    "helm.toolkit.fluxcd.io",
    "v2",
    "HelmRelease",
    "helmreleases",
);
pub const APPLICATION: Kind = Kind("argoproj.io", "v1alpha1", "Application", "applications");

impl Kind {
    fn api_version(&self) -> String {
        format!("{}/{}", self.0, self.1)
    }

    /// Makes the kind known to the cluster, as far as the tests need it. Others may be doing the same.
    pub async fn install(&self, scene: &Scene) -> Result<()> {
        let Self(group, version, kind, plural) = self;
        let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let name = format!("{plural}.{group}");
        let definition: CustomResourceDefinition = serde_json::from_value(json!({
            "metadata": {"name": &name},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{
                    "name": version, "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": free},
                }],
            },
        }))?;
        let client = scene.client(User::Admin).await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        match definitions
            .create(&PostParams::default(), &definition)
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        let api = shop::api(&client, scene.ns(), &self.api_version(), kind);
        eventually(&format!("{name} is served"), PATIENCE, async || {
            api.list(&kube::api::ListParams::default()).await?;
            Ok(())
        })
        .await
    }

    /// One object of this kind in the namespace of the test.
    pub async fn create(&self, scene: &Scene, name: &str, rest: Value) -> Result<Owning> {
        self.install(scene).await?;
        let client = scene.client(User::Admin).await?;
        let api = shop::api(&client, scene.ns(), &self.api_version(), self.2);
        let mut object = rest;
        object["apiVersion"] = json!(self.api_version());
        object["kind"] = json!(self.2);
        object["metadata"] = json!({"name": name});
        let object = serde_json::from_value(object)?;
        api.create(&PostParams::default(), &object).await?;
        Ok(Owning {
            api,
            name: name.to_owned(),
        })
    }
}

/// The object of a tool.
pub struct Owning {
    pub api: Api<DynamicObject>,
    name: String,
}

impl Owning {
    /// Patches it as its administrator (merge patch).
    pub async fn patch(&self, patch: Value) -> Result<()> {
        let patch = Patch::Merge(&patch);
        self.api
            .patch(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// What `flux suspend` does.
    pub async fn suspend(&self) -> Result<()> {
        self.patch(json!({"spec": {"suspend": true}})).await
    }
}
