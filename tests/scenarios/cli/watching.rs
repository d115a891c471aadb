//! `status -w` while the world around it changes: the terminal, the connection, the request; and with logs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use testkit::User::{Admin, Approver, Requester};
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually};
use tokio::io::{AsyncRead, AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::stage::{asked, plugin, plugin_in, said, scene};
use super::terminal::Terminal;

/// What takes the picture away before it is drawn again.
const ERASE: &str = "A\u{1b}[J";

/// `status -w` at a terminal.
fn watch(scene: &Scene) -> String {
    format!("{} status api-5xx -w", Terminal::plugin(scene, Requester))
}

#[tokio::test]
async fn it_is_drawn_anew_when_the_terminal_has_another_size() -> Result<()> {
    let scene = asked("resized").await?;
    let words = format!("tty; exec {}", watch(&scene));
    let Some(mut terminal) = Terminal::run(scene.cluster.kubeconfig(), &words, false)? else {
        return Ok(());
    };
    let device = terminal.shows("\r\n").await?.trim().to_owned();
    terminal.shows("AwaitingApproval").await?;
    let lines = erased(&mut terminal).await?;
    let began = std::time::Instant::now();
    for columns in [90, 80, 70, 60, 50, 40] {
        resize(&device, columns, 40).await?;
        erased(&mut terminal).await?;
    }
    // Each within a second of the one before, because that is how long it takes without any signal.
    ensure!(
        began.elapsed() < Duration::from_secs(4),
        "it took {:?}",
        began.elapsed()
    );
    let narrow = erased(&mut terminal).await?;
    ensure!(narrow > lines, "{narrow} lines and not more than {lines}");
    // What does not fit is left out, so that nothing is drawn twice.
    resize(&device, 40, 5).await?;
    terminal.shows("more lines do not fit here").await?;
    let low = erased(&mut terminal).await?;
    ensure!(low < 5, "{low} lines in a terminal of five");
    terminal.presses("\u{3}").await?;
    ensure!(terminal.ends().await? == 130);
    Ok(())
}

/// How many lines are taken away before the next picture.
async fn erased(terminal: &mut Terminal) -> Result<usize> {
    let before = terminal.shows(ERASE).await?;
    let (_, number) = before.rsplit_once("\u{1b}[").context("no escape")?;
    Ok(number.parse()?)
}

async fn resize(device: &str, columns: u32, lines: u32) -> Result<()> {
    let (columns, lines) = (columns.to_string(), lines.to_string());
    let arguments = ["-F", device, "cols", &columns, "rows", &lines];
    let status = Command::new("stty").args(arguments).status().await?;
    ensure!(status.success(), "stty {arguments:?}: {status}");
    Ok(())
}

#[tokio::test]
async fn who_stops_watching_gets_the_terminal_back() -> Result<()> {
    let scene = asked("interrupted").await?;
    let watch = watch(&scene);
    // The shell does not end with Ctrl-C, so that it can look at its terminal before and after.
    let words =
        format!("trap : INT; echo before $(stty -g).; {watch}; echo ended $? after $(stty -g).");
    let Some(mut terminal) = Terminal::run(scene.cluster.kubeconfig(), &words, true)? else {
        return Ok(());
    };
    terminal.shows("before ").await?;
    let before = terminal.shows(".").await?;
    terminal.shows("AwaitingApproval").await?;
    terminal.shows(ERASE).await?;
    terminal.presses("\u{3}").await?;
    terminal
        .shows("It goes on without you: kubectl rollback status api-5xx -w")
        .await?;
    terminal.shows("ended 130 after ").await?;
    let after = terminal.shows(".").await?;
    ensure!(
        !before.is_empty() && before == after,
        "{before} is {after} now"
    );
    ensure!(scene.request("api-5xx").await?.outcome().is_none());
    Ok(())
}

/// A wire between the plugin and the API server that can be cut.
struct Wire {
    address: SocketAddr,
    upstream: String,
    task: JoinHandle<()>,
}

impl Wire {
    async fn new(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let upstream = upstream.trim_start_matches("https://").to_owned();
        let task = tokio::spawn(carry(listener, upstream.clone()));
        Ok(Self {
            address,
            upstream,
            task,
        })
    }

    /// Every connection breaks, and none is made.
    fn cut(&self) {
        self.task.abort();
    }

    async fn mend(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.task = tokio::spawn(carry(listener, self.upstream.clone()));
        Ok(())
    }

    /// A kubeconfig that goes through this wire.
    fn kubeconfig(&self, scene: &Scene, folder: &Path) -> Result<PathBuf> {
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(scene.cluster.kubeconfig())?)?;
        let server = config
            .pointer_mut("/clusters/0/cluster/server")
            .context("no server")?;
        *server = json!(format!("https://{}", self.address));
        let file = folder.join("config");
        std::fs::write(&file, config.to_string())?;
        Ok(file)
    }
}

async fn carry(listener: TcpListener, upstream: String) {
    let mut lines = tokio::task::JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let upstream = upstream.clone();
        lines.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(upstream).await {
                drop(copy_bidirectional(&mut near, &mut far).await);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_is_said_and_made_again() -> Result<()> {
    let scene = asked("disconnected").await?;
    let mut wire = Wire::new(&scene.cluster.server()?).await?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = wire.kubeconfig(&scene, folder.path())?;
    let mut piped = plugin_in(&kubeconfig, Requester.context(), scene.ns());
    let mut piped = piped.args(["status", "api-5xx", "-w"]).spawn()?;
    until_it_says(piped.stdout.as_mut(), "AwaitingApproval").await?;
    let Some(mut terminal) = Terminal::run(&kubeconfig, &watch(&scene), false)? else {
        return Ok(());
    };
    terminal.shows("AwaitingApproval").await?;
    wire.cut();
    let lost = "The connection was lost, trying again";
    terminal.shows(lost).await?;
    until_it_says(piped.stderr.as_mut(), lost).await?;
    wire.mend().await?;
    scene.approve("api-5xx", Approver).await?;
    terminal.shows("Succeeded").await?;
    terminal
        .shows("report: kubectl rollback report api-5xx")
        .await?;
    let rest = terminal.rest().await?;
    ensure!(!rest.contains("The connection was lost"), "{rest:?}");
    said(piped).await?.ended(0)?.prints(&["Succeeded"])?;
    Ok(())
}

/// Reads from a pipe until this comes.
async fn until_it_says(pipe: Option<&mut (impl AsyncRead + Unpin)>, text: &str) -> Result<()> {
    let pipe = pipe.context("no pipe")?;
    let (mut said, mut letter) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&said).contains(text) {
        let read = timeout(PATIENCE, pipe.read(&mut letter)).await??;
        ensure!(read > 0, "it ended before it said {text:?}");
        said.extend_from_slice(&letter);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_deleted_is_said() -> Result<()> {
    let scene = asked("deleted").await?;
    let Some(mut terminal) = Terminal::run(scene.cluster.kubeconfig(), &watch(&scene), false)?
    else {
        return Ok(());
    };
    let data = plugin(&scene, Requester)
        .args(["status", "api-5xx", "-w", "-o", "json"])
        .spawn()?;
    terminal.shows("AwaitingApproval").await?;
    let delete = [
        "delete",
        "rollbackrequest",
        "api-5xx",
        "-n",
        scene.ns(),
        "--wait=false",
    ];
    scene.cluster.kubectl_ok(Admin, &delete, "").await?;
    terminal.shows("deleted").await?;
    ensure!(terminal.ends().await? == 3);
    let said = said(data).await?.ended(3)?;
    let states: Vec<Value> = said
        .out
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(
        states
            .last()
            .is_some_and(|it| it["metadata"]["name"] == "api-5xx"),
        "{said:?}"
    );
    Ok(())
}

/// The nodes of the tests run nothing, so the API server cannot get any logs from them, and says so.
#[tokio::test]
async fn logs_that_cannot_be_read_are_told_once_a_pod() -> Result<()> {
    let scene = asked("logs").await?;
    let piped = plugin(&scene, Requester)
        .args(["status", "api-5xx", "-w", "--logs"])
        .spawn()?;
    let data = plugin(&scene, Requester);
    let data = { data }
        .args(["status", "api-5xx", "-w", "--logs", "-o", "json"])
        .spawn()?;
    let words = format!("{} --logs", watch(&scene));
    let terminal = Terminal::run(scene.cluster.kubeconfig(), &words, false)?;
    scene.approve("api-5xx", Approver).await?;
    let said_of = said(piped).await?.ended(0)?;
    let of: Vec<&str> = said_of
        .out
        .lines()
        .filter(|line| line.contains("its logs cannot be read"))
        .collect();
    let pods: std::collections::BTreeSet<&str> = of
        .iter()
        .filter_map(|line| line.split(':').next())
        .collect();
    ensure!(!of.is_empty() && of.len() == pods.len(), "{said_of:?}");
    ensure!(pods.iter().all(|pod| pod.starts_with("api-")), "{pods:?}");
    // At a terminal a line stays where it is, above what is drawn again.
    if let Some(mut terminal) = terminal {
        let before = terminal.shows("its logs cannot be read").await?;
        ensure!(before.contains(ERASE), "{before:?}");
        let after = terminal.shows("Succeeded").await?;
        ensure!(
            after.contains("api-5xx") && !after.contains("\u{1b}[0A"),
            "{after:?}"
        );
        ensure!(terminal.ends().await? == 0);
    }
    // Data stay data.
    let said = said(data).await?.ended(0)?;
    for line in said.out.lines() {
        serde_json::from_str::<Value>(line)?;
    }
    Ok(())
}

/// A metrics server is an API like any other, so a definition of ours is one: what it says of a new pod is told, and of
/// another one not.
#[tokio::test]
async fn what_the_new_pods_use_is_told_where_it_is_measured() -> Result<()> {
    let scene = scene("measured").await?;
    scene
        .policy(json!({"verification": {"soakSeconds": 22}}))
        .await?;
    scene.two_versions("api").await?;
    serve_metrics(&scene).await?;
    measured(&scene, "api-somebody-else", "999m").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    let watching = plugin(&scene, Requester)
        .args(["status", "api-5xx", "-w", "--logs"])
        .spawn()?;
    scene.approve("api-5xx", Approver).await?;
    let pods: Api<Pod> = Api::namespaced(scene.client(Admin).await?, scene.ns());
    let name = eventually("there is a new pod", PATIENCE, async || {
        let begun = scene.status("api-5xx").await?.targets.into_iter().next();
        let begun = begun
            .and_then(|target| target.begun)
            .context("it has not begun")?
            .at;
        let found = pods.list(&ListParams::default()).await?.items.into_iter();
        // Kubernetes counts whole seconds.
        let second = jiff::SignedDuration::from_secs(1);
        let is_new = |pod: &Pod| {
            pod.creation_timestamp()
                .is_some_and(|at| at.0 + second >= begun)
        };
        let mut new = found.filter(is_new);
        Ok(new.next().context("none yet")?.name_any())
    })
    .await?;
    measured(&scene, &name, "12m").await?;
    let said = said(watching).await?.ended(0)?;
    ensure!(!said.out.contains("999m"), "{said:?}");
    said.prints(&[&format!("{name} uses CPU 12m, memory 34Mi\n")])?;
    Ok(())
}

/// Serves `metrics.k8s.io`.
async fn serve_metrics(scene: &Scene) -> Result<()> {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "pods.metrics.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
        "spec": {
            "group": "metrics.k8s.io", "scope": "Namespaced",
            "names": {"plural": "pods", "singular": "podmetrics", "kind": "PodMetrics"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}}],
        },
    });
    let role = json!({
        "apiVersion": "v1", "kind": "List", "items": [definition,
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
         "metadata": {"name": "measured", "namespace": scene.ns()},
         "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
         "metadata": {"name": "measured", "namespace": scene.ns()},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "measured"},
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": Requester.as_str()}]},
    ]});
    scene
        .cluster
        .kubectl_ok(Admin, &["apply", "-f", "-"], &role.to_string())
        .await?;
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd/pods.metrics.k8s.io",
    ];
    scene.cluster.kubectl_ok(Admin, &wait, "").await?;
    Ok(())
}

/// What is measured of a pod.
async fn measured(scene: &Scene, pod: &str, cpu: &str) -> Result<()> {
    let metrics = json!({
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": {"name": pod, "namespace": scene.ns(), "labels": {"app.kubernetes.io/name": "api", "app": "api"}},
        "containers": [{"name": "app", "usage": {"cpu": cpu, "memory": "34Mi"}}],
    });
    let create = ["create", "-f", "-"];
    scene
        .cluster
        .kubectl_ok(Admin, &create, &metrics.to_string())
        .await?;
    Ok(())
}
