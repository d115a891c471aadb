//! What these scenarios share.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::{DeleteParams, PropagationPolicy};
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};
use rollback_api::ledger::{Evidence, Verdict};
use rollback_api::status::Outcome;
use rollback_api::{Reason, RequestState, RevisionLedger, WorkloadKind};
use rollback_core::history::template::Template;
use serde_json::{Value, json};
use testkit::audit::Event;
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::{Scene, User, eventually, shop};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The Deployment.
pub const APP: &str = "api";

/// A namespace with a controller, where a version is good after this time.
pub async fn scene(name: &str, soak_seconds: i32) -> Result<Scene> {
    let mut scene = Scene::without_controller(PROGRAM, name).await?;
    scene
        .policy(json!({"ledger": {"soakSeconds": soak_seconds}}))
        .await?;
    scene.start_controller().await?;
    Ok(scene)
}

/// The ledgers of the scene.
pub async fn ledgers(scene: &Scene) -> Result<Api<RevisionLedger>> {
    Ok(Api::namespaced(
        scene.client(User::Admin).await?,
        scene.ns(),
    ))
}

/// Name of the ledger of the Deployment.
pub fn ledger_name() -> String {
    rollback_core::history::ledger::name(WorkloadKind::Deployment, APP)
}

/// The ledger of the Deployment.
pub async fn ledger(scene: &Scene) -> Result<RevisionLedger> {
    Ok(ledgers(scene).await?.get(&ledger_name()).await?)
}

/// What is known of the template of this Deployment.
pub async fn entry_of(scene: &Scene, deployment: &Value) -> Result<Evidence> {
    let digest = digest(deployment);
    let entries = ledger(scene).await?.spec.templates;
    let found = entries.into_iter().find(|entry| entry.digest == digest);
    found.with_context(|| format!("nothing about {digest}"))
}

/// The digest of the template of a Deployment.
pub fn digest(deployment: &Value) -> String {
    Template::of(&deployment["spec"]["template"]).digest()
}

/// Waits until what is known of a template is as `expected` says.
pub async fn wait_for_entry(
    scene: &Scene,
    deployment: &Value,
    what: &str,
    expected: impl Fn(&Evidence) -> bool,
) -> Result<Evidence> {
    eventually(what, PATIENCE, async || {
        let entry = entry_of(scene, deployment).await?;
        ensure!(expected(&entry), "it is {entry:?}");
        Ok(entry)
    })
    .await
}

/// Deploys a version and waits until it is known to be good.
pub async fn good(scene: &Scene, version: shop::DeploymentBuilder) -> Result<Value> {
    let deployment = scene.deploy(version).await?;
    wait_for_entry(scene, &deployment, "it is good", |entry| {
        entry.verdict == Verdict::Good
    })
    .await?;
    Ok(deployment)
}

/// A version of the Deployment.
pub fn version(version: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP).version(version)
}

/// Deploys a version whose pods do not become ready, and waits until the Deployment controller has taken it up and the
/// ledger knows of it.
pub async fn bad(scene: &Scene, version: shop::DeploymentBuilder) -> Result<Value> {
    scene.apply_deployment(version).await?;
    let seen = |deployment: &Value| {
        let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64);
        number("/status/observedGeneration") == number("/metadata/generation")
            && number("/status/updatedReplicas") > Some(0)
    };
    let deployment = scene.wait_for_deployment(APP, seen).await?;
    wait_for_entry(scene, &deployment, "it is known", |entry| {
        entry.first_available.is_none()
    })
    .await?;
    Ok(deployment)
}

/// Goes back to the last known good version, which has to succeed, and says to which tag.
pub async fn back_to_good(scene: &Scene, request: &str) -> Result<String> {
    back_to(scene, request, json!({"lastKnownGood": {}})).await
}

/// Goes back, which has to succeed, and says to which tag.
pub async fn back_to(scene: &Scene, request: &str, to: Value) -> Result<String> {
    let (_, outcome) = scene.roll_back(request, APP, to).await?;
    ensure!(
        (outcome.result, outcome.reason) == (RequestState::Succeeded, Reason::Unverified),
        "{outcome:?}"
    );
    let image = scene.image(APP).await?;
    let (_, tag) = image.rsplit_once(':').context("an image without tag")?;
    Ok(tag.to_owned())
}

/// Asks for the last known good version, which has to end before there is a plan.
pub async fn refused(scene: &Scene, request: &str, reason: Reason) -> Result<Outcome> {
    scene
        .ask(request, APP, json!({"lastKnownGood": {}}))
        .await?;
    let (_, outcome) = scene.wait_for_end(request).await?;
    ensure!(
        (outcome.result, outcome.reason) == (RequestState::Refused, reason),
        "{outcome:?}"
    );
    Ok(outcome)
}

/// Objects of any kind in the namespace.
pub async fn objects(scene: &Scene, api_version: &str, kind: &str) -> Result<Api<DynamicObject>> {
    let client = scene.client(User::Admin).await?;
    Ok(shop::api(&client, scene.ns(), api_version, kind))
}

/// Deletes the `ReplicaSets` that do not run, and waits until they are gone.
pub async fn prune(scene: &Scene) -> Result<()> {
    let api = objects(scene, "apps/v1", "ReplicaSet").await?;
    for set in scene.replica_sets(APP).await? {
        if set["spec"]["replicas"] == 0 {
            let name = set["metadata"]["name"].as_str().unwrap_or_default();
            api.delete(name, &DeleteParams::default()).await?;
        }
    }
    wait_for_sets(scene, 1).await
}

/// Waits until there are so many `ReplicaSets`.
pub async fn wait_for_sets(scene: &Scene, count: usize) -> Result<()> {
    eventually("the history is pruned", PATIENCE, async || {
        let left = scene.replica_sets(APP).await?.len();
        ensure!(left == count, "{left} are left");
        Ok(())
    })
    .await
}

/// Deletes the Deployment with all that belongs to it.
pub async fn delete_deployment(scene: &Scene) -> Result<()> {
    let api = objects(scene, "apps/v1", "Deployment").await?;
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

/// All that the controller wrote in the namespace; `None` without an audit log.
pub fn writes(scene: &Scene, resource: &str) -> Result<Option<Vec<Event>>> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(None);
    };
    let ours = |event: &Event| {
        event.user == CONTROLLER
            && event.resource == resource
            && !["get", "list", "watch"].contains(&event.verb.as_str())
    };
    let events = audit.events(scene.ns())?;
    Ok(Some(events.into_iter().filter(ours).collect()))
}

/// Looks again and again for this long: what is not to happen needs time not to happen in.
pub async fn stays(time: Duration, mut holds: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    let mut broken = None;
    eventually("the time is over", time + PATIENCE, async || {
        if let Err(error) = holds().await {
            broken.get_or_insert(error);
        }
        ensure!(broken.is_some() || began.elapsed() >= time, "not yet");
        Ok(())
    })
    .await?;
    broken.map_or(Ok(()), Err)
}

/// Nobody has a ledger.
pub async fn ensure_no_ledger(scene: &Scene) -> Result<()> {
    let found = ledgers(scene)
        .await?
        .list(&kube::api::ListParams::default())
        .await?;
    let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
    ensure!(names.is_empty(), "there are {names:?}");
    Ok(())
}
