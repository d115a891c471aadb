//! One rollback, as each kind of channel tells it.

use anyhow::{Context as _, Result, ensure};
use hmac::{Hmac, KeyInit, Mac};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rollback_api::policy::NotificationEvent;
use rollback_api::{RollbackPolicy, TEST_CHANNEL};
use serde_json::{Value, json};
use sha2::Sha256;
use testkit::scene::PATIENCE;
use testkit::{User, eventually};

use crate::stage::{SIGNING_KEY, Stage, bot, hook, key, kinds};

#[tokio::test]
async fn every_kind_of_channel_tells_the_story_once() -> Result<()> {
    let stage = Stage::new("told").await?;
    stage
        .policy(json!({
            "channels": [
                bot(), hook("hook"),
                {"name": "old-slack", "slack": {"webhook": key("slack-url")}},
                {"name": "teams", "teams": {"webhook": key("teams")}},
                {"name": "pager", "pagerDuty": {"routingKey": key("pagerduty")}},
                {"name": "alerts", "alertmanager": {"urls": [stage.services.url("")]}},
                {"name": "mail", "email": {
                    "server": "127.0.0.1", "port": stage.smtp.port, "tls": "Off",
                    "from": "rollback@broxiva.example", "to": ["team@broxiva.example", "nobody@broxiva.example"],
                }},
            ],
            "links": [{"title": "Grafana", "url": "https://grafana.example/d/x?var-ns={namespace}&var-app={workload}&from={from}"}],
        }))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    stage.taken("/hook", 1).await?;
    stage.scene.approve("api-5xx", User::Approver).await?;
    stage.scene.wait_for_end("api-5xx").await?;
    let kept = stage
        .settled("api-5xx")
        .await
        .with_context(|| controller.log())?;
    ensure!(
        kept.channels.len() == 7
            && kept
                .channels
                .iter()
                .all(|it| it.told.len() == 3 && it.failing.is_none()),
        "{kept:?}"
    );

    let events = stage.services.taken("/hook");
    ensure!(
        kinds(&events) == ["AwaitingApproval", "Begun", "End"],
        "{events:?}"
    );
    for event in &events {
        let signature = event.headers["x-rollback-signature"].to_str()?;
        let (time, signed) = signature
            .strip_prefix("t=")
            .and_then(|it| it.split_once(",v1="))
            .context("no signature")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING_KEY.as_bytes())?;
        mac.update(format!("{time}.{}", event.body).as_bytes());
        mac.verify_slice(&hex::decode(signed)?)?;
        ensure!(event.headers["content-type"] == "application/cloudevents+json");
    }
    let first = events[0].json();
    let command = format!("kubectl rollback approve api-5xx -n {}", stage.scene.ns());
    ensure!(
        first["data"]["todo"]["command"] == command.as_str(),
        "{first}"
    );
    ensure!(
        first["data"]["links"][0]["url"]
            .as_str()
            .is_some_and(|it| it.contains("var-app=api&from=1")),
        "{first}"
    );

    slack(&stage)?;
    ensure!(
        stage
            .services
            .taken("/services/T0/B0/secret-of-the-hook")
            .len()
            == 3
    );
    ensure!(stage.services.taken("/teams").len() == 3);
    let actions: Vec<Value> = stage
        .services
        .taken("/v2/enqueue")
        .iter()
        .map(|it| it.json()["event_action"].clone())
        .collect();
    ensure!(actions == ["trigger", "resolve"], "{actions:?}");
    ensure!(stage.services.taken("/v2/change/enqueue").len() == 2);
    let alerts = stage.services.taken("/api/v2/alerts");
    ensure!(alerts.len() == 2 && alerts[0].json()[0]["labels"] == alerts[1].json()[0]["labels"]);
    mails(&stage)?;
    let metrics = reqwest::get(format!("{}/metrics", controller.metrics_url()))
        .await?
        .text()
        .await?;
    ensure!(
        metrics.contains(r#"rollback_notifications_total{channel="slack",result="Delivered"} 6"#),
        "{metrics}"
    );
    Ok(())
}

/// One message that is kept up to date, with the story in its thread.
fn slack(stage: &Stage) -> Result<()> {
    let posts: Vec<Value> = stage
        .services
        .taken("/api/chat.postMessage")
        .iter()
        .map(super::services::Received::json)
        .collect();
    let updates = stage.services.taken("/api/chat.update");
    let parents: Vec<&Value> = posts
        .iter()
        .filter(|it| it["thread_ts"].is_null())
        .collect();
    ensure!(
        parents.len() == 1 && posts.len() == 3 && updates.len() == 2,
        "{posts:?}"
    );
    ensure!(
        posts.iter().all(|it| it["reply_broadcast"] != true),
        "nothing went wrong, so nobody is called: {posts:?}"
    );
    ensure!(
        updates[1].json()["text"]
            .as_str()
            .is_some_and(|it| it.contains("Succeeded"))
    );
    Ok(())
}

/// One thread, and nobody kept from it by an address that does not exist.
fn mails(stage: &Stage) -> Result<()> {
    let mails = stage.smtp.mails();
    ensure!(
        mails.len() == 3 && mails.iter().all(|it| it.to == ["team@broxiva.example"]),
        "{mails:?}"
    );
    let header = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|it| it.starts_with(name))
            .map(str::to_owned);
        line.context(format!("no {name} in {text}"))
    };
    let threads: Result<Vec<String>> = mails
        .iter()
        .map(|it| header(&it.text, "References: "))
        .collect();
    let threads = threads?;
    ensure!(threads.iter().all(|it| *it == threads[0]));
    let ids: Result<std::collections::BTreeSet<String>> = mails
        .iter()
        .map(|it| header(&it.text, "Message-ID: "))
        .collect();
    ensure!(ids?.len() == 3);
    Ok(())
}

#[tokio::test]
async fn a_namespace_without_channels_tells_nobody_and_its_status_does_not_grow() -> Result<()> {
    let stage = Stage::new("silent").await?;
    stage.two_versions().await?;
    let _controller = stage.start(&[]).await?;
    stage
        .scene
        .roll_back("api-5xx", "api", json!({"previous": {}}))
        .await?;
    let status = serde_json::to_value(stage.scene.status("api-5xx").await?)?;
    ensure!(status.get("notifications").is_none(), "{status}");
    ensure!(stage.services.all().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_channel_gets_what_it_asks_for_and_may_come_later() -> Result<()> {
    let stage = Stage::new("asked").await?;
    stage.two_versions().await?;
    let _controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    stage.scene.plan("api-5xx").await?;
    let all: Vec<&str> = [
        NotificationEvent::Approved,
        NotificationEvent::Progress,
        NotificationEvent::Ended,
    ]
    .map(NotificationEvent::as_str)
    .to_vec();
    let mut some = hook("some");
    some["on"] = json!({"events": all, "results": ["Failed", "Restored"]});
    stage.policy(json!({"channels": [bot(), some]})).await?;
    // What waits is told although it waited before.
    stage.taken("/api/chat.postMessage", 1).await?;
    stage.scene.approve("api-5xx", User::Approver).await?;
    stage.scene.wait_for_end("api-5xx").await?;
    stage.settled("api-5xx").await?;
    let told = kinds(&stage.services.taken("/hook"));
    ensure!(told == ["Approved", "Reverted", "RolledOut"], "{told:?}");
    eventually("nothing more comes", PATIENCE, async || {
        ensure!(stage.kept("api-5xx").await?.settled);
        Ok(())
    })
    .await
}

/// The example of docs/notifications.md is a policy that the API server takes.
#[tokio::test]
async fn the_example_of_the_documentation_is_taken() -> Result<()> {
    let stage = Stage::new("example").await?;
    let page = std::fs::read_to_string(testkit::workspace().join("docs/notifications.md"))?;
    let (_, block) = page
        .split_once("<!-- a test applies this -->\n```yaml\n")
        .context("no example")?;
    let (block, _) = block.split_once("\n```").context("no end")?;
    let policy: Value = serde_saphyr::from_str(block)?;
    stage.scene.policy(policy["spec"].clone()).await?;
    let mut wrong = policy["spec"].clone();
    wrong["notifications"]["escalation"]["levels"][0]["channels"] = json!(["nobody"]);
    let refused = stage
        .scene
        .policy(wrong)
        .await
        .err()
        .context("a level names a channel that there is not")?;
    ensure!(
        format!("{refused:?}").contains("names channels that are in spec.notifications.channels"),
        "{refused:?}"
    );
    Ok(())
}

/// What `kubectl rollback notify test` writes, and what the controller answers.
#[tokio::test]
async fn a_channel_is_tried_when_somebody_asks_for_that() -> Result<()> {
    let stage = Stage::new("tried").await?;
    stage.policy(json!({"channels": [hook("hook"), {"name": "teams", "teams": {"webhook": key("elsewhere")}}]})).await?;
    let controller = stage.start(&[]).await?;
    let client = stage.scene.client(User::Admin).await?;
    let policies: Api<RollbackPolicy> = Api::namespaced(client.clone(), stage.scene.ns());
    let events: Api<Event> = Api::namespaced(client, stage.scene.ns());
    for (channel, reason, says) in [
        (
            "hook",
            "NotificationTested",
            "The channel hook has taken the message",
        ),
        (
            "teams",
            "NotificationFailed",
            "--notify-allow does not name evil.example",
        ),
        (
            "nobody",
            "NotificationFailed",
            "the policy has no channel of this name",
        ),
    ] {
        let asked = format!("{channel}/1");
        let patch = json!({"metadata": {"annotations": {TEST_CHANNEL: asked}}});
        policies
            .patch("default", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let event = eventually("the controller answers", PATIENCE, async || {
            let event = events
                .get_opt(&rollback_core::notify::test_event(&asked))
                .await?;
            event.context("no answer")
        })
        .await
        .with_context(|| controller.log())?;
        ensure!(event.reason.as_deref() == Some(reason), "{event:?}");
        ensure!(
            event.note.as_ref().is_some_and(|it| it.contains(says)),
            "{event:?}"
        );
    }
    let taken = stage.services.taken("/hook");
    ensure!(
        taken.len() == 1 && taken[0].json()["type"] == "com.broxiva.rollback.test.v1",
        "{taken:?}"
    );
    Ok(())
}
