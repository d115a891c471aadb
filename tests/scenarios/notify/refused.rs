//! What services say besides yes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rollback_api::status::DeliveryResult;
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{User, eventually};

use crate::services::Fault;
use crate::stage::{Stage, bot, hook, key, kinds};

const POST: &str = "/api/chat.postMessage";

#[tokio::test]
async fn slack_says_no_with_200_and_what_it_refuses_is_not_sent_again() -> Result<()> {
    let stage = Stage::new("refused").await?;
    stage
        .policy(json!({"channels": [bot(), hook("hook")]}))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.services.fail(POST, Fault::slack("invalid_blocks"));
    stage.ask("api-5xx").await?;
    let kept = eventually("it is refused", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        let slack = kept.channels.into_iter().find(|it| it.name == "slack");
        let slack = slack.context("nothing of Slack")?;
        ensure!(slack.failing.is_some(), "{slack:?}");
        Ok(slack)
    })
    .await
    .with_context(|| controller.log())?;
    ensure!(kept.told[0].result == DeliveryResult::Refused, "{kept:?}");
    ensure!(
        kept.failing
            .as_ref()
            .is_some_and(|it| it.message == "Slack answered invalid_blocks"),
        "{kept:?}"
    );
    stage.scene.approve("api-5xx", User::Approver).await?;
    stage.settled("api-5xx").await?;
    // What came after it got through, so it fails no more; what was refused was sent once.
    let kept = stage.kept("api-5xx").await?;
    ensure!(
        kept.channels.iter().all(|it| it.failing.is_none()),
        "{kept:?}"
    );
    ensure!(
        stage
            .services
            .at(POST)
            .iter()
            .filter(|it| !it.taken)
            .count()
            == 1
    );
    Ok(())
}

#[tokio::test]
async fn a_service_that_has_enough_is_left_alone_for_as_long_as_it_says() -> Result<()> {
    let stage = Stage::new("enough").await?;
    stage.policy(json!({"channels": [bot()]})).await?;
    stage.two_versions().await?;
    let _controller = stage.start(&[]).await?;
    stage.services.fail(
        POST,
        Fault {
            status: 429,
            retry_after: Some(3),
            body: String::new(),
        },
    );
    stage.ask("api-5xx").await?;
    eventually("the first is turned away", PATIENCE, async || {
        ensure!(!stage.services.at(POST).is_empty());
        Ok(())
    })
    .await?;
    let turned_away = Instant::now();
    stage.taken(POST, 1).await?;
    let waited = turned_away.elapsed();
    ensure!(waited > Duration::from_millis(2700), "{waited:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_that_somebody_has_deleted_is_posted_anew() -> Result<()> {
    let stage = Stage::new("deleted").await?;
    stage.policy(json!({"channels": [bot()]})).await?;
    stage.two_versions().await?;
    let _controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    stage.taken(POST, 1).await?;
    let before = eventually("its name is kept", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        kept.channels
            .into_iter()
            .find_map(|it| it.message)
            .context("no name")
    })
    .await?;
    stage.services.delete_slack_messages();
    stage.scene.approve("api-5xx", User::Approver).await?;
    stage.settled("api-5xx").await?;
    let posts = stage.services.taken(POST);
    let parents = posts
        .iter()
        .filter(|it| it.json()["thread_ts"].is_null())
        .count();
    ensure!(parents == 2, "{posts:?}");
    let after = stage.kept("api-5xx").await?.channels[0].message.clone();
    ensure!(
        after.as_ref().is_some_and(|it| *it != before),
        "{before} {after:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_channel_that_fails_for_long_loses_nothing_and_delays_nothing() -> Result<()> {
    let stage = Stage::new("outage").await?;
    stage.policy(json!({"channels": [hook("hook"), {"name": "teams", "teams": {"webhook": key("teams")}}]})).await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.services.break_down("/hook", Fault::status(503));
    stage.ask("api-5xx").await?;
    stage.scene.approve("api-5xx", User::Approver).await?;
    stage.scene.wait_for_end("api-5xx").await?;
    stage
        .taken("/teams", 3)
        .await
        .with_context(|| controller.log())?;
    ensure!(stage.services.taken("/hook").is_empty());
    let kept = eventually("it is said that it fails", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        let hook = kept.channels.iter().find(|it| it.name == "hook").cloned();
        let hook = hook.and_then(|it| it.failing).context("not yet")?;
        ensure!(!kept.settled);
        Ok(hook)
    })
    .await?;
    ensure!(kept.message == "127.0.0.1 answered 503", "{kept:?}");
    stage.services.mend("/hook");
    stage
        .settled("api-5xx")
        .await
        .with_context(|| controller.log())?;
    // What waits for approval is no news any more when it has ended; what happened is.
    let told = kinds(&stage.services.taken("/hook"));
    ensure!(told == ["Begun", "End"], "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_or_is_not_there_is_said_and_read_once_it_is() -> Result<()> {
    let stage = Stage::new("forbidden").await?;
    let url = |secret: &str| json!({"name": secret, "key": "hook"});
    let hook = |secret: &str| json!({"name": secret, "webhook": {"url": url(secret), "signingKey": key("signing")}});
    stage
        .policy(json!({"channels": [hook("foreign"), hook("channels")]}))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    let failing = eventually("it is said", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        kept.channels
            .into_iter()
            .find_map(|it| it.failing)
            .context("nothing fails")
    })
    .await
    .with_context(|| controller.log())?;
    ensure!(
        failing
            .message
            .starts_with("the controller may not read the Secret foreign: grant it the verb get"),
        "{failing:?}"
    );
    stage.taken("/hook", 1).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_to_hosts_and_networks_that_nobody_allowed() -> Result<()> {
    let stage = Stage::new("allowed").await?;
    let hook = |name: &str| json!({"name": name, "webhook": {"url": key(name), "signingKey": key("signing")}});
    stage
        .policy(json!({"channels": [hook("elsewhere"), hook("metadata")]}))
        .await?;
    stage.two_versions().await?;
    // The host of the metadata is allowed by its name, and not by its network.
    let controller = stage
        .start(&["--notify-allow", "http://169.254.169.254"])
        .await?;
    stage.ask("api-5xx").await?;
    let kept = eventually("both are refused", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        let failing: Vec<String> = kept
            .channels
            .into_iter()
            .filter_map(|it| Some(it.failing?.message))
            .collect();
        ensure!(failing.len() == 2, "{failing:?}");
        Ok(failing)
    })
    .await
    .with_context(|| controller.log())?;
    ensure!(
        kept.iter()
            .any(|it| it.contains("--notify-allow does not name evil.example")),
        "{kept:?}"
    );
    ensure!(
        kept.iter()
            .any(|it| it.contains("169.254.169.254, which is neither public")),
        "{kept:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_mail_server_that_asks_to_come_again_gets_it_again() -> Result<()> {
    let stage = Stage::new("greylist").await?;
    stage
        .policy(json!({"channels": [{"name": "mail", "email": {
            "server": "127.0.0.1", "port": stage.smtp.port, "tls": "Off",
            "from": "rollback@broxiva.example", "to": ["team@broxiva.example"],
        }}]}))
        .await?;
    stage.two_versions().await?;
    let _controller = stage.start(&[]).await?;
    stage.smtp.greylist(1);
    stage.ask("api-5xx").await?;
    eventually("the letter is there", PATIENCE, async || {
        ensure!(stage.smtp.mails().len() == 1, "{:?}", stage.smtp.mails());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_message_that_never_gets_through_holds_up_no_other_one() -> Result<()> {
    let stage = Stage::new("poisoned").await?;
    stage.policy(json!({"channels": [hook("hook")]})).await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.services.poison("poison-1", Fault::status(500));
    stage.ask("poison-1").await?;
    eventually("it fails again and again", PATIENCE, async || {
        ensure!(stage.services.at("/hook").len() >= 4);
        Ok(())
    })
    .await
    .with_context(|| controller.log())?;
    stage.ask("api-5xx").await?;
    stage.scene.plan("api-5xx").await?;
    let planned = Instant::now();
    stage
        .taken("/hook", 1)
        .await
        .with_context(|| controller.log())?;
    let waited = planned.elapsed();
    ensure!(waited < Duration::from_secs(5), "{waited:?}");
    Ok(())
}

#[tokio::test]
async fn who_has_a_letter_does_not_get_it_again_because_of_somebody_who_has_to_wait() -> Result<()>
{
    let stage = Stage::new("greylong").await?;
    let people = [
        "ann@broxiva.example",
        "late@broxiva.example",
        "zoe@broxiva.example",
    ];
    stage
        .policy(json!({"channels": [{"name": "mail", "email": {
            "server": "127.0.0.1", "port": stage.smtp.port, "tls": "Off",
            "from": "rollback@broxiva.example", "to": people,
        }}]}))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.smtp.greylist_for_long("late@");
    stage.ask("api-5xx").await?;
    eventually("it is tried again and again", PATIENCE, async || {
        ensure!(stage.smtp.turned_away() >= 3);
        Ok(())
    })
    .await
    .with_context(|| controller.log())?;
    let counts = people.map(|it| stage.smtp.count(it));
    ensure!(counts == [1, 0, 1], "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_credential_that_is_rotated_keeps_out_comes_once_it_is_mended() -> Result<()> {
    let stage = Stage::new("rotated").await?;
    stage
        .policy(json!({"channels": [hook("hook"), bot()]}))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    stage.services.fail("/hook", Fault::status(401));
    stage.services.fail("/hook", Fault::status(401));
    stage.services.fail(POST, Fault::slack("token_revoked"));
    stage.ask("api-5xx").await?;
    eventually("it is said", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        let hook = kept.channels.iter().find(|it| it.name == "hook").cloned();
        hook.and_then(|it| it.failing).context("not yet")
    })
    .await
    .with_context(|| controller.log())?;
    stage.taken("/hook", 1).await?;
    stage.taken(POST, 1).await?;
    let kept = eventually("it is said that it works", PATIENCE, async || {
        let kept = stage.kept("api-5xx").await?;
        let is_well = kept.channels.iter().all(|it| it.failing.is_none());
        ensure!(is_well && kept.channels.len() == 2, "{kept:?}");
        Ok(kept)
    })
    .await?;
    let is_delivered = |it: &rollback_api::status::Told| it.result == DeliveryResult::Delivered;
    ensure!(
        kept.channels
            .iter()
            .all(|it| it.told.iter().all(is_delivered)),
        "{kept:?}"
    );
    let statuses: Vec<u16> = stage
        .services
        .at("/hook")
        .iter()
        .map(|it| it.status)
        .collect();
    ensure!(statuses == [401, 401, 200], "{statuses:?}");
    ensure!(stage.services.taken(POST).len() == 1);
    Ok(())
}
