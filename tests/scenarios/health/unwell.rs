//! The version to go back to is not well either: what the policy says is done, once.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use rollback_api::ledger::Verdict;
use rollback_api::{Reason, RequestState, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::CONTROLLER;
use testkit::{Scene, User};

use crate::stage::{ends, policy, roll_back, scene, target, version};

/// Three versions; how `v1` and `v2` answer is up to the test.
async fn three(scene: &Scene) -> Result<[HealthServer; 3]> {
    let servers = [
        HealthServer::start().await?,
        HealthServer::start().await?,
        HealthServer::start().await?,
    ];
    for (name, server) in ["v1", "v2", "v3"].iter().zip(&servers) {
        scene.deploy(version(name, server)).await?;
    }
    Ok(servers)
}

fn checks(on_failure: &str) -> Value {
    json!({"timeoutSeconds": 3, "onFailure": on_failure, "http": [
        {"name": "live", "port": HEALTH_PORT, "preset": "Live", "periodSeconds": 1}
    ]})
}

/// How often the controller wrote the Deployment.
fn writes(scene: &Scene) -> Result<usize> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let patches = audit.deployment_patches(scene.ns(), "api")?;
    let ours = patches
        .iter()
        .filter(|patch| patch.user == CONTROLLER && patch.succeeded() && !patch.is_dry_run());
    Ok(ours.count())
}

async fn verdicts(scene: &Scene) -> Result<Vec<Verdict>> {
    let api: Api<RevisionLedger> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let ledger = api
        .get(&ledger::name(WorkloadKind::Deployment, "api"))
        .await?;
    let templates = ledger.spec.templates.iter();
    Ok(templates.map(|entry| entry.verdict).collect())
}

#[tokio::test]
async fn an_older_version_is_tried_and_does() -> Result<()> {
    let scene = scene("older-does").await?;
    let [_v1, v2, _v3] = three(&scene).await?;
    v2.answer(Answer::status(500));
    policy(&scene, checks("TryOlder")).await?;
    roll_back(&scene, "api-5xx").await?;
    let message = ends(
        &scene,
        "api-5xx",
        RequestState::Succeeded,
        Reason::RolledBack,
    )
    .await?;
    ensure!(message.contains("not well either"), "{message}");
    ensure!(scene.image("api").await?.ends_with(":v1"));
    let fallback = target(&scene, "api-5xx").await?.fallback;
    ensure!(fallback.is_some_and(|fallback| fallback.reason == Reason::ChecksFailed));
    let verdicts = verdicts(&scene).await?;
    ensure!(
        verdicts
            .iter()
            .filter(|verdict| **verdict == Verdict::Bad)
            .count()
            == 2
            && verdicts.contains(&Verdict::Good),
        "{verdicts:?}"
    );
    Ok(())
}

#[tokio::test]
async fn it_is_tried_once_and_stays_there() -> Result<()> {
    let scene = scene("older-fails").await?;
    let [v1, v2, _v3] = three(&scene).await?;
    v1.answer(Answer::status(500));
    v2.answer(Answer::status(500));
    policy(&scene, checks("TryOlder")).await?;
    roll_back(&scene, "api-5xx").await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Failed,
        Reason::ChecksFailed,
    )
    .await?;
    ensure!(scene.image("api").await?.ends_with(":v1"));
    let writes = writes(&scene)?;
    ensure!(writes == 2, "the Deployment was written {writes} times");
    Ok(())
}

#[tokio::test]
async fn a_policy_brings_back_what_was_there() -> Result<()> {
    let scene = scene("unwell-restore").await?;
    let [_v1, v2, _v3] = three(&scene).await?;
    v2.answer(Answer::status(500));
    policy(&scene, checks("Restore")).await?;
    roll_back(&scene, "api-5xx").await?;
    ends(
        &scene,
        "api-5xx",
        RequestState::Restored,
        Reason::RestoredFromBackup,
    )
    .await?;
    ensure!(scene.image("api").await?.ends_with(":v3"));
    Ok(())
}
