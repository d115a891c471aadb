//! Which version a request goes back to, and that it stays that one.

use anyhow::{Context, Result, ensure};
use rollback_api::{REVISION_HISTORY, Reason, RequestState};
use serde_json::json;
use testkit::conformance::record;
use testkit::proxy::{Fault, Point};
use testkit::scene::{PATIENCE, PRODUCTION, revision};
use testkit::{Scene, User, eventually, shop};

use crate::kubectl::{both, proxy, twin, undo};
use crate::situation::{delete_deployment, deploy_all, wait_for_revision};
use crate::stage::{
    APP, REQUEST, annotation, ensure_answers, ensure_ended, ensure_nothing_written, is_revert,
    kill, number, planned, progress, refused, replica_set, scene, scene_behind_proxy, template,
    text,
};

#[tokio::test]
async fn case_01_previous_is_the_version_before() -> Result<()> {
    let (scene, twin) = (scene("case-01").await?, twin("case-01").await?);
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    let v1 = replica_set(&scene, "v1").await?;
    assert_eq!(revision(&v1), Some(1));
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(planned(&request)?.to.revision, Some(1));
    assert_eq!(template(&scene.deployment(APP).await?), template(&v1));
    eventually("v1 is revision 3", PATIENCE, async || {
        let now = replica_set(&scene, "v1").await?;
        ensure!(
            text(&now, "/metadata/uid") == text(&v1, "/metadata/uid"),
            "it is another ReplicaSet"
        );
        ensure!(revision(&now) == Some(3), "it is {:?}", revision(&now));
        ensure!(annotation(&now, REVISION_HISTORY) == Some("1"));
        ensure!(revision(&scene.deployment(APP).await?) == Some(3));
        Ok(())
    })
    .await?;
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    ensure_answers(&scene, &[200])?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    wait_for_revision(&twin, "v1", 3).await?;
    let kubectl = format!("{}, which is revision 3 then", undo.outcome());
    record(1, &kubectl, "back to v1, which is revision 3 then")
}

#[tokio::test]
async fn case_02_the_revision_that_runs_is_no_rollback() -> Result<()> {
    let (scene, twin) = (scene("case-02").await?, twin("case-02").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1"]).await
    })
    .await?;
    let before = scene.deployment(APP).await?;
    scene.ask(REQUEST, APP, json!({"revision": 1})).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::NoOp)?;
    assert!(request.status.context("no status")?.plan.is_none());
    let after = scene.deployment(APP).await?;
    assert_eq!(
        number(&after, "/metadata/generation"),
        number(&before, "/metadata/generation")
    );
    ensure_nothing_written(&scene).await?;

    let undo = undo(&twin, &["--to-revision=1"]).await?;
    undo.ran
        .ensure_ok("current template already matches revision 1")?;
    undo.ensure_untouched()?;
    record(
        2,
        &undo.outcome(),
        "`Succeeded` with reason `NoOp`, nothing written",
    )
}

#[tokio::test]
async fn case_03_a_revision_that_never_was_is_not_found() -> Result<()> {
    let (scene, twin) = (scene("case-03").await?, twin("case-03").await?);
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    let message = refused(&scene, json!({"revision": 99}), Reason::RevisionNotFound).await?;
    assert!(message.contains("99"), "{message}");
    assert!(message.contains("2, 1"), "{message}");
    assert!(scene.image(APP).await?.ends_with(":v2"));

    let undo = undo(&twin, &["--to-revision=99"]).await?;
    undo.ensure_error("unable to find specified revision 99 in history")?;
    let ours = "`Refused` with reason `RevisionNotFound`, naming the revisions that there are";
    record(3, &undo.outcome(), ours)
}

#[tokio::test]
async fn case_04_a_first_version_has_no_history() -> Result<()> {
    let (scene, twin) = (scene("case-04").await?, twin("case-04").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1"]).await
    })
    .await?;
    refused(&scene, json!({"previous": {}}), Reason::NoHistory).await?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_error("no rollout history found")?;
    record(4, &undo.outcome(), "`Refused` with reason `NoHistory`")
}

/// "Previous" asked again after the write would be the bad version: the plan knows better.
#[tokio::test]
async fn case_06_a_crash_after_the_patch_does_not_choose_again() -> Result<()> {
    let (mut scene, proxy) = scene_behind_proxy("case-06").await?;
    let twin = twin("case-06").await?;
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let plan = scene.plan(REQUEST).await?;
    let killer = scene.controller.as_ref().context("no controller")?.killer();
    proxy.arm(
        Fault::new(1, Point::AfterCommit)
            .only(is_revert)
            .run(move || killer.kill()),
    );
    scene.approve(REQUEST, User::Approver).await?;
    scene
        .wait_for_deployment(APP, |deployment| {
            text(deployment, "/spec/template/spec/containers/0/image").ends_with(":v1")
        })
        .await?;
    eventually("the controller is dead", PATIENCE, async || {
        let controller = scene.controller.as_ref().context("no controller")?;
        ensure!(controller.exited()?.is_some(), "it still runs");
        Ok(())
    })
    .await?;
    let interrupted = scene.request(REQUEST).await?;
    assert!(progress(&interrupted)?.revert.is_some());
    assert!(progress(&interrupted)?.reverted_at.is_none());

    scene.start_controller().await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(vec![planned(&request)?], plan.targets);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    assert_eq!(proxy.fired(), 1);
    ensure_answers(&scene, &[200])?;

    record(
        6,
        &repeat_after_a_lost_answer(&twin).await?,
        "stays on v1: the plan is not made again",
    )
}

/// kubectl does not learn that its patch was taken, so a person types the same again.
async fn repeat_after_a_lost_answer(twin: &Scene) -> Result<String> {
    let proxy = proxy(twin).await?;
    proxy.arm(Fault::new(1, Point::AfterCommit).only(is_revert));
    let first = undo(twin, &["--server", &proxy.url()]).await?;
    ensure!(
        first.ran.code != 0 && first.tag() == "v1" && proxy.fired() == 1,
        "its answer was not lost: {first:?}"
    );
    wait_for_revision(twin, "v1", 3).await?;
    let second = undo(twin, &[]).await?;
    second.ensure_to("v2")?;
    Ok(format!(
        "fails first, then {}, the bad version",
        second.outcome()
    ))
}

#[tokio::test]
async fn case_17_a_deployment_that_was_made_again_is_another_one() -> Result<()> {
    let scene = scene("case-17-new").await?;
    scene.two_versions(APP).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.plan(REQUEST).await?;
    delete_deployment(&scene).await?;
    scene.deploy(shop::deployment(APP).version("v3")).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetGone)?;
    assert!(scene.image(APP).await?.ends_with(":v3"));
    assert!(scene.artifacts("backup", REQUEST).await?.is_empty());
    ensure_answers(&scene, &[])
}

/// Nothing but the UID tells the two apart, and the approval of the old plan counts.
#[tokio::test]
async fn case_17_a_twin_of_the_deployment_is_another_one_too() -> Result<()> {
    let mut scene = scene("case-17").await?;
    let twin = twin("case-17").await?;
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    let before = scene.deployment(APP).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let plan = scene.plan(REQUEST).await?;
    kill(&mut scene)?;
    let made_again = async |scene: &Scene| {
        delete_deployment(scene).await?;
        scene.two_versions(APP).await
    };
    both(&scene, &twin, made_again).await?;
    let again = scene.deployment(APP).await?;
    assert_eq!(template(&again), template(&before));
    assert_ne!(
        text(&again, "/metadata/uid"),
        text(&before, "/metadata/uid")
    );
    scene
        .approve_plan(REQUEST, User::Approver, PRODUCTION, &plan.digest)
        .await?;
    scene.start_controller().await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetGone)?;
    assert!(scene.image(APP).await?.ends_with(":v2"));
    assert!(scene.artifacts("backup", REQUEST).await?.is_empty());
    ensure_answers(&scene, &[])?;

    let undo = undo(&twin, &["--to-revision=1"]).await?;
    undo.ensure_to("v1")?;
    let kubectl = format!(
        "{}, without noticing that it is another Deployment",
        undo.outcome()
    );
    record(
        17,
        &kubectl,
        "`Failed` with reason `TargetGone`, the new one is left alone",
    )
}
