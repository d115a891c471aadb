//! What the guard is tried on is the operator's own: no tenant switches approvals off for anybody by what they have in
//! theirs, and what somebody does to the objects that are there for it is told, and mended.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rollback_api::{Reason, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, PRODUCTION, condition, request};
use testkit::{Cluster, Scene, User, eventually, shop};

use crate::expect::{End, PROGRAM};
use crate::running::get;

/// The operator's own namespace, and the name of everything that the guard is tried on.
const HOME: &str = "rollback-system";
const NAME: &str = "rollback-selftest";

/// What a tenant does in their own namespace.
enum Trick {
    /// So many replicas that there cannot be one more.
    Replicas,
    /// Everybody may approve there, the controller too.
    Everybody,
    /// The controller may approve there.
    Approver,
}

/// In a cluster of its own: the guard is there for everybody, and one controller looks after all.
#[tokio::test]
async fn what_a_tenant_has_is_no_hole() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let mut elsewhere = Scene::on(cluster, PROGRAM, "elsewhere").await?;
    elsewhere.two_versions("api").await?;
    let tricks = [
        ("replicas", Trick::Replicas),
        ("everybody", Trick::Everybody),
        ("approver", Trick::Approver),
    ];
    let mut wrong = Vec::new();
    for (name, trick) in tricks {
        let tried = harmless(&mut elsewhere, name, &trick).await;
        wrong.extend(tried.err().map(|error| format!("{name}: {error:#}")));
        // What the next one does is seen by itself.
        elsewhere.controller.take().context("no controller")?.kill();
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A tenant has an open request with a plan, and does this; a controller that starts then counts approvals.
async fn harmless(elsewhere: &mut Scene, name: &str, trick: &Trick) -> Result<()> {
    let tenant = Scene::on(elsewhere.cluster, PROGRAM, name).await?;
    for version in ["v1", "v2"] {
        let app = shop::deployment("api").replicas(1).version(version);
        tenant.deploy(app).await?;
    }
    let first = everywhere(&tenant).await?;
    tenant.ask(name, "api", json!({"previous": {}})).await?;
    tenant.plan(name).await?;
    first.kill();
    play(&tenant, trick).await?;

    elsewhere.controller = Some(everywhere(elsewhere).await?);
    no_hole(elsewhere).await?;
    // Absent while an approval is merely waited for.
    if let Some((_, reason, said)) = condition(&tenant.request(name).await?, "Approved") {
        ensure!(reason != "GuardMissing", "{said}");
    }
    // Nobody else notices anything.
    elsewhere.ask(name, "api", json!({"previous": {}})).await?;
    let digest = elsewhere.plan(name).await?.digest;
    elsewhere
        .approve_plan(name, User::Approver, PRODUCTION, &digest)
        .await?;
    eventually("the approval counts", PATIENCE, async || {
        let status = elsewhere.status(name).await?;
        let counted = status.approvals.len() == 1 || status.outcome.is_some();
        ensure!(counted, "{:?}", status.conditions);
        Ok(())
    })
    .await?;
    elsewhere.wait_for_end(name).await?;
    // So that the next one has something to roll back.
    elsewhere
        .deploy(shop::deployment("api").version(&format!("after-{name}")))
        .await?;
    let requests = tenant.requests(User::Admin).await?;
    requests.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

async fn play(tenant: &Scene, trick: &Trick) -> Result<()> {
    let subject = match trick {
        Trick::Replicas => {
            let client = tenant.client(User::Admin).await?;
            let quota = json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
                "spec": {"hard": {"pods": "2"}},
            });
            shop::apply(&client, tenant.ns(), &quota).await?;
            let most = json!({"spec": {"replicas": i32::MAX}});
            return tenant.patch_deployment("api", most).await;
        }
        Trick::Everybody => "--group=system:authenticated",
        Trick::Approver => "--serviceaccount=rollback-system:rollback-controller",
    };
    let role = "--clusterrole=rollback-approver";
    let bind = [
        "create",
        "rolebinding",
        "oops",
        "-n",
        tenant.ns(),
        role,
        subject,
    ];
    tenant.cluster.kubectl_ok(User::Admin, &bind, "").await?;
    Ok(())
}

/// A controller for all namespaces.
async fn everywhere(scene: &Scene) -> Result<testkit::ControllerProcess> {
    let controller = testkit::ControllerProcess::spawn(&scene.program, &scene.kubeconfig, "", &[])?;
    controller.ready().await?;
    Ok(controller)
}

/// Every forged attempt was answered, and none was accepted.
async fn no_hole(scene: &Scene) -> Result<()> {
    let controller = scene.controller.as_ref().context("no controller")?;
    eventually("the guard was tried", PATIENCE, async || {
        let (_, metrics) = get(controller, "/metrics").await?;
        let tested = "rollback_guard_tested_timestamp_seconds ";
        let line = metrics.lines().find(|line| line.starts_with(tested));
        ensure!(!line.context(tested)?.ends_with(" 0"));
        Ok(())
    })
    .await?;
    let (_, metrics) = get(controller, "/metrics").await?;
    let holes: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("rollback_guard_hole{") && !line.ends_with(" 0"))
        .collect();
    ensure!(holes.is_empty(), "{holes:?}: {}", controller.log());
    Ok(())
}

/// The objects that the guard is tried on can be lost, and somebody can be there first.
#[tokio::test]
async fn what_the_guard_is_tried_on_is_looked_after() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let mut scene = Scene::on(cluster, PROGRAM, "stage").await?;
    scene.two_versions("api").await?;
    let own: Api<RollbackRequest> = Api::namespaced(cluster.client(User::Admin).await?, HOME);

    // Somebody is there before it, with a request that could be meant.
    let squatter = request(NAME, json!([{"name": "api", "to": {"previous": {}}}]));
    let squatter = serde_json::from_value(squatter)?;
    own.create(&PostParams::default(), &squatter).await?;
    scene.controller = Some(everywhere(&scene).await?);
    no_hole(&scene).await?;
    works(&scene, "squatted").await?;
    never_carried_out(&own).await?;

    // It is gone: whoever leads next makes it again. Nothing holds it back, so that namespaces and definitions can go.
    own.delete(NAME, &DeleteParams::default()).await?;
    eventually("it is gone at once", PATIENCE, async || {
        ensure!(own.get_opt(NAME).await?.is_none());
        Ok(())
    })
    .await?;
    restart(&mut scene).await?;
    no_hole(&scene).await?;
    works(&scene, "made-again").await?;
    never_carried_out(&own).await?;

    // What it cannot make again is asked for, and no approval counts meanwhile.
    for kind in ["deployment", "configmap"] {
        let delete = ["delete", kind, NAME, "-n", HOME];
        cluster.kubectl_ok(User::Admin, &delete, "").await?;
    }
    restart(&mut scene).await?;
    untested(&scene).await?;
    let file = testkit::workspace().join("deploy/30-controller.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(file)?)?;
    let admin = cluster.client(User::Admin).await?;
    for object in documents.iter().filter(|it| it["metadata"]["name"] == NAME) {
        shop::apply(&admin, HOME, object).await?;
    }
    eventually("it is tried again by itself", PATIENCE, async || {
        no_hole(&scene).await
    })
    .await?;
    works(&scene, "put-back").await
}

async fn restart(scene: &mut Scene) -> Result<()> {
    scene.controller.take().context("no controller")?.kill();
    scene.controller = Some(everywhere(scene).await?);
    Ok(())
}

/// An approval counts.
async fn works(scene: &Scene, name: &str) -> Result<()> {
    scene.ask(name, "api", json!({"previous": {}})).await?;
    scene.approve(name, User::Approver).await?;
    End::well(Reason::Unverified).check(scene, name).await?;
    scene
        .deploy(shop::deployment("api").version(&format!("after-{name}")))
        .await?;
    Ok(())
}

/// It says what it is for, and nothing comes of it.
async fn never_carried_out(own: &Api<RollbackRequest>) -> Result<()> {
    let request = own.get(NAME).await?;
    let (status, reason, said) = condition(&request, "Ready").context("no condition")?;
    ensure!(
        status == "False" && reason == "SelfTest" && said.contains("never carried out"),
        "{status} {reason}: {said}"
    );
    ensure!(!request.holds_finalizer(), "{:?}", request.metadata);
    let status = request.status.unwrap_or_default();
    ensure!(status.outcome.is_none() && status.targets.is_empty());
    Ok(())
}

/// The request, the metric and the log say that the guard could not be tried, and on what.
async fn untested(scene: &Scene) -> Result<()> {
    scene
        .ask("untested", "api", json!({"previous": {}}))
        .await?;
    eventually("it is said", PATIENCE, async || {
        let request = scene.request("untested").await?;
        let (_, reason, said) = condition(&request, "Approved").context("no condition")?;
        ensure!(reason == "GuardMissing", "{reason}: {said}");
        for part in [
            "rollback-guard-deployment",
            "rollback-guard-artifact",
            "could not be tried in namespace rollback-system",
            "\"rollback-selftest\" not found",
            "kubectl apply -f deploy/",
        ] {
            ensure!(said.contains(part), "{part:?} is not in {said}");
        }
        Ok(())
    })
    .await?;
    let requests = scene.requests(User::Admin).await?;
    requests
        .delete("untested", &DeleteParams::default())
        .await?;
    Ok(())
}
