//! The image of the old version is gone; the policy knows a good one.

use anyhow::{Context, Result, ensure};
use rollback_api::status::{CauseKind, FallbackWhen};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::audit::Event;
use testkit::node::app::{APP, IMAGES, NO_IMAGE, version};
use testkit::scene::CONTROLLER;

use crate::stage::{REQUEST, audit, deploy_unwell, ensure_ended, roll_back, scene, target};

#[tokio::test]
async fn an_image_that_is_known_to_be_good_is_tried_once() -> Result<()> {
    let Some(scene) = scene("fallback").await? else {
        return Ok(());
    };
    let good = IMAGES[2];
    let known = json!({"targetRef": {"name": APP}, "container": "app", "image": good});
    scene
        .policy(json!({"rollout": {"graceSeconds": 3}, "remedies": {"fallbackImages": [known]}}))
        .await?;
    deploy_unwell(&scene, version("v1").image(NO_IMAGE)).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;

    let fallback = target(&request)?.fallback.context("no second try")?;
    ensure!(fallback.when == FallbackWhen::ImagePull, "{fallback:?}");
    ensure!(scene.image(APP).await? == good, "another image runs");
    let deployment = scene.deployment(APP).await?;
    ensure!(
        deployment.pointer("/status/availableReplicas") == Some(&json!(1)),
        "{deployment}"
    );

    let events = audit(&scene)?;
    let ours: Vec<&Event> = events
        .iter()
        .filter(|event| event.user == CONTROLLER)
        .collect();
    let writes = ours.iter().filter(|event| {
        event.resource == "deployments" && event.verb == "patch" && !event.is_dry_run()
    });
    let writes = writes.count();
    ensure!(writes == 2, "the first try and one more, and not {writes}");
    // What was wrong with the first try was named.
    let named = ours.iter().any(|event| {
        let cause = |body: &Value| body.pointer("/status/targets/0/rollout/cause").cloned();
        let cause = event.request_object.as_ref().and_then(cause);
        cause.is_some_and(|cause| {
            cause["kind"] == json!(CauseKind::ImagePull) && cause.to_string().contains(NO_IMAGE)
        })
    });
    ensure!(named, "no status names the image that cannot be pulled");
    let report = serde_json::to_string(&scene.artifacts("incident", REQUEST).await?)?;
    ensure!(report.contains(good), "the report does not tell of {good}");
    Ok(())
}
