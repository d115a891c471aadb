//! That something has the name of a request, or the id of an alert, does not make it that one.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rollback_api::RollbackRequest;
use rollback_api::request::Category;
use rollback_core::evidence::trigger::{NAMES, request_name};
use rollback_core::observed::Deployment;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{User, eventually};

use super::stage::{Answered, Stage, alert, group};

/// The requests of the namespace, as a `ServiceAccount` of this one.
async fn requests_of(stage: &Stage, home: &str, account: &str) -> Result<Api<RollbackRequest>> {
    let cluster = stage.scene.cluster;
    let kubeconfig = cluster
        .service_account_kubeconfig(home, account, None)
        .await?;
    let config = cluster.config_from(&kubeconfig).await?;
    Ok(Api::namespaced(
        testkit::typed::client(config)?,
        stage.scene.ns(),
    ))
}

/// A machine of the namespace that may trigger as well.
async fn machine(stage: &Stage) -> Result<Api<RollbackRequest>> {
    let ns = stage.scene.ns();
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
        let cluster = stage.scene.cluster;
        cluster.kubectl_ok(User::Admin, &command, "").await?;
    }
    requests_of(stage, ns, "ci").await
}

/// Takes a name by a request about what is live.
async fn take(stage: &Stage, by: &Api<RollbackRequest>, name: &str) -> Result<()> {
    let live = Deployment(stage.scene.deployment("api").await?);
    let request: RollbackRequest = serde_json::from_value(json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest", "metadata": {"name": name},
        "spec": {
            "targets": [{"name": "api", "from": {"templateDigest": live.template().digest()}, "to": {"previous": {}}}],
            "reason": {"category": "ErrorRate", "summary": "it does not answer"},
            "trigger": {"source": "ci", "alert": "Down", "id": "1", "startedAt": jiff::Timestamp::now()},
        },
    }))?;
    eventually("it may ask", PATIENCE, async || {
        by.create(&PostParams::default(), &request).await?;
        Ok(())
    })
    .await
}

/// Deletes a request, and lets it go as the controller would.
async fn gone(stage: &Stage, name: &str) -> Result<()> {
    let admin = stage.scene.requests(User::Admin).await?;
    admin.delete(name, &DeleteParams::default()).await?;
    let controller = requests_of(stage, "rollback-system", "rollback-controller").await?;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    eventually("it is let go", PATIENCE, async || {
        match controller.patch(name, &PatchParams::default(), &free).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        ensure!(admin.get_opt(name).await?.is_none());
        Ok(())
    })
    .await
}

fn message(answer: &Answered) -> &str {
    let message = answer.body["alerts"][0]["message"].as_str();
    message.unwrap_or_default()
}

async fn taken(stage: &Stage) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/metrics", stage.receiver()?.metrics_url());
    let page = client.get(url).send().await?.text().await?;
    let line = page
        .lines()
        .find(|line| line.starts_with("rollback_receiver_names_taken_total{"));
    Ok(line.context("no such number")?.to_owned())
}

/// An alert with an id of its own.
fn about(stage: &Stage, deployment: &str, id: u32) -> Value {
    let mut alert = alert("HighErrorRate", stage.scene.ns(), deployment);
    alert["fingerprint"] = json!(format!("{id:016x}"));
    alert
}

/// Somebody who may trigger as well takes each name that the request could have: nobody is told "already asked", and
/// everybody hears of it.
#[tokio::test]
async fn a_name_that_is_taken_is_no_answer() -> Result<()> {
    let mut stage = Stage::new("taken").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let ci = machine(&stage).await?;
    let live = Deployment(stage.scene.deployment("api").await?);
    let first = request_name(&live, Category::ErrorRate);
    take(&stage, &ci, &first).await?;
    let mut last = first.clone();
    let names = u32::from(NAMES);
    for id in 1..names {
        let body = group(&[about(&stage, "api", id)]);
        let answer = stage.deliver("prometheus", &body).await?;
        answer.is("asked")?;
        let name = answer.request()?;
        ensure!(name != last && name.starts_with("auto-api-"), "{answer:?}");
        ensure!(
            message(&answer).contains(&format!("{first} is taken")),
            "{answer:?}"
        );
        // The same again is known under its other name.
        let again = stage.deliver("prometheus", &body).await?;
        again.is("already-asked")?;
        ensure!(again.request()? == name, "{again:?}");
        gone(&stage, &name).await?;
        take(&stage, &ci, &name).await?;
        last = name;
    }
    let body = group(&[about(&stage, "api", names)]);
    let answer = stage.deliver("prometheus", &body).await?;
    answer.is("not-allowed")?;
    ensure!(
        message(&answer).contains("nobody was asked") && message(&answer).contains(&last),
        "{answer:?}"
    );
    // One, two, three and more names that were not to be had.
    let sum = format!(" {}", names * (names + 1) / 2);
    let counted = taken(&stage).await?;
    ensure!(counted.ends_with(&sum), "{counted}");
    let log = stage.receiver()?.log();
    ensure!(log.contains("is taken by another one"), "{log}");
    // Who deletes one of them has the alert answered.
    gone(&stage, &first).await?;
    let answer = stage.deliver("prometheus", &body).await?;
    answer.is("asked")?;
    ensure!(answer.request()? == first, "{answer:?}");
    Ok(())
}

/// A request that is not there any more was not sent before.
#[tokio::test]
async fn a_request_that_was_deleted_is_made_again() -> Result<()> {
    let mut stage = Stage::new("deleted").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let body = group(&[stage.alert("HighErrorRate")]);
    let first = stage.deliver("prometheus", &body).await?;
    first.is("asked")?;
    let again = stage.deliver("prometheus", &body).await?;
    again.is("already-asked")?;
    ensure!(message(&again) == "it was sent before", "{again:?}");
    gone(&stage, &first.request()?).await?;
    stage.deliver("prometheus", &body).await?.is("asked")?;
    stage.only_request().await?;
    Ok(())
}

/// One id and one beginning about two Deployments are two alerts, in one delivery and in two.
#[tokio::test]
async fn the_same_id_about_another_deployment_is_another_alert() -> Result<()> {
    let mut stage = Stage::new("same-id").await?;
    stage.scene.two_versions("web").await?;
    stage.scene.two_versions("worker").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let alerts: Vec<Value> = ["api", "web", "worker"]
        .iter()
        .map(|name| {
            let mut alert = about(&stage, name, 1);
            alert["startsAt"] = json!(jiff::Timestamp::now().to_string());
            alert
        })
        .collect();
    let started = alerts[2]["startsAt"].clone();
    let with = |alert: &Value| {
        let mut alert = alert.clone();
        alert["startsAt"] = started.clone();
        alert
    };
    let [api, web, worker] = [with(&alerts[0]), with(&alerts[1]), with(&alerts[2])];
    stage
        .deliver("prometheus", &group(&[api]))
        .await?
        .is("asked")?;
    let answer = stage.deliver("prometheus", &group(&[web, worker])).await?;
    for place in 0..2 {
        ensure!(
            answer.body["alerts"][place]["outcome"] == "asked",
            "{answer:?}"
        );
    }
    ensure!(stage.requests().await?.len() == 3);
    Ok(())
}
