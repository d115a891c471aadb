//! The runbook's way, command by command: ask, look, approve, follow, report.

use anyhow::{Context as _, Result, ensure};
use testkit::User::{Admin, Approver, Requester};
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually};

use super::stage::{APPROVAL, WHY, run, run_with, scene};

#[tokio::test]
async fn an_incident_from_the_first_command_to_the_review() -> Result<()> {
    let scene = scene("transcript").await?;
    scene.two_versions("api").await?;
    history(&scene).await?;
    ask(&scene).await?;
    look(&scene).await?;
    approve(&scene).await?;
    report(&scene).await?;
    quarantine(&scene).await?;
    back_again(&scene).await?;
    by_us(&scene).await
}

/// What is there to go back to?
async fn history(scene: &Scene) -> Result<()> {
    let said = run(scene, Requester, &["history", "deployment/api"])
        .await?
        .ended(0)?;
    said.prints(&["2 (runs)", "Unknown", "VERDICT"])?;
    let said = run(scene, Requester, &["history", "api", "-o", "json"])
        .await?
        .ended(0)?;
    let revisions = said.json()?;
    ensure!(revisions["revisions"][0]["runs"] == true, "{revisions}");
    let said = run(scene, Requester, &["diff", "api", "current", "revision-1"])
        .await?
        .ended(0)?;
    said.prints(&["v2", "v1"])?;
    let said = run(scene, Requester, &["diff", "api", "2", "1", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(
        said.json()?["changes"]
            .as_array()
            .is_some_and(|it| !it.is_empty())
    );
    Ok(())
}

/// Ask, in the script's own words.
async fn ask(scene: &Scene) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, "environments: {prod: {workloads: [api]}}")?;
    let mut words = vec!["prod", "previous", "--name", "api-5xx"];
    words.extend(WHY);
    let said = run_with(scene, &config, Requester, &words)
        .await?
        .ended(0)?;
    let said = said.prints(&["rollbackrequest.rollback.broxiva.com/api-5xx created"])?;
    said.complains(&["kubectl rollback approve api-5xx"])?;
    scene.plan("api-5xx").await?;
    Ok(())
}

/// Look.
async fn look(scene: &Scene) -> Result<()> {
    let said = run(scene, Approver, &["status"]).await?.ended(0)?;
    said.prints(&[
        "api-5xx",
        "AwaitingApproval",
        "deployment/api",
        "revision 1 (v1)",
    ])?;
    let said = run(scene, Approver, &["status", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(said.json()?["items"][0]["metadata"]["name"] == "api-5xx");
    let said = run(scene, Approver, &["status", "api-5xx"])
        .await?
        .ended(0)?;
    said.prints(&[
        "5xx above 1 % since 14:02 (ErrorRate), asked by rita@broxiva.example",
        "0 of 1",
        "Waiting",
    ])?;
    run(scene, Approver, &["status", "-o", "name"])
        .await?
        .ended(0)?
        .prints(&["/api-5xx\n"])?;
    Ok(())
}

/// Approve, and follow.
async fn approve(scene: &Scene) -> Result<()> {
    let mut words = vec!["approve", "api-5xx", "--wait"];
    words.extend(APPROVAL);
    let said = run(scene, Approver, &words).await?.ended(0)?;
    said.prints(&[
        "Plan     sha256:",
        "one approval, not by who asked",
        "revision 2 -> revision 1 (v1)",
        "1 of 1: anna@broxiva.example",
        "Succeeded",
        "└─",
    ])?;
    let said = run(scene, Requester, &["status", "api-5xx", "-w"])
        .await?
        .ended(0)?;
    said.prints(&["Succeeded", "report: kubectl rollback report api-5xx"])?;
    let said = run(scene, Requester, &["status", "api-5xx", "-w", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(said.json()?["status"]["outcome"]["result"] == "Succeeded");
    ensure!(scene.image("api").await?.ends_with("v1"));
    Ok(())
}

/// Report, and the review.
async fn report(scene: &Scene) -> Result<()> {
    let said = run(scene, Requester, &["report", "api-5xx"])
        .await?
        .ended(0)?;
    said.prints(&["# ", "anna@broxiva.example"])?;
    let said = run(scene, Requester, &["report", "api-5xx", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(said.json()?["request"]["name"] == "api-5xx");
    run(scene, Requester, &["report", "api-5xx", "-o", "md"])
        .await?
        .ended(0)?
        .prints(&["# "])?;
    let said = run(scene, Requester, &["report", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(said.json()?[0]["overdue"] == false);
    run(scene, Requester, &["report"])
        .await?
        .ended(0)?
        .prints(&["api-5xx", "REVIEW DUE"])?;
    run(scene, Requester, &["report", "api-5xx", "--reviewed"])
        .await?
        .ended(0)?;
    run(scene, Requester, &["report"])
        .await?
        .ended(0)?
        .complains(&["No review is to be held"])?;
    Ok(())
}

/// The bad version is in quarantine, and who may approve lifts it.
async fn quarantine(scene: &Scene) -> Result<()> {
    // The ledger is written beside the end of the request.
    eventually("the bad version is in quarantine", PATIENCE, async || {
        let said = run(scene, Approver, &["quarantine", "list"])
            .await?
            .ended(0)?;
        said.prints(&["Deployment/api", "v2"])?;
        Ok(())
    })
    .await?;
    let said = run(scene, Approver, &["quarantine", "list", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(said.json()?[0]["workload"]["name"] == "api");
    run(scene, Approver, &["history", "api", "-o", "wide"])
        .await?
        .ended(0)?
        .prints(&[
            "Bad, in quarantine",
            "rolled back by api-5xx",
            "brought back by api-5xx",
        ])?;
    run(scene, Requester, &["quarantine", "lift", "api"])
        .await?
        .ended(6)?
        .complains(&["Ask"])?;
    run(scene, Approver, &["quarantine", "lift", "api"])
        .await?
        .ended(0)?
        .prints(&["lifted"])?;
    eventually("the quarantine is lifted", PATIENCE, async || {
        let said = run(scene, Approver, &["quarantine", "list"])
            .await?
            .ended(0)?;
        said.complains(&["Nothing is in quarantine"])?;
        Ok(())
    })
    .await?;
    run(scene, Approver, &["quarantine", "lift", "api"])
        .await?
        .ended(1)?
        .complains(&["nothing is in quarantine"])?;
    Ok(())
}

/// The rollback is undone from its backup.
async fn back_again(scene: &Scene) -> Result<()> {
    let mut words = vec![
        "create",
        "--to",
        "backup-of=api-5xx",
        "--name",
        "undo",
        "-o",
        "json",
    ];
    words.extend(WHY);
    let made = run(scene, Requester, &words).await?.ended(0)?.json()?;
    ensure!(made["spec"]["targets"][0]["name"] == "api", "{made}");
    let mut words = vec!["approve", "undo", "--wait", "-o", "json"];
    words.extend(APPROVAL);
    let ended = run(scene, Approver, &words).await?.ended(0)?.json()?;
    ensure!(
        ended["status"]["outcome"]["result"] == "Succeeded",
        "{ended}"
    );
    ensure!(scene.image("api").await?.ends_with("v2"));
    Ok(())
}

/// Every write is the plugin's, by a name that Flux leaves alone.
async fn by_us(scene: &Scene) -> Result<()> {
    let api = scene.requests(Admin).await?;
    let request = api.get("undo").await?;
    let managers: Vec<String> = request
        .metadata
        .managed_fields
        .context("no managed fields")?
        .into_iter()
        .filter_map(|entry| entry.manager)
        .collect();
    ensure!(
        managers.iter().any(|name| name == "rollback-cli"),
        "{managers:?}"
    );
    ensure!(
        !managers.iter().any(|name| name.starts_with("kubectl")),
        "{managers:?}"
    );
    Ok(())
}
