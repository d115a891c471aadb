//! The ends at which somebody else was there, or at which it did not work.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::{CONTROLLER, PATIENCE, request};
use testkit::shop::{Behaviour, deployment};
use testkit::{Scene, User, eventually};

use crate::expect::{End, artifacts, scene};
use crate::people::{delete_deployment, replaced};

/// Asks for `from`, which is bad, to be replaced by the previous version.
async fn ask_from(scene: &Scene, name: &str, from: Value) -> Result<()> {
    let targets = json!([{"name": "api", "from": from, "to": {"previous": {}}}]);
    scene.ask_for(request(name, targets)).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_called_bad_does_not_run() -> Result<()> {
    let scene = scene("not-live").await?;
    scene.two_versions("api").await?;
    let image = |version: &str| json!({"image": format!("registry.broxiva.example/api:{version}")});
    ask_from(&scene, "old-image", image("v1")).await?;
    let nothing = format!("sha256:{}", "0".repeat(64));
    ask_from(&scene, "old-digest", json!({"templateDigest": nothing})).await?;
    for name in ["old-image", "old-digest"] {
        End::badly(RequestState::Superseded, Reason::NotLive)
            .settled()
            .without_incident()
            .saying(&["does not run any more", "Nothing was changed"])
            .check(&scene, name)
            .await?;
    }
    // What is live is planned, by image and by the digest that a plan prints.
    ask_from(&scene, "image", image("v2")).await?;
    let plan = scene.plan("image").await?;
    let digest = plan.targets[0].from.digest.clone();
    ask_from(&scene, "digest", json!({"templateDigest": digest})).await?;
    let same = scene.plan("digest").await?;
    ensure!(same.targets == plan.targets, "{same:?} is not {plan:?}");
    Ok(())
}

#[tokio::test]
async fn somebody_deploys_while_the_request_waits() -> Result<()> {
    let scene = scene("superseded").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    scene.deploy(deployment("api").version("v3")).await?;
    End::badly(RequestState::Superseded, Reason::NotLive)
        .settled()
        .saying(&["Nothing was changed", "Create a new request"])
        .check(&scene, "api-5xx")
        .await?;
    ensure!(scene.image("api").await?.ends_with(":v3"));
    Ok(())
}

#[tokio::test]
async fn somebody_deploys_in_the_middle_of_the_rollout() -> Result<()> {
    let scene = scene("overtaken").await?;
    let slow = deployment("api")
        .version("v1")
        .ready_after(Duration::from_secs(40));
    replaced(&scene, "api", slow).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    scene.wait_for("api-5xx", "RollingOut").await?;
    scene
        .apply_deployment(deployment("api").version("v3"))
        .await?;
    End::badly(RequestState::Superseded, Reason::TemplateChanged)
        .saying(&["Their change stands", "--show-managed-fields"])
        .check(&scene, "api-5xx")
        .await?;
    ensure!(scene.image("api").await?.ends_with(":v3"));
    Ok(())
}

#[tokio::test]
async fn the_old_version_does_not_come_up_in_time() -> Result<()> {
    let scene = scene("timed-out").await?;
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 3}}))
        .await?;
    let dead = deployment("api")
        .version("v1")
        .behaviour(Behaviour::NeverReady);
    replaced(&scene, "api", dead).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    End::badly(RequestState::Failed, Reason::RolloutTimedOut)
        .saying(&["Deployment api", "The time allowed ended", "Escalate"])
        .check(&scene, "api-5xx")
        .await?;
    let ended = scene.request("api-5xx").await?;
    ensure!(artifacts(&scene, "backup", &ended).await?.len() == 1);
    ensure!(scene.image("api").await?.ends_with(":v1"), "it was undone");
    Ok(())
}

/// The Deployment controller gives up long before our own time is over: that is told at once.
#[tokio::test]
async fn the_deployment_controller_gives_up() -> Result<()> {
    let scene = scene("gave-up").await?;
    let dead = deployment("api")
        .version("v1")
        .behaviour(Behaviour::NeverReady);
    replaced(&scene, "api", dead).await?;
    let deadline = json!({"spec": {"progressDeadlineSeconds": 4}});
    scene.patch_deployment("api", deadline).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    End::badly(RequestState::Failed, Reason::RolloutFailed)
        .saying(&["The Deployment controller gave up", "Escalate"])
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_old_version_is_not_well_either() -> Result<()> {
    let scene = scene("checks-failed").await?;
    let pods = HealthServer::start().await?;
    pods.answer(Answer::status(503).with_body("password=hunter2"));
    scene
        .policy(json!({"verification": {"timeoutSeconds": 3, "http": [
            {"name": "ready", "port": HEALTH_PORT, "path": "/health/ready", "periodSeconds": 1},
        ]}}))
        .await?;
    scene
        .deploy(deployment("api").version("v1").pod_ip(&pods.ip()))
        .await?;
    scene.deploy(deployment("api").version("v2")).await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    let outcome = End::badly(RequestState::Failed, Reason::ChecksFailed)
        .saying(&[
            "check ready (/health/ready)",
            "answered 503 instead of 200",
            "Escalate",
        ])
        .check(&scene, "api-5xx")
        .await?;
    ensure!(
        !outcome.message.contains("hunter2"),
        "a body was repeated: {}",
        outcome.message
    );
    ensure!(scene.image("api").await?.ends_with(":v1"), "it was undone");
    Ok(())
}

#[tokio::test]
async fn the_deployment_is_deleted() -> Result<()> {
    let scene = scene("target-gone").await?;
    let gone = End::badly(RequestState::Failed, Reason::TargetGone);

    scene.two_versions("api").await?;
    scene.ask("waiting", "api", json!({"previous": {}})).await?;
    scene.plan("waiting").await?;
    delete_deployment(&scene, "api").await?;
    gone.saying(&["was deleted", "Nothing was changed"])
        .check(&scene, "waiting")
        .await?;

    let slow = deployment("web")
        .version("v1")
        .ready_after(Duration::from_secs(40));
    replaced(&scene, "web", slow).await?;
    scene.ask("rolling", "web", json!({"previous": {}})).await?;
    scene.approve("rolling", User::Approver).await?;
    scene.wait_for("rolling", "RollingOut").await?;
    delete_deployment(&scene, "web").await?;
    gone.saying(&["Deployment web"])
        .check(&scene, "rolling")
        .await?;
    Ok(())
}

async fn ban_old_version(scene: &Scene) -> Result<()> {
    let policy = ban(
        scene.ns(),
        ":v1",
        "api:v1 has a known hole; use v2 or newer",
    );
    let apply = ["apply", "-f", "-"];
    scene
        .cluster
        .kubectl_ok(User::Admin, &apply, &policy.to_string())
        .await?;
    eventually("the ban is in force", PATIENCE, async || {
        let image = "app=registry.broxiva.example/api:v1";
        let set = ["set", "image", "deployment/api", image];
        let dry = ["--dry-run=server", "-n", scene.ns()];
        let answer = scene
            .cluster
            .kubectl(User::Admin, &[&set[..], &dry].concat())
            .await?;
        ensure!(!answer.status.success(), "it lets v1 pass");
        Ok(())
    })
    .await
}

/// Another admission policy does not let the old version in, for example because its image is banned. A plan that is
/// made afterwards knows that; one that was made before is tried once.
#[tokio::test]
async fn the_api_server_does_not_take_the_old_template() -> Result<()> {
    let scene = scene("rejected").await?;
    scene.two_versions("api").await?;
    let before = scene.deployment("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    ban_old_version(&scene).await?;
    scene.approve("api-5xx", User::Approver).await?;
    let words = [
        "api:v1 has a known hole; use v2 or newer",
        "Nothing was changed",
    ];
    End::badly(RequestState::Failed, Reason::PatchRejected)
        .saying(&words)
        .check(&scene, "api-5xx")
        .await?;
    scene.ask("again", "api", json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end("again").await?;
    ensure!(
        (outcome.result, outcome.reason) == (RequestState::Refused, Reason::PatchRejected),
        "{outcome:?}"
    );
    ensure!(
        words.iter().all(|state| outcome.message.contains(state)),
        "{outcome:?}"
    );
    let after = scene.deployment("api").await?;
    ensure!(after["spec"] == before["spec"], "it was touched");
    if let Some(audit) = scene.cluster.audit() {
        let tries = audit
            .events(scene.ns())?
            .into_iter()
            .filter(|event| event.user == CONTROLLER && event.resource == "deployments")
            .filter(|event| event.verb == "patch" && !event.is_dry_run())
            .count();
        ensure!(tries == 1, "it was tried {tries} times");
    }
    let kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding";
    scene
        .cluster
        .kubectl_ok(User::Admin, &["delete", kinds, scene.ns()], "")
        .await
        .context("cleaning up")?;
    Ok(())
}

/// A policy, named like the namespace that it is for, that keeps images of one tag out.
fn ban(namespace: &str, tag: &str, message: &str) -> Value {
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    let expression =
        format!("object.spec.template.spec.containers.all(c, !c.image.endsWith('{tag}'))");
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": namespace},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": here,
                    "resourceRules": [{
                        "apiGroups": ["apps"], "apiVersions": ["v1"],
                        "operations": ["UPDATE"], "resources": ["deployments"],
                    }],
                },
                "validations": [{"expression": expression, "message": message}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": namespace},
            "spec": {"policyName": namespace, "validationActions": ["Deny"]},
        },
    ]})
}
