//! A plan that somebody makes who may only read, before there is a request or a controller.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use rollback_api::status::Plan;
use rollback_api::{Reason, RollbackRequest};
use rollback_core::execution::outcome::Ending;
use rollback_core::plan::Draft;
use rollback_observe::Reader;
use rollback_probe::networks::{Externals, Networks};
use serde_json::{Value, json};
use testkit::{Scene, User, shop};

use crate::stage::{APP, PROGRAM, REQUEST, deploy_all, ensure_nothing_written, previous};

/// What Olga, who may look at the namespace and nothing more, would see planned.
async fn draft(scene: &Scene, targets: Value) -> Result<Result<Draft, Ending>> {
    let mut request: RollbackRequest =
        serde_json::from_value(testkit::scene::request(REQUEST, targets))?;
    request.metadata.namespace = Some(scene.ns().to_owned());
    let client = scene.client(User::Outsider).await?;
    let probe = rollback_probe::Client::new(Networks(Vec::new()), Externals(Vec::new()))?;
    let reader = Reader {
        client: &client,
        probe: &probe,
    };
    let drafted = rollback_observe::plan(reader, &request, Timestamp::now()).await?;
    ensure!(drafted.is_installed);
    Ok(drafted.plan)
}

fn drafted(draft: Result<Draft, Ending>) -> Result<Draft> {
    draft.map_err(|ending| anyhow::anyhow!("{ending:?}"))
}

fn ensure_same(draft: &Draft, plan: &Plan) -> Result<()> {
    assert_eq!(draft.targets, plan.targets);
    assert_eq!(draft.rules, plan.rules);
    assert_eq!(draft.data_risk, plan.data_risk);
    assert_eq!(draft.skipped, plan.skipped);
    ensure!(!plan.digest.is_empty() && !plan.guard.is_empty());
    Ok(())
}

#[tokio::test]
async fn who_may_only_read_sees_the_plan_that_the_controller_would_make() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "drafted").await?;
    scene
        .policy(json!({"verification": {"onFailure": "TryOlder"}}))
        .await?;
    let version = |tag| shop::deployment(APP).version(tag).env("MODE", "old");
    scene.deploy(version("v1")).await?;
    deploy_all(&scene, &["v2", "v3"]).await?;

    let targets = json!([{"name": APP, "to": previous()}]);
    let draft = drafted(draft(&scene, targets).await?)?;
    ensure!(draft.targets[0].to.revision == Some(2), "{draft:?}");
    ensure!(!draft.targets[0].images.is_empty() && !draft.targets[0].fallbacks.is_empty());
    ensure_nothing_written(&scene)?;

    scene.start_controller().await?;
    scene.ask(REQUEST, APP, previous()).await?;
    ensure_same(&draft, &scene.plan(REQUEST).await?)
}

#[tokio::test]
async fn who_may_only_read_sees_why_there_would_be_no_plan() -> Result<()> {
    let scene = Scene::without_controller(PROGRAM, "not-drafted").await?;
    deploy_all(&scene, &["v1"]).await?;
    let refusal = |name: &str| json!([{"name": name, "to": previous()}]);
    for (name, reason) in [
        (APP, Reason::NoHistory),
        ("nobody", Reason::DeploymentNotFound),
    ] {
        match draft(&scene, refusal(name)).await? {
            Err(ending) => assert_eq!(ending.reason, reason, "{ending:?}"),
            Ok(draft) => anyhow::bail!("{name}: {draft:?}"),
        }
    }
    ensure_nothing_written(&scene)
}
