//! The controller as something that has to be run: what it shows, what it keeps to itself, how it
//! stops, and that one bad request is nobody else's trouble.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;
use rollback_api::{ARTIFACT_LABEL, Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::{CONTROLLER, PATIENCE, ready};
use testkit::{ControllerProcess, Scene, User, eventually, shop};

use crate::expect::{End, PROGRAM, artifacts, events, scene};
use crate::people::replaced;

/// Most requests to the API server, reads and Events included, that one rollback of two pods may cost
/// in its namespace. About 100 are usual; how many times a rollout changes on its way is not ours.
const REQUESTS_PER_ROLLBACK: usize = 125;
/// How long the controller may take to end.
const SOON: Duration = Duration::from_secs(10);

/// What the controller answers there.
pub async fn get(controller: &ControllerProcess, path: &str) -> Result<(u16, String)> {
    let url = format!("{}{path}", controller.metrics_url());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

pub fn controller(scene: &Scene) -> Result<&ControllerProcess> {
    scene.controller.as_ref().context("no controller")
}

#[tokio::test]
async fn metrics_count_what_ended() -> Result<()> {
    let scene = scene("metrics").await?;
    let controller = controller(&scene)?;
    for path in ["/healthz", "/readyz"] {
        let (status, body) = get(controller, path).await?;
        ensure!((status, &*body) == (200, "ok"), "{path}: {status} {body}");
    }
    ensure!(get(controller, "/debug").await?.0 == 404);

    scene.two_versions("api").await?;
    let to = json!({"previous": {}});
    scene.roll_back("good", "api", to.clone()).await?;
    for name in ["bad", "worse"] {
        scene.ask(name, "nowhere", to.clone()).await?;
        End::badly(RequestState::Refused, Reason::DeploymentNotFound)
            .without_incident()
            .check(&scene, name)
            .await?;
    }
    let (status, page) = get(controller, "/metrics").await?;
    ensure!(status == 200);
    for line in [
        r#"rollback_outcomes_total{result="Succeeded",reason="Unverified"} 1"#,
        r#"rollback_outcomes_total{result="Refused",reason="DeploymentNotFound"} 2"#,
        "rollback_recovery_seconds_count 1",
    ] {
        ensure!(page.lines().any(|l| l == line), "no {line} in {page}");
    }
    ensure!(page.contains("rollback_reconcile_duration_seconds_count"));
    ensure!(page.ends_with("# EOF\n"), "{page}");
    // Whose reviews are overdue is told by namespace, and nothing else is.
    let others: Vec<&str> = page
        .lines()
        .filter(|line| !line.starts_with("rollback_report_reminder{"))
        .collect();
    for name in [scene.ns(), "nowhere", "good", "api"] {
        let quoted = format!("\"{name}\"");
        let series = others.iter().find(|line| line.contains(&quoted));
        ensure!(series.is_none(), "{name} makes a series: {series:?}");
    }
    Ok(())
}

/// It lives, but nobody should count on it.
#[tokio::test]
async fn not_ready_without_an_api_server() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "not-ready").await?;
    scene.kubeconfig = scene
        .cluster
        .service_account_kubeconfig(
            "rollback-system",
            "rollback-controller",
            Some("http://127.0.0.1:9"),
        )
        .await?;
    let controller = scene.spawn(&[])?;
    eventually("it answers", PATIENCE, async || {
        let (status, body) = get(&controller, "/healthz").await?;
        ensure!(status == 200, "{status} {body}");
        Ok(())
    })
    .await?;
    let (status, body) = get(&controller, "/readyz").await?;
    ensure!(status == 503, "{status} {body}");
    eventually("it says why", PATIENCE, async || {
        ensure!(controller.log().contains("a watch failed"), "not yet");
        Ok(())
    })
    .await?;
    ensure!(controller.exited()?.is_none(), "it gave up");
    ensure!(controller.terminate()?.success());
    Ok(())
}

#[tokio::test]
async fn secrets_stay_in_the_backup() -> Result<()> {
    let scene = scene("secrets").await?;
    // Otherwise the ledger keeps whole templates, for whoever may read the Deployment.
    let nowhere_else = json!({"ledger": {"soakSeconds": 0, "keepTemplates": 0}});
    scene.policy(nowhere_else).await?;
    let secrets = ["hunter2-of-the-old-one", "hunter2-of-the-new-one"];
    for (version, secret) in ["v1", "v2"].into_iter().zip(secrets) {
        scene
            .deploy(
                shop::deployment("api")
                    .version(version)
                    .env("PASSWORD", secret),
            )
            .await?;
    }
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;

    let log = controller(&scene)?.log();
    let lines = log.lines().filter(|line| !line.is_empty());
    for line in lines {
        let parsed: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for field in ["timestamp", "level", "target"] {
            ensure!(parsed[field].is_string(), "no {field} in {line}");
        }
    }
    ensure!(log.contains("a request ended"), "it says nothing: {log}");
    let kinds = "configmaps,rollbackrequests,revisionledgers,events";
    let list = ["get", kinds, "-n", scene.ns(), "-o", "json"];
    let list = scene.cluster.kubectl_ok(User::Admin, &list, "").await?;
    let list: Value = serde_json::from_str(&list)?;
    let items = list["items"].as_array().context("no items")?;
    let is_backup = |item: &&Value| item["metadata"]["labels"][ARTIFACT_LABEL] == "backup";
    let rest: Vec<String> = items
        .iter()
        .filter(|item| !is_backup(item))
        .map(Value::to_string)
        .chain([log.clone(), get(controller(&scene)?, "/metrics").await?.1])
        .collect();
    ensure!(rest.len() > 10, "only {} places to look at", rest.len());
    for secret in secrets {
        for text in &rest {
            ensure!(!text.contains(secret), "{secret} is in {text}");
        }
    }
    let backup: Vec<String> = items
        .iter()
        .filter(is_backup)
        .map(Value::to_string)
        .collect();
    ensure!(backup.len() == 1, "{} backups", backup.len());
    ensure!(
        backup[0].contains(secrets[1]),
        "the backup restores nothing"
    );
    Ok(())
}

#[tokio::test]
async fn a_stop_in_the_middle_is_clean_and_the_next_one_goes_on() -> Result<()> {
    let mut scene = scene("sigterm").await?;
    let slow = shop::deployment("api")
        .version("v1")
        .ready_after(Duration::from_secs(5));
    replaced(&scene, "api", slow).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    scene.wait_for("api-5xx", "RollingOut").await?;
    stop(&mut scene)?;
    scene.start_controller().await?;
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}

/// A check that hangs holds up neither the signal nor whoever comes after.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_check_that_hangs() -> Result<()> {
    let mut scene = scene("sigterm-check").await?;
    let pods = HealthServer::start().await?;
    pods.answer(Answer::healthy().after(Duration::from_secs(50)));
    scene
        .policy(json!({"verification": {"timeoutSeconds": 300, "http": [{
            "name": "ready", "port": HEALTH_PORT, "path": "/", "periodSeconds": 1, "timeoutSeconds": 55,
        }]}}))
        .await?;
    scene
        .deploy(shop::deployment("api").version("v1").pod_ip(&pods.ip()))
        .await?;
    scene.deploy(shop::deployment("api").version("v2")).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    eventually("the pods are asked", PATIENCE, async || {
        ensure!(pods.count() > 0, "not yet");
        Ok(())
    })
    .await?;
    stop(&mut scene)?;
    pods.answer(Answer::healthy());
    scene.start_controller().await?;
    End::well(Reason::RolledBack)
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}

/// Asks the controller to end, which it does soon and well.
fn stop(scene: &mut Scene) -> Result<()> {
    let controller = scene.controller.take().context("no controller")?;
    let begun = Instant::now();
    let status = controller.terminate()?;
    let took = begun.elapsed();
    ensure!(
        status.success(),
        "it ended with {status}: {}",
        controller.log()
    );
    ensure!(took < SOON, "it took {took:?}");
    Ok(())
}

/// Its backup cannot be written, because something else has the name. It waits, and nobody else does.
#[tokio::test]
async fn a_poison_object_delays_only_itself() -> Result<()> {
    let scene = scene("poison").await?;
    scene.two_versions("sick").await?;
    scene.two_versions("api").await?;
    scene.two_versions("web").await?;
    let asked = scene
        .ask("sick-5xx", "sick", json!({"previous": {}}))
        .await?;
    let name = rollback_core::execution::artifact::backup_name(
        &asked,
        rollback_api::WorkloadKind::Deployment,
        "sick",
    );
    scene.squat(&name).await?;
    scene.approve("sick-5xx", User::Approver).await?;
    let controller = controller(&scene)?;
    eventually("it is noticed", PATIENCE, async || {
        let log = controller.log();
        ensure!(
            log.contains(&name) && log.contains("delete it"),
            "not yet: {log}"
        );
        let (_, page) = get(controller, "/metrics").await?;
        ensure!(
            page.contains(r#"rollback_reconcile_errors_total{stage="observe"}"#),
            "{page}"
        );
        Ok(())
    })
    .await?;
    eventually("the requester can see it", PATIENCE, async || {
        let told = events(&scene, &asked).await?;
        let warning = told.iter().find_map(|event| {
            let note = event.note.as_deref()?;
            (event.reason.as_deref() == Some("ReconcileFailed")).then_some(note)
        });
        let note = warning.context("no such Event")?;
        ensure!(note.contains(&name) && note.contains("delete it"), "{note}");
        Ok(())
    })
    .await?;
    for name in ["api", "web"] {
        let begun = Instant::now();
        scene.ask(name, name, json!({"previous": {}})).await?;
        scene.approve(name, User::Approver).await?;
        End::well(Reason::Unverified).check(&scene, name).await?;
        let took = begun.elapsed();
        ensure!(took < Duration::from_secs(30), "{name} took {took:?}");
    }
    let sick = scene.request("sick-5xx").await?;
    ensure!(ready(&sick).0 == "BackingUp", "{:?}", ready(&sick));
    ensure!(
        scene.image("sick").await?.ends_with(":v2"),
        "without a backup"
    );
    let maps: Api<ConfigMap> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    maps.delete(&name, &DeleteParams::default()).await?;
    End::well(Reason::Unverified)
        .check(&scene, "sick-5xx")
        .await?;
    ensure!(artifacts(&scene, "backup", &sick).await?.len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_rollback_costs_few_requests() -> Result<()> {
    let scene = scene("cost").await?;
    let Some(audit) = scene.cluster.audit() else {
        return Ok(());
    };
    let pods = HealthServer::start().await?;
    scene
        .policy(json!({"verification": {"http": [
            {"name": "ready", "port": HEALTH_PORT, "path": "/", "periodSeconds": 1},
        ]}}))
        .await?;
    scene
        .deploy(shop::deployment("api").version("v1").pod_ip(&pods.ip()))
        .await?;
    scene.deploy(shop::deployment("api").version("v2")).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    End::well(Reason::RolledBack)
        .check(&scene, "api-5xx")
        .await?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in audit.events(scene.ns())? {
        // What the self-test of the guard tries, every few minutes, is no part of a rollback.
        let tried = event.is_dry_run() && event.resource != "deployments";
        if event.user == CONTROLLER && !tried {
            let dry = if event.is_dry_run() { " (dry run)" } else { "" };
            let what = format!(
                "{} {} {}{dry}",
                event.verb, event.resource, event.subresource
            );
            *counts.entry(what).or_default() += 1;
        }
    }
    let total: usize = counts.values().sum();
    println!("one rollback: {total} requests in its namespace: {counts:#?}");
    ensure!(total <= REQUESTS_PER_ROLLBACK, "{total}: {counts:#?}");
    ensure!(counts.get("patch deployments ") == Some(&1), "{counts:?}");
    Ok(())
}
