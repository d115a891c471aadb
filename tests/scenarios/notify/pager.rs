//! What a pager was told to open is closed again, whoever is told of ends.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use rollback_api::status::DeliveryResult;
use rollback_api::{ACKNOWLEDGED_BY, CANCELLED_BY};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{User, eventually};

use crate::services::Fault;
use crate::stage::{Stage, key};

/// What was done last to each incident that was ever triggered, by its key.
fn incidents(stage: &Stage) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for event in stage.services.taken("/v2/enqueue") {
        let event = event.json();
        let word = |of: &str| event[of].as_str().unwrap_or_default().to_owned();
        let action = word("event_action");
        if action == "trigger" || last.contains_key(&word("dedup_key")) {
            last.insert(word("dedup_key"), action);
        }
    }
    last
}

fn all_are_resolved(stage: &Stage) -> Result<()> {
    let incidents = incidents(stage);
    ensure!(!incidents.is_empty());
    ensure!(
        incidents.values().all(|it| it == "resolve"),
        "{incidents:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_incident_of_a_level_is_acknowledged_and_resolved_although_its_channel_hears_of_no_end()
-> Result<()> {
    let stage = Stage::new("pagerlevel").await?;
    stage
        .policy(json!({
            "channels": [{"name": "on-call", "on": {"events": ["ReviewOverdue"]},
                "pagerDuty": {"routingKey": key("pagerduty")}}],
            "escalation": {"levels": [{"afterSeconds": 1, "channels": ["on-call"]}]},
        }))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    stage
        .taken("/v2/enqueue", 1)
        .await
        .with_context(|| controller.log())?;
    let by_me = json!({ACKNOWLEDGED_BY: User::Approver.as_str()});
    stage
        .scene
        .annotate("api-5xx", User::Approver, by_me)
        .await?;
    eventually("the incident is acknowledged", PATIENCE, async || {
        let incidents = incidents(&stage);
        ensure!(
            incidents.values().all(|it| it == "acknowledge"),
            "{incidents:?}"
        );
        Ok(())
    })
    .await
    .with_context(|| controller.log())?;
    stage.scene.approve("api-5xx", User::Approver).await?;
    stage.settled("api-5xx").await?;
    all_are_resolved(&stage)?;
    // It did not ask to hear of the end.
    ensure!(stage.services.taken("/v2/change/enqueue").is_empty());
    Ok(())
}

#[tokio::test]
async fn the_one_incident_for_many_requests_is_resolved_with_the_last_of_them() -> Result<()> {
    let stage = Stage::new("pagermany").await?;
    let pager = json!({"name": "pager", "pagerDuty": {"routingKey": key("pagerduty")}});
    stage.policy(json!({"channels": [pager]})).await?;
    stage.two_versions().await?;
    let names: Vec<String> = (0..24).map(|number| format!("api-{number}")).collect();
    let asked = futures::stream::iter(&names).map(|name| stage.ask(name));
    asked.buffer_unordered(8).try_collect::<Vec<()>>().await?;
    // Nothing gets through until all of them wait.
    stage.services.break_down("/v2/enqueue", Fault::status(503));
    let controller = stage.start(&["--max-open-requests", "300"]).await?;
    for name in &names {
        stage.scene.plan(name).await?;
    }
    stage.services.mend("/v2/enqueue");
    let results = async || {
        let mut results = Vec::new();
        for name in &names {
            let kept = stage.kept(name).await?;
            let told = kept.channels.iter().flat_map(|it| &it.told);
            let first = told.map(|it| it.result).next();
            results.push(first.context("not yet")?);
        }
        anyhow::Ok(results)
    };
    let results = eventually("each is told", PATIENCE * 3, results)
        .await
        .with_context(|| controller.log())?;
    ensure!(results.contains(&DeliveryResult::Summarized), "{results:?}");
    let summaries = |stage: &Stage| {
        let keys = incidents(stage).into_keys();
        keys.filter(|it| it.starts_with("rollback/Summary-"))
            .count()
    };
    ensure!(summaries(&stage) == 1, "{:?}", incidents(&stage));
    for name in &names {
        let by_me = json!({CANCELLED_BY: User::Requester.as_str()});
        stage.scene.annotate(name, User::Requester, by_me).await?;
    }
    for name in &names {
        stage
            .settled(name)
            .await
            .with_context(|| controller.log())?;
    }
    all_are_resolved(&stage)?;
    ensure!(summaries(&stage) == 1, "{:?}", incidents(&stage));
    Ok(())
}
