//! What the one write changes, and what it leaves alone.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use rollback_api::{CHANGE_CAUSE, POD_TEMPLATE_HASH, REVISION, Reason, Word};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually, shop};

use crate::stage::{
    APP, REQUEST, admission, annotation, attempts, deployments, ensure_answers, ensure_ended,
    number, progress, replica_set, scene, template, text,
};

/// Everything but what a rollback may change and what the API server keeps for itself.
fn the_rest(deployment: &Value) -> Value {
    let mut rest = deployment.clone();
    if let Some(object) = rest.as_object_mut() {
        object.remove("status");
    }
    if let Some(spec) = rest["spec"].as_object_mut() {
        spec.remove("template");
    }
    if let Some(metadata) = rest["metadata"].as_object_mut() {
        for own in ["generation", "managedFields", "resourceVersion"] {
            metadata.remove(own);
        }
    }
    if let Some(annotations) = rest["metadata"]["annotations"].as_object_mut() {
        for ours in [CHANGE_CAUSE, REVISION] {
            annotations.remove(ours);
        }
    }
    rest
}

#[tokio::test]
async fn case_27_only_the_template_and_the_change_cause_change() -> Result<()> {
    let scene = scene("case-27").await?;
    let v1 = shop::deployment(APP)
        .version("v1")
        .env("FLAG", "old")
        .label("tier", "web");
    scene.deploy(v1).await?;
    let v2 = shop::deployment(APP)
        .version("v2")
        .env("FLAG", "new")
        .env("ADDED", "true")
        .replicas(3)
        .progress_deadline(42)
        .label("tier", "backend")
        .label("team", "checkout")
        .annotation("broxiva.com/contact", "checkout@broxiva.example")
        .set("/spec/minReadySeconds", json!(1))
        .set("/spec/revisionHistoryLimit", json!(7))
        .set(
            "/spec/strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}),
        );
    let before = scene.deploy(v2).await?;
    let old = replica_set(&scene, "v1").await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;

    let after = scene.deployment(APP).await?;
    assert_eq!(the_rest(&after), the_rest(&before));
    assert_eq!(template(&after), template(&old));
    assert_eq!(
        number(&after, "/metadata/generation"),
        number(&before, "/metadata/generation") + 1
    );
    let cause = annotation(&after, CHANGE_CAUSE).context("no change-cause")?;
    assert!(
        cause.contains(&request.uid().unwrap_or_default()),
        "{cause}"
    );

    ensure_answers(&scene, &[200])?;
    let Some(patches) = attempts(&scene)? else {
        return Ok(());
    };
    let body = patches[0].request_object.clone().context("no body")?;
    let expected = json!([
        {"op": "test", "path": "/metadata/uid", "value": before["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": before["metadata"]["generation"]},
        {"op": "replace", "path": "/spec/template", "value": template(&old)},
        {"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": cause},
    ]);
    assert_eq!(body, expected);
    Ok(())
}

#[tokio::test]
async fn case_28_the_hash_of_the_replica_set_stays_out_of_the_deployment() -> Result<()> {
    let scene = scene("case-28").await?;
    scene.two_versions(APP).await?;
    let old = replica_set(&scene, "v1").await?;
    let hash = |object: &Value| {
        let labels = object.pointer("/spec/template/metadata/labels");
        labels.and_then(|labels| labels.get(POD_TEMPLATE_HASH).cloned())
    };
    assert!(hash(&old).is_some());
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    assert_eq!(hash(&scene.deployment(APP).await?), None);
    // With the hash in it, the template would have needed a ReplicaSet of its own.
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    let reused = replica_set(&scene, "v1").await?;
    assert_eq!(reused["metadata"]["uid"], old["metadata"]["uid"]);
    Ok(())
}

#[tokio::test]
async fn case_29_and_30_annotations_are_those_of_today() -> Result<()> {
    const ADDED: &str = "meta.helm.sh/release-name";
    const DELETED: &str = "broxiva.com/experiment";
    let scene = scene("case-30").await?;
    let v1 = shop::deployment(APP).version("v1");
    scene.deploy(v1.annotation(DELETED, "blue")).await?;
    let v2 = shop::deployment(APP).version("v2");
    scene.deploy(v2.annotation(ADDED, "shop")).await?;
    let old = replica_set(&scene, "v1").await?;
    // The old ReplicaSet remembers what the Deployment has forgotten.
    assert_eq!(annotation(&old, DELETED), Some("blue"));
    assert_eq!(annotation(&old, ADDED), None);
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    let after = scene.deployment(APP).await?;
    assert_eq!(annotation(&after, DELETED), None);
    assert_eq!(annotation(&after, ADDED), Some("shop"));
    Ok(())
}

#[tokio::test]
async fn case_31_the_change_cause_names_the_rollback() -> Result<()> {
    let scene = scene("case-31").await?;
    let v1 = shop::deployment(APP).version("v1");
    scene
        .deploy(v1.annotation(CHANGE_CAUSE, "release 1"))
        .await?;
    let v2 = shop::deployment(APP).version("v2");
    scene
        .deploy(v2.annotation(CHANGE_CAUSE, "release 2, the bad one"))
        .await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    let uid = request.uid().context("no uid")?;
    let expected = format!("rollback to revision 1 by RollbackRequest {REQUEST} ({uid})");
    let after = scene.deployment(APP).await?;
    assert_eq!(annotation(&after, CHANGE_CAUSE), Some(&*expected));
    eventually("the ReplicaSet says so too", PATIENCE, async || {
        let set = replica_set(&scene, "v1").await?;
        let cause = annotation(&set, CHANGE_CAUSE);
        ensure!(cause == Some(&*expected), "it says {cause:?}");
        Ok(())
    })
    .await?;
    let bad = replica_set(&scene, "v2").await?;
    assert_eq!(
        annotation(&bad, CHANGE_CAUSE),
        Some("release 2, the bad one")
    );
    Ok(())
}

/// The controller is compiled against types that are older than the server.
#[tokio::test]
async fn case_34_a_field_newer_than_our_types_survives() -> Result<()> {
    const FIELD: &str = "/spec/template/spec/evictionResponders";
    let responders = json!([{"name": "drain.broxiva.example/checkout", "priority": 10_000}]);
    let scene = scene("case-34").await?;
    let v1 = shop::deployment(APP).version("v1");
    let served = scene.deploy(v1.set(FIELD, responders.clone())).await?;
    assert_eq!(
        served.pointer(FIELD),
        Some(&responders),
        "the server does not know the field"
    );
    // What a typed read and write would make of it.
    let typed: PodTemplateSpec = serde_json::from_value(served["spec"]["template"].clone())?;
    let lossy = serde_json::to_value(typed)?;
    assert_eq!(
        text(&lossy, "/spec/containers/0/image"),
        scene.image(APP).await?
    );
    assert_eq!(
        lossy.pointer("/spec/evictionResponders"),
        None,
        "the types know the field by now: take a newer one"
    );

    scene.deploy(shop::deployment(APP).version("v2")).await?;
    let bad = scene.deployment(APP).await?;
    assert_eq!(bad.pointer(FIELD), None);
    let old = replica_set(&scene, "v1").await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    let after = scene.deployment(APP).await?;
    assert_eq!(after.pointer(FIELD), Some(&responders));
    assert_eq!(scene.replica_sets(APP).await?.len(), 2);
    let reused = replica_set(&scene, "v1").await?;
    assert_eq!(reused["metadata"]["uid"], old["metadata"]["uid"]);
    Ok(())
}

/// A server-side apply of the old version by its owner could remove them, a merge could not.
#[tokio::test]
async fn case_35_what_the_bad_version_added_is_gone() -> Result<()> {
    let scene = scene("case-35").await?;
    let v1 = shop::deployment(APP).version("v1").env("KEPT", "1");
    scene.deploy(v1).await?;
    let v2 = shop::deployment(APP)
        .version("v2")
        .env("KEPT", "1")
        .env("ADDED", "2")
        .template_label("added", "true")
        .template_annotation("added", "true")
        .set(
            "/spec/template/spec/hostAliases",
            json!([{"ip": "127.0.0.9", "hostnames": ["added"]}]),
        )
        .set(
            "/spec/template/spec/initContainers",
            json!([{"name": "added", "image": "registry.broxiva.example/added:v2"}]),
        );
    scene.deploy(v2).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Succeeded, Reason::Unverified)?;
    let after = template(&scene.deployment(APP).await?);
    assert!(!after.to_string().contains("added"), "{after}");
    assert_eq!(
        after.pointer("/spec/containers/0/env"),
        Some(&json!([{"name": "KEPT", "value": "1"}]))
    );
    Ok(())
}

/// What runs then is neither what was nor what was asked for. It is not written again and again.
#[tokio::test]
async fn case_39_a_write_that_is_altered_on_its_way_is_noticed() -> Result<()> {
    let scene = scene("case-39").await?;
    scene.two_versions(APP).await?;
    inject(&scene).await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, Word::Superseded, Reason::TemplateChanged)?;
    assert!(progress(&request)?.reverted_at.is_some());
    let after = scene.deployment(APP).await?;
    assert_eq!(after.pointer(INJECTED), Some(&json!("injected")));
    assert!(!outcome.message.contains("Nothing was changed"));
    ensure_answers(&scene, &[200])?;
    for kind in [INJECTION_BINDING, INJECTION] {
        let api = admission(&scene, kind).await?;
        api.delete(scene.ns(), &DeleteParams::default()).await?;
    }
    Ok(())
}

const INJECTION: &str = "MutatingAdmissionPolicy";
const INJECTION_BINDING: &str = "MutatingAdmissionPolicyBinding";
const INJECTED: &str = "/spec/template/spec/schedulerName";

/// From now on the API server alters every version 1 that is written in this namespace.
async fn inject(scene: &Scene) -> Result<()> {
    let name = scene.ns();
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let updates = json!({
        "apiGroups": ["apps"], "apiVersions": ["v1"],
        "operations": ["UPDATE"], "resources": ["deployments"],
    });
    let change = "Object{spec: Object.spec{template: Object.spec.template{spec: \
                  Object.spec.template.spec{schedulerName: 'injected'}}}}";
    let policy = json!({
        "reinvocationPolicy": "Never",
        "matchConstraints": {"namespaceSelector": here, "resourceRules": [updates]},
        "matchConditions": [{
            "name": "v1",
            "expression": "object.spec.template.spec.containers.exists(c, c.image.endsWith(':v1'))",
        }],
        "mutations": [{
            "patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change},
        }],
    });
    let binding = json!({"policyName": name});
    for (kind, spec) in [(INJECTION, policy), (INJECTION_BINDING, binding)] {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let apply = PatchParams::apply("testkit").force();
        let api = admission(scene, kind).await?;
        api.patch(name, &apply, &Patch::Apply(&object)).await?;
    }
    let api = deployments(scene).await?;
    let old = replica_set(scene, "v1").await?;
    let v1 = json!({"spec": {"template": old["spec"]["template"]}});
    let dry_run = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    eventually("v1 is altered", PATIENCE, async || {
        let answer = api.patch(APP, &dry_run, &Patch::Merge(&v1)).await?;
        let answer = serde_json::to_value(answer)?;
        ensure!(answer.pointer(INJECTED) == Some(&json!("injected")));
        Ok(())
    })
    .await
}
