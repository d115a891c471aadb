//! How the cases bring about their situations.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use rollback_api::RollbackRequest;
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, revision};
use testkit::shop::{BEHAVIOUR, Behaviour};
use testkit::{Scene, User, eventually, shop};

use crate::stage::{APP, REQUEST, deployments, number, replica_set, text};

/// Deletes the Deployment and waits until it and its `ReplicaSets` are gone.
pub async fn delete_deployment(scene: &Scene) -> Result<()> {
    let api = deployments(scene).await?;
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    api.delete(APP, &foreground).await?;
    eventually("the Deployment is gone", PATIENCE, async || {
        ensure!(api.get_opt(APP).await?.is_none(), "it is still there");
        Ok(())
    })
    .await
}

/// Deploys a version whose pods never become ready, and waits until the Deployment controller has
/// made its `ReplicaSet`.
pub async fn deploy_stuck(scene: &Scene, version: shop::DeploymentBuilder) -> Result<()> {
    let name = scene
        .apply_deployment(version.behaviour(Behaviour::NeverReady))
        .await?;
    scene
        .wait_for_deployment(&name, |deployment| {
            number(deployment, "/status/observedGeneration")
                == number(deployment, "/metadata/generation")
                && number(deployment, "/status/updatedReplicas") > 0
        })
        .await?;
    Ok(())
}

/// `v1` whose pods never become ready, then `v2` that is well: a rollback that hangs.
pub async fn stuck_then_well(scene: &Scene) -> Result<()> {
    // Long enough for the Deployment controller not to say anything.
    let patient = || shop::deployment(APP).progress_deadline(600);
    deploy_stuck(scene, patient().version("v1")).await?;
    scene.deploy(patient().version("v2")).await?;
    Ok(())
}

/// Asks for the previous version, approves it, and waits until it is rolling out.
pub async fn start_rolling_out(scene: &Scene) -> Result<RollbackRequest> {
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.approve(REQUEST, User::Approver).await?;
    scene.wait_for(REQUEST, "RollingOut").await
}

/// Deploys these versions, one after the other.
pub async fn deploy_all(scene: &Scene, versions: &[&str]) -> Result<()> {
    for version in versions {
        scene.deploy(shop::deployment(APP).version(version)).await?;
    }
    Ok(())
}

/// Patches an object of any kind as the administrator (merge patch).
pub async fn patch(
    scene: &Scene,
    api_version: &str,
    kind: &str,
    name: &str,
    patch: &Value,
) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), api_version, kind);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .with_context(|| format!("patching {kind} {name}"))?;
    Ok(())
}

/// Annotates the `ReplicaSet` with this tag; null removes.
pub async fn annotate_replica_set(
    scene: &Scene,
    tag: &str,
    key: &str,
    value: Option<&str>,
) -> Result<()> {
    let set = replica_set(scene, tag).await?;
    let annotated = json!({"metadata": {"annotations": {key: value}}});
    patch(
        scene,
        "apps/v1",
        "ReplicaSet",
        text(&set, "/metadata/name"),
        &annotated,
    )
    .await
}

/// Limits what the namespace may hold, and waits until the limit is enforced.
pub async fn quota(scene: &Scene, resource: &str, most: u32) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"},
        "spec": {"hard": {resource: most.to_string()}},
    });
    shop::apply(&client, scene.ns(), &quota).await?;
    let api = shop::api(&client, scene.ns(), "v1", "ResourceQuota");
    eventually("the quota is counted", PATIENCE, async || {
        let quota = api.get("tight").await?;
        let used = quota.data.pointer("/status/used");
        let counted = used.and_then(|used| used.get(resource));
        ensure!(counted.is_some(), "it is {:?}", quota.data);
        Ok(())
    })
    .await
}

/// Takes the limit away again.
pub async fn lift_quota(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    shop::api(&client, scene.ns(), "v1", "ResourceQuota")
        .delete("tight", &DeleteParams::default())
        .await?;
    Ok(())
}

/// Keeps all pods of the namespace from ending, or lets them (null).
pub async fn hold_pods(scene: &Scene, finalizers: Value) -> Result<()> {
    let api = shop::api(&scene.client(User::Admin).await?, scene.ns(), "v1", "Pod");
    let hold = json!({"metadata": {"finalizers": finalizers}});
    for pod in api.list(&ListParams::default()).await?.items {
        let name = pod.metadata.name.unwrap_or_default();
        let patched = api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&hold))
            .await;
        match patched {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// The pods of the Deployment get well, those that are still to come included, until `done`.
pub async fn heal_until(
    scene: &Scene,
    what: &str,
    done: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let well = [(BEHAVIOUR, Behaviour::Ready.as_str())];
    eventually(what, PATIENCE, async || {
        shop::annotate_pods(&client, scene.ns(), APP, &well).await?;
        done().await
    })
    .await
}

/// The pods of the Deployment get well until this request has ended.
pub async fn heal(scene: &Scene, request: &str) -> Result<()> {
    heal_until(scene, "the request has ended", async || {
        let ended = scene.status(request).await?.outcome.is_some();
        ensure!(ended, "it is still under way");
        Ok(())
    })
    .await
}

/// Waits until the version with this tag has this revision number.
pub async fn wait_for_revision(scene: &Scene, tag: &str, number: i64) -> Result<()> {
    eventually(
        &format!("{tag} is revision {number}"),
        PATIENCE,
        async || {
            let now = revision(&replica_set(scene, tag).await?);
            ensure!(now == Some(number), "it is {now:?}");
            Ok(())
        },
    )
    .await
}

/// Waits until the Deployment controller has finished a rollout.
pub async fn wait_until_available(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    shop::wait_available(&client, scene.ns(), APP).await?;
    Ok(())
}

/// The pods whose version is this tag, those that are ending included.
pub async fn pods_of(scene: &Scene, tag: &str) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/version={tag}"));
    Ok(api.list(&labelled).await?.items)
}

/// Says of the pods of a version what only a kubelet would know (merge patch of their status). There must be some.
pub async fn say_of_pods(scene: &Scene, tag: &str, status: &Value) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let pods = pods_of(scene, tag).await?;
    ensure!(!pods.is_empty(), "there is no pod of {tag}");
    let patch = json!({"status": status});
    for pod in &pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
    }
    Ok(pods)
}
