//! What happens to the leader, at each moment of the one write that matters.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use jiff::Timestamp;
use rollback_api::RequestState;
use testkit::audit::{Audit, Event};
use testkit::controller::Killer;
use testkit::proxy::{Fault, Mutation, Point, Silence, Switch};
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::{Cluster, User, eventually};
use tokio::sync::oneshot;

use crate::pair::{DEPLOYMENT, LEASE_SECONDS, Pair, REQUEST, SECOND, SYSTEM};

/// How many runs there are at the same time.
const AT_ONCE: usize = 2;

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// SIGKILL.
    Killed,
    /// SIGTERM.
    Asked,
    /// SIGSTOP; SIGCONT when the other one has finished.
    Frozen,
    /// Its connections are open and nothing comes through any more, until the other one has finished.
    CutOff,
}

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The intent is committed and the leader is about to hear of it: next it sends the revert.
    Intended,
    /// The revert is sent and gets lost.
    Lost,
    /// The revert is carried out and the answer gets lost.
    Done,
    /// The revert is under way until the other one has finished, then it arrives.
    MuchTooLate,
    /// The revert is under way until the other one has the lease, then it arrives.
    TooLate,
}

/// What one run came to.
struct Row {
    blow: Blow,
    moment: Moment,
    /// From the blow to the lease of the standby.
    lease: Duration,
    /// From the blow to its first write in the namespace.
    write: Duration,
    /// What the API server answered to each revert, in order: the leader's, the standby's.
    reverts: [Vec<u16>; 2],
}

/// Runs everything and prints a table.
pub async fn check() -> Result<()> {
    let blows = [Blow::Killed, Blow::Asked, Blow::Frozen, Blow::CutOff];
    let moments = [Moment::Intended, Moment::Lost, Moment::Done];
    let everywhere = blows
        .into_iter()
        .flat_map(|blow| moments.map(|moment| (blow, moment)));
    let late = [Moment::TooLate, Moment::MuchTooLate].map(|moment| (Blow::Frozen, moment));
    let runs = everywhere.chain(late).map(|(blow, moment)| async move {
        let at = format!("{blow:?}, {moment:?}");
        run(blow, moment).await.context(at)
    });
    // Boxed, or the compiler has to prove too much about all of them at once.
    let runs: Vec<_> = runs.map(Box::pin).collect();
    let results: Vec<Result<Row>> = futures::stream::iter(runs)
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut failures = Vec::new();
    println!(
        "{:<8} {:<12} {:>12} {:>12}  {:<16} {:<16}",
        "leader", "revert", "lease after", "write after", "leader's reverts", "standby's reverts"
    );
    for result in results {
        match result {
            Ok(row) => println!(
                "{:<8} {:<12} {:>11.2}s {:>11.2}s  {:<16} {:<16}",
                format!("{:?}", row.blow),
                format!("{:?}", row.moment),
                row.lease.as_secs_f64(),
                row.write.as_secs_f64(),
                format!("{:?}", row.reverts[0]),
                format!("{:?}", row.reverts[1]),
            ),
            Err(error) => failures.push(format!("{error:?}")),
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

async fn run(blow: Blow, moment: Moment) -> Result<Row> {
    let name = format!("{blow:?}-{moment:?}").to_lowercase();
    let pair = Pair::new(&name).await?;
    let (told, hit) = oneshot::channel();
    let (let_go, may_go) = oneshot::channel::<()>();
    let strike = Strike {
        blow,
        leader: pair.first.killer(),
        line: pair.proxies[0].switch(),
    };
    let action = move || async move {
        let at = Timestamp::now();
        // Nobody listens any more when the run has failed.
        let _ = told.send(strike.now().map(|()| at));
        if matches!(moment, Moment::TooLate | Moment::MuchTooLate) {
            drop(may_go.await);
        }
    };
    pair.proxies[0].arm(fault(moment).run_async(action));

    pair.ask().await?;
    pair.scene.approve(REQUEST, User::Approver).await?;
    let at = tokio::time::timeout(PATIENCE, hit).await???;
    if moment == Moment::TooLate {
        eventually("the standby leads", PATIENCE, async || {
            ensure!(pair.lease().await?.holder == SECOND, "not yet");
            Ok(())
        })
        .await?;
        let _ = let_go.send(());
        finished(&pair).await?;
    } else {
        finished(&pair).await?;
        let _ = let_go.send(());
    }

    if matches!(moment, Moment::TooLate | Moment::MuchTooLate) {
        arrived(&pair).await?;
    }

    // The leader wakes up, or hears again, and has missed everything.
    let sent = pair.proxies[0].mutations().len();
    match blow {
        Blow::Killed => {}
        Blow::Asked => {
            ended(&pair, Some(0)).await?;
            let log = pair.first.log();
            ensure!(log.contains("the lease is released"), "{log}");
        }
        Blow::Frozen => {
            ensure!(pair.first.exited()?.is_none(), "it cannot have ended");
            pair.first.continue_process()?;
            ended(&pair, Some(1)).await?;
        }
        Blow::CutOff => {
            ended(&pair, Some(1)).await?;
            pair.proxies[0].switch().set(Silence::None);
        }
    }
    if matches!(blow, Blow::Frozen | Blow::CutOff) {
        let log = pair.first.log();
        ensure!(log.contains("leader election lost"), "{log}");
    }
    if blow == Blow::Frozen {
        let more = pair.proxies[0].mutations().split_off(sent);
        ensure!(more.is_empty(), "after it woke up it sent {more:?}");
    }
    once(&pair, blow, moment, at).await
}

struct Strike {
    blow: Blow,
    leader: Killer,
    line: Switch,
}

impl Strike {
    fn now(&self) -> Result<()> {
        match self.blow {
            Blow::Killed => self.leader.kill(),
            Blow::Asked => self.leader.ask_to_end()?,
            Blow::Frozen => self.leader.stop_process()?,
            Blow::CutOff => self.line.set(Silence::Everything),
        }
        Ok(())
    }
}

fn fault(moment: Moment) -> Fault {
    let is_revert = |mutation: &Mutation| {
        mutation.method == "PATCH" && mutation.path.contains("/deployments/") && !mutation.dry_run
    };
    match moment {
        Moment::Intended => {
            // The first commit after the backup brings the intent.
            let backed_up = std::sync::atomic::AtomicBool::new(false);
            Fault::new(1, Point::BeforeAnswer).only(move |mutation| {
                use std::sync::atomic::Ordering::Relaxed;
                if mutation.path.ends_with("/configmaps") {
                    backed_up.store(true, Relaxed);
                }
                mutation.path.ends_with("/status") && backed_up.load(Relaxed)
            })
        }
        Moment::Lost => Fault::new(1, Point::BeforeForward).only(is_revert),
        Moment::Done => Fault::new(1, Point::AfterCommit).only(is_revert),
        Moment::MuchTooLate | Moment::TooLate => Fault::new(1, Point::Aside).only(is_revert),
    }
}

/// The standby brings it to the end that it would have had.
async fn finished(pair: &Pair) -> Result<()> {
    let end = pair.scene.wait_for_end(REQUEST).await;
    let (_, outcome) = end.with_context(|| format!("{}{}", pair.first.log(), pair.second.log()))?;
    ensure!(
        outcome.result == RequestState::Succeeded,
        "{}",
        outcome.message
    );
    Ok(())
}

async fn ended(pair: &Pair, code: Option<i32>) -> Result<()> {
    eventually("the old leader ends", PATIENCE, async || {
        let status = pair.first.exited()?.context("it still runs")?;
        ensure!(status.code() == code, "it ended with {status}");
        Ok(())
    })
    .await
    .with_context(|| pair.first.log())
}

/// Waits for the answer to the late revert. Nobody reads it: the leader is still frozen.
async fn arrived(pair: &Pair) -> Result<()> {
    let audit = Cluster::shared().await?.audit().context("no audit log")?;
    eventually("the late revert is answered", PATIENCE, async || {
        let writes = writes(&audit, pair.ns())?;
        let leader = leader(&writes)?;
        let mut theirs = writes.iter().filter(|write| write.credential == leader);
        ensure!(theirs.any(is_revert), "not yet");
        Ok(())
    })
    .await
}

/// What the API server has to say about it.
async fn once(pair: &Pair, blow: Blow, moment: Moment, at: Timestamp) -> Result<Row> {
    let audit = Cluster::shared().await?.audit().context("no audit log")?;
    let mut patches = audit.deployment_patches(pair.ns(), DEPLOYMENT)?;
    patches.retain(|patch| patch.user == CONTROLLER);
    ensure!(patches.len() == 1, "{} template changes", patches.len());
    let deployment = pair.scene.deployment(DEPLOYMENT).await?;
    ensure!(deployment["metadata"]["generation"] == 3, "{deployment}");
    ensure!(pair.scene.image(DEPLOYMENT).await?.ends_with(":v1"));
    for (kind, count) in [("backup", 1), ("incident", 1)] {
        let found = pair.scene.artifacts(kind, REQUEST).await?.len();
        ensure!(found == count, "{found} ConfigMaps of kind {kind}");
    }
    let lease = pair.lease().await?;
    ensure!((&*lease.holder, lease.transitions) == (SECOND, 1));

    let writes = writes(&audit, pair.ns())?;
    let leader = leader(&writes)?;
    let (theirs, standbys): (Vec<&Event>, Vec<&Event>) =
        writes.iter().partition(|write| write.credential == leader);
    let took_over = audit
        .events(SYSTEM)?
        .into_iter()
        .find(|event| {
            event.resource == "leases"
                && event.name == pair.lease_name()
                && event.credential != leader
                && is_write(event)
                && event.succeeded()
        })
        .context("no takeover")?;
    let first = standbys.first().copied();
    let first = first.context("the standby wrote nothing")?;
    ensure!(first.received >= took_over.received, "it wrote too early");
    for late in theirs
        .iter()
        .filter(|write| write.answered > took_over.answered)
    {
        // Under way while it was frozen or dead. The preconditions decide then.
        let excused = matches!(moment, Moment::TooLate | Moment::MuchTooLate) && is_revert(late);
        ensure!(excused, "the old leader was heard: {late:?}");
    }
    let reverts: [Vec<u16>; 2] = [theirs, standbys].map(|writes| {
        let reverts = writes.iter().filter(|write| is_revert(write));
        reverts.map(|write| write.code).collect()
    });
    if moment == Moment::MuchTooLate {
        ensure!(reverts == [[422], [200]], "{reverts:?}");
    }
    let since = |moment: Timestamp| moment.duration_since(at).unsigned_abs();
    let row = Row {
        blow,
        moment,
        lease: since(took_over.answered),
        write: since(first.received),
        reverts,
    };
    if blow == Blow::Asked {
        let soon = Duration::from_secs(u64::from(LEASE_SECONDS));
        ensure!(
            row.lease < soon,
            "the lease was not given away: {:?}",
            row.lease
        );
    }
    Ok(row)
}

/// The writes of both controllers in the namespace, by the time at which they came in.
fn writes(audit: &Audit, namespace: &str) -> Result<Vec<Event>> {
    let mut writes: Vec<Event> = audit.events(namespace)?;
    writes.retain(|event| event.user == CONTROLLER && is_write(event));
    writes.sort_by_key(|event| event.received);
    Ok(writes)
}

/// The credential of the leader: whoever writes first.
fn leader(writes: &[Event]) -> Result<String> {
    let leader = writes.first().context("no writes")?.credential.clone();
    ensure!(!leader.is_empty(), "the audit log does not tell who is who");
    Ok(leader)
}

fn is_write(event: &Event) -> bool {
    !["get", "list", "watch"].contains(&event.verb.as_str()) && !event.is_dry_run()
}

fn is_revert(event: &Event) -> bool {
    event.verb == "patch" && event.resource == "deployments" && !event.is_dry_run()
}
