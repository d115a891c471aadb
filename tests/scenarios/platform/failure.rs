//! What becomes of the others when one does not come back.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::{Scene, User};

use crate::record::Record;
use crate::stage::{
    REQUEST, artifacts, crash, crashing, deploy, end, ensure_ended, ensure_results, held, later,
    let_go, named, roll_back, scene, start, tags, wait_for_target, well,
};

const UNVERIFIED: (RequestState, Reason) = (RequestState::Succeeded, Reason::Unverified);
const CRASHED: (RequestState, Reason) = (RequestState::Failed, Reason::RolloutFailed);
const SPARED: (RequestState, Reason) = (RequestState::Cancelled, Reason::NotBegun);
const BACK: (RequestState, Reason) = (RequestState::Restored, Reason::RestoredFromBackup);

/// A namespace where a pod that crashes is no riddle for long.
async fn impatient(name: &str) -> Result<Scene> {
    let scene = scene(name).await?;
    scene
        .policy(json!({"rollout": {"graceSeconds": 1}}))
        .await?;
    Ok(scene)
}

fn of((state, reason): (RequestState, Reason), name: &str) -> (&str, RequestState, Reason) {
    (name, state, reason)
}

/// Three in the first wave, one of which crashes and one of which takes its time; two that wait.
fn five() -> serde_json::Value {
    json!([
        named("a-ok"),
        named("b-bad"),
        named("c-slow"),
        later("d", 1),
        later("e", 2)
    ])
}

async fn deploy_five(scene: &Scene) -> Result<()> {
    let olds = [
        well("a-ok"),
        crashing("b-bad"),
        held("c-slow"),
        well("d"),
        well("e"),
    ];
    deploy(scene, olds).await
}

#[tokio::test]
async fn stop_begins_no_other_and_lets_those_under_way_finish() -> Result<()> {
    let scene = impatient("stop").await?;
    deploy_five(&scene).await?;
    start(&scene, five(), json!({"onFailure": "Stop"})).await?;
    wait_for_target(&scene, "d", "is spared", |it| it.outcome.is_some()).await?;
    wait_for_target(&scene, "c-slow", "goes on", |it| it.outcome.is_none()).await?;
    let_go(&scene, "c-slow").await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetsFailed)?;
    ensure!(outcome.message.contains("b-bad: "), "{}", outcome.message);
    ensure_results(
        &request,
        &[
            of(UNVERIFIED, "a-ok"),
            of(CRASHED, "b-bad"),
            of(UNVERIFIED, "c-slow"),
            of(SPARED, "d"),
            of(SPARED, "e"),
        ],
    )?;
    let names = ["a-ok", "b-bad", "c-slow", "d", "e"];
    assert_eq!(tags(&scene, &names).await?, ["v1", "v1", "v1", "v2", "v2"]);
    ensure!(artifacts(&scene, "backup", &request).await?.len() == 3);
    ensure!(artifacts(&scene, "incident", &request).await?.len() == 1);
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&[("a-ok", 1), ("b-bad", 1), ("c-slow", 1)])?;
    }
    let row = crate::stage::row(&scene).await?;
    ensure!(
        row.contains("5 Deployments (2 done, 3 not) to previous"),
        "{row}"
    );
    Ok(())
}

#[tokio::test]
async fn continue_rolls_the_others_back_nevertheless() -> Result<()> {
    let scene = impatient("continue").await?;
    deploy(&scene, [well("a"), crashing("b"), well("c"), well("d")]).await?;
    let targets = json!([named("a"), named("b"), later("c", 1), later("d", 2)]);
    let rollout = json!({"onFailure": "Continue", "parallelism": 1});
    let (request, outcome) = roll_back(&scene, targets, rollout).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TargetsFailed)?;
    ensure_results(
        &request,
        &[
            of(UNVERIFIED, "a"),
            of(CRASHED, "b"),
            of(UNVERIFIED, "c"),
            of(UNVERIFIED, "d"),
        ],
    )?;
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&["a", "b", "c", "d"].map(|name| (name, 1)))?;
        record.ensure_at_most(1)?;
    }
    Ok(())
}

#[tokio::test]
async fn restore_brings_back_what_each_had() -> Result<()> {
    let scene = impatient("restore").await?;
    deploy_five(&scene).await?;
    let names = ["a-ok", "b-bad", "c-slow"];
    let mut before = Vec::new();
    for name in names {
        before.push(scene.deployment(name).await?["spec"]["template"].clone());
    }
    let (request, outcome) = roll_back(&scene, five(), json!({"onFailure": "Restore"})).await?;
    ensure_ended(&outcome, RequestState::Restored, Reason::TargetsFailed)?;
    ensure!(outcome.message.contains("b-bad: "), "{}", outcome.message);
    ensure_results(
        &request,
        &[
            of(BACK, "a-ok"),
            of(BACK, "b-bad"),
            of(BACK, "c-slow"),
            of(SPARED, "d"),
            of(SPARED, "e"),
        ],
    )?;
    for (name, template) in names.iter().zip(&before) {
        ensure!(scene.deployment(name).await?["spec"]["template"] == *template);
    }
    assert_eq!(tags(&scene, &["d", "e"]).await?, ["v2", "v2"]);
    ensure!(artifacts(&scene, "incident", &request).await?.len() == 1);
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&names.map(|name| (name, 2)))?;
        for name in names {
            assert_eq!(record.images(name), ["v1", "v2"]);
        }
    }
    Ok(())
}

/// Asked for, the single Deployment gets back what it had too: half a version is better than none.
#[tokio::test]
async fn restore_works_for_a_single_one() -> Result<()> {
    let scene = scene("restore-one").await?;
    deploy(&scene, [held("api")]).await?;
    let rollout = json!({"onFailure": "Restore", "timeoutSeconds": 2});
    let (request, outcome) = roll_back(&scene, json!([named("api")]), rollout).await?;
    ensure_ended(&outcome, RequestState::Restored, Reason::RestoredFromBackup)?;
    ensure!(
        outcome.message.contains("The time allowed ended"),
        "{}",
        outcome.message
    );
    let failure = request
        .status
        .context("no status")?
        .targets
        .remove(0)
        .outcome;
    assert_eq!(failure.map(|it| it.reason), Some(Reason::RolloutTimedOut));
    assert_eq!(tags(&scene, &["api"]).await?, ["v2"]);
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&[("api", 2)])?;
        assert_eq!(record.images("api"), ["v1", "v2"]);
    }
    Ok(())
}

/// One is done and one hangs: what happens now happens between the two.
async fn between(scene: &Scene) -> Result<()> {
    deploy(scene, [well("a-done"), held("b-hangs")]).await?;
    let targets = json!([named("a-done"), named("b-hangs")]);
    start(scene, targets, json!({"onFailure": "Restore"})).await?;
    wait_for_target(scene, "a-done", "is done", |it| it.outcome.is_some()).await
}

/// An image that somebody sets leaves everything else, our change-cause too, as it is.
#[tokio::test]
async fn restore_leaves_what_somebody_deployed_meanwhile() -> Result<()> {
    let scene = impatient("restore-edit").await?;
    between(&scene).await?;
    let image = "deployment/a-done";
    let set = [
        "set",
        "image",
        image,
        "app=registry.broxiva.example/a:hotfix",
        "-n",
        scene.ns(),
    ];
    scene.cluster.kubectl_ok(User::Admin, &set, "").await?;
    crash(&scene, "b-hangs").await?;
    let (request, outcome) = end(&scene).await?;
    ensure_results(
        &request,
        &[
            ("a-done", RequestState::Superseded, Reason::TemplateChanged),
            of(BACK, "b-hangs"),
        ],
    )?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RestoreFailed)?;
    assert_eq!(
        tags(&scene, &["a-done", "b-hangs"]).await?,
        ["hotfix", "v2"]
    );
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&[("a-done", 1), ("b-hangs", 2)])?;
    }
    Ok(())
}

#[tokio::test]
async fn restore_without_a_backup_says_so() -> Result<()> {
    let scene = impatient("restore-none").await?;
    between(&scene).await?;
    let status = scene.status(REQUEST).await?;
    let progress = status.targets.iter().find(|it| it.name == "a-done");
    let backup = progress
        .and_then(|it| it.backup.clone())
        .context("no backup")?;
    let maps: Api<ConfigMap> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    maps.delete(&backup.config_map, &DeleteParams::default())
        .await?;
    crash(&scene, "b-hangs").await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RestoreFailed)?;
    ensure_results(
        &request,
        &[
            ("a-done", RequestState::Failed, Reason::RestoreFailed),
            of(BACK, "b-hangs"),
        ],
    )?;
    let message = request
        .status
        .and_then(|status| status.targets.into_iter().next()?.restore?.outcome)
        .context("no restore")?
        .message;
    ensure!(message.contains(&backup.config_map), "{message}");
    assert_eq!(tags(&scene, &["a-done", "b-hangs"]).await?, ["v1", "v2"]);
    Ok(())
}
