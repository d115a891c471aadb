//! Running cargo.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Runs cargo in the workspace; it has to succeed.
pub async fn cargo(arguments: &[&str], environment: &[(&str, &std::ffi::OsStr)]) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(testkit::workspace())
        .envs(environment.iter().copied())
        .kill_on_drop(true)
        .status()
        .await
        .context("running cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

/// Builds the controller and says where it is.
pub async fn controller(release: bool) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--quiet", "--package", "rollback-controller"];
    if release {
        arguments.push("--release");
    }
    cargo(&arguments, &[]).await?;
    let profile = if release { "release" } else { "debug" };
    Ok(testkit::target_folder()
        .join(profile)
        .join("rollback-controller"))
}
