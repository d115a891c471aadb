//! `lastKnownGood`: whatever became of the history.

use anyhow::{Context as _, Result, ensure};
use rollback_api::ledger::Verdict;
use rollback_api::status::Source;
use rollback_api::{RESTARTED_AT, Reason};
use serde_json::json;
use testkit::Scene;
use testkit::shop::Behaviour;

use crate::stage::{
    APP, back_to_good, bad, delete_deployment, entry_of, good, ledger, prune, refused, scene,
    version, wait_for_entry, wait_for_sets,
};

#[tokio::test]
async fn after_three_bad_revisions_in_a_row() -> Result<()> {
    let scene = scene("three-bad", 1).await?;
    good(&scene, version("v1")).await?;
    let bad_ones = [
        ("v2", Behaviour::Crash),
        ("v3", Behaviour::ImagePull),
        ("v4", Behaviour::NeverReady),
    ];
    for (tag, behaviour) in bad_ones {
        bad(&scene, version(tag).behaviour(behaviour)).await?;
    }
    assert_eq!(back_to_good(&scene, "back").await?, "v1");
    Ok(())
}

/// Each of them was available for long enough, and bad in other ways.
#[tokio::test]
async fn after_versions_that_were_rolled_back_one_after_the_other() -> Result<()> {
    let scene = scene("one-by-one", 1).await?;
    for tag in ["v1", "v2", "v3"] {
        good(&scene, version(tag)).await?;
    }
    assert_eq!(back_to_good(&scene, "first").await?, "v2");
    assert_eq!(back_to_good(&scene, "second").await?, "v1");
    // Nothing good is left but what runs.
    refused(&scene, "third", Reason::NoKnownGood).await?;
    let verdicts = ledger(&scene).await?.spec.templates;
    let bad = verdicts
        .iter()
        .filter(|entry| entry.verdict == Verdict::Bad);
    assert_eq!(bad.count(), 2);
    Ok(())
}

#[tokio::test]
async fn after_two_restarts() -> Result<()> {
    let scene = scene("restarts", 1).await?;
    good(&scene, version("v1")).await?;
    good(&scene, version("v2")).await?;
    for when in ["2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"] {
        good(
            &scene,
            version("v2").template_annotation(RESTARTED_AT, when),
        )
        .await?;
    }
    assert_eq!(back_to_good(&scene, "back").await?, "v1");
    Ok(())
}

async fn ensure_from_ledger(scene: &Scene, request: &str) -> Result<()> {
    let plan = scene.request(request).await?.status.and_then(|s| s.plan);
    let target = plan
        .context("no plan")?
        .targets
        .pop()
        .context("no target")?;
    ensure!(target.source == Source::Ledger, "{target:?}");
    Ok(())
}

#[tokio::test]
async fn when_the_replica_sets_were_deleted() -> Result<()> {
    let scene = scene("deleted", 1).await?;
    let v1 = good(&scene, version("v1").env("GREETING", "good morning")).await?;
    good(&scene, version("v2")).await?;
    prune(&scene).await?;
    assert_eq!(back_to_good(&scene, "back").await?, "v1");
    ensure_from_ledger(&scene, "back").await?;
    let restored = scene.deployment(APP).await?;
    assert_eq!(restored["spec"]["template"], v1["spec"]["template"]);
    Ok(())
}

/// Two restarts and a bad version later there is no trace of version 1 but the ledger.
#[tokio::test]
async fn without_any_history() -> Result<()> {
    let scene = scene("limit-0", 1).await?;
    let version = |tag: &str| version(tag).set("/spec/revisionHistoryLimit", json!(0));
    scene
        .policy(json!({"ledger": {"soakSeconds": 1, "keepTemplates": 1}}))
        .await?;
    good(&scene, version("v1")).await?;
    good(&scene, version("v2")).await?;
    for when in ["2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"] {
        good(
            &scene,
            version("v2").template_annotation(RESTARTED_AT, when),
        )
        .await?;
    }
    wait_for_sets(&scene, 1).await?;
    assert_eq!(back_to_good(&scene, "back").await?, "v1");
    ensure_from_ledger(&scene, "back").await
}

#[tokio::test]
async fn not_when_it_was_never_available_for_long_enough() -> Result<()> {
    let scene = scene("not-soaked", 3600).await?;
    let v1 = scene.deploy(version("v1")).await?;
    wait_for_entry(&scene, &v1, "it runs", |e| e.available_since.is_some()).await?;
    let v2 = scene.deploy(version("v2")).await?;
    wait_for_entry(&scene, &v2, "it runs", |e| e.available_since.is_some()).await?;
    let entry = entry_of(&scene, &v1).await?;
    ensure!(
        entry.verdict == Verdict::Unknown && entry.available_since.is_none(),
        "{entry:?}"
    );
    let outcome = refused(&scene, "back", Reason::NoKnownGood).await?;
    ensure!(
        outcome.message.contains("ledger.soakSeconds"),
        "{}",
        outcome.message
    );
    Ok(())
}

#[tokio::test]
async fn an_older_one_when_the_newer_one_was_not_available_for_long_enough() -> Result<()> {
    let scene = scene("older", 1).await?;
    good(&scene, version("v1")).await?;
    // The rule changes: nothing else happens, and all that runs is looked at by it.
    scene
        .policy(json!({"ledger": {"soakSeconds": 3600}}))
        .await?;
    for tag in ["v2", "v3"] {
        let deployment = scene.deploy(version(tag)).await?;
        wait_for_entry(&scene, &deployment, "it runs", |entry| {
            entry.available_since.is_some() && entry.verdict == Verdict::Unknown
        })
        .await?;
    }
    assert_eq!(back_to_good(&scene, "back").await?, "v1");
    Ok(())
}

/// What has the same name is another one.
#[tokio::test]
async fn a_deployment_that_is_made_again_has_no_past() -> Result<()> {
    let scene = scene("again", 1).await?;
    let v1 = good(&scene, version("v1")).await?;
    good(&scene, version("v2")).await?;
    delete_deployment(&scene).await?;
    good(&scene, version("v3")).await?;
    let ledger = ledger(&scene).await?;
    let uid = |object: &serde_json::Value| object["metadata"]["uid"].clone();
    let now = scene.deployment(APP).await?;
    assert_eq!(json!(ledger.spec.target_ref.uid), uid(&now));
    assert_ne!(uid(&v1), uid(&now));
    assert_eq!(
        ledger.spec.templates.len(),
        1,
        "{:?}",
        ledger.spec.templates
    );
    let owners = ledger.metadata.owner_references.unwrap_or_default();
    assert_eq!(owners.len(), 1);
    assert_eq!(json!(owners[0].uid), uid(&now));
    refused(&scene, "back", Reason::NoKnownGood).await?;
    Ok(())
}
