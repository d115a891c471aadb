//! The gate for the data: it blocks until an approver accepts the risk in words, and that is recorded.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use rollback_api::status::{Plan, RiskKind};
use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, CHECKLIST, CONFIRM, PLAN, Reason, RequestState, RollbackRequest,
};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, PRODUCTION, ready};
use testkit::{Scene, User, eventually, shop};

use crate::stage::{ends, roll_back, scene};

const NAME: &str = "api-5xx";
const WHY: &str = "v1 leaves the new column empty, and nobody reads it";
const OLD: &str = "registry.broxiva.example/api:v1";
const BAD: &str = "registry.broxiva.example/api:v2";

/// Two versions of `api`, which say this of their data: the one that runs, and the one before.
async fn two(scene: &Scene, now: &[(&str, &str)], then: &[(&str, &str)]) -> Result<()> {
    for (version, said) in [("v1", then), ("v2", now)] {
        let mut app = shop::deployment("api").version(version).replicas(1);
        for (key, value) in said {
            app = app.template_annotation(&format!("rollback.broxiva.com/{key}"), value);
        }
        scene.deploy(app).await?;
    }
    Ok(())
}

/// Asks, and waits until the request is blocked: its plan, and its message.
async fn blocked(scene: &Scene) -> Result<(Plan, String)> {
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let request = scene.wait_for(NAME, "Blocked").await?;
    let (_, message) = ready(&request);
    Ok((plan_of(request)?, message))
}

fn plan_of(request: RollbackRequest) -> Result<Plan> {
    let plan = request.status.and_then(|status| status.plan);
    plan.context("no plan")
}

/// An approval of this plan that ticks everything, and accepts the risk with these words.
fn approval(plan: &Plan, why: Option<&str>) -> Value {
    let items = plan.rules.checklist().iter();
    let items: Vec<&str> = items.map(|item| item.name.as_str()).collect();
    let mut approval = json!({
        APPROVED_BY: User::Approver.as_str(), CONFIRM: PRODUCTION,
        PLAN: plan.digest, CHECKLIST: items.join(","),
    });
    if let Some(why) = why {
        approval[ACCEPT_DATA_RISK] = json!(why);
    }
    approval
}

/// Approves like that, which the guard has to refuse for the lack of an acceptance; gives its words.
async fn refused(scene: &Scene, approval: Value) -> Result<String> {
    let answer = scene.annotate(NAME, User::Approver, approval).await;
    let refusal = answer.err().context("it was not refused")?;
    let Some(kube::Error::Api(status)) = refusal.downcast_ref() else {
        anyhow::bail!("another error: {refusal:#}");
    };
    ensure!(
        status.code == 403
            && status.message.contains("rollback-guard-approval")
            && status.message.contains("accept-data-risk"),
        "{status:?}"
    );
    Ok(status.message.clone())
}

/// What the one Event of this reason says.
async fn told(scene: &Scene, reason: &str) -> Result<String> {
    let api: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    eventually(&format!("an Event {reason}"), PATIENCE, async || {
        let events = api.list(&ListParams::default()).await?.items;
        let of_reason = |event: &&Event| event.reason.as_deref() == Some(reason);
        let notes: Vec<_> = events.iter().filter(of_reason).collect();
        ensure!(notes.len() == 1, "{notes:?}");
        notes[0].note.clone().context("it says nothing")
    })
    .await
}

fn says(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn an_irreversible_migration_waits_for_somebody_who_accepts_the_risk() -> Result<()> {
    let scene = scene("gate-irreversible").await?;
    scene
        .policy(json!({"dataGate": {"contact": "#dba-on-call"}}))
        .await?;
    let now = [("schema-version", "7"), ("irreversible-migration", "true")];
    two(&scene, &now, &[("schema-version", "6")]).await?;
    let (plan, message) = blocked(&scene).await?;
    let parts = ["marked irreversible", "Ask #dba-on-call", ACCEPT_DATA_RISK];
    says(&message, &parts)?;
    let risk = plan.data_risk.as_ref().context("no risk in the plan")?;
    ensure!(message.starts_with(&risk.message), "{message}");

    refused(&scene, approval(&plan, None)).await?;
    let words = refused(&scene, approval(&plan, Some("fine"))).await?;
    says(&words, &["it has 4"])?;
    ensure!(scene.image("api").await? == BAD, "it was written");
    ensure!(scene.status(NAME).await?.approvals.is_empty());

    scene
        .annotate(NAME, User::Approver, approval(&plan, Some(WHY)))
        .await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(scene.image("api").await? == OLD);
    let status = scene.status(NAME).await?;
    let [counted] = status.approvals.as_slice() else {
        anyhow::bail!("{:?}", status.approvals);
    };
    let who = User::Approver.as_str();
    ensure!(
        counted.accepts_data_risk.as_deref() == Some(WHY) && counted.by.username == who,
        "{counted:?}"
    );
    says(&told(&scene, "DataRiskAccepted").await?, &[who, WHY])?;
    let incidents = scene.artifacts("incident", NAME).await?;
    ensure!(incidents.len() == 1, "{} reports", incidents.len());
    for (name, text) in incidents[0].data.iter().flatten() {
        says(text, &[WHY, who, "marked irreversible"]).with_context(|| name.clone())?;
    }
    Ok(())
}

#[tokio::test]
async fn what_nobody_knows_blocks_where_the_policy_wants_to_know() -> Result<()> {
    let scene = scene("gate-unknown").await?;
    scene
        .policy(json!({"dataGate": {"unknown": "Block"}}))
        .await?;
    two(&scene, &[], &[]).await?;
    let (plan, message) = blocked(&scene).await?;
    let parts = [
        "Neither version says which schema",
        "(dataGate.unknown)",
        "The policy names nobody who knows the data",
    ];
    says(&message, &parts)?;
    refused(&scene, approval(&plan, None)).await?;
    scene
        .annotate(NAME, User::Approver, approval(&plan, Some(WHY)))
        .await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    Ok(())
}

#[tokio::test]
async fn what_nobody_knows_is_told_and_goes_on_where_the_policy_allows_it() -> Result<()> {
    let scene = scene("gate-allow").await?;
    scene
        .policy(json!({"dataGate": {"unknown": "Allow"}}))
        .await?;
    two(&scene, &[("schema-version", "7")], &[]).await?;
    roll_back(&scene, NAME).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    let plan = plan_of(scene.request(NAME).await?)?;
    ensure!(plan.data_risk.is_none(), "{:?}", plan.data_risk);
    let risks = &plan.targets[0].risks;
    let schema = risks.iter().find(|risk| risk.kind == RiskKind::DataSchema);
    let schema = schema.context("it is not told")?;
    ensure!(!schema.blocks, "{schema:?}");
    says(&schema.message, &["schema 7", "is not known"])?;
    let approvals = scene.status(NAME).await?.approvals;
    ensure!(
        approvals.iter().all(|one| one.accepts_data_risk.is_none()),
        "{approvals:?}"
    );
    Ok(())
}
