//! What the cases share: the stage, and questions to the API server.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client};
use rollback_api::status::{Outcome, PlannedTarget, TargetStatus};
use rollback_api::{POD_TEMPLATE_HASH, Reason, RequestState, RollbackRequest};
use serde_json::Value;
use testkit::audit::Event;
use testkit::proxy::{Mutation, Proxy};
use testkit::scene::CONTROLLER;
use testkit::{Scene, User, shop};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The Deployment that is rolled back.
pub const APP: &str = "broxiva-api";
/// The request.
pub const REQUEST: &str = "api-5xx";

/// A namespace and a running controller.
pub async fn scene(name: &str) -> Result<Scene> {
    Scene::new(PROGRAM, name).await
}

/// The same, with everything that the controller says going through a proxy.
pub async fn scene_behind_proxy(name: &str) -> Result<(Scene, Proxy)> {
    let mut scene = Scene::without_controller(PROGRAM, name).await?;
    let proxy = Proxy::start(&scene.cluster.server()?, &scene.cluster.ca()?).await?;
    scene.kubeconfig = scene
        .cluster
        .service_account_kubeconfig("rollback-system", "rollback-controller", Some(&proxy.url()))
        .await?;
    scene.start_controller().await?;
    Ok((scene, proxy))
}

/// Accepts the revert and nothing else.
pub fn is_revert(mutation: &Mutation) -> bool {
    mutation.method == "PATCH"
        && mutation.path.ends_with(&format!("/deployments/{APP}"))
        && !mutation.dry_run
}

/// Accepts the backup and nothing else that comes before the revert.
pub fn is_backup(mutation: &Mutation) -> bool {
    mutation.method == "POST" && mutation.path.ends_with("/configmaps") && !mutation.dry_run
}

/// The Deployments of the scene, for an administrator who outlives the borrow of the scene.
pub async fn deployments(scene: &Scene) -> Result<Api<DynamicObject>> {
    let client = scene.client(User::Admin).await?;
    Ok(shop::api(&client, scene.ns(), "apps/v1", "Deployment"))
}

/// Ends the controller as a power cut would.
pub fn kill(scene: &mut Scene) -> Result<()> {
    let controller = scene.controller.take().context("no controller runs")?;
    controller.kill();
    Ok(())
}

/// What the controller tried to write to objects of this kind, refused or not; dry runs write
/// nothing. `None` without an audit log.
fn writes(scene: &Scene, resource: &str) -> Result<Option<Vec<Event>>> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(None);
    };
    let ours = |event: &Event| {
        event.user == CONTROLLER
            && event.resource == resource
            && !["get", "list", "watch"].contains(&event.verb.as_str())
            && !event.is_dry_run()
    };
    Ok(Some(
        audit.events(scene.ns())?.into_iter().filter(ours).collect(),
    ))
}

/// What the controller tried to write to the Deployment, refused or not. `None` without an audit log.
pub fn attempts(scene: &Scene) -> Result<Option<Vec<Event>>> {
    writes(scene, "deployments")
}

/// All that the controller wrote to Deployments is patches of this one, answered like this.
pub fn ensure_answers(scene: &Scene, codes: &[u16]) -> Result<()> {
    let Some(attempts) = attempts(scene)? else {
        return Ok(());
    };
    let all_patches = attempts
        .iter()
        .all(|event| event.verb == "patch" && event.subresource.is_empty() && event.name == APP);
    let answers: Vec<u16> = attempts.iter().map(|event| event.code).collect();
    ensure!(
        all_patches && answers == codes,
        "expected {codes:?}, got {attempts:?}"
    );
    Ok(())
}

/// The controller wrote neither the Deployment nor a backup nor a report.
pub async fn ensure_nothing_written(scene: &Scene) -> Result<()> {
    ensure_answers(scene, &[])?;
    for kind in ["backup", "incident"] {
        let written = scene.artifacts(kind, REQUEST).await?;
        ensure!(written.is_empty(), "there is a {kind}: {written:?}");
    }
    let maps = writes(scene, "configmaps")?.unwrap_or_default();
    ensure!(maps.is_empty(), "it wrote {maps:?}");
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

/// The one target of the plan.
pub fn planned(request: &RollbackRequest) -> Result<PlannedTarget> {
    let plan = request
        .status
        .as_ref()
        .and_then(|status| status.plan.clone());
    let mut targets = plan.context("no plan")?.targets;
    targets.pop().context("no target in the plan")
}

/// How far the one target has come.
pub fn progress(request: &RollbackRequest) -> Result<TargetStatus> {
    let status = request.status.clone().context("no status")?;
    status
        .targets
        .into_iter()
        .next()
        .context("no target in the status")
}

/// The `ReplicaSet` whose container has this tag. There must be exactly one.
pub async fn replica_set(scene: &Scene, tag: &str) -> Result<Value> {
    let sets = scene.replica_sets(APP).await?;
    let with_tag: Vec<Value> = sets
        .into_iter()
        .filter(|set| image_of(set).ends_with(&format!(":{tag}")))
        .collect();
    let [only] = with_tag.as_slice() else {
        anyhow::bail!("{} ReplicaSets with {tag}", with_tag.len());
    };
    Ok(only.clone())
}

fn image_of(object: &Value) -> &str {
    object
        .pointer("/spec/template/spec/containers/0/image")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The pod template of a Deployment or a `ReplicaSet`, without the hash that the latter has.
pub fn template(object: &Value) -> Value {
    let mut template = object["spec"]["template"].clone();
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

/// Text at a JSON pointer, empty when there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A number at a JSON pointer, zero when there is none.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// An annotation of the object itself.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// The UIDs of the pods that are there and not ending.
pub async fn pods(scene: &Scene) -> Result<BTreeSet<String>> {
    let api: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let pods = api.list(&ListParams::default()).await?.items;
    Ok(pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.metadata.uid)
        .collect())
}

/// Since when the pods of a `ReplicaSet` are ready, as their conditions say.
pub async fn ready_since(client: &Client, set: &Value) -> Result<Vec<Timestamp>> {
    let namespace = text(set, "/metadata/namespace");
    let hash = set
        .pointer("/metadata/labels")
        .and_then(|labels| labels.get(POD_TEMPLATE_HASH)?.as_str())
        .context("a ReplicaSet without hash")?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{POD_TEMPLATE_HASH}={hash}"));
    let since = |pod: Pod| {
        let conditions = pod.status?.conditions?;
        let ready = conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
        Some(ready.last_transition_time?.0)
    };
    Ok(pods
        .list(&labelled)
        .await?
        .items
        .into_iter()
        .filter_map(since)
        .collect())
}

/// The reason of a condition of a Deployment.
pub fn condition<'a>(deployment: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = deployment.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)?
        .get("reason")?
        .as_str()
}

/// Rolls back, which has to succeed, and says to which tag and what the plan notes.
pub async fn roll_back_to(scene: &Scene, name: &str, to: Value) -> Result<(String, String)> {
    let (request, outcome) = scene.roll_back(name, APP, to).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let image = scene.image(APP).await?;
    let (_, tag) = image.rsplit_once(':').context("an image without tag")?;
    Ok((tag.to_owned(), planned(&request)?.notes.join("; ")))
}

/// Asks, which has to be refused before there is a plan and with nothing written, and gives the
/// message.
pub async fn refused(scene: &Scene, to: Value, reason: Reason) -> Result<String> {
    scene.ask(REQUEST, APP, to).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Refused, reason)?;
    ensure_nothing_written(scene).await?;
    Ok(outcome.message)
}
