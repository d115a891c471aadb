//! `cargo xtask test`: every test of the workspace, with one cluster for those that need it; then the
//! conformance table, which has to be what they have seen; then the tests on a real node, where there can be one.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use testkit::{Cluster, conformance};

use crate::Place;
use crate::cargo::cargo;
use crate::node;
use crate::session::{self, CtrlC};

/// Builds, starts the cluster, runs `cargo test`, and stops the cluster.
pub async fn run(place: Place, arguments: Vec<String>, ctrl_c: CtrlC) -> Result<()> {
    ctrl_c.or(test(&place, &arguments)).await
}

async fn test(place: &Place, extra: &[String]) -> Result<()> {
    if node::is_asked_for(extra) {
        return node::test(extra).await;
    }
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
    // Cargo builds the programs of the packages that are tested; some tests start those of others beside them.
    cargo(
        &[
            "build",
            "--locked",
            "--bins",
            "-p",
            "rollback-controller",
            "-p",
            "rollback-receiver",
        ],
        &[],
    )
    .await?;
    let cluster = session::cluster(place).await?;
    eprintln!(
        "the cluster is up; its data is in {}",
        cluster.folder().display()
    );
    let seen = Seen::new(place, extra, &cluster)?;
    cargo(
        &arguments,
        &[
            ("ROLLBACK_TEST_CLUSTER", cluster.folder().as_os_str()),
            (conformance::FOLDER, seen.folder.as_os_str()),
            // Those that need a real node skip themselves here; they run afterwards.
            (testkit::node::LATER, OsStr::new("1")),
        ],
    )
    .await?;
    seen.compare()?;
    drop(cluster);
    if place.context.is_none() && extra.is_empty() {
        node::test_if_possible().await?;
    }
    Ok(())
}

/// What the tests see of the conformance cases.
struct Seen {
    folder: PathBuf,
    /// Why it says nothing about the committed table.
    partial: Option<&'static str>,
}

impl Seen {
    fn new(place: &Place, extra: &[String], cluster: &Cluster) -> Result<Self> {
        if place.context.is_some() {
            // Another cluster, and perhaps another kubectl: not what the table is about.
            return Ok(Self {
                folder: cluster.folder().join("conformance"),
                partial: Some("on a borrowed cluster"),
            });
        }
        let folder = conformance::folder();
        if !extra.is_empty() {
            return Ok(Self {
                folder,
                partial: Some("when not all tests run"),
            });
        }
        // What an earlier run saw must not stand in for this one.
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        Ok(Self {
            folder,
            partial: None,
        })
    }

    /// Fails when the committed table is not what was seen.
    fn compare(&self) -> Result<()> {
        if let Some(when) = self.partial {
            eprintln!("{} is not compared {when}", conformance::PAGE);
            return Ok(());
        }
        let path = testkit::workspace().join(conformance::PAGE);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        conformance::compare(&committed, &conformance::page(&self.folder)?)?;
        eprintln!("{} is what the tests have seen", conformance::PAGE);
        Ok(())
    }
}
