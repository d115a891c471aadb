//! The controller is killed, cut off and refused at every moment of a rollback, and what it leaves
//! behind is the same as if nothing had happened.
//!
//! The controller is the real program, behind a proxy that knows each of its writes. First a run
//! that nobody disturbs says which writes there are and how it ends; then there is one run for each
//! write and each way to disturb it. These need an embedded cluster: the proxy and the audit log.

mod ending;
mod matrix;
mod run;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use rollback_api::{APPROVED_BY, CONFIRM, PLAN, Reason, RequestState};
use serde_json::json;
use testkit::proxy::{Fault, Mutation, Point, Silence};
use testkit::scene::{CONTROLLER, PATIENCE, PRODUCTION};
use testkit::{Scene, User, eventually};
use tokio::sync::oneshot;

use ending::Ending;
use run::{DEPLOYMENT, PROGRAM, REQUEST, Run, is_counted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_write_it_ends_as_if_nothing_had_happened() -> Result<()> {
    let kills = [Point::BeforeForward, Point::AfterCommit, Point::AfterAnswer];
    matrix::check("kill", &kills).await
}

#[tokio::test]
async fn when_every_other_write_fails_it_takes_longer_and_ends_the_same() -> Result<()> {
    let failures = [
        ("cut-before", Point::BeforeForward),
        ("cut-after", Point::AfterCommit),
        ("busy", Point::Refused(StatusCode::TOO_MANY_REQUESTS)),
        ("down", Point::Refused(StatusCode::SERVICE_UNAVAILABLE)),
        ("broken", Point::Refused(StatusCode::INTERNAL_SERVER_ERROR)),
    ];
    let runs = failures.map(|(name, point)| Box::pin(failing(name, point)));
    futures::future::try_join_all(runs).await?;
    Ok(())
}

/// The first write fails so, the third, the fifth and so on; so does every other Event.
async fn failing(name: &str, point: Point) -> Result<()> {
    let run = Run::new(name, "v1").await?;
    let is_event = |mutation: &Mutation| mutation.path.ends_with("/events");
    for nth in (1..200).step_by(2) {
        let write = move |mutation: &Mutation| is_counted(mutation) && !is_event(mutation);
        run.proxy.arm(Fault::new(nth, point).only(write));
        run.proxy.arm(Fault::new(nth, point).only(is_event));
    }
    let controller = run.start_controller().await?;
    run.ask().await?;
    run.approve().await?;
    let end = run.wait_for(&Ending::undisturbed()).await;
    end.with_context(|| format!("{name}: {}", controller.log()))?;
    // Exactly every other one, whatever number of writes it took. A late Event may come in between.
    eventually("every other write has failed", PATIENCE, async || {
        let fired = run.proxy.fired();
        let mutations = run.proxy.mutations();
        let counted = mutations.iter().filter(|mutation| is_counted(mutation));
        let (events, writes): (Vec<_>, Vec<_>) = counted.partition(|mutation| is_event(mutation));
        let expected = events.len().div_ceil(2) + writes.len().div_ceil(2);
        ensure!(
            fired == expected && writes.len() >= 10 && events.len() >= 7,
            "{name}: {fired} of {} writes and {} Events failed",
            writes.len(),
            events.len()
        );
        Ok(())
    })
    .await?;
    ensure!(controller.exited()?.is_none(), "{name}: it ended");
    let patches = matrix::patches(&[run.ns()]).await?;
    ensure!(patches == [1], "{name}: {patches:?} reverts");
    Ok(())
}

#[tokio::test]
async fn an_event_that_failed_twice_at_the_end_is_sent_before_the_request_is_let_go() -> Result<()>
{
    let run = Run::new("late-event", "v1").await?;
    // The last of the seven, when it is due and in the last pass. Nobody looks at the request again after that.
    for nth in [7, 8] {
        let point = Point::Refused(StatusCode::INTERNAL_SERVER_ERROR);
        let is_event = |mutation: &Mutation| mutation.path.ends_with("/events");
        run.proxy.arm(Fault::new(nth, point).only(is_event));
    }
    let controller = run.start_controller().await?;
    run.ask().await?;
    run.approve().await?;
    let end = run.wait_for(&Ending::undisturbed()).await;
    end.with_context(|| controller.log())?;
    ensure!(run.proxy.fired() == 2, "it did not fail twice");
    Ok(())
}

#[tokio::test]
async fn approved_while_it_was_away_a_request_is_carried_out_once() -> Result<()> {
    let mut scene = Scene::new(PROGRAM, "away").await?;
    scene.two_versions(DEPLOYMENT).await?;
    scene
        .ask(REQUEST, DEPLOYMENT, json!({"previous": {}}))
        .await?;
    let plan = scene.plan(REQUEST).await?;
    kill(&mut scene)?;
    scene.approve(REQUEST, User::Approver).await?;
    scene.start_controller().await?;
    let (_, outcome) = scene.wait_for_end(REQUEST).await?;
    assert_eq!(
        (outcome.result, outcome.reason),
        (RequestState::Succeeded, Reason::Unverified)
    );
    let status = scene.status(REQUEST).await?;
    let digest = status.plan.map(|plan| plan.digest);
    assert_eq!(digest, Some(plan.digest), "the plan is resolved once");
    reverted_once(&scene).await
}

#[tokio::test]
async fn killed_between_two_approvals_it_remembers_the_first() -> Result<()> {
    let mut scene = Scene::new(PROGRAM, "between").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    scene.two_versions(DEPLOYMENT).await?;
    scene
        .ask(REQUEST, DEPLOYMENT, json!({"previous": {}}))
        .await?;
    let plan = scene.plan(REQUEST).await?;
    kill(&mut scene)?;

    // Nobody has counted the first approval, so nobody may write over it.
    let approve = async |user| {
        scene
            .approve_plan(REQUEST, user, PRODUCTION, &plan.digest)
            .await
    };
    approve(User::Approver).await?;
    let early = approve(User::SecondApprover).await;
    let refusal = format!("{:#}", early.err().context("it was written over")?);
    assert!(refusal.contains("has not been counted yet"), "{refusal}");

    scene.start_controller().await?;
    approvals(&scene, 1).await?;
    // Whenever it dies after that, the first approval is put away by whoever comes next.
    kill(&mut scene)?;
    scene.start_controller().await?;
    eventually("the mailbox is empty", PATIENCE, async || {
        let request = scene.request(REQUEST).await?;
        let annotations = request.metadata.annotations.unwrap_or_default();
        ensure!(!annotations.contains_key(APPROVED_BY), "{annotations:?}");
        Ok(())
    })
    .await?;
    kill(&mut scene)?;
    scene
        .approve_plan(REQUEST, User::SecondApprover, PRODUCTION, &plan.digest)
        .await?;
    // The mailbox holds the second approval only; the first is in the status.
    let request = scene.request(REQUEST).await?;
    let mailbox = request.metadata.annotations.unwrap_or_default();
    assert_eq!(
        [APPROVED_BY, CONFIRM, PLAN].map(|key| mailbox.get(key).map(String::as_str)),
        [
            Some(User::SecondApprover.as_str()),
            Some(PRODUCTION),
            Some(plan.digest.as_str())
        ]
    );
    assert!(scene.image(DEPLOYMENT).await?.ends_with(":v2"));

    scene.start_controller().await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    assert_eq!(
        outcome.result,
        RequestState::Succeeded,
        "{}",
        outcome.message
    );
    let approvals = request.status.unwrap_or_default().approvals;
    let names: Vec<_> = approvals
        .iter()
        .map(|approval| approval.by.username.as_str())
        .collect();
    assert_eq!(
        names,
        [User::Approver.as_str(), User::SecondApprover.as_str()]
    );
    reverted_once(&scene).await
}

#[tokio::test]
async fn killed_at_the_first_write_of_every_life_it_gets_there_nevertheless() -> Result<()> {
    let run = Run::new("restless", "v1").await?;
    run.ask().await?;
    let mut lives = 0;
    let mut approved = false;
    // Armed before the controller starts, because there is work to do at once. Events do not count:
    // a controller that comes to nothing else is not what this is about.
    loop {
        let (hit, mut was_hit) = oneshot::channel();
        let (dead, is_dead) = oneshot::channel::<()>();
        let fault = Fault::new(1, Point::AfterCommit)
            .only(|mutation| is_counted(mutation) && !mutation.path.ends_with("/events"))
            .run_async(move || async move {
                let _ = hit.send(());
                drop(is_dead.await);
            });
        run.proxy.arm(fault);
        let controller = run.start_controller().await?;
        if !approved && run.scene.status(REQUEST).await?.plan.is_some() {
            run.approve().await?;
            approved = true;
        }
        tokio::select! {
            biased;
            hit = &mut was_hit => hit?,
            over = run.wait_until_over() => { over?; }
        }
        controller.kill();
        ensure!(controller.exited()?.is_some(), "it still runs");
        drop(dead);
        if run.is_over().await? {
            break;
        }
        lives += 1;
        ensure!(lives < 40, "it does not get on");
    }
    run.proxy.disarm();
    let _controller = run.start_controller().await?;
    run.wait_for(&Ending::undisturbed()).await?;
    assert!(lives >= 10, "it was killed only {lives} times");
    assert_eq!(matrix::patches(&[run.ns()]).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn when_the_api_server_falls_silent_it_gives_up_waiting_and_recovers() -> Result<()> {
    let lost = silence("lost", Silence::Everything);
    let unanswered = silence("unanswered", Silence::Answers);
    futures::try_join!(lost, unanswered)?;
    Ok(())
}

/// The connections stay open and nothing comes back any more, from the revert on.
async fn silence(name: &str, silence: Silence) -> Result<()> {
    let run = Run::new(name, "v1").await?;
    let controller = run.start_controller().await?;
    let switch = run.proxy.switch();
    let frozen = switch.clone();
    let fault = Fault::new(1, Point::Aside)
        .only(|mutation| {
            mutation.method == "PATCH"
                && mutation.path.contains("/deployments/")
                && !mutation.dry_run
        })
        .run(move || frozen.set(silence));
    run.proxy.arm(fault);
    run.ask().await?;
    run.approve().await?;
    eventually("it gives up", PATIENCE, async || {
        ensure!(run.proxy.abandoned() > 1, "it still waits for an answer");
        Ok(())
    })
    .await?;
    ensure!(run.proxy.fired() == 1, "the revert was not held up");
    ensure!(
        controller.exited()?.is_none(),
        "it ended: {}",
        controller.log()
    );
    switch.set(Silence::None);
    if let Err(error) = run.wait_for(&Ending::undisturbed()).await {
        return Err(error.context(controller.log()));
    }
    ensure!(
        matrix::patches(&[run.ns()]).await? == [1],
        "{name}: not one revert"
    );
    Ok(())
}

/// Kills the controller as a power cut would.
fn kill(scene: &mut Scene) -> Result<()> {
    let controller = scene.controller.take().context("no controller runs")?;
    controller.kill();
    ensure!(controller.exited()?.is_some(), "it still runs");
    Ok(())
}

async fn approvals(scene: &Scene, count: usize) -> Result<()> {
    eventually(
        "the approval is counted",
        Duration::from_secs(20),
        async || {
            let counted = scene.status(REQUEST).await?.approvals.len();
            ensure!(counted == count, "{counted} are counted");
            Ok(())
        },
    )
    .await
}

/// One write to the Deployment by the controller, one backup, one incident, one entry in the ledger.
async fn reverted_once(scene: &Scene) -> Result<()> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let patches = audit.deployment_patches(scene.ns(), DEPLOYMENT)?;
    let by_us = patches.iter().filter(|event| event.user == CONTROLLER);
    ensure!(by_us.count() == 1, "not one revert");
    ensure!(
        scene.image(DEPLOYMENT).await?.ends_with(":v1"),
        "not rolled back"
    );
    for kind in ["backup", "incident"] {
        let count = scene.artifacts(kind, REQUEST).await?.len();
        ensure!(count == 1, "{count} of {kind}");
    }
    let ledger = ending::ledger(scene, DEPLOYMENT).await?;
    ensure!(ledger.claim.is_none(), "still claimed: {ledger:?}");
    ensure!(ledger.rollbacks.len() == 1, "not one entry: {ledger:?}");
    Ok(())
}
