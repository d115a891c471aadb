//! How clusters begin and end.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use testkit::{Cluster, User, eventually, shop};

/// Whether a process still runs. One that has ended and was not waited for yet does not count.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

async fn wait_until_gone(pids: &[u32]) {
    assert_eq!(pids.len(), 5, "a cluster is five processes");
    eventually("all are gone", Duration::from_secs(5), async || {
        let left: Vec<_> = pids.iter().filter(|pid| runs(**pid)).collect();
        anyhow::ensure!(left.is_empty(), "{left:?} still run");
        Ok(())
    })
    .await
    .unwrap();
}

/// Another process with a cluster: it, the cluster's folder, the cluster's processes.
fn hold(args: &[&str], kubeconfig: Option<&Path>) -> (Child, PathBuf, Vec<u32>) {
    let program = std::env::current_exe().unwrap();
    let program = program.ancestors().nth(2).unwrap().join("examples/hold");
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::piped());
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let folder = PathBuf::from(lines.next().unwrap().unwrap());
    let pids = lines.next().unwrap().unwrap();
    let pids = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    (child, folder, pids)
}

#[tokio::test]
async fn two_clusters_stand_side_by_side_and_leave_nothing_behind() {
    let (one, two) = tokio::join!(Cluster::start(), Cluster::start());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.server().unwrap(), two.server().unwrap());
    for (cluster, name) in [(&one, "first"), (&two, "second")] {
        let args = ["create", "namespace", name];
        cluster.kubectl_ok(User::Admin, &args, "").await.unwrap();
    }
    let foreign = one
        .kubectl(User::Admin, &["get", "namespace", "second"])
        .await;
    assert!(!foreign.unwrap().status.success());

    let ends = [one, two].map(|cluster| (cluster.pids(), cluster.folder().to_path_buf()));
    for (pids, folder) in ends {
        wait_until_gone(&pids).await;
        assert!(!folder.exists());
    }
}

#[tokio::test]
async fn a_cluster_does_not_outlive_a_killed_owner() {
    let (mut owner, folder, pids) = hold(&[], None);
    assert!(pids.iter().all(|pid| runs(*pid)));
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until_gone(&pids).await;

    // Nobody was left to remove the data; the next cluster does it.
    assert!(folder.exists());
    drop(Cluster::start().await.unwrap());
    assert!(!folder.exists());
}

#[tokio::test]
async fn another_process_can_join_a_cluster() {
    let cluster = super::bare().await;
    let joined = Cluster::attach(cluster.folder()).unwrap();
    let namespace = joined.namespace("joined").await.unwrap();
    assert!(joined.audit().is_some());
    assert!(joined.pids().is_empty());
    drop(joined);
    let args = ["get", "namespace", namespace.name()];
    cluster.kubectl_ok(User::Admin, &args, "").await.unwrap();
}

#[tokio::test]
async fn a_borrowed_cluster_is_used_by_impersonation() {
    let lender = Cluster::start().await.unwrap();
    let (mut borrower, folder, _) = hold(&["admin"], Some(lender.kubeconfig()));
    let cluster = Cluster::attach(&folder).unwrap();
    assert!(cluster.is_existing());
    assert!(cluster.audit().is_none());

    let namespace = cluster.namespace("borrowed").await.unwrap();
    let client = cluster.client(User::Requester).await.unwrap();
    let object = shop::deployment("api").build();
    shop::apply(&client, namespace.name(), &object)
        .await
        .unwrap();
    shop::wait_available(&client, namespace.name(), "api")
        .await
        .unwrap();
    let olga = cluster.client(User::Outsider).await.unwrap();
    shop::apply(&olga, namespace.name(), &object)
        .await
        .unwrap_err();
    let patches = lender.audit().unwrap().events(namespace.name()).unwrap();
    let rita = |event: &testkit::audit::Event| {
        event.impersonated.as_deref() == Some(User::Requester.as_str())
    };
    assert!(patches.iter().any(rita));

    let name = namespace.name().to_owned();
    drop(namespace);
    let args = ["wait", "--for=delete", "--timeout=20s", "namespace", &name];
    lender.kubectl_ok(User::Admin, &args, "").await.unwrap();
    borrower.kill().unwrap();
    borrower.wait().unwrap();
}
