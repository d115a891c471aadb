//! One tenant fills a namespace with large objects and many requests. It must not take the memory, or the turn, of others.
//!
//! One controller looks after all namespaces here, so these run in a cluster of their own, one after the other.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::PostParams;
use rollback_api::status::Outcome;
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::memory::Limit;
use testkit::scene::{PATIENCE, ready, request};
use testkit::{Cluster, ControllerProcess, Scene, User, eventually, flood, shop};
use tokio::sync::OnceCell;

/// The controller's program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The limit of the controller in deploy/30-controller.yaml.
const LIMIT: u64 = 256 << 20;
/// How many `ReplicaSets` of 1.15 MB the Deployment has.
const SETS: usize = 60;
/// How many large requests wait in the namespace.
const REQUESTS: usize = 8;
/// How long what has much to read may wait for its turn.
const LONG: Duration = Duration::from_mins(4);

static ONE_BY_ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn program() -> PathBuf {
    std::env::var_os("ROLLBACK_MEASURED_CONTROLLER").map_or_else(|| PROGRAM.into(), PathBuf::from)
}

/// The cluster. In one that other programs use too, this controller would look after their namespaces.
async fn own() -> Result<&'static Cluster> {
    static OWN: OnceCell<&'static Cluster> = OnceCell::const_new();
    let start = async || {
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        anyhow::Ok(&*Box::leak(Box::new(cluster)))
    };
    OWN.get_or_try_init(start).await.copied()
}

/// A controller for all namespaces.
async fn everywhere(scene: &Scene, arguments: &[&str]) -> Result<ControllerProcess> {
    let controller = ControllerProcess::spawn(&program(), &scene.kubeconfig, "", arguments)?;
    controller.ready().await?;
    Ok(controller)
}

/// A request as large as it may be: many targets, all the annotations that there may be.
fn large(number: usize) -> Value {
    let target = |place: usize| {
        json!({
            "name": if place == 0 { "api".to_owned() } else { format!("{}-{number}-{place}", "x".repeat(100)) },
            "to": {"revision": 1}, "from": {"image": format!("registry.broxiva.example/{}", "y".repeat(150))},
        })
    };
    let mut request = request(
        &format!("large-{number:03}"),
        (0..200).map(target).collect::<Vec<_>>().into(),
    );
    let notes = (0..60).map(|note| (format!("note-{note}"), json!("z".repeat(500))));
    request["metadata"]["annotations"] = Value::Object(notes.collect());
    request["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
        json!("w".repeat(200_000));
    request
}

/// How a request ends that may have to wait for its turn.
async fn end(scene: &Scene, name: &str) -> Result<Outcome> {
    eventually(&format!("{name} has ended"), LONG, async || {
        let status = scene.status(name).await?;
        status.outcome.context("it has not")
    })
    .await
}

#[tokio::test]
async fn a_tenant_with_a_large_history_takes_no_memory_of_others() -> Result<()> {
    let _one = ONE_BY_ONE.lock().await;
    let bad = Scene::on(own().await?, PROGRAM, "memory-bad").await?;
    let good = Scene::on(own().await?, PROGRAM, "memory-good").await?;
    good.two_versions("web").await?;
    for version in ["v1", "v2"] {
        bad.deploy(shop::deployment("api").version(version)).await?;
    }
    bad.patch_deployment("api", json!({"spec": {"revisionHistoryLimit": 1000}}))
        .await?;
    let client = bad.client(User::Admin).await?;
    flood::replica_sets(&client, bad.ns(), "api", SETS, Some(100)).await?;
    let adopted = async || {
        let sets = shop::api(&client, bad.ns(), "apps/v1", "ReplicaSet");
        let all = sets
            .list_metadata(&kube::api::ListParams::default())
            .await?;
        let owned = all
            .items
            .iter()
            .filter(|set| set.metadata.owner_references.is_some());
        let owned = owned.count();
        ensure!(owned == SETS + 2, "{owned} are");
        Ok(())
    };
    eventually("the Deployment has taken them", PATIENCE, adopted).await?;

    let controller = everywhere(&bad, &[]).await?;
    let limit = Limit::put(controller.pid(), LIMIT)?;
    // 0.7 MB, which was accepted once, is not any more.
    let mut refused = large(999);
    for note in 0..200 {
        refused["metadata"]["annotations"][format!("more-{note}")] = json!("v");
    }
    let refused = bad.ask_for(refused).await;
    ensure!(
        refused.is_err_and(|error| format!("{error:#}").contains("at most 64 annotations")),
        "a request with 260 annotations is accepted"
    );
    for number in 0..REQUESTS {
        bad.ask_for(large(number)).await?;
    }
    // All of the history, some of it, and one that is known by its number.
    bad.ask("any", "api", json!({"lastKnownGood": {}})).await?;
    let image = json!({"image": {"image": "registry.broxiva.example/api:v1"}});
    bad.ask("by-image", "api", image).await?;
    bad.ask("by-number", "api", json!({"revision": 1})).await?;

    // Meanwhile everybody else is served.
    let (_, outcome) = good
        .roll_back("good", "web", json!({"previous": {}}))
        .await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");

    let outcome = end(&bad, "by-image").await?;
    ensure!(
        (outcome.result, outcome.reason) == (RequestState::Refused, Reason::TooLarge),
        "{outcome:?}"
    );
    ensure!(
        outcome.message.contains("were not read"),
        "{}",
        outcome.message
    );
    // What is known by its number is found, whatever else there is.
    let plan = eventually("there is a plan", LONG, async || {
        let status = bad.status("by-number").await?;
        status.plan.with_context(|| format!("{:?}", status.outcome))
    });
    let revision = plan.await?.targets[0].to.revision;
    ensure!(revision == Some(1), "{revision:?}");
    for number in 0..REQUESTS {
        end(&bad, &format!("large-{number:03}")).await?;
    }
    limit.check("the controller")?;
    ensure!(
        controller.exited()?.is_none(),
        "the controller has ended: {}",
        controller.log()
    );
    println!(
        "hostile objects: {} MiB of ReplicaSets, {REQUESTS} large requests",
        (SETS * flood::SIZE) >> 20
    );
    drop(limit);
    Ok(())
}

#[tokio::test]
async fn a_namespace_has_so_many_open_requests_and_the_oldest_keep_their_place() -> Result<()> {
    let _one = ONE_BY_ONE.lock().await;
    let scene = Scene::on(own().await?, PROGRAM, "open").await?;
    let other = Scene::on(own().await?, PROGRAM, "open-other").await?;
    scene.two_versions("api").await?;
    other.two_versions("api").await?;
    let _controller = everywhere(&scene, &["--max-open-requests", "6"]).await?;
    let to = json!({"previous": {}});
    for number in 0..3 {
        let name = format!("first-{number}");
        scene.ask(&name, "api", to.clone()).await?;
        scene.plan(&name).await?;
    }
    // The API server stamps seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for number in 0..5 {
        let name = format!("flood-{number}");
        scene.ask(&name, "api", to.clone()).await?;
        let (request, outcome) = scene.wait_for_end(&name).await?;
        ensure!(
            (outcome.result, outcome.reason)
                == (RequestState::Refused, Reason::TooManyOpenRequests),
            "{outcome:?}"
        );
        ensure!(
            outcome.message.contains("at most 3 of one requester"),
            "{}",
            outcome.message
        );
        ensure!(request.status.context("no status")?.plan.is_none());
    }
    for number in 0..3 {
        let request = scene.request(&format!("first-{number}")).await?;
        ensure!(
            ready(&request).0 == "AwaitingApproval",
            "{:?}",
            ready(&request)
        );
    }
    // Somebody else has places in the same namespace.
    let api: Api<RollbackRequest> = scene.requests(User::Admin).await?;
    let theirs = request("theirs", json!([{"name": "api", "to": to}]));
    api.create(&PostParams::default(), &serde_json::from_value(theirs)?)
        .await?;
    scene.plan("theirs").await?;
    // Another namespace has its own places, and one that was given back is free.
    other.ask("there", "api", to.clone()).await?;
    other.plan("there").await?;
    scene
        .annotate(
            "first-1",
            User::Requester,
            json!({rollback_api::CANCELLED_BY: User::Requester.as_str()}),
        )
        .await?;
    scene.wait_for_end("first-1").await?;
    let api: Api<RollbackRequest> = scene.requests(User::Requester).await?;
    let again = eventually("a place is free", PATIENCE, async || {
        let name = format!("again-{}", unused());
        let request = serde_json::from_value(request(&name, json!([{"name": "api", "to": to}])))?;
        api.create(&PostParams::default(), &request).await?;
        scene.plan(&name).await?;
        Ok(name)
    });
    again.await?;
    Ok(())
}

/// A number that was not used before.
fn unused() -> u128 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos())
}
