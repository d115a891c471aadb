//! Each means: what the plan says, that it is placed before the revert and read back, and that a person ends it.

use anyhow::{Context as _, Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::User;

use crate::stage::{APP, Held, Means, has_no_mark};

async fn placed_and_released(means: Means) -> Result<()> {
    let held = Held::new("placed", means).await?;
    let target = held.planned().await?;
    let planned = &target.holds[0];
    let risk = target
        .risks
        .iter()
        .map(|risk| risk.message.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    ensure!(risk.contains("put on hold"), "{risk}");
    let waits = match means {
        Means::Kustomization => Vec::new(),
        Means::HelmRelease | Means::Application => {
            vec![format!("Service {}/other", held.scene.ns())]
        }
    };
    ensure!(planned.others == waits, "{planned:?}");
    let git = planned.git.clone().context("nothing of Git")?;
    ensure!(
        git.repository.is_some() && git.path.is_some() && git.revision.is_some(),
        "{git:?}"
    );
    // Nothing is written before somebody approves.
    held.is_as_before().await?;
    ensure!(held.writes()?.is_empty(), "{:?}", held.writes()?);

    let outcome = held.approved().await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    ensure!(
        held.scene.image(APP).await?.ends_with(":v1"),
        "not rolled back"
    );
    held.is_held().await?;
    let writes = held.writes()?;
    let expected = [
        (means.resource().to_owned(), true),
        ("deployments".to_owned(), true),
    ];
    ensure!(writes == expected, "{writes:?}");
    let holds = held.holds().await?;
    ensure!(holds.len() == 1 && holds[0].release.is_none(), "{holds:?}");
    ensure!(
        holds[0]
            .images
            .iter()
            .any(|image| image.contains(":v2 -> ")),
        "{holds:?}"
    );
    held.is_told(&["HoldPlaced"]).await?;

    let anna = User::Approver.as_str();
    for (user, by, says) in [
        (User::Requester, User::Requester.as_str(), "forbidden"),
        (
            User::Approver,
            "somebody@broxiva.example",
            "released-by must be your own user name",
        ),
    ] {
        let refusal = held.release(user, by).await.err().context("it was taken")?;
        ensure!(format!("{refusal:#}").contains(says), "{refusal:#}");
    }
    held.is_held().await?;
    held.release(User::Approver, anna).await?;
    held.no_hold_is_left().await?;
    held.is_as_before().await?;
    held.is_told(&["HoldPlaced", "HoldReleased"]).await?;
    let ledger = held.ledger().await?.context("no ledger")?;
    ensure!(ledger.spec.rollbacks.len() == 1, "{:?}", ledger.spec);
    let annotations = ledger.metadata.annotations.unwrap_or_default();
    ensure!(
        !annotations.keys().any(|key| key.contains("release")),
        "{annotations:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_kustomization_leaves_the_deployment_alone_until_it_is_released() -> Result<()> {
    placed_and_released(Means::Kustomization).await
}

#[tokio::test]
async fn a_helm_release_is_suspended_until_it_is_released() -> Result<()> {
    placed_and_released(Means::HelmRelease).await
}

#[tokio::test]
async fn an_application_does_not_sync_until_it_is_released() -> Result<()> {
    placed_and_released(Means::Application).await
}

/// What was there before comes back, not what would be there by default.
#[tokio::test]
async fn what_was_there_before_is_there_again() -> Result<()> {
    let held = Held::without_the_right("explicit", Means::HelmRelease).await?;
    held.change(json!({"spec": {"suspend": false}})).await?;
    held.scene.grant(held.means.role()).await?;
    held.scene
        .ask(crate::stage::REQUEST, APP, json!({"previous": {}}))
        .await?;
    let before = held.planned().await?.holds[0].before.clone();
    ensure!(before.as_deref() == Some("false"), "{before:?}");
    held.approved().await?;
    held.is_held().await?;
    held.release(User::Approver, User::Approver.as_str())
        .await?;
    held.no_hold_is_left().await?;
    let object = held.object().await?;
    ensure!(held.means.value(&object) == json!(false), "{object}");
    has_no_mark(&object)
}

/// An owner that is held already, by whomever, is not held by us.
#[tokio::test]
async fn the_hold_of_another_stays_theirs() -> Result<()> {
    for means in Means::ALL {
        let held = Held::new("foreign", means).await?;
        held.change(means.by_hand()).await?;
        let outcome = held.approved().await?;
        ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
        let object = held.object().await?;
        ensure!(means.value(&object) == means.holding(), "{object}");
        has_no_mark(&object)?;
        ensure!(held.holds().await?.is_empty(), "{:?}", held.holds().await?);
        let refusal = held.release(User::Approver, User::Approver.as_str()).await;
        let refusal = format!("{:#}", refusal.err().context("it was taken")?);
        ensure!(refusal.contains("nothing is held"), "{refusal}");
    }
    Ok(())
}

/// With `Refuse` nothing is held, whatever is bound.
#[tokio::test]
async fn the_policy_may_refuse_all_the_same() -> Result<()> {
    let held = Held::without_the_right("refuse", Means::Kustomization).await?;
    held.scene.grant(held.means.role()).await?;
    held.scene
        .policy(json!({"gitOps": {"onSelfHealing": "Refuse"}}))
        .await?;
    held.scene
        .ask(crate::stage::REQUEST, APP, json!({"previous": {}}))
        .await?;
    let (_, outcome) = held.scene.wait_for_end(crate::stage::REQUEST).await?;
    ensure!(outcome.reason == Reason::SelfHealingOwner, "{outcome:?}");
    held.is_as_before().await
}
