//! A hold that cannot be placed changes nothing.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use rollback_api::status::Effect;
use rollback_api::{Reason, RequestState};
use serde_json::json;

use crate::stage::{APP, Held, Means, REQUEST};

#[tokio::test]
async fn without_the_right_it_is_refused_and_the_role_is_named() -> Result<()> {
    for means in Means::ALL {
        let held = Held::without_the_right("ungranted", means).await?;
        held.scene
            .ask(REQUEST, APP, json!({"previous": {}}))
            .await?;
        let (_, outcome) = held.scene.wait_for_end(REQUEST).await?;
        ensure!(outcome.reason == Reason::SelfHealingOwner, "{outcome:?}");
        for says in [means.role(), held.scene.ns(), "rollback-controller"] {
            ensure!(
                outcome.message.contains(says),
                "{says}: {}",
                outcome.message
            );
        }
        ensure!(held.writes()?.is_empty(), "{:?}", held.writes()?);
    }
    Ok(())
}

/// The right was there when the plan was made.
#[tokio::test]
async fn a_right_that_is_taken_away_ends_it_with_nothing_changed() -> Result<()> {
    for means in Means::ALL {
        let held = Held::new("revoked", means).await?;
        held.revoke().await?;
        let outcome = held.approved().await?;
        ensure!(outcome.reason == Reason::HoldNotPlaced, "{outcome:?}");
        ensure!(outcome.effect == Effect::None, "{outcome:?}");
        ensure!(outcome.message.contains("HTTP 403"), "{}", outcome.message);
        ensure!(
            held.scene.image(APP).await?.ends_with(":v2"),
            "it was rolled back"
        );
        held.is_as_before().await?;
        ensure!(held.writes()?.iter().all(|(_, came_through)| !came_through));
        held.no_hold_is_left().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_owner_that_is_gone_ends_it_with_nothing_changed() -> Result<()> {
    for means in [Means::HelmRelease, Means::Application] {
        let held = Held::new("gone", means).await?;
        held.owner
            .api
            .delete("shop", &DeleteParams::default())
            .await?;
        let outcome = held.approved().await?;
        ensure!(outcome.result == RequestState::Refused, "{outcome:?}");
        ensure!(outcome.reason == Reason::HoldNotPlaced, "{outcome:?}");
        ensure!(outcome.message.contains("is gone"), "{}", outcome.message);
        ensure!(
            held.scene.image(APP).await?.ends_with(":v2"),
            "it was rolled back"
        );
        ensure!(held.holds().await?.is_empty());
    }
    Ok(())
}

/// The guard holds the controller to the one field, whatever it is granted.
#[tokio::test]
async fn the_guard_narrows_what_is_granted() -> Result<()> {
    for means in Means::ALL {
        let held = Held::without_the_right("narrow", means).await?;
        held.scene.grant(means.role()).await?;
        let (kind, name) = match means {
            Means::Kustomization => ("deployment", APP),
            Means::HelmRelease => ("helmrelease.helm.toolkit.fluxcd.io", "shop"),
            Means::Application => ("application.argoproj.io", "shop"),
        };
        let beside = match means {
            Means::Kustomization => {
                json!({"metadata": {"annotations": {crate::stage::RECONCILE: "disabled"}}})
            }
            Means::HelmRelease => json!({"spec": {"suspend": true, "interval": "1s"}}),
            Means::Application => json!({"spec": {"syncPolicy": {"automated": {"prune": false}}}}),
        };
        let patch = beside.to_string();
        let arguments = [
            "-n",
            held.scene.ns(),
            "patch",
            kind,
            name,
            "--type",
            "merge",
            "--dry-run=server",
            "--as",
            testkit::scene::CONTROLLER,
            "-p",
            &patch,
        ];
        let answer = held
            .scene
            .cluster
            .kubectl(testkit::User::Admin, &arguments)
            .await?;
        let said = String::from_utf8_lossy(&answer.stderr);
        ensure!(
            !answer.status.success() && said.contains("rollback-guard-"),
            "{means:?}: {said}"
        );
    }
    Ok(())
}
