//! One controller for all namespaces, and one namespace that has far more for it to do than it can do at the same time:
//! everybody else gets their turn.

use std::time::Duration;

use anyhow::{Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::{PATIENCE, ready};
use testkit::shop::{self, Behaviour};
use testkit::{Cluster, ControllerProcess, Scene, User, eventually};

use crate::stage::{PROGRAM, asked, ends, named, prepare};

/// How many requests one namespace has, each with numbers that nobody answers.
const REQUESTS: usize = 8;
/// How many new versions one namespace has, each of which is watched for long.
const VERSIONS: usize = 4;
/// How many places there are.
const PLACES: &str = "2";

/// Two namespaces of a cluster of their own, so that one controller may look after both, and after all there is.
async fn neighbours() -> Result<(Scene, Scene)> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let busy = Scene::on(cluster, PROGRAM, "busy").await?;
    let other = Scene::on(cluster, PROGRAM, "other").await?;
    Ok((busy, other))
}

async fn everywhere(scene: &Scene) -> Result<ControllerProcess> {
    let places = ["--concurrency", PLACES, "--max-analyses", PLACES];
    let controller = ControllerProcess::spawn(&scene.program, &scene.kubeconfig, "", &places)?;
    controller.ready().await?;
    Ok(controller)
}

#[tokio::test]
async fn many_slow_requests_keep_nobody_else_from_a_plan() -> Result<()> {
    let (busy, mut other) = neighbours().await?;
    let pods = HealthServer::start().await?;
    pods.answer(Answer::healthy().after(Duration::from_mins(10)));
    let check = json!({"name": "live", "port": HEALTH_PORT, "path": "/"});
    busy.policy(json!({"verification": {"http": [check]}}))
        .await?;
    for version in ["v1", "v2"] {
        let app = shop::deployment("api").version(version).pod_ip(&pods.ip());
        busy.deploy(app).await?;
        other
            .deploy(shop::deployment("api").version(version))
            .await?;
    }
    let name = |number: usize| format!("slow-{number}");
    for number in 0..REQUESTS {
        busy.ask(&name(number), "api", json!({"previous": {}}))
            .await?;
    }
    other.controller = Some(everywhere(&other).await?);
    eventually("it is at work", PATIENCE, async || {
        ensure!(pods.count() > 0);
        Ok(())
    })
    .await?;
    other.ask("api-5xx", "api", json!({"previous": {}})).await?;
    other.plan("api-5xx").await?;
    let mut first = 0;
    for number in 0..REQUESTS {
        let (state, _) = ready(&busy.request(&name(number)).await?);
        first += usize::from(state == "AwaitingApproval");
    }
    ensure!(first < REQUESTS / 2, "{first} of {REQUESTS} came first");
    other.approve("api-5xx", User::Approver).await?;
    ends(
        &other,
        "api-5xx",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    // Nobody is forgotten.
    pods.answer(Answer::healthy());
    for number in 0..REQUESTS {
        busy.wait_for(&name(number), "AwaitingApproval").await?;
    }
    Ok(())
}

#[tokio::test]
async fn many_long_trials_keep_nobody_else_from_theirs() -> Result<()> {
    let (busy, mut other) = neighbours().await?;
    other.controller = Some(everywhere(&other).await?);
    let patient = json!({"crashSeconds": 900, "imagePullSeconds": 900, "unreadySeconds": 900, "rolloutSeconds": 900});
    prepare(
        &busy,
        json!({"watch": true, "approve": true, "grace": patient}),
    )
    .await?;
    prepare(&other, json!({"watch": true, "approve": true})).await?;
    let app = |number: usize| named(&format!("app-{number}"), "v1").progress_deadline(900);
    for number in 0..VERSIONS {
        busy.deploy(app(number)).await?;
    }
    for number in 0..VERSIONS {
        let never = app(number).version("v2").behaviour(Behaviour::NeverReady);
        busy.apply_deployment(never).await?;
    }
    // Long enough for the controller, which looks at once.
    eventually("they roll out", PATIENCE, async || {
        for number in 0..VERSIONS {
            let app = busy.deployment(&format!("app-{number}")).await?;
            ensure!(app["status"]["unavailableReplicas"].as_i64() > Some(0));
        }
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    crate::stage::bad_release(&other, Behaviour::Crash).await?;
    let request = asked(&other).await?;
    ends(
        &other,
        &request,
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    Ok(())
}
