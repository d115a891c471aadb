//! The names under which the watch asks can be computed by whoever may read the Deployment.

use anyhow::{Context as _, Result, ensure};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use rollback_api::{AUTOMATIC, Reason, RequestState, RollbackRequest};
use rollback_core::evidence::trigger::request_name;
use rollback_core::observed::Deployment;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually};

use crate::stage::{
    SOURCE, bad_release, ends, events, metrics, receiver, requests, rules, runs, scene,
};

/// Nothing is asked for so soon.
fn patient() -> Value {
    json!({"watch": true, "approve": true, "grace": {
        "crashSeconds": 3600, "imagePullSeconds": 3600, "unreadySeconds": 3600, "rolloutSeconds": 3600,
    }})
}

/// A bad release that the watch has not asked about yet, and the name under which it will.
async fn on_trial(name: &str) -> Result<(Scene, Deployment, String)> {
    let scene = scene(name, patient()).await?;
    bad_release(&scene, Behaviour::Crash).await?;
    let live = eventually("it has a number", PATIENCE, async || {
        let live = Deployment(scene.deployment("api").await?);
        ensure!(live.revision() == Some(2));
        Ok(live)
    })
    .await?;
    let name = request_name(&live, rollback_api::request::Category::HealthCheck);
    Ok((scene, live, name))
}

/// The watch may ask now, and looks.
async fn go(scene: &Scene, approve: bool) -> Result<()> {
    rules(scene, json!({"watch": true, "approve": approve})).await?;
    let note =
        json!({"metadata": {"annotations": {AUTOMATIC: "enabled", "example.com/remark": "Look!"}}});
    scene.patch_deployment("api", note).await
}

/// A request about what is live, as from an alert of this source.
fn about(live: &Deployment, name: &str, source: &str) -> Result<RollbackRequest> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest", "metadata": {"name": name},
        "spec": {
            "targets": [{"name": "api", "from": {"templateDigest": live.template().digest()}, "to": {"previous": {}}}],
            "reason": {"category": "HealthCheck", "summary": "it does not answer"},
            "trigger": {"source": source, "alert": "Down", "id": "1", "startedAt": jiff::Timestamp::now(), "pendingSeconds": 0},
        },
    }))?)
}

/// A machine of the namespace that may trigger, for a source that the policy does not name.
async fn machine(scene: &Scene) -> Result<Api<RollbackRequest>> {
    let ns = scene.ns();
    let account = format!("--serviceaccount={ns}:ci");
    for command in [
        vec!["create", "serviceaccount", "ci", "-n", ns],
        vec![
            "create",
            "rolebinding",
            "ci",
            "--clusterrole=rollback-trigger",
            &account,
            "-n",
            ns,
        ],
    ] {
        scene.cluster.kubectl_ok(User::Admin, &command, "").await?;
    }
    let kubeconfig = scene
        .cluster
        .service_account_kubeconfig(ns, "ci", None)
        .await?;
    let config = scene.cluster.config_from(&kubeconfig).await?;
    Ok(Api::namespaced(testkit::typed::client(config)?, ns))
}

async fn creates(api: &Api<RollbackRequest>, request: &RollbackRequest) -> Result<()> {
    eventually("it may ask", PATIENCE, async || {
        api.create(&PostParams::default(), request).await?;
        Ok(())
    })
    .await
}

/// Somebody else's request under that name keeps nobody from asking, and somebody hears of it.
#[tokio::test]
async fn a_name_that_is_taken_keeps_the_watch_from_nothing() -> Result<()> {
    let (scene, live, name) = on_trial("taken").await?;
    let squatter = about(&live, &name, "ci")?;
    creates(&machine(&scene).await?, &squatter).await?;
    ends(
        &scene,
        &name,
        RequestState::Refused,
        Reason::SourceNotAllowed,
    )
    .await?;
    go(&scene, true).await?;
    let other = eventually("the watch asks", PATIENCE, async || {
        let mut all = requests(&scene).await?;
        all.retain(|request| request.name_any() != name);
        let request = all.pop().context("nobody has asked")?;
        Ok(request.name_any())
    })
    .await?;
    ensure!(other.starts_with("auto-api-"), "{other}");
    ends(&scene, &other, RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(runs(&scene, "api", "v1").await?);
    let told = events(&scene, &name).await?;
    ensure!(
        told.iter().any(|event| event.starts_with("NameTaken")),
        "{told:?}"
    );
    let page = metrics(&scene).await?;
    ensure!(page.contains("rollback_names_taken_total 1"), "{page}");
    ensure!(requests(&scene).await?.len() == 2);
    Ok(())
}

/// The twin: what the receiver has asked for already, the watch does not ask for again.
#[tokio::test]
async fn what_the_receiver_has_asked_for_is_not_asked_for_again() -> Result<()> {
    let (scene, live, name) = on_trial("asked-before").await?;
    // It waits for a person, so the bad version stays.
    rules(&scene, json!({"watch": false, "approve": false})).await?;
    creates(&receiver(&scene).await?, &about(&live, &name, SOURCE)?).await?;
    scene.wait_for(&name, "AwaitingApproval").await?;
    go(&scene, false).await?;
    eventually("the watch has looked", PATIENCE, async || {
        let controller = scene.controller.as_ref().context("no controller")?;
        let log = controller.log();
        ensure!(log.contains("\"already asked\""), "{log}");
        Ok(())
    })
    .await?;
    ensure!(requests(&scene).await?.len() == 1);
    let page = metrics(&scene).await?;
    ensure!(page.contains("rollback_names_taken_total 0"), "{page}");
    Ok(())
}
