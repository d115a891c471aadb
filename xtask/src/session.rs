//! A cluster for the length of a command, gone again however the command ends.

use anyhow::{Result, bail};
use testkit::Cluster;

use crate::Place;

/// Resolves when the user presses Ctrl-C.
pub struct CtrlC;

impl CtrlC {
    /// Runs `work`, or gives up when the user does. What `work` has started is dropped, and with it
    /// every process, before this returns.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; everything that was started is stopped"),
        }
    }
}

/// Runs an asynchronous command to its end.
pub fn run(work: impl AsyncFnOnce(CtrlC) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work(CtrlC))
}

/// Builds what the cluster is made of, or says what is missing, before anything that takes long.
pub async fn prepare(place: &Place) -> Result<()> {
    let existing = place.context.is_some();
    let build = move || {
        if existing {
            testkit::build::ensure_for_existing()
        } else {
            testkit::build::ensure()
        }
    };
    tokio::task::spawn_blocking(build).await??;
    Ok(())
}

/// The cluster that the user asked for, with this project installed.
pub async fn cluster(place: &Place) -> Result<Cluster> {
    let cluster = match &place.context {
        Some(context) => Cluster::existing(context).await?,
        None => Cluster::start().await?,
    };
    cluster.install().await?;
    Ok(cluster)
}
