//! What a plan knows before anybody approves it, and what comes of what it could not know.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rollback_api::status::RiskKind;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::admission::{Change, change, forbid, leave_alone, permit};
use crate::kubectl::{both, twin, undo};
use crate::situation::{deploy_all, deploy_stuck};
use crate::stage::{
    APP, REQUEST, ensure_answers, ensure_ended, number, planned, progress, refused, replica_set,
    scene, template,
};

/// An alteration after which the pods are no longer what was approved: another scheduler has them.
const SCHEDULER: (&str, &str) = (
    "/spec/template/spec/schedulerName",
    "Object{spec: Object.spec{template: Object.spec.template{spec: \
     Object.spec.template.spec{schedulerName: 'injected'}}}}",
);
/// A harmless one: a mark on the template.
const MARK: (&str, &str) = (
    "/spec/template/metadata/annotations/injected-by",
    "Object{spec: Object.spec{template: Object.spec.template{metadata: \
     Object.spec.template.metadata{annotations: {'injected-by': 'injected'}}}}}",
);

/// From now on the API server alters every version 1 that is written in this namespace.
async fn inject(scene: &Scene, (place, expression): (&str, &str)) -> Result<()> {
    let injection = Change {
        resource: "deployments",
        when: "object.spec.template.spec.containers.exists(c, c.image.endsWith(':v1'))",
        mutation: json!({
            "patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression},
        }),
    };
    let old = replica_set(scene, "v1").await?;
    let v1 = json!({"spec": {"template": old["spec"]["template"]}});
    change(scene, &injection, &v1, |answer| {
        answer.pointer(place) == Some(&json!("injected"))
    })
    .await
}

/// Policies that were there when the plan was made are no surprise: a dry run has told what they do.
#[tokio::test]
async fn case_39_an_alteration_that_was_foreseen_is_part_of_the_plan() -> Result<()> {
    if testkit::is_older("a MutatingAdmissionPolicy that stands in the way") {
        return Ok(());
    }
    let scene = scene("case-39-foreseen").await?;
    scene.two_versions(APP).await?;
    inject(&scene, MARK).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let plan = scene.plan(REQUEST).await?;
    let target = plan.targets.first().context("no target")?;
    let stored = target.stored_digest.as_ref().context("not foreseen")?;
    assert_ne!(*stored, target.to.digest);
    let kinds: Vec<RiskKind> = target.risks.iter().map(|risk| risk.kind).collect();
    assert_eq!(kinds, [RiskKind::Webhook]);
    scene.approve(REQUEST, User::Approver).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(planned(&request)?, *target);
    let after = scene.deployment(APP).await?;
    assert_eq!(after.pointer(MARK.0), Some(&json!("injected")));
    // The old template and the mark, and nothing else.
    let mut expected = template(&replica_set_without(&scene, MARK.0).await?);
    expected["metadata"]["annotations"] = json!({"injected-by": "injected"});
    assert_eq!(template(&after), expected);
    ensure_answers(&scene, &[200])?;
    leave_alone(&scene).await
}

/// The `ReplicaSet` of version 1 that has nothing at this place; the altered version 1 has one of its own.
async fn replica_set_without(scene: &Scene, place: &str) -> Result<Value> {
    let sets = scene.replica_sets(APP).await?;
    let is_old = |set: &Value| {
        let image = set.pointer("/spec/template/spec/containers/0/image");
        image
            .and_then(Value::as_str)
            .is_some_and(|image| image.ends_with(":v1"))
            && set.pointer(place).is_none()
    };
    sets.into_iter().find(is_old).context("no old ReplicaSet")
}

/// What runs then is neither what was nor what was approved. It is not written again and again.
#[tokio::test]
async fn case_39_an_alteration_that_nobody_foresaw_is_noticed() -> Result<()> {
    if testkit::is_older("a MutatingAdmissionPolicy that stands in the way") {
        return Ok(());
    }
    let (scene, twin) = (scene("case-39").await?, twin("case-39").await?);
    both(&scene, &twin, async |scene| scene.two_versions(APP).await).await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    let plan = scene.plan(REQUEST).await?;
    assert_eq!(plan.targets[0].stored_digest, None);
    both(&scene, &twin, async |scene| inject(scene, SCHEDULER).await).await?;
    let before = scene.deployment(APP).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::TemplateMutated)?;
    assert!(!outcome.message.contains("Nothing was changed"));
    let progress = progress(&request)?;
    assert!(progress.reverted_at.is_some() && progress.backup.is_some());
    let after = scene.deployment(APP).await?;
    assert_eq!(after.pointer(SCHEDULER.0), Some(&json!("injected")));
    assert_eq!(
        number(&after, "/metadata/generation"),
        number(&before, "/metadata/generation") + 1
    );
    assert_eq!(scene.artifacts("incident", REQUEST).await?.len(), 1);
    ensure_answers(&scene, &[200])?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    undo.ran.ensure_ok("rolled back")?;
    assert_eq!(undo.after.pointer(SCHEDULER.0), Some(&json!("injected")));
    both(&scene, &twin, async |scene| leave_alone(scene).await).await?;
    let kubectl = "says `rolled back`, and does not notice that another template was stored";
    let ours = "foreseen by a dry run: the plan says so, and `Succeeded`; not foreseen: `Failed` \
                with reason `TemplateMutated`, not written again";
    record(39, kubectl, ours)
}

/// From now on the API server does not take version 1 in this namespace.
async fn withdraw(scene: &Scene) -> Result<()> {
    let old = replica_set(scene, "v1").await?;
    let not_v1 = "!object.spec.template.spec.containers.exists(c, c.image.endsWith(':v1'))";
    let probe = json!({"spec": {"template": old["spec"]["template"]}});
    forbid(scene, not_v1, WITHDRAWN, &probe).await
}

const WITHDRAWN: &str = "v1 is withdrawn";

#[tokio::test]
async fn case_40_a_denial_that_was_foreseen_is_no_plan() -> Result<()> {
    let scene = scene("case-40-foreseen").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    withdraw(&scene).await?;
    let message = refused(&scene, json!({"previous": {}}), Reason::PatchRejected).await?;
    assert!(message.contains(WITHDRAWN), "{message}");
    assert!(
        scene
            .request(REQUEST)
            .await?
            .status
            .is_some_and(|status| status.plan.is_none())
    );
    assert!(scene.image(APP).await?.ends_with(":v2"));
    permit(&scene).await
}

/// A refusal with 422 looks like a failed precondition; it is final all the same.
#[tokio::test]
async fn case_40_a_write_that_is_denied_is_not_tried_again() -> Result<()> {
    let (scene, twin) = (scene("case-40").await?, twin("case-40").await?);
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1", "v2"]).await
    })
    .await?;
    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.plan(REQUEST).await?;
    both(&scene, &twin, withdraw).await?;
    scene.approve(REQUEST, User::Approver).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::PatchRejected)?;
    assert!(outcome.message.contains(WITHDRAWN), "{}", outcome.message);
    assert!(progress(&request)?.reverted_at.is_none());
    assert!(scene.image(APP).await?.ends_with(":v2"));
    ensure_answers(&scene, &[422])?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_error(WITHDRAWN)?;
    both(&scene, &twin, async |scene| permit(scene).await).await?;
    let ours = "denied when the plan is made: `Refused` with reason `PatchRejected`, before any \
                approval; denied later: `Failed` with reason `PatchRejected`, tried once; \
                with what admission said";
    record(40, "fails with what admission said", ours)
}

/// What version 1 needs besides itself: kind, name, and what is in it.
fn needs() -> [(&'static str, &'static str, Value); 4] {
    let claim = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }});
    [
        ("ConfigMap", "settings", json!({"data": {"mode": "fast"}})),
        (
            "Secret",
            "database",
            json!({"stringData": {"url": "postgres://"}}),
        ),
        ("PersistentVolumeClaim", "uploads", claim),
        ("ServiceAccount", "shop", json!({})),
    ]
}

/// Version 1 ran with all that it needs; version 2 needs nothing, and all of that was cleared away since.
async fn cleared_away(scene: &Scene) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    for (kind, name, content) in needs() {
        let mut object = content;
        object["apiVersion"] = json!("v1");
        object["kind"] = json!(kind);
        object["metadata"] = json!({"name": name});
        shop::apply(&client, scene.ns(), &object).await?;
    }
    let secret = json!({"secretKeyRef": {"name": "database", "key": "url"}});
    let spec = "/spec/template/spec";
    let container = format!("{spec}/containers/0");
    let v1 = shop::deployment(APP)
        .version("v1")
        .set(
            &format!("{container}/envFrom"),
            json!([{"configMapRef": {"name": "settings"}}]),
        )
        .set(
            &format!("{container}/env"),
            json!([{"name": "DB", "valueFrom": secret}]),
        )
        .set(
            &format!("{spec}/volumes"),
            json!([{"name": "uploads", "persistentVolumeClaim": {"claimName": "uploads"}}]),
        )
        .set(&format!("{spec}/serviceAccountName"), json!("shop"));
    deploy_stuck(scene, v1).await?;
    let v2 = shop::deployment(APP)
        .version("v2")
        .set(&format!("{container}/envFrom"), json!([]))
        .set(&format!("{container}/env"), json!([]))
        .set(&format!("{spec}/volumes"), json!([]))
        .set(&format!("{spec}/serviceAccountName"), json!("default"));
    scene.deploy(v2).await?;
    for (kind, name, _) in needs() {
        let api = shop::api(&client, scene.ns(), "v1", kind);
        api.delete(name, &DeleteParams::default()).await?;
        eventually(&format!("{kind} {name} is gone"), PATIENCE, async || {
            ensure!(api.get_opt(name).await?.is_none(), "it is still there");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Lets the controller look whether Secrets are there, which a namespace has to allow by itself.
async fn show_secrets(scene: &Scene) -> Result<()> {
    let api: Api<RoleBinding> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let binding = serde_json::from_value(json!({
        "metadata": {"name": "preflight-secrets"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "rollback-preflight-secrets",
        },
        "subjects": [{
            "kind": "ServiceAccount", "name": "rollback-controller", "namespace": "rollback-system",
        }],
    }))?;
    api.create(&PostParams::default(), &binding).await?;
    Ok(())
}

#[tokio::test]
async fn case_45_what_the_old_version_needs_is_looked_for_beforehand() -> Result<()> {
    let (scene, twin) = (scene("case-45").await?, twin("case-45").await?);
    show_secrets(&scene).await?;
    both(&scene, &twin, cleared_away).await?;
    let message = refused(&scene, json!({"previous": {}}), Reason::ReferenceMissing).await?;
    for (kind, name, _) in needs() {
        assert!(message.contains(&format!("{kind} {name} (")), "{message}");
    }
    assert!(scene.image(APP).await?.ends_with(":v2"));

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let said = undo.ran.said();
    for (_, name, _) in needs() {
        ensure!(!said.contains(&format!("\"{name}\"")), "{said}");
    }
    let kubectl = format!("{}, without a word about what is missing", undo.outcome());
    let ours = "`Refused` with reason `ReferenceMissing`, before any approval, naming all of it";
    record(45, &kubectl, ours)
}
