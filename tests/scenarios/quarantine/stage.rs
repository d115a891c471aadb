//! What these scenarios share.

use anyhow::{Result, ensure};
use kube::{Api, ResourceExt};
use rollback_api::{QUARANTINE_LABEL, RequestState, RevisionLedger};
use rollback_core::history::ledger;
use rollback_core::history::template::Template;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::shop::{self, DeploymentBuilder, IMAGE_ID};
use testkit::{Scene, User, eventually};

/// The controller.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");
/// The Deployment.
pub const APP: &str = "api";
/// The request that rolls it back.
pub const REQUEST: &str = "api-5xx";
/// What the kubelets found under the image of the bad version.
pub const BAD_DIGEST: &str =
    "sha256:bad0bad0bad0bad0bad0bad0bad0bad0bad0bad0bad0bad0bad0bad0bad0bad0";

/// A version of the Deployment.
pub fn version(version: &str) -> DeploymentBuilder {
    shop::deployment(APP).version(version)
}

/// The version that is rolled back, on nodes that find this digest under its image.
pub fn bad() -> DeploymentBuilder {
    let id = format!("registry.broxiva.example/api@{BAD_DIGEST}");
    version("v2").template_annotation(IMAGE_ID, &id)
}

/// A namespace with this policy, where `to` was rolled back to from `from`, and the API server knows.
pub async fn rolled_back(
    name: &str,
    policy: Value,
    to: DeploymentBuilder,
    from: DeploymentBuilder,
) -> Result<Scene> {
    let mut scene = Scene::without_controller(PROGRAM, name).await?;
    scene.policy(policy).await?;
    scene.start_controller().await?;
    scene.deploy(to).await?;
    scene.deploy(from).await?;
    known(&scene).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    Ok(scene)
}

/// Waits until the ledger knows the images of what runs.
async fn known(scene: &Scene) -> Result<()> {
    eventually("the ledger knows what runs", PATIENCE, async || {
        let running = scene.deployment(APP).await?;
        let digest = Template::of(&running["spec"]["template"]).digest();
        let templates = ledger(scene).await?.spec.templates;
        let known = templates
            .iter()
            .any(|entry| entry.digest == digest && !entry.images.is_empty());
        ensure!(known, "{templates:?}");
        Ok(())
    })
    .await
}

/// The policy that has a quarantine enforced so.
pub fn enforcing(word: &str) -> Value {
    json!({"ledger": {"soakSeconds": 1}, "quarantine": {"enforce": word}})
}

/// The ledgers of the scene.
pub async fn ledgers(scene: &Scene) -> Result<Api<RevisionLedger>> {
    Ok(Api::namespaced(
        scene.client(User::Admin).await?,
        scene.ns(),
    ))
}

/// The name of the ledger of the Deployment.
pub fn ledger_name() -> String {
    ledger::name(rollback_api::WorkloadKind::Deployment, APP)
}

/// The ledger of the Deployment.
pub async fn ledger(scene: &Scene) -> Result<RevisionLedger> {
    Ok(ledgers(scene).await?.get(&ledger_name()).await?)
}

/// Waits until the label of the ledger, which admission goes by, is this.
pub async fn wait_for_label(scene: &Scene, expected: Option<&str>) -> Result<()> {
    eventually("the label of the ledger", PATIENCE, async || {
        let ledger = ledger(scene).await?;
        let label = ledger.labels().get(QUARANTINE_LABEL).map(String::as_str);
        ensure!(
            label == expected,
            "it is {label:?}: {:?}",
            ledger.spec.quarantine
        );
        Ok(())
    })
    .await
}
