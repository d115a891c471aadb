//! The same alert again, or late: one request for each version, and none for a version that the alert is not about.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use testkit::{User, shop};

use super::stage::{Stage, group, over};

/// Alertmanager sends an alert again every few hours, and both of its replicas do.
#[tokio::test]
async fn an_alert_that_is_sent_again_asks_nobody_again() -> Result<()> {
    let mut stage = Stage::new("again").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(std::slice::from_ref(&source)).await?;
    let body = group(&[stage.alert("HighErrorRate")]);
    let first = stage.deliver("prometheus", &body).await?;
    first.is("asked")?;
    let again = stage.deliver("prometheus", &body).await?;
    again.is("already-asked")?;
    ensure!(
        first.request()? == again.request()?,
        "{first:?} and {again:?}"
    );
    // One that remembers nothing finds the request by its name.
    stage.start(&[source]).await?;
    let forgotten = stage.deliver("prometheus", &body).await?;
    forgotten.is("already-asked")?;
    ensure!(
        first.request()? == forgotten.request()?,
        "{first:?} and {forgotten:?}"
    );
    stage.only_request().await?;
    Ok(())
}

#[tokio::test]
async fn twins_that_send_at_the_same_moment_ask_once() -> Result<()> {
    let mut stage = Stage::new("twins").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(std::slice::from_ref(&source)).await?;
    let other = stage.spawn(&[source], &[]).await?;
    let bodies: Vec<String> = (0..10)
        .map(|number| {
            let mut alert = stage.alert("HighErrorRate");
            alert["fingerprint"] = json!(format!("{number:016x}"));
            group(&[alert]).to_string()
        })
        .collect();
    let urls = [stage.receiver()?.url("prometheus"), other.url("prometheus")];
    let password = super::stage::password();
    let header = [("authorization", password.as_str())];
    let sent = bodies
        .iter()
        .flat_map(|body| urls.iter().map(move |url| (url, body)))
        .map(|(url, body)| super::stage::post(url, &header, body.clone()));
    let answers = try_join_all(sent).await?;
    let asked = answers.iter().filter(|it| it.outcome() == "asked").count();
    let known = answers
        .iter()
        .filter(|it| it.outcome() == "already-asked")
        .count();
    ensure!(asked == 1 && known == answers.len() - 1, "{answers:?}");
    stage.only_request().await?;
    Ok(())
}

/// What began before the version that is live is not its fault.
#[tokio::test]
async fn an_alert_that_comes_late_does_not_hit_the_next_version() -> Result<()> {
    let mut stage = Stage::new("late").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let mut old = stage.alert("HighErrorRate");
    old["startsAt"] = json!((Timestamp::now() - SignedDuration::from_mins(10)).to_string());
    let answer = stage.deliver("prometheus", &group(&[old])).await?;
    answer.is("stale")?;
    let message = answer.body["alerts"][0]["message"]
        .as_str()
        .unwrap_or_default();
    ensure!(message.contains("live since"), "{answer:?}");

    let alert = stage.alert("HighErrorRate");
    // So that the next version is from a later second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    stage
        .scene
        .deploy(shop::deployment("api").version("v3"))
        .await?;
    stage
        .deliver("prometheus", &group(&[alert]))
        .await?
        .is("stale")?;
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");

    // An alert from the future is one of now, and no newer than what it is about.
    let mut ahead = stage.alert("HighErrorRate");
    ahead["startsAt"] = json!((Timestamp::now() + SignedDuration::from_hours(24)).to_string());
    stage
        .deliver("prometheus", &group(&[ahead]))
        .await?
        .is("asked")?;
    let request = stage.only_request().await?;
    let trigger = request.spec.trigger.clone();
    ensure!(
        trigger.is_some_and(|it| it.started_at <= Timestamp::now()),
        "{:?}",
        request.spec
    );
    Ok(())
}

/// A version that is rolled back to is an old one that has just become live: an alert from before must not hit it.
#[tokio::test]
async fn an_alert_of_before_does_not_hit_what_was_rolled_back_to() -> Result<()> {
    let mut stage = Stage::new("back").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let first = stage
        .deliver("prometheus", &group(&[stage.alert("HighErrorRate")]))
        .await?;
    first.is("asked")?;
    let alert = stage.alert("StillHighErrorRate");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let undo = ["rollout", "undo", "deployment/api", "-n", stage.scene.ns()];
    stage
        .scene
        .cluster
        .kubectl_ok(User::Admin, &undo, "")
        .await?;
    let waits = [
        "rollout",
        "status",
        "deployment/api",
        "-n",
        stage.scene.ns(),
        "--timeout=60s",
    ];
    stage
        .scene
        .cluster
        .kubectl_ok(User::Admin, &waits, "")
        .await?;
    stage
        .deliver("prometheus", &group(&[alert]))
        .await?
        .is("stale")?;
    stage.only_request().await?;
    // What is wrong with it later is another matter.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let second = stage
        .deliver("prometheus", &group(&[stage.alert("HighErrorRate")]))
        .await?;
    second.is("asked")?;
    ensure!(
        first.request()? != second.request()?,
        "{first:?} and {second:?}"
    );
    Ok(())
}

/// An alert that was over and fires again is not one that was sent before, even if its sender knows it by the same id: it is
/// looked at anew.
#[tokio::test]
async fn an_alert_that_is_over_may_fire_again() -> Result<()> {
    let mut stage = Stage::new("refire").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let alert = stage.alert("HighErrorRate");
    let firing = group(std::slice::from_ref(&alert));
    stage.deliver("prometheus", &firing).await?.is("asked")?;
    let message = async || {
        let answer = stage.deliver("prometheus", &firing).await?;
        answer.is("already-asked")?;
        let message = answer.body["alerts"][0]["message"].as_str();
        anyhow::Ok(message.unwrap_or_default().to_owned())
    };
    ensure!(
        message().await? == "it was sent before",
        "it was looked at anew"
    );
    let resolved = group(&[over(alert)]);
    stage
        .deliver("prometheus", &resolved)
        .await?
        .is("resolved")?;
    let anew = message().await?;
    ensure!(anew == "this version has a request already", "{anew}");
    Ok(())
}
