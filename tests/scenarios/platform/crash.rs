//! The controller is killed in the middle of a run, again and again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::ListParams;
use rollback_api::{Reason, RequestState, RevisionLedger};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::record::Record;
use crate::stage::{
    REQUEST, artifacts, deploy, end, ensure_ended, ensure_results, prefix, scene, start, well,
};

const NAMES: [&str; 12] = [
    "k-00", "k-01", "k-02", "k-03", "k-04", "k-05", "k-06", "k-07", "k-08", "k-09", "k-10", "k-11",
];

/// Kills the controller as soon as this is so, and starts another.
async fn kill_when(scene: &mut Scene, written: usize, ended: usize) -> Result<()> {
    let killer = scene.controller.as_ref().context("no controller")?.killer();
    let what = format!("{written} are written and {ended} have ended");
    eventually(&what, PATIENCE, async || {
        let status = scene.status(REQUEST).await?;
        let done = |is: fn(&rollback_api::status::TargetStatus) -> bool| {
            status.targets.iter().filter(|it| is(it)).count()
        };
        let now = (
            done(|it| it.revert.is_some()),
            done(|it| it.outcome.is_some()),
        );
        ensure!(now >= (written, ended), "it is {now:?}");
        Ok(())
    })
    .await?;
    killer.kill();
    scene.controller = None;
    scene.start_controller().await
}

#[tokio::test]
async fn killed_again_and_again_it_writes_each_once() -> Result<()> {
    let mut scene = scene("killed").await?;
    let slow = |name| well(name).ready_after(Duration::from_millis(700));
    deploy(&scene, NAMES.map(slow)).await?;
    let before = generations(&scene).await?;
    start(&scene, json!([prefix("k-")]), json!({"parallelism": 3})).await?;
    for (written, ended) in [(0, 0), (1, 0), (3, 1), (5, 2), (8, 5), (12, 9), (12, 12)] {
        kill_when(&mut scene, written, ended).await?;
    }
    let (request, outcome) = end(&scene).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_results(
        &request,
        &NAMES.map(|name| (name, RequestState::Succeeded, Reason::Unverified)),
    )?;
    ensure!(artifacts(&scene, "backup", &request).await?.len() == 12);
    ensure!(artifacts(&scene, "incident", &request).await?.len() == 1);
    let ledgers: Api<RevisionLedger> =
        Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    for ledger in ledgers.list(&ListParams::default()).await? {
        ensure!(ledger.spec.rollbacks.len() == 1, "{:?}", ledger.spec);
    }
    // Not by the audit log: a write whose author was killed before the answer is carried out, and recorded as a failure.
    let once: Vec<i64> = before.iter().map(|generation| generation + 1).collect();
    let after = generations(&scene).await?;
    ensure!(after == once, "each is written once: {before:?}, {after:?}");
    if let Some(record) = Record::of(&scene)? {
        record.ensure_at_most(3)?;
    }
    Ok(())
}

/// How often the spec of each Deployment was written.
async fn generations(scene: &Scene) -> Result<Vec<i64>> {
    let mut generations = Vec::new();
    for name in NAMES {
        let deployment = scene.deployment(name).await?;
        let generation = deployment.pointer("/metadata/generation");
        generations.push(
            generation
                .and_then(Value::as_i64)
                .context("no generation")?,
        );
    }
    Ok(generations)
}
