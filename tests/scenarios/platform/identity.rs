//! A name is not a Deployment: what was planned is what is written, or nothing.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, PropagationPolicy};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::record::Record;
use crate::stage::{
    deploy, deploy_next, end, ensure_ended, ensure_results, held, later, let_go, named, scene,
    start, tags, wait_for_target, well,
};

async fn delete(scene: &Scene, name: &str) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), "apps/v1", "Deployment");
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    api.delete(name, &foreground).await?;
    eventually(&format!("{name} is gone"), PATIENCE, async || {
        ensure!(api.get_opt(name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_changed_before_its_turn_is_left_and_the_others_go_on() -> Result<()> {
    let scene = scene("identity").await?;
    let olds = [
        held("a"),
        well("gone"),
        well("twin"),
        well("anew"),
        well("rest"),
    ];
    deploy(&scene, olds).await?;
    let targets = json!([
        named("a"),
        later("gone", 1),
        later("twin", 1),
        later("anew", 1),
        later("rest", 2),
    ]);
    start(&scene, targets, json!({"onFailure": "Continue"})).await?;
    wait_for_target(&scene, "a", "is written", |it| it.reverted_at.is_some()).await?;
    delete(&scene, "gone").await?;
    delete(&scene, "twin").await?;
    deploy(&scene, [well("twin")]).await?;
    deploy_next(&scene, &["anew"], "v3").await?;
    let_go(&scene, "a").await?;

    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetsFailed)?;
    ensure_results(
        &request,
        &[
            ("a", RequestState::Succeeded, Reason::Unverified),
            ("gone", RequestState::Failed, Reason::TargetGone),
            ("twin", RequestState::Failed, Reason::TargetGone),
            ("anew", RequestState::Superseded, Reason::NotLive),
            ("rest", RequestState::Succeeded, Reason::Unverified),
        ],
    )?;
    let names = ["a", "twin", "anew", "rest"];
    assert_eq!(tags(&scene, &names).await?, ["v1", "v2", "v3", "v1"]);
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&[("a", 1), ("rest", 1)])?;
    }
    Ok(())
}

/// That somebody deployed another version is no failure, and nobody is stopped for it.
#[tokio::test]
async fn one_that_was_deployed_anew_stops_nobody() -> Result<()> {
    let scene = scene("anew").await?;
    deploy(&scene, [held("a"), well("anew"), well("rest")]).await?;
    let targets = json!([named("a"), later("anew", 1), later("rest", 2)]);
    start(&scene, targets, json!({"onFailure": "Stop"})).await?;
    wait_for_target(&scene, "a", "is written", |it| it.reverted_at.is_some()).await?;
    deploy_next(&scene, &["anew"], "v3").await?;
    let_go(&scene, "a").await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &[
            ("a", RequestState::Succeeded, Reason::Unverified),
            ("anew", RequestState::Superseded, Reason::NotLive),
            ("rest", RequestState::Succeeded, Reason::Unverified),
        ],
    )?;
    assert_eq!(tags(&scene, &["anew", "rest"]).await?, ["v3", "v1"]);
    Ok(())
}
