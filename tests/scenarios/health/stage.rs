//! What the tests of health have in common.

use anyhow::{Context as _, Result, ensure};
use rollback_api::status::TargetStatus;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::HealthServer;
use testkit::{Scene, User, shop};

/// The controller's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");

/// A namespace with a controller of its own.
pub async fn scene(name: &str) -> Result<Scene> {
    Scene::new(PROGRAM, name).await
}

/// How far the only target of a request is.
pub async fn target(scene: &Scene, request: &str) -> Result<TargetStatus> {
    let status = scene.status(request).await?;
    status.targets.into_iter().next().context("no target yet")
}

/// Waits for the end of a request, which has to be this one; gives its message.
pub async fn ends(
    scene: &Scene,
    request: &str,
    state: RequestState,
    reason: Reason,
) -> Result<String> {
    let (_, outcome) = scene.wait_for_end(request).await?;
    ensure!(
        outcome.result == state && outcome.reason == reason,
        "it ended otherwise: {outcome:?}"
    );
    Ok(outcome.message)
}

/// The pods of one version: a Deployment `api` whose pods answer at the address of this server.
pub fn version(version: &str, pods: &HealthServer) -> shop::DeploymentBuilder {
    shop::deployment("api").version(version).pod_ip(&pods.ip())
}

/// A policy of this kind for a namespace where one person approves.
pub async fn policy(scene: &Scene, verification: Value) -> Result<()> {
    scene.policy(json!({"verification": verification})).await
}

/// Asks for the previous version of `api` and approves it.
pub async fn roll_back(scene: &Scene, request: &str) -> Result<()> {
    scene.ask(request, "api", json!({"previous": {}})).await?;
    scene.approve(request, User::Approver).await
}
