//! What is left behind: whose the fields are, who may bring the bad version back, and its last pods.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use rollback_api::{FIELD_MANAGER, Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    APP, REQUEST, deploy_all, ends, ensure_reverts, goes_on, kubectl, plan_of, previous, says_all,
    scene, template,
};

/// Applies a version as its owner does, without force.
async fn apply_unforced(scene: &Scene, tag: &str) -> Result<Result<(), kube::core::Status>> {
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), "apps/v1", "Deployment");
    let version = shop::deployment(APP).version(tag).build();
    let patch = Patch::Apply(&version);
    match api.patch(APP, &PatchParams::apply("testkit"), &patch).await {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(status)) => Ok(Err(*status)),
        Err(error) => Err(error.into()),
    }
}

/// The field managers of the Deployment, without those of its status.
async fn managers(scene: &Scene) -> Result<Vec<String>> {
    let deployment = scene.deployment(APP).await?;
    let entries = deployment["metadata"]["managedFields"].as_array().cloned();
    Ok(entries
        .context("no managed fields")?
        .iter()
        .filter(|entry| entry.get("subresource").is_none())
        .filter_map(|entry| entry["manager"].as_str().map(str::to_owned))
        .collect())
}

async fn roll_back(scene: &Scene) -> Result<()> {
    deploy_all(scene, &["v1", "v2"]).await?;
    plan_of(scene, REQUEST, previous()).await?;
    goes_on(scene, REQUEST).await?;
    Ok(())
}

#[tokio::test]
async fn case_43_the_owner_meets_no_conflict_when_ownership_is_released() -> Result<()> {
    let scene = scene("case-43").await?;
    scene
        .policy(json!({"rollout": {"releaseOwnership": true}}))
        .await?;
    roll_back(&scene).await?;
    let ours = managers(&scene).await?;
    ensure!(
        !ours.iter().any(|manager| manager == FIELD_MANAGER),
        "{ours:?}"
    );
    let before = scene.deployment(APP).await?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    // The write and the release, and nothing else; the release makes no new generation.
    ensure_reverts(&scene, 2)?;
    assert_eq!(before["metadata"]["generation"], 3);

    let applied = apply_unforced(&scene, "v3").await?;
    ensure!(applied.is_ok(), "{applied:?}");
    ensure!(scene.image(APP).await?.ends_with(":v3"));
    // Nobody else's hand is on the template of the owner.
    let expected = shop::deployment(APP).version("v3").build();
    let image = "/spec/containers/0/image";
    let now = template(&scene.deployment(APP).await?);
    assert_eq!(
        now.pointer(image),
        expected["spec"]["template"].pointer(image)
    );
    Ok(())
}

/// What happens without it, so that the option is known to be for something.
#[tokio::test]
async fn case_43_the_owner_meets_a_conflict_otherwise() -> Result<()> {
    let scene = scene("case-43-kept").await?;
    roll_back(&scene).await?;
    let applied = apply_unforced(&scene, "v3").await?;
    let status = applied.err().context("there is no conflict")?;
    ensure!(status.is_conflict(), "{status:?}");
    says_all(&status.message, &[FIELD_MANAGER, ".image"])?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    ensure_reverts(&scene, 1)
}

/// Only a success gives the fields away: what failed is still to be looked after.
#[tokio::test]
async fn ownership_is_kept_when_it_did_not_work() -> Result<()> {
    let scene = scene("case-43-failed").await?;
    let rollout = json!({"releaseOwnership": true, "timeoutSeconds": 2});
    scene.policy(json!({"rollout": rollout})).await?;
    let stuck = shop::deployment(APP).progress_deadline(600).version("v1");
    crate::stage::deploy_unready(&scene, stuck.behaviour(shop::Behaviour::NeverReady)).await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    plan_of(&scene, REQUEST, previous()).await?;
    scene.approve(REQUEST, User::Approver).await?;
    ends(
        &scene,
        REQUEST,
        RequestState::Failed,
        Reason::RolloutTimedOut,
    )
    .await?;
    let ours = managers(&scene).await?;
    ensure!(
        ours.iter().any(|manager| manager == FIELD_MANAGER),
        "{ours:?}"
    );
    Ok(())
}

/// Brings a version back as a pipeline does.
async fn set_image(scene: &Scene, tag: &str) -> Result<()> {
    let image = format!("app={}", crate::stage::image_of(tag));
    let deployment = format!("deployment/{APP}");
    let set = [
        "set",
        "image",
        &deployment,
        &image,
        "-n",
        scene.ns(),
        "--field-manager=ci-pipeline",
    ];
    kubectl(scene, &set).await.map(|_| ())
}

/// Two versions that differ in nothing but their image.
async fn by_image(scene: &Scene) -> Result<()> {
    for tag in ["v1", "v2"] {
        let image = crate::stage::image_of(tag);
        scene.deploy(shop::deployment(APP).image(&image)).await?;
    }
    Ok(())
}

async fn watched(scene: &Scene, seconds: u32) -> Result<()> {
    scene
        .policy(json!({"verification": {"soakSeconds": seconds}}))
        .await?;
    by_image(scene).await?;
    plan_of(scene, REQUEST, previous()).await?;
    scene.approve(REQUEST, User::Approver).await?;
    eventually("it is watched", PATIENCE, async || {
        let (state, message) = testkit::scene::ready(&scene.request(REQUEST).await?);
        ensure!(state == "Verifying", "it is {state}: {message}");
        says_all(&message, &["it is watched until"])
    })
    .await
}

#[tokio::test]
async fn case_60_whoever_brings_the_bad_version_back_is_named() -> Result<()> {
    let scene = scene("case-60").await?;
    watched(&scene, 600).await?;
    set_image(&scene, "v2").await?;
    let (_, outcome) = ends(&scene, REQUEST, RequestState::Failed, Reason::Overwritten).await?;
    let says = [
        "Field manager ci-pipeline",
        "brought the bad version",
        APP,
        "Stop whoever",
    ];
    says_all(&outcome.message, &says)?;
    // Their change stands: there is no fight.
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    ensure_reverts(&scene, 1)
}

/// Another version than the bad one is a deployment, and nobody's fault.
#[tokio::test]
async fn case_60_another_version_is_no_relapse() -> Result<()> {
    let scene = scene("case-60-other").await?;
    watched(&scene, 600).await?;
    set_image(&scene, "v3").await?;
    let (_, outcome) = ends(
        &scene,
        REQUEST,
        RequestState::Superseded,
        Reason::TemplateChanged,
    )
    .await?;
    says_all(&outcome.message, &["Their change stands"])?;
    ensure_reverts(&scene, 1)
}

#[tokio::test]
async fn case_60_what_stays_well_for_long_enough_is_well() -> Result<()> {
    let scene = scene("case-60-well").await?;
    watched(&scene, 3).await?;
    let (request, outcome) =
        ends(&scene, REQUEST, RequestState::Succeeded, Reason::Unverified).await?;
    let target = crate::stage::progress(&request)?;
    let passed = target.verification.and_then(|checks| checks.completed_at);
    let watched = outcome.at.duration_since(passed.context("not verified")?);
    ensure!(watched.as_secs() >= 3, "it was watched for {watched}");
    Ok(())
}

const HOLD: &str = "testkit.broxiva.com/hold";

/// The pods of the bad version do not go when they are told to.
async fn lingering(scene: &Scene) -> Result<()> {
    scene.deploy(shop::deployment(APP).version("v1")).await?;
    let lingering = shop::deployment(APP).version("v2");
    scene
        .deploy(lingering.set("/spec/template/metadata/finalizers", json!([HOLD])))
        .await?;
    plan_of(scene, REQUEST, previous()).await?;
    scene.approve(REQUEST, User::Approver).await
}

/// Lets the pods of the bad version go.
async fn let_go(scene: &Scene) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let bad = ListParams::default().labels("app.kubernetes.io/version=v2");
    for pod in pods.list(&bad).await? {
        let free = json!({"metadata": {"finalizers": null}});
        let name = pod.metadata.name.unwrap_or_default();
        pods.patch(&name, &PatchParams::default(), &Patch::Merge(&free))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn case_49_the_last_pods_of_the_bad_version_are_waited_for() -> Result<()> {
    let scene = scene("case-49").await?;
    scene
        .policy(json!({"rollout": {"waitForTermination": true}}))
        .await?;
    lingering(&scene).await?;
    eventually("the old pods are waited for", PATIENCE, async || {
        let (state, message) = testkit::scene::ready(&scene.request(REQUEST).await?);
        ensure!(state == "RollingOut", "it is {state}: {message}");
        says_all(
            &message,
            &["2 pods of the bad version are still on their way out"],
        )
    })
    .await?;
    let all_there = |deployment: &Value| deployment["status"]["availableReplicas"] == 2;
    scene.wait_for_deployment(APP, all_there).await?;
    let_go(&scene).await?;
    ends(&scene, REQUEST, RequestState::Succeeded, Reason::Unverified).await?;
    Ok(())
}

#[tokio::test]
async fn case_49_they_are_not_waited_for_unless_asked() -> Result<()> {
    let scene = scene("case-49-not").await?;
    lingering(&scene).await?;
    ends(&scene, REQUEST, RequestState::Succeeded, Reason::Unverified).await?;
    let left = scene.deployment(APP).await?["status"]["terminatingReplicas"].clone();
    assert_eq!(left, 2);
    let_go(&scene).await
}
