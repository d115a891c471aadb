//! What these scenarios share: many Deployments, one request, and what became of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use rollback_api::status::Outcome;
use rollback_api::{
    ARTIFACT_LABEL, REQUEST_UID_LABEL, Reason, RequestState, RevisionLedger, RollbackRequest,
};
use rollback_core::execution::phase;
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, request};
use testkit::shop::{BEHAVIOUR, Behaviour, DeploymentBuilder};
use testkit::{Scene, User, eventually, shop};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The request.
pub const REQUEST: &str = "platform-5xx";
/// How many Deployments are prepared at the same time.
const AT_ONCE: usize = 12;

/// What became of each Deployment.
pub type Results = BTreeMap<String, (RequestState, Reason)>;

/// A namespace and a running controller.
pub async fn scene(name: &str) -> Result<Scene> {
    Scene::new(PROGRAM, name).await
}

/// A version of a Deployment with one pod, for which Kubernetes has all the patience of the world.
pub fn version(name: &str, version: &str) -> DeploymentBuilder {
    shop::deployment(name)
        .version(version)
        .replicas(1)
        .progress_deadline(600)
}

/// The old version, well.
pub fn well(name: &str) -> DeploymentBuilder {
    version(name, "v1")
}

/// The old version, which crashes now.
pub fn crashing(name: &str) -> DeploymentBuilder {
    well(name).behaviour(Behaviour::Crash)
}

/// The old version, which comes up when [`let_go`] says so and not before.
pub fn held(name: &str) -> DeploymentBuilder {
    well(name).behaviour(Behaviour::NeverReady)
}

/// Deploys these, some at the same time: what is given only into the history, and then `v2`, rolled out.
pub async fn deploy(
    scene: &Scene,
    olds: impl IntoIterator<Item = DeploymentBuilder>,
) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let all: Vec<_> = olds
        .into_iter()
        .map(|old| deploy_one(&client, scene.ns(), old))
        .collect();
    futures::stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn deploy_one(client: &Client, namespace: &str, old: DeploymentBuilder) -> Result<()> {
    let resting = old.replicas(0).build();
    let name = shop::apply(client, namespace, &resting).await?.name_any();
    wait_until_seen(client, namespace, &name).await?;
    let new = version(&name, "v2").build();
    shop::apply(client, namespace, &new).await?;
    shop::wait_available(client, namespace, &name).await?;
    Ok(())
}

/// Deploys only this, rolled out: a Deployment without a past, or one version more.
pub async fn deploy_next(scene: &Scene, names: &[&str], tag: &str) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let one = |name: String| {
        let client = client.clone();
        async move {
            shop::apply(&client, scene.ns(), &version(&name, tag).build()).await?;
            shop::wait_available(&client, scene.ns(), &name).await?;
            anyhow::Ok(())
        }
    };
    let all: Vec<_> = names.iter().map(|name| one((*name).to_owned())).collect();
    futures::stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Deploys `v2` again after a rollback, rolled out. A server-side apply would leave what only the old version has,
/// because whoever rolled back owns it now.
pub async fn redeploy(scene: &Scene, names: &[&str]) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), "apps/v1", "Deployment");
    let one = |name: String| {
        let (api, client) = (api.clone(), client.clone());
        async move {
            let template = version(&name, "v2").build()["spec"]["template"].take();
            let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
            let patch = Patch::<()>::Json(serde_json::from_value(patch)?);
            api.patch(&name, &PatchParams::default(), &patch).await?;
            shop::wait_available(&client, scene.ns(), &name).await?;
            anyhow::Ok(())
        }
    };
    let all: Vec<_> = names.iter().map(|name| one((*name).to_owned())).collect();
    futures::stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The Deployment controller has made the `ReplicaSet`.
async fn wait_until_seen(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let api = shop::api(client, namespace, "apps/v1", "Deployment");
    eventually(&format!("{name} is taken up"), PATIENCE, async || {
        let deployment = api.get(name).await?;
        let seen = deployment.data.pointer("/status/observedGeneration");
        ensure!(
            seen.and_then(Value::as_i64) == deployment.metadata.generation,
            "observed generation is {seen:?}"
        );
        Ok(())
    })
    .await
}

/// Lets the pods of [`held`] become ready, once there are any of the old version.
pub async fn let_go(scene: &Scene, name: &str) -> Result<()> {
    change_pods(scene, name, Behaviour::Ready).await
}

/// Makes the pods of [`held`] crash, once there are any of the old version.
pub async fn crash(scene: &Scene, name: &str) -> Result<()> {
    change_pods(scene, name, Behaviour::Crash).await
}

async fn change_pods(scene: &Scene, name: &str, behaviour: Behaviour) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let pods = shop::api(&client, scene.ns(), "v1", "Pod");
    let old = format!("app.kubernetes.io/name={name},app.kubernetes.io/version=v1");
    let old = ListParams::default().labels(&old);
    eventually(&format!("{name} has pods of v1"), PATIENCE, async || {
        ensure!(!pods.list(&old).await?.items.is_empty(), "it has none");
        Ok(())
    })
    .await?;
    shop::annotate_pods(
        &client,
        scene.ns(),
        name,
        &[(BEHAVIOUR, behaviour.as_str())],
    )
    .await?;
    Ok(())
}

/// An entry of the spec: back to the version before.
pub fn named(name: &str) -> Value {
    json!({"name": name, "to": {"previous": {}}})
}

/// The same in a later wave.
pub fn later(name: &str, wave: i32) -> Value {
    json!({"name": name, "to": {"previous": {}}, "wave": wave})
}

/// All whose names begin so.
pub fn prefix(prefix: &str) -> Value {
    json!({"namePrefix": prefix, "to": {"previous": {}}})
}

/// Asks for all of these together.
pub async fn ask(scene: &Scene, targets: Value, rollout: Value) -> Result<RollbackRequest> {
    ask_as(scene, REQUEST, targets, rollout).await
}

/// The same under another name.
pub async fn ask_as(
    scene: &Scene,
    name: &str,
    targets: Value,
    rollout: Value,
) -> Result<RollbackRequest> {
    let mut asked = request(name, targets);
    asked["spec"]["rollout"] = rollout;
    scene.ask_for(asked).await
}

/// Asks and approves.
pub async fn start(scene: &Scene, targets: Value, rollout: Value) -> Result<RollbackRequest> {
    let asked = ask(scene, targets, rollout).await?;
    scene.approve(REQUEST, User::Approver).await?;
    Ok(asked)
}

/// Asks, approves and waits for the end.
pub async fn roll_back(
    scene: &Scene,
    targets: Value,
    rollout: Value,
) -> Result<(RollbackRequest, Outcome)> {
    start(scene, targets, rollout).await?;
    end(scene).await
}

/// Waits for the end, which leaves no claim behind.
pub async fn end(scene: &Scene) -> Result<(RollbackRequest, Outcome)> {
    let ended = scene.wait_for_end(REQUEST).await?;
    ensure_free(scene).await?;
    Ok(ended)
}

/// Nobody holds any Deployment of the namespace.
pub async fn ensure_free(scene: &Scene) -> Result<()> {
    let api: Api<RevisionLedger> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let held: Vec<String> = api
        .list(&ListParams::default())
        .await?
        .into_iter()
        .filter(|ledger| ledger.spec.claim.is_some())
        .map(|ledger| ledger.name_any())
        .collect();
    ensure!(held.is_empty(), "these are still held: {held:?}");
    Ok(())
}

/// The request ended like this.
pub fn ensure_ended(outcome: &Outcome, state: RequestState, reason: Reason) -> Result<()> {
    ensure!(
        (outcome.result, outcome.reason) == (state, reason),
        "expected {state:?} because of {reason:?}, but it is {outcome:?}"
    );
    Ok(())
}

/// What became of each Deployment of the plan.
pub fn results(request: &RollbackRequest) -> Results {
    let status = request.status.clone().unwrap_or_default();
    let result = |progress: &rollback_api::status::TargetStatus| {
        let outcome = phase::result(progress)?;
        Some((progress.name.clone(), (outcome.result, outcome.reason)))
    };
    status.targets.iter().filter_map(result).collect()
}

/// Exactly this became of each Deployment of the plan.
pub fn ensure_results(
    request: &RollbackRequest,
    wanted: &[(&str, RequestState, Reason)],
) -> Result<()> {
    let wanted: Results = wanted
        .iter()
        .map(|(name, state, reason)| ((*name).to_owned(), (*state, *reason)))
        .collect();
    let found = results(request);
    ensure!(found == wanted, "expected {wanted:?}, but it is {found:?}");
    Ok(())
}

/// What the plan leaves as it is, and why.
pub fn skipped(request: &RollbackRequest) -> Result<Results> {
    let plan = request.status.as_ref().and_then(|s| s.plan.clone());
    let skipped = plan.context("no plan")?.skipped;
    Ok(skipped
        .into_iter()
        .map(|one| (one.name, (one.result, one.reason)))
        .collect())
}

/// The tags of the images that these Deployments ask for.
pub async fn tags(scene: &Scene, names: &[&str]) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    for name in names {
        let image = scene.image(name).await?;
        tags.push(image.rsplit(':').next().unwrap_or_default().to_owned());
    }
    Ok(tags)
}

/// Waits until one Deployment of the request has come so far.
pub async fn wait_for_target(
    scene: &Scene,
    name: &str,
    what: &str,
    is_so: impl Fn(&rollback_api::status::TargetStatus) -> bool,
) -> Result<()> {
    eventually(&format!("{name} {what}"), PATIENCE, async || {
        let status = scene.status(REQUEST).await?;
        let progress = status.targets.iter().find(|progress| progress.name == name);
        let progress = progress.context("not planned")?;
        ensure!(is_so(progress), "it is {progress:?}");
        Ok(())
    })
    .await
}

/// Backups or incidents of exactly this request.
pub async fn artifacts(
    scene: &Scene,
    kind: &str,
    request: &RollbackRequest,
) -> Result<Vec<k8s_openapi::api::core::v1::ConfigMap>> {
    let api: Api<_> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let labels = format!(
        "{ARTIFACT_LABEL}={kind},{REQUEST_UID_LABEL}={}",
        request.uid().unwrap_or_default()
    );
    Ok(api
        .list(&ListParams::default().labels(&labels))
        .await?
        .items)
}

/// The row that `kubectl get rbr` prints for the request.
pub async fn row(scene: &Scene) -> Result<String> {
    let get = ["get", "rbr", REQUEST, "-n", scene.ns(), "--no-headers"];
    scene.cluster.kubectl_ok(User::Outsider, &get, "").await
}
