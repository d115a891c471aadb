//! What people are there to do is let through: flows that pass, each a few steps with a controller at work.

mod asking;
mod engine;
mod people;
mod things;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use testkit::Cluster;

use crate::stage::Stage;
use engine::Flow;

/// How many flows there have to be.
const AT_LEAST: usize = 40;
/// How many are under way at the same time.
const AT_ONCE: usize = 4;

#[test]
fn there_are_enough_of_them() -> Result<()> {
    let flows = [
        people::flows(),
        asking::flows(),
        people::staging(),
        people::glass(),
        things::flows(),
    ]
    .concat();
    let names: BTreeSet<&str> = flows.iter().map(|flow| flow.name).collect();
    ensure!(names.len() == flows.len(), "some are there twice");
    ensure!(names.len() >= AT_LEAST, "{} flows", names.len());
    println!("{} flows", names.len());
    Ok(())
}

/// With the rules of production, but two approvals: the first one ends nothing.
#[tokio::test]
async fn people_ask_approve_and_change_their_minds() -> Result<()> {
    let rules = json!({"approvals": {"required": 2}});
    let own = ["api", "web", "in-turn", "stripped", "taken-over"];
    run(
        "flows",
        rules,
        &own,
        [people::flows(), asking::flows()].concat(),
    )
    .await
}

#[tokio::test]
async fn staging_asks_less() -> Result<()> {
    let own = ["own", "no-list", "no-glass"];
    run(
        "flows-staging",
        json!({"environment": "staging"}),
        &own,
        people::staging(),
    )
    .await
}

#[tokio::test]
async fn one_person_alone() -> Result<()> {
    let rules = json!({"approvals": {"required": 2, "breakGlass": true}});
    run(
        "flows-glass",
        rules,
        &["alone", "api", "after-one"],
        people::glass(),
    )
    .await
}

/// Rules, ledgers, evidence and Deployments.
#[tokio::test]
async fn things_that_are_not_requests() -> Result<()> {
    let stage = Stage::empty(Cluster::shared().await?, "flows-things").await?;
    stage.deploy(&["api", "worker"]).await?;
    stage.artifacts().await?;
    stage.quarantine().await?;
    for flow in things::flows() {
        flow.run(&stage)
            .await
            .with_context(|| flow.name.to_owned())?;
    }
    Ok(())
}

async fn run(name: &str, rules: Value, deployments: &[&str], flows: Vec<Flow>) -> Result<()> {
    let mut stage = Stage::empty(Cluster::shared().await?, name).await?;
    stage.deploy(deployments).await?;
    stage.scene.policy(rules).await?;
    stage.scene.start_controller().await?;
    let stage = &stage;
    futures::stream::iter(flows)
        .map(|flow| async move { flow.run(stage).await.with_context(|| flow.name.to_owned()) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}
