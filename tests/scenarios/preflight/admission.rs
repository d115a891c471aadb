//! What admission plugins make of the write, asked beforehand and seen afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::SignedDuration;
use kube::Api;
use rollback_api::status::RiskKind;
use rollback_api::{Reason, RequestState, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use rollback_core::history::template::Template;
use serde_json::{Value, json};
use testkit::shop::Behaviour;
use testkit::{Scene, User, shop};

use crate::plugins::{ADDED, Plugin, is_altered, try_out};
use crate::stage::{
    APP, REQUEST, deploy_all, deploy_unready, ends, ensure_nothing_written, ensure_reverts,
    goes_on, image_of, kill, kinds, plan_of, previous, progress, refused, risk, says_all, scene,
    template,
};

/// Holds for everything but version 1.
const NOT_V1: &str = "!object.spec.template.spec.containers.exists(c, c.image.endsWith(':v1'))";

fn digest(deployment: &Value) -> String {
    Template::of(&deployment["spec"]["template"]).digest()
}

/// Whether the API server would alter version 1 (or not).
async fn altered(scene: &Scene, expected: bool) -> Result<()> {
    try_out(scene, &image_of("v1"), |answer| {
        answer
            .as_ref()
            .is_ok_and(|stored| is_altered(stored) == expected)
    })
    .await
}

#[tokio::test]
async fn a_template_that_a_policy_forbids_is_refused_in_the_plan() -> Result<()> {
    let scene = scene("forbidden").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let plugin = Plugin::forbid(&scene, NOT_V1, "v1 is withdrawn, see SEC-41").await?;
    try_out(&scene, &image_of("v1"), Result::is_err).await?;

    scene.ask(REQUEST, APP, previous()).await?;
    let says = [
        "v1 is withdrawn, see SEC-41",
        "Nothing was changed",
        "HTTP 422",
    ];
    refused(&scene, REQUEST, Reason::PatchRejected, &says).await?;
    ensure_nothing_written(&scene)?;
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    // Nobody was asked to approve what would have been refused.
    let status = scene.status(REQUEST).await?;
    ensure!(
        status.plan.is_none() && status.incident.is_none(),
        "{status:?}"
    );
    plugin.remove().await
}

/// A policy that came after the plan refuses the write itself. It is not tried again and again.
#[tokio::test]
async fn a_policy_that_comes_later_refuses_the_write_once() -> Result<()> {
    let mut scene = scene("forbidden-later").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    plan_of(&scene, REQUEST, previous()).await?;
    kill(&mut scene)?;
    scene.approve(REQUEST, User::Approver).await?;
    let plugin = Plugin::forbid(&scene, NOT_V1, "v1 is withdrawn").await?;
    try_out(&scene, &image_of("v1"), Result::is_err).await?;
    scene.start_controller().await?;
    let (_, outcome) = ends(&scene, REQUEST, RequestState::Failed, Reason::PatchRejected).await?;
    says_all(
        &outcome.message,
        &["v1 is withdrawn", "Nothing was changed"],
    )?;
    ensure_reverts(&scene, 0)?;
    plugin.remove().await
}

#[tokio::test]
async fn a_policy_that_alters_the_template_is_in_the_plan() -> Result<()> {
    let scene = scene("altered").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let plugin = Plugin::alter(&scene).await?;
    altered(&scene, true).await?;

    let target = plan_of(&scene, REQUEST, previous()).await?;
    let stored = target.stored_digest.clone().context("nothing is altered")?;
    ensure!(stored != target.to.digest && stored != target.from.digest);
    let told = risk(&target, RiskKind::Webhook)?;
    says_all(&told, &["alters the old template", "new ReplicaSet"])?;

    goes_on(&scene, REQUEST).await?;
    let deployment = scene.deployment(APP).await?;
    assert_eq!(digest(&deployment), stored);
    ensure!(is_altered(&deployment) && scene.image(APP).await?.ends_with(":v1"));
    ensure_reverts(&scene, 1)?;
    assert_eq!(scene.replica_sets(APP).await?.len(), 3);
    remembers_what_runs(&scene, &stored).await?;

    // What runs is what was asked for, as far as it can be had here: asking again does nothing.
    scene.ask("again", APP, json!({"revision": 1})).await?;
    let (_, outcome) = scene.wait_for_end("again").await?;
    says_all(&outcome.message, &["a rollback would do nothing"])?;
    plugin.remove().await
}

/// The ledger speaks of the template that runs, not of the one that never did.
async fn remembers_what_runs(scene: &Scene, stored: &str) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let ledgers: Api<RevisionLedger> = Api::namespaced(client, scene.ns());
    let ledger = ledgers
        .get(&ledger::name(WorkloadKind::Deployment, APP))
        .await?
        .spec;
    let last = ledger.rollbacks.last().context("nothing is remembered")?;
    assert_eq!(last.to_digest, stored);
    Ok(())
}

/// The pods of the altered version are not those of the old `ReplicaSet`; what ails them is seen all
/// the same, and not only when the time is over.
#[tokio::test]
async fn what_ails_the_altered_version_is_seen_in_time() -> Result<()> {
    let scene = scene("altered-crash").await?;
    let rollout = json!({"timeoutSeconds": 600, "graceSeconds": 1});
    scene.policy(json!({"rollout": rollout})).await?;
    let version = |tag| shop::deployment(APP).progress_deadline(600).version(tag);
    deploy_unready(&scene, version("v1").behaviour(Behaviour::Crash)).await?;
    scene.deploy(version("v2")).await?;
    let plugin = Plugin::alter(&scene).await?;
    altered(&scene, true).await?;
    plan_of(&scene, REQUEST, previous()).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (request, outcome) =
        ends(&scene, REQUEST, RequestState::Failed, Reason::RolloutFailed).await?;
    says_all(&outcome.message, &["CrashLoop"])?;
    let since = progress(&request)?.reverted_at.context("not reverted")?;
    let took = outcome.at.duration_since(since);
    ensure!(took < SignedDuration::from_secs(25), "it took {took}");
    plugin.remove().await
}

/// Case 39: what runs then is neither what was nor what was approved. It is not written again and again.
#[tokio::test]
async fn case_39_a_policy_that_alters_the_write_only_later_is_noticed() -> Result<()> {
    let mut scene = scene("altered-later").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    ensure!(target.stored_digest.is_none() && kinds(&target).is_empty());
    kill(&mut scene)?;
    scene.approve(REQUEST, User::Approver).await?;
    let plugin = Plugin::alter(&scene).await?;
    altered(&scene, true).await?;
    scene.start_controller().await?;

    let (request, outcome) = ends(
        &scene,
        REQUEST,
        RequestState::Failed,
        Reason::TemplateMutated,
    )
    .await?;
    says_all(
        &outcome.message,
        &[
            APP,
            "altered it on its way",
            "mutatingwebhookconfigurations",
        ],
    )?;
    ensure!(!outcome.message.contains("Nothing was changed"));
    ensure!(
        progress(&request)?.reverted_at.is_some(),
        "as if nothing was written"
    );
    ensure!(is_altered(&scene.deployment(APP).await?));
    ensure_reverts(&scene, 1)?;
    plugin.remove().await
}

/// The other way round: what the plan foresaw does not happen, and the old version comes back as it was.
#[tokio::test]
async fn a_policy_that_is_gone_by_the_time_of_the_write_does_no_harm() -> Result<()> {
    let mut scene = scene("altered-before").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let old = scene.replica_sets(APP).await?;
    let old = old.iter().find(|set| set.to_string().contains(":v1"));
    let old = template(old.context("no v1")?);
    let plugin = Plugin::alter(&scene).await?;
    altered(&scene, true).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    ensure!(target.stored_digest.is_some());
    kill(&mut scene)?;
    scene.approve(REQUEST, User::Approver).await?;
    plugin.remove().await?;
    altered(&scene, false).await?;
    scene.start_controller().await?;
    ends(&scene, REQUEST, RequestState::Succeeded, Reason::Unverified).await?;
    assert_eq!(template(&scene.deployment(APP).await?), old);
    ensure_reverts(&scene, 1)
}

#[tokio::test]
async fn a_policy_that_turns_the_template_back_is_refused() -> Result<()> {
    let scene = scene("turned-back").await?;
    for tag in ["v1", "v2"] {
        // Nothing else differs, so that the policy can turn it back.
        let version = shop::deployment(APP).image(&image_of(tag));
        scene.deploy(version.ready_after(Duration::ZERO)).await?;
    }
    let plugin = Plugin::pin_image(&scene, &image_of("v2")).await?;
    let pinned = |stored: &Value| {
        let image = stored.pointer("/spec/template/spec/containers/0/image");
        image == Some(&json!(image_of("v2")))
    };
    try_out(&scene, &image_of("v1"), |answer| {
        answer.as_ref().is_ok_and(pinned)
    })
    .await?;
    scene.ask(REQUEST, APP, previous()).await?;
    let says = [
        "turns the old template",
        "would do nothing",
        "mutatingadmissionpolicies",
    ];
    refused(&scene, REQUEST, Reason::PatchRejected, &says).await?;
    ensure_nothing_written(&scene)?;
    plugin.remove().await
}

/// The guard lets the controller change the template and nothing else, whoever changed it on the way.
/// Said in the plan, and not when production waits for the write.
#[tokio::test]
async fn a_policy_that_alters_more_than_the_template_is_refused() -> Result<()> {
    let scene = scene("altered-beside").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let plugin = Plugin::annotate(&scene).await?;
    let annotated = |stored: &Value| stored["metadata"]["annotations"].get(ADDED).is_some();
    try_out(&scene, &image_of("v1"), |answer| {
        answer.as_ref().is_ok_and(annotated)
    })
    .await?;
    scene.ask(REQUEST, APP, previous()).await?;
    let says = [
        "rollback-guard-deployment",
        ADDED,
        "exempt the ServiceAccount",
    ];
    refused(&scene, REQUEST, Reason::PatchRejected, &says).await?;
    ensure_nothing_written(&scene)?;
    plugin.remove().await
}
