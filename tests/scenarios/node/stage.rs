//! What the scenarios share.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use rollback_api::status::{CauseKind, Outcome, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::audit::Event;
use testkit::node::{self, POD_NETWORK, app::APP};
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::shop::DeploymentBuilder;
use testkit::{Scene, User, eventually};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The request.
pub const REQUEST: &str = "shop-5xx";

/// A namespace on the cluster with the real node, and a controller that may reach its pods. `None` where there can be
/// no such node.
pub async fn scene(name: &str) -> Result<Option<Scene>> {
    let Some(cluster) = node::shared().await? else {
        return Ok(None);
    };
    let mut scene = Scene::on(cluster, PROGRAM, name).await?;
    let controller = scene.spawn(&["--probe-networks", POD_NETWORK])?;
    controller.ready().await?;
    scene.controller = Some(controller);
    Ok(Some(scene))
}

/// Deploys a version that does not come up, and waits until there is a `ReplicaSet` to go back to.
pub async fn deploy_unwell(scene: &Scene, version: DeploymentBuilder) -> Result<()> {
    scene.apply_deployment(version).await?;
    let number = |deployment: &Value, pointer: &str| deployment.pointer(pointer)?.as_i64();
    scene
        .wait_for_deployment(APP, |deployment| {
            number(deployment, "/status/observedGeneration")
                == number(deployment, "/metadata/generation")
        })
        .await?;
    eventually("the first revision is there", PATIENCE, async || {
        ensure!(!scene.replica_sets(APP).await?.is_empty(), "not yet");
        Ok(())
    })
    .await
}

/// Asks for the previous version and approves it.
pub async fn roll_back(scene: &Scene) -> Result<()> {
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.approve(REQUEST, User::Approver).await
}

/// How far the one target has come.
pub fn target(request: &RollbackRequest) -> Result<TargetStatus> {
    let status = request.status.clone().context("no status")?;
    let target = status.targets.into_iter().next();
    target.context("no target in the status")
}

/// The request ended like this.
pub fn ensure_ended(outcome: &Outcome, state: RequestState, reason: Reason) -> Result<()> {
    ensure!(
        (outcome.result, outcome.reason) == (state, reason),
        "expected {state:?} because of {reason:?}, but it is {outcome:?}"
    );
    Ok(())
}

/// The controller patched the Deployment once and wrote nothing else to it.
pub fn ensure_one_patch(scene: &Scene) -> Result<()> {
    let by_us = |event: &Event| {
        event.user == CONTROLLER
            && event.resource == "deployments"
            && !["get", "list", "watch"].contains(&event.verb.as_str())
            && !event.is_dry_run()
    };
    let events = audit(scene)?;
    let ours: Vec<&Event> = events.iter().filter(|event| by_us(event)).collect();
    ensure!(
        matches!(ours[..], [only] if only.verb == "patch" && only.code == 200),
        "{ours:?}"
    );
    Ok(())
}

/// What the API server was asked in the namespace.
pub fn audit(scene: &Scene) -> Result<Vec<Event>> {
    let audit = scene.cluster.audit().context("no audit log")?;
    audit.events(scene.ns())
}

/// From the first word about the trouble that anybody but the controller said after `from`, in an object whose text
/// has one of `shown_by`, to the first status of ours that names it; by the API server's audit log.
pub fn delay(
    scene: &Scene,
    from: Timestamp,
    shown_by: &[&str],
    kind: CauseKind,
) -> Result<SignedDuration> {
    let events = audit(scene)?;
    let tells_of_it = |event: &Event| {
        let body = event.request_object.as_ref().map(Value::to_string);
        let body = body.unwrap_or_default();
        event.user != CONTROLLER
            && event.received >= from
            && matches!(
                (&*event.resource, &*event.subresource),
                ("pods" | "replicasets", "status") | ("events", "")
            )
            && shown_by.iter().any(|words| body.contains(words))
    };
    let kind = serde_json::to_value(kind)?;
    let is_ours = |event: &Event| {
        let body = event.request_object.as_ref();
        event.user == CONTROLLER
            && body.and_then(|body| body.pointer("/status/targets/0/rollout/cause/kind"))
                == Some(&kind)
    };
    let first_shown = events
        .iter()
        .filter(|event| tells_of_it(event))
        .map(|event| event.answered)
        .min()
        .with_context(|| format!("nobody said any of {shown_by:?}"))?;
    let first_named = events
        .iter()
        .filter(|event| is_ours(event))
        .map(|event| event.answered)
        .min()
        .context("no status of ours names it")?;
    Ok(first_named.duration_since(first_shown))
}
