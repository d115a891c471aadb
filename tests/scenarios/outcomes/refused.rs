//! What cannot or must not be done is refused, before anything is changed, and it says what to do instead.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, request};
use testkit::{Scene, User, shop};

use crate::expect::{End, PROGRAM, scene};
use crate::people::{delete_deployment, grant, revoke, wait_until_may};

fn refused(reason: Reason) -> End<'static> {
    End::badly(RequestState::Refused, reason)
}

/// A request with these targets, for this category.
fn asking(name: &str, targets: Value, category: &str) -> Value {
    let mut request = request(name, targets);
    request["spec"]["reason"]["category"] = json!(category);
    request
}

#[tokio::test]
async fn a_deployment_in_the_wrong_state() -> Result<()> {
    let scene = scene("refused-state").await?;
    scene.two_versions("paused").await?;
    scene
        .patch_deployment("paused", json!({"spec": {"paused": true}}))
        .await?;
    scene.two_versions("leaving").await?;
    let held = json!({"metadata": {"finalizers": ["testkit.broxiva.com/hold"]}});
    scene.patch_deployment("leaving", held).await?;
    delete_deployment(&scene, "leaving").await?;
    scene
        .deploy(shop::deployment("fresh").version("v1"))
        .await?;

    let cases: [(&str, Reason, &[&str]); 4] = [
        (
            "paused",
            Reason::Paused,
            &["kubectl rollout resume deployment/paused"],
        ),
        ("leaving", Reason::DeploymentDeleting, &["being deleted"]),
        (
            "fresh",
            Reason::NoHistory,
            &["spec.targets[0].to.previous", "kubectl rollout history"],
        ),
        (
            "nowhere",
            Reason::DeploymentNotFound,
            &["spec.targets[0].name", "kubectl get deployments"],
        ),
    ];
    for (name, ..) in &cases {
        scene.ask(name, name, json!({"previous": {}})).await?;
    }
    for (name, reason, says) in cases {
        refused(reason)
            .without_incident()
            .saying(says)
            .check(&scene, name)
            .await?;
    }
    let free = json!({"metadata": {"finalizers": null}});
    scene.patch_deployment("leaving", free).await
}

#[tokio::test]
async fn a_wish_that_cannot_be_granted() -> Result<()> {
    let scene = scene("refused-wish").await?;
    scene.two_versions("api").await?;
    let before = scene.deployment("api").await?;
    let target = |to: Value| json!([{"name": "api", "to": to}]);
    let previous = json!({"previous": {}});
    let cases: [(&str, Value, Reason, &str); 9] = [
        (
            "gone",
            target(json!({"revision": 7})),
            Reason::RevisionNotFound,
            "known revisions: 2, 1",
        ),
        (
            "two",
            json!([{"name": "api", "to": previous}, {"name": "web", "to": previous}]),
            Reason::TargetsRefused,
            "spec.targets[1].name: there is no Deployment web",
        ),
        (
            "selector",
            json!([{"selector": {"matchLabels": {"app": "nobody"}}, "to": previous}]),
            Reason::NothingFound,
            "no Deployment of this namespace",
        ),
        (
            "prefix",
            json!([{"namePrefix": "web-", "to": previous}]),
            Reason::NothingFound,
            "kubectl get deployments",
        ),
        (
            "version",
            target(json!({"version": "v9"})),
            Reason::VersionNotInHistory,
            "versions there: v2, v1",
        ),
        (
            "image",
            target(json!({"image": {"image": "api:v1"}})),
            Reason::ImageNotInHistory,
            "images there: registry.broxiva.example/api:v2, registry.broxiva.example/api:v1",
        ),
        (
            "good",
            target(json!({"lastKnownGood": {}})),
            Reason::NoKnownGood,
            "kubectl rollout history",
        ),
        (
            "missing",
            json!([{"name": "api.v2", "to": previous}]),
            Reason::DeploymentNotFound,
            "no Deployment api.v2",
        ),
        (
            "feature",
            target(previous.clone()),
            Reason::HotfixForward,
            "create a new request with the category",
        ),
    ];
    for (name, targets, ..) in &cases {
        let category = if *name == "feature" {
            "Feature"
        } else {
            "ErrorRate"
        };
        scene
            .ask_for(asking(name, targets.clone(), category))
            .await?;
    }
    for (name, _, reason, says) in cases {
        refused(reason)
            .without_incident()
            .saying(&["spec.", says])
            .check(&scene, name)
            .await?;
    }
    ensure!(scene.deployment("api").await? == before, "it was touched");
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_has_not_opted_in() -> Result<()> {
    let scene = scene("refused-stranger").await?;
    scene.two_versions("api").await?;
    revoke(&scene, "rollback-executor").await?;
    wait_until_may(&scene, CONTROLLER, "patch deployments.apps", false).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    refused(Reason::NamespaceNotOptedIn)
        .without_incident()
        .saying(&["RoleBinding", "ClusterRole rollback-executor"])
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}

/// Who asks loses the right to do it by hand while the request waits. An approval does not give it back.
#[tokio::test]
async fn a_requester_who_may_not_any_more() -> Result<()> {
    let scene = scene("refused-requester").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    grant(&scene, "edit", &[User::Approver]).await?;
    revoke(&scene, "edit").await?;
    let patch = "patch deployments.apps";
    wait_until_may(&scene, User::Requester.as_str(), patch, false).await?;
    wait_until_may(&scene, User::Approver.as_str(), patch, true).await?;
    scene
        .approve_plan(
            "api-5xx",
            User::Approver,
            testkit::scene::PRODUCTION,
            &plan.digest,
        )
        .await?;
    refused(Reason::Forbidden)
        .saying(&[
            User::Requester.as_str(),
            "patch deployments.apps/api",
            "Nothing was changed",
        ])
        .check(&scene, "api-5xx")
        .await?;
    ensure!(scene.image("api").await?.ends_with(":v2"));
    Ok(())
}

/// The approval was valid when it was given; when it is to be acted on, its author may not approve any more.
#[tokio::test]
async fn an_approver_who_may_not_any_more() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "refused-approver").await?;
    scene.start_controller().await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    if let Some(controller) = scene.controller.take() {
        controller.kill();
    }
    scene.approve("api-5xx", User::Approver).await?;
    revoke(&scene, "rollback-approver").await?;
    let approve = "approve rollbackrequests/approval.rollback.broxiva.com";
    wait_until_may(&scene, User::Approver.as_str(), approve, false).await?;
    scene.start_controller().await?;
    refused(Reason::Forbidden)
        .saying(&[User::Approver.as_str(), "approve", "Nothing was changed"])
        .check(&scene, "api-5xx")
        .await?;
    ensure!(scene.image("api").await?.ends_with(":v2"));
    Ok(())
}

/// Admission keeps the spec as it is; a request whose spec was changed around it is not carried out.
/// Nobody can do that here, so this only shows the refusal by the API server, for every kind of change.
#[tokio::test]
async fn a_spec_that_changes_later() -> Result<()> {
    let scene = scene("refused-change").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    let api = scene.requests(User::Admin).await?;
    for change in [
        json!({"spec": {"dryRun": true}}),
        json!({"spec": {"reason": {"summary": "something else"}}}),
        json!({"spec": {"targets": [{"name": "api", "to": {"revision": 1}}]}}),
    ] {
        let patch = Patch::Merge(&change);
        let answer = api.patch("api-5xx", &PatchParams::default(), &patch).await;
        let Err(kube::Error::Api(status)) = answer else {
            anyhow::bail!("{change} is {answer:?}");
        };
        ensure!(status.code == 403, "{status:?}");
        for part in ["Create a new request with another name", "cancelled-by"] {
            ensure!(status.message.contains(part), "{}", status.message);
        }
    }
    Ok(())
}
