//! A review that nobody held is asked for, once, and counted until somebody says that it was held.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use rollback_api::{DENIED_BY, DENIED_REASON, REVIEWED_BY, Reason, RequestState};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{PROGRAM, ends, scene};

const NAME: &str = "api-5xx";

/// A request that was denied: it ends at once, with an incident. No pods are needed for that.
async fn denied(scene: &Scene, within_seconds: i32) -> Result<()> {
    scene
        .policy(json!({"report": {"reviewWithinSeconds": within_seconds}}))
        .await?;
    for version in ["v1", "v2"] {
        scene
            .deploy(shop::deployment("api").version(version).replicas(0))
            .await?;
    }
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.plan(NAME).await?;
    let by = User::Approver;
    let no = json!({DENIED_BY: by.as_str(), DENIED_REASON: "it was the network"});
    scene.annotate(NAME, by, no).await?;
    ends(scene, NAME, RequestState::Denied, Reason::DeniedByApprover).await?;
    Ok(())
}

async fn reminders(scene: &Scene) -> Result<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let events = api.list(&ListParams::default()).await?.items;
    Ok(events
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some("ReportReminder"))
        .collect())
}

async fn one_reminder(scene: &Scene) -> Result<Event> {
    eventually("the review is asked for", PATIENCE, async || {
        let mut found = reminders(scene).await?;
        ensure!(found.len() == 1, "{found:?}");
        found.pop().context("no reminder")
    })
    .await
}

/// The metric says this of the namespace; without a number, nothing.
async fn counts(scene: &Scene, overdue: Option<u32>) -> Result<()> {
    let controller = scene.controller.as_ref().context("no controller")?;
    let url = format!("{}/metrics", controller.metrics_url());
    let line = format!("rollback_report_reminder{{namespace=\"{}\"}}", scene.ns());
    let client = reqwest::Client::builder().no_proxy().build()?;
    eventually(&format!("{overdue:?} are overdue"), PATIENCE, async || {
        let page = client.get(&url).send().await?.text().await?;
        let found = page.lines().find_map(|found| found.strip_prefix(&line));
        let found = found.and_then(|number| number.trim().parse::<u32>().ok());
        ensure!(found == overdue, "{found:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_overdue_review_is_asked_for_once_and_counted_until_it_was_held() -> Result<()> {
    let mut scene = scene("reminder").await?;
    denied(&scene, 3).await?;
    let status = scene.status(NAME).await?;
    let incident = status.incident.context("no incident")?.config_map;
    let event = one_reminder(&scene).await?;
    let note = event.note.clone().unwrap_or_default();
    for part in [
        incident.as_str(),
        "kubectl annotate rbr api-5xx",
        REVIEWED_BY,
    ] {
        ensure!(note.contains(part), "{part} in {note}");
    }
    ensure!(event.type_.as_deref() == Some("Warning"), "{event:?}");
    let ended = status.outcome.context("no end")?.at;
    let told = event.event_time.context("no time")?.0;
    ensure!(
        told.duration_since(ended).as_secs() >= 3,
        "it was told too early: {told} after {ended}"
    );
    counts(&scene, Some(1)).await?;

    // Whoever comes after a crash counts it too, and tells the same Event.
    scene.controller.as_ref().context("no controller")?.kill();
    scene.start_controller().await?;
    counts(&scene, Some(1)).await?;
    ensure!(
        one_reminder(&scene).await?.metadata.uid == event.metadata.uid,
        "it was told twice"
    );

    let by = User::Approver;
    scene
        .annotate(NAME, by, json!({REVIEWED_BY: by.as_str()}))
        .await?;
    counts(&scene, Some(0)).await?;
    scene.annotate(NAME, by, json!({REVIEWED_BY: null})).await?;
    counts(&scene, Some(1)).await?;
    let requests = scene.requests(User::Admin).await?;
    requests.delete(NAME, &DeleteParams::default()).await?;
    counts(&scene, None).await
}

#[tokio::test]
async fn a_review_that_became_due_while_nobody_looked_is_asked_for() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "reminder-later").await?;
    scene.start_controller().await?;
    denied(&scene, 5).await?;
    ensure!(reminders(&scene).await?.is_empty(), "it is not due yet");
    scene.controller.as_ref().context("no controller")?.kill();
    let end = scene.status(NAME).await?.outcome.context("no end")?.at;
    eventually("it is due", PATIENCE, async || {
        let age = jiff::Timestamp::now().duration_since(end);
        ensure!(age.as_secs() >= 6, "{age}");
        Ok(())
    })
    .await?;
    ensure!(reminders(&scene).await?.is_empty(), "nobody could tell it");
    scene.start_controller().await?;
    one_reminder(&scene).await?;
    Ok(())
}
