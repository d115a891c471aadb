//! In which order Deployments are written, and how many at the same time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::User;

use crate::record::Record;
use crate::stage::{
    REQUEST, deploy, end, ensure_ended, ensure_results, held, later, let_go, named, prefix,
    roll_back, scene, start, tags, wait_for_target, well,
};

#[tokio::test]
async fn a_wave_begins_when_the_one_before_has_ended() -> Result<()> {
    let scene = scene("waves").await?;
    let slow = |name| well(name).ready_after(Duration::from_secs(2));
    deploy(
        &scene,
        [
            held("db"),
            slow("cache"),
            well("api"),
            well("web"),
            well("cdn"),
        ],
    )
    .await?;
    let targets = json!([
        later("web", 7),
        named("db"),
        later("cdn", 9),
        named("cache"),
        later("api", 7),
    ]);
    start(&scene, targets, json!({})).await?;
    wait_for_target(&scene, "cache", "has ended", |it| it.outcome.is_some()).await?;
    assert_eq!(
        tags(&scene, &["db", "cache", "api", "web", "cdn"]).await?,
        ["v1", "v1", "v2", "v2", "v2"]
    );
    let_go(&scene, "db").await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &["db", "cache", "api", "web", "cdn"]
            .map(|name| (name, RequestState::Succeeded, Reason::Unverified)),
    )?;
    if let Some(record) = Record::of(&scene)? {
        record.ensure_order(&["db", "cache"], &["api", "web", "cdn"])?;
        record.ensure_order(&["api", "web"], &["cdn"])?;
    }
    Ok(())
}

#[tokio::test]
async fn no_more_than_asked_for_are_under_way() -> Result<()> {
    let scene = scene("parallel").await?;
    let names = ["p-0", "p-1", "p-2", "p-3", "p-4", "p-5", "p-6", "p-7"];
    let slow = |name| well(name).ready_after(Duration::from_secs(1));
    deploy(&scene, names.map(slow)).await?;
    let rollout = json!({"parallelism": 3});
    let (_, outcome) = roll_back(&scene, json!([prefix("p-")]), rollout).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&names.map(|name| (name, 1)))?;
        record.ensure_at_most(3)?;
    }
    Ok(())
}

#[tokio::test]
async fn each_has_its_own_time() -> Result<()> {
    let scene = scene("timeout").await?;
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 77}}))
        .await?;
    deploy(&scene, [held("a-api"), held("a-web")]).await?;
    let rollout = json!({"timeoutSeconds": 3, "onFailure": "Continue", "parallelism": 1});
    crate::stage::ask(&scene, json!([prefix("a-")]), rollout).await?;
    let plan = scene.plan(REQUEST).await?;
    assert_eq!(plan.rules.rollout.timeout_seconds, 3);
    scene.approve(REQUEST, User::Approver).await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetsFailed)?;
    ensure_results(
        &request,
        &["a-api", "a-web"].map(|name| (name, RequestState::Failed, Reason::RolloutTimedOut)),
    )?;
    for progress in request.status.context("no status")?.targets {
        let written = progress.reverted_at.context("not written")?;
        let deadline = progress.rollout.context("no rollout")?.deadline;
        assert_eq!(deadline.duration_since(written).as_secs(), 3);
        let ended = progress.outcome.context("no outcome")?.at;
        ensure!(ended >= deadline, "{ended} is before {deadline}");
    }

    // One named Deployment has the time that the policy gives.
    crate::stage::ask_as(&scene, "single", json!([named("a-api")]), json!(null)).await?;
    let single = scene.wait_for_end("single").await?.1;
    ensure_ended(&single, RequestState::Refused, Reason::NoHistory)?;
    Ok(())
}
