//! Somebody else is at work between our read and our write.

use anyhow::{Result, ensure};
use kube::api::{Patch, PatchParams};
use rollback_api::{Reason, RequestState, RevisionLedger, RollbackRequest, WorkloadKind};
use rollback_core::history::ledger;
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::proxy::{Fault, Mutation, Point, Proxy};
use testkit::{Scene, User, shop};

use crate::kubectl::{both, proxy as proxy_for, twin, undo};
use crate::situation::{deploy_stuck, heal};
use crate::stage::{
    APP, REQUEST, deployments, ensure_answers, ensure_ended, is_backup, is_revert, number,
    progress, refused, scene, scene_behind_proxy, text,
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
    let name = ledger::name(WorkloadKind::Deployment, APP);
    let claim = api
        .get_opt(&name)
        .await?
        .and_then(|ledger| ledger.spec.claim);
    ensure!(claim.is_none(), "the claim is still there: {claim:?}");
    Ok(())
}

fn ensure_not_reverted(request: &RollbackRequest) -> Result<()> {
    ensure!(progress(request)?.reverted_at.is_none());
    Ok(())
}

/// The template of the Deployment with another image, as a merge patch.
async fn hotfix(scene: &Scene) -> Result<Value> {
    let mut template = scene.deployment(APP).await?["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = json!(HOTFIX);
    Ok(json!({"spec": {"template": template}}))
}

const HOTFIX: &str = "registry.broxiva.example/broxiva-api:hotfix";

#[tokio::test]
async fn case_32_an_edit_of_the_template_wins() -> Result<()> {
    let (scene, proxy) = scene_behind_proxy("case-32").await?;
    let twin = twin("case-32").await?;
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    meanwhile(&scene, &proxy, is_revert, hotfix(&scene).await?).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Superseded, Reason::TemplateChanged)?;
    assert_eq!(proxy.fired(), 1);
    assert_eq!(scene.image(APP).await?, HOTFIX);
    ensure_not_reverted(&request)?;
    ensure_released(&scene).await?;
    ensure_answers(&scene, &[422])?;

    let proxy = proxy_for(&twin).await?;
    meanwhile(&twin, &proxy, is_revert, hotfix(&twin).await?).await?;
    let undo = undo(&twin, &["--server", &proxy.url()]).await?;
    assert_eq!(proxy.fired(), 1);
    // The edit was there: it is one generation, the rollback over it another.
    let generation = |deployment| number(deployment, "/metadata/generation");
    assert_eq!(generation(&undo.after), generation(&undo.before) + 2);
    undo.ensure_to("v1")?;
    let kubectl = format!("{}: the edit is overwritten without a word", undo.outcome());
    record(
        32,
        &kubectl,
        "`Superseded` with reason `TemplateChanged`, the edit stays",
    )
}

/// Right before the write of the rollback, an autoscaler wants five replicas.
async fn scaled_meanwhile(scene: &Scene, proxy: &Proxy) -> Result<()> {
    let api = deployments(scene).await?;
    let scale = move || async move {
        let five = json!({"spec": {"replicas": 5}});
        let scaled = api
            .patch_subresource("scale", APP, &PatchParams::default(), &Patch::Merge(&five))
            .await;
        // The test sees for itself what came of it.
        drop(scaled);
    };
    proxy.arm(Fault::new(1, Point::Aside).only(is_revert).run_async(scale));
    Ok(())
}

#[tokio::test]
async fn case_33_an_autoscaler_does_not_stop_it() -> Result<()> {
    let (scene, proxy) = scene_behind_proxy("case-33").await?;
    let twin = twin("case-33").await?;
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    scaled_meanwhile(&scene, &proxy).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(proxy.fired(), 1);
    let after = scene.deployment(APP).await?;
    assert_eq!(number(&after, "/spec/replicas"), 5);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    let rollout = progress(&request)?.rollout;
    assert_eq!(rollout.map(|rollout| rollout.available), Some(5));
    ensure_answers(&scene, &[422, 200])?;

    let proxy = proxy_for(&twin).await?;
    scaled_meanwhile(&twin, &proxy).await?;
    let undo = undo(&twin, &["--server", &proxy.url()]).await?;
    assert_eq!(proxy.fired(), 1);
    undo.ensure_to("v1")?;
    let replicas = number(&undo.after, "/spec/replicas");
    assert_eq!(replicas, 5);
    let kubectl = format!("{}, with the {replicas} replicas", undo.outcome());
    record(
        33,
        &kubectl,
        "back to v1 at the second try, with the 5 replicas",
    )
}

#[tokio::test]
async fn case_36_a_paused_deployment_is_refused() -> Result<()> {
    let (scene, twin) = (scene("case-36").await?, twin("case-36").await?);
    both(&scene, &twin, async |scene| {
        scene.two_versions(APP).await?;
        let pause = json!({"spec": {"paused": true}});
        scene.patch_deployment(APP, pause).await
    })
    .await?;
    let message = refused(&scene, json!({"previous": {}}), Reason::Paused).await?;
    assert!(message.contains("kubectl rollout resume"), "{message}");

    let undo = undo(&twin, &[]).await?;
    undo.ensure_error("you cannot rollback a paused deployment")?;
    let ours = "`Refused` with reason `Paused`, also when it is paused after the approval";
    record(36, &undo.outcome(), ours)
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
    ensure_ended(&outcome, RequestState::Refused, Reason::Paused)?;
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
    ensure_ended(&outcome, RequestState::Refused, Reason::Paused)?;
    assert_eq!(proxy.fired(), 1);
    ensure_not_reverted(&request)?;
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_released(&scene).await?;
    ensure_answers(&scene, &[422])
}

/// The first rolls out when the second is approved.
#[tokio::test]
async fn case_44_of_two_requests_one_is_superseded() -> Result<()> {
    let (scene, twin) = (scene("case-44").await?, twin("case-44").await?);
    let stuck = || shop::deployment(APP).progress_deadline(600);
    both(&scene, &twin, async |scene| {
        deploy_stuck(scene, stuck().version("v1")).await?;
        for version in ["v2", "v3"] {
            scene.deploy(stuck().version(version)).await?;
        }
        Ok(())
    })
    .await?;
    scene.ask("loser", APP, json!({"revision": 2})).await?;
    let plan = scene.plan("loser").await?;
    assert_eq!(plan.targets[0].to.revision, Some(2));
    scene.ask(REQUEST, APP, json!({"revision": 1})).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (_, outcome) = scene.wait_for_end("loser").await?;
    ensure_ended(
        &outcome,
        RequestState::Superseded,
        Reason::RolledBackByAnother,
    )?;
    let winner = format!("RollbackRequest {REQUEST} rolled");
    assert!(outcome.message.contains(&winner), "{}", outcome.message);
    scene.wait_for(REQUEST, "RollingOut").await?;
    heal(&scene, REQUEST).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(&scene, &[200])?;

    undo(&twin, &["--to-revision=1"]).await?.ensure_to("v1")?;
    let second = undo(&twin, &["--to-revision=2"]).await?;
    second.ensure_to("v2")?;
    assert!(text(&second.before, "/spec/template/spec/containers/0/image").ends_with(":v1"));
    let kubectl = format!(
        "the second goes {} while the first still rolls out v1",
        second.outcome()
    );
    let ours = "the first one is carried out, the other one is `Superseded` \
                with reason `RolledBackByAnother`, naming the first";
    record(44, &kubectl, ours)
}
