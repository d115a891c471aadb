//! An approval is the word of somebody who looks at it now. When it has become too old, it has to be given anew.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use rollback_api::status::Plan;
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::stage::{
    approval, counted, ends, ensure_writes, forbidden, scene, settle, two_versions,
};

const NAME: &str = "api-5xx";

/// Waits until everything that was approved under this digest is void.
async fn voided(scene: &Scene, old: &str) -> Result<Plan> {
    eventually("the approval is void", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        let Some(plan) = status.plan else {
            bail!("no plan");
        };
        ensure!(plan.digest != old, "the digest is the old one");
        ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
        Ok(plan)
    })
    .await
}

/// Whether this approval was counted, before it became too old.
async fn counts(scene: &Scene, user: User, digest: &str) -> Result<bool> {
    let typed = approval(user.as_str(), digest);
    if scene.annotate(NAME, user, typed).await.is_err() {
        return Ok(false);
    }
    eventually("it is counted, or void", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        let ours = |a: &rollback_api::status::Approval| a.by.username == user.as_str();
        if status.approvals.iter().any(ours) {
            return Ok(true);
        }
        let same = status.plan.is_some_and(|plan| plan.digest == digest);
        ensure!(!same, "neither");
        Ok(false)
    })
    .await
}

/// Whether the Deployment was begun upon this plan, before one of its approvals became too old.
async fn is_begun(scene: &Scene, digest: &str) -> Result<bool> {
    eventually("it is begun, or void", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        let same = status.plan.is_some_and(|plan| plan.digest == digest);
        let begun = status.targets.iter().any(|target| target.begun.is_some());
        ensure!(begun || !same, "neither");
        Ok(begun)
    })
    .await
}

#[tokio::test]
async fn an_approval_that_has_become_too_old_is_void() -> Result<()> {
    let scene = scene("expiry").await?;
    let rules = json!({"approvals": {"required": 2, "validForSeconds": 8}});
    scene.policy(rules).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let (anna, omar) = (User::Approver, User::SecondApprover);
    let first = scene.plan(NAME).await?;
    scene.approve(NAME, anna).await?;
    let second = voided(&scene, &first.digest).await?;
    ensure!(second.targets == first.targets, "it was resolved again");

    // What Anna typed still stands there, and is for the old digest. So would be what Omar types now.
    let late = scene.annotate(NAME, omar, approval(omar.as_str(), &first.digest));
    forbidden(late.await, "not the digest of the present plan")?;
    scene.approve(NAME, omar).await?;
    let third = voided(&scene, &second.digest).await?;
    ensure!(third.digest != first.digest, "a digest came back");
    settle(&scene, "later").await?;
    ensure_writes(&scene, 0)?;

    // Within the time they count together. On a slow machine it takes more than one try, also when both are counted: the first
    // write may come too late for one of them.
    let began = Instant::now();
    loop {
        ensure!(began.elapsed() < PATIENCE, "eight seconds are never enough");
        let status = scene.status(NAME).await?;
        let digest = status.plan.map(|plan| plan.digest).unwrap_or_default();
        if counts(&scene, anna, &digest).await?
            && counts(&scene, omar, &digest).await?
            && is_begun(&scene, &digest).await?
        {
            break;
        }
    }
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)
}

/// The time is part of the rules: who changes it, changes the digest.
#[tokio::test]
async fn more_time_is_another_rule() -> Result<()> {
    let scene = scene("more-time").await?;
    let rules = |seconds: i32| json!({"approvals": {"required": 2, "validForSeconds": seconds}});
    scene.policy(rules(3_600)).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let anna = User::Approver;
    let old = scene.plan(NAME).await?.digest;
    scene.approve(NAME, anna).await?;
    counted(&scene, NAME, &[anna.as_str()]).await?;
    scene.policy(rules(7_200)).await?;
    voided(&scene, &old).await?;
    scene.approve(NAME, User::SecondApprover).await?;
    counted(&scene, NAME, &[User::SecondApprover.as_str()]).await?;
    scene.approve(NAME, anna).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)
}
