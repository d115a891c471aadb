//! From the write that shows a trouble to the status that names it.
//!
//! Fake nodes never say why a container does not start, so the bench says it in the place of a kubelet: pod status by
//! the subresource, Events by creation. What is measured begins with that write, and ends with the controller's.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as KubeEvent, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rollback_api::status::CauseKind;
use serde_json::{Value, json};
use testkit::audit::Event;
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::shop::{self, Behaviour};
use testkit::{Cluster, Scene, User, eventually};

use super::{each, percentile};
use crate::cargo;

/// What is provoked.
#[derive(Clone, Copy)]
struct Provoked {
    /// In words, as a name can have them.
    name: &'static str,
    kind: CauseKind,
    shown: Shown,
}

/// How it shows.
#[derive(Clone, Copy)]
enum Shown {
    /// A container of this list waits for this reason, after so many restarts.
    Waiting(&'static str, &'static str, i64),
    /// A condition of the pod.
    Unscheduled,
    /// An Event of this reason, with these words.
    Event(&'static str, &'static str),
}

const CONTAINERS: &str = "containerStatuses";
const INIT: &str = "initContainerStatuses";

/// A refusal by a quota is not here: it shows in the status of a `ReplicaSet`, which the audit log has without its body.
const ALL: [Provoked; 7] = [
    Provoked {
        name: "crash-loop",
        kind: CauseKind::CrashLoop,
        shown: Shown::Waiting(CONTAINERS, "CrashLoopBackOff", 3),
    },
    Provoked {
        name: "init-crash-loop",
        kind: CauseKind::CrashLoop,
        shown: Shown::Waiting(INIT, "CrashLoopBackOff", 3),
    },
    Provoked {
        name: "image-pull",
        kind: CauseKind::ImagePull,
        shown: Shown::Waiting(CONTAINERS, "ErrImagePull", 0),
    },
    Provoked {
        name: "config",
        kind: CauseKind::Config,
        shown: Shown::Waiting(CONTAINERS, "CreateContainerConfigError", 0),
    },
    Provoked {
        name: "unschedulable",
        kind: CauseKind::Unschedulable,
        shown: Shown::Unscheduled,
    },
    Provoked {
        name: "volume",
        kind: CauseKind::Volume,
        shown: Shown::Event("FailedMount", "secret \"tls\" not found"),
    },
    Provoked {
        name: "unready",
        kind: CauseKind::Unready,
        shown: Shown::Event("Unhealthy", "Readiness probe failed: statuscode: 503"),
    },
];

/// Provokes each trouble so many times, one after the other, on this cluster.
pub async fn causes(cluster: &'static Cluster, rounds: usize) -> Result<()> {
    eprintln!("building the controller");
    let program = cargo::controller(false).await?;
    let mut scene = Scene::on(cluster, program, "detect").await?;
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 300, "graceSeconds": 5}}))
        .await?;
    scene.start_controller().await?;
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        each(ALL.len(), async |index| {
            begin(&scene, &name(ALL[index], round)).await
        })
        .await?;
        for provoked in ALL {
            provoke(&scene, provoked, round).await?;
        }
    }
    report(&scene, rounds)
}

fn name(provoked: Provoked, round: usize) -> String {
    format!("{}-{round}", provoked.name)
}

/// A rollback to a version whose pods run and do not become ready.
async fn begin(scene: &Scene, name: &str) -> Result<()> {
    let dead = shop::deployment(name)
        .version("v1")
        .replicas(1)
        .behaviour(Behaviour::NeverReady);
    scene.apply_deployment(dead).await?;
    eventually("the first revision is there", PATIENCE, async || {
        ensure!(scene.replica_sets(name).await?.len() == 1);
        Ok(())
    })
    .await?;
    // Neither the Deployment controller nor the deadline may end it before its trouble is provoked.
    let bad = shop::deployment(name)
        .version("v2")
        .replicas(1)
        .progress_deadline(600);
    scene.deploy(bad).await?;
    scene.ask(name, name, json!({"previous": {}})).await?;
    scene.approve(name, User::Approver).await?;
    scene.wait_for(name, "RollingOut").await?;
    Ok(())
}

async fn provoke(scene: &Scene, provoked: Provoked, round: usize) -> Result<()> {
    let name = name(provoked, round);
    let client = scene.client(User::Admin).await?;
    let pod = new_pod(&client, scene, &name).await?;
    match provoked.shown {
        Shown::Waiting(list, reason, restarts) => {
            let status = waiting(list, reason, restarts);
            say(&client, scene, &pod, status).await?;
        }
        Shown::Unscheduled => {
            let status = json!({"containerStatuses": null, "phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/5 nodes"}]});
            say(&client, scene, &pod, status).await?;
        }
        Shown::Event(reason, message) => {
            if provoked.kind == CauseKind::Volume {
                say(
                    &client,
                    scene,
                    &pod,
                    waiting(CONTAINERS, "ContainerCreating", 0),
                )
                .await?;
                // What follows from that write has to be over before the Event comes.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            create_event(&client, scene, &pod, &event_name(&pod), reason, message).await?;
        }
    }
    wait_until_named(scene, &name, provoked.kind).await
}

/// The pod of the version that is coming up, once its node has taken it.
async fn new_pod(client: &Client, scene: &Scene, name: &str) -> Result<Pod> {
    let set = scene.status(name).await?.plan.context("no plan")?.targets;
    let set = set.first().and_then(|target| target.source_name());
    let beginning = format!("{}-", set.context("the plan names no ReplicaSet")?);
    let api: Api<Pod> = Api::namespaced(client.clone(), scene.ns());
    eventually("the pod runs", PATIENCE, async || {
        let pods = api.list(&ListParams::default()).await?;
        let found = pods.items.into_iter().find(|pod| {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            pod.name_any().starts_with(&beginning)
                && pod.metadata.deletion_timestamp.is_none()
                && phase == Some("Running")
        });
        found.context("there is none")
    })
    .await
}

fn waiting(list: &str, reason: &str, restarts: i64) -> Value {
    let mut status = json!({"phase": "Pending"});
    let mut container = json!({"name": "app", "image": "a:v1", "imageID": "", "ready": false, "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": "said by the bench"}}});
    if restarts > 0 {
        container["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    }
    status[list] = json!([container]);
    status
}

async fn say(client: &Client, scene: &Scene, pod: &Pod, status: Value) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), scene.ns());
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(&pod.name_any(), &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

fn event_name(pod: &Pod) -> String {
    format!("{}.bench", pod.name_any())
}

async fn create_event(
    client: &Client,
    scene: &Scene,
    pod: &Pod,
    name: &str,
    reason: &str,
    message: &str,
) -> Result<()> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event: KubeEvent = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": scene.ns()},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": scene.ns(), "name": pod.name_any(),
            "uid": pod.uid(), "fieldPath": "spec.containers{app}"},
        "type": "Warning", "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now, "source": {"component": "kubelet"},
    }))?;
    let api: Api<KubeEvent> = Api::namespaced(client.clone(), scene.ns());
    api.create(&PostParams::default(), &event).await?;
    Ok(())
}

async fn wait_until_named(scene: &Scene, name: &str, kind: CauseKind) -> Result<()> {
    eventually("the cause is named", PATIENCE, async || {
        let status = scene.status(name).await?;
        let rollout = status.targets.first().and_then(|it| it.rollout.as_ref());
        let cause = rollout.and_then(|rollout| rollout.cause.as_ref());
        ensure!(cause.is_some_and(|cause| cause.kind == kind), "{cause:?}");
        Ok(())
    })
    .await
}

/// When the bench's last word about the pods of a request was answered: the write that showed the trouble.
fn shown_at(events: &[Event], name: &str) -> Option<Timestamp> {
    let said = |event: &&Event| {
        let status =
            event.resource == "pods" && event.subresource == "status" && event.verb == "patch";
        let told = event.resource == "events"
            && event.verb == "create"
            && event.name.rsplit('.').next() == Some("bench");
        let ours = event.user != CONTROLLER && !event.user.starts_with("system:");
        event.succeeded() && ours && (status || told) && event.name.starts_with(&format!("{name}-"))
    };
    events.iter().filter(said).map(|event| event.answered).max()
}

/// When the controller's first status with this cause was answered.
fn named_at(events: &[Event], name: &str, kind: CauseKind) -> Option<Timestamp> {
    let names = |event: &&Event| {
        let body = event.request_object.as_ref();
        let named = body.and_then(|body| body.pointer("/status/targets/0/rollout/cause/kind"));
        event.succeeded()
            && event.user == CONTROLLER
            && event.resource == "rollbackrequests"
            && event.subresource == "status"
            && event.name == name
            && named.and_then(Value::as_str) == Some(kind.as_str())
    };
    events
        .iter()
        .filter(names)
        .map(|event| event.answered)
        .min()
}

fn report(scene: &Scene, rounds: usize) -> Result<()> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let events = audit.events(scene.ns())?;
    println!("trouble shown -> status that names it, {rounds} times each, debug build");
    println!("{:<20}{:>12}{:>12}", "", "median", "p99");
    let mut all = Vec::new();
    for provoked in ALL {
        let mut delays = Vec::new();
        for round in 0..rounds {
            let name = name(provoked, round);
            let shown = shown_at(&events, &name);
            let named = named_at(&events, &name, provoked.kind);
            let (Some(shown), Some(named)) = (shown, named) else {
                bail!("the audit log lacks {name}: shown {shown:?}, named {named:?}");
            };
            delays.push(named.duration_since(shown).as_secs_f64() * 1000.0);
        }
        line(provoked.name, &delays);
        all.extend(delays);
    }
    line("all", &all);
    Ok(())
}

fn line(what: &str, delays: &[f64]) {
    let (median, worst) = (percentile(delays, 50), percentile(delays, 99));
    println!("{what:<20}{median:>9.0} ms{worst:>9.0} ms");
}
