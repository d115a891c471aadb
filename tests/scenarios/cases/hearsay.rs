//! What somebody says in Events, who may create Events and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use rollback_api::status::CauseKind;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::situation::{deploy_stuck, heal, say_of_pods};
use crate::stage::{APP, REQUEST, ensure_answers, ensure_ended, progress, scene};
use crate::trouble::{FAILED_MOUNT, say_in_events};

fn version(version: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP)
        .version(version)
        .progress_deadline(600)
}

/// A rollback that takes its time, in a namespace in which a trouble may last for a second, and which puts back what was
/// there when it fails.
async fn slow(name: &str) -> Result<Scene> {
    let scene = scene(name).await?;
    scene
        .policy(json!({"rollout": {"graceSeconds": 1}}))
        .await?;
    deploy_stuck(&scene, version("v1")).await?;
    scene.deploy(version("v2")).await?;
    let mut request = testkit::scene::request(
        REQUEST,
        json!([{"kind": "Deployment", "name": APP, "to": {"previous": {}}}]),
    );
    request["spec"]["rollout"] = json!({"onFailure": "Restore"});
    scene.ask_for(request).await?;
    scene.approve(REQUEST, User::Approver).await?;
    scene.wait_for(REQUEST, "RollingOut").await?;
    Ok(scene)
}

/// Lets somebody create Events here, who may do nothing else.
async fn may_create_events(scene: &Scene, user: User) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "teller"},
        "rules": [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "teller"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "teller"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.as_str()}],
    });
    for object in [role, binding] {
        shop::apply(&client, scene.ns(), &object).await?;
    }
    Ok(())
}

fn creating() -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}},
    }]})
}

#[tokio::test]
async fn an_event_that_anybody_wrote_ends_no_rollback() -> Result<()> {
    let scene = slow("forged-event").await?;
    may_create_events(&scene, User::Outsider).await?;
    eventually("the pods wait for their containers", PATIENCE, async || {
        say_of_pods(&scene, "v1", &creating()).await.map(drop)
    })
    .await?;
    let forged = (User::Outsider, "FailedMount", FAILED_MOUNT);
    eventually("the Events are written", PATIENCE, async || {
        say_in_events(&scene, forged).await
    })
    .await?;
    // Longer than the grace, after it was told.
    eventually("it is told for a while", PATIENCE, async || {
        let progress = progress(&scene.request(REQUEST).await?)?;
        ensure!(progress.outcome.is_none(), "{progress:?}");
        let cause = progress.rollout.and_then(|rollout| rollout.cause);
        let cause = cause.context("it says nothing")?;
        ensure!(cause.kind == CauseKind::Volume, "{cause:?}");
        ensure!(cause.message.contains(FAILED_MOUNT), "{cause:?}");
        let lasted = Timestamp::now().duration_since(cause.since);
        ensure!(lasted > SignedDuration::from_secs(4), "for {lasted}");
        Ok(())
    })
    .await?;
    heal(&scene, REQUEST).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(&scene, &[200])
}

/// The twin: the kubelet itself says in the status of the pods that they do not come up.
#[tokio::test]
async fn what_the_status_of_the_pods_shows_ends_it_early() -> Result<()> {
    let scene = slow("true-status").await?;
    let unpullable = json!({"phase": "Pending", "containerStatuses": [{
        "name": "app", "image": "registry.broxiva.example/app:v1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}},
    }]});
    eventually(
        "the request has ended",
        Duration::from_mins(1),
        async || {
            // When they are taken back there are none.
            say_of_pods(&scene, "v1", &unpullable).await.ok();
            ensure!(scene.status(REQUEST).await?.outcome.is_some(), "not yet");
            Ok(())
        },
    )
    .await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Restored, Reason::RestoredFromBackup)?;
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    let rollout = progress(&request)?.rollout.context("no rollout")?;
    ensure!(outcome.at < rollout.deadline, "{outcome:?}");
    Ok(())
}
