//! Several requests for one Deployment: one at a time, and whoever loses says who won.
//!
//! The first one is stopped at a known request to the API server; the test lets it go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use rollback_api::{Reason, RequestState, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use serde_json::{Value, json};
use testkit::proxy::{Fault, Mutation, Point, Proxy};
use testkit::scene::{PATIENCE, ready, request};
use testkit::{Scene, User, eventually};
use tokio::sync::Notify;

use crate::stage::{
    APP, deploy_all, ends, ensure_reverts, image_of, is_backup, is_revert, progress, says_all,
    scene_behind_proxy,
};

/// The less urgent request, and the more urgent one.
pub const FIRST: &str = "first";
pub const SECOND: &str = "second";

/// A request of the controller that waits until the test lets it go on.
pub struct Held(Arc<Notify>);

impl Held {
    /// The next request that the filter accepts is held, and then goes on as if nothing had happened
    /// or, when the point says so, does not.
    pub fn arm(
        proxy: &Proxy,
        point: Point,
        filter: impl Fn(&Mutation) -> bool + Send + 'static,
    ) -> Self {
        let gate = Arc::new(Notify::new());
        let held = Arc::clone(&gate);
        let wait = move || async move { held.notified().await };
        proxy.arm(Fault::new(1, point).only(filter).run_async(wait));
        Self(gate)
    }

    /// Waits until it is there.
    pub async fn caught(&self, proxy: &Proxy, count: usize) -> Result<()> {
        eventually("the request is held", PATIENCE, async || {
            ensure!(proxy.fired() == count, "{} were held", proxy.fired());
            Ok(())
        })
        .await
    }

    /// Lets it go on.
    pub fn release(self) {
        self.0.notify_one();
    }
}

/// Three versions, a controller behind a proxy, and two requests with plans: the first for revision 1,
/// the second, of this category, for what it asks for.
pub async fn two_requests(name: &str, category: &str, to: Value) -> Result<(Scene, Proxy)> {
    let (scene, proxy) = scene_behind_proxy(name).await?;
    deploy_all(&scene, &["v1", "v2", "v3"]).await?;
    scene.ask(FIRST, APP, json!({"revision": 1})).await?;
    let mut second = request(SECOND, json!([{"name": APP, "to": to}]));
    second["spec"]["reason"]["category"] = json!(category);
    scene.ask_for(second).await?;
    for name in [FIRST, SECOND] {
        scene.plan(name).await?;
    }
    Ok((scene, proxy))
}

/// Who holds the Deployment.
pub async fn holder(scene: &Scene) -> Result<Option<String>> {
    let client = scene.client(User::Admin).await?;
    let ledgers: kube::Api<RevisionLedger> = kube::Api::namespaced(client, scene.ns());
    let ledger = ledgers
        .get_opt(&ledger::name(WorkloadKind::Deployment, APP))
        .await?;
    Ok(ledger
        .and_then(|ledger| ledger.spec.claim)
        .map(|claim| claim.request))
}

/// Waits until the request says that it waits for the other one.
pub async fn waits_for(scene: &Scene, name: &str, other: &str) -> Result<()> {
    eventually(&format!("{name} waits for {other}"), PATIENCE, async || {
        let (state, message) = ready(&scene.request(name).await?);
        ensure!(state == "BackingUp", "it is {state}: {message}");
        says_all(&message, &[&format!("Waiting for RollbackRequest {other}")])
    })
    .await
}

/// The loser ended without having written anything, and names the winner.
pub async fn loses(scene: &Scene, name: &str, winner: &str) -> Result<()> {
    let (request, outcome) = ends(
        scene,
        name,
        RequestState::Superseded,
        Reason::RolledBackByAnother,
    )
    .await?;
    says_all(
        &outcome.message,
        &[&format!("RollbackRequest {winner} rolled Deployment {APP}")],
    )?;
    ensure!(progress(&request)?.reverted_at.is_none(), "it wrote");
    Ok(())
}

/// Waits for the write alone: the controller gives up a request that is held for long.
async fn writes(scene: &Scene, tag: &str) -> Result<()> {
    let image = image_of(tag.trim_start_matches(':'));
    let has = |deployment: &Value| {
        let live = deployment.pointer("/spec/template/spec/containers/0/image");
        live == Some(&json!(image))
    };
    scene.wait_for_deployment(APP, has).await.map(|_| ())
}

async fn wins(scene: &Scene, name: &str, tag: &str) -> Result<()> {
    ends(scene, name, RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(
        scene.image(APP).await?.ends_with(tag),
        "{}",
        scene.image(APP).await?
    );
    ensure_reverts(scene, 1)
}

#[tokio::test]
async fn equally_urgent_ones_take_turns() -> Result<()> {
    let (scene, proxy) = two_requests("turns", "ErrorRate", json!({"revision": 2})).await?;
    let held = Held::arm(&proxy, Point::Aside, is_backup);
    scene.approve(FIRST, User::Approver).await?;
    held.caught(&proxy, 1).await?;
    scene.approve(SECOND, User::Approver).await?;
    waits_for(&scene, SECOND, FIRST).await?;
    assert_eq!(holder(&scene).await?.as_deref(), Some(FIRST));
    held.release();
    wins(&scene, FIRST, ":v1").await?;
    loses(&scene, SECOND, FIRST).await
}

/// Two that want the same: the second one finds it done, and by whom.
#[tokio::test]
async fn who_wanted_the_same_has_it() -> Result<()> {
    let (scene, proxy) = two_requests("same", "ErrorRate", json!({"revision": 1})).await?;
    let held = Held::arm(&proxy, Point::Aside, is_backup);
    scene.approve(FIRST, User::Approver).await?;
    held.caught(&proxy, 1).await?;
    scene.approve(SECOND, User::Approver).await?;
    waits_for(&scene, SECOND, FIRST).await?;
    held.release();
    wins(&scene, FIRST, ":v1").await?;
    let end = ends(
        &scene,
        SECOND,
        RequestState::Superseded,
        Reason::RolledBackByAnother,
    )
    .await;
    let (_, outcome) = end?;
    says_all(
        &outcome.message,
        &["RollbackRequest first was faster", "Nothing was changed"],
    )
}

/// The first one has the claim and is about to save the Deployment.
#[tokio::test]
async fn a_more_urgent_one_takes_over_before_the_backup() -> Result<()> {
    let (scene, proxy) = two_requests("takeover", "Security", json!({"revision": 2})).await?;
    let held = Held::arm(&proxy, Point::Aside, is_backup);
    scene.approve(FIRST, User::Approver).await?;
    held.caught(&proxy, 1).await?;
    assert_eq!(holder(&scene).await?.as_deref(), Some(FIRST));
    scene.approve(SECOND, User::Approver).await?;
    writes(&scene, ":v2").await?;
    held.release();
    wins(&scene, SECOND, ":v2").await?;
    loses(&scene, FIRST, SECOND).await?;
    ensure_reverts(&scene, 1)
}

/// Accepts the status with which the first one stores its intent: the one after its backup.
fn is_first_intent() -> impl Fn(&Mutation) -> bool + Send + 'static {
    let saved = AtomicBool::new(false);
    move |mutation: &Mutation| {
        if is_backup(mutation) {
            saved.store(true, Ordering::Relaxed);
        }
        let of_first = mutation
            .path
            .ends_with(&format!("/rollbackrequests/{FIRST}/status"));
        of_first && saved.load(Ordering::Relaxed)
    }
}

/// As late as can be: the first one has looked for the last time and stores its intent, and before
/// that arrives the second one has taken over and written. The precondition of the write decides.
#[tokio::test]
async fn a_more_urgent_one_takes_over_at_the_last_moment() -> Result<()> {
    let (scene, proxy) = two_requests("last-moment", "Security", json!({"revision": 2})).await?;
    let held = Held::arm(&proxy, Point::Aside, is_first_intent());
    scene.approve(FIRST, User::Approver).await?;
    held.caught(&proxy, 1).await?;
    scene.approve(SECOND, User::Approver).await?;
    writes(&scene, ":v2").await?;
    held.release();
    wins(&scene, SECOND, ":v2").await?;
    loses(&scene, FIRST, SECOND).await?;
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    ensure_reverts(&scene, 1)
}

/// The intent is stored and the write is on its way: nobody takes over any more.
#[tokio::test]
async fn nobody_takes_over_once_the_intent_is_stored() -> Result<()> {
    let (scene, proxy) = two_requests("committed", "Security", json!({"revision": 2})).await?;
    let held = Held::arm(&proxy, Point::Aside, is_revert);
    scene.approve(FIRST, User::Approver).await?;
    held.caught(&proxy, 1).await?;
    scene.approve(SECOND, User::Approver).await?;
    waits_for(&scene, SECOND, FIRST).await?;
    assert_eq!(holder(&scene).await?.as_deref(), Some(FIRST));
    held.release();
    wins(&scene, FIRST, ":v1").await?;
    loses(&scene, SECOND, FIRST).await
}
