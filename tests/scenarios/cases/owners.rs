//! Somebody else writes the Deployment as well: before, after and right behind the rollback.

use anyhow::{Context, Result, ensure};
use rollback_api::status::RiskKind;
use rollback_api::{FIELD_MANAGER, Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::{Scene, shop};

use crate::kubectl::{Ran, SUCCESS, both, kubectl_with_input, status, twin, undo};
use crate::situation::{deploy_all, start_rolling_out, wait_until_available};
use crate::stage::{APP, REQUEST, ensure_answers, ensure_ended, planned, progress, refused, scene};

fn version(version: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP).version(version)
}

/// Somebody applies a version with kubectl, and it is rolled out.
async fn apply(scene: &Scene, options: &[&str], version: shop::DeploymentBuilder) -> Result<Ran> {
    let arguments = [&["apply", "-f", "-"], options].concat();
    let ran = kubectl_with_input(scene, &arguments, &version.build().to_string()).await?;
    wait_until_available(scene).await?;
    Ok(ran)
}

const CLIENT_SIDE: &[&str] = &["--server-side=false"];

/// The next version is applied by whoever applied the others, and has an env that it should not have: v2
/// had removed it already, so kubectl, which compares with v2, leaves it alone.
async fn ensure_mixed_next_time(scene: &Scene) -> Result<()> {
    let next = version("v3").env("NEW", "1");
    apply(scene, CLIENT_SIDE, next)
        .await?
        .ensure_ok("configured")?;
    let after = scene.deployment(APP).await?;
    let env = after.pointer("/spec/template/spec/containers/0/env");
    let expected = json!([{"name": "NEW", "value": "1"}, {"name": "OLD", "value": "1"}]);
    ensure!(env == Some(&expected), "it is {env:?}");
    Ok(())
}

#[tokio::test]
async fn case_42_who_applied_it_is_told_before_the_approval() -> Result<()> {
    let (scene, twin) = (scene("case-42").await?, twin("case-42").await?);
    both(&scene, &twin, async |scene| {
        for version in [version("v1").env("OLD", "1"), version("v2").env("NEW", "1")] {
            apply(scene, CLIENT_SIDE, version).await?.ensure_ok("")?;
        }
        Ok(())
    })
    .await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let risks = planned(&request)?.risks;
    let [risk] = risks.as_slice() else {
        anyhow::bail!("not one risk: {risks:?}");
    };
    assert_eq!(risk.kind, RiskKind::Owner);
    assert!(risk.message.contains("kubectl apply"), "{}", risk.message);
    ensure_answers(&scene, &[200])?;
    ensure_mixed_next_time(&scene).await?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let warning = undo.ran.stderr.trim();
    // An older kubectl does not say it.
    let is_older = testkit::variant().kubernetes.is_some();
    ensure!(
        is_older || warning.contains("last-applied-configuration"),
        "{warning}"
    );
    wait_until_available(&twin).await?;
    ensure_mixed_next_time(&twin).await?;
    let kubectl = format!(
        "{} with a warning on stderr about `last-applied-configuration`; the next \
         `kubectl apply`, of v3, keeps an env of v1 that v3 does not have",
        undo.outcome()
    );
    let ours = "back to v1, and the plan named the risk `Owner` before the approval; the next \
                `kubectl apply` keeps that env all the same; an owner that would undo it by itself: \
                `Refused` with reason `SelfHealingOwner`, unless the policy says `Warn`";
    record(42, &kubectl, ours)
}

/// Nobody can tell whether this Argo CD, of another cluster perhaps, puts back what Git says.
#[tokio::test]
async fn case_42_an_owner_that_may_undo_it_is_paused_first() -> Result<()> {
    let scene = scene("case-42-argo").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let tracking = format!("shop:apps/Deployment:{}/{APP}", scene.ns());
    let mark = json!({"argocd.argoproj.io/tracking-id": tracking});
    scene
        .patch_deployment(APP, json!({"metadata": {"annotations": mark}}))
        .await?;
    let message = refused(&scene, json!({"previous": {}}), Reason::SelfHealingOwner).await?;
    // Nothing here says that it is its own, so nobody is told to switch it off unseen.
    let pause = "argocd app resources shop";
    assert!(message.contains(pause), "{message}");
    assert!(scene.image(APP).await?.ends_with(":v2"));

    scene
        .policy(json!({"gitOps": {"onSelfHealing": "Warn"}}))
        .await?;
    let (request, outcome) = scene
        .roll_back("warned", APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let risks = planned(&request)?.risks;
    let owner = risks.iter().find(|risk| risk.kind == RiskKind::Owner);
    assert!(
        owner.is_some_and(|risk| risk.message.contains("Argo CD application shop")),
        "{risks:?}"
    );
    ensure_answers(&scene, &[200])
}

/// Under which names there are entries in `managedFields`.
fn managers(deployment: &Value) -> Result<Vec<&str>> {
    let entries = deployment.pointer("/metadata/managedFields");
    let entries = entries.and_then(Value::as_array).context("none")?;
    Ok(entries
        .iter()
        .filter_map(|entry| entry["manager"].as_str())
        .collect())
}

#[tokio::test]
async fn case_43_the_owner_meets_no_conflict_when_ownership_is_released() -> Result<()> {
    const OWNER: &[&str] = &["--server-side", "--field-manager=helm"];
    let (scene, twin) = (scene("case-43").await?, twin("case-43").await?);
    scene
        .policy(json!({"rollout": {"releaseOwnership": true}}))
        .await?;
    both(&scene, &twin, async |scene| {
        for tag in ["v1", "v2"] {
            let applied = apply(scene, OWNER, version(tag)).await?;
            applied.ensure_ok("serverside-applied")?;
        }
        Ok(())
    })
    .await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));
    let released = scene.deployment(APP).await?;
    let left = managers(&released)?;
    ensure!(
        left.contains(&"helm") && !left.contains(&FIELD_MANAGER),
        "{left:?}"
    );
    // The revert, and the release.
    ensure_answers(&scene, &[200, 200])?;
    let next = apply(&scene, OWNER, version("v3")).await?;
    next.ensure_ok("serverside-applied")?;
    assert!(scene.image(APP).await?.ends_with(":v3"));

    undo(&twin, &[]).await?.ensure_to("v1")?;
    wait_until_available(&twin).await?;
    let next = apply(&twin, OWNER, version("v3")).await?;
    next.ensure_error("conflict")?;
    next.ensure_error("\"kubectl\"")?;
    assert!(twin.image(APP).await?.ends_with(":v1"));
    let ours = "no conflict with `releaseOwnership`: the next release is applied";
    record(
        43,
        "the owner's next release fails: a conflict with `kubectl`",
        ours,
    )
}

#[tokio::test]
async fn case_60_who_brings_the_bad_version_back_is_named() -> Result<()> {
    const PIPELINE: &[&str] = &["--server-side", "--force-conflicts", "--field-manager=ci"];
    let (scene, twin) = (scene("case-60").await?, twin("case-60").await?);
    scene
        .policy(json!({"verification": {"soakSeconds": 300}}))
        .await?;
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2"]).await
    })
    .await?;
    start_rolling_out(&scene).await?;
    let request = scene.wait_for(REQUEST, "Verifying").await?;
    assert!(progress(&request)?.outcome.is_none());
    assert!(scene.image(APP).await?.ends_with(":v1"));
    apply(&scene, PIPELINE, version("v2"))
        .await?
        .ensure_ok("serverside-applied")?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::Overwritten)?;
    let who = "Field manager ci brought the bad version";
    assert!(outcome.message.contains(who), "{}", outcome.message);
    assert!(scene.image(APP).await?.ends_with(":v2"));
    // It is not fought over.
    ensure_answers(&scene, &[200])?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    status(&twin, PATIENCE, &[]).await?.ensure_ok(SUCCESS)?;
    deploy_all(&twin, &["v2"]).await?;
    let status = status(&twin, PATIENCE, &[]).await?;
    status.ensure_ok(SUCCESS)?;
    assert!(twin.image(APP).await?.ends_with(":v2"));
    let kubectl =
        format!("`rollout status`: `{SUCCESS}`, and the same again once the bad version is back");
    let ours = "`Failed` with reason `Overwritten`, naming who did it, if it happens within \
                `soakSeconds`; the bad version stays";
    record(60, &kubectl, ours)
}
