//! The shop that is rolled back: its Deployments, and ways to put them on a cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Map, Value, json};

use crate::{health::HEALTH_PORT, poll::eventually};

/// How a fake pod behaves; see `tests/cluster/stages.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Becomes ready.
    Ready,
    /// Runs, but never becomes ready.
    NeverReady,
    /// Ends up in `CrashLoopBackOff`, with ever more restarts.
    Crash,
    /// Its image cannot be pulled.
    ImagePull,
    /// The pod of a Job fails.
    Fail,
}

impl Behaviour {
    /// The value of the annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NeverReady => "never-ready",
            Self::Crash => "crash",
            Self::ImagePull => "image-pull",
            Self::Fail => "fail",
        }
    }
}

/// The annotation of a pod template that says how its pods behave.
pub const BEHAVIOUR: &str = "testkit.broxiva.com/behaviour";
/// The annotation of a pod template that says which address its pods have.
pub const POD_IP: &str = "testkit.broxiva.com/pod-ip";
/// The annotation of a pod that says which image its nodes have found under the name of its containers' images.
pub const IMAGE_ID: &str = "testkit.broxiva.com/image-id";
/// The annotation of a pod template that says how long its pods take to become ready.
pub const READY_AFTER: &str = "testkit.broxiva.com/ready-after";

/// A Deployment in the making: one container named `app`, two replicas.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeploymentBuilder {
    object: Value,
}

/// Starts building a Deployment of the shop.
pub fn deployment(name: &str) -> DeploymentBuilder {
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/name": name } },
        "spec": {
            "replicas": 2,
            // Tests do not wait ten minutes for a rollout that is stuck.
            "progressDeadlineSeconds": 15,
            "selector": { "matchLabels": { "app.kubernetes.io/name": name } },
            "template": {
                "metadata": { "labels": { "app.kubernetes.io/name": name }, "annotations": {} },
                "spec": {
                    "containers": [{
                        "name": "app",
                        "image": format!("registry.broxiva.example/{name}:v1"),
                        "ports": [{ "name": "http", "containerPort": HEALTH_PORT }],
                    }],
                    "terminationGracePeriodSeconds": 0,
                    "nodeSelector": { "testkit.broxiva.com/node": "fake" },
                    "tolerations": [fake_node_toleration()],
                },
            },
        },
    });
    DeploymentBuilder { object }
}

/// What a pod template needs to be welcome on the fake nodes.
pub fn fake_node_toleration() -> Value {
    json!({ "key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule" })
}

impl DeploymentBuilder {
    /// The image of the container.
    pub fn image(mut self, image: &str) -> Self {
        self.container()["image"] = json!(image);
        self
    }

    /// The version: the image's tag, and the `app.kubernetes.io/version` label of the pods.
    pub fn version(mut self, version: &str) -> Self {
        let image = self.container()["image"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let untagged = image.rsplit_once(':').map_or(&*image, |(name, _)| name);
        self.container()["image"] = json!(format!("{untagged}:{version}"));
        self.object["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] =
            json!(version);
        self
    }

    /// How many pods there should be.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.object["spec"]["replicas"] = json!(replicas);
        self
    }

    /// After how long without progress Kubernetes calls the rollout failed.
    pub fn progress_deadline(mut self, seconds: u32) -> Self {
        self.object["spec"]["progressDeadlineSeconds"] = json!(seconds);
        self
    }

    /// An environment variable of the container.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let mut env = self.container()["env"].take();
        if env.is_null() {
            env = json!([]);
        }
        if let Some(list) = env.as_array_mut() {
            list.push(json!({ "name": name, "value": value }));
        }
        self.container()["env"] = env;
        self
    }

    /// An annotation of the Deployment itself.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.object["metadata"]["annotations"][key] = json!(value);
        self
    }

    /// A label of the Deployment itself.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.object["metadata"]["labels"][key] = json!(value);
        self
    }

    /// An annotation of the pod template.
    pub fn template_annotation(mut self, key: &str, value: &str) -> Self {
        self.object["spec"]["template"]["metadata"]["annotations"][key] = json!(value);
        self
    }

    /// A label of the pod template.
    pub fn template_label(mut self, key: &str, value: &str) -> Self {
        self.object["spec"]["template"]["metadata"]["labels"][key] = json!(value);
        self
    }

    /// How the pods behave.
    pub fn behaviour(self, behaviour: Behaviour) -> Self {
        self.template_annotation(BEHAVIOUR, behaviour.as_str())
    }

    /// The address of the pods: that of a [`HealthServer`](crate::health::HealthServer).
    pub fn pod_ip(self, ip: &str) -> Self {
        self.template_annotation(POD_IP, ip)
    }

    /// How long the pods take to become ready.
    pub fn ready_after(self, delay: Duration) -> Self {
        self.template_annotation(READY_AFTER, &format!("{}ms", delay.as_millis()))
    }

    /// Anything else: sets the value at a JSON pointer whose parent exists.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        if let Some(place) = self.object.pointer_mut(pointer) {
            *place = value;
        } else if let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(object) = self
                .object
                .pointer_mut(parent)
                .and_then(Value::as_object_mut)
        {
            object.insert(key.replace("~1", "/").replace("~0", "~"), value);
        }
        self
    }

    /// The Deployment.
    pub fn build(self) -> Value {
        self.object
    }

    fn container(&mut self) -> &mut Value {
        &mut self.object["spec"]["template"]["spec"]["containers"][0]
    }
}

/// The API of any kind in a namespace, for objects that are plain JSON.
pub fn api(client: &Client, namespace: &str, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Server-side applies an object that carries its own `apiVersion`, `kind` and name.
pub async fn apply(client: &Client, namespace: &str, object: &Value) -> Result<DynamicObject> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let api_version = text("/apiVersion").context("an object without apiVersion")?;
    let kind = text("/kind").context("an object without kind")?;
    let name = text("/metadata/name").context("an object without a name")?;
    let parameters = PatchParams::apply("testkit").force();
    let api = api(client, namespace, api_version, kind);
    let applied = api.patch(name, &parameters, &Patch::Apply(object)).await;
    applied.with_context(|| format!("cannot apply {kind} {namespace}/{name}"))
}

/// Waits until a Deployment runs what its spec says, on all replicas, and nothing else.
pub async fn wait_available(client: &Client, namespace: &str, name: &str) -> Result<DynamicObject> {
    let deployments = api(client, namespace, "apps/v1", "Deployment");
    let what = format!("Deployment {namespace}/{name} is available");
    eventually(&what, Duration::from_secs(30), async || {
        let deployment = deployments.get(name).await?;
        let number = |pointer: &str| deployment.data.pointer(pointer).and_then(Value::as_i64);
        let wanted = number("/spec/replicas").unwrap_or(1);
        let seen = number("/status/observedGeneration") >= deployment.metadata.generation;
        let counts = ["replicas", "updatedReplicas", "availableReplicas"]
            .map(|field| number(&format!("/status/{field}")).unwrap_or(0));
        let status = deployment.data.get("status").cloned().unwrap_or_default();
        ensure!(
            seen && counts.iter().all(|count| *count == wanted),
            "its status is {status}"
        );
        Ok(deployment)
    })
    .await
}

/// Changes how the living pods of a Deployment behave, without a rollout.
pub async fn annotate_pods(
    client: &Client,
    namespace: &str,
    name: &str,
    annotations: &[(&str, &str)],
) -> Result<usize> {
    let pods = api(client, namespace, "v1", "Pod");
    let selector = format!("app.kubernetes.io/name={name}");
    let annotations: Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let patch = json!({ "metadata": { "annotations": annotations } });
    let living = pods
        .list(&kube::api::ListParams::default().labels(&selector))
        .await?;
    for pod in &living.items {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        pods.patch(pod, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
    }
    Ok(living.items.len())
}
