//! A check of a Service, whose endpoints are real here: the new pods behind it are asked, and nobody else.

use anyhow::{Context, Result, ensure};
use rollback_api::status::Finding;
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::health::HEALTH_PORT;
use testkit::node::app::{APP, version};
use testkit::{User, shop};

use crate::stage::{REQUEST, ensure_ended, roll_back, scene, target};

#[tokio::test]
async fn a_service_is_asked_through_the_new_pods_that_it_leads_to() -> Result<()> {
    let Some(scene) = scene("service").await? else {
        return Ok(());
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"selector": {"app.kubernetes.io/name": APP}, "ports": [
            {"name": "other", "port": 81, "targetPort": 9},
            {"name": "http", "port": 80, "targetPort": HEALTH_PORT},
        ]},
    });
    shop::apply(&scene.client(User::Admin).await?, scene.ns(), &service).await?;
    let check = json!({"name": "front", "service": "front", "port": 80, "preset": "Health", "periodSeconds": 1});
    scene
        .policy(json!({"verification": {"timeoutSeconds": 60, "http": [check]}}))
        .await?;
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2").env("FAIL_HEALTH", "1")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::RolledBack)?;
    let target = target(&request)?;
    let before = target.before.first().context("no numbers before")?;
    ensure!(
        before.finding == Finding::Fail && before.result.contains("answered 503 instead of 200"),
        "{before:?}"
    );
    let checks = target.verification.context("no checks")?.checks;
    ensure!(
        checks[0].last_result == "1 of 1 pods answered 200",
        "{checks:?}"
    );
    Ok(())
}
