//! A dry run shows what a rollback would do, and does nothing. Neither shows what may be a secret.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use rollback_api::{Reason, RequestState, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use rollback_core::plan::all_changes;
use serde_json::{Value, json};
use testkit::audit::Event;
use testkit::scene::{CONTROLLER, request};
use testkit::{Scene, User, shop};

use crate::stage::{APP, REQUEST, asked_for, ends, goes_on, is_read, previous, scene};

/// In each of these a value of ours would be a leak; the number tells which.
fn canary(number: u32, version: &str) -> String {
    format!("hush-{number}-{version}-7f3a")
}

/// What every canary has in it.
const HUSH: &str = "hush-";

/// A version in which nearly everything differs from the other one.
fn version(tag: &str) -> shop::DeploymentBuilder {
    let is_old = tag == "v1";
    let secret = |number| canary(number, tag);
    let memory = if is_old { "64Mi" } else { "128Mi" };
    let probe = json!({
        "httpGet": {
            "path": format!("/health/{tag}?token={}", secret(1)), "port": 18080,
            "httpHeaders": [{"name": "Authorization", "value": secret(2)}],
        },
        "periodSeconds": if is_old { 5 } else { 50 },
    });
    let volume = if is_old {
        json!({"name": "cache", "emptyDir": {}})
    } else {
        json!({"name": "cache", "configMap": {"name": "cache", "optional": true}})
    };
    let container = "/spec/template/spec/containers/0";
    shop::deployment(APP)
        .version(tag)
        .env("DB_PASSWORD", &secret(3))
        .env(if is_old { "ONLY_OLD" } else { "ONLY_NEW" }, &secret(4))
        .template_annotation("broxiva.com/config", &secret(5))
        .set(&format!("{container}/args"), json!(["--key", secret(6)]))
        .set(&format!("{container}/command"), json!(["serve", secret(7)]))
        .set(
            &format!("{container}/resources"),
            json!({"limits": {"memory": memory}}),
        )
        .set(&format!("{container}/readinessProbe"), probe)
        .set("/spec/template/spec/volumes", json!([volume]))
}

async fn two_versions(scene: &Scene) -> Result<()> {
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    Ok(())
}

/// Nothing is remembered by the way: every write would be one of the dry run.
async fn without_record(scene: &Scene) -> Result<()> {
    scene.policy(json!({"ledger": {"record": false}})).await
}

async fn ask_for_dry_run(scene: &Scene, name: &str) -> Result<()> {
    let mut asked = request(name, json!([{"name": APP, "to": previous()}]));
    asked["spec"]["dryRun"] = json!(true);
    scene.ask_for(asked).await?;
    Ok(())
}

#[tokio::test]
async fn a_dry_run_publishes_the_plan_of_the_real_request() -> Result<()> {
    let scene = scene("dry-run").await?;
    two_versions(&scene).await?;
    ask_for_dry_run(&scene, "try").await?;
    let (tried, outcome) = ends(&scene, "try", RequestState::Succeeded, Reason::DryRun).await?;
    let tried = tried
        .status
        .and_then(|status| status.plan)
        .context("no plan")?;
    ensure!(outcome.message.contains(&tried.digest), "{outcome:?}");

    scene.ask(REQUEST, APP, previous()).await?;
    let real = scene.plan(REQUEST).await?;
    assert_eq!(tried.targets, real.targets);
    assert_eq!(tried.rules, real.rules);
    assert_eq!(tried.guard, real.guard);
    // The UID of the request is in it: nobody approves a plan by the digest of another request.
    assert_ne!(tried.digest, real.digest);
    Ok(())
}

#[tokio::test]
async fn the_changes_are_told_and_no_secret_is() -> Result<()> {
    let scene = scene("dry-run-changes").await?;
    two_versions(&scene).await?;
    scene.ask(REQUEST, APP, previous()).await?;
    let plan = scene.plan(REQUEST).await?;
    let changes = &all_changes(&plan.targets[0]);
    let expected = [
        "container app: image registry.broxiva.example/broxiva-api:v2 -> registry.broxiva.example/broxiva-api:v1",
        "container app: env DB_PASSWORD changed",
        "container app: env ONLY_NEW removed",
        "container app: env ONLY_OLD added",
        "container app: limits.memory 128Mi -> 64Mi",
        "container app: readinessProbe.httpGet.path /health/v2 -> /health/v1",
        "container app: readinessProbe.periodSeconds 50 -> 5",
        "container app: command changed",
        "container app: args changed",
        "volume cache ConfigMap cache -> emptyDir",
        "label app.kubernetes.io/version v2 -> v1",
        "annotation broxiva.com/config changed",
    ];
    for line in expected {
        ensure!(
            changes.iter().any(|told| told == line),
            "{line:?} is not in {changes:#?}"
        );
    }
    ensure!(
        changes[0].contains("image"),
        "the image is not first: {changes:?}"
    );
    goes_on(&scene, REQUEST).await?;
    ensure_hushed(&scene).await
}

/// Nothing that people look at shows a canary: no request, no Event, no report, no line of the log.
async fn ensure_hushed(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let all = ListParams::default();
    let namespace = scene.ns();
    let requests = scene.requests(User::Admin).await?.list(&all).await?;
    let events = shop::api(&client, namespace, "events.k8s.io/v1", "Event");
    let events = events.list(&all).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let of_reports = ListParams::default().labels("rollback.broxiva.com/artifact=incident");
    let reports = maps.list(&of_reports).await?;
    ensure!(!reports.items.is_empty(), "no report to look at");
    let log = scene.controller.as_ref().context("no controller")?.log();
    let texts = [
        ("requests", serde_json::to_string(&requests.items)?),
        ("Events", serde_json::to_string(&events.items)?),
        ("reports", serde_json::to_string(&reports.items)?),
        ("log", log),
    ];
    for (where_, text) in texts {
        ensure!(text.len() > 100, "the {where_} are empty");
        if let Some(at) = text.find(HUSH) {
            let from = text.floor_char_boundary(at.saturating_sub(200));
            let to = text.floor_char_boundary(at + 40);
            anyhow::bail!("the {where_} show a secret: {}", &text[from..to]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_dry_run_writes_nothing() -> Result<()> {
    let scene = scene("dry-run-quiet").await?;
    without_record(&scene).await?;
    two_versions(&scene).await?;
    let before = scene.deployment(APP).await?;
    ask_for_dry_run(&scene, "try").await?;
    ends(&scene, "try", RequestState::Succeeded, Reason::DryRun).await?;

    let after = scene.deployment(APP).await?;
    assert_eq!(
        before["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    let client = scene.client(User::Admin).await?;
    let ledgers: Api<RevisionLedger> = Api::namespaced(client, scene.ns());
    let name = ledger::name(WorkloadKind::Deployment, APP);
    ensure!(ledgers.get_opt(&name).await?.is_none(), "there is a ledger");
    for kind in ["backup", "incident"] {
        let left = scene.artifacts(kind, "try").await?;
        ensure!(left.is_empty(), "there is a {kind}");
    }
    let Some(events) = asked_for(&scene)? else {
        return Ok(());
    };
    let tried = events
        .iter()
        .filter(|event| event.resource == "deployments" && event.is_dry_run());
    assert_eq!(tried.count(), 1, "it did not try the write once");
    for event in events.iter().filter(|event| !is_read(event)) {
        ensure!(is_harmless(event), "{event:?}");
    }
    Ok(())
}

/// A write that changes nothing but what the request itself says of itself.
fn is_harmless(event: &Event) -> bool {
    let place = (event.resource.as_str(), event.subresource.as_str());
    match place {
        ("rollbackrequests", "status") => event.name == "try",
        // Letting the request go, and nothing else of it.
        ("rollbackrequests", "") => event.is_dry_run() || is_release(event),
        ("events", "") => event.verb == "create",
        (_, _) => event.is_dry_run(),
    }
}

fn is_release(event: &Event) -> bool {
    let body = event.request_object.clone().unwrap_or_default();
    let keys = |value: &Value| {
        let keys = value
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys().cloned());
        keys.collect::<Vec<String>>()
    };
    event.user == CONTROLLER
        && event.verb == "patch"
        && keys(&body) == ["metadata"]
        && keys(&body["metadata"]) == ["finalizers", "resourceVersion"]
}
