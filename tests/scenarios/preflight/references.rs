//! What the old template refers to, looked at before there is a plan.

use anyhow::{Result, ensure};
use rollback_api::Reason;
use rollback_api::status::RiskKind;
use serde_json::{Value, json};
use testkit::{ControllerProcess, Scene, shop};

use crate::stage::{
    APP, REQUEST, asked_for, create, deploy_unready, ensure_nothing_written, goes_on,
    grant_controller, kinds, plan_of, previous, refused, risk, says_all, scene,
};

/// What a Secret holds; nobody ever sees it.
const HUSH: &str = "hush-5d1c";

/// A version whose pods need all of this.
fn needy() -> shop::DeploymentBuilder {
    let from = |kind: &str, name: &str, key: &str| json!({kind: {"name": name, "key": key}});
    let env = json!([
        {"name": "MODE", "valueFrom": from("configMapKeyRef", "gone-config", "mode")},
        {"name": "LEVEL", "valueFrom": from("configMapKeyRef", "there", "level")},
        {"name": "PASSWORD", "valueFrom": from("secretKeyRef", "gone-secret", "password")},
        {"name": "TOKEN", "valueFrom": from("secretKeyRef", "there", "token")},
        {"name": "MAYBE", "valueFrom": {
            "secretKeyRef": {"name": "optional-secret", "key": "any", "optional": true},
        }},
    ]);
    let env_from = json!([
        {"configMapRef": {"name": "gone-env"}},
        {"configMapRef": {"name": "optional-config", "optional": true}},
    ]);
    let volumes = json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "gone-claim"}},
        {"name": "tls", "secret": {"secretName": "gone-tls"}},
        {"name": "maybe", "configMap": {"name": "optional-volume", "optional": true}},
    ]);
    let spec = "/spec/template/spec";
    shop::deployment(APP)
        .version("v1")
        .set(&format!("{spec}/containers/0/env"), env)
        .set(&format!("{spec}/containers/0/envFrom"), env_from)
        .set(&format!("{spec}/volumes"), volumes)
        .set(&format!("{spec}/serviceAccountName"), json!("gone-account"))
        .set(&format!("{spec}/priorityClassName"), json!("gone-priority"))
        .set(
            &format!("{spec}/imagePullSecrets"),
            json!([{"name": "gone-pull"}]),
        )
}

/// A ConfigMap or Secret with one key that nobody asks for.
fn map(kind: &str, name: &str, keys: &[&str]) -> Value {
    let data: serde_json::Map<String, Value> = keys
        .iter()
        .map(|key| ((*key).to_owned(), json!(HUSH)))
        .collect();
    let field = if kind == "Secret" {
        "stringData"
    } else {
        "data"
    };
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: data})
}

/// The needy version, and after it one that needs nothing.
async fn needy_then_plain(scene: &Scene) -> Result<()> {
    create(scene, &map("ConfigMap", "there", &["other"])).await?;
    create(scene, &map("Secret", "there", &["other"])).await?;
    deploy_unready(scene, needy()).await?;
    // By name: the deprecated twin of the field would keep the old one.
    let account = "/spec/template/spec/serviceAccountName";
    let plain = shop::deployment(APP).version("v2");
    scene.deploy(plain.set(account, json!("default"))).await?;
    Ok(())
}

/// Lets the controller look at Secrets, as a namespace may.
pub async fn open_secrets(scene: &Scene) -> Result<()> {
    let role = json!({
        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
        "name": "rollback-preflight-secrets",
    });
    grant_controller(scene, &role, ["get", "", "secrets"]).await
}

/// Secrets are read by name only, and nothing of what is in them is shown anywhere.
async fn ensure_discreet(scene: &Scene, read: bool) -> Result<()> {
    let request = serde_json::to_string(&scene.request(REQUEST).await?)?;
    ensure!(!request.contains(HUSH), "the request shows a value");
    let log = scene.controller.as_ref().map(ControllerProcess::log);
    ensure!(
        !log.unwrap_or_default().contains(HUSH),
        "the log shows a value"
    );
    let Some(events) = asked_for(scene)? else {
        return Ok(());
    };
    let secrets: Vec<_> = events
        .iter()
        .filter(|event| event.resource == "secrets")
        .collect();
    ensure!(!secrets.is_empty(), "nobody looked");
    for event in secrets {
        ensure!(event.verb == "get" && !event.name.is_empty(), "{event:?}");
        ensure!(
            event.code == if read { event.code } else { 403 },
            "{event:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn everything_that_is_missing_is_named_at_once() -> Result<()> {
    let scene = scene("missing").await?;
    open_secrets(&scene).await?;
    needy_then_plain(&scene).await?;
    scene.ask(REQUEST, APP, previous()).await?;
    let says = [
        "ConfigMap gone-config (container app env MODE)",
        "ConfigMap gone-env (container app envFrom)",
        "key level of ConfigMap there (container app env LEVEL)",
        "Secret gone-secret (container app env PASSWORD)",
        "Secret gone-tls (volume tls)",
        "key token of Secret there (container app env TOKEN)",
        "PersistentVolumeClaim gone-claim (volume data)",
        "ServiceAccount gone-account",
        "PriorityClass gone-priority",
    ];
    let message = refused(&scene, REQUEST, Reason::ReferenceMissing, &says).await?;
    for optional in ["optional-", "gone-pull"] {
        ensure!(!message.contains(optional), "{optional} is in {message}");
    }
    ensure_nothing_written(&scene)?;
    ensure_discreet(&scene, true).await
}

/// What may not be looked at is a risk; what may be is checked nevertheless.
#[tokio::test]
async fn secrets_are_not_looked_at_without_the_role() -> Result<()> {
    let scene = scene("closed-secrets").await?;
    let env = json!([
        {"name": "P", "valueFrom": {"secretKeyRef": {"name": "gone-secret", "key": "password"}}},
    ]);
    let v1 = shop::deployment(APP).version("v1");
    scene
        .deploy(v1.set("/spec/template/spec/containers/0/env", env))
        .await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    let told = risk(&target, RiskKind::References)?;
    says_all(
        &told,
        &[
            "Secret gone-secret",
            "HTTP 403",
            "rollback-preflight-secrets",
        ],
    )?;
    ensure_discreet(&scene, false).await?;
    goes_on(&scene, REQUEST).await?;
    Ok(())
}

/// With the role and everything in its place there is nothing to say.
#[tokio::test]
async fn what_is_there_is_no_news() -> Result<()> {
    let scene = scene("present").await?;
    open_secrets(&scene).await?;
    create(&scene, &map("Secret", "db", &["password", "user"])).await?;
    create(&scene, &map("ConfigMap", "app", &["mode"])).await?;
    let env = json!([
        {"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "mode"}}},
    ]);
    let v1 = shop::deployment(APP).version("v1");
    let v1 = v1.set("/spec/template/spec/containers/0/env", env);
    scene
        .deploy(v1.set("/spec/template/spec/serviceAccountName", json!("default")))
        .await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    ensure!(kinds(&target).is_empty(), "{:?}", target.risks);
    goes_on(&scene, REQUEST).await?;
    ensure_discreet(&scene, true).await
}

/// A node that has the image needs no pull secret, so its absence is told and no more.
#[tokio::test]
async fn a_missing_pull_secret_is_a_risk() -> Result<()> {
    let scene = scene("pull-secret").await?;
    open_secrets(&scene).await?;
    let pull = json!([{"name": "gone-pull"}]);
    let v1 = shop::deployment(APP).version("v1");
    scene
        .deploy(v1.set("/spec/template/spec/imagePullSecrets", pull))
        .await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    let told = risk(&target, RiskKind::References)?;
    says_all(&told, &["Missing pull secrets: gone-pull"])?;
    goes_on(&scene, REQUEST).await?;
    Ok(())
}

/// A pull secret that something else needs as well is needed.
#[tokio::test]
async fn a_missing_pull_secret_that_is_mounted_is_missing() -> Result<()> {
    let scene = scene("pull-mounted").await?;
    open_secrets(&scene).await?;
    let v1 = shop::deployment(APP)
        .version("v1")
        .set(
            "/spec/template/spec/imagePullSecrets",
            json!([{"name": "gone-pull"}]),
        )
        .set(
            "/spec/template/spec/volumes",
            json!([{"name": "pull", "secret": {"secretName": "gone-pull"}}]),
        );
    scene.deploy(v1).await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    scene.ask(REQUEST, APP, previous()).await?;
    let says = ["Secret gone-pull (imagePullSecrets, volume pull)"];
    refused(&scene, REQUEST, Reason::ReferenceMissing, &says).await?;
    ensure_nothing_written(&scene)
}
