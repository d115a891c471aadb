//! Nobody answers: one level after the other, each once, over a restart, until somebody says that they see to it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rollback_api::ACKNOWLEDGED_BY;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{User, eventually};

use crate::stage::{Stage, events, hook};

fn levels(seconds: [i32; 3]) -> Value {
    let level = |after: i32| json!({"afterSeconds": after, "channels": ["people"]});
    let mut people = hook("people");
    people["on"] = json!({"events": ["ReviewOverdue"]});
    json!({"channels": [people], "escalation": {"levels": seconds.map(level)}})
}

#[tokio::test]
async fn each_level_is_asked_once_over_a_restart_and_an_acknowledgement_ends_it() -> Result<()> {
    let stage = Stage::new("levels").await?;
    stage.policy(levels([2, 3, 4])).await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    stage
        .taken("/hook", 1)
        .await
        .with_context(|| controller.log())?;
    eventually("that is stored", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        ensure!(!kept.channels.is_empty() && kept.escalation.is_some_and(|it| it.level == 1));
        Ok(())
    })
    .await?;
    controller.kill();
    drop(controller);
    let controller = stage.start(&[]).await?;
    stage
        .taken("/hook", 2)
        .await
        .with_context(|| controller.log())?;
    acknowledge(&stage).await?;
    let kept = eventually("it is counted", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        kept.acknowledged.clone().context("not yet")?;
        Ok(kept)
    })
    .await?;
    let escalation = kept.escalation.context("no escalation")?;
    ensure!(
        escalation.level == 2 && escalation.next_at.is_none(),
        "{escalation:?}"
    );
    // The third level would have been asked by then.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let told = events(&stage.services.taken("/hook"));
    ensure!(told == ["Level1-Waiting", "Level2-Waiting"], "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_failure_that_nobody_answers_goes_up_after_the_request_is_over() -> Result<()> {
    let stage = Stage::new("failure").await?;
    stage
        .scene
        .policy(json!({"notifications": levels([1, 1, 3600]), "ledger": {"record": false}, "rollout": {"timeoutSeconds": 2}}))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    // There is room for nothing any more, so the old version does not come up.
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}});
    testkit::shop::apply(
        &stage.scene.client(User::Admin).await?,
        stage.scene.ns(),
        &quota,
    )
    .await?;
    stage.scene.approve("api-5xx", User::Approver).await?;
    let (_, outcome) = stage.scene.wait_for_end("api-5xx").await?;
    ensure!(
        outcome.result == rollback_api::RequestState::Failed,
        "{outcome:?}"
    );
    eventually("both levels are asked", PATIENCE, async || {
        let told = events(&stage.services.taken("/hook"));
        ensure!(
            told.ends_with(&["Level1-Failed".to_owned(), "Level2-Failed".to_owned()]),
            "{told:?}"
        );
        Ok(())
    })
    .await
    .with_context(|| controller.log())?;
    ensure!(!stage.kept("api-5xx").await?.settled);
    acknowledge(&stage).await?;
    stage.settled("api-5xx").await?;
    Ok(())
}

/// The approver says that they see to it.
async fn acknowledge(stage: &Stage) -> Result<()> {
    let by_me = json!({ACKNOWLEDGED_BY: User::Approver.as_str()});
    stage.scene.annotate("api-5xx", User::Approver, by_me).await
}
