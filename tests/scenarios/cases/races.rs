//! Somebody else is at work between our read and our write.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use rollback_api::{Reason, RevisionLedger, RollbackRequest, Word};
use serde_json::{Value, json};
use testkit::proxy::{Fault, Mutation, Point, Proxy};
use testkit::{Scene, User, shop};

use crate::stage::{
    APP, REQUEST, deployments, ensure_answers, ensure_ended, ensure_nothing_written, is_backup,
    is_revert, number, progress, scene, scene_behind_proxy,
};

/// Right before the write that the filter accepts, the administrator patches the Deployment.
async fn meanwhile(
    scene: &Scene,
    proxy: &Proxy,
    before: impl Fn(&Mutation) -> bool + Send + 'static,
    patch: Value,
) -> Result<()> {
    let api = deployments(scene).await?;
    let edit = move || async move {
        let edited = api
            .patch(APP, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        // The test sees for itself what came of it.
        drop(edited);
    };
    proxy.arm(Fault::new(1, Point::Aside).only(before).run_async(edit));
    Ok(())
}

/// No claim is left behind.
async fn ensure_released(scene: &Scene) -> Result<()> {
    let api: kube::Api<RevisionLedger> =
        kube::Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let claim = api.get_opt(APP).await?.and_then(|ledger| ledger.spec.claim);
    ensure!(claim.is_none(), "the claim is still there: {claim:?}");
    Ok(())
}

fn ensure_not_reverted(request: &RollbackRequest) -> Result<()> {
    ensure!(progress(request)?.reverted_at.is_none());
    Ok(())
}

#[tokio::test]
async fn case_32_an_edit_of_the_template_wins() -> Result<()> {
    let (scene, proxy) = scene_behind_proxy("case-32").await?;
    scene.two_versions(APP).await?;
    let image = format!("registry.broxiva.example/{APP}:hotfix");
    let mut template = scene.deployment(APP).await?["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = json!(image);
    let hotfix = json!({"spec": {"template": template}});
    meanwhile(&scene, &proxy, is_revert, hotfix).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Superseded, Reason::TemplateChanged)?;
    assert_eq!(proxy.fired(), 1);
    assert_eq!(scene.image(APP).await?, image);
    ensure_not_reverted(&request)?;
    ensure_released(&scene).await?;
    ensure_answers(&scene, &[422])
}

#[tokio::test]
async fn case_33_an_autoscaler_does_not_stop_it() -> Result<()> {
    let (scene, proxy) = scene_behind_proxy("case-33").await?;
    scene.two_versions(APP).await?;
    let api = deployments(&scene).await?;
    let scale = move || async move {
        let five = json!({"spec": {"replicas": 5}});
        let scaled = api
            .patch_subresource("scale", APP, &PatchParams::default(), &Patch::Merge(&five))
            .await;
        // The test sees for itself what came of it.
        drop(scaled);
    };
    proxy.arm(Fault::new(1, Point::Aside).only(is_revert).run_async(scale));
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert_eq!(proxy.fired(), 1);
    let after = scene.deployment(APP).await?;
    assert_eq!(number(&after, "/spec/replicas"), 5);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    let rollout = progress(&request)?.rollout;
    assert_eq!(rollout.map(|rollout| rollout.available), Some(5));
    ensure_answers(&scene, &[422, 200])
}

#[tokio::test]
async fn case_36_a_paused_deployment_is_refused() -> Result<()> {
    let scene = scene("case-36").await?;
    scene.two_versions(APP).await?;
    scene
        .patch_deployment(APP, json!({"spec": {"paused": true}}))
        .await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Refused, Reason::Paused)?;
    assert!(outcome.message.contains("kubectl rollout resume"));
    ensure_nothing_written(&scene).await
}

#[tokio::test]
async fn case_36_pausing_after_the_approval_is_refused() -> Result<()> {
    let (scene, proxy) = scene_behind_proxy("case-36-backup").await?;
    scene.two_versions(APP).await?;
    let pause = json!({"spec": {"paused": true}});
    meanwhile(&scene, &proxy, is_backup, pause).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Refused, Reason::Paused)?;
    assert_eq!(proxy.fired(), 1);
    ensure_not_reverted(&request)?;
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_released(&scene).await?;
    ensure_answers(&scene, &[])
}

#[tokio::test]
async fn case_36_pausing_right_before_the_write_is_refused() -> Result<()> {
    let (scene, proxy) = scene_behind_proxy("case-36-patch").await?;
    scene.deploy(shop::deployment(APP).version("v1")).await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    let pause = json!({"spec": {"paused": true}});
    meanwhile(&scene, &proxy, is_revert, pause).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Refused, Reason::Paused)?;
    assert_eq!(proxy.fired(), 1);
    ensure_not_reverted(&request)?;
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_released(&scene).await?;
    ensure_answers(&scene, &[422])
}
