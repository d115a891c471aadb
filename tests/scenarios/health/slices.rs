//! Whoever may write `EndpointSlices` says there what they like: where a pod is, only its own status says.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{ends, policy, roll_back, scene, version};

/// An address at which nobody is.
const ELSEWHERE: &str = "192.0.2.17";

/// A Service whose `EndpointSlices` somebody writes by hand.
async fn service(scene: &Scene) -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": HEALTH_PORT}]},
    });
    shop::apply(&scene.client(User::Admin).await?, scene.ns(), &service).await?;
    Ok(())
}

/// A slice that says that every pod of the old version is elsewhere.
async fn lie(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), scene.ns());
    let labelled = ListParams::default().labels("app.kubernetes.io/version=v1");
    let pods = api.list(&labelled).await?.items;
    ensure!(!pods.is_empty(), "there is no pod of v1 yet");
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|pod| {
            json!({
                "addresses": [ELSEWHERE], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": scene.ns(), "name": pod.metadata.name, "uid": pod.metadata.uid},
            })
        })
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "front-by-hand", "labels": {"kubernetes.io/service-name": "front"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": HEALTH_PORT}], "endpoints": endpoints,
    });
    shop::apply(&client, scene.ns(), &slice).await?;
    Ok(())
}

/// A rollback whose check goes through the Service, with the slice of somebody; how it ended.
async fn checked(name: &str, old: &HealthServer) -> Result<Scene> {
    let scene = scene(name).await?;
    let bad = HealthServer::start().await?;
    scene.deploy(version("v1", old)).await?;
    scene.deploy(version("v2", &bad)).await?;
    service(&scene).await?;
    let check = json!({"name": "ready", "service": "front", "port": 80, "preset": "Ready", "periodSeconds": 1});
    policy(&scene, json!({"timeoutSeconds": 10, "http": [check]})).await?;
    roll_back(&scene, "api-5xx").await?;
    eventually("the request has ended", PATIENCE, async || {
        lie(&scene).await?;
        let ended = scene.status("api-5xx").await?.outcome.is_some();
        ensure!(ended, "it is still under way");
        Ok(())
    })
    .await?;
    Ok(scene)
}

#[tokio::test]
async fn a_pod_is_asked_where_it_is_whatever_a_slice_says() -> Result<()> {
    let old = HealthServer::start().await?;
    let scene = checked("slice-lies", &old).await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::RolledBack,
    )
    .await?;
    ensure!(!old.paths().is_empty(), "the pods were not asked");
    Ok(())
}

/// The twin: the pods themselves say that they are not well.
#[tokio::test]
async fn a_pod_that_is_not_well_says_so_itself() -> Result<()> {
    let old = HealthServer::start().await?;
    old.answer(Answer::status(503));
    let scene = checked("slice-unwell", &old).await?;
    let message = ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::ChecksFailed,
    )
    .await?;
    ensure!(message.contains("503"), "{message}");
    Ok(())
}
