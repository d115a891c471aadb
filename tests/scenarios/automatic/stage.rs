//! What the tests of automatic rollbacks have in common.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use rollback_api::status::{BlockedBy, Outcome};
use rollback_api::{AUTOMATIC, Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::shop::{Behaviour, DeploymentBuilder, deployment};
use testkit::{Scene, User, eventually};

/// The controller's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// Name of the source of alerts.
pub const SOURCE: &str = "alertmanager";

/// A namespace with a controller, in which the watch and the receiver may ask, with these rules for what comes by itself.
pub async fn scene(name: &str, triggers: Value) -> Result<Scene> {
    let scene = Scene::new(PROGRAM, name).await?;
    prepare(&scene, triggers).await?;
    Ok(scene)
}

/// The same where the controller runs already, or does not yet.
pub async fn prepare(scene: &Scene, triggers: Value) -> Result<()> {
    for account in ["rollback-watch", "rollback-receiver"] {
        scene.grant_to(account, "rollback-trigger").await?;
    }
    rules(scene, triggers).await
}

/// Sets the rules for what comes by itself; everything goes fast.
pub async fn rules(scene: &Scene, mut triggers: Value) -> Result<()> {
    if triggers.get("grace").is_none() {
        triggers["grace"] = json!({"crashSeconds": 1, "imagePullSeconds": 1, "unreadySeconds": 2, "rolloutSeconds": 8});
    }
    triggers["sources"] = json!([SOURCE]);
    scene.policy(json!({"triggers": triggers})).await
}

/// A version of `api` that opts in.
pub fn version(version: &str) -> DeploymentBuilder {
    named("api", version)
}

/// A version of a Deployment that opts in.
pub fn named(name: &str, version: &str) -> DeploymentBuilder {
    deployment(name)
        .version(version)
        .annotation(AUTOMATIC, "enabled")
}

/// `v1` that is well, then `v2` that behaves so.
pub async fn bad_release(scene: &Scene, behaviour: Behaviour) -> Result<()> {
    scene.deploy(version("v1")).await?;
    scene
        .apply_deployment(version("v2").behaviour(behaviour))
        .await?;
    Ok(())
}

/// The requests of the namespace.
pub async fn requests(scene: &Scene) -> Result<Vec<RollbackRequest>> {
    let api = scene.requests(User::Admin).await?;
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Waits for the only request that came by itself; gives its name.
pub async fn asked(scene: &Scene) -> Result<String> {
    asked_times(scene, 1).await
}

/// Waits until so many requests came by themselves; gives the name of the newest.
pub async fn asked_times(scene: &Scene, times: usize) -> Result<String> {
    eventually("a request came by itself", PATIENCE, async || {
        let mut found = requests(scene).await?;
        found.retain(|request| request.spec.trigger.is_some());
        let log = || {
            scene
                .controller
                .as_ref()
                .map(testkit::ControllerProcess::log)
        };
        ensure!(
            found.len() == times,
            "there are {}: {:?}",
            found.len(),
            log()
        );
        found.sort_by_key(|request| request.metadata.creation_timestamp.clone());
        Ok(found.last().map(ResourceExt::name_any).unwrap_or_default())
    })
    .await
}

/// Waits for the end of a request, which has to be this one.
pub async fn ends(
    scene: &Scene,
    request: &str,
    state: RequestState,
    reason: Reason,
) -> Result<(RollbackRequest, Outcome)> {
    let (request, outcome) = scene.wait_for_end(request).await?;
    ensure!(
        outcome.result == state && outcome.reason == reason,
        "it ended otherwise: {outcome:?}"
    );
    Ok((request, outcome))
}

/// Waits until a request waits for a person, held back by this; gives what it says.
pub async fn held_back(scene: &Scene, request: &str, blocked_by: BlockedBy) -> Result<String> {
    let api = scene.requests(User::Admin).await?;
    eventually("the policy has decided", PATIENCE, async || {
        let status = api.get(request).await?.status.context("no status")?;
        let said = status.auto_approval.with_context(|| {
            let outcome = status.outcome.as_ref();
            format!("nothing was said yet: {outcome:?} {:?}", status.conditions)
        })?;
        ensure!(said.blocked_by == Some(blocked_by), "{said:?}");
        Ok(said.message)
    })
    .await
}

/// Whether a Deployment asks for this version.
pub async fn runs(scene: &Scene, name: &str, version: &str) -> Result<bool> {
    Ok(scene.image(name).await?.ends_with(&format!(":{version}")))
}

/// The requests of the namespace, as the receiver may create them.
pub async fn receiver(scene: &Scene) -> Result<Api<RollbackRequest>> {
    let kubeconfig = scene
        .cluster
        .service_account_kubeconfig("rollback-system", "rollback-receiver", None)
        .await?;
    let config = scene.cluster.config_from(&kubeconfig).await?;
    Ok(Api::namespaced(testkit::typed::client(config)?, scene.ns()))
}

/// A request as the receiver makes it of an alert.
pub async fn alert(
    scene: &Scene,
    name: &str,
    deployment: &str,
    category: &str,
    started_at: Timestamp,
) -> Result<RollbackRequest> {
    let image = scene.image(deployment).await?;
    Ok(serde_json::from_value(json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest", "metadata": {"name": name},
        "spec": {
            "targets": [{"name": deployment, "from": {"image": image}, "to": {"previous": {}}}],
            "reason": {"category": category, "summary": "it does not answer"},
            "trigger": {"source": SOURCE, "alert": "Down", "id": name, "startedAt": started_at, "pendingSeconds": 0,
                "evidence": ["up == 0 for 2 minutes; password=hunter2hunter2"]},
        },
    }))?)
}

/// Sends an alert that begins now; the API server may not know of the role at once.
pub async fn send(scene: &Scene, name: &str, deployment: &str, category: &str) -> Result<()> {
    let request = alert(scene, name, deployment, category, Timestamp::now()).await?;
    create(scene, &request).await
}

/// Creates a request as the receiver does.
pub async fn create(scene: &Scene, request: &RollbackRequest) -> Result<()> {
    let api = receiver(scene).await?;
    eventually("the receiver may ask", PATIENCE, async || {
        api.create(&PostParams::default(), request).await?;
        Ok(())
    })
    .await
}

/// A second from now: times of the API server are whole seconds.
pub async fn next_second() {
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
}

/// The metrics page of the controller.
pub async fn metrics(scene: &Scene) -> Result<String> {
    let controller = scene.controller.as_ref().context("no controller runs")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/metrics", controller.metrics_url());
    Ok(client.get(url).send().await?.text().await?)
}

/// The Events about a request: reason and note.
pub async fn events(scene: &Scene, request: &str) -> Result<Vec<String>> {
    let api: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let about = |event: &Event| {
        let name = event.regarding.as_ref().and_then(|it| it.name.as_deref());
        name == Some(request)
    };
    let line = |event: Event| {
        let (reason, note) = (
            event.reason.unwrap_or_default(),
            event.note.unwrap_or_default(),
        );
        format!("{reason}: {note}")
    };
    let all = api.list(&ListParams::default()).await?;
    Ok(all.items.into_iter().filter(about).map(line).collect())
}
