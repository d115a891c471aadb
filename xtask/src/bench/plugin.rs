//! How long the plugin takes from its start to the first output, beside kubectl and a bare list call.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::ListParams;
use rollback_api::RollbackRequest;
use serde_json::json;
use testkit::{Cluster, Scene, User};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::percentile;

/// How many requests are listed.
const REQUESTS: usize = 20;

/// Lists the open requests of a namespace, each way so many times, by turns.
pub async fn measure(cluster: &'static Cluster, program: &Path, rounds: usize) -> Result<()> {
    // No controller runs: what is listed stays as it is.
    let scene = Scene::on(cluster, program, "plugin").await?;
    for number in 0..REQUESTS {
        let name = format!("request-{number}");
        scene.ask(&name, "api", json!({"previous": {}})).await?;
    }
    let api: Api<RollbackRequest> =
        Api::namespaced(cluster.client(User::Requester).await?, scene.ns());
    let mut took: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        let started = Instant::now();
        let listed = api.list(&ListParams::default()).await?;
        took[0].push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(
            listed.items.len() == REQUESTS,
            "{} are listed",
            listed.items.len()
        );
        let mut kubectl = cluster.kubectl_command(User::Requester);
        kubectl.args(["get", "rbr", "-n", scene.ns()]);
        took[1].push(first_output(kubectl).await?.as_secs_f64() * 1000.0);
        let mut plugin = Command::new(program);
        plugin.env("KUBECONFIG", cluster.kubeconfig());
        plugin.args([
            "status",
            "-n",
            scene.ns(),
            "--context",
            User::Requester.context(),
        ]);
        took[2].push(first_output(plugin).await?.as_secs_f64() * 1000.0);
    }
    println!(
        "from start to first output, {rounds} times each by turns, {REQUESTS} requests listed:"
    );
    let names = [
        "a list call on an open connection",
        "kubectl get rbr",
        "kubectl-rollback status",
    ];
    for (name, times) in names.into_iter().zip(&took) {
        println!(
            "  {name:<34} median {:>4.0} ms, 99th percentile {:>4.0} ms",
            percentile(times, 50),
            percentile(times, 99)
        );
    }
    let more = percentile(&took[2], 50) - percentile(&took[0], 50);
    println!("  the plugin takes {more:.0} ms more than the list call");
    Ok(())
}

/// From the start of a program to its first byte. It has to succeed.
async fn first_output(mut command: Command) -> Result<Duration> {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    let mut byte = [0];
    let read = output.read(&mut byte).await?;
    let took = started.elapsed();
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).await?;
    let ended = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success() && read == 1, "{command:?}: {said}");
    Ok(took)
}
