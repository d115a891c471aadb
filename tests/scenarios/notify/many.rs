//! An incident with many requests.

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use rollback_api::status::DeliveryResult;
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{eventually, size};

use crate::stage::{Stage, bot, hook};

#[tokio::test]
async fn many_requests_at_once_are_few_messages_for_people_and_one_each_for_programs() -> Result<()>
{
    let stage = Stage::new("many").await?;
    stage
        .policy(json!({"channels": [bot(), hook("hook")]}))
        .await?;
    stage.two_versions().await?;
    let many = size(200, 60);
    let asked = futures::stream::iter(0..many).map(|number| {
        let stage = &stage;
        async move { stage.ask(&format!("api-{number}")).await }
    });
    asked.buffer_unordered(8).try_collect::<Vec<()>>().await?;
    let controller = stage.start(&["--max-open-requests", "300"]).await?;
    let told = eventually("each is told", PATIENCE * 3, async || {
        let mut results = Vec::new();
        for number in 0..many {
            let kept = stage.kept(&format!("api-{number}")).await?;
            let of = |name: &str| kept.channels.iter().find(|it| it.name == name).cloned();
            let (Some(slack), Some(_)) = (of("slack"), of("hook")) else {
                anyhow::bail!("api-{number}: {kept:?}")
            };
            results.push(slack.told.first().context("nothing")?.result);
        }
        Ok(results)
    })
    .await
    .with_context(|| controller.log())?;
    let summarized = told
        .iter()
        .filter(|it| **it == DeliveryResult::Summarized)
        .count();
    let messages = stage.services.taken("/api/chat.postMessage").len();
    println!(
        "{many} requests: {messages} messages in Slack, {summarized} of them told in summaries"
    );
    ensure!(
        messages <= many / 3 && summarized >= many / 2,
        "{messages} {summarized}"
    );
    let ids: std::collections::BTreeSet<String> = stage
        .services
        .taken("/hook")
        .iter()
        .map(|it| it.json()["id"].to_string())
        .collect();
    ensure!(ids.len() == many, "{}", ids.len());
    Ok(())
}

#[tokio::test]
async fn requests_that_come_one_after_the_other_are_few_messages_too() -> Result<()> {
    let stage = Stage::new("trickle").await?;
    stage.policy(json!({"channels": [bot()]})).await?;
    stage.two_versions().await?;
    let controller = stage.start(&["--max-open-requests", "300"]).await?;
    for number in 0..24 {
        // One at a time: each could be told before the next one comes.
        let name = format!("api-{number}");
        stage.ask(&name).await?;
        stage.scene.plan(&name).await?;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    eventually("each is told", PATIENCE * 3, async || {
        for number in 0..24 {
            let kept = stage.kept(&format!("api-{number}")).await?;
            let told = kept.channels.iter().flat_map(|it| &it.told);
            ensure!(told.count() == 1, "api-{number}");
        }
        Ok(())
    })
    .await
    .with_context(|| controller.log())?;
    let messages = stage.services.taken("/api/chat.postMessage").len();
    ensure!(messages <= 13, "{messages}");
    Ok(())
}
