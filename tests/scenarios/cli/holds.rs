//! What is held, and how it ends.

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::User::{Approver, Requester};
use testkit::scene::PATIENCE;
use testkit::{User, eventually, shop};

use crate::stage::{run, scene};
use crate::tools::KUSTOMIZATION;

#[tokio::test]
async fn what_is_held_is_listed_told_by_doctor_and_released() -> Result<()> {
    let scene = scene("holds").await?;
    scene.grant("rollback-hold-flux-kustomization").await?;
    let ns = scene.ns();
    let owning = json!({
        "spec": {"interval": "10m", "path": "./shop", "sourceRef": {"kind": "GitRepository", "name": "shop"}},
        "status": {"inventory": {"entries": [{"id": format!("{ns}_api_apps_Deployment"), "v": "v1"}]}},
    });
    KUSTOMIZATION.create(&scene, "shop", owning).await?;
    for tag in ["v1", "v2"] {
        let version = shop::deployment("api").version(tag);
        let version = version
            .label("kustomize.toolkit.fluxcd.io/name", "shop")
            .label("kustomize.toolkit.fluxcd.io/namespace", ns);
        scene.deploy(version).await?;
    }
    run(&scene, Approver, &["release"])
        .await?
        .ended(0)?
        .complains(&["Nothing is held"])?;
    let (_, outcome) = scene
        .roll_back("api-5xx", "api", json!({"previous": {}}))
        .await?;
    ensure!(outcome.reason.as_str() == "Unverified", "{outcome:?}");
    let owed = "owed to Git: repository GitRepository shop, path ./shop";
    run(&scene, Approver, &["release"])
        .await?
        .ended(0)?
        .prints(&[
            "Flux Kustomization",
            "for RollbackRequest api-5xx",
            owed,
            &format!("kubectl rollback release api -n {ns}"),
        ])?;
    let listed = run(&scene, Approver, &["release", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(
        listed.json()?[0]["hold"]["request"] == "api-5xx",
        "{listed:?}"
    );
    let doctor = run(&scene, User::Admin, &["doctor"]).await?;
    doctor.prints(&["holds", owed])?;
    run(&scene, Approver, &["release", "api", "another"])
        .await?
        .ended(1)?;
    run(&scene, Requester, &["release", "api"])
        .await?
        .ended(6)?;
    run(&scene, Approver, &["release", "api"])
        .await?
        .ended(0)?
        .prints(&["released (Flux Kustomization"])?;
    eventually("it is released", PATIENCE, async || {
        let said = run(&scene, Approver, &["release"]).await?.ended(0)?;
        said.complains(&["Nothing is held"])?;
        Ok(())
    })
    .await?;
    let annotations = scene.deployment("api").await?["metadata"]["annotations"].clone();
    ensure!(
        annotations["kustomize.toolkit.fluxcd.io/reconcile"].is_null(),
        "{annotations}"
    );
    Ok(())
}
