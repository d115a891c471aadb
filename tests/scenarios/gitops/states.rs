//! Every state that is cheap to make, as the tools read it.

use anyhow::{Context as _, Result, ensure};
use futures::future::{LocalBoxFuture, try_join_all};
use kube::api::DeleteParams;
use rollback_api::{CANCELLED_BY, DENIED_BY, DENIED_REASON, Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::{condition, request};
use testkit::shop::{self, Behaviour, deployment};
use testkit::{Scene, User};

use crate::git::{PROGRAM, judged};
use crate::kstatus::{Health, Status, at_the_end};

#[tokio::test]
async fn every_end_is_read_as_what_it_is() -> Result<()> {
    let scene = Scene::new(PROGRAM, "ends").await?;
    let scene = &scene;
    let mut ends: Vec<LocalBoxFuture<'_, Result<()>>> = vec![
        Box::pin(no_op(scene)),
        Box::pin(dry_run(scene)),
        Box::pin(unverified(scene)),
        Box::pin(denied(scene)),
        Box::pin(cancelled(scene)),
        Box::pin(expired(scene)),
        Box::pin(refused(scene)),
    ];
    ends.push(Box::pin(not_live(scene)));
    ends.push(Box::pin(superseded_before(scene)));
    ends.push(Box::pin(superseded_mid_rollout(scene)));
    ends.push(Box::pin(gone(scene)));
    ends.push(Box::pin(checks_failed()));
    try_join_all(ends).await?;
    Ok(())
}

fn ask_for(name: &str, to: &Value) -> Value {
    request(name, json!([{"name": name, "to": to}]))
}

fn previous(name: &str) -> Value {
    ask_for(name, &json!({"previous": {}}))
}

/// Waits for the end, and compares what is seen with what such an end means.
async fn end(
    scene: &Scene,
    name: &str,
    state: RequestState,
    reason: Reason,
    status: Status,
) -> Result<()> {
    let (request, outcome) = scene.wait_for_end(name).await?;
    ensure!(
        (outcome.result, outcome.reason) == (state, reason),
        "{name} ended otherwise: {outcome:?}"
    );
    let expected = at_the_end(&outcome);
    let judged = judged(scene, name).await?;
    ensure!(judged == expected, "{name} is {judged:?}");
    ensure!(judged.0 == status, "{name} is {judged:?}");
    // What kubectl wait waits for.
    let (well, ill) = (
        condition(&request, "Complete"),
        condition(&request, "Failed"),
    );
    let (wanted, unwanted) = match status {
        Status::Current => (well, ill),
        Status::InProgress | Status::Failed | Status::Terminating => (ill, well),
    };
    let (value, _, _) = wanted.with_context(|| format!("{name} has not the condition"))?;
    ensure!(
        value == "True" && unwanted.is_none(),
        "{name}: {unwanted:?}"
    );
    Ok(())
}

async fn waiting(scene: &Scene, name: &str, state: &str, health: Health) -> Result<()> {
    scene.wait_for(name, state).await?;
    let judged = judged(scene, name).await?;
    ensure!(
        judged == (Status::InProgress, health),
        "{name} is {judged:?}"
    );
    Ok(())
}

async fn no_op(scene: &Scene) -> Result<()> {
    scene.two_versions("no-op").await?;
    let request = ask_for("no-op", &json!({"revision": 2}));
    scene.ask_for(request).await?;
    end(
        scene,
        "no-op",
        RequestState::Succeeded,
        Reason::NoOp,
        Status::Current,
    )
    .await
}

async fn dry_run(scene: &Scene) -> Result<()> {
    scene.two_versions("dry-run").await?;
    let mut request = previous("dry-run");
    request["spec"]["dryRun"] = json!(true);
    scene.ask_for(request).await?;
    end(
        scene,
        "dry-run",
        RequestState::Succeeded,
        Reason::DryRun,
        Status::Current,
    )
    .await
}

async fn unverified(scene: &Scene) -> Result<()> {
    scene.two_versions("unverified").await?;
    scene.ask_for(previous("unverified")).await?;
    waiting(scene, "unverified", "AwaitingApproval", Health::Suspended).await?;
    scene.approve("unverified", User::Approver).await?;
    end(
        scene,
        "unverified",
        RequestState::Succeeded,
        Reason::Unverified,
        Status::Current,
    )
    .await
}

async fn denied(scene: &Scene) -> Result<()> {
    scene.two_versions("denied").await?;
    scene.ask_for(previous("denied")).await?;
    scene.plan("denied").await?;
    let denial = json!({DENIED_BY: User::Approver.as_str(), DENIED_REASON: "fix it forward"});
    scene.annotate("denied", User::Approver, denial).await?;
    end(
        scene,
        "denied",
        RequestState::Denied,
        Reason::DeniedByApprover,
        Status::Failed,
    )
    .await
}

async fn cancelled(scene: &Scene) -> Result<()> {
    scene.two_versions("cancelled").await?;
    scene.ask_for(previous("cancelled")).await?;
    scene.plan("cancelled").await?;
    let cancellation = json!({CANCELLED_BY: User::Requester.as_str()});
    scene
        .annotate("cancelled", User::Requester, cancellation)
        .await?;
    end(
        scene,
        "cancelled",
        RequestState::Cancelled,
        Reason::CancelledByUser,
        Status::Failed,
    )
    .await
}

async fn expired(scene: &Scene) -> Result<()> {
    scene.two_versions("expired").await?;
    let mut request = previous("expired");
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    request["spec"]["notAfter"] = json!(soon);
    scene.ask_for(request).await?;
    end(
        scene,
        "expired",
        RequestState::Expired,
        Reason::NotApprovedInTime,
        Status::Failed,
    )
    .await
}

async fn refused(scene: &Scene) -> Result<()> {
    scene.deploy(deployment("refused").version("v1")).await?;
    scene.ask_for(previous("refused")).await?;
    end(
        scene,
        "refused",
        RequestState::Refused,
        Reason::NoHistory,
        Status::Failed,
    )
    .await
}

async fn not_live(scene: &Scene) -> Result<()> {
    scene.two_versions("not-live").await?;
    let mut request = previous("not-live");
    request["spec"]["targets"][0]["from"] =
        json!({"image": "registry.broxiva.example/not-live:v1"});
    scene.ask_for(request).await?;
    end(
        scene,
        "not-live",
        RequestState::Superseded,
        Reason::NotLive,
        Status::Current,
    )
    .await
}

async fn superseded_before(scene: &Scene) -> Result<()> {
    let name = "superseded-before";
    scene.two_versions(name).await?;
    scene.ask_for(previous(name)).await?;
    scene.plan(name).await?;
    scene.deploy(deployment(name).version("v3")).await?;
    end(
        scene,
        name,
        RequestState::Superseded,
        Reason::NotLive,
        Status::Current,
    )
    .await
}

async fn superseded_mid_rollout(scene: &Scene) -> Result<()> {
    let name = "superseded-after";
    // Only its ReplicaSet is needed.
    let never = deployment(name)
        .version("v1")
        .behaviour(Behaviour::NeverReady);
    scene.apply_deployment(never).await?;
    scene
        .wait_for_deployment(name, |found| {
            found.pointer("/status/observedGeneration") == Some(&json!(1))
        })
        .await?;
    scene.deploy(deployment(name).version("v2")).await?;
    scene.ask_for(previous(name)).await?;
    scene.approve(name, User::Approver).await?;
    waiting(scene, name, "RollingOut", Health::Progressing).await?;
    scene
        .apply_deployment(deployment(name).version("v3"))
        .await?;
    end(
        scene,
        name,
        RequestState::Superseded,
        Reason::TemplateChanged,
        Status::Failed,
    )
    .await?;
    ensure!(
        scene.image(name).await?.ends_with(":v3"),
        "their change did not stand"
    );
    Ok(())
}

async fn gone(scene: &Scene) -> Result<()> {
    scene.two_versions("gone").await?;
    scene.ask_for(previous("gone")).await?;
    scene.plan("gone").await?;
    let api = shop::api(
        &scene.client(User::Admin).await?,
        scene.ns(),
        "apps/v1",
        "Deployment",
    );
    api.delete("gone", &DeleteParams::background()).await?;
    end(
        scene,
        "gone",
        RequestState::Failed,
        Reason::TargetGone,
        Status::Failed,
    )
    .await
}

/// In a namespace of its own, because of its policy.
async fn checks_failed() -> Result<()> {
    let scene = Scene::new(PROGRAM, "ill").await?;
    let checks = HealthServer::start().await?;
    checks.answer(Answer::status(503));
    let check =
        json!({"name": "ready", "port": HEALTH_PORT, "path": "/health/ready", "periodSeconds": 1});
    let verification = json!({"timeoutSeconds": 4, "http": [check]});
    scene.policy(json!({"verification": verification})).await?;
    let name = "ill";
    let good = deployment(name).version("v1").pod_ip(&checks.ip());
    scene.deploy(good).await?;
    scene.deploy(deployment(name).version("v2")).await?;
    scene.ask_for(previous(name)).await?;
    scene.approve(name, User::Approver).await?;
    waiting(&scene, name, "Verifying", Health::Progressing).await?;
    end(
        &scene,
        name,
        RequestState::Failed,
        Reason::ChecksFailed,
        Status::Failed,
    )
    .await
}
