//! A controller that is newer than the definitions in the cluster: what it writes would lose fields, so it writes nothing
//! and does not lead until they are updated. In a cluster of its own: the definitions are there for everybody.

use anyhow::{Context as _, Result, ensure};
use rollback_api::{GROUP, VERSION, served};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::{Cluster, ControllerProcess, Scene, User, eventually, shop};

use crate::pair::{LEASE_SECONDS, PROGRAM, SYSTEM, metric, page};

/// The field that is taken out of the definition.
const FIELD: &str = "RollbackRequest.status.plan.guard";
const REQUESTS: &str = "rollbackrequests.rollback.broxiva.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_older_definitions_it_is_not_ready_and_writes_nothing_until_they_are_updated()
-> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let scene = Scene::on(cluster, PROGRAM, "older").await?;
    for version in ["v1", "v2"] {
        let deployment = shop::deployment("api").version(version).replicas(1);
        scene.deploy(deployment).await?;
    }
    scene.ask("early", "api", json!({"previous": {}})).await?;

    make_older(cluster).await?;
    let alone = scene.spawn(&["--leader-elect=false"])?;
    let first = elects(&scene, "first")?;
    for controller in [&alone, &first] {
        says_what_is_missing(controller).await?;
    }
    // It looks a second time in vain.
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    for controller in [&alone, &first] {
        says_what_is_missing(controller).await?;
        ensure!(metric(controller, "rollback_leader").await? == 0);
    }
    nothing_was_written(cluster)?;
    ensure!(!has_lease(&scene).await?, "somebody took the lease");
    alone.kill();

    update(cluster).await?;
    first.ready().await.with_context(|| first.log())?;
    scene.approve("early", User::Approver).await?;
    let (_, outcome) = scene.wait_for_end("early").await?;
    ensure!(outcome.result.as_str() == "Succeeded", "{outcome:?}");

    // Who has stood by for long looks again before it leads.
    let second = elects(&scene, "second")?;
    second.ready().await.with_context(|| second.log())?;
    make_older(cluster).await?;
    ensure!(first.terminate()?.success());
    says_what_is_missing(&second).await?;
    ensure!(metric(&second, "rollback_leader").await? == 0);
    update(cluster).await?;
    second.ready().await.with_context(|| second.log())?;
    eventually("the second leads", PATIENCE, async || {
        ensure!(metric(&second, "rollback_leader").await? == 1, "not yet");
        Ok(())
    })
    .await
    .with_context(|| second.log())
}

fn elects(scene: &Scene, identity: &str) -> Result<ControllerProcess> {
    let seconds = LEASE_SECONDS.to_string();
    scene.spawn(&["--identity", identity, "--lease-seconds", &seconds])
}

/// Installs the definition without the field, and waits until that is served.
async fn make_older(cluster: &Cluster) -> Result<()> {
    let get = ["get", "crd", REQUESTS, "-o", "json"];
    let definition = cluster.kubectl_ok(User::Admin, &get, "").await?;
    let mut definition: Value = serde_json::from_str(&definition)?;
    let plan = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/plan";
    let plan = definition.pointer_mut(plan).context("no plan")?;
    let fields = plan["properties"].as_object_mut().context("no fields")?;
    ensure!(fields.remove("guard").is_some(), "there is no such field");
    if let Some(required) = plan["required"].as_array_mut() {
        required.retain(|name| name != "guard");
    }
    cluster
        .kubectl_ok(
            User::Admin,
            &["replace", "-f", "-"],
            &definition.to_string(),
        )
        .await?;
    serves(cluster, &[FIELD]).await
}

async fn update(cluster: &Cluster) -> Result<()> {
    cluster.install().await?;
    serves(cluster, &[]).await
}

async fn serves(cluster: &Cluster, missing: &[&str]) -> Result<()> {
    let client = cluster.client(User::Admin).await?;
    eventually("the definitions are served", PATIENCE, async || {
        let request = http::Request::get(format!("/openapi/v3/apis/{GROUP}/{VERSION}"));
        let document: Value = client.request(request.body(Vec::new())?).await?;
        let lacks = served::missing(&document);
        ensure!(lacks == missing, "what is served lacks {lacks:?}");
        Ok(())
    })
    .await
}

async fn says_what_is_missing(controller: &ControllerProcess) -> Result<()> {
    eventually("it says what is missing", PATIENCE, async || {
        let (status, body) = page(controller, "/readyz").await?;
        ensure!(status == 503 && body.contains(FIELD), "{status}: {body}");
        ensure!(controller.log().contains(FIELD), "the log does not say it");
        Ok(())
    })
    .await
    .with_context(|| controller.log())
}

/// Not even an attempt.
fn nothing_was_written(cluster: &Cluster) -> Result<()> {
    let asked = cluster.audit().context("no audit log")?;
    let asked = asked.events_of_user(CONTROLLER)?;
    ensure!(!asked.is_empty(), "it read nothing either");
    let reads = ["get", "list", "watch"];
    let mut writes = asked.iter().filter(|event| !reads.contains(&&*event.verb));
    let write = writes.next();
    ensure!(write.is_none(), "it wrote {write:?}");
    Ok(())
}

async fn has_lease(scene: &Scene) -> Result<bool> {
    let name = format!("rollback-controller-{}", scene.ns());
    let get = [
        "get",
        "lease",
        "-n",
        SYSTEM,
        &name,
        "--ignore-not-found",
        "-o",
        "name",
    ];
    let found = scene.cluster.kubectl_ok(User::Admin, &get, "").await?;
    Ok(!found.trim().is_empty())
}
