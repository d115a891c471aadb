//! The embedded cluster itself: it starts, it works, it leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use testkit::{
    Cluster, User, eventually,
    shop::{self, Behaviour, deployment},
};
use tokio::sync::OnceCell;

/// One bare cluster for the tests of this file that need no more.
async fn cluster() -> &'static Cluster {
    static BARE: OnceCell<Cluster> = OnceCell::const_new();
    BARE.get_or_init(|| async {
        let start = Instant::now();
        let cluster = Cluster::start().await.unwrap();
        eprintln!("cluster started in {:?}", start.elapsed());
        cluster
    })
    .await
}

/// Whether a process still runs. One that has ended and was not waited for yet does not count.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some(None | Some('Z' | 'X')))
}

async fn assert_gone(pids: &[u32]) {
    eventually(
        "all processes are gone",
        Duration::from_secs(5),
        async || {
            let left: Vec<_> = pids.iter().filter(|pid| runs(**pid)).collect();
            anyhow::ensure!(left.is_empty(), "{left:?} still run");
            Ok(())
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn the_real_deployment_controller_rolls_out_on_fake_nodes() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("rollout").await.unwrap();
    let client = cluster.client(User::Requester).await.unwrap();
    for version in ["v1", "v2"] {
        let start = Instant::now();
        let object = deployment("api")
            .version(version)
            .pod_ip("127.9.8.7")
            .build();
        shop::apply(&client, namespace.name(), &object)
            .await
            .unwrap();
        shop::wait_available(&client, namespace.name(), "api")
            .await
            .unwrap();
        eprintln!("{version} rolled out in {:?}", start.elapsed());
    }
    let pods = shop::api(&client, namespace.name(), "v1", "Pod");
    for pod in pods.list(&kube::api::ListParams::default()).await.unwrap() {
        assert_eq!(pod.data["status"]["podIP"], "127.9.8.7");
    }
    let history = shop::api(&client, namespace.name(), "apps/v1", "ReplicaSet");
    let history = history
        .list(&kube::api::ListParams::default())
        .await
        .unwrap();
    assert_eq!(history.items.len(), 2);
}
