//! Starting a control plane on loopback.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};

use super::{
    Cluster,
    components::{self, Nodes, Serves, Site},
    kubeconfig, tls,
    user::User,
};
use crate::{build::Binaries, folder::Folder, poll::eventually, ports::Ports};

const NODES: usize = 5;
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn start(binaries: Binaries, nodes: Nodes, serves: Serves) -> Result<Cluster> {
    // The ports are leased, but a program that knows nothing of leases may still take one in the
    // moment between looking and listening.
    let mut attempt = 1;
    loop {
        match start_once(binaries.clone(), nodes, serves).await {
            Err(error)
                if attempt < 4 && format!("{error:#}").contains("address already in use") =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn start_once(binaries: Binaries, nodes: Nodes, serves: Serves) -> Result<Cluster> {
    let folder = Folder::new()?;
    let ports = Ports::lease()?;
    let path = folder.path().to_path_buf();
    let site = Site {
        binaries: &binaries,
        folder: &path,
        ports: [ports.port(0), ports.port(1), ports.port(2)],
        nodes,
        serves,
    };
    tls::write(&path)?;
    let config = kubeconfig::embedded(&site.server(), &path.join("ca.crt"));
    fs::write(path.join("kubeconfig"), config.to_string())?;

    let etcd = site.etcd()?;
    eventually("etcd listens", PATIENCE, async || {
        etcd.check()?;
        TcpStream::connect((Ipv4Addr::LOCALHOST, site.etcd_port()))?;
        Ok(())
    })
    .await?;
    let apiserver = site.apiserver()?;

    let mut cluster = Cluster {
        processes: Mutex::new(vec![apiserver, etcd]),
        ports: Some(ports),
        binaries: binaries.clone(),
        kubeconfig: path.join("kubeconfig"),
        audit: Some(path.join("audit.log")),
        path: path.clone(),
        existing: false,
        _folder: Some(folder),
    };
    let client = cluster.impatient_client().await?;
    cluster.wait_for_server(&client).await?;
    cluster.processes().insert(0, site.controller_manager()?);
    cluster.processes().insert(0, site.scheduler()?);
    match nodes {
        Nodes::Fake => cluster.start_nodes(&client).await?,
        Nodes::Real => {}
    }
    cluster.write_state()?;
    Ok(cluster)
}

impl Cluster {
    /// Stops the API server and starts it again on the same data, as an upgrade of the cluster does.
    pub async fn restart_serving(&self, serves: Serves) -> Result<()> {
        let ports = self.ports.as_ref().context("not an embedded cluster")?;
        let site = Site {
            binaries: &self.binaries,
            folder: &self.path,
            ports: [ports.port(0), ports.port(1), ports.port(2)],
            nodes: Nodes::Fake,
            serves,
        };
        {
            let mut processes = self.processes();
            let mut all = processes.iter();
            let place = all.position(|process| process.name() == "kube-apiserver");
            let place = place.context("no API server")?;
            // It frees its port when it is gone.
            drop(processes.remove(place));
            processes.insert(place, site.apiserver()?);
        }
        let client = self.impatient_client().await?;
        self.wait_for_server(&client).await
    }

    /// A client of the administrator that does not repeat on its own what fails.
    async fn impatient_client(&self) -> Result<Client> {
        let mut config = self.config(User::Admin).await?;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    async fn wait_for_server(&self, client: &Client) -> Result<()> {
        let result = eventually("the API server is ready", PATIENCE, async || {
            // Nothing is worth waiting for once a component has ended.
            if self.check().is_err() {
                return Ok(self.check());
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await?;
            Ok(Ok(()))
        });
        result.await?
    }

    /// Adds the fake nodes and the process that plays them, and waits until they are ready.
    pub(super) async fn start_nodes(&mut self, client: &Client) -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        for number in 1..=NODES {
            let node = serde_json::from_value(components::fake_node(number))?;
            match nodes.create(&PostParams::default(), &node).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                result => drop(result.context("cannot create a node")?),
            }
        }
        let kwok = components::kwok(&self.binaries, &self.path, &self.kubeconfig)?;
        self.processes().insert(0, kwok);
        let result = eventually("the fake nodes are ready", PATIENCE, async || {
            if self.check().is_err() {
                return Ok(self.check());
            }
            let fake = ListParams::default().labels("testkit.broxiva.com/node=fake");
            let ready = nodes
                .list(&fake)
                .await?
                .iter()
                .filter(|node| is_ready(node))
                .count();
            ensure!(ready >= NODES, "{ready} of {NODES} are ready");
            Ok(Ok(()))
        });
        result.await?
    }
}

/// Whether the node says that it is ready.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}
