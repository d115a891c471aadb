//! Giving and taking permissions, and other things that an administrator does during a scenario.

use anyhow::{Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

/// Binds a role to people, besides what they have already.
pub async fn grant(scene: &Scene, role: &str, users: &[User]) -> Result<()> {
    let subjects: Vec<Value> = users
        .iter()
        .map(|user| {
            json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user.as_str()})
        })
        .collect();
    let binding = serde_json::from_value(json!({
        "metadata": {"generateName": format!("{role}-")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    }))?;
    let api: Api<RoleBinding> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    api.create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// Deletes one of the bindings that every namespace of a test has.
pub async fn revoke(scene: &Scene, role: &str) -> Result<()> {
    let api: Api<RoleBinding> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    api.delete(&format!("test-{role}"), &DeleteParams::default())
        .await?;
    Ok(())
}

/// Waits until the authorizer says so: it learns of bindings a moment later.
pub async fn wait_until_may(scene: &Scene, user: &str, action: &str, expected: bool) -> Result<()> {
    let mut words = action.split(' ');
    let (verb, resource) = (words.next(), words.next().unwrap_or_default());
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
        "user": user,
        "resourceAttributes": {
            "namespace": scene.ns(), "verb": verb, "group": group,
            "resource": resource, "subresource": subresource,
        },
    }}))?;
    let api: Api<SubjectAccessReview> = Api::all(scene.client(User::Admin).await?);
    let what = format!("{user} may {action}: {expected}");
    eventually(&what, PATIENCE, async || {
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        ensure!(allowed == expected, "the authorizer says {allowed}");
        Ok(())
    })
    .await
}

/// Deletes a Deployment, and not more than asks for it.
pub async fn delete_deployment(scene: &Scene, name: &str) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    shop::api(&client, scene.ns(), "apps/v1", "Deployment")
        .delete(name, &DeleteParams::default())
        .await?;
    Ok(())
}

/// Deletes a request, as somebody.
pub async fn delete_request(scene: &Scene, name: &str, user: User) -> Result<()> {
    let api = scene.requests(user).await?;
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until a deleted request is gone.
pub async fn wait_until_gone(scene: &Scene, name: &str) -> Result<()> {
    let api = scene.requests(User::Admin).await?;
    eventually(&format!("request {name} is gone"), PATIENCE, async || {
        let left = api.get_opt(name).await?;
        ensure!(left.is_none(), "it is still there: {left:?}");
        Ok(())
    })
    .await
}

/// Deploys `old`, which need not become ready, and after it a version `v2` that does.
pub async fn replaced(scene: &Scene, name: &str, old: shop::DeploymentBuilder) -> Result<()> {
    scene.apply_deployment(old).await?;
    let what = format!("the first revision of {name} is there");
    eventually(&what, PATIENCE, async || {
        let sets = scene.replica_sets(name).await?;
        ensure!(sets.len() == 1, "{} ReplicaSets", sets.len());
        Ok(())
    })
    .await?;
    scene
        .deploy(shop::deployment(name).version("v2").progress_deadline(60))
        .await?;
    Ok(())
}
