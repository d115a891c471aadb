//! HTTP checks of the old version: who is asked, what counts as well, and what is never done.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rollback_api::status::CheckStatus;
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::expect::{End, PROGRAM, scene};

const PATH: &str = "/health/ready";

/// A Deployment whose version `v1` is `old` and whose version `v2`, which is bad, is `new`.
struct Shop {
    scene: Scene,
    old: HealthServer,
    new: HealthServer,
}

impl Shop {
    /// Deploys both, under a policy with one check that has these settings.
    async fn open(scene: Scene, timeout: u32, settings: Value) -> Result<Self> {
        let (old, new) = (HealthServer::start().await?, HealthServer::start().await?);
        let mut check = json!({
            "name": "ready", "port": HEALTH_PORT, "path": PATH, "periodSeconds": 1, "timeoutSeconds": 1,
        });
        if let (Some(check), Value::Object(settings)) = (check.as_object_mut(), settings) {
            check.extend(settings);
        }
        scene
            .policy(json!({"verification": {"timeoutSeconds": timeout, "http": [check]}}))
            .await?;
        let version = |version: &str, pods: &HealthServer| {
            shop::deployment("api").version(version).pod_ip(&pods.ip())
        };
        scene.deploy(version("v1", &old)).await?;
        scene.deploy(version("v2", &new)).await?;
        Ok(Self { scene, old, new })
    }

    async fn roll_back(&self) -> Result<()> {
        let to = json!({"previous": {}});
        self.scene.ask("api-5xx", "api", to).await?;
        self.scene.approve("api-5xx", User::Approver).await
    }

    async fn check(&self) -> Result<CheckStatus> {
        let status = self.scene.status("api-5xx").await?;
        let target = status.targets.into_iter().next().context("no target")?;
        let checks = target.verification.context("no checks yet")?.checks;
        checks.into_iter().next().context("no check")
    }

    /// Waits until the check stands like this.
    async fn wait(&self, what: &str, stands: impl Fn(&CheckStatus) -> bool) -> Result<()> {
        eventually(what, PATIENCE, async || {
            let check = self.check().await?;
            ensure!(stands(&check), "{check:?}");
            Ok(())
        })
        .await
    }

    /// The request ends because the old version does not pass, and says this.
    async fn fails(&self, says: &[&str]) -> Result<()> {
        End::badly(RequestState::Failed, Reason::ChecksFailed)
            .saying(says)
            .check(&self.scene, "api-5xx")
            .await?;
        Ok(())
    }
}

#[tokio::test]
async fn the_new_pods_are_asked_and_nobody_else() -> Result<()> {
    let shop = Shop::open(scene("check-pass").await?, 60, json!({})).await?;
    shop.roll_back().await?;
    End::well(Reason::RolledBack)
        .check(&shop.scene, "api-5xx")
        .await?;
    let paths = shop.old.paths();
    // Two pods, two rounds in a row, one address.
    ensure!(paths.len() == 4, "asked {} times", paths.len());
    ensure!(paths.iter().all(|path| path == PATH), "{paths:?}");
    // The bad version is asked once, while the plan is made, and never again.
    ensure!(
        shop.new.count() == 2,
        "the bad version was asked {} times",
        shop.new.count()
    );
    let target = shop
        .scene
        .status("api-5xx")
        .await?
        .targets
        .into_iter()
        .next();
    let before = target.context("no target")?.before;
    ensure!(
        before.len() == 1 && before[0].result == "2 of 2 pods answered 200",
        "{before:?}"
    );
    let check = shop.check().await?;
    ensure!(
        check.last_result == "2 of 2 pods answered 200" && check.rounds == 2,
        "{check:?}"
    );
    Ok(())
}

#[tokio::test]
async fn one_bad_round_begins_the_count_again() -> Result<()> {
    let settings = json!({"consecutiveSuccesses": 5});
    let shop = Shop::open(scene("check-recover").await?, 120, settings).await?;
    shop.old.answer(Answer::status(500));
    shop.roll_back().await?;
    shop.wait("the first round was bad", |check| {
        check.consecutive_successes == 0
            && check.last_result.contains("answered 500 instead of 200")
    })
    .await?;
    let request = shop.scene.wait_for("api-5xx", "Verifying").await?;
    let (_, message) = testkit::scene::ready(&request);
    ensure!(message.contains("0 of 5 good rounds in a row"), "{message}");
    shop.old.answer(Answer::healthy());
    shop.wait("a round was good", |check| check.consecutive_successes > 0)
        .await?;
    shop.old.answer(Answer::status(503));
    shop.wait("the count began again", |check| {
        check.consecutive_successes == 0
            && check.last_result.contains("answered 503 instead of 200")
    })
    .await?;
    shop.old.answer(Answer::healthy());
    End::well(Reason::RolledBack)
        .check(&shop.scene, "api-5xx")
        .await?;
    let check = shop.check().await?;
    ensure!(
        check.consecutive_successes == 5 && check.rounds >= 8,
        "{check:?}"
    );
    Ok(())
}

#[tokio::test]
async fn another_status_than_the_expected_one_is_not_well() -> Result<()> {
    let settings = json!({"expectedStatus": 204});
    let shop = Shop::open(scene("check-status").await?, 2, settings).await?;
    shop.roll_back().await?;
    shop.fails(&["2 of 2 pods did not answer well", "200 instead of 204"])
        .await
}

#[tokio::test]
async fn redirects_are_not_followed() -> Result<()> {
    let shop = Shop::open(scene("check-redirect").await?, 2, json!({})).await?;
    let elsewhere = format!("http://{}:{HEALTH_PORT}/elsewhere", shop.new.ip());
    shop.old.answer(Answer::redirect(&elsewhere));
    shop.roll_back().await?;
    shop.fails(&["answered 302 instead of 200"]).await?;
    ensure!(shop.old.count() > 0, "nobody was asked");
    let followed = shop.new.paths().iter().any(|path| path == "/elsewhere");
    ensure!(!followed, "the redirect was followed");
    Ok(())
}

#[tokio::test]
async fn a_slow_answer_is_no_answer() -> Result<()> {
    let shop = Shop::open(scene("check-slow").await?, 3, json!({})).await?;
    shop.old
        .answer(Answer::healthy().after(Duration::from_secs(20)));
    shop.roll_back().await?;
    shop.fails(&["no answer in time"]).await
}

#[tokio::test]
async fn a_pod_that_does_not_listen_is_not_well() -> Result<()> {
    let settings = json!({"port": 9});
    let shop = Shop::open(scene("check-closed").await?, 2, settings).await?;
    shop.roll_back().await?;
    shop.fails(&["connection refused or unreachable"]).await
}

/// The administrator's flag decides what a check may reach, and nothing in the namespace does.
#[tokio::test]
async fn a_network_that_is_not_allowed_is_not_reached() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "check-network").await?;
    // The whole internet does not contain the machine itself.
    let controller = scene.spawn(&["--probe-networks", "0.0.0.0/0,10.0.0.0/8"])?;
    controller.ready().await?;
    scene.controller = Some(controller);
    let shop = Shop::open(scene, 2, json!({})).await?;
    shop.roll_back().await?;
    // Nobody was asked, so nobody knows.
    End::badly(RequestState::Failed, Reason::HealthUnknown)
        .saying(&["is outside the networks that --probe-networks allows"])
        .check(&shop.scene, "api-5xx")
        .await?;
    ensure!(shop.old.count() == 0, "it was asked all the same");
    ensure!(shop.new.count() == 0, "the bad version was asked");
    Ok(())
}
