//! Starting a cluster whose one node is real.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::{app, cgroups, config, config::Paths, door, place, tell};
use crate::{
    Cluster, User,
    build::{self, Binaries},
    cluster::{NODE, is_ready},
    poll::eventually,
    process::{Launch, Process},
};

const PATIENCE: Duration = Duration::from_mins(1);

/// Starts the control plane, then the node, and installs this project.
pub(super) async fn start() -> Result<Cluster> {
    place::furnish_network()?;
    let binaries = tokio::task::spawn_blocking(build::ensure_node).await??;
    let begin = Instant::now();
    let cluster = Cluster::start_without_nodes(binaries.clone()).await?;
    let node_begins = Instant::now();
    let data = cluster.folder().join("node");
    place::furnish_mounts(&data)?;
    let group = cgroups::name(cluster.folder());
    cgroups::make(&group)?;
    let paths = Paths(&data);
    configure(&cluster, &paths, &group)?;

    let containerd = containerd(&binaries, &paths)?;
    import_images(&binaries, &paths, &containerd).await?;
    cluster.adopt(containerd);
    let kubelet = kubelet(&binaries, &paths)?;
    cluster.adopt(kubelet);
    wait_until_ready(&cluster).await?;
    let node_took = node_begins.elapsed();
    cluster.install().await?;
    tell(&format!(
        "a real node: the cluster is up after {:?}, {node_took:?} of it for the node; its data is in {}",
        begin.elapsed(),
        cluster.folder().display()
    ));
    Ok(cluster)
}

/// Writes all settings.
fn configure(cluster: &Cluster, paths: &Paths<'_>, group: &str) -> Result<()> {
    let write = |name: &str, content: &str| -> Result<()> {
        let path = paths.path(name);
        if let Some(folder) = Path::new(&path).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {path}"))
    };
    let kubeconfig = config::kubeconfig(&cluster.server()?, &cluster.folder().join("ca.crt"));
    write("containerd.toml", &config::containerd(paths))?;
    write("cni/10-pods.conflist", &config::network(paths).to_string())?;
    write("kubelet.json", &config::kubelet(paths, group).to_string())?;
    write("kubeconfig", &kubeconfig.to_string())?;
    // There is nobody to ask in this network.
    write("resolv.conf", "")
}

fn containerd(binaries: &Binaries, paths: &Paths<'_>) -> Result<Process> {
    let launch = Launch {
        name: "containerd",
        program: Path::new("containerd"),
        args: vec!["--config".to_owned(), paths.path("containerd.toml")],
        env: vec![],
        log: paths.0.join("containerd.log"),
    };
    Process::start(binaries.leash().as_deref(), launch)
}

/// Makes the images and hands them to containerd, once it listens.
async fn import_images(binaries: &Binaries, paths: &Paths<'_>, containerd: &Process) -> Result<()> {
    let [app, image] = binaries
        .app_and_image()
        .map(|program| program.display().to_string());
    let archive = paths.path("images.tar");
    let mut arguments = vec![app, archive.clone(), format!("{}=pause", config::PAUSE)];
    arguments.extend(app::IMAGES.map(|image| format!("{image}=serve")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    place::run(&image, &arguments)?;
    eventually("containerd takes the images", PATIENCE, async || {
        if containerd.check().is_err() {
            return Ok(containerd.check());
        }
        door::import_at(paths, &archive)?;
        Ok(Ok(()))
    })
    .await?
}

fn kubelet(binaries: &Binaries, paths: &Paths<'_>) -> Result<Process> {
    let launch = Launch {
        name: "kubelet",
        program: &binaries.kubelet(),
        args: vec![
            format!("--config={}", paths.path("kubelet.json")),
            format!("--kubeconfig={}", paths.path("kubeconfig")),
            format!("--root-dir={}", paths.path("kubelet")),
            format!("--cert-dir={}", paths.path("kubelet-pki")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", config::NODE_ADDRESS),
        ],
        env: vec![],
        log: paths.0.join("kubelet.log"),
    };
    Process::start(binaries.leash().as_deref(), launch)
}

/// Waits until the node is ready and pods are welcome on it.
async fn wait_until_ready(cluster: &Cluster) -> Result<()> {
    let nodes: Api<Node> = Api::all(cluster.client(User::Admin).await?);
    eventually("the real node is ready", PATIENCE, async || {
        if cluster.check().is_err() {
            return Ok(cluster.check());
        }
        let node = nodes.get(NODE).await?;
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        ensure!(is_ready(&node), "it is {:?}", node.status);
        ensure!(taints.is_none_or(Vec::is_empty), "it has {taints:?}");
        Ok(Ok(()))
    })
    .await?
}
