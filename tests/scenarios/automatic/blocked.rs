//! What holds a request back that came by itself, and that a person may let it go.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rollback_api::status::BlockedBy;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, ready};
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually};

use crate::stage::{
    PROGRAM, asked, asked_times, bad_release, ends, events, held_back, metrics, named, next_second,
    prepare, requests, runs, scene, send, version,
};

/// A bad release whose rollback waits for a person because of this; then a person approves.
async fn waits(name: &str, triggers: Value, blocked_by: BlockedBy) -> Result<Scene> {
    let scene = scene(name, triggers).await?;
    bad_release(&scene, Behaviour::Crash).await?;
    let name = asked(&scene).await?;
    let said = held_back(&scene, &name, blocked_by).await?;
    let (state, message) = ready(&scene.wait_for(&name, "AwaitingApproval").await?);
    ensure!(message.starts_with(&said), "{state}: {message}");
    let metrics = metrics(&scene).await?;
    let series = format!(
        "rollback_auto_approvals_total{{decision=\"{}\"}} 1",
        blocked_by.as_str()
    );
    ensure!(metrics.contains(&series), "{metrics}");
    let events = events(&scene, &name).await?;
    ensure!(
        events.iter().any(|event| event.contains("HeldBack")),
        "{events:?}"
    );
    ensure!(runs(&scene, "api", "v2").await?);
    scene.approve_by_two(&name).await?;
    ends(&scene, &name, RequestState::Succeeded, Reason::Unverified).await?;
    Ok(scene)
}

#[tokio::test]
async fn without_leave_a_person_decides() -> Result<()> {
    waits(
        "blocked-leave",
        json!({"watch": true}),
        BlockedBy::NotAllowed,
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_pause_of_the_namespace_holds_back() -> Result<()> {
    let paused = json!({"watch": true, "approve": true, "paused": true});
    waits("blocked-paused", paused, BlockedBy::Paused).await?;
    Ok(())
}

#[tokio::test]
async fn a_limit_of_the_hour_holds_back() -> Result<()> {
    let none = json!({"watch": true, "approve": true, "mostPerHour": 0});
    waits("blocked-hour", none, BlockedBy::HourlyLimit).await?;
    Ok(())
}

/// However many come at the same moment, no more than the limit are let go.
#[tokio::test]
async fn of_many_at_once_the_limit_is_kept() -> Result<()> {
    let one = json!({"watch": true, "approve": true, "mostPerHour": 1});
    let scene = scene("blocked-race", one).await?;
    let names = ["one", "two", "three", "four"];
    for name in names {
        scene.deploy(named(name, "v1")).await?;
    }
    for name in names {
        scene
            .apply_deployment(named(name, "v2").behaviour(Behaviour::Crash))
            .await?;
    }
    asked_times(&scene, names.len()).await?;
    eventually("all are decided", PATIENCE, async || {
        let all = requests(&scene).await?;
        let said: Vec<_> = all
            .iter()
            .filter_map(|request| request.status.as_ref()?.auto_approval.as_ref())
            .map(|said| said.blocked_by)
            .collect();
        ensure!(said.len() == names.len(), "{said:?}");
        let approved = said
            .iter()
            .filter(|blocked_by| blocked_by.is_none())
            .count();
        ensure!(approved == 1, "{said:?}");
        Ok(())
    })
    .await
}

/// The same bad version a second time is for a person; so is another one too soon after.
#[tokio::test]
async fn the_same_version_again_and_the_next_one_too_soon_are_held_back() -> Result<()> {
    let long = json!({"watch": true, "approve": true, "coolDownSeconds": 600, "mostPerHour": 10});
    let scene = scene("blocked-again", long).await?;
    bad_release(&scene, Behaviour::Crash).await?;
    let first = asked(&scene).await?;
    ends(&scene, &first, RequestState::Succeeded, Reason::Unverified).await?;
    next_second().await;
    let again = version("v2").behaviour(Behaviour::Crash);
    scene.apply_deployment(again).await?;
    let second = asked_times(&scene, 2).await?;
    ensure!(second != first);
    held_back(&scene, &second, BlockedBy::PreviouslyRolledBack).await?;
    scene.approve_by_two(&second).await?;
    ends(&scene, &second, RequestState::Succeeded, Reason::Unverified).await?;
    next_second().await;
    let third = version("v3").behaviour(Behaviour::Crash);
    scene.apply_deployment(third).await?;
    let third = asked_times(&scene, 3).await?;
    held_back(&scene, &third, BlockedBy::CoolDown).await?;
    Ok(())
}

/// What another version has taken the place of is not rolled back any more.
#[tokio::test]
async fn what_does_not_run_any_more_is_left_alone() -> Result<()> {
    let scene = scene("blocked-fixed", json!({"watch": true})).await?;
    bad_release(&scene, Behaviour::Crash).await?;
    let name = asked(&scene).await?;
    held_back(&scene, &name, BlockedBy::NotAllowed).await?;
    scene.deploy(version("v3")).await?;
    let (_, outcome) = scene.wait_for_end(&name).await?;
    ensure!(outcome.result == RequestState::Superseded, "{outcome:?}");
    ensure!(runs(&scene, "api", "v3").await?);
    Ok(())
}

/// An administrator switches everything automatic off, for all namespaces at once.
#[tokio::test]
async fn one_switch_holds_everything_back() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "blocked-switch").await?;
    prepare(&scene, json!({"approve": true})).await?;
    // Its own namespace is this one, so that no other test is switched off.
    let home = ["--lease-namespace", scene.ns(), "--leader-elect=false"];
    let controller = scene.spawn(&home)?;
    controller.ready().await?;
    scene.controller = Some(controller);
    let switch: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "rollback-automatic"}, "data": {"paused": "true"},
    }))?;
    let maps: Api<ConfigMap> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    maps.create(&PostParams::default(), &switch).await?;
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    next_second().await;
    send(&scene, "down", "api", "HealthCheck").await?;
    held_back(&scene, "down", BlockedBy::Paused).await?;
    maps.delete("rollback-automatic", &DeleteParams::default())
        .await?;
    // What was held back stays so; what comes now goes.
    let other = named("web", "v1");
    scene.deploy(other).await?;
    scene.deploy(named("web", "v2")).await?;
    next_second().await;
    send(&scene, "web-down", "web", "HealthCheck").await?;
    ends(
        &scene,
        "web-down",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    let (state, _) = ready(&scene.request("down").await?);
    ensure!(state == "AwaitingApproval", "{state}");
    Ok(())
}
