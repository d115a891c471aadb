//! Approvals that are more than a phrase, plans that are all there is, and a pipeline that waits.

use anyhow::{Result, ensure};
use rollback_api::status::Approval;
use serde_json::json;
use testkit::User::{Admin, Approver, Requester};
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually};

use super::stage::{APPROVAL, WHY, plugin, run, said, scene};

/// The approval that was counted.
async fn counted(scene: &Scene) -> Result<Approval> {
    let status = scene.status("api-5xx").await?;
    status
        .approvals
        .into_iter()
        .next()
        .ok_or_else(|| anyhow::anyhow!("none is counted"))
}

#[tokio::test]
async fn a_risk_for_the_data_is_shown_and_accepted_with_a_reason() -> Result<()> {
    let scene = scene("data").await?;
    scene.two_schemas("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.wait_for("api-5xx", "Blocked").await?;
    let items = "incident-documented,stakeholders-notified,previous-version-fits-data,required-columns-present,enums-known";
    let words = [
        "approve",
        "api-5xx",
        "--wait",
        "--confirm",
        "ROLLBACK PRODUCTION",
        "--checklist",
        items,
    ];
    run(&scene, Approver, &words)
        .await?
        .ended(2)?
        .prints(&["Risk for the data:"])?
        .complains(&["add --accept-data-risk"])?;
    let why = "the column is still there, asked the database team";
    let words = [&words[..], &["--accept-data-risk", why]].concat();
    run(&scene, Approver, &words)
        .await?
        .ended(0)?
        .prints(&["Succeeded"])?;
    ensure!(counted(&scene).await?.accepts_data_risk.as_deref() == Some(why));
    Ok(())
}

#[tokio::test]
async fn one_person_breaks_the_glass() -> Result<()> {
    let scene = scene("glass").await?;
    scene
        .policy(json!({"approvals": {"breakGlass": true}}))
        .await?;
    let bind = [
        "create",
        "rolebinding",
        "glass",
        "-n",
        scene.ns(),
        "--clusterrole",
        "rollback-break-glass",
        "--user",
        Requester.as_str(),
    ];
    scene.cluster.kubectl_ok(Admin, &bind, "").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let why = "shop is down, nobody else on call answers since 03:10";
    let words = [
        "approve",
        "api-5xx",
        "--wait",
        "--confirm",
        "ROLLBACK PRODUCTION",
        "--break-glass",
        why,
    ];
    run(&scene, Requester, &words)
        .await?
        .ended(0)?
        .prints(&["Succeeded"])?;
    ensure!(counted(&scene).await?.break_glass.as_deref() == Some(why));
    Ok(())
}

#[tokio::test]
async fn a_pipeline_waits_for_the_end_and_a_plan_alone_is_one() -> Result<()> {
    let scene = scene("pipeline").await?;
    scene.two_versions("api").await?;
    let ask = [
        &[
            "create",
            "deployment/api",
            "--to",
            "previous",
            "--wait",
            "--timeout",
            "30m",
        ][..],
        &WHY,
    ]
    .concat();
    let words = [&ask[..], &["--name", "only", "--plan-only", "-o", "json"]].concat();
    let planned = run(&scene, Requester, &words).await?.ended(0)?.json()?;
    ensure!(
        planned["status"]["outcome"]["reason"] == "DryRun",
        "{planned}"
    );
    ensure!(
        planned["status"]["plan"]["targets"][0]["to"]
            .as_str()
            .is_some_and(|to| to.starts_with("revision-1@")),
        "{planned}"
    );

    let words = [&ask[..], &["--name", "api-5xx"]].concat();
    let pipeline = plugin(&scene, Requester).args(&words).spawn()?;
    eventually("the pipeline has asked", PATIENCE, async || {
        scene.request("api-5xx").await
    })
    .await?;
    // As somebody else, as an administrator may; the plan may still be on its way.
    let words = [
        &[
            "approve",
            "api-5xx",
            "--as",
            Approver.as_str(),
            "--as-group",
            "broxiva:leads",
        ],
        &APPROVAL[..],
    ]
    .concat();
    run(&scene, Admin, &words).await?.ended(0)?;
    said(pipeline)
        .await?
        .ended(0)?
        .prints(&["AwaitingApproval", "Succeeded"])?;
    ensure!(counted(&scene).await?.by.username == Approver.as_str());

    // A kubeconfig that is named counts, and one that is not there is said.
    run(
        &scene,
        Requester,
        &["status", "api-5xx", "--kubeconfig", "/nonexistent"],
    )
    .await?
    .ended(1)?
    .complains(&["The kubeconfig cannot be used"])?;
    let image = [
        &[
            "create",
            "api",
            "--to",
            "image=docker.io/nobody/nothing:v1",
            "--name",
            "no-image",
            "--wait",
        ][..],
        &WHY,
    ]
    .concat();
    run(&scene, Requester, &image)
        .await?
        .ended(3)?
        .prints(&["Refused"])?;
    Ok(())
}
