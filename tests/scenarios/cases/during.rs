//! What happens to the Deployment, or to us, while the old version is rolling out.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::shop::Behaviour;
use testkit::{User, eventually, shop};

use crate::kubectl::{SUCCESS, both, status, twin, undo, watch};
use crate::situation::{
    delete_deployment, heal, start_rolling_out, stuck_then_well, wait_for_revision,
};
use crate::stage::{
    APP, REQUEST, ensure_answers, ensure_ended, kill, number, progress, replica_set, scene,
    template, text,
};

#[tokio::test]
async fn case_52_a_new_version_meanwhile_supersedes() -> Result<()> {
    let (scene, twin) = (scene("case-52").await?, twin("case-52").await?);
    both(&scene, &twin, stuck_then_well).await?;
    start_rolling_out(&scene).await?;
    assert!(scene.image(APP).await?.ends_with(":v1"));
    scene
        .apply_deployment(shop::deployment(APP).version("v3"))
        .await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Superseded, Reason::TemplateChanged)?;
    assert!(progress(&request)?.reverted_at.is_some());
    assert!(scene.image(APP).await?.ends_with(":v3"));
    ensure_answers(&scene, &[200])?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    wait_for_revision(&twin, "v1", 3).await?;
    let (latest, pinned) = (
        watch(&twin, &[]).await?,
        watch(&twin, &["--revision=3"]).await?,
    );
    // Said again, because kubectl owns it since it brought v1 back.
    let v3 = shop::deployment(APP)
        .version("v3")
        .behaviour(Behaviour::Ready);
    twin.apply_deployment(v3).await?;
    latest.end().await?.ensure_ok(SUCCESS)?;
    let pinned = pinned.end().await?;
    pinned.ensure_error("desired revision (3) is different from the running revision (4)")?;
    let kubectl = format!(
        "`rollout status`: `{SUCCESS}`, which is true of v3; `rollout status --revision=3`: {}",
        pinned.complaint()
    );
    let ours = "`Superseded` with reason `TemplateChanged`; scaling and annotating do not matter";
    record(52, &kubectl, ours)
}

#[tokio::test]
async fn case_52_scaling_and_annotating_meanwhile_do_not_matter() -> Result<()> {
    let scene = scene("case-52-scale").await?;
    stuck_then_well(&scene).await?;
    start_rolling_out(&scene).await?;
    let before = number(&scene.deployment(APP).await?, "/metadata/generation");
    let annotate = json!({"metadata": {"annotations": {"broxiva.com/note": "on it"}}});
    scene.patch_deployment(APP, annotate).await?;
    let scale = json!({"spec": {"replicas": 3}});
    scene.patch_deployment(APP, scale).await?;
    // The controller has seen the third replica and goes on waiting.
    eventually("the request waits for three", PATIENCE, async || {
        let request = scene.request(REQUEST).await?;
        let rollout = progress(&request)?.rollout.context("no rollout")?;
        ensure!(rollout.desired == 3, "it waits for {}", rollout.desired);
        Ok(())
    })
    .await?;
    let waiting = scene.wait_for(REQUEST, "RollingOut").await?;
    let deadline = progress(&waiting)?.rollout.map(|rollout| rollout.deadline);
    heal(&scene, REQUEST).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let rollout = progress(&request)?.rollout.context("no rollout")?;
    assert_eq!((rollout.desired, rollout.available), (3, 3));
    assert_eq!(Some(rollout.deadline), deadline);
    let after = scene.deployment(APP).await?;
    assert_eq!(number(&after, "/metadata/generation"), before + 2);
    assert_eq!(
        template(&after),
        template(&replica_set(&scene, "v1").await?)
    );
    ensure_answers(&scene, &[200])
}

#[tokio::test]
async fn case_53_a_deployment_deleted_meanwhile_is_gone() -> Result<()> {
    let (scene, twin) = (scene("case-53").await?, twin("case-53").await?);
    both(&scene, &twin, stuck_then_well).await?;
    start_rolling_out(&scene).await?;
    delete_deployment(&scene).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetGone)?;
    assert_eq!(scene.artifacts("incident", REQUEST).await?.len(), 1);
    ensure_answers(&scene, &[200])?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    let watching = watch(&twin, &[]).await?;
    delete_deployment(&twin).await?;
    let ended = watching.end().await?;
    ended.ensure_error("deleted")?;
    let kubectl = format!("`rollout status`: {}", ended.complaint());
    record(
        53,
        &kubectl,
        "`Failed` with reason `TargetGone`, also when it was made again",
    )
}

/// The twin has the very template that was asked for; it is not the Deployment that was rolled back.
#[tokio::test]
async fn case_53_a_deployment_made_again_meanwhile_is_gone() -> Result<()> {
    let mut scene = scene("case-53-twin").await?;
    stuck_then_well(&scene).await?;
    start_rolling_out(&scene).await?;
    let old = scene.deployment(APP).await?;
    kill(&mut scene)?;
    delete_deployment(&scene).await?;
    let mut twin = shop::deployment(APP).build();
    twin["spec"]["template"] = template(&old);
    shop::apply(&scene.client(User::Admin).await?, scene.ns(), &twin).await?;
    let twin = scene
        .wait_for_deployment(APP, |deployment| {
            number(deployment, "/status/updatedReplicas") > 0
        })
        .await?;
    assert_eq!(template(&twin), template(&old));
    assert_ne!(text(&twin, "/metadata/uid"), text(&old, "/metadata/uid"));
    scene.start_controller().await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetGone)?;
    ensure_answers(&scene, &[200])
}

#[tokio::test]
async fn case_59_a_restart_does_not_move_the_deadline() -> Result<()> {
    const SECONDS: i64 = 8;
    let mut scene = scene("case-59").await?;
    let twin = twin("case-59").await?;
    scene
        .policy(json!({"rollout": {"timeoutSeconds": SECONDS}}))
        .await?;
    both(&scene, &twin, stuck_then_well).await?;
    let request = start_rolling_out(&scene).await?;
    let before = progress(&request)?;
    let deadline = before.rollout.context("no rollout")?.deadline;
    let reverted = before.reverted_at.context("not reverted")?;
    assert_eq!(
        deadline.duration_since(reverted),
        SignedDuration::from_secs(SECONDS)
    );
    kill(&mut scene)?;
    scene.start_controller().await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutTimedOut)?;
    let after = progress(&request)?;
    assert_eq!(
        after.rollout.map(|rollout| rollout.deadline),
        Some(deadline)
    );
    assert_eq!(after.reverted_at, Some(reverted));
    assert!(outcome.at >= deadline);
    let ended_at = format!("ended at {}", deadline.strftime("%Y-%m-%d %H:%M:%S UTC"));
    assert!(outcome.message.contains(&ended_at), "{}", outcome.message);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(&scene, &[200])?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    let timeout = Duration::from_secs(2);
    for _ in 0..2 {
        let waited = status(&twin, timeout, &[]).await?;
        waited.ensure_error("timed out waiting")?;
        assert!(waited.took >= timeout, "{waited:?}");
    }
    let kubectl = "`rollout status --timeout` counts from the beginning each time it is started";
    record(59, kubectl, "the deadline is that of before the restart")
}

#[tokio::test]
async fn case_59_a_restart_does_not_stop_the_rollout() -> Result<()> {
    let mut scene = scene("case-59-well").await?;
    stuck_then_well(&scene).await?;
    let request = start_rolling_out(&scene).await?;
    let deadline = progress(&request)?.rollout.map(|rollout| rollout.deadline);
    kill(&mut scene)?;
    scene.start_controller().await?;
    heal(&scene, REQUEST).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let after = progress(&request)?.rollout.map(|rollout| rollout.deadline);
    assert_eq!(after, deadline);
    ensure_answers(&scene, &[200])
}
