//! Deployments that must not be touched, and writes that are not taken.

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use rollback_api::{FIELD_MANAGER, Reason, Word};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, request};
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    APP, REQUEST, admission, deploy_all, deploy_stuck, deployments, ensure_answers, ensure_ended,
    ensure_nothing_written, patch, replica_set, scene, text,
};

const POLICY: &str = "ValidatingAdmissionPolicy";
const BINDING: &str = "ValidatingAdmissionPolicyBinding";

/// Asks for the previous version, which has to be refused with nothing written.
async fn ensure_refused(scene: &Scene, reason: Reason) -> Result<()> {
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Refused, reason)?;
    ensure_nothing_written(scene).await
}

#[tokio::test]
async fn case_37_a_dry_run_says_that_it_is_paused() -> Result<()> {
    let scene = scene("case-37").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    scene
        .patch_deployment(APP, json!({"spec": {"paused": true}}))
        .await?;
    let mut dry = request(REQUEST, json!([{"name": APP, "to": {"previous": {}}}]));
    dry["spec"]["dryRun"] = json!(true);
    scene.ask_for(dry).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Refused, Reason::Paused)?;
    ensure_nothing_written(&scene).await
}

#[tokio::test]
async fn case_38_a_deployment_that_is_being_deleted_is_refused() -> Result<()> {
    let scene = scene("case-38").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let hold = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    scene
        .patch_deployment(APP, hold(json!(["testkit.broxiva.com/hold"])))
        .await?;
    deployments(&scene)
        .await?
        .delete(APP, &DeleteParams::default())
        .await?;
    ensure_refused(&scene, Reason::DeploymentDeleting).await?;
    scene.patch_deployment(APP, hold(Value::Null)).await
}

/// A refusal with 422 looks like a failed precondition; it is final all the same.
#[tokio::test]
async fn case_40_a_write_that_is_denied_is_not_tried_again() -> Result<()> {
    let scene = scene("case-40").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let old = replica_set(&scene, "v1").await?;
    let not_v1 = "!object.spec.template.spec.containers.exists(c, c.image.endsWith(':v1'))";
    let probe = json!({"spec": {"template": old["spec"]["template"]}});
    forbid(&scene, not_v1, "v1 is withdrawn", &probe).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Failed, Reason::PatchRejected)?;
    assert!(
        outcome.message.contains("v1 is withdrawn"),
        "{}",
        outcome.message
    );
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_answers(&scene, &[422])?;
    permit(&scene).await
}

/// From now on the API server takes only what this expression allows of Deployments in this
/// namespace; the probe is a patch that it has to deny.
async fn forbid(scene: &Scene, expression: &str, message: &str, probe: &Value) -> Result<()> {
    let name = scene.ns();
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let updates = json!({
        "apiGroups": ["apps"], "apiVersions": ["v1"],
        "operations": ["UPDATE"], "resources": ["deployments"],
    });
    let policy = json!({
        "matchConstraints": {"namespaceSelector": here, "resourceRules": [updates]},
        "validations": [{"expression": expression, "message": message}],
    });
    let binding = json!({"policyName": name, "validationActions": ["Deny"]});
    for (kind, spec) in [(POLICY, policy), (BINDING, binding)] {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let apply = PatchParams::apply("testkit").force();
        let api = admission(scene, kind).await?;
        api.patch(name, &apply, &Patch::Apply(&object)).await?;
    }
    let api = deployments(scene).await?;
    let dry_run = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    eventually("the probe is denied", PATIENCE, async || {
        let answer = api.patch(APP, &dry_run, &Patch::Merge(probe)).await;
        let Err(error) = answer else {
            anyhow::bail!("it is still taken");
        };
        ensure!(error.to_string().contains(message), "{error}");
        Ok(())
    })
    .await
}

async fn permit(scene: &Scene) -> Result<()> {
    for kind in [BINDING, POLICY] {
        let api = admission(scene, kind).await?;
        api.delete(scene.ns(), &DeleteParams::default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn case_41_the_field_manager_is_always_the_same() -> Result<()> {
    let scene = scene("case-41").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    let after = scene.deployment(APP).await?;
    let entries = after["metadata"]["managedFields"].as_array();
    let ours: Vec<&Value> = entries
        .context("no managedFields")?
        .iter()
        .filter(|entry| entry["manager"] == FIELD_MANAGER)
        .collect();
    let [ours] = ours.as_slice() else {
        anyhow::bail!("{} entries of ours", ours.len());
    };
    assert_eq!(ours["operation"], "Update");
    let image = "/fieldsV1/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"app\"}/f:image";
    assert!(ours.pointer(image).is_some(), "{ours}");
    Ok(())
}

/// The first rolls out when the second is approved.
#[tokio::test]
async fn case_44_of_two_requests_one_is_superseded() -> Result<()> {
    let scene = scene("case-44").await?;
    let stuck = || shop::deployment(APP).progress_deadline(600);
    deploy_stuck(&scene, stuck().version("v1")).await?;
    for version in ["v2", "v3"] {
        scene.deploy(stuck().version(version)).await?;
    }
    scene.ask("loser", APP, json!({"revision": 2})).await?;
    let plan = scene.plan("loser").await?;
    assert_eq!(plan.targets[0].to_revision, 2);
    scene.ask(REQUEST, APP, json!({"revision": 1})).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (_, outcome) = scene.wait_for_end("loser").await?;
    ensure_ended(&outcome, Word::Superseded, Reason::NotLive)?;
    scene.wait_for(REQUEST, "RollingOut").await?;
    let client = scene.client(User::Admin).await?;
    let well = [(shop::BEHAVIOUR, Behaviour::Ready.as_str())];
    eventually("the first has ended", PATIENCE, async || {
        shop::annotate_pods(&client, scene.ns(), APP, &well).await?;
        ensure!(scene.status(REQUEST).await?.outcome.is_some(), "not yet");
        Ok(())
    })
    .await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(&scene, &[200])
}

#[tokio::test]
async fn case_63_other_kinds_are_not_accepted() -> Result<()> {
    let scene = scene("case-63").await?;
    for kind in ["StatefulSet", "DaemonSet", "Rollout"] {
        let target = json!([{"kind": kind, "name": APP, "to": {"previous": {}}}]);
        let answer = scene.ask_for(request(REQUEST, target)).await;
        let Err(error) = answer else {
            anyhow::bail!("{kind} was accepted");
        };
        let message = format!("{error:#}");
        assert!(message.contains("kind must be Deployment"), "{message}");
    }
    ensure_nothing_written(&scene).await
}

/// The Deployment controller rolls back by itself and removes the annotation with the same write. It
/// is kept from that here, so that the annotation stays long enough to be seen.
#[tokio::test]
async fn case_64_a_rollback_of_the_old_kind_is_refused() -> Result<()> {
    const PROBE: &str = "testkit.broxiva.com/probe";
    let scene = scene("case-64").await?;
    deploy_all(&scene, &["v1"]).await?;
    let v2 = shop::deployment(APP).version("v2");
    scene.deploy(v2.annotation(PROBE, "1")).await?;
    let keep = "!has(oldObject.metadata.annotations) || has(object.metadata.annotations) \
                && oldObject.metadata.annotations.all(k, k in object.metadata.annotations)";
    let probe = json!({"metadata": {"annotations": {PROBE: null}}});
    forbid(&scene, keep, "annotations stay", &probe).await?;
    let legacy = json!({"deprecated.deployment.rollback.to": "1"});
    scene
        .patch_deployment(APP, json!({"metadata": {"annotations": legacy}}))
        .await?;
    ensure_refused(&scene, Reason::LegacyRollback).await?;
    assert!(scene.image(APP).await?.ends_with(":v2"));
    permit(&scene).await
}

#[tokio::test]
async fn case_65_a_forged_replica_set_is_not_what_was_approved() -> Result<()> {
    let scene = scene("case-65").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.plan(REQUEST).await?;
    let set = replica_set(&scene, "v1").await?;
    let mut template = set["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = json!("registry.evil.example/miner:v1");
    let forged = json!({"spec": {"template": template}});
    let name = text(&set, "/metadata/name");
    patch(&scene, "apps/v1", "ReplicaSet", name, &forged).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, Word::Refused, Reason::DigestMismatch)?;
    assert!(outcome.message.contains(name), "{}", outcome.message);
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_answers(&scene, &[])
}
