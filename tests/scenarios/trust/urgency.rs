//! How many have to approve what, and what is rolled back at all, is the policy's to say; a claim only ever asks for more.

use anyhow::{Result, ensure};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::request;
use testkit::{Scene, User};

use crate::stage::{
    PATCH, at_rest, bind, counted, create, ends, ensure_writes, requests_of, scene, two_versions,
    wait_until_may,
};

const EXPEDITE: &str = "expedite rollbackrequests/expedite.rollback.broxiva.com";

fn asking(name: &str, category: &str, urgency: Option<&str>) -> Value {
    let mut request = request(name, json!([{"name": "api", "to": {"previous": {}}}]));
    request["spec"]["reason"]["category"] = json!(category);
    if let Some(urgency) = urgency {
        request["spec"]["urgency"] = json!(urgency);
    }
    request
}

async fn required(scene: &Scene, name: &str) -> Result<i32> {
    Ok(scene.plan(name).await?.rules.approvals.required)
}

#[tokio::test]
async fn the_number_of_approvers_follows_the_urgency() -> Result<()> {
    let scene = scene("by-urgency").await?;
    let by = json!([
        {"urgency": "Critical", "required": 1},
        {"urgency": "High", "required": 3},
        {"urgency": "Low", "required": 1},
    ]);
    let approvals = json!({"required": 2, "byUrgency": by});
    scene.policy(json!({"approvals": approvals})).await?;
    two_versions(&scene, "api").await?;
    let eve = "eve-expedites";
    bind(&scene, "rollback-requester", &[eve]).await?;
    bind(&scene, "edit", &[eve]).await?;
    bind(&scene, "rollback-expediter", &[eve]).await?;
    wait_until_may(&scene, eve, PATCH, true).await?;
    wait_until_may(&scene, eve, EXPEDITE, true).await?;
    let expediter = requests_of(&scene, eve).await?;

    // Rita's word asks for more people, and never for fewer than the policy wants in general.
    for (name, category, urgency, wanted) in [
        ("high", "ErrorRate", None, 3),
        ("medium", "BusinessLogic", None, 2),
        ("security", "Security", None, 2),
        ("played-down", "ErrorRate", Some("Low"), 3),
        ("played-down-more", "Security", Some("Low"), 2),
    ] {
        scene.ask_for(asking(name, category, urgency)).await?;
        let found = required(&scene, name).await?;
        ensure!(found == wanted, "{name}: {found} instead of {wanted}");
    }
    // Of somebody who may expedite it is believed.
    create(
        &expediter,
        &asking("expedited", "ErrorRate", Some("Critical")),
    )
    .await?;
    ensure!(required(&scene, "expedited").await? == 1);

    for (count, user) in [(1, User::Approver), (2, User::SecondApprover)] {
        ensure_writes(&scene, 0)?;
        scene.approve("high", user).await?;
        let people = [User::Approver.as_str(), User::SecondApprover.as_str()];
        counted(&scene, "high", &people[..count]).await?;
    }
    ensure_writes(&scene, 0)?;
    scene.approve("expedited", User::Approver).await?;
    ends(
        &scene,
        "expedited",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure_writes(&scene, 1)
}

#[tokio::test]
async fn the_matrix_of_the_policy_decides_what_is_rolled_back() -> Result<()> {
    let scene = scene("matrix").await?;
    two_versions(&scene, "api").await?;
    scene.ask_for(asking("feature", "Feature", None)).await?;
    ends(
        &scene,
        "feature",
        RequestState::Refused,
        Reason::HotfixForward,
    )
    .await?;

    let matrix = json!([
        {"category": "Feature", "approval": "Manual"},
        {"category": "Latency", "approval": "Refused"},
    ]);
    scene.policy(json!({"decisionMatrix": matrix})).await?;
    scene.ask_for(asking("latency", "Latency", None)).await?;
    ends(
        &scene,
        "latency",
        RequestState::Refused,
        Reason::HotfixForward,
    )
    .await?;
    ensure_writes(&scene, 0)?;
    scene
        .ask_for(asking("broken-feature", "Feature", None))
        .await?;
    scene.approve("broken-feature", User::Approver).await?;
    ends(
        &scene,
        "broken-feature",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure_writes(&scene, 1)?;

    // Without the entry it is as before, also for one that has a plan already.
    scene.deploy(at_rest("api", "v2")).await?;
    scene
        .ask_for(asking("late-feature", "Feature", None))
        .await?;
    scene.plan("late-feature").await?;
    scene.policy(json!({"environment": "production"})).await?;
    scene.ask_for(asking("again", "Feature", None)).await?;
    ends(
        &scene,
        "again",
        RequestState::Refused,
        Reason::HotfixForward,
    )
    .await?;
    ensure_writes(&scene, 1)
}
