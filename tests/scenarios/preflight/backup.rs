//! Undoing a rollback: back to what a backup keeps, as a request of its own.

use anyhow::{Context as _, Result, ensure};
use kube::api::PostParams;
use rollback_api::status::Source;
use rollback_api::{ARTIFACT_LABEL, CHANGE_CAUSE, Reason, RequestState};
use serde_json::{Value, json};
use testkit::{Scene, User, shop};

use crate::stage::{
    APP, REQUEST, create, delete, deploy_all, ends, ensure_reverts, goes_on, plan_of, previous,
    progress, refused, says_all, scene, template,
};

/// Rolls a Deployment back and gives the name of the backup that was made.
async fn rolled_back(scene: &Scene, name: &str, deployment: &str) -> Result<String> {
    scene.ask(name, deployment, previous()).await?;
    let request = goes_on(scene, name).await?;
    let backup = progress(&request)?.backup.context("no backup")?;
    Ok(backup.config_map)
}

fn to(backup: &str) -> Value {
    json!({"backup": backup})
}

#[tokio::test]
async fn a_rollback_is_undone_exactly() -> Result<()> {
    let scene = scene("undo").await?;
    scene.deploy(shop::deployment(APP).version("v1")).await?;
    let bad = shop::deployment(APP)
        .version("v2")
        .env("PASSWORD", "in clear")
        .template_annotation("broxiva.com/note", "kept as it was")
        .set(
            "/spec/template/spec/evictionResponders",
            json!([{"name": "drain.broxiva.example/checkout", "priority": 10_000}]),
        );
    let before = scene.deploy(bad).await?;
    let backup = rolled_back(&scene, REQUEST, APP).await?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));

    // The template is in quarantine since; it is allowed because it is named.
    let target = plan_of(&scene, "undo", to(&backup)).await?;
    assert_eq!(target.source, Source::Backup);
    assert_eq!(target.source_name(), Some(&*backup));
    assert_eq!(target.to.revision, Some(2));
    let undone = goes_on(&scene, "undo").await?;
    let after = scene.deployment(APP).await?;
    assert_eq!(
        serde_json::to_string(&template(&after))?,
        serde_json::to_string(&template(&before))?
    );
    assert_eq!(
        scene.replica_sets(APP).await?.len(),
        2,
        "another ReplicaSet"
    );
    let summary = undone.status.and_then(|status| status.summary);
    let shown = summary.map(|summary| summary.to).unwrap_or_default();
    ensure!(shown.starts_with(&format!("backup {backup}")), "{shown}");
    let cause = &after["metadata"]["annotations"][CHANGE_CAUSE];
    says_all(
        cause.as_str().unwrap_or_default(),
        &["RollbackRequest undo"],
    )?;
    ensure_reverts(&scene, 2)?;

    // Once more: it runs already.
    scene.ask("again", APP, to(&backup)).await?;
    let (_, outcome) = ends(&scene, "again", RequestState::Succeeded, Reason::NoOp).await?;
    says_all(&outcome.message, &[&backup])
}

/// The history need not hold what the backup keeps.
#[tokio::test]
async fn a_backup_outlives_the_history() -> Result<()> {
    let scene = scene("undo-pruned").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let before = scene.deployment(APP).await?;
    let backup = rolled_back(&scene, REQUEST, APP).await?;
    let sets = scene.replica_sets(APP).await?;
    let bad = sets.iter().find(|set| set.to_string().contains(":v2"));
    let bad = bad.and_then(|set| set["metadata"]["name"].as_str());
    delete(&scene, "apps/v1", "ReplicaSet", bad.context("no v2")?).await?;
    plan_of(&scene, "undo", to(&backup)).await?;
    goes_on(&scene, "undo").await?;
    assert_eq!(template(&scene.deployment(APP).await?), template(&before));
    Ok(())
}

#[tokio::test]
async fn what_is_no_backup_of_this_deployment_is_refused() -> Result<()> {
    let scene = scene("undo-no").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    scene.two_versions("broxiva-web").await?;
    let others = rolled_back(&scene, "web-5xx", "broxiva-web").await?;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "no-backup"},
        "data": {"deployment.json": scene.deployment(APP).await?.to_string()},
    });
    create(&scene, &map).await?;
    let incident = scene
        .status("web-5xx")
        .await?
        .incident
        .context("no incident")?;
    let cases = [
        (
            "unknown",
            "rollback-backup-0123",
            Reason::BackupNotFound,
            "there is no backup",
        ),
        (
            "no-backup",
            "no-backup",
            Reason::BackupNotFound,
            "there is no backup no-backup",
        ),
        (
            "a-report",
            &incident.config_map,
            Reason::BackupNotFound,
            "there is no backup",
        ),
        (
            "others",
            &others,
            Reason::BackupMismatch,
            "of another Deployment (broxiva-web",
        ),
    ];
    let strange = scene.ask("strange", APP, to("../secrets/db")).await;
    let said = format!("{:#}", strange.err().context("it was taken")?);
    ensure!(said.contains("no backup has such a name"), "{said}");
    for (name, backup, reason, says) in cases {
        scene.ask(name, APP, to(backup)).await?;
        refused(&scene, name, reason, &["spec.targets[0].to.backup", says]).await?;
    }
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    // Nor can anybody make one, label and all.
    let client = scene.client(User::Approver).await?;
    let maps = shop::api(&client, scene.ns(), "v1", "ConfigMap");
    let mut forged = map;
    forged["metadata"] = json!({"name": "forged", "labels": {ARTIFACT_LABEL: "backup"}});
    forged["immutable"] = json!(true);
    let forged = serde_json::from_value(forged)?;
    let answer = maps.create(&PostParams::default(), &forged).await;
    let forbidden = matches!(&answer, Err(kube::Error::Api(status)) if status.is_forbidden());
    ensure!(forbidden, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_backup_of_a_deployment_that_was_made_again_is_refused() -> Result<()> {
    let scene = scene("undo-recreated").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let backup = rolled_back(&scene, REQUEST, APP).await?;
    delete(&scene, "apps/v1", "Deployment", APP).await?;
    deploy_all(&scene, &["v1"]).await?;
    scene.ask("undo", APP, to(&backup)).await?;
    let says = ["deleted and made again", "status.targets"];
    refused(&scene, "undo", Reason::BackupMismatch, &says).await?;
    ensure_reverts(&scene, 1)
}

/// What was approved is what is in the backup; one that goes meanwhile is not replaced by a guess.
#[tokio::test]
async fn a_backup_that_goes_after_the_plan_is_refused() -> Result<()> {
    let scene = scene("undo-gone").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let backup = rolled_back(&scene, REQUEST, APP).await?;
    plan_of(&scene, "undo", to(&backup)).await?;
    delete(&scene, "v1", "ConfigMap", &backup).await?;
    scene.approve("undo", User::Approver).await?;
    let says = [
        &*format!("Backup {backup} was deleted"),
        "Nothing was changed",
    ];
    let message = refused(&scene, "undo", Reason::HistoryPruned, &says).await?;
    // More history does not bring a backup back.
    ensure!(!message.contains("revisionHistoryLimit"), "{message}");
    ensure_reverts(&scene, 1)
}
