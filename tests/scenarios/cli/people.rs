//! Who may say what: approvals, denials, cancellations and withdrawals in the words of the server.

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::User::{Approver, Outsider, Requester, SecondApprover};
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually};

use super::stage::{APPROVAL, asked, plugin, run, said, scene};

fn approve<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["approve", "api-5xx"], more].concat()
}

async fn nothing_is_in_the_mailbox(scene: &Scene) -> Result<()> {
    let request = scene.request("api-5xx").await?;
    let annotations = request.metadata.annotations.unwrap_or_default();
    ensure!(
        !annotations.contains_key(rollback_api::APPROVED_BY),
        "{annotations:?}"
    );
    Ok(())
}

#[tokio::test]
async fn who_may_not_approve_hears_why_before_anything_is_asked() -> Result<()> {
    let scene = asked("unapproved").await?;
    let rows = [
        (
            Requester,
            approve(&APPROVAL),
            6,
            "may not approve rollbacks",
        ),
        (Outsider, approve(&APPROVAL), 6, "You may not do that"),
        (
            Approver,
            approve(&[]),
            2,
            "--checklist incident-documented,stakeholders-notified --confirm 'ROLLBACK PRODUCTION'",
        ),
        (Approver, approve(&["-y"]), 2, "nobody is there to be asked"),
        (
            Approver,
            approve(&APPROVAL[..2]),
            2,
            "The phrase is missing",
        ),
        (
            Approver,
            approve(&[
                "-y",
                APPROVAL[0],
                APPROVAL[1],
                "--confirm",
                "rollback production",
            ]),
            2,
            "That is not the phrase",
        ),
        (
            Approver,
            approve(&["--plan", "sha256:0"]),
            7,
            "The plan is not the one that was read",
        ),
        (
            Approver,
            approve(&["--break-glass", "nobody else answers since 03:10"]),
            6,
            "break-glass",
        ),
        (
            Approver,
            vec!["withdraw", "api-5xx"],
            6,
            "nothing to take back",
        ),
        (
            SecondApprover,
            vec!["deny", "nothing", "--reason", "x"],
            1,
            "not found",
        ),
        (
            Requester,
            vec!["deny", "api-5xx", "--reason", "x"],
            6,
            "may not deny rollbacks",
        ),
        (
            Outsider,
            vec!["cancel", "api-5xx"],
            6,
            "You may not do that",
        ),
    ];
    for (user, words, code, text) in rows {
        run(&scene, user, &words)
            .await?
            .ended(code)?
            .complains(&[text])?;
        nothing_is_in_the_mailbox(&scene).await?;
    }
    who_asked_cancels_and_time_can_be_over(&scene).await
}

/// A plan that needs two, an approval that is taken back, and a denial: each by the plugin, and the end by its exit
/// code.
#[tokio::test]
async fn an_approval_is_taken_back_and_the_request_denied() -> Result<()> {
    let scene = scene("withdrawn").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let follower = plugin(&scene, Requester)
        .args(["status", "api-5xx", "-w"])
        .spawn()?;

    let words = approve(&APPROVAL);
    run(&scene, Approver, &words)
        .await?
        .ended(0)?
        .prints(&["approved", "2 different people approve"])?;
    counted(&scene, 1).await?;
    run(&scene, Approver, &["withdraw", "api-5xx", "-o", "name"])
        .await?
        .ended(0)?
        .prints(&["/api-5xx"])?;
    counted(&scene, 0).await?;
    // Right after another one: it waits until the mailbox is free.
    run(&scene, Approver, &words).await?.ended(0)?;
    run(
        &scene,
        SecondApprover,
        &["deny", "api-5xx", "--reason", "v1 is worse"],
    )
    .await?
    .ended(0)?
    .prints(&["denied"])?;
    said(follower)
        .await?
        .ended(3)?
        .prints(&["0 of 2", "Denied", "v1 is worse"])?;
    let words = approve(&APPROVAL);
    run(&scene, SecondApprover, &words)
        .await?
        .ended(3)?
        .complains(&["has ended"])?;
    Ok(())
}

async fn counted(scene: &Scene, many: usize) -> Result<()> {
    eventually("the approvals are counted", PATIENCE, async || {
        let approvals = scene.status("api-5xx").await?.approvals.len();
        ensure!(approvals == many, "{approvals} are");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_people_approve_one_after_the_other_without_waiting() -> Result<()> {
    let scene = scene("two-people").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let words = approve(&APPROVAL);
    run(&scene, Approver, &words).await?.ended(0)?;
    let words = [&words[..], &["--wait", "-o", "json"]].concat();
    let ended = run(&scene, SecondApprover, &words)
        .await?
        .ended(0)?
        .json()?;
    ensure!(
        ended["status"]["outcome"]["result"] == "Succeeded",
        "{ended}"
    );
    Ok(())
}

async fn who_asked_cancels_and_time_can_be_over(scene: &Scene) -> Result<()> {
    run(
        scene,
        Requester,
        &["status", "api-5xx", "-w", "--timeout", "1s"],
    )
    .await?
    .ended(5)?
    .complains(&["The time was over"])?;
    run(scene, Requester, &["cancel", "api-5xx", "-o", "json"])
        .await?
        .ended(0)?;
    run(scene, Requester, &["status", "api-5xx", "-w"])
        .await?
        .ended(3)?
        .prints(&["Cancelled"])?;
    run(scene, Requester, &["cancel", "api-5xx"])
        .await?
        .ended(1)?
        .complains(&["has ended"])?;
    Ok(())
}
