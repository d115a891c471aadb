//! `kubectl rollback status -w --logs`, with containers that really say something.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testkit::User;
use testkit::node::app::{APP, version};
use tokio::process::Command;

use crate::causes::dies;
use crate::stage::{REQUEST, deploy_unwell, scene};

/// Clears the screen, and sets the title of the window.
const EVIL: &str = "cart opened\u{1b}[2J\u{1b}]0;pwned\u{7}";

#[tokio::test]
async fn the_logs_of_the_new_pods_are_followed() -> Result<()> {
    let Some(scene) = scene("plugin-logs").await? else {
        return Ok(());
    };
    let plugin = testkit::target_folder().join("debug/kubectl-rollback");
    ensure!(
        plugin.exists(),
        "it is not built yet: cargo build -p rollback-cli"
    );
    scene
        .policy(json!({"rollout": {"graceSeconds": 8}}))
        .await?;
    // It says something when it ends.
    deploy_unwell(&scene, dies("3").env("LINES", EVIL)).await?;
    scene.deploy(version("v2")).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let watching = Command::new(plugin)
        .env("KUBECONFIG", scene.cluster.kubeconfig())
        .args(["--context", User::Requester.context(), "-n", scene.ns()])
        .args(["status", REQUEST, "-w", "--logs"])
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    scene.approve(REQUEST, User::Approver).await?;
    let output = watching.wait_with_output().await?;
    let said = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(4), "{said}{errors}");
    let line = said
        .lines()
        .find(|line| line.contains("cart opened"))
        .context(said.clone())?;
    ensure!(
        line.starts_with("shop-") && line.contains(": cart opened"),
        "{line:?}"
    );
    ensure!(!said.contains(['\u{1b}', '\u{7}']), "{said:?}");
    Ok(())
}
