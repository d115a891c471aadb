//! Starts a cluster, says where it is, and holds it until this process is ended.
//!
//! The tests kill this process to see that nothing of the cluster outlives it. It is also handy for
//! looking around: the printed folder holds a kubeconfig.

use testkit::Cluster;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let pids: Vec<String> = cluster.pids().iter().map(ToString::to_string).collect();
    println!("{}", cluster.folder().display());
    println!("{}", pids.join(" "));
    std::future::pending::<()>().await;
    Ok(())
}
