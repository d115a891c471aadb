//! The controller's own watch of new versions.

use anyhow::{Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::scene::{PATIENCE, condition};
use testkit::shop::{Behaviour, deployment};
use testkit::{Scene, eventually};

use crate::stage::{asked, bad_release, ends, requests, runs, scene, version};

/// A bad release is rolled back without anybody, and it is written down who asked, who approved, and upon what.
async fn is_rolled_back(name: &str, behaviour: Behaviour, alert: &str) -> Result<Scene> {
    let scene = scene(name, json!({"watch": true, "approve": true})).await?;
    bad_release(&scene, behaviour).await?;
    let name = asked(&scene).await?;
    let (request, _) = ends(&scene, &name, RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(runs(&scene, "api", "v1").await?);
    let trigger = request
        .spec
        .trigger
        .clone()
        .unwrap_or_else(|| unreachable!());
    ensure!(
        trigger.source == "controller" && trigger.alert == alert,
        "{trigger:?}"
    );
    let by = request.spec.requested_by.clone().unwrap_or_default();
    ensure!(
        by.username == "system:serviceaccount:rollback-system:rollback-watch",
        "{by:?}"
    );
    let status = request.status.clone().unwrap_or_default();
    let said = status.auto_approval.unwrap_or_else(|| unreachable!());
    ensure!(
        said.blocked_by.is_none() && said.evidence.len() >= 2,
        "{said:?}"
    );
    ensure!(status.approvals.len() == 1 && status.approvals[0].automatic);
    let approved = condition(&request, "Approved").unwrap_or_default();
    ensure!(approved.1 == "ApprovedByPolicy", "{approved:?}");
    let report = scene.artifacts("incident", &name).await?;
    let report = serde_json::to_string(&report)?;
    ensure!(report.contains(&said.evidence[0]), "{report}");
    ensure!(
        report.contains("Approved by the RollbackPolicy"),
        "{report}"
    );
    Ok(scene)
}

#[tokio::test]
async fn a_version_that_crashes_is_rolled_back() -> Result<()> {
    let scene = is_rolled_back("auto-crash", Behaviour::Crash, "CrashLoop").await?;
    // A rollback is never under analysis itself, and nothing is asked twice.
    ensure!(requests(&scene).await?.len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_version_whose_image_is_missing_is_rolled_back() -> Result<()> {
    is_rolled_back("auto-image", Behaviour::ImagePull, "ImagePull").await?;
    Ok(())
}

#[tokio::test]
async fn a_version_that_does_not_get_ready_is_rolled_back() -> Result<()> {
    is_rolled_back("auto-stuck", Behaviour::NeverReady, "RolloutStuck").await?;
    Ok(())
}

/// Nobody is rolled back who does not say so, and no namespace that does not; a first version has nothing to go back to.
#[tokio::test]
async fn who_does_not_opt_in_is_left_alone() -> Result<()> {
    let scene = scene("auto-optin", json!({"watch": true, "approve": true})).await?;
    for (name, opts_in) in [("silent", false), ("first", true)] {
        let good = deployment(name).version("v1");
        let bad = deployment(name).version("v2").behaviour(Behaviour::Crash);
        if opts_in {
            scene
                .apply_deployment(crate::stage::named(name, "v1").behaviour(Behaviour::Crash))
                .await?;
        } else {
            scene.deploy(good).await?;
            scene.apply_deployment(bad).await?;
        }
    }
    // What would have been asked about is asked about meanwhile.
    bad_release(&scene, Behaviour::Crash).await?;
    let name = asked(&scene).await?;
    ends(&scene, &name, RequestState::Succeeded, Reason::Unverified).await?;
    let all = requests(&scene).await?;
    ensure!(all.len() == 1, "{all:?}");
    Ok(())
}

/// A rollback by hand is not rolled back, however it goes.
#[tokio::test]
async fn a_rollback_by_hand_is_left_alone() -> Result<()> {
    let scene = scene("auto-undo", json!({"watch": true, "approve": true})).await?;
    // What will be gone back to crashes; being the first, it is left alone too.
    scene
        .apply_deployment(version("v1").behaviour(Behaviour::Crash))
        .await?;
    scene
        .deploy(version("v2").behaviour(Behaviour::Ready))
        .await?;
    let undo = ["rollout", "undo", "deployment/api", "-n", scene.ns()];
    scene
        .cluster
        .kubectl_ok(testkit::User::Admin, &undo, "")
        .await?;
    eventually("the rollback by hand is under way", PATIENCE, async || {
        ensure!(runs(&scene, "api", "v1").await?);
        Ok(())
    })
    .await?;
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    ensure!(requests(&scene).await?.is_empty());
    Ok(())
}
