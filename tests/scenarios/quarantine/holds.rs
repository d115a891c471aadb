//! How long a version stays in quarantine, and what ends it.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use rollback_api::{LIFT, LIFTED_BY, RequestState};
use serde_json::json;
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually};

use crate::attempts::{Answer, Attempt, wait_for};
use crate::stage::{
    APP, PROGRAM, REQUEST, bad, enforcing, ledger, ledger_name, ledgers, rolled_back, version,
    wait_for_label,
};

const APPLY: [&str; 3] = ["apply", "--server-side", "--force-conflicts"];

fn bring_back() -> Attempt {
    Attempt::object("apply", &APPLY, &bad().build())
}

/// Whoever may approve says that the version is not to blame.
async fn lift(scene: &Scene) -> Result<()> {
    let digest = ledger(scene).await?.spec.quarantine[0].digest.clone();
    let (digest, by) = (
        format!("{LIFT}={digest}"),
        format!("{LIFTED_BY}={}", User::Approver.as_str()),
    );
    let name = ledger_name();
    let arguments = ["-n", scene.ns(), "annotate", "rbl", &name, &digest, &by];
    scene
        .cluster
        .kubectl_ok(User::Approver, &arguments, "")
        .await?;
    Ok(())
}

/// It has no image that tells it from the good one. What differs from both passes.
#[tokio::test]
async fn a_version_without_another_image_is_known_by_its_pods() -> Result<()> {
    let broken = version("v1").env("BACKEND", "nowhere");
    let scene = rolled_back("pods", enforcing("Deny"), version("v1"), broken.clone()).await?;
    let back = Attempt::object("apply", &APPLY, &broken.clone().build());
    wait_for(&scene, &back, Answer::Refused).await?;
    let restarted = broken.template_annotation("kubectl.kubernetes.io/restartedAt", "now");
    let fixed = version("v1").env("BACKEND", "somewhere");
    let good = version("v1").template_label("tier", "web");
    for (object, expected) in [
        (restarted, Answer::Refused),
        (fixed, Answer::Accepted),
        (good, Answer::Accepted),
    ] {
        let attempt = Attempt::object("apply", &APPLY, &object.build());
        let (answer, said) = attempt.try_out(&scene).await?;
        ensure!(answer == expected, "{expected:?}: {answer:?} {said}");
    }
    Ok(())
}

/// Versions that differ in labels alone cannot be told apart, so nothing is refused.
#[tokio::test]
async fn the_good_version_is_never_taken_for_the_bad_one() -> Result<()> {
    let labelled = version("v1").template_label("tier", "web");
    let scene = rolled_back("labels", enforcing("Deny"), version("v1"), labelled).await?;
    wait_for_label(&scene, None).await?;
    for object in [version("v1"), version("v1").template_label("tier", "web")] {
        let attempt = Attempt::object("apply", &APPLY, &object.env("A", "b").build());
        let (answer, said) = attempt.try_out(&scene).await?;
        ensure!(answer == Answer::Accepted, "{answer:?} {said}");
    }
    Ok(())
}

/// Deleting the Deployment and making it again is a way back as well; a person ends it, and then nothing is left.
#[tokio::test]
async fn it_outlives_its_deployment_until_it_is_lifted() -> Result<()> {
    let scene = rolled_back("again", enforcing("Deny"), version("v1"), bad()).await?;
    wait_for(&scene, &bring_back(), Answer::Refused).await?;
    let delete = ["-n", scene.ns(), "delete", "deployment", APP, "--wait"];
    scene.cluster.kubectl_ok(User::Admin, &delete, "").await?;
    let (answer, said) = bring_back().carry_out(&scene).await?;
    ensure!(answer == Answer::Refused, "made again: {answer:?} {said}");
    // Another one of that name runs another version, and is known to the controller.
    scene.deploy(version("v3")).await?;
    eventually("the ledger is about it", PATIENCE, async || {
        let spec = ledger(&scene).await?.spec;
        let uid = scene.deployment(APP).await?["metadata"]["uid"].clone();
        ensure!(uid == json!(spec.target_ref.uid) && !spec.templates.is_empty());
        Ok(())
    })
    .await?;
    let (answer, said) = bring_back().try_out(&scene).await?;
    ensure!(answer == Answer::Refused, "beside v3: {answer:?} {said}");
    scene.cluster.kubectl_ok(User::Admin, &delete, "").await?;
    lift(&scene).await?;
    eventually("the ledger is gone", PATIENCE, async || {
        let found = ledgers(&scene).await?.get_opt(&ledger_name()).await?;
        ensure!(found.is_none(), "{found:?}");
        Ok(())
    })
    .await?;
    let (answer, said) = bring_back().carry_out(&scene).await?;
    ensure!(answer == Answer::Accepted, "lifted: {answer:?} {said}");
    Ok(())
}

/// The policy is the namespace's to change, and what it says counts for what is in quarantine already.
#[tokio::test]
async fn the_policy_of_today_counts() -> Result<()> {
    let scene = rolled_back("today", enforcing("Off"), version("v1"), bad()).await?;
    wait_for_label(&scene, None).await?;
    for (word, label, answer) in [
        ("Warn", Some("warn"), Answer::Warned),
        ("Deny", Some("deny"), Answer::Refused),
        ("Off", None, Answer::Accepted),
    ] {
        scene.policy(enforcing(word)).await?;
        wait_for_label(&scene, label).await?;
        wait_for(&scene, &bring_back(), answer).await?;
    }
    Ok(())
}

/// Nobody has to be there for that: neither the operator nor a person.
#[tokio::test]
async fn it_ends_by_itself() -> Result<()> {
    let mut scene = rolled_back("ends", enforcing("Deny"), version("v1"), bad()).await?;
    wait_for(&scene, &bring_back(), Answer::Refused).await?;
    drop(scene.controller.take());
    let mut over = ledger(&scene).await?;
    for entry in &mut over.spec.quarantine {
        entry.until = Timestamp::now();
    }
    over.metadata.managed_fields = None;
    let replace = ["-n", scene.ns(), "replace", "--as", CONTROLLER, "-f", "-"];
    let over = serde_json::to_string(&over)?;
    scene
        .cluster
        .kubectl_ok(User::Admin, &replace, &over)
        .await?;
    let fresh = wait_for(&scene, &bring_back(), Answer::Accepted).await?;
    ensure!(!fresh.contains("quarantine"), "{fresh}");
    Ok(())
}

/// What the operator itself puts back, because the request says so, is in quarantine no more.
#[tokio::test]
async fn what_was_restored_is_free() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "restored").await?;
    scene.policy(enforcing("Deny")).await?;
    scene.start_controller().await?;
    let hanging = version("v1").behaviour(Behaviour::NeverReady);
    scene.apply_deployment(hanging).await?;
    scene.deploy(bad()).await?;
    let mut request =
        testkit::scene::request(REQUEST, json!([{"name": APP, "to": {"previous": {}}}]));
    request["spec"]["rollout"] = json!({"timeoutSeconds": 10, "onFailure": "Restore"});
    scene.ask_for(request).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure!(outcome.result == RequestState::Restored, "{outcome:?}");
    wait_for_label(&scene, None).await?;
    let changed = Attempt::object("apply", &APPLY, &bad().env("A", "b").build());
    wait_for(&scene, &changed, Answer::Accepted).await?;
    Ok(())
}
