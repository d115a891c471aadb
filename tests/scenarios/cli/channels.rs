//! What the plugin has to do with notification channels: acknowledging, trying one, what one would get, what it lacks.

use anyhow::{Context as _, Result, ensure};
use rollback_api::ACKNOWLEDGED_BY;
use serde_json::json;
use testkit::User::{Admin, Approver, Outsider};

use super::stage::{asked, run, scene};

#[tokio::test]
async fn who_may_approve_says_that_they_see_to_it_and_nobody_else_does() -> Result<()> {
    let scene = asked("ack").await?;
    run(&scene, Outsider, &["ack", "api-5xx"]).await?.ended(6)?;
    let told = run(&scene, Approver, &["ack", "api-5xx", "-o", "json"]).await?;
    let told = told.ended(0)?.json()?;
    let by = &told["metadata"]["annotations"][ACKNOWLEDGED_BY];
    ensure!(by == Approver.as_str(), "{told}");
    run(&scene, Approver, &["ack", "api-5xx"])
        .await?
        .ended(0)?
        .prints(&["rollbackrequest.rollback.broxiva.com/api-5xx acknowledged"])?;
    let request = scene.request("api-5xx").await?;
    let by = request
        .metadata
        .annotations
        .and_then(|all| all.get(ACKNOWLEDGED_BY).cloned());
    ensure!(by.as_deref() == Some(Approver.as_str()), "{by:?}");
    Ok(())
}

#[tokio::test]
async fn a_channel_shows_what_it_would_get_and_doctor_what_it_lacks() -> Result<()> {
    let scene = scene("channels").await?;
    let missing = ["notify", "test", "team"];
    run(&scene, Admin, &missing)
        .await?
        .ended(1)?
        .complains(&["has no notification channel team; it has: none"])?;
    let url = json!({"name": "channels", "key": "url"});
    let channels = json!([{"name": "team", "teams": {"webhook": url}}]);
    scene
        .policy(json!({"notifications": {"channels": channels}}))
        .await?;
    let shown = run(
        &scene,
        Admin,
        &["notify", "test", "team", "--dry-run", "-o", "json"],
    )
    .await?
    .ended(0)?
    .json()?;
    let card = &shown[0]["attachments"][0]["content"];
    ensure!(card["type"] == "AdaptiveCard", "{shown}");
    let lacks = async || {
        let findings = run(&scene, Admin, &["doctor", "-o", "json"])
            .await?
            .json()?;
        let all = findings.as_array().context("no list")?;
        let channel = all.iter().find(|it| it["check"] == "channel");
        Ok::<_, anyhow::Error>(
            channel
                .with_context(|| format!("no channel in {findings}"))?
                .clone(),
        )
    };
    let finding = lacks().await?;
    ensure!(
        finding["verdict"] == "Fault"
            && finding["seen"] == "team: the controller may not read the Secret channels",
        "{finding}"
    );
    // What it says to type works.
    let next = finding["next"].as_str().context("nothing to type")?;
    for command in next.split(" && ") {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        scene.cluster.kubectl_ok(Admin, &words, "").await?;
    }
    let finding = lacks().await?;
    ensure!(
        finding["seen"] == "team: the Secret channels does not exist",
        "{finding}"
    );
    let create = [
        "create",
        "secret",
        "generic",
        "channels",
        "-n",
        scene.ns(),
        "--from-literal=url=https://evil.example/x",
    ];
    scene.cluster.kubectl_ok(Admin, &create, "").await?;
    let finding = lacks().await?;
    ensure!(finding["verdict"] == "Ok", "{finding}");
    let refused = "--notify-allow does not name evil.example";
    run(&scene, Admin, &missing)
        .await?
        .ended(4)?
        .complains(&[refused])?;
    let told = run(&scene, Admin, &[&missing[..], &["-o", "json"]].concat()).await?;
    let told = told.ended(4)?.json()?;
    let says = told["message"]
        .as_str()
        .is_some_and(|it| it.contains(refused));
    ensure!(
        says && told["sent"] == false && told["channel"] == "team",
        "{told}"
    );
    Ok(())
}
