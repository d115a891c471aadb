//! Switched on (`mod unready;` in main.rs) once `CauseKind::Unready` is told: a container that runs, and whose
//! readiness probe fails.

use anyhow::Result;
use rollback_api::status::CauseKind;
use testkit::node::app::version;

use crate::causes::{Trouble, is_named, strict_scene};

#[tokio::test]
async fn a_readiness_probe_that_fails() -> Result<()> {
    let Some(scene) = strict_scene("unready").await? else {
        return Ok(());
    };
    let trouble = Trouble {
        kind: CauseKind::Unready,
        shown_by: &["ContainersNotReady", "Readiness probe failed"],
        says: &["container app"],
    };
    is_named(&scene, version("v1").env("FAIL_READY", "1"), &trouble).await
}
