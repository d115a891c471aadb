//! `cargo xtask test`: every test of the workspace, with one cluster for those that need it.

use anyhow::Result;

use crate::Place;
use crate::cargo::cargo;
use crate::session::{self, CtrlC};

/// Builds, starts the cluster, runs `cargo test`, and stops the cluster.
pub async fn run(place: Place, arguments: Vec<String>, ctrl_c: CtrlC) -> Result<()> {
    ctrl_c.or(test(&place, &arguments)).await
}

async fn test(place: &Place, extra: &[String]) -> Result<()> {
    session::prepare(place).await?;
    let mut arguments = vec!["test", "--locked"];
    if extra
        .iter()
        .all(|argument| argument != "-p" && argument != "--package")
    {
        arguments.push("--workspace");
    }
    arguments.extend(extra.iter().map(String::as_str));
    // Compiled before the cluster is started, so that the two do not fight for the processors.
    let only_build: Vec<&str> = arguments
        .iter()
        .copied()
        .take_while(|argument| *argument != "--")
        .chain(["--no-run"])
        .collect();
    cargo(&only_build, &[]).await?;
    let cluster = session::cluster(place).await?;
    eprintln!(
        "the cluster is up; its data is in {}",
        cluster.folder().display()
    );
    cargo(
        &arguments,
        &[("ROLLBACK_TEST_CLUSTER", cluster.folder().as_os_str())],
    )
    .await
}
