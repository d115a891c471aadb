//! One run for each write and each moment of it at which the controller is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use testkit::Cluster;
use testkit::proxy::{Fault, Mutation, Point};
use testkit::scene::CONTROLLER;
use tokio::sync::oneshot;

use crate::ending::Ending;
use crate::run::{DEPLOYMENT, Run, is_counted, kind};

/// How many runs there are at the same time.
const AT_ONCE: usize = 6;
/// The writes of which there may be more or fewer: progress is committed as it is seen.
const COMMIT: &str = "PUT rollbackrequests/status";
/// The one that says where the report is; which one that is differs from run to run.
const REPORTED: &str = "PUT rollbackrequests/status after the report";

/// The write at which it happens: the n-th of its kind, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: String,
    nth: usize,
}

/// What one run came to.
struct Row {
    place: Place,
    point: Point,
    namespace: String,
    /// Where the request was when it happened; `None` when it never happened.
    hit: Option<String>,
    took: Duration,
}

/// Runs everything and prints a table.
pub async fn check(name: &str, points: &[Point]) -> Result<()> {
    let began = Instant::now();
    let mut places = places(name).await?;
    places.push(Place {
        kind: REPORTED.to_owned(),
        nth: 1,
    });
    let chosen = chosen(&places, points);
    let mut rows = all(name, chosen.iter().cloned()).await?;
    // Until there is no such commit any more: the first run need not have been the longest.
    let commits = places.iter().filter(|place| place.kind == COMMIT).count();
    for nth in commits + 1.. {
        let jobs = points.iter().map(|point| (commit(nth), *point));
        let more = all(name, jobs).await?;
        let over = more.iter().all(|row| row.hit.is_none());
        rows.extend(more);
        if over {
            break;
        }
    }
    // The n-th commit of one run need not be the n-th of another, so some stage may have been missed.
    for _ in 0..5 {
        if missed(&rows).is_empty() {
            break;
        }
        let longest = rows
            .iter()
            .filter(|row| row.place.kind == COMMIT && row.hit.is_some())
            .map(|row| row.place.nth)
            .max();
        let last = commits.saturating_sub(3)..=longest.unwrap_or(commits);
        let again = last.map(|nth| (commit(nth), Point::AfterCommit));
        rows.extend(all(name, again).await?);
    }
    print(&rows, points, began.elapsed());
    everything_was_hit(&rows, &chosen)?;

    let namespaces: Vec<&str> = rows.iter().map(|row| row.namespace.as_str()).collect();
    for (row, patches) in rows.iter().zip(patches(&namespaces).await?) {
        let at = format!("{:?}, {:?}", row.place, row.point);
        ensure!(patches == 1, "{patches} reverts in the run of {at}");
    }
    Ok(())
}

/// Every write with every moment in a full run; in the gate every write with two of the three moments: after it was done, which is
/// the one that only the next process can find out about, and by turns one of the others.
fn chosen(places: &[Place], points: &[Point]) -> Vec<(Place, Point)> {
    let mut others = points
        .iter()
        .filter(|point| **point != Point::AfterCommit)
        .cycle();
    let of = |place: &Place| {
        let points: Vec<Point> = if testkit::is_full() {
            points.to_vec()
        } else {
            others
                .next()
                .copied()
                .into_iter()
                .chain([Point::AfterCommit])
                .collect()
        };
        points
            .into_iter()
            .map(|point| (place.clone(), point))
            .collect::<Vec<_>>()
    };
    places.iter().flat_map(of).collect()
}

/// The writes of a run that nobody disturbs.
async fn places(name: &str) -> Result<Vec<Place>> {
    let run = Run::new(name, "v1").await?;
    let _controller = run.start_controller().await?;
    run.ask().await?;
    run.approve().await?;
    run.wait_for(&Ending::undisturbed()).await?;
    ensure!(patches(&[run.ns()]).await? == [1], "not one revert");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mutations = run.proxy.mutations();
    Ok(mutations
        .iter()
        .filter(|mutation| is_counted(mutation))
        .map(|mutation| {
            let kind = kind(mutation);
            let nth = counts.entry(kind.clone()).or_default();
            *nth += 1;
            Place { kind, nth: *nth }
        })
        .collect())
}

async fn all(name: &str, jobs: impl Iterator<Item = (Place, Point)>) -> Result<Vec<Row>> {
    let runs = jobs.map(|(place, point)| async move {
        let at = format!("{place:?}, {point:?}");
        Box::pin(disturbed(name, place, point)).await.context(at)
    });
    // Boxed, or the compiler has to prove too much about all of them at once.
    let runs: Vec<_> = runs.map(Box::pin).collect();
    let results: Vec<_> = futures::stream::iter(runs)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(row) => rows.push(row),
            Err(error) => failures.push(format!("{error:?}")),
        }
    }
    let count = failures.len();
    ensure!(
        failures.is_empty(),
        "{count} runs failed:\n{}",
        failures.join("\n\n")
    );
    Ok(rows)
}

/// One run in which the controller is killed there and started again.
async fn disturbed(name: &str, place: Place, point: Point) -> Result<Row> {
    let run = Run::new(name, "v1").await?;
    let began = Instant::now();
    let controller = run.start_controller().await?;
    let (tell, mut told) = oneshot::channel();
    let killer = controller.killer();
    let wanted = place.kind.clone();
    let config_maps = AtomicUsize::new(0);
    let is_wanted = move |mutation: &Mutation| {
        let kind = kind(mutation);
        if kind == "POST configmaps" {
            config_maps.fetch_add(1, Ordering::Relaxed);
        }
        // The backup is the first, the report the second.
        let reported = config_maps.load(Ordering::Relaxed) == 2;
        kind == wanted || (wanted == REPORTED && kind == COMMIT && reported)
    };
    let fault = Fault::new(place.nth, point)
        .only(move |mutation| is_counted(mutation) && is_wanted(mutation))
        .run(move || {
            killer.kill();
            // Nobody listens any more when the run has failed.
            let _ = tell.send(());
        });
    run.proxy.arm(fault);

    let mut story = pin!(async {
        run.ask().await?;
        run.approve().await?;
        run.wait_for(&Ending::undisturbed()).await
    });
    let early = tokio::select! {
        biased;
        hit = &mut told => { hit?; None }
        end = &mut story => Some(end),
    };
    let over = early.is_some();
    if let Some(end) = early {
        end.with_context(|| controller.log())?;
    }
    let happened = !over || run.proxy.fired() > 0;
    let mut hit = None;
    if happened {
        if over {
            // After the answer to the very last write.
            tokio::time::timeout(Duration::from_secs(10), &mut told).await??;
        }
        let status = controller.exited()?.context("it is not gone")?;
        ensure!(status.signal() == Some(9), "it ended by itself: {status}");
        hit = Some(run.whereabouts().await?);
        let second = run.start_controller().await?;
        let end = async {
            if !over {
                story.await?;
            }
            run.wait_for(&Ending::undisturbed()).await
        };
        end.await.with_context(|| second.log())?;
        ensure!(second.exited()?.is_none(), "it ended: {}", second.log());
    }
    Ok(Row {
        place,
        point,
        namespace: run.ns().to_owned(),
        hit,
        took: began.elapsed(),
    })
}

/// Each write of each kind that has a fixed number, and commits at every stage.
fn everything_was_hit(rows: &[Row], chosen: &[(Place, Point)]) -> Result<()> {
    for (place, point) in chosen.iter().filter(|(place, _)| place.kind != COMMIT) {
        let mine = |row: &&Row| row.point == *point && row.place == *place;
        let hit = rows.iter().filter(mine).any(|row| row.hit.is_some());
        ensure!(hit, "{place:?}: never killed {point:?}");
    }
    let missed = missed(rows);
    ensure!(
        missed.is_empty(),
        "never killed after a commit of {missed:?}"
    );
    Ok(())
}

fn commit(nth: usize) -> Place {
    let kind = COMMIT.to_owned();
    Place { kind, nth }
}

/// The stages whose commits no run was killed after.
fn missed(rows: &[Row]) -> Vec<&'static str> {
    let hit: BTreeSet<&str> = rows
        .iter()
        .filter(|row| [COMMIT, REPORTED].contains(&row.place.kind.as_str()))
        .filter(|row| row.point == Point::AfterCommit)
        .filter_map(|row| row.hit.as_deref())
        .collect();
    let stages = [
        "AwaitingApproval",
        "BackingUp",
        "Reverting",
        "RollingOut",
        "Verifying",
        "Succeeded",
        "Succeeded, reported",
    ];
    stages
        .into_iter()
        .filter(|stage| !hit.contains(stage))
        .collect()
}

/// How many writes of the controller changed the Deployment, in each of these namespaces. When the
/// controller dies while the API server works on its write, the audit log knows no success, though
/// the write may have been done: that one counts when there is no other. (That the template changed
/// exactly once is also in the generation of the Deployment.)
pub async fn patches(namespaces: &[&str]) -> Result<Vec<usize>> {
    let audit = Cluster::shared().await?.audit().context("no audit log")?;
    let writes = audit.events_of_user(CONTROLLER)?;
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    let mut broken_off: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &writes {
        let write = event.resource == "deployments"
            && event.name == DEPLOYMENT
            && !["get", "list", "watch"].contains(&event.verb.as_str());
        if !write || event.is_dry_run() {
            continue;
        }
        let counts = match event.code {
            200..300 => &mut done,
            0 | 499.. => &mut broken_off,
            _ => continue,
        };
        *counts.entry(&event.namespace).or_default() += 1;
    }
    let mut counts = Vec::new();
    for namespace in namespaces {
        let count = done.get(namespace).or_else(|| broken_off.get(namespace));
        counts.push(count.copied().unwrap_or_default());
    }
    Ok(counts)
}

fn print(rows: &[Row], points: &[Point], took: Duration) {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|a, b| a.place.cmp(&b.place));
    println!(
        "{:<24} {:<32} {:<24} {:>6}",
        "killed", "write", "request was", "took"
    );
    for row in sorted {
        let write = format!("{} #{}", row.place.kind, row.place.nth);
        let hit = row.hit.as_deref().unwrap_or("- no such write -");
        let seconds = row.took.as_secs_f64();
        println!(
            "{:<24} {write:<32} {hit:<24} {seconds:>5.1}s",
            format!("{:?}", row.point)
        );
    }
    for point in points {
        let mine: Vec<&Row> = rows.iter().filter(|row| row.point == *point).collect();
        let hit = mine.iter().filter(|row| row.hit.is_some()).count();
        println!("{:<24} {hit} of {} runs", format!("{point:?}"), mine.len());
    }
    println!("{} runs in {:.0} s", rows.len(), took.as_secs_f64());
}
