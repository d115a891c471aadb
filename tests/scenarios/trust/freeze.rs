//! In a window nothing is written, however many have approved, except in an emergency that nobody has to be believed
//! for, or that somebody may call one.

use anyhow::{Context as _, Result, bail, ensure};
use kube::Api;
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE, condition, request};
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    PATCH, bind, counted, create, ends, ensure_writes, forbidden, requests_of, scene, settle,
    two_versions, unbind, wait_until_may,
};

const NAME: &str = "api-5xx";
const EXPEDITE: &str = "expedite rollbackrequests/expedite.rollback.broxiva.com";

/// A policy with a window that is always open. Evidence would be written in its own time.
pub fn frozen() -> Value {
    let always = json!({"name": "always", "schedule": "* * * * *", "durationMinutes": 60});
    json!({"freezeWindows": [always], "ledger": {"record": false}})
}

fn urgent(name: &str, urgency: &str) -> Value {
    let mut request = request(name, json!([{"name": "api", "to": {"previous": {}}}]));
    request["spec"]["urgency"] = json!(urgency);
    request
}

/// Of all that leads to a rollback, the controller has written nothing in this namespace.
fn wrote_nothing(scene: &Scene) -> Result<()> {
    let audit = scene.cluster.audit().context("no audit log")?;
    for event in audit.events(scene.ns())? {
        let writes = !["get", "list", "watch"].contains(&event.verb.as_str());
        let kinds = ["deployments", "revisionledgers", "configmaps"];
        let one = event.user == CONTROLLER && writes && kinds.contains(&event.resource.as_str());
        ensure!(!one || event.is_dry_run(), "it wrote: {event:?}");
    }
    Ok(())
}

#[tokio::test]
async fn approved_in_a_window_it_waits_and_needs_a_new_word_after_it() -> Result<()> {
    let scene = scene("frozen").await?;
    scene.policy(frozen()).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let old = scene.plan(NAME).await?.digest;
    scene.approve(NAME, User::Approver).await?;
    let request = scene.wait_for(NAME, "Frozen").await?;
    let ready = condition(&request, "Ready").context("no Ready")?;
    ensure!(ready.0 == "False", "{ready:?}");
    for part in ["window always", "expedite", "urgency Critical"] {
        ensure!(ready.2.contains(part), "{ready:?}");
    }
    settle(&scene, "later").await?;
    wrote_nothing(&scene)?;

    // The window is part of what was approved: without it, it is something else.
    scene
        .policy(json!({"freezeWindows": [], "ledger": {"record": false}}))
        .await?;
    eventually("the approval is void", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        let Some(plan) = status.plan else {
            bail!("no plan");
        };
        ensure!(plan.digest != old && status.approvals.is_empty());
        Ok(())
    })
    .await?;
    scene.wait_for(NAME, "AwaitingApproval").await?;
    ensure_writes(&scene, 0)?;
    scene.approve(NAME, User::Approver).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)
}

/// Nobody can tell when it begins, so nobody can tell that it is over.
#[tokio::test]
async fn a_window_that_cannot_be_read_is_open() -> Result<()> {
    let scene = scene("frozen-unread").await?;
    let mut policy = frozen();
    policy["freezeWindows"][0]["schedule"] = json!("61 25 * * *");
    scene.policy(policy).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.approve(NAME, User::Approver).await?;
    let request = scene.wait_for(NAME, "Frozen").await?;
    let ready = condition(&request, "Ready").context("no Ready")?;
    ensure!(ready.2.contains("nobody can tell until when"), "{ready:?}");
    wrote_nothing(&scene)
}

#[tokio::test]
async fn what_is_down_is_rolled_back_in_a_window() -> Result<()> {
    let scene = scene("frozen-down").await?;
    scene.policy(frozen()).await?;
    let version = |version: &str| {
        let recreate = json!({"type": "Recreate"});
        shop::deployment("api")
            .version(version)
            .set("/spec/strategy", recreate)
    };
    scene.deploy(version("v1")).await?;
    let broken = version("v2").behaviour(Behaviour::Crash);
    scene.apply_deployment(broken).await?;
    let is_down = |deployment: &Value| {
        let conditions = deployment["status"]["conditions"].as_array();
        conditions.is_some_and(|conditions| {
            let down = |c: &Value| c["type"] == "Available" && c["status"] == "False";
            conditions.iter().any(down)
        })
    };
    scene.wait_for_deployment("api", is_down).await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.approve(NAME, User::Approver).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)
}

/// A requester who may call it an emergency.
async fn expediter(scene: &Scene) -> Result<(Api<RollbackRequest>, String)> {
    let eve = "eve-expedites";
    bind(scene, "rollback-requester", &[eve]).await?;
    bind(scene, "edit", &[eve]).await?;
    let binding = bind(scene, "rollback-expediter", &[eve]).await?;
    wait_until_may(scene, eve, PATCH, true).await?;
    wait_until_may(scene, eve, EXPEDITE, true).await?;
    Ok((requests_of(scene, eve).await?, binding))
}

#[tokio::test]
async fn an_emergency_is_called_by_those_who_may() -> Result<()> {
    let scene = scene("frozen-urgent").await?;
    scene.policy(frozen()).await?;
    two_versions(&scene, "api").await?;
    let (eve, _) = expediter(&scene).await?;
    for urgency in ["Critical", "Immediate"] {
        let answer = scene.ask_for(urgent("rita", urgency)).await;
        let says = "may not expedite";
        let error = answer.err().context("Rita called an emergency")?;
        ensure!(format!("{error:#}").contains(says), "{error:#}");
    }
    let gitops = scene.requests(User::Gitops).await?;
    forbidden(
        create(&gitops, &urgent("git", "Critical")).await,
        "may not expedite",
    )?;

    // High is what the category stands for; it is no emergency, for nobody.
    create(&eve, &urgent("high", "High")).await?;
    scene.approve("high", User::Approver).await?;
    scene.wait_for("high", "Frozen").await?;
    wrote_nothing(&scene)?;

    create(&eve, &urgent("critical", "Critical")).await?;
    // It still needs somebody else.
    let plan = scene.plan("critical").await?;
    ensure!(plan.rules.expedited && plan.rules.four_eyes());
    settle(&scene, "later").await?;
    ensure_writes(&scene, 0)?;
    scene.approve("critical", User::Approver).await?;
    ends(
        &scene,
        "critical",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure_writes(&scene, 1)
}

#[tokio::test]
async fn who_may_not_call_it_any_more_has_not_called_it() -> Result<()> {
    let scene = scene("frozen-revoked").await?;
    let mut policy = frozen();
    policy["approvals"] = json!({"required": 2});
    scene.policy(policy).await?;
    two_versions(&scene, "api").await?;
    let (eve, binding) = expediter(&scene).await?;
    create(&eve, &urgent(NAME, "Critical")).await?;
    let old = scene.plan(NAME).await?.digest;
    let (anna, omar) = (User::Approver, User::SecondApprover);
    scene.approve(NAME, anna).await?;
    counted(&scene, NAME, &[anna.as_str()]).await?;
    unbind(&scene, &binding).await?;
    wait_until_may(&scene, "eve-expedites", EXPEDITE, false).await?;

    // The second approval makes it look again, if nothing else did, and by then it is another plan under other rules.
    let approve = async |user| {
        let what = "what is published is approved";
        eventually(what, PATIENCE, async || scene.approve(NAME, user).await).await
    };
    approve(omar).await?;
    eventually("the rules are others", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        let plan = status.plan.context("no plan")?;
        ensure!(plan.digest != old && !plan.rules.expedited);
        Ok(())
    })
    .await?;
    for user in [omar, anna] {
        approve(user).await?;
        eventually("it is counted", PATIENCE, async || {
            let approvals = scene.status(NAME).await?.approvals;
            let mine = approvals.iter().any(|a| a.by.username == user.as_str());
            ensure!(mine, "{approvals:?}");
            Ok(())
        })
        .await?;
    }
    scene.wait_for(NAME, "Frozen").await?;
    wrote_nothing(&scene)
}
