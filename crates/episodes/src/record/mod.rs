//! Episodes of a real control plane: the API server, its controllers and its scheduler, with fake nodes whose kubelet is
//! played here. What is injected is named by the same table of causes.

mod script;
mod trim;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::LocalBoxFuture;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use testkit::shop::{self, DeploymentBuilder};
use testkit::{Cluster, User};
use tokio::sync::watch;

use crate::cause::ALL;
use crate::film::Film;
use crate::library;
use crate::sim::template::BEGINNING;

/// How many episodes are recorded at the same time.
const AT_ONCE: usize = 8;
/// From one look to the next.
const PACE: Duration = Duration::from_secs(4);
/// The Deployment.
const NAME: &str = "api";

/// Plays one cause on a stage where nothing is yet.
type Play = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, Result<()>>;

/// A namespace of a real cluster.
struct Stage {
    cluster: &'static Cluster,
    client: Client,
    namespace: String,
    replicas: u32,
}

/// Records all of them anew, or those of one cause.
pub async fn record(only: Option<String>) -> Result<()> {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await?));
    let all = script::ALL.iter().copied().enumerate();
    let all = all.filter(|(_, script)| only.as_ref().is_none_or(|it| it == script.0));
    let recorded: Vec<Result<()>> = stream::iter(all)
        .map(|(number, script)| one(cluster, number, script))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for result in &recorded {
        if let Err(error) = result {
            eprintln!("{error:#}");
        }
    }
    let failed = recorded.iter().filter(|it| it.is_err()).count();
    eprintln!("recorded {}", recorded.len() - failed);
    // What is leaked is not dropped: its processes are ended here.
    for pid in cluster.pids() {
        let pid = pid.to_string();
        drop(std::process::Command::new("kill").arg(&pid).status());
    }
    ensure!(failed == 0, "{failed} could not be recorded");
    Ok(())
}

async fn one(
    cluster: &'static Cluster,
    number: usize,
    (cause, replicas, play): (&'static str, u32, Play),
) -> Result<()> {
    let cause = ALL.iter().find(|it| it.name == cause).context(cause)?;
    let namespace = cluster.namespace("film").await?;
    let stage = Stage {
        cluster,
        client: cluster.client(User::Admin).await?,
        namespace: namespace.name().to_owned(),
        replicas,
    };
    let (end, ended) = watch::channel(false);
    let camera = tokio::spawn(film(stage.client.clone(), stage.namespace.clone(), ended));
    let played = play(&stage).await;
    end.send(true)?;
    let frames = camera.await??;
    played.with_context(|| format!("{} ({number})", cause.name))?;
    let file = format!("embedded-{number:02}");
    keep(cause.name, "embedded", &file, &grace(), &frames)
}

/// How long each trouble may last in what is recorded here.
fn grace() -> Value {
    json!({"rolloutSeconds": script::ROLLOUT, "unreadySeconds": script::GRACE,
        "crashSeconds": script::GRACE, "imagePullSeconds": script::GRACE})
}

/// Writes what was recorded of a cause of the table: where it comes from, and the graces that it was recorded for.
pub fn keep(cause: &str, from: &str, file: &str, grace: &Value, frames: &[Value]) -> Result<()> {
    let cause = ALL
        .iter()
        .find(|it| it.name == cause)
        .context("no such cause")?;
    let episode = json!({
        "cause": cause.name, "expect": cause.expect.as_str(), "from": from,
        "policy": {"grace": grace},
        "frames": frames,
    });
    let folder = library::folder().join(cause.name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{file}.json")), episode.to_string())?;
    Ok(())
}

/// Looks at everything in a namespace again and again, until `ended` says so; gives the frames.
pub async fn film(
    client: Client,
    namespace: String,
    mut ended: watch::Receiver<bool>,
) -> Result<Vec<Value>> {
    let mut film = Film::new(1);
    loop {
        let last = *ended.borrow();
        let objects = look(&client, &namespace).await?;
        let now = Timestamp::now().as_second() - BEGINNING;
        if last || !objects.is_empty() {
            film.take(now, objects, last);
        }
        if last {
            return Ok(film.frames());
        }
        tokio::select! {
            () = tokio::time::sleep(PACE) => {}
            changed = ended.changed() => changed?,
        }
    }
}

async fn look(client: &Client, namespace: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (version, kind) in [
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("v1", "Pod"),
    ] {
        let api = shop::api(client, namespace, version, kind);
        for object in api.list(&ListParams::default()).await? {
            let mut object = serde_json::to_value(object)?;
            object["apiVersion"] = json!(version);
            object["kind"] = json!(kind);
            all.push(trim::trim(&object));
        }
    }
    Ok(all)
}

impl Stage {
    /// The next version, in the making.
    fn version(&self, version: &str) -> DeploymentBuilder {
        shop::deployment(NAME)
            .version(version)
            .replicas(self.replicas)
            .progress_deadline(600)
    }

    async fn apply(&self, version: DeploymentBuilder) -> Result<()> {
        shop::apply(&self.client, &self.namespace, &version.build()).await?;
        Ok(())
    }

    async fn apply_and_wait(&self, version: DeploymentBuilder) -> Result<()> {
        self.apply(version).await?;
        shop::wait_available(&self.client, &self.namespace, NAME).await?;
        Ok(())
    }

    async fn pods(&self) -> Result<Vec<Value>> {
        let api = shop::api(&self.client, &self.namespace, "v1", "Pod");
        let pods = api.list(&ListParams::default()).await?;
        pods.into_iter()
            .map(|pod| Ok(serde_json::to_value(pod)?))
            .collect()
    }

    async fn kubectl(&self, arguments: &str) -> Result<()> {
        let arguments = format!("-n {} {arguments}", self.namespace);
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        self.cluster.kubectl_ok(User::Admin, &arguments, "").await?;
        Ok(())
    }

    /// Plays the kubelet of the pods of a version for so many seconds: what it says by the pod's age in seconds.
    async fn kubelet(
        &self,
        version: &str,
        seconds: u64,
        says: fn(i64, &str) -> Value,
    ) -> Result<()> {
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), &self.namespace);
        while tokio::time::Instant::now() < end {
            let selector = format!("app.kubernetes.io/version={version}");
            for pod in pods.list(&ListParams::default().labels(&selector)).await? {
                let phase = pod.status.as_ref().and_then(|it| it.start_time.as_ref());
                let (Some(_), Some(created)) = (phase, pod.creation_timestamp()) else {
                    continue;
                };
                let name = pod.name_any();
                let age = Timestamp::now().as_second() - created.0.as_second();
                let status = json!({"status": says(age, &name)});
                let patch = Patch::Merge(&status);
                let answer = pods
                    .patch_status(&name, &PatchParams::default(), &patch)
                    .await;
                if let Err(error) = answer
                    && !matches!(&error, kube::Error::Api(status) if status.code == 404)
                {
                    return Err(error.into());
                }
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        Ok(())
    }
}
