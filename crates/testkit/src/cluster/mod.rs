//! One cluster: how to get it, how to talk to it, and who is in it.
//!
//! Tests call [`Cluster::shared`]. It gives, in this order of preference: the cluster that
//! `ROLLBACK_TEST_CLUSTER` (a folder) says is already there, the one that `ROLLBACK_TEST_CONTEXT`
//! (a context of the user's own kubeconfig) names, or a new one for this process.

mod components;
mod embedded;
mod existing;
mod install;
mod kubeconfig;
mod namespace;
mod tls;
mod user;

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, sync::OnceCell};

use components::Nodes;
pub use components::Serves;
pub(crate) use embedded::is_ready;
pub use namespace::Namespace;
pub use user::User;
pub(crate) use user::{NODE, NODE_TOKEN};

use crate::{audit::Audit, build::Binaries, folder::Folder, ports::Ports, process::Process};

/// The file in a cluster's folder from which another process learns the rest.
const STATE: &str = "cluster.json";

/// A cluster to test on. Dropping the one that started it ends it and removes its data.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped from top to bottom: first the processes, from the last started to the
    // first, then the ports and the data that they used.
    processes: Mutex<Vec<Process>>,
    ports: Option<Ports>,
    binaries: Binaries,
    kubeconfig: PathBuf,
    audit: Option<PathBuf>,
    path: PathBuf,
    existing: bool,
    _folder: Option<Folder>,
}

impl Cluster {
    /// Starts a cluster of its own: etcd, the API server, its controllers, a scheduler and five
    /// fake nodes. Nothing of this project is installed yet; see [`Cluster::install`].
    pub async fn start() -> Result<Self> {
        let binaries = tokio::task::spawn_blocking(crate::build::ensure).await??;
        embedded::start(binaries, Nodes::Fake, Serves::Everything).await
    }

    /// The same with an API server that has less.
    pub async fn start_serving(serves: Serves) -> Result<Self> {
        let binaries = tokio::task::spawn_blocking(crate::build::ensure).await??;
        embedded::start(binaries, Nodes::Fake, serves).await
    }

    /// The same without any nodes: somebody else starts a real one.
    pub(crate) async fn start_without_nodes(binaries: Binaries) -> Result<Self> {
        embedded::start(binaries, Nodes::Real, Serves::Everything).await
    }

    /// Has a process end with this cluster, before those that were started earlier.
    pub(crate) fn adopt(&self, process: Process) {
        self.processes().insert(0, process);
    }

    /// Borrows the cluster behind a context of the user's own kubeconfig. Needs the rights of an
    /// administrator there: users are impersonated, and fake nodes are added.
    pub async fn existing(context: &str) -> Result<Self> {
        let binaries = tokio::task::spawn_blocking(crate::build::ensure_for_existing).await??;
        existing::borrow(binaries, context).await
    }

    /// Joins the cluster that another process started and installed, by its [`Cluster::folder`].
    pub fn attach(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let text = fs::read(&path).with_context(|| format!("no cluster at {}", path.display()))?;
        let state: Value = serde_json::from_slice(&text)?;
        let text = |key: &str| state[key].as_str().map(PathBuf::from);
        Ok(Self {
            processes: Mutex::default(),
            ports: None,
            binaries: Binaries::at(text("binaries")),
            kubeconfig: text("kubeconfig").context("no kubeconfig in the state file")?,
            audit: text("audit"),
            path: folder.to_path_buf(),
            existing: state["existing"] == json!(true),
            _folder: None,
        })
    }

    /// The cluster that all tests of a run share, with this project installed.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED
            .get_or_try_init(|| async {
                if let Some(folder) = env::var_os("ROLLBACK_TEST_CLUSTER") {
                    return Self::attach(Path::new(&folder));
                }
                let cluster = match env::var("ROLLBACK_TEST_CONTEXT") {
                    Ok(context) => Self::existing(&context).await?,
                    Err(_) => Self::start().await?,
                };
                cluster.install().await?;
                Ok(cluster)
            })
            .await
    }

    /// The folder of this cluster's data and logs; what `ROLLBACK_TEST_CLUSTER` wants to know.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// A kubeconfig with one context for each [`User`]; the current one is the administrator's.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The programs that this cluster was made with.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Whether this is somebody else's cluster, which has to be left as it was found.
    pub fn is_existing(&self) -> bool {
        self.existing
    }

    /// The process ids of everything that was started for this cluster.
    pub fn pids(&self) -> Vec<u32> {
        self.processes().iter().map(Process::pid).collect()
    }

    /// The API server's audit log; there is none to read on somebody else's cluster.
    pub fn audit(&self) -> Option<Audit> {
        self.audit.clone().map(Audit::new)
    }

    /// The address of the API server.
    pub fn server(&self) -> Result<String> {
        let cluster = self.cluster_entry()?;
        let server = cluster["server"]
            .as_str()
            .context("no server in the kubeconfig")?;
        Ok(server.to_owned())
    }

    /// The address of the store behind the API server, for objects that the latter does not take any more; only
    /// of an embedded one.
    pub fn etcd(&self) -> Result<String> {
        ensure!(
            !self.existing,
            "the store of somebody else's cluster is not to be touched"
        );
        let server = self.server()?;
        let (_, port) = server.rsplit_once(':').context("a server without a port")?;
        Ok(components::etcd_beside(port.parse()?))
    }

    /// The certificate authority of the API server, in PEM; only of an embedded one.
    pub fn ca(&self) -> Result<Vec<u8>> {
        let cluster = self.cluster_entry()?;
        let path = cluster["certificate-authority"]
            .as_str()
            .context("no certificate-authority file in the kubeconfig")?;
        Ok(fs::read(path)?)
    }

    fn cluster_entry(&self) -> Result<Value> {
        let config: Value = serde_json::from_slice(&fs::read(&self.kubeconfig)?)?;
        let entry = config.pointer("/clusters/0/cluster");
        Ok(entry.context("no cluster in the kubeconfig")?.clone())
    }

    /// How to reach the API server as this user.
    pub async fn config(&self, user: User) -> Result<Config> {
        crate::install_crypto_provider();
        let options = KubeConfigOptions {
            context: Some(user.context().to_owned()),
            ..KubeConfigOptions::default()
        };
        let file = Kubeconfig::read_from(&self.kubeconfig)?;
        Ok(Config::from_custom_kubeconfig(file, &options).await?)
    }

    /// How to reach the API server by the current context of another kubeconfig file, such as one of
    /// [`Cluster::service_account_kubeconfig`].
    pub async fn config_from(&self, kubeconfig: &Path) -> Result<Config> {
        crate::install_crypto_provider();
        let file = Kubeconfig::read_from(kubeconfig)?;
        Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
    }

    /// A client as this user. It belongs to the runtime of the caller, so each test makes its own.
    pub async fn client(&self, user: User) -> Result<Client> {
        crate::typed::client(self.config(user).await?)
    }

    /// The real kubectl as this user, ready for its arguments. It ends when it is dropped.
    pub fn kubectl_command(&self, user: User) -> Command {
        let mut command = Command::new(self.binaries.kubectl());
        command
            .args(self.kubectl_options(user))
            .env("KUBECTL_KUBERC", "false")
            .kill_on_drop(true);
        command
    }

    /// Runs the real kubectl as this user. The exit code is the caller's to judge.
    pub async fn kubectl(&self, user: User, args: &[&str]) -> Result<Output> {
        self.kubectl_with_input(user, args, "").await
    }

    /// Runs the real kubectl as this user with something to read, for `apply -f -`.
    pub async fn kubectl_with_input(
        &self,
        user: User,
        args: &[&str],
        input: &str,
    ) -> Result<Output> {
        let (args, input) = crate::typed::kubectl(user, args, input);
        let mut child = self
            .kubectl_command(user)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no stdin")?;
        let input = input.as_bytes().to_vec();
        // Written beside the reading of its answer: a full pipe on one side must not stop the other.
        // kubectl may also end without reading; what it says about that is in its output.
        let writer = tokio::spawn(async move { stdin.write_all(&input).await.is_ok() });
        let output = child.wait_with_output().await?;
        writer.abort();
        Ok(output)
    }

    /// Runs kubectl, which has to succeed, and gives what it printed.
    pub async fn kubectl_ok(&self, user: User, args: &[&str], input: &str) -> Result<String> {
        let output = self.kubectl_with_input(user, args, input).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {}: {errors}",
            args.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn kubectl_options(&self, user: User) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--context={}", user.context()),
            format!("--cache-dir={}", self.path.join("kubectl-cache").display()),
        ]
    }

    /// A kubeconfig file with a fresh token of a `ServiceAccount`, valid for a day. With
    /// `server_override`, requests go there instead: a proxy on plain HTTP, for example.
    pub async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
        server_override: Option<&str>,
    ) -> Result<PathBuf> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.client(User::Admin).await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(24 * 60 * 60),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec: Some(spec),
            ..TokenRequest::default()
        };
        let token = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for ServiceAccount {namespace}/{name}"))?
            .status
            .and_then(|status| status.token)
            .with_context(|| format!("an empty token for ServiceAccount {namespace}/{name}"))?;
        let config = kubeconfig::for_token(&self.cluster_entry()?, server_override, &token);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = format!("kubeconfig-{name}-{}-{number}", std::process::id());
        let path = self.path.join(file);
        fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Writes what [`Cluster::attach`] reads.
    fn write_state(&self) -> Result<()> {
        let state = json!({
            "kubeconfig": self.kubeconfig,
            "audit": self.audit,
            "binaries": self.binaries.folder(),
            "existing": self.existing,
        });
        fs::write(self.path.join(STATE), state.to_string())?;
        Ok(())
    }

    /// Fails when a process of this cluster has ended.
    pub(crate) fn check(&self) -> Result<()> {
        self.processes().iter().try_for_each(Process::check)
    }

    fn processes(&self) -> MutexGuard<'_, Vec<Process>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs kubectl without a runtime, for what has to happen while something is dropped.
fn kubectl_now(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    // Best effort: there is nobody left to tell.
    drop(std::process::Command::new(program).args(args).output());
}
