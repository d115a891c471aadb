//! Which Deployments a request finds, and which of them it leaves as they are.

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::scene::revision;
use testkit::{Scene, User, shop};

use crate::record::Record;
use crate::stage::{
    REQUEST, ask, deploy, deploy_next, end, ensure_ended, ensure_results, named, prefix, roll_back,
    row, scene, skipped, tags, version, well,
};

#[tokio::test]
async fn a_prefix_finds_those_whose_names_begin_so_and_no_others() -> Result<()> {
    let scene = scene("prefix").await?;
    deploy(
        &scene,
        ["broxiva-api", "broxiva-web", "broxiva", "other"].map(well),
    )
    .await?;
    ask(&scene, json!([prefix("broxiva-")]), json!({})).await?;
    let plan = scene.plan(REQUEST).await?;
    let names: Vec<&str> = plan
        .targets
        .iter()
        .map(|t| t.workload.name.as_str())
        .collect();
    assert_eq!(names, ["broxiva-api", "broxiva-web"]);
    assert_eq!(plan.rules.rollout.timeout_seconds, 180);
    let before = row(&scene).await?;
    ensure!(before.contains("2 Deployments to "), "{before}");
    ensure!(before.contains("previous  "), "{before}");

    scene.approve(REQUEST, User::Approver).await?;
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &[
            ("broxiva-api", RequestState::Succeeded, Reason::Unverified),
            ("broxiva-web", RequestState::Succeeded, Reason::Unverified),
        ],
    )?;
    let after = row(&scene).await?;
    ensure!(after.contains("2 Deployments (2 done) to "), "{after}");
    let names = ["broxiva-api", "broxiva-web", "broxiva", "other"];
    assert_eq!(tags(&scene, &names).await?, ["v1", "v1", "v2", "v2"]);
    if let Some(record) = Record::of(&scene)? {
        record.ensure_written(&[("broxiva-api", 1), ("broxiva-web", 1)])?;
        let planned = ["broxiva-api", "broxiva-web"].map(str::to_owned).into();
        let uid = request.metadata.uid.unwrap_or_default();
        record.ensure_only(REQUEST, &uid, &planned)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_selector_finds_those_that_have_all_its_labels() -> Result<()> {
    let scene = scene("selector").await?;
    deploy(&scene, ["cart", "orders", "search"].map(well)).await?;
    let label = |tier: &str| json!({"metadata": {"labels": {"tier": tier, "shop": "eu"}}});
    scene.patch_deployment("cart", label("front")).await?;
    scene.patch_deployment("orders", label("back")).await?;
    let selector = json!({"matchLabels": {"tier": "front", "shop": "eu"}});
    let target = json!({"selector": selector, "to": {"previous": {}}});
    let (request, outcome) = roll_back(&scene, json!([target]), json!({})).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &[("cart", RequestState::Succeeded, Reason::Unverified)],
    )?;
    let names = ["cart", "orders", "search"];
    assert_eq!(tags(&scene, &names).await?, ["v1", "v2", "v2"]);
    Ok(())
}

/// What is said of a Deployment by its name counts more than what is said of all.
#[tokio::test]
async fn a_named_one_is_not_also_one_of_those_that_a_prefix_finds() -> Result<()> {
    let scene = scene("overlap").await?;
    let names = ["broxiva-api", "broxiva-web", "cart"];
    deploy(&scene, names.map(well)).await?;
    deploy_next(&scene, &names, "v3").await?;
    let targets = json!([
        prefix("broxiva-"),
        {"name": "broxiva-api", "to": {"revision": 1}, "wave": 1},
        named("cart"),
    ]);
    let (request, outcome) = roll_back(&scene, targets, json!({})).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(tags(&scene, &names).await?, ["v1", "v2", "v2"]);
    let plan = request.status.and_then(|status| status.plan);
    let order: Vec<(String, i32)> = plan
        .into_iter()
        .flat_map(|plan| plan.targets)
        .map(|target| (target.workload.name, target.wave))
        .collect();
    let wanted = [("broxiva-web", 0), ("cart", 0), ("broxiva-api", 1)];
    assert_eq!(order, wanted.map(|(name, wave)| (name.to_owned(), wave)));
    let row = row(&scene).await?;
    ensure!(row.contains("3 Deployments (3 done) to "), "{row}");
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_said_twice_is_refused() -> Result<()> {
    let scene = scene("twice").await?;
    deploy(&scene, ["api", "web"].map(well)).await?;
    let targets = json!([named("api"), named("web"), {"name": "api", "to": {"revision": 1}}]);
    let message = refusal(&scene, targets, json!({}), Reason::Ambiguous).await?;
    ensure!(message.contains("spec.targets[2].name: api"), "{message}");
    ensure!(message.contains("spec.targets[0]"), "{message}");
    let row = row(&scene).await?;
    ensure!(row.contains("deployment/api and 2 more to "), "{row}");
    Ok(())
}

#[tokio::test]
async fn what_finds_nothing_is_refused() -> Result<()> {
    let scene = scene("nothing").await?;
    deploy(&scene, [well("api")]).await?;
    let targets = json!([
        prefix("broxiva-"),
        {"selector": {"matchLabels": {"no": "such"}}, "to": {"previous": {}}},
    ]);
    refusal(&scene, targets, json!({}), Reason::NothingFound).await?;
    Ok(())
}

/// Nobody asks the API server two hundred questions to find out that there are too many.
#[tokio::test]
async fn more_than_one_request_can_take_are_refused() -> Result<()> {
    let scene = scene("too-many").await?;
    // Only what the request costs is counted here.
    let silent = json!({"ledger": {"record": false}});
    scene.policy(silent).await?;
    let client = scene.client(User::Admin).await?;
    let bodies: Vec<_> = (0..201)
        .map(|number| {
            version(&format!("many-{number:03}"), "v1")
                .replicas(0)
                .build()
        })
        .collect();
    futures::stream::iter(&bodies)
        .map(|body| shop::apply(&client, scene.ns(), body))
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let targets = json!([prefix("many-")]);
    let message = refusal(&scene, targets, json!({}), Reason::TooMany).await?;
    ensure!(message.contains("finds 201 Deployments"), "{message}");
    let record = Record::of(&scene)?;
    let counts = record.map(|record| record.counts()).unwrap_or_default();
    let all: usize = counts.values().sum();
    ensure!(all < 40, "it took {all} requests: {counts:#?}");
    Ok(())
}

#[tokio::test]
async fn one_that_is_paused_refuses_all_of_them() -> Result<()> {
    let scene = scene("paused").await?;
    pausing(&scene).await?;
    let targets = json!([prefix("broxiva-")]);
    let message = refusal(&scene, targets, json!({}), Reason::TargetsRefused).await?;
    ensure!(
        message.contains("broxiva-web: ") && message.contains("kubectl rollout resume"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn one_that_is_paused_is_left_out_when_the_others_are_to_go_on() -> Result<()> {
    let scene = scene("paused-out").await?;
    pausing(&scene).await?;
    let rollout = json!({"onFailure": "Continue"});
    let (request, outcome) = roll_back(&scene, json!([prefix("broxiva-")]), rollout).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let wanted = [(
        "broxiva-web".to_owned(),
        (RequestState::Refused, Reason::Paused),
    )];
    assert_eq!(skipped(&request)?, wanted.into());
    let names = ["broxiva-api", "broxiva-web"];
    assert_eq!(tags(&scene, &names).await?, ["v1", "v2"]);
    Ok(())
}

async fn pausing(scene: &Scene) -> Result<()> {
    deploy(scene, ["broxiva-api", "broxiva-web"].map(well)).await?;
    let paused = json!({"spec": {"paused": true}});
    scene.patch_deployment("broxiva-web", paused).await
}

/// Found and not named: there is nothing to go back to, so it is left as it is.
#[tokio::test]
async fn one_without_a_past_is_left_out_unless_it_is_named() -> Result<()> {
    let scene = scene("no-past").await?;
    deploy(&scene, [well("broxiva-api")]).await?;
    deploy_next(&scene, &["broxiva-new"], "v2").await?;
    let both = json!([named("broxiva-api"), named("broxiva-new")]);
    let message = refusal(&scene, both, json!({}), Reason::TargetsRefused).await?;
    ensure!(message.contains("broxiva-new: "), "{message}");

    let second = "found";
    crate::stage::ask_as(&scene, second, json!([prefix("broxiva-")]), json!({})).await?;
    scene.approve(second, User::Approver).await?;
    let (request, outcome) = scene.wait_for_end(second).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let wanted = [(
        "broxiva-new".to_owned(),
        (RequestState::Refused, Reason::NoHistory),
    )];
    assert_eq!(skipped(&request)?, wanted.into());
    let names = ["broxiva-api", "broxiva-new"];
    assert_eq!(tags(&scene, &names).await?, ["v1", "v2"]);
    Ok(())
}

#[tokio::test]
async fn one_that_is_already_there_is_left_as_it_is() -> Result<()> {
    let scene = scene("already").await?;
    deploy(&scene, [well("broxiva-api")]).await?;
    deploy_next(&scene, &["broxiva-old"], "v1").await?;
    let before = revision(&scene.deployment("broxiva-old").await?);
    let first = json!([{"namePrefix": "broxiva-", "to": {"revision": 1}}]);
    let (request, outcome) = roll_back(&scene, first, json!({})).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let wanted = [(
        "broxiva-old".to_owned(),
        (RequestState::Succeeded, Reason::NoOp),
    )];
    assert_eq!(skipped(&request)?, wanted.into());
    assert_eq!(revision(&scene.deployment("broxiva-old").await?), before);

    let again = json!([{"namePrefix": "broxiva-", "to": {"version": "v1"}}]);
    crate::stage::ask_as(&scene, "again", again, json!({})).await?;
    let (request, outcome) = scene.wait_for_end("again").await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::NoOp)?;
    ensure!(request.status.is_some_and(|status| status.plan.is_none()));
    Ok(())
}

/// Asks for what is refused before there is a plan, and nothing is written.
async fn refusal(
    scene: &Scene,
    targets: serde_json::Value,
    rollout: serde_json::Value,
    reason: Reason,
) -> Result<String> {
    let asked = ask(scene, targets, rollout).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Refused, reason)?;
    ensure!(request.status.is_some_and(|status| status.plan.is_none()));
    if let Some(record) = Record::of(scene)? {
        record.ensure_written(&[])?;
    }
    let left = crate::stage::artifacts(scene, "incident", &asked).await?;
    ensure!(left.is_empty(), "there is an incident");
    Ok(outcome.message)
}
