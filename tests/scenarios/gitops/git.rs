//! A tool that applies what is in Git, over and over.

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, request};
use testkit::shop::{BEHAVIOUR, Behaviour};
use testkit::{Scene, User, eventually, shop};

use crate::kstatus::{Health, Status, health, kstatus};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The Deployment that is rolled back.
pub const DEPLOYMENT: &str = "api";
/// The request.
pub const REQUEST: &str = "api-5xx";

/// How the tool applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Flux: a dry run first, then server-side apply by force.
    Flux,
    /// Argo CD with server-side apply.
    ArgoServerSide,
    /// Argo CD as it is by default, which is what kubectl does.
    KubectlClientSide,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Flux, Self::ArgoServerSide, Self::KubectlClientSide];

    /// A name for a namespace.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flux => "flux",
            Self::ArgoServerSide => "argo",
            Self::KubectlClientSide => "kubectl",
        }
    }

    /// What is in Git, with what the tool itself adds.
    pub fn manifest(self, scene: &Scene) -> Value {
        let mut object = request(
            REQUEST,
            json!([{"name": DEPLOYMENT, "to": {"previous": {}}}]),
        );
        object["metadata"]["namespace"] = json!(scene.ns());
        match self {
            Self::Flux => {
                object["metadata"]["labels"] = json!({
                    "kustomize.toolkit.fluxcd.io/name": "rollbacks",
                    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                });
            }
            Self::ArgoServerSide | Self::KubectlClientSide => {
                let tracking = format!(
                    "rollbacks:rollback.broxiva.com/RollbackRequest:{}/{REQUEST}",
                    scene.ns()
                );
                object["metadata"]["annotations"] =
                    json!({"argocd.argoproj.io/tracking-id": tracking});
            }
        }
        object
    }

    /// Applies what is in Git.
    pub async fn apply(self, scene: &Scene) -> Result<()> {
        self.apply_object(scene, &self.manifest(scene)).await
    }

    /// Applies this instead.
    pub async fn apply_object(self, scene: &Scene, object: &Value) -> Result<()> {
        let (manager, dry_run_first) = match self {
            Self::Flux => ("kustomize-controller", true),
            Self::ArgoServerSide => ("argocd-controller", false),
            Self::KubectlClientSide => {
                let apply = ["apply", "-f", "-"];
                let cluster = scene.cluster;
                cluster
                    .kubectl_ok(User::Gitops, &apply, &object.to_string())
                    .await?;
                return Ok(());
            }
        };
        let api = scene.requests(User::Gitops).await?;
        let mut parameters = PatchParams::apply(manager).force();
        if dry_run_first {
            parameters.dry_run = true;
            api.patch(REQUEST, &parameters, &Patch::Apply(object))
                .await?;
            parameters.dry_run = false;
        }
        api.patch(REQUEST, &parameters, &Patch::Apply(object))
            .await?;
        Ok(())
    }
}

/// It is no longer in Git.
pub async fn prune(scene: &Scene) -> Result<()> {
    let api = scene.requests(User::Gitops).await?;
    api.delete(REQUEST, &DeleteParams::background()).await?;
    Ok(())
}

/// Waits until the request is gone.
pub async fn gone(scene: &Scene) -> Result<()> {
    let api = scene.requests(User::Admin).await?;
    eventually("the request is gone", PATIENCE, async || {
        let left = api.get_opt(REQUEST).await?;
        ensure!(left.is_none(), "it is {left:?}");
        Ok(())
    })
    .await
}

/// Deploys `v1`, whose pods do not become ready before [`until_over`] lets them, and `v2`.
pub async fn slow_and_good(scene: &Scene, pod_ip: &str) -> Result<()> {
    let slow = shop::deployment(DEPLOYMENT)
        .version("v1")
        .pod_ip(pod_ip)
        .behaviour(Behaviour::NeverReady);
    scene.apply_deployment(slow).await?;
    // Its ReplicaSet is enough.
    scene
        .wait_for_deployment(DEPLOYMENT, |found| {
            found.pointer("/status/observedGeneration") == Some(&json!(1))
        })
        .await?;
    scene
        .deploy(shop::deployment(DEPLOYMENT).version("v2"))
        .await?;
    Ok(())
}

/// Lets the pods become ready, those that come meanwhile too, until the rollout is over.
pub async fn until_over(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let ready = [(BEHAVIOUR, Behaviour::Ready.as_str())];
    eventually("the old version is up", PATIENCE, async || {
        shop::annotate_pods(&client, scene.ns(), DEPLOYMENT, &ready).await?;
        let deployment = scene.deployment(DEPLOYMENT).await?;
        let counts = ["replicas", "updatedReplicas", "availableReplicas"]
            .map(|field| deployment.pointer(&format!("/status/{field}")).cloned());
        ensure!(
            counts.iter().all(|count| *count == Some(json!(2))),
            "it is {deployment}"
        );
        Ok(())
    })
    .await
}

/// Deploys `v1` and `v2`.
pub async fn two_versions(scene: &Scene) -> Result<()> {
    scene.two_versions(DEPLOYMENT).await
}

/// The request as any tool sees it.
pub async fn seen(scene: &Scene, name: &str) -> Result<Value> {
    let api = shop::api(
        &scene.client(User::Gitops).await?,
        scene.ns(),
        "rollback.broxiva.com/v1alpha1",
        "RollbackRequest",
    );
    Ok(serde_json::to_value(api.get(name).await?)?)
}

/// What the tools make of it.
pub async fn judged(scene: &Scene, name: &str) -> Result<(Status, Health)> {
    let object = seen(scene, name).await?;
    Ok((kstatus(&object), health(&object)))
}

/// Waits until the request has ended so.
pub async fn ends(scene: &Scene, state: RequestState, reason: Reason) -> Result<RollbackRequest> {
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure!(
        (outcome.result, outcome.reason) == (state, reason),
        "it ended otherwise: {outcome:?}"
    );
    Ok(request)
}

/// Nothing of what a tool did has changed what was asked for and by whom.
pub async fn unharmed(scene: &Scene, uid: &str) -> Result<()> {
    let request = scene.request(REQUEST).await?;
    ensure!(request.uid().as_deref() == Some(uid), "it is another one");
    ensure!(
        request.metadata.generation == Some(1),
        "its generation is {:?}",
        request.metadata.generation
    );
    let by = request.spec.requested_by.context("nobody asked for it")?;
    ensure!(by.username == User::Gitops.as_str(), "asked by {by:?}");
    ensure!(
        by.groups.iter().any(|group| group == "broxiva:automation"),
        "asked by {by:?}"
    );
    Ok(())
}

/// How often the controller changed the Deployment.
pub fn reverts(scene: &Scene) -> Result<usize> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let patches = audit.deployment_patches(scene.ns(), DEPLOYMENT)?;
    Ok(patches
        .iter()
        .filter(|event| event.user == CONTROLLER)
        .count())
}

/// The JSON of the only incident.
pub async fn incident(scene: &Scene) -> Result<Value> {
    let incidents = scene.artifacts("incident", REQUEST).await?;
    let [incident] = incidents.as_slice() else {
        anyhow::bail!("{} incidents", incidents.len());
    };
    let data = incident.data.as_ref().context("it is empty")?;
    let json = data
        .values()
        .find(|text| text.starts_with('{'))
        .context("it has no JSON")?;
    Ok(serde_json::from_str(json)?)
}

/// The ledger of the Deployment: whether it is claimed, and how many rollbacks it knows.
pub async fn ledger(scene: &Scene) -> Result<(bool, usize)> {
    let api: Api<rollback_api::RevisionLedger> =
        Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let ledger = api
        .get_opt(&rollback_core::history::ledger::name(
            rollback_api::WorkloadKind::Deployment,
            DEPLOYMENT,
        ))
        .await?;
    Ok(ledger.map_or((false, 0), |ledger| {
        (ledger.spec.claim.is_some(), ledger.spec.rollbacks.len())
    }))
}
