//! What may go wrong, as far as it can be seen beforehand.

use anyhow::{Context as _, Result, ensure};
use rollback_api::ACCEPT_DATA_RISK;
use rollback_api::status::RiskKind;
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, PRODUCTION, ready};
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    APP, REQUEST, controller_may, create, delete, deploy_all, goes_on, grant_controller, image_of,
    kinds, plan_of, previous, risk, says_all, scene,
};

fn autoscaler() -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "busy"},
        "spec": {
            "minReplicas": 2, "maxReplicas": 7,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": APP},
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60},
            }}],
        },
    })
}

fn budget() -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "strict"},
        "spec": {
            "minAvailable": 2,
            "selector": {"matchLabels": {"app.kubernetes.io/name": APP}},
        },
    })
}

fn quota() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "tight"}, "spec": {"hard": {"pods": "2"}},
    })
}

/// Waits until somebody has written this into the status.
async fn counted(scene: &Scene, object: &Value, pointer: &str) -> Result<()> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), text("/apiVersion"), text("/kind"));
    eventually(&format!("{pointer} is there"), PATIENCE, async || {
        let served = api.get(text("/metadata/name")).await?;
        let value = served.data.pointer(pointer).context("not yet")?.clone();
        ensure!(!value.is_null(), "it is {value}");
        Ok(())
    })
    .await
}

/// All three limit the Deployment, and none of them is in the way of the rollback itself.
async fn surround(scene: &Scene) -> Result<()> {
    let all = [
        (autoscaler(), "/spec/maxReplicas"),
        (budget(), "/status/disruptionsAllowed"),
        (quota(), "/status/used/pods"),
    ];
    for (object, pointer) in all {
        create(scene, &object).await?;
        counted(scene, &object, pointer).await?;
    }
    Ok(())
}

#[tokio::test]
async fn autoscaler_budget_and_quota_are_in_the_plan() -> Result<()> {
    let scene = scene("surroundings").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    surround(&scene).await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    let told = risk(&target, RiskKind::Autoscaler)?;
    says_all(&told, &["HorizontalPodAutoscaler busy (2 to 7 replicas)"])?;
    let told = risk(&target, RiskKind::DisruptionBudget)?;
    says_all(
        &told,
        &["PodDisruptionBudget strict allows no disruption now"],
    )?;
    let told = risk(&target, RiskKind::Quota)?;
    says_all(
        &told,
        &["tight: pods 2 of 2 are used and 1 more are needed"],
    )?;
    assert_eq!(target.risks.len(), 3);

    // They inform, and they do not keep anybody from anything.
    delete(&scene, "v1", "ResourceQuota", "tight").await?;
    goes_on(&scene, REQUEST).await?;
    Ok(())
}

/// A namespace that grants only what is needed to write gets a plan that says less, and no error.
#[tokio::test]
async fn what_may_not_be_listed_is_left_out() -> Result<()> {
    let scene = scene("unlisted").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    surround(&scene).await?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "bare"},
        "rules": [
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]},
            {"apiGroups": ["rollback.broxiva.com"], "resources": ["revisionledgers"],
             "verbs": ["create", "get", "update"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get"]},
        ],
    });
    create(&scene, &role).await?;
    let bare = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bare"});
    grant_controller(&scene, &bare, ["patch", "apps", "deployments"]).await?;
    let kind = "RoleBinding";
    delete(
        &scene,
        "rbac.authorization.k8s.io/v1",
        kind,
        "test-rollback-executor",
    )
    .await?;
    controller_may(&scene, ["list", "", "resourcequotas"], false).await?;
    controller_may(&scene, ["patch", "apps", "deployments"], true).await?;

    let target = plan_of(&scene, REQUEST, previous()).await?;
    ensure!(target.risks.is_empty(), "{:?}", target.risks);
    delete(&scene, "v1", "ResourceQuota", "tight").await?;
    goes_on(&scene, REQUEST).await?;
    Ok(())
}

#[tokio::test]
async fn the_schema_of_the_data_is_compared() -> Result<()> {
    let scene = scene("schema").await?;
    let version = |tag: &str, schema: &str| {
        let version = shop::deployment(APP).version(tag);
        version.template_annotation("rollback.broxiva.com/schema-version", schema)
    };
    scene.deploy(version("v1", "41")).await?;
    let tolerant = version("v2", "42")
        .template_annotation("rollback.broxiva.com/compatible-schema-versions", "42, 43");
    scene.deploy(tolerant).await?;
    let irreversible = "rollback.broxiva.com/irreversible-migration";
    let newest = version("v3", "43").template_annotation(irreversible, "true");
    scene.deploy(newest).await?;

    scene.ask(REQUEST, APP, json!({"revision": 1})).await?;
    let request = scene.wait_for(REQUEST, "Blocked").await?;
    let plan = request.status.as_ref().and_then(|s| s.plan.clone());
    let plan = plan.context("no plan")?;
    let told = risk(&plan.targets[0], RiskKind::DataSchema)?;
    says_all(
        &told,
        &[
            "schema 43",
            "marked irreversible",
            "schema 41",
            "damage them",
        ],
    )?;
    // Nobody decides that by approving as usual.
    let (_, message) = ready(&request);
    says_all(&message, &["marked irreversible", ACCEPT_DATA_RISK])?;
    let approval = scene
        .approve_plan(REQUEST, User::Approver, PRODUCTION, &plan.digest)
        .await;
    let refusal = approval.err().context("it was not refused")?;
    says_all(&format!("{refusal:#}"), &["accept-data-risk"])?;
    // The second version copes with the newest data.
    let target = plan_of(&scene, "tolerant", json!({"revision": 2})).await?;
    ensure!(kinds(&target).is_empty(), "{:?}", target.risks);
    Ok(())
}

#[tokio::test]
async fn a_tag_that_moves_is_told() -> Result<()> {
    let scene = scene("mutable-tag").await?;
    for mode in ["slow", "fast"] {
        let version = shop::deployment(APP).image(&image_of("latest"));
        scene.deploy(version.env("MODE", mode)).await?;
    }
    let target = plan_of(&scene, REQUEST, previous()).await?;
    let told = risk(&target, RiskKind::MutableTag)?;
    says_all(&told, &[&image_of("latest"), "by digest"])?;
    ensure!(target.images.is_empty(), "{:?}", target.images);
    goes_on(&scene, REQUEST).await?;
    Ok(())
}
