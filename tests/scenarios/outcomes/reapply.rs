//! A manifest that is applied again and again, as from Git, asks once.

use anyhow::{Result, ensure};
use rollback_api::Reason;
use serde_json::{Value, json};
use testkit::scene::request;
use testkit::{Scene, User, shop};

use crate::approvals::reverts;
use crate::expect::{End, scene};
use crate::people::{delete_request, replaced, wait_until_gone};

fn manifest(name: &str) -> Value {
    request(name, json!([{"name": "api", "to": {"previous": {}}}]))
}

/// `kubectl apply`, in both of its ways.
async fn apply(scene: &Scene, user: User, manifest: &Value) -> Result<()> {
    let client_side = ["apply", "-n", scene.ns(), "-f", "-"];
    let server_side = [&client_side[..], &["--server-side", "--force-conflicts"]].concat();
    let manifest = manifest.to_string();
    for way in [&client_side[..], &server_side] {
        scene.cluster.kubectl_ok(user, way, &manifest).await?;
    }
    Ok(())
}

/// Every request that is there has been looked at: one that was made later has ended.
async fn settle(scene: &Scene, name: &str) -> Result<()> {
    scene.ask(name, "nowhere", json!({"previous": {}})).await?;
    scene.wait_for_end(name).await?;
    Ok(())
}

#[tokio::test]
async fn one_revert_however_often_it_is_applied() -> Result<()> {
    let scene = scene("reapply").await?;
    let slow = shop::deployment("api")
        .version("v1")
        .ready_after(std::time::Duration::from_secs(4));
    replaced(&scene, "api", slow).await?;
    let manifest = manifest("api-5xx");
    for user in [User::Gitops, User::Gitops] {
        apply(&scene, user, &manifest).await?;
    }
    let plan = scene.plan("api-5xx").await?;
    apply(&scene, User::Gitops, &manifest).await?;
    let same = scene.plan("api-5xx").await?;
    ensure!(same == plan, "the plan changed");

    scene.approve("api-5xx", User::Approver).await?;
    apply(&scene, User::Gitops, &manifest).await?;
    scene.wait_for("api-5xx", "RollingOut").await?;
    apply(&scene, User::Gitops, &manifest).await?;
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;
    let ended = scene.request("api-5xx").await?;
    let by = ended.spec.requested_by.clone().unwrap_or_default();
    ensure!(by.username == User::Gitops.as_str(), "{by:?}");

    // The bad version comes again, and so does the manifest: asked for once is done once.
    scene
        .apply_deployment(shop::deployment("api").version("v2"))
        .await?;
    apply(&scene, User::Gitops, &manifest).await?;
    settle(&scene, "later").await?;
    let after = scene.request("api-5xx").await?;
    ensure!(after.status == ended.status, "it began anew");
    ensure!(scene.image("api").await?.ends_with(":v2"));
    let reverts = reverts(&scene, "api")?;
    ensure!(reverts.is_none_or(|count| count == 1), "{reverts:?}");
    Ok(())
}

#[tokio::test]
async fn deleted_and_created_again_it_does_nothing() -> Result<()> {
    let scene = scene("recreate").await?;
    scene.two_versions("api").await?;
    let manifest = manifest("api-5xx");
    apply(&scene, User::Gitops, &manifest).await?;
    scene.approve("api-5xx", User::Approver).await?;
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;

    scene.deploy(shop::deployment("api").version("v2")).await?;
    delete_request(&scene, "api-5xx", User::Gitops).await?;
    wait_until_gone(&scene, "api-5xx").await?;
    apply(&scene, User::Gitops, &manifest).await?;
    End::well(Reason::AlreadyRolledBack)
        .without_incident()
        .saying(&["creating it again does nothing", "another name"])
        .check(&scene, "api-5xx")
        .await?;
    ensure!(scene.image("api").await?.ends_with(":v2"));
    let count = reverts(&scene, "api")?;
    ensure!(count.is_none_or(|count| count == 1), "{count:?}");

    // The same content under another name is another wish.
    apply(&scene, User::Gitops, &self::manifest("again")).await?;
    scene.approve("again", User::Approver).await?;
    End::well(Reason::Unverified).check(&scene, "again").await?;
    ensure!(scene.image("api").await?.ends_with(":v1"));
    Ok(())
}
