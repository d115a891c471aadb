//! The embedded cluster itself: it starts, it works, it leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod controller;
mod installed;
mod lifetime;
mod people;
mod proxy;
mod shop;

use std::time::Instant;

use testkit::Cluster;
use tokio::sync::OnceCell;

/// One bare cluster for all tests that need no more than that.
async fn bare() -> &'static Cluster {
    static BARE: OnceCell<Cluster> = OnceCell::const_new();
    BARE.get_or_init(|| async {
        let start = Instant::now();
        let cluster = Cluster::start().await.unwrap();
        eprintln!("the cluster started in {:?}", start.elapsed());
        cluster
    })
    .await
}
