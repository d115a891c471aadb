//! Starts a cluster (or, given the name of a context, borrows one), says where it is, and holds it
//! until this process is ended.
//!
//! The tests kill this process to see that nothing of the cluster outlives it. It is also handy for
//! looking around: the printed folder holds a kubeconfig.

use testkit::Cluster;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cluster = match std::env::args().nth(1) {
        Some(context) => Cluster::existing(&context).await?,
        None => Cluster::start().await?,
    };
    let pids: Vec<String> = cluster.pids().iter().map(ToString::to_string).collect();
    println!("{}", cluster.folder().display());
    println!("{}", pids.join(" "));
    std::future::pending::<()>().await;
    Ok(())
}
