//! When a rollback has succeeded, and when it has not yet.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use rollback_api::{Reason, Word};
use serde_json::{Value, json};
use testkit::health::{HEALTH_PORT, HealthServer};
use testkit::scene::PATIENCE;
use testkit::{User, eventually, shop};

use crate::stage::{
    APP, REQUEST, ensure_ended, number, progress, ready_since, replica_set, scene,
    start_rolling_out, template,
};

/// Replicas, updated and available, as the Deployment says.
fn counts(deployment: &Value) -> [i64; 3] {
    ["replicas", "updatedReplicas", "availableReplicas"]
        .map(|field| number(deployment, &format!("/status/{field}")))
}

#[tokio::test]
async fn case_48_success_takes_every_replica() -> Result<()> {
    let scene = scene("case-48").await?;
    let slow = shop::deployment(APP).ready_after(Duration::from_secs(2));
    scene.deploy(slow.version("v1")).await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    start_rolling_out(&scene).await?;
    // Each look reads the request first and the Deployment after it: once the former says that the
    // rollout is complete, the latter must show it.
    let mut looks = Vec::new();
    eventually("the request has ended", PATIENCE, async || {
        let status = scene.status(REQUEST).await?;
        let deployment = scene.deployment(APP).await?;
        let rollout = status.targets.first().and_then(|t| t.rollout.clone());
        let complete = rollout.is_some_and(|rollout| rollout.completed_at.is_some());
        looks.push((complete, counts(&deployment)));
        ensure!(status.outcome.is_some(), "it is still under way");
        Ok(())
    })
    .await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    for (complete, counts) in &looks {
        assert!(!complete || *counts == [2, 2, 2], "{looks:?}");
    }
    let halfway = |(complete, [replicas, updated, available]): &(bool, [i64; 3])| {
        !complete && (*updated < 2 || *available < 2 || *replicas > 2)
    };
    assert!(looks.iter().filter(|look| halfway(look)).count() > 3);

    let old = replica_set(&scene, "v1").await?;
    assert_eq!(template(&scene.deployment(APP).await?), template(&old));
    let rollout = progress(&request)?.rollout.context("no rollout")?;
    let completed = rollout.completed_at.context("not complete")?;
    let ready = ready_since(&scene.client(User::Admin).await?, &old).await?;
    assert_eq!(ready.len(), 2);
    assert!(ready.iter().all(|since| *since <= completed));
    assert_eq!(
        (rollout.desired, rollout.updated, rollout.available),
        (2, 2, 2)
    );
    Ok(())
}

#[tokio::test]
async fn case_50_without_replicas_nothing_is_verified() -> Result<()> {
    let scene = scene("case-50").await?;
    let pods = HealthServer::start().await?;
    let check = json!({"name": "live", "port": HEALTH_PORT, "path": "/health/live"});
    scene
        .policy(json!({"verification": {"http": [check]}}))
        .await?;
    for version in ["v1", "v2"] {
        let deployment = shop::deployment(APP).pod_ip(&pods.ip());
        scene.deploy(deployment.version(version)).await?;
    }
    scene
        .patch_deployment(APP, json!({"spec": {"replicas": 0}}))
        .await?;
    scene
        .wait_for_deployment(APP, |deployment| {
            number(deployment, "/status/observedGeneration")
                == number(deployment, "/metadata/generation")
                && number(deployment, "/status/replicas") == 0
        })
        .await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert!(
        outcome.message.contains("no replicas"),
        "{}",
        outcome.message
    );
    assert!(progress(&request)?.verification.is_none());
    assert_eq!(pods.paths(), Vec::<String>::new());
    let after = scene.deployment(APP).await?;
    assert_eq!(number(&after, "/spec/replicas"), 0);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    Ok(())
}

#[tokio::test]
async fn case_51_ready_is_not_yet_available() -> Result<()> {
    const SECONDS: i64 = 3;
    let scene = scene("case-51").await?;
    for version in ["v1", "v2"] {
        let deployment = shop::deployment(APP)
            .set("/spec/minReadySeconds", json!(SECONDS))
            .set("/spec/strategy", json!({"type": "Recreate"}));
        scene.deploy(deployment.version(version)).await?;
    }
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    let completed = progress(&request)?
        .rollout
        .and_then(|rollout| rollout.completed_at)
        .context("not complete")?;
    let old = replica_set(&scene, "v1").await?;
    let ready = ready_since(&scene.client(User::Admin).await?, &old).await?;
    assert_eq!(ready.len(), 2);
    for since in ready {
        let waited = completed.duration_since(since);
        assert!(
            waited >= SignedDuration::from_secs(SECONDS),
            "complete {waited:#} after a pod became ready"
        );
    }
    Ok(())
}
