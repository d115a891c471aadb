//! A container that runs and that the kubelet ends again and again, because its liveness probe fails.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use rollback_api::status::CauseKind;
use serde_json::{Value, json};
use testkit::health::HEALTH_PORT;
use testkit::node::app::version;
use testkit::scene::CONTROLLER;
use testkit::{Scene, User};

use crate::causes::{Trouble, is_named, strict_scene};
use crate::stage::audit;

/// The kubelet restarted a container because of its liveness probe, and says so.
async fn ensure_restarted(scene: &Scene) -> Result<()> {
    let events: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let events = events.list(&ListParams::default()).await?.items;
    let killed = events.iter().any(|event| {
        let said = event.message.as_deref().unwrap_or_default();
        event.reason.as_deref() == Some("Killing") && said.contains("failed liveness probe")
    });
    ensure!(killed, "no container was restarted: {events:?}");
    Ok(())
}

/// Before it counts as a crash loop, the probe is told, in the words of the kubelet.
fn ensure_probe_told(scene: &Scene) -> Result<()> {
    let causes: Vec<Value> = audit(scene)?
        .into_iter()
        .filter(|event| event.user == CONTROLLER)
        .filter_map(|event| {
            let body = event.request_object?;
            body.pointer("/status/targets/0/rollout/cause").cloned()
        })
        .collect();
    let first = causes.first().context("no cause was ever told")?;
    let words = first["message"].as_str().unwrap_or_default();
    ensure!(
        first["kind"] == json!(CauseKind::Unready)
            && words.starts_with("container app runs and is not ready: Liveness probe failed")
            && words.contains("503"),
        "{causes:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_liveness_probe_that_fails() -> Result<()> {
    let Some(scene) = strict_scene("liveness").await? else {
        return Ok(());
    };
    let probe = |path: &str, delay: u32| {
        json!({
            "httpGet": {"path": path, "port": HEALTH_PORT},
            "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": delay,
        })
    };
    // It is asked whether it is ready only later than it is ended: otherwise it would be ready for a moment.
    let container = "/spec/template/spec/containers/0";
    let old = version("v1")
        .env("FAIL_LIVE", "1")
        .set(
            &format!("{container}/livenessProbe"),
            probe("/health/live", 1),
        )
        .set(
            &format!("{container}/readinessProbe"),
            probe("/health/ready", 30),
        );
    let trouble = Trouble {
        kind: CauseKind::CrashLoop,
        shown_by: &["CrashLoopBackOff"],
        says: &["container app crashes"],
    };
    is_named(&scene, old, &trouble).await?;
    ensure_restarted(&scene).await?;
    ensure_probe_told(&scene)
}
