//! One rollback behind a proxy.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use testkit::health::{HEALTH_PORT, HealthServer};
use testkit::proxy::{Mutation, Proxy};
use testkit::scene::PATIENCE;
use testkit::{ControllerProcess, Scene, User, eventually, shop};

use crate::ending::Ending;

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The Deployment that is rolled back.
pub const DEPLOYMENT: &str = "api";
/// The request.
pub const REQUEST: &str = "api-5xx";

/// A namespace with two versions of a Deployment and a check, and a proxy for the controller.
pub struct Run {
    /// The stage. Its own controller is not used.
    pub scene: Scene,
    /// Between the controller and the API server.
    pub proxy: Proxy,
    _health: HealthServer,
}

impl Run {
    /// Sets the stage; `good` is the version that is there first.
    pub async fn new(name: &str, good: &str) -> Result<Self> {
        let (scene, proxy) = Scene::behind_proxy(PROGRAM, name).await?;
        let health = HealthServer::start().await?;
        let check = json!({"name": "ready", "port": HEALTH_PORT, "path": "/health/ready", "periodSeconds": 1});
        // Evidence is written in its own time, which would make other writes the first or the second.
        scene
            .policy(json!({"verification": {"http": [check]}, "ledger": {"record": false}}))
            .await?;
        let version = |version| {
            shop::deployment(DEPLOYMENT)
                .version(version)
                // More would only mean more commits of progress, and not always as many.
                .replicas(1)
                .pod_ip(&health.ip())
        };
        scene.deploy(version(good)).await?;
        scene.deploy(version("v2")).await?;
        Ok(Self {
            scene,
            proxy,
            _health: health,
        })
    }

    /// Name of the namespace.
    pub fn ns(&self) -> &str {
        self.scene.ns()
    }

    /// Starts the controller behind the proxy, and waits until it is ready.
    pub async fn start_controller(&self) -> Result<ControllerProcess> {
        let controller = self.scene.spawn(&[])?;
        match controller.ready().await {
            Ok(()) => Ok(controller),
            Err(error) => Err(error.context(controller.log())),
        }
    }

    /// Rita asks.
    pub async fn ask(&self) -> Result<()> {
        let previous = json!({"previous": {}});
        self.scene.ask(REQUEST, DEPLOYMENT, previous).await?;
        Ok(())
    }

    /// Anna approves the plan, once there is one.
    pub async fn approve(&self) -> Result<()> {
        self.scene.approve(REQUEST, User::Approver).await
    }

    /// Whether the request has ended and is let go.
    pub async fn is_over(&self) -> Result<bool> {
        let request = self.scene.request(REQUEST).await?;
        let ended = request
            .status
            .as_ref()
            .is_some_and(|status| status.outcome.is_some());
        Ok(ended && request.finalizers().is_empty())
    }

    /// Waits for that.
    pub async fn wait_until_over(&self) -> Result<()> {
        // Each failure is waited out, and there are many.
        eventually("the request is over", 2 * PATIENCE, async || {
            ensure!(self.is_over().await?, "it is {}", self.whereabouts().await?);
            Ok(())
        })
        .await
    }

    /// Waits until everything is as it has to be at the end.
    pub async fn wait_for(&self, expected: &Ending) -> Result<()> {
        self.wait_until_over().await?;
        // What may be late is an Event; it has no reason to be late for long.
        let late = PATIENCE / 6;
        eventually("everything is as it has to be", late, async || {
            let ending = Ending::of(&self.scene).await?;
            ensure!(ending == *expected, "it is\n{ending:#?}");
            Ok(())
        })
        .await
    }

    /// Where the request is.
    pub async fn whereabouts(&self) -> Result<String> {
        let request = self.scene.request(REQUEST).await?;
        let (state, _) = testkit::scene::ready(&request);
        let status = request.status.context("no status")?;
        Ok(match (state.as_str(), status.incident.is_some()) {
            ("", _) => "new".to_owned(),
            (state, true) => format!("{state}, reported"),
            (state, false) => state.to_owned(),
        })
    }
}

/// Whether a request that the proxy calls mutating may change anything: questions are posted too. What the guard is tried
/// on is made by whoever comes first, and is no part of a rollback.
pub fn is_counted(mutation: &Mutation) -> bool {
    !mutation.path.contains("/authorization.k8s.io/")
        && !mutation.path.contains("/authentication.k8s.io/")
        && !mutation.path.contains("/namespaces/rollback-system/")
        && !mutation.dry_run
}

/// What a write is, without the names.
pub fn kind(mutation: &Mutation) -> String {
    let path: Vec<&str> = mutation.path.split('/').collect();
    let inside = path
        .iter()
        .position(|part| *part == "namespaces")
        .map_or(&path[..], |at| path.get(at + 2..).unwrap_or_default());
    let what = match inside {
        [kind, _, subresource] => format!("{kind}/{subresource}"),
        [kind, ..] => (*kind).to_owned(),
        [] => mutation.path.clone(),
    };
    format!("{} {what}", mutation.method)
}
