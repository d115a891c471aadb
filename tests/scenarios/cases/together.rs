//! Several Deployments in one request, one of which does not come up.

use anyhow::{Context, Result, ensure};
use rollback_api::status::{Outcome, TargetStatus};
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::json;
use testkit::conformance::record;
use testkit::scene::{PATIENCE, request};
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually, shop};

use crate::kubectl::{kubectl, twin};
use crate::situation::deploy_all;
use crate::stage::{APP, REQUEST, attempts, ensure_ended, scene};

/// The Deployment that comes up well.
const OTHER: &str = "broxiva-web";

/// Version 1 of the one Deployment crashes, and of the other one it does not.
async fn crashing_and_well(scene: &Scene) -> Result<()> {
    let v1 = shop::deployment(APP).version("v1").progress_deadline(600);
    scene
        .apply_deployment(v1.behaviour(Behaviour::Crash))
        .await?;
    deploy_all(scene, &["v2"]).await?;
    scene.two_versions(OTHER).await
}

/// Rolls both back, in this order.
async fn roll_back(
    scene: &Scene,
    order: [&str; 2],
    on_failure: &str,
) -> Result<(RollbackRequest, Outcome)> {
    scene
        .policy(json!({"rollout": {"graceSeconds": 1}}))
        .await?;
    crashing_and_well(scene).await?;
    let target = |wave: usize| json!({"name": order[wave], "wave": wave, "to": {"previous": {}}});
    let mut asked = request(REQUEST, json!([target(0), target(1)]));
    asked["spec"]["rollout"] = json!({"onFailure": on_failure});
    scene.ask_for(asked).await?;
    scene.approve(REQUEST, User::Approver).await?;
    scene.wait_for_end(REQUEST).await
}

fn progress_of(request: &RollbackRequest, name: &str) -> Result<TargetStatus> {
    let status = request.status.as_ref().context("no status")?;
    let found = status.targets.iter().find(|target| target.name == name);
    found.cloned().context("no such target")
}

fn ensure_target_ended(
    request: &RollbackRequest,
    name: &str,
    state: RequestState,
    reason: Reason,
) -> Result<()> {
    let outcome = progress_of(request, name)?.outcome.context("no outcome")?;
    ensure_ended(&outcome, state, reason)
}

/// The Deployments that the controller wrote, one name for each write, all of which were taken.
fn written(scene: &Scene) -> Result<Option<Vec<String>>> {
    let Some(attempts) = attempts(scene)? else {
        return Ok(None);
    };
    ensure!(
        attempts.iter().all(|event| event.code == 200),
        "{attempts:?}"
    );
    let mut names: Vec<String> = attempts.into_iter().map(|event| event.name).collect();
    names.sort();
    Ok(Some(names))
}

fn ensure_written(scene: &Scene, names: &[&str]) -> Result<()> {
    let written = written(scene)?;
    ensure!(written.is_none_or(|written| written == names));
    Ok(())
}

#[tokio::test]
async fn case_62_the_others_are_not_begun_when_one_fails() -> Result<()> {
    let (scene, twin) = (scene("case-62").await?, twin("case-62").await?);
    let ours = roll_back(&scene, [APP, OTHER], "Stop");
    let ((request, outcome), ()) = tokio::try_join!(ours, crashing_and_well(&twin))?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetsFailed)?;
    assert!(outcome.message.contains(APP), "{}", outcome.message);
    ensure_target_ended(&request, APP, RequestState::Failed, Reason::RolloutFailed)?;
    ensure_target_ended(&request, OTHER, RequestState::Cancelled, Reason::NotBegun)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));
    assert!(scene.image(OTHER).await?.ends_with(":v2"));
    ensure_written(&scene, &[APP])?;

    let names = [APP, OTHER].map(|name| format!("deployment/{name}"));
    let ran = kubectl(&twin, &["rollout", "undo", &names[0], &names[1]]).await?;
    ran.ensure_ok("rolled back")?;
    for name in [APP, OTHER] {
        assert!(twin.image(name).await?.ends_with(":v1"));
    }
    eventually("the one does not come up", PATIENCE, async || {
        let status = kubectl(&twin, &["get", "pods", "-o", "json"]).await?;
        ensure!(status.stdout.contains("CrashLoopBackOff"));
        Ok(())
    })
    .await?;
    let ours = "a result for each; by `onFailure` the other one is not begun (`Stop`), is rolled \
                back all the same (`Continue`), or both get back what they had (`Restore`)";
    record(
        62,
        "both are rolled back, whether they come up or not",
        ours,
    )
}

#[tokio::test]
async fn case_62_the_others_go_on_if_the_request_says_so() -> Result<()> {
    let scene = scene("case-62-continue").await?;
    let (request, outcome) = roll_back(&scene, [APP, OTHER], "Continue").await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetsFailed)?;
    ensure_target_ended(&request, APP, RequestState::Failed, Reason::RolloutFailed)?;
    ensure_target_ended(&request, OTHER, RequestState::Succeeded, Reason::Unverified)?;
    for name in [APP, OTHER] {
        assert!(scene.image(name).await?.ends_with(":v1"));
    }
    ensure_written(&scene, &[APP, OTHER])
}

#[tokio::test]
async fn case_62_all_get_back_what_they_had_if_the_request_says_so() -> Result<()> {
    let scene = scene("case-62-restore").await?;
    let (request, outcome) = roll_back(&scene, [OTHER, APP], "Restore").await?;
    ensure_ended(&outcome, RequestState::Restored, Reason::TargetsFailed)?;
    ensure_target_ended(&request, OTHER, RequestState::Succeeded, Reason::Unverified)?;
    ensure_target_ended(&request, APP, RequestState::Failed, Reason::RolloutFailed)?;
    for name in [APP, OTHER] {
        let restore = progress_of(&request, name)?
            .restore
            .context("not restored")?;
        let restored = restore.outcome.context("no outcome")?;
        ensure_ended(
            &restored,
            RequestState::Restored,
            Reason::RestoredFromBackup,
        )?;
        assert!(scene.image(name).await?.ends_with(":v2"));
    }
    ensure_written(&scene, &[APP, APP, OTHER, OTHER])
}
