//! `cargo xtask bench`: measured by the API server's audit log, beside a null client in the same run.

mod crashes;
mod detect;
mod plugin;
mod quarantine;

pub use crashes::Size;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use rollback_api::RollbackRequest;
use serde_json::{Value, json};
use testkit::audit::Event;
use testkit::{Cluster, Scene, User, shop};

use crate::session::{self, CtrlC};
use crate::{Place, cargo};

/// How many things the preparation does at the same time.
const AT_ONCE: usize = 8;

/// From the approval to the PATCH of the Deployment, one rollback after the other; after each, a null
/// client reads a twin of the Deployment and sends it the same patch.
pub async fn latency(rollbacks: usize, ctrl_c: CtrlC) -> Result<()> {
    Box::pin(ctrl_c.or(measure(rollbacks))).await
}

/// From the write that shows a trouble to the status that names it, so many times; then from the one that shows a crash
/// to the revert without a person.
pub async fn detect(rounds: usize, size: Size, ctrl_c: CtrlC) -> Result<()> {
    size.check()?;
    let measured = async {
        let cluster = cluster().await?;
        if rounds > 0 {
            detect::causes(cluster, rounds).await?;
        }
        if size.crashes > 0 {
            crashes::measure(cluster, size).await?;
        }
        Ok(())
    };
    Box::pin(ctrl_c.or(measured)).await
}

/// From the start of the plugin to its first output, beside kubectl and a bare list call.
pub async fn plugin(rounds: usize, program: Option<PathBuf>, ctrl_c: CtrlC) -> Result<()> {
    let measured = async {
        let cluster = cluster().await?;
        let program = if let Some(built) = program {
            built
        } else {
            eprintln!("building the plugin, optimised");
            cargo::plugin().await?
        };
        plugin::measure(cluster, &program, rounds).await
    };
    Box::pin(ctrl_c.or(measured)).await
}

/// Writes of Deployments in a namespace with versions in quarantine, beside one without.
pub async fn quarantine(writes: usize, ctrl_c: CtrlC) -> Result<()> {
    let measured = async { quarantine::measure(cluster().await?, writes).await };
    Box::pin(ctrl_c.or(measured)).await
}

/// It must outlive what a Scene borrows from it; the process ends with the measurement.
async fn cluster() -> Result<&'static Cluster> {
    let place = Place::default();
    session::prepare(&place).await?;
    Ok(Box::leak(Box::new(session::cluster(&place).await?)))
}

async fn measure(rollbacks: usize) -> Result<()> {
    let cluster = cluster().await?;
    eprintln!("building the controller, optimised");
    let program = cargo::controller(true).await?;
    let mut scene = Scene::on(cluster, program, "bench").await?;
    eprintln!("deploying {rollbacks} Deployments and as many twins, twice");
    prepare(&scene, rollbacks).await?;
    scene.start_controller().await?;
    each(rollbacks, async |number| {
        let name = name(number);
        scene.ask(&name, &name, json!({"previous": {}})).await?;
        scene.plan(&name).await.map(|_| ())
    })
    .await?;

    eprintln!("approving one after the other");
    let config = cluster.config_from(&scene.kubeconfig).await?;
    let null = Client::try_from(config)?;
    for number in 0..rollbacks {
        let name = name(number);
        scene.approve(&name, User::Approver).await?;
        wait_until_reverted(&scene, &name).await?;
        patch_as_null_client(&null, scene.ns(), &twin(number)).await?;
    }
    report(&scene, rollbacks)
}

fn name(number: usize) -> String {
    format!("shop-{number}")
}

fn twin(number: usize) -> String {
    format!("twin-{number}")
}

async fn each(count: usize, work: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    futures::stream::iter(0..count)
        .map(|number| work(number))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn prepare(scene: &Scene, rollbacks: usize) -> Result<()> {
    for version in ["v1", "v2"] {
        each(rollbacks, async |number| {
            for name in [name(number), twin(number)] {
                scene
                    .apply_deployment(shop::deployment(&name).version(version).replicas(1))
                    .await?;
            }
            Ok(())
        })
        .await?;
        let client = scene.client(User::Admin).await?;
        each(rollbacks, async |number| {
            for name in [name(number), twin(number)] {
                shop::wait_available(&client, scene.ns(), &name).await?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn wait_until_reverted(scene: &Scene, name: &str) -> Result<()> {
    let requests = scene.requests(User::Admin).await?;
    let reverted = |request: Option<&RollbackRequest>| {
        let status = request.and_then(|request| request.status.as_ref());
        status.is_some_and(|status| {
            status
                .targets
                .iter()
                .any(|target| target.reverted_at.is_some())
        })
    };
    let waiting = await_condition(requests, name, reverted);
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .context("a rollback did not happen")??;
    Ok(())
}

/// What nobody can be faster than: one read, one patch with the same preconditions.
async fn patch_as_null_client(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let api = shop::api(client, namespace, "apps/v1", "Deployment");
    let live = serde_json::to_value(api.get(name).await?)?;
    let mut template = live
        .pointer("/spec/template")
        .cloned()
        .context("no template")?;
    template["spec"]["containers"][0]["image"] =
        json!(format!("registry.broxiva.example/{name}:v1"));
    let patch: Value = json!([
        {"op": "test", "path": "/metadata/uid", "value": live["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": live["metadata"]["generation"]},
        {"op": "replace", "path": "/spec/template", "value": template},
        {"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": "null client"},
    ]);
    let patch = serde_json::from_value(patch)?;
    api.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await?;
    Ok(())
}

fn report(scene: &Scene, rollbacks: usize) -> Result<()> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let events = audit.events(scene.ns())?;
    let patches = answered(&events, |event| {
        event.verb == "patch"
            && event.resource == "deployments"
            && event.subresource.is_empty()
            && !event.is_dry_run()
    });
    let approvals = answered(&events, |event| {
        event.verb == "patch"
            && event.resource == "rollbackrequests"
            && event.user == User::Approver.as_str()
    });
    let reads: HashMap<String, Timestamp> = events
        .iter()
        .filter(|event| {
            event.verb == "get"
                && event.resource == "deployments"
                && event.name.starts_with("twin-")
        })
        .map(|event| (event.name.clone(), event.received))
        .collect();
    let span = |from: &HashMap<String, Timestamp>, name: &str| {
        Some(
            patches
                .get(name)?
                .duration_since(*from.get(name)?)
                .as_secs_f64()
                * 1000.0,
        )
    };
    let ours: Vec<f64> = (0..rollbacks)
        .filter_map(|number| span(&approvals, &name(number)))
        .collect();
    let null: Vec<f64> = (0..rollbacks)
        .filter_map(|number| span(&reads, &twin(number)))
        .collect();
    ensure!(
        ours.len() == rollbacks && null.len() == rollbacks,
        "the audit log lacks some of the rollbacks"
    );
    let requests = events
        .iter()
        .filter(|event| {
            event.user == testkit::scene::CONTROLLER && !event.name.starts_with("twin-")
        })
        .count();

    println!(
        "approval answered -> PATCH of the Deployment answered, {rollbacks} rollbacks, one after the other"
    );
    println!("{:<34}{:>10}{:>10}", "", "median", "p99");
    println!(
        "{:<34}{:>7.1} ms{:>7.1} ms",
        "rollback-controller",
        percentile(&ours, 50),
        percentile(&ours, 99)
    );
    println!(
        "{:<34}{:>7.1} ms{:>7.1} ms",
        "null client (one GET, one PATCH)",
        percentile(&null, 50),
        percentile(&null, 99)
    );
    println!(
        "{:<34}{:>8.1} x{:>8.1} x",
        "ratio",
        percentile(&ours, 50) / percentile(&null, 50),
        percentile(&ours, 99) / percentile(&null, 99)
    );
    println!(
        "requests of the controller for each rollback: {}",
        requests / rollbacks
    );
    Ok(())
}

/// When the last such request for each object was answered with success.
fn answered(events: &[Event], wanted: impl Fn(&Event) -> bool) -> HashMap<String, Timestamp> {
    events
        .iter()
        .filter(|event| event.succeeded() && wanted(event))
        .map(|event| (event.name.clone(), event.answered))
        .collect()
}

/// The value that so many of a hundred do not exceed.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert!((percentile(&values, 50) - 100.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 99) - 198.0).abs() < f64::EPSILON);
        assert!((percentile(&[7.0], 99) - 7.0).abs() < f64::EPSILON);
    }
}
