//! What a pod needs to be a client of the API server: its image on the node, and the address of the `kubernetes` Service.

use std::path::Path;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{config::Paths, place};
use crate::Cluster;

/// The address of the `kubernetes` Service, the first of its range.
const SERVICE: &str = "10.96.0.1";

/// The way from pods to the API server, as long as it is kept. There is no kube-proxy on this node, and the server listens on
/// loopback.
pub struct Door(JoinHandle<()>);

impl Door {
    /// Opens it. Once in the life of a node, in its namespaces.
    pub async fn open(cluster: &Cluster) -> Result<Self> {
        place::run(
            "ip",
            &["address", "add", &format!("{SERVICE}/32"), "dev", "node0"],
        )?;
        let server = cluster.server()?;
        let upstream = server.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind((SERVICE, 443)).await?;
        Ok(Self(tokio::spawn(async move {
            while let Ok((pod, _)) = listener.accept().await {
                tokio::spawn(forward(pod, upstream.clone()));
            }
        })))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn forward(mut pod: TcpStream, upstream: String) {
    // A connection that ends, at whichever end, ends for both: nobody has to be told more than that.
    if let Ok(mut server) = TcpStream::connect(upstream).await {
        drop(tokio::io::copy_bidirectional(&mut pod, &mut server).await);
    }
}

/// Hands an archive of images to the container runtime of the node.
pub fn import(cluster: &Cluster, archive: &Path) -> Result<()> {
    let data = cluster.folder().join("node");
    import_at(&Paths(&data), &archive.display().to_string())
}

/// The same while the node is being made.
pub(super) fn import_at(paths: &Paths<'_>, archive: &str) -> Result<()> {
    let socket = paths.socket();
    let import = [
        "--address",
        &socket,
        "--namespace",
        "k8s.io",
        "images",
        "import",
        archive,
    ];
    place::run("ctr", &import)
}
