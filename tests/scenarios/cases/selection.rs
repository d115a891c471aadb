//! Which version a request goes back to, and that it stays that one.

use anyhow::{Context, Result, ensure};
use rollback_api::{REVISION_HISTORY, Reason, Word};
use serde_json::json;
use testkit::proxy::{Fault, Point};
use testkit::scene::{PATIENCE, PRODUCTION, revision};
use testkit::{User, eventually, shop};

use crate::stage::{
    APP, REQUEST, annotation, delete_deployment, ensure_answers, ensure_ended,
    ensure_nothing_written, is_revert, kill, number, planned, progress, replica_set, scene,
    scene_behind_proxy, template, text,
};

#[tokio::test]
async fn case_01_previous_is_the_version_before() -> Result<()> {
    let scene = scene("case-01").await?;
    scene.two_versions(APP).await?;
    let v1 = replica_set(&scene, "v1").await?;
    assert_eq!(revision(&v1), Some(1));
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert_eq!(planned(&request)?.to_revision, 1);
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
    ensure_answers(&scene, &[200])
}

#[tokio::test]
async fn case_02_the_revision_that_runs_is_no_rollback() -> Result<()> {
    let scene = scene("case-02").await?;
    let before = scene.deploy(shop::deployment(APP).version("v1")).await?;
    scene.ask(REQUEST, APP, json!({"revision": 1})).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::NoOp)?;
    assert!(request.status.context("no status")?.plan.is_none());
    let after = scene.deployment(APP).await?;
    assert_eq!(
        number(&after, "/metadata/generation"),
        number(&before, "/metadata/generation")
    );
    ensure_nothing_written(&scene).await
}

#[tokio::test]
async fn case_03_a_revision_that_never_was_is_not_found() -> Result<()> {
    let scene = scene("case-03").await?;
    scene.two_versions(APP).await?;
    scene.ask(REQUEST, APP, json!({"revision": 99})).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Refused, Reason::RevisionNotFound)?;
    assert!(outcome.message.contains("99"), "{}", outcome.message);
    assert!(outcome.message.contains("2, 1"), "{}", outcome.message);
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_nothing_written(&scene).await
}

#[tokio::test]
async fn case_04_a_first_version_has_no_history() -> Result<()> {
    let scene = scene("case-04").await?;
    scene.deploy(shop::deployment(APP).version("v1")).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Refused, Reason::NoHistory)?;
    ensure_nothing_written(&scene).await
}

/// "Previous" asked again after the write would be the bad version: the plan knows better.
#[tokio::test]
async fn case_06_a_crash_after_the_patch_does_not_choose_again() -> Result<()> {
    let (mut scene, proxy) = scene_behind_proxy("case-06").await?;
    scene.two_versions(APP).await?;
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
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert_eq!(vec![planned(&request)?], plan.targets);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    assert_eq!(proxy.fired(), 1);
    ensure_answers(&scene, &[200])
}

#[tokio::test]
async fn case_17_a_deployment_that_was_made_again_is_another_one() -> Result<()> {
    let scene = scene("case-17").await?;
    scene.two_versions(APP).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.plan(REQUEST).await?;
    delete_deployment(&scene).await?;
    scene.deploy(shop::deployment(APP).version("v3")).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Failed, Reason::TargetGone)?;
    assert!(scene.image(APP).await?.ends_with(":v3"));
    assert!(scene.artifacts("backup", REQUEST).await?.is_empty());
    ensure_answers(&scene, &[])
}

/// Nothing but the UID tells the two apart, and the approval of the old plan counts.
#[tokio::test]
async fn case_17_a_twin_of_the_deployment_is_another_one_too() -> Result<()> {
    let mut scene = scene("case-17-twin").await?;
    scene.two_versions(APP).await?;
    let before = scene.deployment(APP).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let plan = scene.plan(REQUEST).await?;
    kill(&mut scene)?;
    delete_deployment(&scene).await?;
    scene.two_versions(APP).await?;
    let twin = scene.deployment(APP).await?;
    assert_eq!(template(&twin), template(&before));
    assert_ne!(text(&twin, "/metadata/uid"), text(&before, "/metadata/uid"));
    scene
        .approve_plan(REQUEST, User::Approver, PRODUCTION, &plan.digest)
        .await?;
    scene.start_controller().await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Failed, Reason::TargetGone)?;
    assert!(scene.image(APP).await?.ends_with(":v2"));
    assert!(scene.artifacts("backup", REQUEST).await?.is_empty());
    ensure_answers(&scene, &[])
}
