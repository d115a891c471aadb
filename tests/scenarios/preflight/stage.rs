//! What the tests share: the stage, and questions to the API server.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::core::DynamicObject;
use rollback_api::status::{Outcome, PlannedTarget, RiskKind, TargetStatus};
use rollback_api::{POD_TEMPLATE_HASH, Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
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

/// Ends the controller as a power cut would.
pub fn kill(scene: &mut Scene) -> Result<()> {
    let controller = scene.controller.take().context("no controller runs")?;
    controller.kill();
    Ok(())
}

/// Accepts the write of the Deployment and nothing else.
pub fn is_revert(mutation: &Mutation) -> bool {
    mutation.method == "PATCH"
        && mutation.path.ends_with(&format!("/deployments/{APP}"))
        && !mutation.dry_run
}

/// Accepts the backup and nothing else that comes before the write.
pub fn is_backup(mutation: &Mutation) -> bool {
    mutation.method == "POST" && mutation.path.ends_with("/configmaps") && !mutation.dry_run
}

/// The image of the Deployment with this tag.
pub fn image_of(tag: &str) -> String {
    format!("registry.broxiva.example/{APP}:{tag}")
}

/// A request for the previous version.
pub fn previous() -> Value {
    json!({"previous": {}})
}

/// Waits for the end, which has to be this one.
pub async fn ends(
    scene: &Scene,
    name: &str,
    state: RequestState,
    reason: Reason,
) -> Result<(RollbackRequest, Outcome)> {
    let (request, outcome) = scene.wait_for_end(name).await?;
    ensure!(
        (outcome.result, outcome.reason) == (state, reason),
        "expected {name} to end as {state:?}/{reason:?}, but it is {outcome:?}"
    );
    Ok((request, outcome))
}

/// Waits for a refusal that says all of this, and for nothing to be written.
pub async fn refused(scene: &Scene, name: &str, reason: Reason, says: &[&str]) -> Result<String> {
    let (_, outcome) = ends(scene, name, RequestState::Refused, reason).await?;
    says_all(&outcome.message, says)?;
    Ok(outcome.message)
}

/// All of this is in the text.
pub fn says_all(text: &str, says: &[&str]) -> Result<()> {
    for part in says {
        ensure!(text.contains(part), "{part:?} is not in: {text}");
    }
    Ok(())
}

/// Asks, waits for the plan and gives its only target.
pub async fn plan_of(scene: &Scene, name: &str, to: Value) -> Result<PlannedTarget> {
    scene.ask(name, APP, to).await?;
    planned(scene, name).await
}

/// Waits for the plan of a request and gives its only target.
pub async fn planned(scene: &Scene, name: &str) -> Result<PlannedTarget> {
    let mut targets = scene.plan(name).await?.targets;
    ensure!(targets.len() == 1, "{} targets", targets.len());
    targets.pop().context("no target in the plan")
}

/// How far the one target has come.
pub fn progress(request: &RollbackRequest) -> Result<TargetStatus> {
    let status = request.status.clone().context("no status")?;
    let first = status.targets.into_iter().next();
    first.context("no target in the status")
}

/// The message of the one risk of this kind.
pub fn risk(target: &PlannedTarget, kind: RiskKind) -> Result<String> {
    let of_kind: Vec<_> = target
        .risks
        .iter()
        .filter(|risk| risk.kind == kind)
        .collect();
    ensure!(of_kind.len() == 1, "not one {kind:?} in {:?}", target.risks);
    Ok(of_kind[0].message.clone())
}

/// The kinds of the risks.
pub fn kinds(target: &PlannedTarget) -> Vec<RiskKind> {
    target.risks.iter().map(|risk| risk.kind).collect()
}

/// Gives the approval, and waits until it has ended well.
pub async fn goes_on(scene: &Scene, name: &str) -> Result<RollbackRequest> {
    scene.approve(name, User::Approver).await?;
    let (request, _) = ends(scene, name, RequestState::Succeeded, Reason::Unverified).await?;
    Ok(request)
}

/// What the controller asked for in this namespace, reads included. `None` without an audit log.
pub fn asked_for(scene: &Scene) -> Result<Option<Vec<Event>>> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(None);
    };
    let events = audit.events(scene.ns())?;
    Ok(Some(
        events
            .into_iter()
            .filter(|event| event.user == CONTROLLER)
            .collect(),
    ))
}

/// Whether a request only looks.
pub fn is_read(event: &Event) -> bool {
    ["get", "list", "watch"].contains(&event.verb.as_str())
}

/// What the controller tried to write to objects of this kind, tries without effect left out.
fn writes(scene: &Scene, resource: &str) -> Result<Vec<Event>> {
    let events = asked_for(scene)?.unwrap_or_default();
    let is_write =
        |event: &Event| event.resource == resource && !is_read(event) && !event.is_dry_run();
    Ok(events.into_iter().filter(is_write).collect())
}

/// The controller wrote neither a Deployment nor a backup nor a report.
pub fn ensure_nothing_written(scene: &Scene) -> Result<()> {
    for resource in ["deployments", "configmaps"] {
        let written = writes(scene, resource)?;
        ensure!(written.is_empty(), "it wrote {written:?}");
    }
    Ok(())
}

/// The controller changed the Deployment exactly so many times. Without an audit log nobody can tell.
pub fn ensure_reverts(scene: &Scene, count: usize) -> Result<()> {
    if scene.cluster.audit().is_none() {
        return Ok(());
    }
    let done: Vec<Event> = writes(scene, "deployments")?
        .into_iter()
        .filter(Event::succeeded)
        .collect();
    ensure!(done.len() == count, "{} writes: {done:?}", done.len());
    Ok(())
}

/// The pod template, without the hash that a `ReplicaSet` has.
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

/// Creates objects as the administrator; those without a kind of their own name it.
pub async fn create(scene: &Scene, object: &Value) -> Result<DynamicObject> {
    let client = scene.client(User::Admin).await?;
    shop::apply(&client, scene.ns(), object).await
}

/// Deletes an object as the administrator.
pub async fn delete(scene: &Scene, api_version: &str, kind: &str, name: &str) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), api_version, kind);
    api.delete(name, &DeleteParams::default())
        .await
        .with_context(|| format!("deleting {kind} {name}"))?;
    eventually(&format!("{kind} {name} is gone"), PATIENCE, async || {
        ensure!(api.get_opt(name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await
}

/// Deploys these versions, one after the other.
pub async fn deploy_all(scene: &Scene, versions: &[&str]) -> Result<()> {
    for version in versions {
        scene.deploy(shop::deployment(APP).version(version)).await?;
    }
    Ok(())
}

/// Deploys a version that need not become ready, and waits until its revision is there.
pub async fn deploy_unready(scene: &Scene, version: shop::DeploymentBuilder) -> Result<()> {
    let before = scene.replica_sets(APP).await?.len();
    scene.apply_deployment(version).await?;
    eventually("the revision is there", PATIENCE, async || {
        let sets = scene.replica_sets(APP).await?.len();
        ensure!(sets > before, "{sets} ReplicaSets");
        Ok(())
    })
    .await
}

/// Binds a role of this namespace, or of the cluster, to the controller, and waits until it may do this.
pub async fn grant_controller(scene: &Scene, role: &Value, may: [&str; 3]) -> Result<()> {
    create(
        scene,
        &json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("more-{}", role["name"].as_str().unwrap_or_default())},
            "roleRef": role,
            "subjects": [{
                "kind": "ServiceAccount", "namespace": "rollback-system", "name": "rollback-controller",
            }],
        }),
    )
    .await?;
    controller_may(scene, may, true).await
}

/// Waits until the authorizer says so of the controller: verb, group and resource.
pub async fn controller_may(scene: &Scene, may: [&str; 3], expected: bool) -> Result<()> {
    let [verb, group, resource] = may;
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
        "user": CONTROLLER,
        "resourceAttributes": {
            "namespace": scene.ns(), "verb": verb, "group": group, "resource": resource,
        },
    }}))?;
    let api: Api<SubjectAccessReview> = Api::all(scene.client(User::Admin).await?);
    let what = format!("the controller may {verb} {resource}: {expected}");
    eventually(&what, PATIENCE, async || {
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        ensure!(allowed == expected, "the authorizer says {allowed}");
        Ok(())
    })
    .await
}

/// What the kubectl of the administrator prints; it has to succeed.
pub async fn kubectl(scene: &Scene, args: &[&str]) -> Result<String> {
    scene.cluster.kubectl_ok(User::Admin, args, "").await
}
