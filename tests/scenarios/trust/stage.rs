//! What the tests of trust have in common: people by name, what they may do, and what was really written.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use rollback_api::status::Outcome;
use rollback_api::{APPROVED_BY, CHECKLIST, CONFIRM, PLAN, Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::audit::Event;
use testkit::scene::{CONTROLLER, PATIENCE, PRODUCTION, TICKED, ready};
use testkit::{Scene, User, eventually, shop};

/// The controller's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// What an approver has to hold, besides [`PATCH`].
pub const APPROVE: &str = "approve rollbackrequests/approval.rollback.broxiva.com";
/// What everybody involved has to hold.
pub const PATCH: &str = "patch deployments.apps";

/// A namespace with a controller of its own.
pub async fn scene(name: &str) -> Result<Scene> {
    Scene::new(PROGRAM, name).await
}

/// A Deployment that is asked for no pods: what is written to it is all that these tests look at.
pub fn at_rest(name: &str, version: &str) -> shop::DeploymentBuilder {
    shop::deployment(name).version(version).replicas(0)
}

/// Deploys `v1`, then `v2`.
pub async fn two_versions(scene: &Scene, name: &str) -> Result<()> {
    scene.deploy(at_rest(name, "v1")).await?;
    scene.deploy(at_rest(name, "v2")).await?;
    Ok(())
}

/// A client of somebody whom only this test knows. Groups: `system:authenticated` and nothing else.
pub async fn client_of(scene: &Scene, person: &str) -> Result<Client> {
    let mut config = scene.cluster.config(User::Admin).await?;
    config.auth_info.impersonate = Some(person.to_owned());
    testkit::typed::client(config)
}

/// The requests of the namespace, as somebody sees them.
pub async fn requests_of(scene: &Scene, person: &str) -> Result<Api<RollbackRequest>> {
    Ok(Api::namespaced(client_of(scene, person).await?, scene.ns()))
}

/// An approval as it is typed.
pub fn approval(by: &str, digest: &str) -> Value {
    json!({APPROVED_BY: by, CONFIRM: PRODUCTION, PLAN: digest, CHECKLIST: TICKED})
}

/// Annotates a request.
pub async fn annotate(api: &Api<RollbackRequest>, name: &str, notes: &Value) -> kube::Result<()> {
    let patch = json!({"metadata": {"annotations": notes}});
    let patch = Patch::Merge(&patch);
    api.patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Creates a request from JSON.
pub async fn create(api: &Api<RollbackRequest>, request: &Value) -> Result<RollbackRequest> {
    let request = serde_json::from_value(request.clone())?;
    Ok(api.create(&PostParams::default(), &request).await?)
}

/// The API server's refusal, which is the only good answer.
pub fn refusal<T>(answer: Result<T>) -> Result<Status> {
    let Err(error) = answer else {
        bail!("it was not refused");
    };
    match error.downcast::<kube::Error>()? {
        kube::Error::Api(status) => Ok(*status),
        error => Err(error.into()),
    }
}

/// Refused with 403, saying this.
pub fn forbidden<T>(answer: Result<T>, says: &str) -> Result<()> {
    let status = refusal(answer)?;
    ensure!(
        status.code == 403 && status.message.contains(says),
        "expected 403 with {says:?}: {status:?}"
    );
    Ok(())
}

/// Binds a `ClusterRole` to people; gives the name of the binding.
pub async fn bind(scene: &Scene, role: &str, people: &[&str]) -> Result<String> {
    bind_kind(scene, "ClusterRole", role, people).await
}

/// Binds a `ClusterRole` to a group.
pub async fn bind_group(scene: &Scene, role: &str, group: &str) -> Result<()> {
    let subject = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group});
    bind_subjects(scene, "ClusterRole", role, &[subject]).await?;
    Ok(())
}

async fn bind_kind(scene: &Scene, kind: &str, role: &str, people: &[&str]) -> Result<String> {
    let user = |name: &&str| json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name});
    let subjects: Vec<Value> = people.iter().map(user).collect();
    bind_subjects(scene, kind, role, &subjects).await
}

async fn bind_subjects(
    scene: &Scene,
    kind: &str,
    role: &str,
    subjects: &[Value],
) -> Result<String> {
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"generateName": format!("{role}-")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": subjects,
    }))?;
    let api: Api<RoleBinding> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    Ok(api
        .create(&PostParams::default(), &binding)
        .await?
        .name_any())
}

/// Lets people do what these rules say, in this namespace only; gives the name of the binding.
pub async fn allow(scene: &Scene, rules: &Value, people: &[&str]) -> Result<String> {
    let role: Role = serde_json::from_value(json!({
        "metadata": {"generateName": "only-"}, "rules": rules,
    }))?;
    let api: Api<Role> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let role = api.create(&PostParams::default(), &role).await?;
    bind_kind(scene, "Role", &role.name_any(), people).await
}

/// Rules that let somebody patch these Deployments and no other.
pub fn patch_only(deployments: &[&str]) -> Value {
    json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"], "resourceNames": deployments}])
}

/// Takes a binding away.
pub async fn unbind(scene: &Scene, binding: &str) -> Result<()> {
    let api: Api<RoleBinding> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    api.delete(binding, &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until the authorizer says so: it learns of bindings a moment later.
pub async fn wait_until_may(scene: &Scene, person: &str, action: &str, may: bool) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    until_may(&client, scene.ns(), person, action, may).await
}

/// Waits until everybody in this group may do this.
pub async fn until_group_may(scene: &Scene, group: &str, action: &str) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    ask(&client, scene.ns(), ("somebody", group), action, true).await
}

/// The same without a scene. The action is a verb and a resource, such as `patch deployments.apps/api`.
pub async fn until_may(
    client: &Client,
    namespace: &str,
    person: &str,
    action: &str,
    may: bool,
) -> Result<()> {
    let who = (person, "system:authenticated");
    ask(client, namespace, who, action, may).await
}

async fn ask(
    client: &Client,
    namespace: &str,
    (person, crowd): (&str, &str),
    action: &str,
    may: bool,
) -> Result<()> {
    let (verb, resource) = action.split_once(' ').context("no verb")?;
    let (resource, rest) = resource.split_once('.').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (group, name) = match rest.split_once('/') {
        Some((group, name)) => (group, name),
        None => (rest, ""),
    };
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
        "user": person, "groups": [crowd],
        "resourceAttributes": {
            "namespace": namespace, "verb": verb, "group": group, "resource": resource,
            "subresource": subresource, "name": name,
        },
    }}))?;
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let what = format!("{person} may {action}: {may}");
    eventually(&what, PATIENCE, async || {
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        ensure!(allowed == may, "the authorizer says {allowed}");
        Ok(())
    })
    .await
}

/// Every write of the controller to a Deployment of this namespace that was carried out.
pub fn writes(scene: &Scene) -> Result<Vec<Event>> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let mut events = audit.events(scene.ns())?;
    events.retain(|event| {
        event.user == CONTROLLER
            && event.resource == "deployments"
            && !["get", "list", "watch"].contains(&event.verb.as_str())
            && event.succeeded()
            && !event.is_dry_run()
    });
    Ok(events)
}

/// The controller has written the Deployments of this namespace exactly so often.
pub fn ensure_writes(scene: &Scene, wanted: usize) -> Result<()> {
    let found = writes(scene)?;
    let names: Vec<&str> = found.iter().map(|event| event.name.as_str()).collect();
    ensure!(
        names.len() == wanted,
        "{} writes instead of {wanted}: {names:?}",
        names.len()
    );
    Ok(())
}

/// Waits until these people are counted as approvers, and nobody else.
pub async fn counted(scene: &Scene, request: &str, people: &[&str]) -> Result<()> {
    let what = format!("{people:?} are counted for {request}");
    eventually(&what, PATIENCE, async || {
        let now = scene.request(request).await?;
        let approvals = now.status.clone().unwrap_or_default().approvals;
        let names: Vec<&str> = approvals.iter().map(|a| a.by.username.as_str()).collect();
        ensure!(names == people, "{names:?} are; it is {:?}", ready(&now));
        Ok(())
    })
    .await
}

/// Waits for this end.
pub async fn ends(
    scene: &Scene,
    name: &str,
    state: RequestState,
    reason: Reason,
) -> Result<Outcome> {
    let (_, outcome) = scene.wait_for_end(name).await?;
    ensure!(
        (outcome.result, outcome.reason) == (state, reason),
        "{name} ended otherwise: {outcome:?}"
    );
    Ok(outcome)
}

/// Every request that is there has been looked at: one that was made later has ended.
pub async fn settle(scene: &Scene, name: &str) -> Result<()> {
    scene.ask(name, "nowhere", json!({"previous": {}})).await?;
    scene.wait_for_end(name).await?;
    Ok(())
}

/// Deletes a request and waits until it is gone.
pub async fn delete(scene: &Scene, name: &str, user: User) -> Result<()> {
    let api = scene.requests(user).await?;
    api.delete(name, &DeleteParams::default()).await?;
    eventually(&format!("request {name} is gone"), PATIENCE, async || {
        let left = api.get_opt(name).await?;
        ensure!(left.is_none(), "it is still there");
        Ok(())
    })
    .await
}
