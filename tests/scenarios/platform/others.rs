//! What stands in the way of one Deployment keeps no other waiting: an object in the wrong place, another request.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use rollback_api::{CANCELLED_BY, Reason, RequestState, RollbackRequest, WorkloadKind};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::record::Record;
use crate::stage::{
    REQUEST, ask, ask_as, deploy, end, ensure_ended, ensure_free, ensure_results, held, later,
    let_go, named, prefix, scene, start, tags, wait_for_target, well,
};

/// Something else has the name of the backup of this Deployment.
async fn squat(scene: &Scene, request: &RollbackRequest, deployment: &str) -> Result<String> {
    let name = rollback_core::execution::artifact::backup_name(
        request,
        WorkloadKind::Deployment,
        deployment,
    );
    scene.squat(&name).await?;
    Ok(name)
}

#[tokio::test]
async fn one_that_cannot_be_saved_keeps_no_other_waiting() -> Result<()> {
    let scene = scene("squat").await?;
    let names = ["q-0", "q-1", "q-2", "q-3"];
    deploy(&scene, names.map(well)).await?;
    let asked = ask(&scene, json!([prefix("q-")]), json!({"parallelism": 2})).await?;
    let squatter = squat(&scene, &asked, "q-1").await?;
    scene.approve(REQUEST, User::Approver).await?;
    for name in ["q-0", "q-2", "q-3"] {
        wait_for_target(&scene, name, "is done", |it| it.outcome.is_some()).await?;
    }
    let events: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    eventually("people hear of it", PATIENCE, async || {
        let told = events.list(&ListParams::default()).await?;
        let told = told
            .iter()
            .find(|it| it.reason.as_deref() == Some("ReconcileFailed"));
        let note = told.and_then(|it| it.note.clone()).context("not yet")?;
        ensure!(note.contains(&squatter), "{note}");
        Ok(())
    })
    .await?;
    wait_for_target(&scene, "q-1", "waits", |it| it.revert.is_none()).await?;

    // Who does not want to find out what it is may call it off.
    let rita = User::Requester;
    scene
        .annotate(REQUEST, rita, json!({CANCELLED_BY: rita.as_str()}))
        .await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Cancelled, Reason::CancelledByUser)?;
    let done = |name| (name, RequestState::Succeeded, Reason::Unverified);
    let spared = ("q-1", RequestState::Cancelled, Reason::NotBegun);
    ensure_results(&request, &[done("q-0"), spared, done("q-2"), done("q-3")])?;
    assert_eq!(tags(&scene, &names).await?, ["v1", "v2", "v1", "v1"]);
    Ok(())
}

/// Each waits for what the other has. Nobody waits for ever, and nothing is written twice.
#[tokio::test]
async fn two_requests_that_cross_get_along() -> Result<()> {
    let scene = scene("cross").await?;
    deploy(&scene, ["a", "b", "c"].map(held)).await?;
    let other = "crossing";
    start(&scene, json!([named("a"), later("b", 1)]), json!({})).await?;
    ask_as(
        &scene,
        other,
        json!([named("b"), later("a", 1), later("c", 2)]),
        json!({}),
    )
    .await?;
    scene.approve(other, User::Approver).await?;
    for name in ["a", "b"] {
        scene
            .wait_for_deployment(name, |it| {
                let image = it.pointer("/spec/template/spec/containers/0/image");
                image.is_some_and(|image| image.as_str().is_some_and(|it| it.ends_with(":v1")))
            })
            .await?;
        let_go(&scene, name).await?;
    }
    let_go(&scene, "c").await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &[
            ("a", RequestState::Succeeded, Reason::Unverified),
            ("b", RequestState::Superseded, Reason::RolledBackByAnother),
        ],
    )?;
    let (request, outcome) = scene.wait_for_end(other).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &[
            ("a", RequestState::Superseded, Reason::RolledBackByAnother),
            ("b", RequestState::Succeeded, Reason::Unverified),
            ("c", RequestState::Succeeded, Reason::Unverified),
        ],
    )?;
    ensure_free(&scene).await?;
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&["a", "b", "c"].map(|name| (name, 1)))?;
    }
    Ok(())
}
