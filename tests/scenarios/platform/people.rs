//! People in the middle of a run: those that have begun are carried out, the others are spared.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use rollback_api::{CANCELLED_BY, DENIED_BY, DENIED_REASON, Reason, RequestState, RollbackRequest};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::record::Record;
use crate::stage::{
    REQUEST, artifacts, deploy, end, ensure_ended, ensure_free, ensure_results, held, later,
    let_go, named, scene, start, tags, wait_for_target, well,
};

/// One is written and hangs, two wait for it.
async fn halfway(name: &str) -> Result<(Scene, RollbackRequest)> {
    let scene = scene(name).await?;
    deploy(&scene, [held("a"), well("b"), well("c")]).await?;
    let targets = json!([named("a"), later("b", 1), later("c", 2)]);
    let request = start(&scene, targets, json!({})).await?;
    wait_for_target(&scene, "a", "is written", |it| it.reverted_at.is_some()).await?;
    Ok((scene, request))
}

/// The one that hung is carried out, the others are as they were, and there is a report.
async fn ensure_spared(scene: &Scene, request: &RollbackRequest) -> Result<()> {
    let names = ["a", "b", "c"];
    assert_eq!(tags(scene, &names).await?, ["v1", "v2", "v2"]);
    ensure!(artifacts(scene, "incident", request).await?.len() == 1);
    ensure!(artifacts(scene, "backup", request).await?.len() == 1);
    if let Some(record) = Record::of(scene)? {
        record.ensure_written(&[("a", 1)])?;
    }
    ensure_free(scene).await
}

async fn ensure_withdrawn(scene: &Scene, state: RequestState, reason: Reason) -> Result<()> {
    wait_for_target(scene, "b", "is spared", |it| it.outcome.is_some()).await?;
    let_go(scene, "a").await?;
    let (request, outcome) = end(scene).await?;
    ensure_ended(&outcome, state, reason)?;
    ensure!(
        !outcome.message.contains("Nothing was changed"),
        "{}",
        outcome.message
    );
    ensure_results(
        &request,
        &[
            ("a", RequestState::Succeeded, Reason::Unverified),
            ("b", RequestState::Cancelled, Reason::NotBegun),
            ("c", RequestState::Cancelled, Reason::NotBegun),
        ],
    )?;
    ensure_spared(scene, &request).await
}

#[tokio::test]
async fn cancelled_in_the_middle() -> Result<()> {
    let (scene, _) = halfway("cancel").await?;
    let rita = User::Requester;
    scene
        .annotate(REQUEST, rita, json!({CANCELLED_BY: rita.as_str()}))
        .await?;
    ensure_withdrawn(&scene, RequestState::Cancelled, Reason::CancelledByUser).await
}

#[tokio::test]
async fn denied_in_the_middle() -> Result<()> {
    let (scene, _) = halfway("deny").await?;
    let omar = User::SecondApprover;
    let denial = json!({DENIED_BY: omar.as_str(), DENIED_REASON: "the database is migrated"});
    scene.annotate(REQUEST, omar, denial).await?;
    ensure_withdrawn(&scene, RequestState::Denied, Reason::DeniedByApprover).await
}

#[tokio::test]
async fn deleted_in_the_middle() -> Result<()> {
    let (scene, request) = halfway("delete").await?;
    let api = scene.requests(User::Requester).await?;
    api.delete(REQUEST, &DeleteParams::default()).await?;
    wait_for_target(&scene, "b", "is spared", |it| it.outcome.is_some()).await?;
    let_go(&scene, "a").await?;
    eventually("the request is gone", PATIENCE, async || {
        let left = api.get_opt(REQUEST).await?;
        ensure!(left.is_none(), "it is {left:?}");
        Ok(())
    })
    .await?;
    ensure_spared(&scene, &request).await
}

#[tokio::test]
async fn a_policy_that_changes_in_the_middle_asks_people_again_for_the_rest() -> Result<()> {
    let (scene, _) = halfway("policy").await?;
    let before = scene.status(REQUEST).await?.plan.map(|plan| plan.digest);
    scene
        .policy(json!({"rollout": {"graceSeconds": 30}}))
        .await?;
    let plan = scene.plan(REQUEST).await?;
    ensure!(before != Some(plan.digest), "the digest is the same");
    let_go(&scene, "a").await?;
    wait_for_target(&scene, "a", "is done", |it| it.outcome.is_some()).await?;
    let waiting = scene.wait_for(REQUEST, "AwaitingApproval").await?;
    let approvals = waiting.status.map(|status| status.approvals.len());
    assert_eq!(approvals, Some(0));
    assert_eq!(tags(&scene, &["a", "b", "c"]).await?, ["v1", "v2", "v2"]);

    scene.approve(REQUEST, User::Approver).await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &["a", "b", "c"].map(|name| (name, RequestState::Succeeded, Reason::Unverified)),
    )?;
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&["a", "b", "c"].map(|name| (name, 1)))?;
    }
    Ok(())
}
