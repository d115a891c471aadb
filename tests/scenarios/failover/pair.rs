//! Two controllers that look after the same namespace.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use testkit::proxy::Proxy;
use testkit::scene::PATIENCE;
use testkit::{ControllerProcess, Scene, User, eventually, shop};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The Deployment that is rolled back.
pub const DEPLOYMENT: &str = "api";
/// The request.
pub const REQUEST: &str = "api-5xx";
/// Who leads at first.
pub const FIRST: &str = "first";
/// Who stands by.
pub const SECOND: &str = "second";
/// Where the leases are.
pub const SYSTEM: &str = "rollback-system";
/// The shortest lease that the controller takes: nobody wants to wait here.
pub const LEASE_SECONDS: u32 = 3;

/// A namespace with two versions of a Deployment, a leader and a standby.
pub struct Pair {
    /// The stage. Its own controller is not used.
    pub scene: Scene,
    /// One for each controller.
    pub proxies: [Proxy; 2],
    kubeconfigs: [std::path::PathBuf; 2],
    /// The leader.
    pub first: ControllerProcess,
    /// The standby.
    pub second: ControllerProcess,
}

/// What a test wants to know of a Lease.
pub struct Held {
    /// By whom.
    pub holder: String,
    /// How often that has changed.
    pub transitions: i32,
}

impl Pair {
    /// The first leads and the second has seen it.
    pub async fn new(name: &str) -> Result<Self> {
        let pair = Self::alone(name).await?;
        let second = pair.start(1, SECOND)?;
        second.ready().await.with_context(|| second.log())?;
        eventually("the second stands by", PATIENCE, async || {
            ensure!(second.log().contains("standing by"), "{}", second.log());
            Ok(())
        })
        .await?;
        Ok(Self { second, ..pair })
    }

    /// The first leads; nobody stands by (the second has ended).
    pub async fn alone(name: &str) -> Result<Self> {
        let scene = Scene::without_controller(PROGRAM, name).await?;
        let cluster = scene.cluster;
        let mut proxies = Vec::new();
        let mut kubeconfigs = Vec::new();
        for _ in 0..2 {
            let proxy = Proxy::start(&cluster.server()?, &cluster.ca()?).await?;
            let url = proxy.url();
            let kubeconfig = cluster
                .service_account_kubeconfig(SYSTEM, "rollback-controller", Some(&url))
                .await?;
            proxies.push(proxy);
            kubeconfigs.push(kubeconfig);
        }
        let kubeconfigs: [_; 2] = kubeconfigs.try_into().ok().context("two of them")?;
        let proxies: [_; 2] = proxies.try_into().ok().context("two of them")?;
        for version in ["v1", "v2"] {
            let deployment = shop::deployment(DEPLOYMENT).version(version).replicas(1);
            scene.deploy(deployment).await?;
        }
        let first = start(&scene, &kubeconfigs[0], FIRST)?;
        first.ready().await.with_context(|| first.log())?;
        eventually("the first leads", PATIENCE, async || {
            ensure!(metric(&first, "rollback_leader").await? == 1, "not yet");
            Ok(())
        })
        .await
        .with_context(|| first.log())?;
        let second = start(&scene, &kubeconfigs[1], "nobody")?;
        second.kill();
        Ok(Self {
            scene,
            proxies,
            kubeconfigs,
            first,
            second,
        })
    }

    /// Starts a controller of this name behind one of the proxies.
    pub fn start(&self, proxy: usize, identity: &str) -> Result<ControllerProcess> {
        start(&self.scene, &self.kubeconfigs[proxy], identity)
    }

    /// Name of the namespace.
    pub fn ns(&self) -> &str {
        self.scene.ns()
    }

    /// Name of the Lease.
    pub fn lease_name(&self) -> String {
        format!("rollback-controller-{}", self.ns())
    }

    /// The Leases, for an administrator.
    pub async fn leases(&self) -> Result<Api<Lease>> {
        Ok(Api::namespaced(
            self.scene.client(User::Admin).await?,
            SYSTEM,
        ))
    }

    /// Who leads.
    pub async fn lease(&self) -> Result<Held> {
        let lease = self.leases().await?.get(&self.lease_name()).await?;
        let spec = lease.spec.context("an empty Lease")?;
        Ok(Held {
            holder: spec.holder_identity.unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or_default(),
        })
    }

    /// Rita asks.
    pub async fn ask(&self) -> Result<()> {
        let previous = json!({"previous": {}});
        self.scene.ask(REQUEST, DEPLOYMENT, previous).await?;
        Ok(())
    }
}

fn start(scene: &Scene, kubeconfig: &std::path::Path, identity: &str) -> Result<ControllerProcess> {
    let seconds = LEASE_SECONDS.to_string();
    let arguments = ["--identity", identity, "--lease-seconds", &seconds];
    ControllerProcess::spawn(&scene.program, kubeconfig, scene.ns(), &arguments)
}

/// A page of a controller.
pub async fn page(controller: &ControllerProcess, path: &str) -> Result<(u16, String)> {
    let url = format!("{}{path}", controller.metrics_url());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// A number without labels of a controller.
pub async fn metric(controller: &ControllerProcess, name: &str) -> Result<i64> {
    let (_, page) = page(controller, "/metrics").await?;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line
        .with_context(|| format!("no {name} in {page}"))?
        .parse()?)
}
