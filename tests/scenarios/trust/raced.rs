//! Somebody changes the Deployment whenever the controller is about to write it, so that its write fails each time. Nothing
//! is begun by that, whatever people say meanwhile is heard, and what is written by hand then is not ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use rollback_api::{CANCELLED_BY, DENIED_BY, DENIED_REASON, Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::proxy::{Fault, Mutation, Point, Proxy};
use testkit::scene::{PATIENCE, ready, request};
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually, shop};

use crate::ownership::{NAME, hand, mallory, our_name};
use crate::stage::{PROGRAM, ends, ensure_writes, two_versions};

/// A scene whose controller loses each race for this Deployment until it is told otherwise.
struct Race {
    scene: Scene,
    goes_on: Arc<AtomicBool>,
    _proxy: Proxy,
}

impl Race {
    async fn new(name: &str) -> Result<Self> {
        let (mut scene, proxy) = Scene::behind_proxy(PROGRAM, name).await?;
        let goes_on = Arc::new(AtomicBool::new(true));
        let deployments = shop::api(
            &scene.client(User::Admin).await?,
            scene.ns(),
            "apps/v1",
            "Deployment",
        );
        let is_ours = |mutation: &Mutation| {
            mutation.method == "PATCH"
                && mutation.path.ends_with("/deployments/api")
                && !mutation.dry_run
        };
        for nth in 1..500 {
            let (goes_on, deployments) = (goes_on.clone(), deployments.clone());
            let change = move || async move {
                if goes_on.load(Ordering::SeqCst) {
                    let noise = json!({"metadata": {"annotations": {"noise": nth.to_string()}}});
                    let merge = kube::api::Patch::Merge(&noise);
                    let _ = deployments
                        .patch("api", &kube::api::PatchParams::default(), &merge)
                        .await;
                }
            };
            let fault = Fault::new(nth, Point::Aside)
                .only(is_ours)
                .run_async(change);
            proxy.arm(fault);
        }
        scene.start_controller().await?;
        Ok(Self {
            scene,
            goes_on,
            _proxy: proxy,
        })
    }

    /// Asked and approved; its write was intended, and has failed.
    async fn begun(&self, rollout: Value) -> Result<()> {
        let mut asked = request(NAME, json!([{"name": "api", "to": {"previous": {}}}]));
        asked["spec"]["rollout"] = rollout;
        self.scene.ask_for(asked).await?;
        self.scene.approve(NAME, User::Approver).await?;
        eventually("its write has failed", PATIENCE, async || {
            let asked = self.scene.request(NAME).await?;
            let (_, message) = ready(&asked);
            let says = "changed the Deployment at the same time";
            ensure!(message.contains(says), "{message}");
            Ok(())
        })
        .await
    }

    fn is_over(&self) {
        self.goes_on.store(false, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_denial_and_a_cancellation_are_heard() -> Result<()> {
    let stopped = async |name: &str, who: User, notes: Value, end: (RequestState, Reason)| {
        let race = Race::new(name).await?;
        two_versions(&race.scene, "api").await?;
        race.begun(json!({})).await?;
        race.scene.annotate(NAME, who, notes).await?;
        ends(&race.scene, NAME, end.0, end.1).await?;
        ensure_writes(&race.scene, 0)?;
        ensure!(race.scene.image("api").await?.ends_with(":v2"));
        anyhow::Ok(())
    };
    let (approver, requester) = (User::SecondApprover, User::Requester);
    futures::try_join!(
        stopped(
            "race-denied",
            approver,
            json!({DENIED_BY: approver.as_str(), DENIED_REASON: "not this version"}),
            (RequestState::Denied, Reason::DeniedByApprover),
        ),
        stopped(
            "race-cancelled",
            requester,
            json!({CANCELLED_BY: requester.as_str()}),
            (RequestState::Cancelled, Reason::CancelledByUser),
        ),
    )?;
    Ok(())
}

/// It is rolled back once the race is over. Then it is too late to deny it, and who tries is told.
#[tokio::test]
async fn it_goes_on_when_nobody_is_in_the_way() -> Result<()> {
    let race = Race::new("race-won").await?;
    // The old version hangs while it comes up, so that there is time to deny it too late.
    let patient = |version: &str| {
        shop::deployment("api")
            .version(version)
            .replicas(1)
            .progress_deadline(600)
    };
    let hangs = patient("v1").behaviour(Behaviour::NeverReady);
    race.scene.apply_deployment(hangs).await?;
    race.scene
        .wait_for_deployment("api", |d| d["status"]["updatedReplicas"] == json!(1))
        .await?;
    race.scene.deploy(patient("v2")).await?;
    race.begun(json!({})).await?;
    race.is_over();
    eventually("it is written", PATIENCE, async || {
        let status = race.scene.status(NAME).await?;
        ensure!(status.targets[0].reverted_at.is_some(), "not yet");
        Ok(())
    })
    .await?;
    ensure_writes(&race.scene, 1)?;
    let who = User::SecondApprover;
    let denial = json!({DENIED_BY: who.as_str(), DENIED_REASON: "not this version"});
    let late = race.scene.annotate(NAME, who, denial).await;
    ensure!(
        late.as_ref()
            .is_err_and(|error| format!("{error:#}").contains("It is too late")),
        "{late:?}"
    );
    Ok(())
}

/// The policy asks for more than was given, before anything was written. She then writes what was planned by hand.
#[tokio::test]
async fn what_is_written_after_approvals_became_void_is_hers() -> Result<()> {
    let hers = async |name: &str, on_failure: &str, rollout: Value| {
        let race = Race::new(name).await?;
        let scene = &race.scene;
        mallory(scene, &["api"]).await?;
        let servers = [
            HealthServer::start().await?,
            HealthServer::start().await?,
            HealthServer::start().await?,
        ];
        servers[1].answer(Answer::status(500));
        for (version, server) in ["v1", "v2", "v3"].iter().zip(&servers) {
            let version = shop::deployment("api").version(version).replicas(1);
            scene.deploy(version.pod_ip(&server.ip())).await?;
        }
        let check =
            json!({"name": "live", "port": HEALTH_PORT, "preset": "Live", "periodSeconds": 1});
        let rules = |required: i32, on_failure: &str| {
            json!({
                "approvals": {"required": required},
                "verification": {"timeoutSeconds": 3, "onFailure": on_failure, "http": [check]},
            })
        };
        scene.policy(rules(1, on_failure)).await?;
        race.begun(rollout).await?;
        scene.policy(rules(3, "Escalate")).await?;
        eventually("the approval is void", PATIENCE, async || {
            let status = scene.status(NAME).await?;
            let target = status.targets.first().context("no target")?;
            ensure!(
                status.approvals.is_empty() && target.revert.is_none() && target.begun.is_some(),
                "{target:?}"
            );
            Ok(())
        })
        .await?;
        race.is_over();
        let cause = our_name(scene, NAME).await?;
        hand(scene, "api", "v2", &cause).await?;
        let outcome = ends(scene, NAME, RequestState::Superseded, Reason::NotLive).await?;
        ensure!(
            outcome.message.contains("approvals became void"),
            "{}",
            outcome.message
        );
        ensure_writes(scene, 0)?;
        ensure!(scene.image("api").await?.ends_with(":v2"));
        anyhow::Ok(())
    };
    futures::try_join!(
        hers("race-void-older", "TryOlder", json!({})),
        hers(
            "race-void-back",
            "Escalate",
            json!({"onFailure": "Restore"})
        ),
    )?;
    Ok(())
}
