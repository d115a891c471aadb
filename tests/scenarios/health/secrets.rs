//! Fifty secrets in every place where people leave them, a rollback that fails and one that succeeds: none of them is
//! in a status, a report, an Event or the controller's log.
//!
//! Backups keep the Deployment as it was, by design, and are not looked through.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use rollback_api::{Reason, Word};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::{Scene, User, shop};

use crate::stage::{ends, scene};

/// Words that no rule would take for a secret: that they are not shown is not the merit of the redaction.
fn secret(number: usize) -> String {
    format!("planted{number:02}tulip")
}

/// One version of the shop, with these secrets in its template and on the Deployment.
fn version(
    version: &str,
    pods: &HealthServer,
    secrets: &mut impl Iterator<Item = String>,
) -> shop::DeploymentBuilder {
    let mut take = || secrets.next().unwrap_or_default();
    let mut built = shop::deployment("api").version(version).pod_ip(&pods.ip());
    for name in [
        "DB_PASSWORD",
        "DATABASE_URL",
        "PLAIN",
        "FLAGS",
        "NOTE",
        "TOKEN",
        "EXTRA",
        "MORE",
    ] {
        built = built.env(name, &take());
    }
    for key in ["example.com/key", "example.com/note"] {
        built = built
            .template_annotation(key, &take())
            .annotation(key, &take());
    }
    built
        .set(
            "/spec/template/spec/containers/0/args",
            json!(["--token", take(), take()]),
        )
        .set(
            "/spec/template/spec/containers/0/command",
            json!(["/run", take()]),
        )
        .set(
            "/spec/template/spec/containers/0/lifecycle",
            json!({"preStop": {"httpGet": {"port": 8080, "path": format!("/stop?key={}", take()),
                "httpHeaders": [{"name": "Authorization", "value": take()}]}}}),
        )
}

/// What everybody can read of a namespace, by where it stands.
async fn everything(scene: &Scene, requests: &[&str]) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for name in requests {
        let mut status = serde_json::to_value(scene.status(name).await?)?;
        // The checks of the policy are part of the plan as they are; their queries stand there, and nowhere else.
        if let Some(rules) = status
            .pointer_mut("/plan/rules")
            .and_then(Value::as_object_mut)
        {
            rules.remove("http").context("the plan has no checks")?;
        }
        texts.push((format!("the status of {name}"), status.to_string()));
        let incidents = scene.artifacts("incident", name).await?;
        ensure!(
            incidents.len() == 1,
            "{name} has {} incidents",
            incidents.len()
        );
        texts.push((
            format!("the report of {name}"),
            serde_json::to_string(&incidents)?,
        ));
    }
    let events: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let events = events.list(&ListParams::default()).await?.items;
    let ours = events.iter().filter(|event| {
        event
            .reporting_controller
            .as_deref()
            .is_some_and(|by| by.starts_with(rollback_api::GROUP))
    });
    let ours: Vec<&Event> = ours.collect();
    ensure!(ours.len() > 5, "only {} Events were told", ours.len());
    texts.push(("an Event".to_owned(), serde_json::to_string(&ours)?));
    let controller = scene.controller.as_ref().context("no controller")?;
    texts.push(("the log".to_owned(), controller.log()));
    Ok(texts)
}

#[tokio::test]
async fn fifty_planted_secrets_are_nowhere() -> Result<()> {
    let scene = scene("planted").await?;
    let mut secrets = (0..50).map(secret);
    let (old, new) = (HealthServer::start().await?, HealthServer::start().await?);
    scene.deploy(version("v1", &old, &mut secrets)).await?;
    scene.deploy(version("v2", &new, &mut secrets)).await?;

    let mut take = || secrets.next().unwrap_or_default();
    let paths = ["/a", "/b", "/c", "/d"];
    let checks: Vec<Value> = paths
        .iter()
        .map(|path| {
            json!({"name": format!("check-{}", &path[1..]), "port": HEALTH_PORT, "path": format!("{path}?q={}", take()),
                "periodSeconds": 1, "timeoutSeconds": 1, "consecutiveSuccesses": 1, "bodyContains": "fine"})
        })
        .collect();
    scene
        .policy(json!({"verification": {"timeoutSeconds": 4, "http": checks}}))
        .await?;
    // Bodies and headers of answers that are not well, of both versions.
    for pods in [&old, &new] {
        pods.answer(Answer::status(500).with_body(&format!("password={}", take())));
        for path in ["/a", "/b"] {
            pods.answer_at(
                path,
                Answer::redirect(&format!("http://elsewhere/?token={}", take())).with_body(&take()),
            );
        }
        pods.answer_at("/c", Answer::healthy().with_body(&take()));
    }
    let left = secrets.count();
    ensure!(left == 0, "{left} secrets were not planted");

    scene.ask("failing", "api", json!({"previous": {}})).await?;
    scene.approve("failing", User::Approver).await?;
    let (_, end) = scene.wait_for_end("failing").await?;
    ensure!(end.word == Word::Failed, "it ended otherwise: {end:?}");

    for pods in [&old, &new] {
        for path in ["", "/a", "/b", "/c", "/d"] {
            let well = Answer::healthy().with_body("fine");
            if path.is_empty() {
                pods.answer(well);
            } else {
                pods.answer_at(path, well);
            }
        }
    }
    // Another bad version with the same secrets, and back from it.
    let mut again = (0..50).map(secret);
    scene.deploy(version("v3", &new, &mut again)).await?;
    scene
        .ask("succeeding", "api", json!({"revision": 3}))
        .await?;
    scene.approve("succeeding", User::Approver).await?;
    ends(&scene, "succeeding", Word::Succeeded, Reason::RolledBack).await?;

    for (place, text) in everything(&scene, &["failing", "succeeding"]).await? {
        for number in 0..50 {
            let secret = secret(number);
            ensure!(!text.contains(&secret), "{secret} is in {place}: {text}");
        }
    }
    // They were really there: a backup keeps the Deployment as it was.
    let backups = serde_json::to_string(&scene.artifacts("backup", "failing").await?)?;
    ensure!(
        backups.contains(&secret(0)) || backups.contains(&secret(20)),
        "the backup holds no secret"
    );
    Ok(())
}
