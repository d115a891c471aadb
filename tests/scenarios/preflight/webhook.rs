//! Webhooks that cannot be asked what they would do.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use rollback_api::status::RiskKind;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::plugins::try_out;
use crate::stage::{
    APP, REQUEST, deploy_all, ensure_reverts, goes_on, image_of, kubectl, plan_of, previous, risk,
    says_all, scene,
};

/// A webhook for the Deployments of this namespace. Nobody listens at its address.
fn webhook(scene: &Scene, side_effects: &str, failure_policy: &str) -> Value {
    let name = scene.ns();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": "old.broxiva.example",
            "clientConfig": {"url": "https://127.0.0.1:9/nobody"},
            "admissionReviewVersions": ["v1"],
            "sideEffects": side_effects,
            "failurePolicy": failure_policy,
            "matchPolicy": "Equivalent",
            "objectSelector": {},
            "timeoutSeconds": 1,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "rules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"],
                "resources": ["deployments"], "scope": "*",
            }],
        }],
    })
}

/// The API server takes no such webhook any more, but serves those that were made when it did: so
/// this one goes straight into the store, as an upgrade leaves it there.
async fn inherit(scene: &Scene, mut webhook: Value) -> Result<()> {
    let name = scene.ns();
    webhook["metadata"]["uid"] = json!(format!(
        "00000000-0000-4000-8000-{:012x}",
        std::process::id()
    ));
    webhook["metadata"]["generation"] = json!(1);
    webhook["metadata"]["creationTimestamp"] = json!("2020-02-02T02:02:02Z");
    let key = format!("/registry/validatingwebhookconfigurations/{name}");
    let encoded = |text: String| ByteString(text.into_bytes());
    let put = json!({"key": encoded(key), "value": encoded(webhook.to_string())});
    let url = format!("{}/v3/kv/put", scene.cluster.etcd()?);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.post(url).body(put.to_string()).send().await?;
    ensure!(answer.status().is_success(), "etcd says {answer:?}");
    Ok(())
}

async fn takes_no_dry_run(scene: &Scene) -> Result<()> {
    try_out(scene, &image_of("v1"), |answer| {
        answer
            .as_ref()
            .is_err_and(|status| status.message.contains("does not support dry run"))
    })
    .await
}

async fn remove(scene: &Scene) -> Result<()> {
    let delete = ["delete", "validatingwebhookconfiguration", scene.ns()];
    kubectl(scene, &delete).await.map(|_| ())
}

/// It may well take the write itself, so that nothing can be said beforehand is no reason to refuse.
#[tokio::test]
async fn a_webhook_that_takes_no_dry_runs_is_a_risk_and_no_refusal() -> Result<()> {
    let scene = scene("no-dry-run").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    inherit(&scene, webhook(&scene, "Unknown", "Ignore")).await?;
    takes_no_dry_run(&scene).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    ensure!(target.stored_digest.is_none());
    let told = risk(&target, RiskKind::DryRun)?;
    says_all(
        &told,
        &[
            "old.broxiva.example",
            "does not support dry run",
            "may still refuse",
        ],
    )?;
    goes_on(&scene, REQUEST).await?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    ensure_reverts(&scene, 1)?;
    remove(&scene).await
}

/// A webhook that is down says nothing, neither beforehand nor to the write: that waits, and says why.
#[tokio::test]
async fn a_webhook_that_is_down_is_waited_for() -> Result<()> {
    let scene = scene("webhook-down").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let down = webhook(&scene, "None", "Fail");
    let create = ["create", "-f", "-"];
    scene
        .cluster
        .kubectl_ok(User::Admin, &create, &down.to_string())
        .await?;
    try_out(&scene, &image_of("v1"), Result::is_err).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    let told = risk(&target, RiskKind::DryRun)?;
    says_all(&told, &["old.broxiva.example", "failed calling webhook"])?;
    scene.approve(REQUEST, User::Approver).await?;
    scene.wait_for(REQUEST, "Reverting").await?;
    let events = testkit::shop::api(
        &scene.client(User::Admin).await?,
        scene.ns(),
        "events.k8s.io/v1",
        "Event",
    );
    eventually("an Event says why", PATIENCE, async || {
        let all = events.list(&kube::api::ListParams::default()).await?.items;
        let told = |event: &&kube::core::DynamicObject| event.data["reason"] == "ReconcileFailed";
        let note = all
            .iter()
            .find(told)
            .context("no Event ReconcileFailed")?
            .data["note"]
            .to_string();
        says_all(&note, &["failed calling webhook"])
    })
    .await?;
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    remove(&scene).await?;
    testkit::scene::ready(&scene.request(REQUEST).await?);
    crate::stage::ends(
        &scene,
        REQUEST,
        rollback_api::RequestState::Succeeded,
        rollback_api::Reason::Unverified,
    )
    .await?;
    ensure_reverts(&scene, 1)
}
