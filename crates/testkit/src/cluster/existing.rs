//! Borrowing somebody else's cluster.

use std::{fs, sync::Mutex};

use anyhow::{Context, Result, ensure};
use kube::Client;
use tokio::process::Command;

use super::{Cluster, kubeconfig, user::User};
use crate::{build::Binaries, folder::Folder};

pub(super) async fn borrow(binaries: Binaries, context: &str) -> Result<Cluster> {
    let folder = Folder::new()?;
    let path = folder.path().to_path_buf();
    // kubectl knows every way in which a kubeconfig can be put together.
    let view = Command::new(binaries.kubectl())
        .args([
            "config",
            "view",
            "--raw",
            "--flatten",
            "--minify",
            "-o",
            "json",
        ])
        .args(["--context", context])
        .output()
        .await
        .context("cannot run kubectl")?;
    let errors = String::from_utf8_lossy(&view.stderr);
    ensure!(view.status.success(), "no context {context}: {errors}");
    let config = kubeconfig::impersonating(&serde_json::from_slice(&view.stdout)?)?;
    fs::write(path.join("kubeconfig"), config.to_string())?;

    let mut cluster = Cluster {
        processes: Mutex::default(),
        ports: None,
        binaries,
        kubeconfig: path.join("kubeconfig"),
        audit: None,
        path,
        existing: true,
        _folder: Some(folder),
    };
    let client = Client::try_from(cluster.config(User::Admin).await?)?;
    cluster.start_nodes(&client).await?;
    cluster.write_state()?;
    Ok(cluster)
}
