//! Deployments that must not be touched, and writes that are not taken.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::scene::{PATIENCE, request};
use testkit::{Scene, User, eventually, shop};

use crate::admission::{forbid, permit};
use crate::kubectl::{both, kubectl, twin, undo};
use crate::situation::{deploy_all, patch};
use crate::stage::{
    APP, REQUEST, annotation, deployments, ensure_answers, ensure_ended, ensure_nothing_written,
    number, refused, replica_set, scene, text,
};

#[tokio::test]
async fn case_37_a_dry_run_says_that_it_is_paused() -> Result<()> {
    let (scene, twin) = (scene("case-37").await?, twin("case-37").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2"]).await?;
        let pause = json!({"spec": {"paused": true}});
        scene.patch_deployment(APP, pause).await
    })
    .await?;
    let mut dry = request(REQUEST, json!([{"name": APP, "to": {"previous": {}}}]));
    dry["spec"]["dryRun"] = json!(true);
    scene.ask_for(dry).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Refused, Reason::Paused)?;
    ensure_nothing_written(&scene).await?;

    let server = undo(&twin, &["--dry-run=server"]).await?;
    server.ensure_error("you cannot rollback a paused deployment")?;
    let client = undo(&twin, &["--dry-run=client"]).await?;
    client.ran.ensure_ok("(dry run)")?;
    client.ensure_untouched()?;
    let said = client.ran.said();
    ensure!(!said.contains("paused"), "{said}");
    let kubectl = format!(
        "with `--dry-run=server`: {}; with `--dry-run=client` it shows what it would do, \
         and does not say that it could not",
        server.outcome()
    );
    record(
        37,
        &kubectl,
        "`Refused` with reason `Paused`, as without dry run",
    )
}

#[tokio::test]
async fn case_38_a_deployment_that_is_being_deleted_is_refused() -> Result<()> {
    let (scene, twin) = (scene("case-38").await?, twin("case-38").await?);
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2"]).await?;
        let ours = hold(json!(["testkit.broxiva.com/hold"]));
        scene.patch_deployment(APP, ours).await?;
        let api = deployments(scene).await?;
        api.delete(APP, &DeleteParams::default()).await?;
        Ok(())
    })
    .await?;
    refused(&scene, json!({"previous": {}}), Reason::DeploymentDeleting).await?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    undo.ran.ensure_ok("rolled back")?;
    twin.wait_for_deployment(APP, |deployment| {
        number(deployment, "/status/observedGeneration")
            == number(deployment, "/metadata/generation")
    })
    .await?;
    for (tag, replicas) in [("v1", 0), ("v2", 2)] {
        let set = replica_set(&twin, tag).await?;
        assert_eq!(number(&set, "/spec/replicas"), replicas, "{tag}");
    }
    both(&scene, &twin, async |scene| {
        scene.patch_deployment(APP, hold(Value::Null)).await
    })
    .await?;
    let kubectl = "says `rolled back`, though a Deployment that is being deleted rolls nothing out";
    record(38, kubectl, "`Refused` with reason `DeploymentDeleting`")
}

#[tokio::test]
async fn case_63_other_kinds_are_not_accepted() -> Result<()> {
    let scene = scene("case-63").await?;
    for kind in [
        "StatefulSet",
        "DaemonSet",
        "Rollout",
        "ReplicaSet",
        "deployment",
        "",
    ] {
        let target = json!([{"kind": kind, "name": APP, "to": {"previous": {}}}]);
        let answer = scene.ask_for(request(REQUEST, target)).await;
        let Err(error) = answer else {
            anyhow::bail!("{kind} was accepted");
        };
        let message = format!("{error:#}");
        assert!(message.contains("kind must be Deployment"), "{message}");
    }
    for rules in [
        json!({"capacity": {"scaleDown": [{"name": "api"}, {"kind": "StatefulSet", "name": "db"}]}}),
        json!({"remedies": {"fallbackImages": [
            {"targetRef": {"kind": "Rollout", "name": APP}, "container": "app", "image": "shop/api:good"},
        ]}}),
    ] {
        let Err(error) = scene.policy(rules.clone()).await else {
            anyhow::bail!("{rules} was accepted");
        };
        let message = format!("{error:#}");
        assert!(message.contains("kind must be Deployment"), "{message}");
    }
    ensure_nothing_written(&scene).await?;

    stateful(&scene).await?;
    let undo = kubectl(&scene, &["rollout", "undo", &format!("statefulset/{APP}")]).await?;
    undo.ensure_ok("rolled back")?;
    let client = scene.client(User::Admin).await?;
    let after = shop::api(&client, scene.ns(), "apps/v1", "StatefulSet");
    let after = serde_json::to_value(after.get(APP).await?)?;
    assert!(text(&after, "/spec/template/spec/containers/0/image").ends_with(":v1"));
    let rollout = kubectl(&scene, &["rollout", "undo", "rollout", APP]).await?;
    rollout.ensure_error("the server doesn't have a resource type")?;
    let kubectl = "rolls a StatefulSet back, and does not know Rollouts";
    record(63, kubectl, "not accepted: the kind must be Deployment")
}

/// A `StatefulSet` without pods that has had two versions.
async fn stateful(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    for (number, version) in [(1, "v1"), (2, "v2")] {
        let mut set = shop::deployment(APP).version(version).replicas(0).build();
        set["kind"] = json!("StatefulSet");
        set["spec"]["serviceName"] = json!(APP);
        if let Some(spec) = set["spec"].as_object_mut() {
            spec.remove("progressDeadlineSeconds");
        }
        shop::apply(&client, scene.ns(), &set).await?;
        let revisions = shop::api(&client, scene.ns(), "apps/v1", "ControllerRevision");
        eventually("the version is in the history", PATIENCE, async || {
            let found = revisions.list(&ListParams::default()).await?.items.len();
            ensure!(found == number, "{found} of {number}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The Deployment controller rolls back by itself and removes the annotation with the same write. It
/// is kept from that here, so that the annotation stays long enough to be seen.
#[tokio::test]
async fn case_64_a_rollback_of_the_old_kind_is_refused() -> Result<()> {
    const PROBE: &str = "testkit.broxiva.com/probe";
    const LEGACY: &str = "deprecated.deployment.rollback.to";
    let (scene, twin) = (scene("case-64").await?, twin("case-64").await?);
    both(&scene, &twin, async |scene| {
        for version in ["v1", "v2"] {
            let version = shop::deployment(APP).version(version);
            scene.deploy(version.annotation(PROBE, "1")).await?;
        }
        let keep = "!has(oldObject.metadata.annotations) || has(object.metadata.annotations) \
                    && oldObject.metadata.annotations.all(k, k in object.metadata.annotations)";
        let probe = json!({"metadata": {"annotations": {PROBE: null}}});
        forbid(scene, keep, "annotations stay", &probe).await?;
        let legacy = json!({LEGACY: "2"});
        scene
            .patch_deployment(APP, json!({"metadata": {"annotations": legacy}}))
            .await
    })
    .await?;
    refused(&scene, json!({"previous": {}}), Reason::LegacyRollback).await?;
    assert!(scene.image(APP).await?.ends_with(":v2"));

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    assert_eq!(annotation(&undo.after, LEGACY), Some("2"));
    both(&scene, &twin, async |scene| permit(scene).await).await?;
    // Let loose, the Deployment controller carries out what it was told.
    twin.wait_for_deployment(APP, |deployment| {
        text(deployment, "/spec/template/spec/containers/0/image").ends_with(":v2")
    })
    .await?;
    let kubectl = format!(
        "{}; then the Deployment controller follows the annotation, to v2 again",
        undo.outcome()
    );
    record(64, &kubectl, "`Refused` with reason `LegacyRollback`")
}

#[tokio::test]
async fn case_65_a_forged_replica_set_is_not_what_was_approved() -> Result<()> {
    let (scene, twin) = (scene("case-65").await?, twin("case-65").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2"]).await
    })
    .await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.plan(REQUEST).await?;
    let (name, _) = both(&scene, &twin, forge).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Refused, Reason::DigestMismatch)?;
    assert!(outcome.message.contains(&name), "{}", outcome.message);
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_answers(&scene, &[])?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    assert_eq!(
        text(&undo.after, "/spec/template/spec/containers/0/image"),
        FORGED
    );
    record(
        65,
        "deploys the forged template",
        "`Refused` with reason `DigestMismatch`",
    )
}

const FORGED: &str = "registry.evil.example/miner:v1";

/// Edits the template of the `ReplicaSet` of version 1, and gives its name.
async fn forge(scene: &Scene) -> Result<String> {
    let set = replica_set(scene, "v1").await?;
    let mut template = set["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = json!(FORGED);
    let forged = json!({"spec": {"template": template}});
    let name = text(&set, "/metadata/name");
    patch(scene, "apps/v1", "ReplicaSet", name, &forged).await?;
    Ok(name.to_owned())
}
