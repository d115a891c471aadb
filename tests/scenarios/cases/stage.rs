//! What the cases share: the stage, and questions to the API server.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use rollback_api::status::{Outcome, PlannedTarget, TargetStatus};
use rollback_api::{POD_TEMPLATE_HASH, Reason, RollbackRequest, Word};
use serde_json::Value;
use testkit::audit::Event;
use testkit::proxy::{Mutation, Proxy};
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::{Scene, User, eventually, shop};

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
    mutation.method == "PATCH" && mutation.path.ends_with(&format!("/deployments/{APP}"))
}

/// Accepts the backup and nothing else that comes before the revert.
pub fn is_backup(mutation: &Mutation) -> bool {
    mutation.method == "POST" && mutation.path.ends_with("/configmaps")
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

/// The admission policies of this kind, or their bindings.
pub async fn admission(scene: &Scene, kind: &str) -> Result<Api<DynamicObject>> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    let client = scene.client(User::Admin).await?;
    Ok(Api::all_with(client, &ApiResource::from_gvk(&kind)))
}

/// What the controller tried to write to the Deployment, refused or not. `None` without an audit log.
pub fn attempts(scene: &Scene) -> Result<Option<Vec<Event>>> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(None);
    };
    let ours = |event: &Event| {
        event.user == CONTROLLER
            && event.resource == "deployments"
            && !["get", "list", "watch"].contains(&event.verb.as_str())
    };
    Ok(Some(
        audit.events(scene.ns())?.into_iter().filter(ours).collect(),
    ))
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
    let Some(audit) = scene.cluster.audit() else {
        return Ok(());
    };
    let maps: Vec<Event> = audit
        .events(scene.ns())?
        .into_iter()
        .filter(|event| event.user == CONTROLLER && event.resource == "configmaps")
        .filter(|event| !["get", "list", "watch"].contains(&event.verb.as_str()))
        .collect();
    ensure!(maps.is_empty(), "it wrote {maps:?}");
    Ok(())
}

/// The request ended like this.
pub fn ensure_ended(outcome: &Outcome, word: Word, reason: Reason) -> Result<()> {
    ensure!(
        (outcome.word, outcome.reason) == (word, reason),
        "expected {word:?} because of {reason:?}, but it is {outcome:?}"
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
        .apply_deployment(version.behaviour(shop::Behaviour::NeverReady))
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
    scene
        .ask(REQUEST, APP, serde_json::json!({"previous": {}}))
        .await?;
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
    let annotated = serde_json::json!({"metadata": {"annotations": {key: value}}});
    patch(
        scene,
        "apps/v1",
        "ReplicaSet",
        text(&set, "/metadata/name"),
        &annotated,
    )
    .await
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

/// Limits what the namespace may hold, and waits until the limit is enforced.
pub async fn quota(scene: &Scene, resource: &str, most: u32) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let quota = serde_json::json!({
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
