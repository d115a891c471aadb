//! Whoever waits goes on as soon as it can, and however many there are, one writes.

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use rollback_api::{CANCELLED_BY, Reason, RequestState};
use serde_json::{Value, json};
use testkit::proxy::Point;
use testkit::scene::CONTROLLER;
use testkit::{Scene, User};

use crate::queue::{FIRST, Held, SECOND, holder, two_requests, waits_for};
use crate::stage::{APP, asked_for, deploy_all, ends, ensure_reverts, is_backup, says_all, scene};

/// When the ledger was first written with this holder in it, or with nobody.
fn when_held(scene: &Scene, by: Option<&str>, after: Timestamp) -> Result<Option<Timestamp>> {
    let Some(events) = asked_for(scene)? else {
        return Ok(None);
    };
    let of_ledger = events.iter().filter(|event| {
        event.resource == "revisionledgers" && event.succeeded() && event.received >= after
    });
    let claimed = |body: &Value| body.pointer("/spec/claim/request").cloned();
    let found = of_ledger
        .filter_map(|event| Some((event, event.request_object.as_ref()?)))
        .find(|(_, body)| claimed(body) == by.map(|by| json!(by)));
    let (event, _) = found.with_context(|| format!("nobody wrote the holder {by:?}"))?;
    Ok(Some(event.answered))
}

/// Woken by the change of the ledger: a timer would take up to a minute.
#[tokio::test]
async fn the_next_one_goes_on_at_once_when_the_holder_withdraws() -> Result<()> {
    let (scene, proxy) = two_requests("withdrawn", "ErrorRate", json!({"revision": 2})).await?;
    // The connection breaks, so that the holder looks again and finds that it is withdrawn.
    let held = Held::arm(&proxy, Point::BeforeForward, is_backup);
    scene.approve(FIRST, User::Approver).await?;
    held.caught(&proxy, 1).await?;
    scene.approve(SECOND, User::Approver).await?;
    waits_for(&scene, SECOND, FIRST).await?;
    let cancelled = json!({CANCELLED_BY: User::Requester.as_str()});
    scene.annotate(FIRST, User::Requester, cancelled).await?;
    let before = Timestamp::now();
    held.release();

    ends(
        &scene,
        FIRST,
        RequestState::Cancelled,
        Reason::CancelledByUser,
    )
    .await?;
    ends(&scene, SECOND, RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(scene.image(APP).await?.ends_with(":v2"));
    ensure_reverts(&scene, 1)?;
    let free = when_held(&scene, None, before)?;
    let next = when_held(&scene, Some(SECOND), before)?;
    if let (Some(free), Some(next)) = (free, next) {
        let took = next.duration_since(free);
        ensure!(took < SignedDuration::from_secs(10), "it took {took}");
    }
    Ok(())
}

/// The more urgent one has taken over and is withdrawn before it has written: the other one, which was
/// first, gets its turn again.
#[tokio::test]
async fn who_was_overtaken_goes_on_when_the_other_withdraws() -> Result<()> {
    let (scene, proxy) = two_requests("overtaken", "Security", json!({"revision": 2})).await?;
    let first = Held::arm(&proxy, Point::Aside, is_backup);
    scene.approve(FIRST, User::Approver).await?;
    first.caught(&proxy, 1).await?;
    let second = Held::arm(&proxy, Point::BeforeForward, is_backup);
    scene.approve(SECOND, User::Approver).await?;
    second.caught(&proxy, 2).await?;
    assert_eq!(holder(&scene).await?.as_deref(), Some(SECOND));
    first.release();
    waits_for(&scene, FIRST, SECOND).await?;
    let cancelled = json!({CANCELLED_BY: User::Requester.as_str()});
    scene.annotate(SECOND, User::Requester, cancelled).await?;
    second.release();
    ends(
        &scene,
        SECOND,
        RequestState::Cancelled,
        Reason::CancelledByUser,
    )
    .await?;
    ends(&scene, FIRST, RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    assert_eq!(holder(&scene).await?, None);
    ensure_reverts(&scene, 1)
}

/// Five people press the button at the same time.
#[tokio::test]
async fn of_five_at_once_one_writes() -> Result<()> {
    let scene = scene("five").await?;
    deploy_all(&scene, &["v1", "v2", "v3"]).await?;
    let names = ["one", "two", "three", "four", "five"];
    for (index, name) in names.iter().enumerate() {
        let to = json!({"revision": if index % 2 == 0 { 1 } else { 2 }});
        scene.ask(name, APP, to).await?;
    }
    for name in names {
        scene.plan(name).await?;
    }
    let approvals = names.map(|name| scene.approve(name, User::Approver));
    futures::future::try_join_all(approvals).await?;

    let mut winners = Vec::new();
    let mut losers = Vec::new();
    for name in names {
        let (_, outcome) = scene.wait_for_end(name).await?;
        match outcome.reason {
            Reason::Unverified => winners.push(name),
            Reason::RolledBackByAnother => losers.push(outcome.message),
            _ => anyhow::bail!("{name} ended as {outcome:?}"),
        }
    }
    let [winner] = winners.as_slice() else {
        anyhow::bail!("{winners:?} won");
    };
    for message in &losers {
        says_all(message, &[&format!("RollbackRequest {winner} ")])?;
    }
    ensure!(losers.len() == 4, "{losers:?}");
    ensure_reverts(&scene, 1)?;
    // Not even tried: whoever saw the claim waited.
    let tries = asked_for(&scene)?.unwrap_or_default();
    let tries = tries.iter().filter(|event| {
        event.resource == "deployments" && event.verb == "patch" && !event.is_dry_run()
    });
    let refused: Vec<_> = tries.filter(|event| !event.succeeded()).collect();
    ensure!(refused.is_empty(), "{CONTROLLER} tried {refused:?}");
    Ok(())
}
