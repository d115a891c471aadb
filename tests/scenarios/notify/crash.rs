//! Nothing is lost, and what comes twice comes under the same key, over crashes and takeovers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testkit::scene::PATIENCE;
use testkit::{User, eventually};

use crate::stage::{Stage, events, hook, kinds};

/// The controller dies each time that a message has arrived, before anything of that can be stored.
#[tokio::test]
async fn a_message_that_arrived_before_a_crash_comes_again_under_its_key_and_none_is_lost()
-> Result<()> {
    let stage = Stage::new("killed").await?;
    stage.policy(json!({"channels": [hook("hook")]})).await?;
    stage.two_versions().await?;
    let mut controller = stage.start(&[]).await?;
    stage.ask("api-5xx").await?;
    let mut crashes = 0;
    let mut is_approved = false;
    loop {
        let killer = controller.killer();
        let arrivals = Arc::new(AtomicUsize::new(0));
        let count = arrivals.clone();
        // Every second message arrives undisturbed, or nothing would ever be stored.
        stage.services.on_taken(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                killer.kill();
            }
        });
        let died = eventually("it has died or all is told", PATIENCE, async || {
            if stage.kept("api-5xx").await?.settled {
                return Ok(false);
            }
            ensure!(
                arrivals.load(Ordering::SeqCst) > 0 && controller.exited()?.is_some(),
                "not yet"
            );
            Ok(true)
        })
        .await
        .with_context(|| controller.log())?;
        if !died {
            break;
        }
        crashes += 1;
        stage.services.on_taken(|_| {});
        controller = stage.start(&[]).await?;
        let seen = stage.services.taken("/hook").len();
        stage
            .taken("/hook", seen + 1)
            .await
            .with_context(|| controller.log())?;
        if !is_approved {
            stage.scene.approve("api-5xx", User::Approver).await?;
            is_approved = true;
        }
        ensure!(crashes < 10, "it never ends");
    }
    let taken = stage.services.taken("/hook");
    let distinct: BTreeSet<String> = events(&taken).into_iter().collect();
    let kinds: BTreeSet<String> = kinds(&taken).into_iter().collect();
    ensure!(crashes >= 2, "{crashes}");
    ensure!(
        taken.len() > distinct.len(),
        "nothing came twice, so nothing was shown"
    );
    ensure!(
        distinct.len() == 3
            && kinds
                == ["AwaitingApproval", "Begun", "End"]
                    .map(str::to_owned)
                    .into(),
        "{distinct:?}"
    );
    let told = &stage.kept("api-5xx").await?.channels[0].told;
    ensure!(told.len() == 3, "{told:?}");
    Ok(())
}

#[tokio::test]
async fn who_takes_over_tells_the_rest() -> Result<()> {
    let stage = Stage::new("takeover").await?;
    stage.policy(json!({"channels": [hook("hook")]})).await?;
    stage.two_versions().await?;
    let elect = |name: &'static str| {
        [
            "--leader-elect=true",
            "--identity",
            name,
            "--lease-seconds",
            "3",
        ]
    };
    let first = stage.start(&elect("first")).await?;
    stage.ask("api-5xx").await?;
    stage.taken("/hook", 1).await.with_context(|| first.log())?;
    let second = stage.start(&elect("second")).await?;
    stage.scene.approve("api-5xx", User::Approver).await?;
    first.kill();
    stage
        .settled("api-5xx")
        .await
        .with_context(|| second.log())?;
    let told: BTreeSet<String> = kinds(&stage.services.taken("/hook")).into_iter().collect();
    ensure!(
        told == ["AwaitingApproval", "Begun", "End"]
            .map(str::to_owned)
            .into(),
        "{told:?}"
    );
    Ok(())
}
