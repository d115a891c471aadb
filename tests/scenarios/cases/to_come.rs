//! Cases of which only kubectl's half is tested: the controller cannot do its half yet.

use anyhow::Result;
use testkit::conformance::record_kubectl;
use testkit::shop;

use crate::kubectl::{twin, undo};
use crate::situation::{deploy_all, deploy_stuck};
use crate::stage::APP;

fn version(version: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP).version(version)
}

#[tokio::test]
async fn case_20_kubectl_takes_what_never_was_available() -> Result<()> {
    let twin = twin("case-20").await?;
    deploy_all(&twin, &["v1"]).await?;
    deploy_stuck(&twin, version("v2")).await?;
    deploy_stuck(&twin, version("v3")).await?;
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v2")?;
    let kubectl = format!("{}, which never became available", undo.outcome());
    record_kubectl(20, &kubectl)
}

#[tokio::test]
async fn case_24_kubectl_does_not_know_what_a_tag_meant() -> Result<()> {
    let twin = twin("case-24").await?;
    for mode in ["old", "new"] {
        twin.deploy(version("latest").env("MODE", mode)).await?;
    }
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("latest")?;
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(undo.after.pointer(image), undo.before.pointer(image));
    undo.ran.ensure_ok("rolled back")?;
    assert_eq!(undo.ran.stderr, "");
    record_kubectl(
        24,
        "the same tag again, without a word about what it means now",
    )
}
