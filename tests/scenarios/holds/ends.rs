//! What ends a hold besides a person, and what is left alone.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use rollback_api::{HELD_BY, RequestState};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{User, eventually};

use crate::stage::{APP, Held, Means, REQUEST};

/// Placed, and waiting for an owner that is in the middle of something.
async fn waiting(name: &str) -> Result<Held> {
    let held = Held::new(name, Means::HelmRelease).await?;
    let at_work = json!([{"type": "Reconciling", "status": "True"}]);
    held.owner
        .patch(json!({"status": {"conditions": at_work}}))
        .await?;
    held.scene.approve(REQUEST, User::Approver).await?;
    eventually("it is held", PATIENCE, async || held.is_held().await).await?;
    Ok(held)
}

#[tokio::test]
async fn an_owner_at_work_is_waited_for() -> Result<()> {
    let held = waiting("at-work").await?;
    ensure!(
        held.scene.image(APP).await?.ends_with(":v2"),
        "it did not wait"
    );
    held.owner
        .patch(json!({"status": {"conditions": []}}))
        .await?;
    let (_, outcome) = held.scene.wait_for_end(REQUEST).await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    held.is_held().await
}

#[tokio::test]
async fn a_request_that_is_deleted_while_its_owner_is_held_releases_it_at_once() -> Result<()> {
    let held = waiting("deleted").await?;
    let requests = held.scene.requests(User::Admin).await?;
    requests.delete(REQUEST, &DeleteParams::default()).await?;
    held.no_hold_is_left().await?;
    held.is_as_before().await?;
    ensure!(
        held.scene.image(APP).await?.ends_with(":v2"),
        "it was rolled back"
    );
    eventually("the request is gone", PATIENCE, async || {
        let found = requests.get_opt(REQUEST).await?;
        ensure!(found.is_none(), "{found:?}");
        Ok(())
    })
    .await
}

/// After the revert a hold is the ledger's, and not the request's.
#[tokio::test]
async fn a_request_that_is_deleted_afterwards_leaves_the_hold() -> Result<()> {
    let held = Held::new("afterwards", Means::Application).await?;
    held.approved().await?;
    let requests = held.scene.requests(User::Admin).await?;
    requests.delete(REQUEST, &DeleteParams::default()).await?;
    eventually("the request is gone", PATIENCE, async || {
        ensure!(requests.get_opt(REQUEST).await?.is_none());
        Ok(())
    })
    .await?;
    held.is_held().await?;
    ensure!(held.holds().await?.len() == 1);
    held.release(User::Approver, User::Approver.as_str())
        .await?;
    held.no_hold_is_left().await?;
    held.is_as_before().await
}

#[tokio::test]
async fn what_somebody_else_has_changed_meanwhile_is_not_touched() -> Result<()> {
    for means in Means::ALL {
        let held = Held::new("changed", means).await?;
        held.approved().await?;
        // They hold it now, for reasons of their own.
        held.change(json!({"metadata": {"annotations": {HELD_BY: "the platform team"}}}))
            .await?;
        held.release(User::Approver, User::Approver.as_str())
            .await?;
        held.no_hold_is_left().await?;
        let object = held.object().await?;
        ensure!(means.value(&object) == means.holding(), "{object}");
        ensure!(
            object["metadata"]["annotations"][HELD_BY] == "the platform team",
            "{object}"
        );
        held.is_told(&["HoldChanged", "HoldPlaced"]).await?;
    }
    Ok(())
}

/// The annotation went with the Deployment; what stands on an owner stands there still.
#[tokio::test]
async fn a_deployment_that_is_made_again() -> Result<()> {
    for means in [Means::Kustomization, Means::Application] {
        let held = Held::new("again", means).await?;
        held.approved().await?;
        let delete = ["-n", held.scene.ns(), "delete", "deployment", APP, "--wait"];
        held.scene
            .cluster
            .kubectl_ok(User::Admin, &delete, "")
            .await?;
        held.scene
            .deploy(means.version(held.scene.ns(), "v3"))
            .await?;
        if means == Means::Kustomization {
            // Looked at again with the next change of the ledger.
            held.no_hold_is_left().await?;
            held.is_told(&["HoldLost", "HoldPlaced"]).await?;
            continue;
        }
        held.is_held().await?;
        ensure!(held.holds().await?.len() == 1);
        held.release(User::Approver, User::Approver.as_str())
            .await?;
        held.no_hold_is_left().await?;
        held.is_as_before().await?;
    }
    Ok(())
}

/// The controller has lost its right by then: the object says how it ends, and the Event too.
#[tokio::test]
async fn a_hold_that_cannot_be_released_says_how_somebody_does() -> Result<()> {
    let held = Held::new("stuck", Means::HelmRelease).await?;
    held.approved().await?;
    held.revoke().await?;
    held.release(User::Approver, User::Approver.as_str())
        .await?;
    held.is_told(&["HoldNotReleased", "HoldPlaced"]).await?;
    held.is_held().await?;
    held.scene.grant(held.means.role()).await?;
    held.no_hold_is_left().await?;
    held.is_as_before().await
}
