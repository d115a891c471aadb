//! Every way in which a request ends, and every way in which it is refused, on a real API server.
//!
//! Each test has a namespace and a controller process of its own, under the controller's own
//! `ServiceAccount`, and asserts on what the API server holds. They run in parallel.
//! `cargo xtask test` starts one cluster for all of them; `cargo test` alone works too.

use anyhow::Result;
use rollback_api::{Reason, Word};
use serde_json::json;
use testkit::{Scene, User};

#[tokio::test]
async fn an_approved_request_brings_the_previous_version_back() -> Result<()> {
    let scene = Scene::new(env!("CARGO_BIN_EXE_rollback-controller"), "smoke").await?;
    scene.two_versions("broxiva-api").await?;
    scene
        .ask("api-5xx", "broxiva-api", json!({"previous": {}}))
        .await?;
    scene.approve("api-5xx", User::Approver).await?;
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    assert_eq!(
        (outcome.word, outcome.reason),
        (Word::Succeeded, Reason::Unverified)
    );
    assert!(scene.image("broxiva-api").await?.ends_with(":v1"));
    assert_eq!(scene.artifacts("incident", "api-5xx").await?.len(), 1);
    assert_eq!(scene.artifacts("backup", "api-5xx").await?.len(), 1);
    Ok(())
}
