//! From the pod status that shows a crash to the revert, without a person, while many other Deployments are idle.
//!
//! Fake nodes do not crash, so the bench writes the status in the place of a kubelet. What is measured begins with that
//! write and ends with the controller's PATCH, both by the API server's audit log; the grace of the policy is taken off.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use rollback_api::AUTOMATIC;
use serde_json::json;
use testkit::audit::Event;
use testkit::scene::{CONTROLLER, PATIENCE, bind};
use testkit::shop::{self, Behaviour};
use testkit::{Cluster, Namespace, Scene, User, eventually};

use super::{each, percentile};
use crate::cargo;

/// Seconds that a crash may last before it is answered.
const GRACE: i64 = 1;
/// Name of the watch's user.
const WATCH: &str = "system:serviceaccount:rollback-system:rollback-watch";
/// How long many pods may take to come up.
const LONG: Duration = Duration::from_mins(20);

/// How much is measured, and beside what.
#[derive(Clone, Copy)]
pub struct Size {
    /// Versions that crash, one after the other.
    pub crashes: usize,
    /// Deployments that are idle.
    pub deployments: usize,
    /// Pods that these have, all together.
    pub pods: usize,
    /// Seconds for which nothing happens while requests are counted.
    pub idle_seconds: u64,
}

impl Size {
    /// Fails when it cannot be measured.
    pub fn check(&self) -> Result<()> {
        // One namespace has at most a hundred rollbacks an hour without a person.
        ensure!(
            (0..=100).contains(&self.crashes),
            "--crashes has to be 0 to 100"
        );
        ensure!(
            self.deployments > 0 && self.pods >= self.deployments,
            "each idle Deployment has at least one pod"
        );
        Ok(())
    }
}

/// Measures on this cluster.
pub async fn measure(cluster: &'static Cluster, size: Size) -> Result<()> {
    eprintln!("building the controller, optimised");
    let program = cargo::controller(true).await?;
    let idle = idle(cluster, size).await?;
    let mut scene = Scene::on(cluster, program, "crashes").await?;
    prepare(&scene).await?;
    // The one controller looks after all namespaces, the idle ones too.
    let elect = ["--leader-elect=true"];
    let controller =
        testkit::ControllerProcess::spawn(&scene.program, &scene.kubeconfig, "", &elect)?;
    controller.ready().await?;
    scene.controller = Some(controller);
    eprintln!("waiting until the controller has looked at everything");
    quiet(&scene).await?;
    let from = Timestamp::now();
    tokio::time::sleep(Duration::from_secs(size.idle_seconds)).await;
    let until = Timestamp::now();
    for number in 0..size.crashes {
        crash(&scene, &name(number)).await?;
    }
    report(&scene, size, from, until)?;
    drop(idle);
    Ok(())
}

fn name(number: usize) -> String {
    format!("crash-{number}")
}

/// Deployments that opt in and do not change, in a namespace that is watched.
async fn idle(cluster: &'static Cluster, size: Size) -> Result<Namespace> {
    let namespace = cluster.namespace("idle").await?;
    let client = cluster.client(User::Admin).await?;
    opt_in(&client, namespace.name()).await?;
    let replicas = u32::try_from(size.pods / size.deployments)?;
    eprintln!(
        "deploying {} Deployments of {replicas} pods each",
        size.deployments
    );
    each(size.deployments, async |number| {
        let one = shop::deployment(&format!("idle-{number}"))
            .version("v1")
            .replicas(replicas)
            .annotation(AUTOMATIC, "enabled");
        shop::apply(&client, namespace.name(), &one.build()).await?;
        Ok(())
    })
    .await?;
    let deployments = shop::api(&client, namespace.name(), "apps/v1", "Deployment");
    eventually("all idle Deployments are up", LONG, async || {
        let all = deployments.list(&ListParams::default()).await?;
        let up = all
            .iter()
            .filter(|one| one.data.pointer("/status/availableReplicas") == Some(&json!(replicas)));
        let up = up.count();
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(up == size.deployments, "{up} of {} are", size.deployments);
        Ok(())
    })
    .await?;
    Ok(namespace)
}

/// The rules of a namespace that is watched, without any limit that the bench would run into.
async fn opt_in(client: &kube::Client, namespace: &str) -> Result<()> {
    bind(client, namespace, "rollback-watch", "rollback-trigger").await?;
    let policy = json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackPolicy", "metadata": {"name": "default"},
        "spec": {"triggers": {"watch": true, "approve": true, "mostPerHour": 100, "coolDownSeconds": 0,
            "grace": {"crashSeconds": GRACE}}},
    });
    let policies = shop::api(
        client,
        namespace,
        "rollback.broxiva.com/v1alpha1",
        "RollbackPolicy",
    );
    let parameters = PatchParams::apply("bench").force();
    policies
        .patch("default", &parameters, &Patch::Apply(&policy))
        .await?;
    Ok(())
}

async fn prepare(scene: &Scene) -> Result<()> {
    opt_in(&scene.client(User::Admin).await?, scene.ns()).await
}

/// Waits until the controller has asked for nothing for a while.
async fn quiet(scene: &Scene) -> Result<()> {
    let audit = scene.cluster.audit().context("no audit log")?;
    eventually("the controller is idle", LONG, async || {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let last = audit
            .events_of_user(CONTROLLER)?
            .into_iter()
            .filter(|event| event.verb != "watch" && event.resource != "leases")
            .map(|event| event.answered)
            .max()
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let since = Timestamp::now().duration_since(last).as_secs();
        ensure!(since >= 20, "its last request was {since} s ago");
        Ok(())
    })
    .await
}

/// One version that runs and then crashes; waits until it has been rolled back.
async fn crash(scene: &Scene, name: &str) -> Result<()> {
    let version = |version: &str| {
        shop::deployment(name)
            .version(version)
            .replicas(1)
            .progress_deadline(600)
            .annotation(AUTOMATIC, "enabled")
    };
    scene.deploy(version("v1")).await?;
    scene
        .apply_deployment(version("v2").behaviour(Behaviour::NeverReady))
        .await?;
    let client = scene.client(User::Admin).await?;
    let pods: Api<Pod> = Api::namespaced(client, scene.ns());
    let image = format!("{name}:v2");
    let pod = eventually("the new pod runs", PATIENCE, async || {
        let all = pods.list(&ListParams::default()).await?;
        let found = all.items.into_iter().find(|pod| {
            let spec = pod.spec.as_ref();
            let is_new = spec.is_some_and(|spec| {
                let images = spec.containers.iter().filter_map(|it| it.image.as_deref());
                images.into_iter().any(|it| it.ends_with(&image))
            });
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            is_new && phase == Some("Running")
        });
        found.context("there is none")
    })
    .await?;
    let crash = json!({"status": {"containerStatuses": [{
        "name": "app", "image": image, "imageID": "", "ready": false, "started": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "said by the bench"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": Timestamp::now().to_string()}},
    }]}});
    pods.patch_status(
        &pod.name_any(),
        &PatchParams::default(),
        &Patch::Merge(crash),
    )
    .await?;
    scene
        .wait_for_deployment(name, |deployment| {
            let image = deployment.pointer("/spec/template/spec/containers/0/image");
            image
                .and_then(|it| it.as_str())
                .is_some_and(|it| it.ends_with(":v1"))
        })
        .await?;
    Ok(())
}

/// When the bench's word about the pod of a Deployment was answered.
fn shown_at(events: &[Event], name: &str) -> Option<Timestamp> {
    let said = |event: &&Event| {
        event.succeeded()
            && !event.user.starts_with("system:")
            && event.resource == "pods"
            && event.subresource == "status"
            && event.name.starts_with(&format!("{name}-"))
    };
    events.iter().filter(said).map(|event| event.answered).max()
}

/// When the controller's write to a Deployment was answered.
fn reverted_at(events: &[Event], name: &str) -> Option<Timestamp> {
    let wrote = |event: &&Event| {
        event.succeeded()
            && event.user == CONTROLLER
            && event.verb == "patch"
            && event.resource == "deployments"
            && event.subresource.is_empty()
            && event.name == name
            && !event.is_dry_run()
    };
    events
        .iter()
        .filter(wrote)
        .map(|event| event.answered)
        .min()
}

/// When its rollback was asked for.
fn asked_at(events: &[Event], name: &str) -> Option<Timestamp> {
    let asked = |event: &&Event| {
        event.succeeded()
            && event.user == WATCH
            && event.verb == "create"
            && event.resource == "rollbackrequests"
            && event
                .request_object
                .as_ref()
                .and_then(|body| body.pointer("/spec/targets/0/name"))
                .is_some_and(|it| it == name)
    };
    events
        .iter()
        .filter(asked)
        .map(|event| event.answered)
        .min()
}

fn report(scene: &Scene, size: Size, from: Timestamp, until: Timestamp) -> Result<()> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let events = audit.events(scene.ns())?;
    let (mut asked, mut reverted) = (Vec::new(), Vec::new());
    for number in 0..size.crashes {
        let name = name(number);
        let shown = shown_at(&events, &name).with_context(|| format!("{name} never crashed"))?;
        let at = reverted_at(&events, &name).with_context(|| format!("{name} was not reverted"))?;
        let request =
            asked_at(&events, &name).with_context(|| format!("{name} was not asked for"))?;
        let beyond = |at: Timestamp| {
            let grace = jiff::SignedDuration::from_secs(GRACE);
            (at.duration_since(shown) - grace).as_secs_f64() * 1000.0
        };
        asked.push(beyond(request));
        reverted.push(beyond(at));
    }
    println!(
        "pod status that shows a crash -> beyond the grace of {GRACE} s, {} versions, beside {} idle Deployments with {} pods, \
         optimised build",
        size.crashes, size.deployments, size.pods
    );
    println!("{:<28}{:>12}{:>12}", "", "median", "p99");
    for (what, delays) in [
        ("RollbackRequest created", &asked),
        ("Deployment reverted", &reverted),
    ] {
        let (median, worst) = (percentile(delays, 50), percentile(delays, 99));
        println!("{what:<28}{median:>9.0} ms{worst:>9.0} ms");
    }
    let (mut idle, mut watches, mut leases) = (0, 0, 0);
    for user in [CONTROLLER, WATCH] {
        let asked = audit.events_of_user(user)?;
        let meanwhile = asked
            .iter()
            .filter(|event| event.received >= from && event.received < until);
        for event in meanwhile {
            if event.verb == "watch" {
                watches += 1;
            } else if event.resource == "leases" {
                leases += 1;
            } else {
                idle += 1;
            }
        }
    }
    let seconds = until.duration_since(from).as_secs_f64();
    let hourly = |count: i32| f64::from(count) * 3600.0 / seconds;
    println!(
        "requests while idle, over {seconds:.0} s: {watches} watches made anew, {leases} about the Lease, {idle} others; \
         an hour: {:.0}, {:.0}, {:.0}",
        hourly(watches),
        hourly(leases),
        hourly(idle)
    );
    Ok(())
}
