//! A whole platform at once: two hundred Deployments in one request, one of which does not come back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rollback_api::status::Outcome;
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::json;
use testkit::{Scene, User, eventually};

use crate::record::Record;
use crate::stage::{
    artifacts, ask_as, crashing, deploy, ensure_ended, ensure_free, prefix, redeploy, results,
    scene, well,
};

/// How many Deployments: in a full run as many as one request takes.
fn many() -> usize {
    testkit::size(200, 64)
}
/// Which of them does not come back.
fn bad() -> usize {
    many() / 4
}
/// How many are under way at the same time.
fn parallelism() -> usize {
    many() / 8
}
/// How long one run may take on a machine that has other things to do too.
const LONG: Duration = Duration::from_mins(4);
/// Most requests of the controller for each Deployment that it wrote.
const REQUESTS_PER_TARGET: usize = 50;
/// Most bytes of an object that etcd takes.
const ETCD_LIMIT: usize = 1_500_000;
/// Most bytes of what a ConfigMap holds.
const MAP_LIMIT: usize = 1_048_576;

fn name(number: usize) -> String {
    format!("broxiva-{number:03}")
}

/// One run over all of them, and how it went.
struct Run<'a> {
    scene: &'a Scene,
    name: &'static str,
    request: RollbackRequest,
    outcome: Outcome,
    record: Option<Record>,
}

impl<'a> Run<'a> {
    /// Asks, approves, and waits for the end.
    async fn new(scene: &'a Scene, on_failure: &'static str) -> Result<Self> {
        let (since, begun) = (Timestamp::now(), Instant::now());
        let name = match on_failure {
            "Stop" => "run-stop",
            "Restore" => "run-restore",
            _ => "run-continue",
        };
        let rollout = json!({"parallelism": parallelism(), "onFailure": on_failure});
        ask_as(scene, name, json!([prefix("broxiva-")]), rollout).await?;
        scene.approve(name, User::Approver).await?;
        let planned = begun.elapsed();
        let passes = passes(scene).await?;
        let (request, outcome) = eventually(&format!("{name} has ended"), LONG, async || {
            let request = scene.request(name).await?;
            let outcome = request.status.as_ref().and_then(|it| it.outcome.clone());
            let (_, message) = testkit::scene::ready(&request);
            let outcome = outcome.with_context(|| message.clone())?;
            ensure!(!request.holds_finalizer(), "it is held: {message}");
            Ok((request, outcome))
        })
        .await?;
        ensure_free(scene).await?;
        println!(
            "{name}: planned and approved after {planned:.1?}, over after {:.1?}, in {} passes",
            begun.elapsed(),
            self::passes(scene).await? - passes
        );
        Ok(Self {
            scene,
            name,
            request,
            outcome,
            record: Record::of(scene)?.map(|record| record.since(since)),
        })
    }

    /// How many Deployments ended like this.
    fn count(&self, state: RequestState, reason: Reason) -> usize {
        let results = results(&self.request);
        let fits = |end: &&(RequestState, Reason)| **end == (state, reason);
        results.values().filter(fits).count()
    }

    /// Each Deployment that did not end so was written as often as said, and nothing else was written.
    fn ensure_written(&self, times: usize) -> Result<()> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        let results = results(&self.request);
        ensure!(results.len() == many(), "{} results", results.len());
        let written: Vec<(&str, usize)> = results
            .iter()
            .filter(|(_, (_, reason))| *reason != Reason::NotBegun)
            .map(|(name, _)| (name.as_str(), times))
            .collect();
        record.ensure_written(&written)?;
        record.ensure_at_most(parallelism())?;
        let planned: BTreeSet<String> = results.keys().cloned().collect();
        let uid = self.request.metadata.uid.clone().unwrap_or_default();
        record.ensure_only(self.name, &uid, &planned)?;
        let counts = record.counts();
        let all: usize = counts.values().sum();
        println!(
            "{}: {all} requests, {} for each of {} Deployments: {counts:#?}",
            self.name,
            all / written.len(),
            written.len()
        );
        ensure!(
            all / written.len() <= REQUESTS_PER_TARGET,
            "that is too much"
        );
        Ok(())
    }

    /// Status and report fit, and the report tells of each Deployment.
    async fn ensure_told(&self) -> Result<()> {
        let size = serde_json::to_vec(&self.request)?.len();
        ensure!(size < ETCD_LIMIT, "the request has {size} bytes");
        let incidents = artifacts(self.scene, "incident", &self.request).await?;
        let [incident] = incidents.as_slice() else {
            anyhow::bail!("{} incidents", incidents.len());
        };
        let data = incident.data.clone().unwrap_or_default();
        let sizes: BTreeMap<&String, usize> =
            data.iter().map(|(name, text)| (name, text.len())).collect();
        println!(
            "{}: the request has {size} bytes, the report {sizes:?}",
            self.name
        );
        ensure!(sizes.values().sum::<usize>() < MAP_LIMIT, "{sizes:?}");
        for number in 0..many() {
            let quoted = format!("\"{}\"", name(number));
            let cell = format!("| `{}` |", name(number));
            let told = |text: &String| text.contains(&quoted) || text.contains(&cell);
            ensure!(
                data.values().all(told),
                "the report does not tell of {quoted}"
            );
        }
        Ok(())
    }
}

/// How many passes the controller has made.
async fn passes(scene: &Scene) -> Result<u64> {
    let controller = scene.controller.as_ref().context("no controller")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/metrics", controller.metrics_url());
    let page = client.get(url).send().await?.text().await?;
    let count = page
        .lines()
        .find_map(|line| line.strip_prefix("rollback_reconcile_duration_seconds_count "));
    Ok(count.context("no such metric")?.parse()?)
}

/// One preparation for all three: after Restore everything is as before, after Stop half of it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_whatever_happens_when_one_fails() -> Result<()> {
    let scene = scene("platform").await?;
    scene
        .policy(json!({"rollout": {"graceSeconds": 1}}))
        .await?;
    let begun = Instant::now();
    let olds = (0..many()).map(|number| match number {
        number if number == bad() => crashing(&name(number)),
        number => well(&name(number)),
    });
    deploy(&scene, olds.chain([well("other")])).await?;
    println!("prepared after {:.1?}", begun.elapsed());

    let restore = Run::new(&scene, "Restore").await?;
    ensure_ended(
        &restore.outcome,
        RequestState::Restored,
        Reason::TargetsFailed,
    )?;
    let back = restore.count(RequestState::Restored, Reason::RestoredFromBackup);
    let spared = restore.count(RequestState::Cancelled, Reason::NotBegun);
    ensure!(
        back > bad() - parallelism() && spared > 0 && back + spared == many(),
        "{back} are back, {spared} were not begun"
    );
    restore.ensure_written(2)?;
    restore.ensure_told().await?;

    let stop = Run::new(&scene, "Stop").await?;
    ensure_ended(&stop.outcome, RequestState::Failed, Reason::TargetsFailed)?;
    let done = stop.count(RequestState::Succeeded, Reason::Unverified);
    let spared = stop.count(RequestState::Cancelled, Reason::NotBegun);
    ensure!(
        done >= bad() - parallelism() && spared > 0 && done + spared + 1 == many(),
        "{done} are done, {spared} were not begun"
    );
    stop.ensure_written(1)?;
    stop.ensure_told().await?;

    let written: Vec<String> = results(&stop.request)
        .into_iter()
        .filter(|(_, (_, reason))| *reason != Reason::NotBegun)
        .map(|(name, _)| name)
        .collect();
    let written: Vec<&str> = written.iter().map(String::as_str).collect();
    redeploy(&scene, &written).await?;

    let all = Run::new(&scene, "Continue").await?;
    ensure_ended(&all.outcome, RequestState::Failed, Reason::TargetsFailed)?;
    let done = all.count(RequestState::Succeeded, Reason::Unverified);
    let failed = all.count(RequestState::Failed, Reason::RolloutFailed);
    assert_eq!((done, failed), (many() - 1, 1));
    all.ensure_written(1)?;
    all.ensure_told().await?;
    ensure!(scene.image("other").await?.ends_with(":v2"));
    Ok(())
}
