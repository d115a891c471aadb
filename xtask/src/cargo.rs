//! Running cargo.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// A call of cargo in the workspace.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(arguments)
        .current_dir(testkit::workspace())
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| !is_of_this_package(name)))
        .kill_on_drop(true);
    command
}

/// Runs cargo in the workspace; it has to succeed.
pub async fn cargo(arguments: &[&str], environment: &[(&str, &std::ffi::OsStr)]) -> Result<()> {
    let status = command(arguments)
        .envs(environment.iter().copied())
        .status()
        .await
        .context("running cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

/// What cargo told this program about its own package. Build scripts that look at it would run again each time that cargo is
/// called from here, and not from a shell.
fn is_of_this_package(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Builds the plugin, optimised, and says where it is.
pub async fn plugin() -> Result<PathBuf> {
    cargo(
        &["build", "--quiet", "--release", "--package", "rollback-cli"],
        &[],
    )
    .await?;
    Ok(testkit::target_folder().join("release/kubectl-rollback"))
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
