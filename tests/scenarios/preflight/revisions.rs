//! Revisions by number, and versions.

use anyhow::{Result, ensure};
use rollback_api::{Reason, RequestState};
use rollback_core::plan::all_changes;
use serde_json::json;
use testkit::scene::{PATIENCE, revision};
use testkit::{Scene, eventually, shop};

use crate::stage::{
    APP, REQUEST, deploy_all, ends, ensure_reverts, goes_on, plan_of, previous, refused, says_all,
    scene,
};

/// Waits until the Deployment controller has given what runs this number.
async fn numbered(scene: &Scene, number: i64) -> Result<()> {
    eventually("the revision is numbered", PATIENCE, async || {
        let found = revision(&scene.deployment(APP).await?);
        ensure!(found == Some(number), "it is {found:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_renumbered_revision_is_found_and_said() -> Result<()> {
    let scene = scene("renumbered").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    plan_of(&scene, REQUEST, previous()).await?;
    goes_on(&scene, REQUEST).await?;
    numbered(&scene, 3).await?;

    // It runs, under a new number.
    scene.ask("runs", APP, json!({"revision": 1})).await?;
    ends(&scene, "runs", RequestState::Succeeded, Reason::NoOp).await?;

    deploy_all(&scene, &["v4"]).await?;
    let target = plan_of(&scene, "by-old-number", json!({"revision": 1})).await?;
    assert_eq!(
        (target.from.revision, target.to.revision),
        (Some(4), Some(3))
    );
    let note = "revision 1 was renumbered and is revision 3 now";
    assert_eq!(target.notes, [note]);
    goes_on(&scene, "by-old-number").await?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    ensure_reverts(&scene, 2)
}

#[tokio::test]
async fn a_number_that_nobody_has_is_refused() -> Result<()> {
    let scene = scene("no-number").await?;
    deploy_all(&scene, &["v1", "v2"]).await?;
    scene.ask(REQUEST, APP, json!({"revision": 99})).await?;
    let says = ["revision 99 is not in the history", "known revisions: 2, 1"];
    refused(&scene, REQUEST, Reason::RevisionNotFound, &says).await?;
    Ok(())
}

#[tokio::test]
async fn versions_are_compared_as_versions() -> Result<()> {
    let scene = scene("versions").await?;
    deploy_all(&scene, &["v2.1.5", "v2.1.50", "v2.2.0"]).await?;
    for (name, version) in [("plain", "2.1.5"), ("with-v", "v2.1.5")] {
        let target = plan_of(&scene, name, json!({"version": version})).await?;
        assert_eq!(target.to.revision, Some(1), "{version}");
    }
    scene.ask("runs", APP, json!({"version": "2.2.0"})).await?;
    ends(&scene, "runs", RequestState::Succeeded, Reason::NoOp).await?;
    for (name, version) in [("short", "2.1"), ("other", "2.1.6")] {
        scene.ask(name, APP, json!({"version": version})).await?;
        let says = ["versions there: v2.2.0, v2.1.50, v2.1.5"];
        refused(&scene, name, Reason::VersionNotInHistory, &says).await?;
    }
    goes_on(&scene, "plain").await?;
    ensure!(scene.image(APP).await?.ends_with(":v2.1.5"));
    Ok(())
}

/// The label of the pods says which version it is; without it the tag of the image does.
#[tokio::test]
async fn the_tag_is_the_version_where_no_label_is() -> Result<()> {
    let scene = scene("version-tag").await?;
    for tag in ["1.4.0", "1.5.0"] {
        let image = crate::stage::image_of(tag);
        scene.deploy(shop::deployment(APP).image(&image)).await?;
    }
    let target = plan_of(&scene, REQUEST, json!({"version": "v1.4.0"})).await?;
    assert_eq!(target.to.revision, Some(1));
    says_all(&all_changes(&target).join("\n"), &[":1.5.0 -> ", ":1.4.0"])
}
