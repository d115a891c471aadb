//! What is shipped: the image that `cargo xtask image` builds, as the pods that `deploy/` asks for, under their own
//! `ServiceAccount`.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::node::app::version;
use testkit::node::{self, Door, tell};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{PROGRAM, REQUEST, ensure_ended, ensure_one_patch, roll_back};

/// The namespace that it is installed in.
const HOME: &str = "rollback-system";
/// The Deployment.
const CONTROLLER: &str = "rollback-controller";

/// The archive with the image of the controller, in the folder that the variable names.
fn archive() -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os(testkit::IMAGES) else {
        tell("SKIPPED here: the shipped image; `cargo xtask test --full` builds it");
        return Ok(None);
    };
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(CONTROLLER) && name.ends_with(".oci.tar") {
            return Ok(Some(path));
        }
    }
    anyhow::bail!(
        "there is no image of the controller in {}",
        folder.display()
    )
}

/// The Deployment of `deploy/`, for one namespace: the tests beside have controllers of their own.
fn deployment(namespace: &str) -> Result<Value> {
    let text = fs::read_to_string(testkit::workspace().join("deploy/30-controller.yaml"))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let mut deployment = documents
        .into_iter()
        .find(|it| it["kind"] == "Deployment" && it["metadata"]["name"] == CONTROLLER)
        .context("no Deployment of the controller in deploy/")?;
    let environment = deployment.pointer_mut("/spec/template/spec/containers/0/env");
    let environment = environment.and_then(Value::as_array_mut);
    environment
        .context("the container has no environment")?
        .push(json!({"name": "ROLLBACK_NAMESPACE", "value": namespace}));
    Ok(deployment)
}

#[tokio::test]
async fn the_shipped_image_runs_as_deploy_asks_for_it_and_rolls_back() -> Result<()> {
    let Some(cluster) = node::shared().await? else {
        return Ok(());
    };
    let Some(archive) = archive()? else {
        return Ok(());
    };
    let door = Door::open(cluster).await?;
    node::import(cluster, &archive)?;
    let scene = Scene::on(cluster, PROGRAM, "shipped").await?;
    let admin = scene.client(User::Admin).await?;
    shop::apply(&admin, HOME, &deployment(scene.ns())?).await?;
    let deployments: Api<Deployment> = Api::namespaced(admin.clone(), HOME);
    eventually("both replicas are ready", PATIENCE, async || {
        let status = deployments.get(CONTROLLER).await?.status;
        let status = status.context("no status")?;
        ensure!(status.ready_replicas == Some(2), "{status:?}");
        Ok(())
    })
    .await?;

    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_one_patch(&scene)?;

    let pods: Api<Pod> = Api::namespaced(admin, HOME);
    let selector = format!("app.kubernetes.io/name={CONTROLLER}");
    for pod in pods.list(&ListParams::default().labels(&selector)).await? {
        let status = pod.status.context("a pod without status")?;
        let containers = status.container_statuses.unwrap_or_default();
        let restarts: i32 = containers.iter().map(|it| it.restart_count).sum();
        ensure!(restarts == 0, "{containers:?}");
    }
    let gone = [
        "-n",
        HOME,
        "delete",
        "deployment",
        CONTROLLER,
        "--wait=false",
    ];
    cluster.kubectl_ok(User::Admin, &gone, "").await?;
    drop(door);
    Ok(())
}
