//! Whoever approved may take that back, as long as nothing is written; and may change their mind once more.

use anyhow::{Result, ensure};
use rollback_api::{
    APPROVED_BY, BREAK_GLASS, CHECKLIST, CONFIRM, PLAN, Reason, RequestState, WITHDRAWN_BY,
};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::stage::{
    approval, counted, ends, ensure_writes, forbidden, scene, settle, two_versions,
};

const NAME: &str = "api-5xx";

/// Taking back as it is typed: one's own name, and the approval away.
pub fn taken_back(by: User) -> Value {
    json!({
        WITHDRAWN_BY: by.as_str(), APPROVED_BY: null, CONFIRM: null, PLAN: null,
        CHECKLIST: null, BREAK_GLASS: null,
    })
}

async fn half_approved(name: &str) -> Result<Scene> {
    let scene = scene(name).await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.approve(NAME, User::Approver).await?;
    counted(&scene, NAME, &[User::Approver.as_str()]).await?;
    Ok(scene)
}

#[tokio::test]
async fn an_approval_that_was_taken_back_does_not_count() -> Result<()> {
    let scene = half_approved("withdrawn").await?;
    let (anna, omar) = (User::Approver, User::SecondApprover);
    scene.annotate(NAME, anna, taken_back(anna)).await?;
    counted(&scene, NAME, &[]).await?;

    scene.approve(NAME, omar).await?;
    counted(&scene, NAME, &[omar.as_str()]).await?;
    settle(&scene, "later").await?;
    ensure_writes(&scene, 0)?;

    // While it stands there, she does not approve; taking it away is a second thought.
    let digest = scene.plan(NAME).await?.digest;
    let mut again = approval(anna.as_str(), &digest);
    let still = scene.annotate(NAME, anna, again.clone()).await;
    forbidden(still, "withdrawn-by")?;
    again[WITHDRAWN_BY] = json!(null);
    scene.annotate(NAME, anna, again).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)?;
    let late = scene.annotate(NAME, anna, taken_back(anna)).await;
    forbidden(late, "")
}

#[tokio::test]
async fn nobody_takes_back_for_somebody_else() -> Result<()> {
    let scene = half_approved("not-withdrawn").await?;
    let (anna, omar, rita) = (User::Approver, User::SecondApprover, User::Requester);
    let digest = scene.plan(NAME).await?.digest;
    let mut both = approval(anna.as_str(), &digest);
    both[WITHDRAWN_BY] = json!(anna.as_str());
    // In her name, in one's own without having approved, and beside an approval.
    for (user, notes) in [
        (omar, taken_back(anna)),
        (rita, taken_back(anna)),
        (User::Admin, taken_back(anna)),
        (User::Gitops, taken_back(anna)),
        (omar, taken_back(omar)),
        (rita, taken_back(rita)),
        (anna, both),
    ] {
        let answer = scene.annotate(NAME, user, notes.clone()).await;
        forbidden(answer, "").map_err(|error| error.context(format!("{user:?}: {notes}")))?;
    }
    counted(&scene, NAME, &[anna.as_str()]).await?;
    scene.approve(NAME, omar).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)
}

/// Enough had approved, and only a window held it back.
#[tokio::test]
async fn the_last_approval_is_taken_back_in_time() -> Result<()> {
    let scene = scene("withdrawn-late").await?;
    scene.policy(crate::freeze::frozen()).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let anna = User::Approver;
    scene.approve(NAME, anna).await?;
    scene.wait_for(NAME, "Frozen").await?;
    scene.annotate(NAME, anna, taken_back(anna)).await?;
    eventually("it waits for people again", PATIENCE, async || {
        let status = scene.status(NAME).await?;
        ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
        Ok(())
    })
    .await?;
    scene.wait_for(NAME, "AwaitingApproval").await?;
    ensure_writes(&scene, 0)
}
