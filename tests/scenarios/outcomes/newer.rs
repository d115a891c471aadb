//! A status that a newer controller has written: this one leaves the request alone, says so, and goes on with all others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use rollback_api::{RollbackRequest, WorkloadKind};
use rollback_core::history::ledger;
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, ready};
use testkit::{Scene, User, eventually, shop};

use crate::expect::scene;

const RESULT: &str = "status.outcome.result: Rehearsed";
const ENVIRONMENT: &str = "status.plan.rules.environment: Sandbox";
const PHASE: &str = "status.conditions[0].reason: Rehearsing";

#[tokio::test]
async fn a_status_of_a_newer_version_is_left_alone_and_others_go_on() -> Result<()> {
    let mut scene = scene("newer").await?;
    for name in ["api", "web"] {
        for version in ["v1", "v2"] {
            let deployment = shop::deployment(name).version(version).replicas(1);
            scene.deploy(deployment).await?;
        }
    }
    // Of the third nothing can be read but that it is newer; the fourth differs in its phase only.
    for name in ["first", "third", "fourth"] {
        scene.ask(name, "api", json!({"previous": {}})).await?;
        scene.plan(name).await?;
    }
    stop(&mut scene);
    let outcome = json!({
        "result": "Rehearsed", "reason": "RolledBack", "effect": "Written", "message": "Rehearsed.", "at": "2026-11-23T15:00:00Z",
    });
    write(&scene, "first", "/status/outcome", "add", outcome).await?;
    let environment = "/status/plan/rules/environment";
    write(&scene, "third", environment, "replace", json!("Sandbox")).await?;
    let phase = "/status/conditions/0/reason";
    write(&scene, "fourth", phase, "replace", json!("Rehearsing")).await?;
    claim(&scene, "api", "first").await?;
    let before = statuses(&scene).await?;
    let since = Timestamp::now();

    scene.start_controller().await?;
    for (name, unknown) in [("first", RESULT), ("third", ENVIRONMENT), ("fourth", PHASE)] {
        is_told(&scene, name, unknown).await?;
    }
    waits_for_the_first(&scene).await?;
    scene
        .roll_back("elsewhere", "web", json!({"previous": {}}))
        .await?;
    // Each start looks at every request anew, and so does a change of the policy.
    for round in 0..2 {
        stop(&mut scene);
        scene.start_controller().await?;
        let policy = json!({"ledger": {"soakSeconds": 600 + round}});
        scene.policy(policy).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    ensure!(statuses(&scene).await? == before, "somebody wrote a status");
    nothing_was_written(&scene, since)?;
    ensure!(
        scene.image("api").await?.ends_with("v2"),
        "it was rolled back"
    );

    for name in ["first", "third", "fourth"] {
        let delete = ["delete", "rbr", name, "-n", scene.ns(), "--timeout=60s"];
        scene.cluster.kubectl_ok(User::Admin, &delete, "").await?;
        reported(&scene, name).await?;
    }
    goes_on(&scene).await
}

fn stop(scene: &mut Scene) {
    if let Some(controller) = scene.controller.take() {
        controller.kill();
    }
}

/// Writes a status as the controller, which is what a newer one is.
async fn write(scene: &Scene, name: &str, place: &str, op: &str, value: Value) -> Result<()> {
    let config = scene.cluster.config_from(&scene.kubeconfig).await?;
    let client = Client::try_from(config)?;
    let version = "rollback.broxiva.com/v1alpha1";
    let api = shop::api(&client, scene.ns(), version, "RollbackRequest");
    let patch = json!([{"op": op, "path": place, "value": value}]);
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(patch)?);
    api.patch_status(name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// Gives the claim on a Deployment to a request, and its ledger a template with a verdict that is not known either.
async fn claim(scene: &Scene, deployment: &str, holder: &str) -> Result<()> {
    let uid = scene.request(holder).await?.uid().context("no UID")?;
    let mut ledger = ledger(scene, deployment).await?;
    ledger["spec"]["claim"] = json!({"request": holder, "requestUid": uid, "urgency": "Yesterday"});
    let template = json!({
        "digest": format!("sha256:{:064}", 0), "lastLive": "2026-11-23T15:00:00Z", "verdict": "Doubtful",
    });
    let templates = ledger["spec"]["templates"].as_array_mut();
    templates.context("no templates")?.insert(0, template);
    let replace = ["replace", "--as", CONTROLLER, "-f", "-"];
    let input = ledger.to_string();
    scene
        .cluster
        .kubectl_ok(User::Admin, &replace, &input)
        .await?;
    Ok(())
}

async fn ledger(scene: &Scene, deployment: &str) -> Result<Value> {
    eventually("there is a ledger", PATIENCE, async || {
        let name = ledger::name(WorkloadKind::Deployment, deployment);
        let get = ["get", "rbl", &name, "-n", scene.ns(), "-o", "json"];
        let ledger = scene.cluster.kubectl_ok(User::Admin, &get, "").await?;
        let ledger: Value = serde_json::from_str(&ledger)?;
        ensure!(ledger["spec"]["templates"].is_array(), "it is empty");
        Ok(ledger)
    })
    .await
}

/// The three as they are, versions included.
async fn statuses(scene: &Scene) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for name in ["first", "third", "fourth"] {
        let get = ["get", "rbr", name, "-n", scene.ns(), "-o", "json"];
        let request = scene.cluster.kubectl_ok(User::Admin, &get, "").await?;
        all.push(serde_json::from_str(&request)?);
    }
    Ok(all)
}

async fn is_told(scene: &Scene, name: &str, unknown: &str) -> Result<()> {
    let events: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let about = |event: &Event| {
        let regarding = event.regarding.as_ref().and_then(|it| it.name.as_deref());
        regarding == Some(name) && event.reason.as_deref() == Some("NewerVersion")
    };
    eventually(&format!("{name} is told"), PATIENCE, async || {
        let all = events.list(&ListParams::default()).await?.items;
        let notes: Vec<String> = all
            .into_iter()
            .filter(about)
            .filter_map(|it| it.note)
            .collect();
        ensure!(
            matches!(&*notes, [note] if note.contains(unknown)),
            "{notes:?}"
        );
        Ok(())
    })
    .await?;
    let log = scene.controller.as_ref().context("no controller")?.log();
    let is_about = |line: &&str| line.contains(unknown) && line.contains(&format!("\"{name}\""));
    let lines: Vec<&str> = log.lines().filter(is_about).collect();
    ensure!(lines.len() == 1, "{lines:?}");
    Ok(())
}

async fn waits_for_the_first(scene: &Scene) -> Result<()> {
    scene.ask("second", "api", json!({"previous": {}})).await?;
    scene.approve("second", User::Approver).await?;
    eventually("the second waits", PATIENCE, async || {
        let (reason, message) = ready(&scene.request("second").await?);
        let says = ["RollbackRequest first", "newer version", RESULT];
        let missing = says.iter().find(|word| !message.contains(**word));
        ensure!(
            reason == "BackingUp" && missing.is_none(),
            "{reason}: {message}"
        );
        Ok(())
    })
    .await
}

/// Neither of the three requests nor of their Deployment, by any controller.
fn nothing_was_written(scene: &Scene, since: Timestamp) -> Result<()> {
    let Some(audit) = scene.cluster.audit() else {
        return Ok(());
    };
    let reads = ["get", "list", "watch"];
    let writes: Vec<_> = audit
        .events(scene.ns())?
        .into_iter()
        .filter(|event| event.user == CONTROLLER && event.received >= since)
        .filter(|event| !reads.contains(&&*event.verb) && !event.is_dry_run())
        .collect();
    ensure!(!writes.is_empty(), "it wrote nothing at all");
    let of_them = writes.iter().find(|event| match event.resource.as_str() {
        "rollbackrequests" => ["first", "third", "fourth"].contains(&&*event.name),
        "deployments" => event.name == "api",
        _ => false,
    });
    ensure!(of_them.is_none(), "it wrote {of_them:?}");
    Ok(())
}

async fn reported(scene: &Scene, name: &str) -> Result<()> {
    let reports = scene.artifacts("incident", name).await?;
    let [report] = reports.as_slice() else {
        anyhow::bail!("{} reports of {name}", reports.len());
    };
    let data = report.data.clone().unwrap_or_default();
    let page = data.values().find(|text| text.starts_with("# "));
    let page = page.context("no page")?;
    ensure!(page.contains("the end is unknown"), "{page}");
    Ok(())
}

/// The claim is given back, so the second is carried out. What else the ledger had is still there.
async fn goes_on(scene: &Scene) -> Result<()> {
    let is_over = |request: &RollbackRequest| {
        let status = request.status.as_ref();
        status.and_then(|status| status.outcome.clone())
    };
    let outcome = eventually("the second ends", PATIENCE * 2, async || {
        let request = scene.request("second").await?;
        is_over(&request).with_context(|| ready(&request).1)
    })
    .await?;
    ensure!(outcome.result.as_str() == "Succeeded", "{outcome:?}");
    ensure!(
        scene.image("api").await?.ends_with("v1"),
        "it was not rolled back"
    );
    let ledger = ledger(scene, "api").await?;
    let verdict = ledger.pointer("/spec/templates/0/verdict");
    ensure!(verdict == Some(&json!("Doubtful")), "{ledger:#}");
    Ok(())
}
