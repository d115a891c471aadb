//! The controller is killed right after each of its writes, and what it leaves is as if nothing had happened: one revert,
//! one hold, and what was there before when it is released.

use anyhow::{Result, ensure};
use rollback_api::{RELEASE, RequestState};
use serde_json::json;
use testkit::proxy::{Fault, Mutation, Point, Proxy};
use testkit::scene::PATIENCE;
use testkit::{ControllerProcess, Scene, User, eventually};
use tokio::sync::oneshot;

use crate::stage::{APP, Held, Means, PROGRAM, REQUEST};

/// Whether it may change anything of the story: questions, Events, the self-test of the guard and evidence do not.
fn is_counted(mutation: &Mutation) -> bool {
    !mutation.path.contains("/authorization.k8s.io/")
        && !mutation.path.contains("/authentication.k8s.io/")
        && !mutation.path.contains("/namespaces/rollback-system/")
        && !mutation.path.ends_with("/events")
        && !mutation.dry_run
}

struct Run {
    held: Held,
    proxy: Proxy,
}

impl Run {
    async fn new(name: &str, means: Means) -> Result<Self> {
        let name = format!("{name}-{}", means.word());
        let (scene, proxy) = Scene::behind_proxy(PROGRAM, &name).await?;
        // Evidence is written in its own time.
        scene.policy(json!({"ledger": {"record": false}})).await?;
        scene.grant(means.role()).await?;
        let owner = means.owner(&scene).await?;
        for tag in ["v1", "v2"] {
            scene.deploy(means.version(scene.ns(), tag)).await?;
        }
        let held = Held {
            scene,
            means,
            owner,
        };
        Ok(Self { held, proxy })
    }

    async fn start(&self) -> Result<ControllerProcess> {
        let controller = self.held.scene.spawn(&[])?;
        match controller.ready().await {
            Ok(()) => Ok(controller),
            Err(error) => Err(error.context(controller.log())),
        }
    }

    /// Kills each life after its first write, until this is so; how many lives it took, and the writes after which they
    /// ended.
    async fn restless(
        &self,
        mut approved: bool,
        is_over: impl AsyncFn() -> Result<bool>,
    ) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        loop {
            let (hit, mut was_hit) = oneshot::channel();
            let (dead, is_dead) = oneshot::channel::<()>();
            let fault = Fault::new(1, Point::AfterCommit)
                .only(is_counted)
                .run_async(move || async move {
                    let _ = hit.send(());
                    drop(is_dead.await);
                });
            let known = self.proxy.mutations().len();
            self.proxy.arm(fault);
            let controller = self.start().await?;
            if !approved && self.held.scene.status(REQUEST).await?.plan.is_some() {
                self.held.scene.approve(REQUEST, User::Approver).await?;
                approved = true;
            }
            let over = eventually("it is over", PATIENCE, async || {
                ensure!(is_over().await?, "it is not");
                Ok(())
            });
            let was_killed = tokio::select! {
                biased;
                hit = &mut was_hit => { hit?; true }
                over = over => { over?; false }
            };
            controller.kill();
            ensure!(controller.exited()?.is_some(), "it still runs");
            drop(dead);
            self.proxy.disarm();
            let mutations = self.proxy.mutations();
            let new = mutations
                .iter()
                .skip(known)
                .filter(|mutation| is_counted(mutation));
            ended.extend(new.map(|it| format!("{} {}", it.method, it.path)));
            if !was_killed || is_over().await? {
                return Ok(ended);
            }
            ensure!(ended.len() < 60, "it does not get on: {ended:#?}");
        }
    }
}

async fn killed_after_each_write(means: Means) -> Result<()> {
    let run = Run::new("killed", means).await?;
    run.held
        .scene
        .ask(REQUEST, APP, json!({"previous": {}}))
        .await?;
    let ended = run
        .restless(false, async || {
            let request = run.held.scene.request(REQUEST).await?;
            let is_let_go = request.metadata.finalizers.unwrap_or_default().is_empty();
            let status = request.status.unwrap_or_default();
            Ok(status.outcome.is_some() && is_let_go)
        })
        .await?;
    ensure!(ended.len() >= 10, "killed only after {ended:#?}");
    let (_, outcome) = run.held.scene.wait_for_end(REQUEST).await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    run.held.is_held().await?;
    ensure!(
        run.held.holds().await?.len() == 1,
        "{:?}",
        run.held.holds().await?
    );
    ensure!(
        run.held.scene.image(APP).await?.ends_with(":v1"),
        "not rolled back"
    );
    let generation = run.held.scene.deployment(APP).await?["metadata"]["generation"].clone();
    // The annotations of a Deployment count as well: they are what a Kustomization is held by.
    let on_it = i64::from(means == Means::Kustomization);
    ensure!(
        generation == json!(3 + on_it),
        "not one revert: {generation}"
    );

    run.held
        .release(User::Approver, User::Approver.as_str())
        .await?;
    let ended = run
        .restless(true, async || Ok(run.held.holds().await?.is_empty()))
        .await?;
    ensure!(ended.len() >= 3, "killed only after {ended:#?}");
    run.held.is_as_before().await?;
    let ledger = run
        .held
        .ledger()
        .await?
        .unwrap_or_else(|| unreachable!("it is there"));
    let annotations = ledger.metadata.annotations.unwrap_or_default();
    ensure!(!annotations.contains_key(RELEASE), "{annotations:?}");
    let generation = run.held.scene.deployment(APP).await?["metadata"]["generation"].clone();
    ensure!(
        generation == json!(3 + 2 * on_it),
        "written once more: {generation}"
    );
    Ok(())
}

#[tokio::test]
async fn killed_after_each_write_with_a_kustomization() -> Result<()> {
    killed_after_each_write(Means::Kustomization).await
}

#[tokio::test]
async fn killed_after_each_write_with_a_helm_release() -> Result<()> {
    killed_after_each_write(Means::HelmRelease).await
}

#[tokio::test]
async fn killed_after_each_write_with_an_application() -> Result<()> {
    killed_after_each_write(Means::Application).await
}
