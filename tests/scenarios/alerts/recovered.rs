//! The whole way, with nobody in it: a shop that is scraped by a real Prometheus, a rule, a real Alertmanager, the receiver,
//! the controller, and a Deployment that is back on its good version.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rollback_api::status::BlockedBy;
use rollback_api::{AUTOMATIC, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::alertmanager::Alertmanager;
use testkit::health::{Answer, HealthServer};
use testkit::prometheus::{Prometheus, Setup};
use testkit::shop::deployment;
use testkit::{Scene, eventually};

use super::stage::Stage;
use super::tls;

/// How long each part of the way may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// `v2` does not answer; `v3` answers with errors.
const RULES: &str = r#"
groups:
- name: shop
  interval: 1s
  rules:
  - alert: HealthCheckFailing
    expr: shop_up == 0
    for: 2s
    annotations: {summary: "{{ $labels.deployment }} does not answer"}
  - alert: HighErrorRate
    expr: shop_error_ratio > 0.01
    for: 2s
    annotations: {summary: "{{ $labels.deployment }} answers {{ $value | humanizePercentage }} with 5xx"}
"#;

/// What Prometheus reads about `api`, whichever version it asks for.
fn exposition(namespace: &str, image: &str) -> String {
    let (up, errors) = if image.ends_with(":v2") {
        (0, 0.0)
    } else if image.ends_with(":v3") {
        (1, 0.3)
    } else {
        (1, 0.001)
    };
    let labels = format!("namespace=\"{namespace}\",deployment=\"api\"");
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "shop_up{{{labels}}} {up}");
    let _ = writeln!(text, "shop_error_ratio{{{labels}}} {errors}");
    text
}

/// Brings what is scraped up to date with what runs, for as long as it is awaited.
async fn follow(scene: &Scene, server: &HealthServer) -> Result<()> {
    loop {
        let text = exposition(scene.ns(), &scene.image("api").await?);
        server.answer_at("/metrics", Answer::healthy().with_body(&text));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn requests_of(stage: &Stage, alert: &str) -> Result<Vec<RollbackRequest>> {
    let mut all = stage.requests().await?;
    all.retain(|it| it.spec.trigger.as_ref().is_some_and(|it| it.alert == alert));
    Ok(all)
}

/// Waits for the only request that this alert brought; gives its name.
async fn asked(stage: &Stage, alert: &str) -> Result<String> {
    eventually("the alert became a request", PATIENCE, async || {
        let all = requests_of(stage, alert).await?;
        ensure!(
            all.len() == 1,
            "there are {}: {}",
            all.len(),
            stage.receiver()?.log()
        );
        all.first()
            .and_then(|it| it.metadata.name.clone())
            .context("no name")
    })
    .await
}

#[tokio::test]
async fn a_bad_release_is_gone_without_a_person() -> Result<()> {
    let mut stage = Stage::ungranted("recovered").await?;
    stage.grant("rollback-receiver-reader").await?;
    stage.grant("rollback-trigger").await?;
    let triggers = json!({"sources": ["prometheus"], "approve": true});
    stage.scene.policy(json!({"triggers": triggers})).await?;
    stage.scene.program = testkit::target_folder().join("debug/rollback-controller");
    stage.scene.start_controller().await?;
    stage.scene.deploy(version("v1")).await?;

    let webhooks = tls::start_for_alertmanager(&mut stage).await?;
    let configuration = json!({
        "route": {
            "receiver": "rollback", "group_by": ["namespace", "deployment", "alertname"],
            "group_wait": "1s", "group_interval": "2s", "repeat_interval": "5s",
        },
        "receivers": [{"name": "rollback", "webhook_configs": webhooks}],
    });
    let Some(alertmanager) = Alertmanager::start(&configuration.to_string()).await? else {
        return Ok(());
    };
    let server = HealthServer::start().await?;
    let setup = Setup {
        scraped: vec![server.address()],
        rules: RULES.to_owned(),
        alertmanagers: vec![alertmanager.address()],
    };
    let Some(prometheus) = Prometheus::start_with(&setup).await? else {
        return Ok(());
    };
    let story = async {
        automatic(&stage).await?;
        by_a_person(&stage).await
    };
    tokio::select! {
        told = story => told.with_context(|| format!("Alertmanager says {}", alertmanager.log()))?,
        failed = follow(&stage.scene, &server) => failed?,
    }
    drop(prometheus);
    Ok(())
}

fn version(version: &str) -> testkit::shop::DeploymentBuilder {
    deployment("api")
        .version(version)
        .annotation(AUTOMATIC, "enabled")
}

/// `HealthCheck` is the policy's to decide.
async fn automatic(stage: &Stage) -> Result<()> {
    let deployed = Timestamp::now();
    stage.scene.deploy(version("v2")).await?;
    let name = asked(stage, "HealthCheckFailing").await?;
    let (request, outcome) = stage.scene.wait_for_end(&name).await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    ensure!(stage.scene.image("api").await?.ends_with(":v1"));
    hops(&stage.scene, &request, deployed)?;
    // It fires for as long as Prometheus takes to see that it is over: nothing more is asked meanwhile.
    eventually("it is over", PATIENCE, async || stage.has_told("resolved")).await?;
    ensure!(requests_of(stage, "HealthCheckFailing").await?.len() == 1);
    Ok(())
}

/// `ErrorRate` is for people.
async fn by_a_person(stage: &Stage) -> Result<()> {
    let deployed = Timestamp::now();
    stage.scene.deploy(version("v3")).await?;
    let name = asked(stage, "HighErrorRate").await?;
    stage.scene.wait_for(&name, "AwaitingApproval").await?;
    let said = eventually("the policy has spoken", PATIENCE, async || {
        stage
            .scene
            .status(&name)
            .await?
            .auto_approval
            .context("it has not")
    })
    .await?;
    ensure!(said.blocked_by == Some(BlockedBy::Category), "{said:?}");
    ensure!(stage.scene.image("api").await?.ends_with(":v3"));
    stage.scene.approve_by_two(&name).await?;
    let (request, outcome) = stage.scene.wait_for_end(&name).await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    ensure!(stage.scene.image("api").await?.ends_with(":v1"));
    hops(&stage.scene, &request, deployed)
}

/// Prints how long each hop took, by the clocks of who took it.
fn hops(scene: &Scene, request: &RollbackRequest, deployed: Timestamp) -> Result<()> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let status = request.status.as_ref().context("no status")?;
    let trigger = request.spec.trigger.as_ref().context("no trigger")?;
    let audit = scene.cluster.audit().context("no audit log")?;
    let events = audit.events(scene.ns())?;
    let is_named = |body: Option<&Value>| {
        body.and_then(|body| body.pointer("/metadata/name"))
            .is_some_and(|it| it == name)
    };
    let asked = events
        .iter()
        .find(|event| {
            event.verb == "create"
                && event.resource == "rollbackrequests"
                && event.succeeded()
                && is_named(event.request_object.as_ref())
        })
        .map(|event| event.answered);
    let approved = status.approvals.first().map(|approval| approval.at);
    let reverted = status.targets.first().and_then(|target| target.reverted_at);
    let ended = status.outcome.as_ref().map(|outcome| outcome.at);
    println!("{name} ({})", trigger.alert);
    let mut before = deployed;
    for (what, at) in [
        (
            "bad version deployed -> alert active in Prometheus",
            Some(trigger.started_at),
        ),
        (
            "-> request created (rule's for, group_wait, receiver)",
            asked,
        ),
        ("-> approved", approved),
        ("-> reverted", reverted),
        ("-> rolled out", ended),
    ] {
        let at = at.with_context(|| format!("nobody knows when: {what}"))?;
        println!(
            "  {:>7.2} s  {what}",
            at.duration_since(before).as_secs_f64()
        );
        before = at;
    }
    println!(
        "  {:>7.2} s  in all",
        before.duration_since(deployed).as_secs_f64()
    );
    Ok(())
}
