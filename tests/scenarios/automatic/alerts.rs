//! What a request that an alert brought may be, and what becomes of it.

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use rollback_api::status::BlockedBy;
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::{Scene, User, shop};

use crate::stage::{
    alert, create, ends, held_back, next_second, receiver, rules, runs, scene, send, version,
};

/// A namespace with two versions of `api`, both well as far as their pods show.
async fn two_versions(name: &str) -> Result<Scene> {
    let scene = scene(name, json!({"approve": true})).await?;
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    next_second().await;
    Ok(scene)
}

/// What the matrix leaves to the policy is done; the same alert after it is for people, and nothing goes further back.
#[tokio::test]
async fn an_alert_is_answered_and_the_same_again_is_escalated() -> Result<()> {
    let scene = scene("alert-automatic", json!({"approve": true})).await?;
    // What is bad is not chosen by itself, so an older version is there to go back to.
    for name in ["v0", "v1", "v2"] {
        scene.deploy(version(name)).await?;
    }
    next_second().await;
    send(&scene, "down", "api", "HealthCheck").await?;
    let (request, _) = ends(&scene, "down", RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(runs(&scene, "api", "v1").await?);
    let status = serde_json::to_string(&request.status)?;
    let report = serde_json::to_string(&scene.artifacts("incident", "down").await?)?;
    ensure!(report.contains("up == 0 for 2 minutes"), "{report}");
    for text in [status, report] {
        ensure!(!text.contains("hunter2"), "{text}");
    }
    next_second().await;
    send(&scene, "still-down", "api", "HealthCheck").await?;
    let (_, outcome) = ends(
        &scene,
        "still-down",
        RequestState::Refused,
        Reason::DidNotHelp,
    )
    .await?;
    ensure!(
        outcome.message.contains("A person has to look now"),
        "{outcome:?}"
    );
    // Once that time is over it waits for a person: a rollback is not rolled back by itself.
    rules(
        &scene,
        json!({"approve": true, "escalateSeconds": 0, "coolDownSeconds": 0}),
    )
    .await?;
    send(&scene, "down-later", "api", "HealthCheck").await?;
    held_back(&scene, "down-later", BlockedBy::TargetIsRollback).await?;
    ensure!(runs(&scene, "api", "v1").await?);
    Ok(())
}

/// A category that the matrix leaves to people waits for them, and is then done.
#[tokio::test]
async fn a_category_for_people_waits_for_them() -> Result<()> {
    let scene = two_versions("alert-manual").await?;
    send(&scene, "errors", "api", "ErrorRate").await?;
    held_back(&scene, "errors", BlockedBy::Category).await?;
    scene.approve_by_two("errors").await?;
    ends(
        &scene,
        "errors",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure!(runs(&scene, "api", "v1").await?);
    Ok(())
}

/// An alert that began before the version is about another one.
#[tokio::test]
async fn an_alert_that_is_older_than_the_version_changes_nothing() -> Result<()> {
    let scene = two_versions("alert-old").await?;
    let before = Timestamp::now() - SignedDuration::from_mins(5);
    let old = alert(&scene, "old", "api", "HealthCheck", before).await?;
    create(&scene, &old).await?;
    let reason = Reason::AlertOlderThanVersion;
    ends(&scene, "old", RequestState::Refused, reason).await?;
    // Gone back to by hand, the version is as young as that, however old its ReplicaSet is.
    let undo = ["rollout", "undo", "deployment/api", "-n", scene.ns()];
    let between = Timestamp::now();
    next_second().await;
    next_second().await;
    scene.cluster.kubectl_ok(User::Admin, &undo, "").await?;
    let admin = scene.client(User::Admin).await?;
    shop::wait_available(&admin, scene.ns(), "api").await?;
    let late = alert(&scene, "late", "api", "HealthCheck", between).await?;
    create(&scene, &late).await?;
    ends(&scene, "late", RequestState::Refused, reason).await?;
    ensure!(runs(&scene, "api", "v1").await?);
    Ok(())
}

/// A source that the policy does not name asks for nothing here; nor does anybody in the name of one.
#[tokio::test]
async fn only_who_may_and_is_named_asks() -> Result<()> {
    let scene = two_versions("alert-source").await?;
    let mut other = alert(&scene, "other", "api", "HealthCheck", Timestamp::now()).await?;
    if let Some(trigger) = &mut other.spec.trigger {
        trigger.source = "somebody-else".to_owned();
    }
    create(&scene, &other).await?;
    ends(
        &scene,
        "other",
        RequestState::Refused,
        Reason::SourceNotAllowed,
    )
    .await?;

    let mut forged = alert(&scene, "forged", "api", "HealthCheck", Timestamp::now()).await?;
    let by_hand = scene.requests(User::Requester).await?;
    let refused = by_hand.create(&PostParams::default(), &forged).await;
    let told = refused
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    ensure!(
        told.contains("spec.trigger is for requests that come by themselves"),
        "{told}"
    );

    if let Some(trigger) = &mut forged.spec.trigger {
        trigger.source = "controller".to_owned();
    }
    let refused = receiver(&scene)
        .await?
        .create(&PostParams::default(), &forged)
        .await;
    let told = refused
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    ensure!(
        told.contains("the controller's own watch and nobody else"),
        "{told}"
    );
    ensure!(runs(&scene, "api", "v2").await?);
    Ok(())
}

/// A Deployment that does not opt in waits for a person.
#[tokio::test]
async fn who_does_not_opt_in_waits_for_a_person() -> Result<()> {
    let scene = scene("alert-optin", json!({"approve": true})).await?;
    scene.two_versions("api").await?;
    next_second().await;
    send(&scene, "down", "api", "HealthCheck").await?;
    held_back(&scene, "down", BlockedBy::NotOptedIn).await?;
    ensure!(runs(&scene, "api", "v2").await?);
    Ok(())
}
