//! What `kubectl describe` shows of a request that waits: what changes, the risks, and how to approve.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testkit::{Scene, User};

use crate::expect::scene;

/// Most lines that it takes, without its Events: about one and a half screens. Whoever adds a line takes another away.
const MOST_LINES: usize = 60;

/// The description of a request, without its Events.
async fn described(scene: &Scene, name: &str) -> Result<String> {
    let arguments = ["-n", scene.ns(), "describe", "rbr", name];
    let output = scene.cluster.kubectl(User::Requester, &arguments).await?;
    let page = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{page}");
    let (page, _) = page
        .split_once("\nEvents:")
        .context("there are no Events")?;
    Ok(page.to_owned())
}

#[tokio::test]
async fn a_waiting_request_says_what_to_do() -> Result<()> {
    let scene = scene("described").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let plan = scene.plan("api-5xx").await?;
    scene.wait_for("api-5xx", "AwaitingApproval").await?;
    let page = described(&scene, "api-5xx").await?;
    let lines = page.lines().count();
    ensure!(lines <= MOST_LINES, "{lines} lines:\n{page}");
    let (from, to) = (
        &plan.targets[0].images[0].from,
        &plan.targets[0].images[0].to,
    );
    for part in [
        from.as_deref().context("no image runs")?,
        to.as_deref().context("there is no image to go back to")?,
        "kubectl annotate rbr",
        &plan.digest,
    ] {
        ensure!(page.contains(part), "{part} is not in:\n{page}");
    }
    Ok(())
}
