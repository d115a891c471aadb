//! Breaking the glass: one person alone, past every other rule, where the policy lets that be; and everybody hears of it.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rollback_api::{BREAK_GLASS, BREAK_GLASS_LABEL, CHECKLIST, Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, ready, request};
use testkit::{Scene, User, eventually};

use crate::boundary_change::{Change, Hands};
use crate::poison_check::{is_inert, is_tame};
use crate::stage::{
    PATCH, annotate, approval, bind, create, ends, ensure_writes, forbidden, requests_of, scene,
    two_versions, unbind, wait_until_may,
};

const NAME: &str = "api-5xx";
const GRETA: &str = "greta-glass";
const VERB: &str = "break-glass rollbackrequests/break-glass.rollback.broxiva.com";
const WHY: &str = "Everybody else is asleep and the shop is down";

/// Greta may ask, and may break the glass; she is no approver. Gives the binding that lets her.
async fn greta(scene: &Scene) -> Result<String> {
    bind(scene, "rollback-requester", &[GRETA]).await?;
    bind(scene, "edit", &[GRETA]).await?;
    let binding = bind(scene, "rollback-break-glass", &[GRETA]).await?;
    wait_until_may(scene, GRETA, PATCH, true).await?;
    wait_until_may(scene, GRETA, VERB, true).await?;
    Ok(binding)
}

/// Alone, for this reason, and without ticking anything.
fn alone(by: &str, digest: &str, why: &str) -> Value {
    let mut notes = approval(by, digest);
    notes[CHECKLIST] = json!(null);
    notes[BREAK_GLASS] = json!(why);
    notes
}

/// Two approvals, a window that is always open; and whether the glass may be broken.
fn policy(may: bool) -> Value {
    let mut policy = crate::freeze::frozen();
    policy["approvals"] = json!({"required": 2, "breakGlass": may});
    policy
}

async fn asked(scene: &Scene) -> Result<String> {
    let api = requests_of(scene, GRETA).await?;
    let targets = json!([{"name": "api", "to": {"previous": {}}}]);
    create(&api, &request(NAME, targets)).await?;
    Ok(scene.plan(NAME).await?.digest)
}

#[tokio::test]
async fn alone_with_the_policys_leave_and_everybody_hears_of_it() -> Result<()> {
    let scene = scene("glass").await?;
    scene.policy(policy(true)).await?;
    two_versions(&scene, "api").await?;
    greta(&scene).await?;
    let digest = asked(&scene).await?;
    let api = requests_of(&scene, GRETA).await?;
    let why = format!("{WHY} <b>[now](https://evil.example)</b> | \u{202e}x");
    let terminal = format!("{WHY} \u{1b}[31m");
    let lines = format!("{WHY}\nand more");
    for bad in ["too short", "         short         ", &terminal, &lines] {
        let typed = annotate(&api, NAME, &alone(GRETA, &digest, bad)).await;
        forbidden(typed.map_err(Into::into), "10 to 1000 characters")?;
    }
    annotate(&api, NAME, &alone(GRETA, &digest, &why)).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)?;

    let request = scene.request(NAME).await?;
    let status = request.status.clone().unwrap_or_default();
    let [only] = status.approvals.as_slice() else {
        anyhow::bail!("{:?}", status.approvals);
    };
    let kept = only.break_glass.clone().unwrap_or_default();
    ensure!(
        only.by.username == GRETA && kept.starts_with(WHY),
        "{only:?}"
    );
    let incidents = scene.artifacts("incident", NAME).await?;
    let incident = incidents.first().context("no report")?;
    ensure!(
        incident.labels().contains_key(BREAK_GLASS_LABEL),
        "no label"
    );
    let data = incident.data.clone().unwrap_or_default();
    let page = data.values().find(|text| text.starts_with('#'));
    let page = page.context("no page")?;
    for part in ["The glass was broken", WHY, "alone and past the rules"] {
        ensure!(page.contains(part), "{part:?} is not in {page}");
    }
    is_tame(page)?;
    heard(&scene, request.uid()).await
}

async fn heard(scene: &Scene, uid: Option<String>) -> Result<()> {
    let api: Api<Event> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    eventually("an Event warns of it", PATIENCE, async || {
        let events = api.list(&ListParams::default()).await?.items;
        let told = events.iter().find(|event| {
            let about = event.regarding.as_ref();
            event.reason.as_deref() == Some("BreakGlass")
                && about.is_some_and(|about| about.uid == uid)
        });
        let told = told.context("no such Event")?;
        let note = told.note.clone().unwrap_or_default();
        ensure!(told.type_.as_deref() == Some("Warning"), "{told:?}");
        ensure!(note.contains(WHY) && note.contains(GRETA), "{note}");
        is_inert(&note, false)
    })
    .await
}

#[tokio::test]
async fn not_without_the_policys_leave_and_not_by_everybody() -> Result<()> {
    let scene = scene("glass-whole").await?;
    scene.policy(policy(false)).await?;
    two_versions(&scene, "api").await?;
    greta(&scene).await?;
    let digest = asked(&scene).await?;
    let api = requests_of(&scene, GRETA).await?;
    let typed = annotate(&api, NAME, &alone(GRETA, &digest, WHY)).await;
    forbidden(typed.map_err(Into::into), "breakGlass")?;
    // With leave it takes the verb: an approver has not got it by being one.
    scene.policy(policy(true)).await?;
    let digest = eventually("the rules are others", PATIENCE, async || {
        let plan = scene.status(NAME).await?.plan.context("no plan")?;
        ensure!(plan.digest != digest, "the digest is the old one");
        Ok(plan.digest)
    })
    .await?;
    for user in [User::Approver, User::Requester] {
        let notes = alone(user.as_str(), &digest, WHY);
        forbidden(scene.annotate(NAME, user, notes).await, "break")?;
    }
    // Nor does she approve in the usual way, or for somebody else.
    let usual = annotate(&api, NAME, &approval(GRETA, &digest)).await;
    forbidden(usual.map_err(Into::into), "may not approve")?;
    let other = alone(User::Approver.as_str(), &digest, WHY);
    let other = annotate(&api, NAME, &other).await;
    forbidden(other.map_err(Into::into), "your own user name")?;
    ensure_writes(&scene, 0)
}

/// Another request holds the Deployment meanwhile, and what allowed it is taken away.
#[tokio::test]
async fn who_may_not_break_it_any_more_has_not_broken_it() -> Result<()> {
    let scene = scene("glass-revoked").await?;
    scene.policy(policy(true)).await?;
    two_versions(&scene, "api").await?;
    let binding = greta(&scene).await?;
    let hands = Hands::new(&scene, Change::Claimed, &scene.kubeconfig).await?;
    let hands = hands.with_rival(&scene).await?.at("api");
    hands.note(&scene.deployment("api").await?)?;
    hands.claim().await?;
    let digest = asked(&scene).await?;
    let api = requests_of(&scene, GRETA).await?;
    annotate(&api, NAME, &alone(GRETA, &digest, WHY)).await?;
    eventually("it waits for the other one", PATIENCE, async || {
        let (state, message) = ready(&scene.request(NAME).await?);
        let waits = message.contains("Waiting for RollbackRequest rival");
        ensure!(waits, "{state}: {message}");
        Ok(())
    })
    .await?;
    unbind(&scene, &binding).await?;
    wait_until_may(&scene, GRETA, VERB, false).await?;
    let rita = User::Requester;
    let over = json!({rollback_api::CANCELLED_BY: rita.as_str()});
    scene.annotate("rival", rita, over).await?;
    scene.wait_for_end("rival").await?;
    // It looks again when the Deployment changes.
    let news = json!({"metadata": {"annotations": {"testkit.broxiva.com/news": "true"}}});
    scene.patch_deployment("api", news).await?;
    let outcome = ends(&scene, NAME, RequestState::Refused, Reason::Forbidden).await?;
    ensure!(outcome.message.contains("break-glass"), "{outcome:?}");
    ensure_writes(&scene, 0)
}
