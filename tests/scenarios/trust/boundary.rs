//! Time of check, time of use: the world changes at every call that the controller makes between the approval and
//! the write, and what is written is what was approved, to what it was approved for, or nothing.
//!
//! The controller talks through a proxy. Before its n-th call after the approval goes on, something changes; n goes
//! from 1 until the write was faster than the change. What was written is read from the audit log afterwards.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::ResourceExt;
use rollback_api::CANCELLED_BY;
use rollback_api::status::Plan;
use serde_json::{Value, json};
use testkit::proxy::{Call, Errand, Proxy};
use testkit::scene::{PATIENCE, PRODUCTION, ready};
use testkit::{Scene, User, eventually};
use tokio::sync::{oneshot, watch};

use crate::boundary_change::{Change, Hands, State};
use crate::boundary_judge::judge;
use crate::stage::{PROGRAM, at_rest, writes};

/// How many namespaces are busy at the same time.
const AT_ONCE: usize = 4;
/// More calls than any way to the write takes.
const MOST_CALLS: usize = 120;
/// The kinds of calls before each of which something has to have changed.
const BOUNDARIES: [&str; 12] = [
    "GET rollbackrequests",
    "GET rollbackpolicies",
    "GET deployments",
    "GET replicasets",
    "GET revisionledgers",
    "GET configmaps",
    "GET validatingadmissionpolicies",
    "POST subjectaccessreviews",
    "POST revisionledgers",
    "POST configmaps",
    "PUT rollbackrequests/status",
    "PATCH deployments",
];
/// How often a call is tried to be met that other calls go beside: which of them is the n-th, is not the same in each run.
const TRIES: usize = 4;

/// What the proxy has seen of one run.
#[derive(Default)]
pub struct Tape {
    trap: Option<Trap>,
    /// The calls since the controller looked at the request that was approved by then.
    pub calls: Vec<Call>,
    /// The one before which something changed.
    pub hooked: Option<usize>,
    /// How many had come when the change was done.
    pub done: Option<usize>,
}

/// Stops the n-th call: says that it is there, and waits until it may go on. The first one is the first look at the
/// request, which waits until the approval is there: so the n-th call is the same one in every run.
struct Trap {
    request: String,
    nth: usize,
    approved: watch::Receiver<bool>,
    caught: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

/// One run that is over.
pub struct Run {
    /// The Deployment, which no other run has.
    pub deployment: String,
    /// What was approved.
    pub plan: Plan,
    /// The template to go back to, as it was served when it ran.
    pub old: Value,
    /// The Deployment after each write of ours.
    pub states: Vec<State>,
    /// What the proxy saw.
    pub tape: Tape,
}

impl Run {
    /// The place of the last call that wrote the Deployment.
    pub fn write(&self) -> Option<usize> {
        self.tape.calls.iter().rposition(is_write)
    }

    /// Before which kind of call something changed.
    fn boundary(&self) -> Option<String> {
        Some(kind(self.tape.calls.get(self.tape.hooked?)?))
    }

    /// Whether it was the write that waited for the change.
    fn is_at_the_write(&self) -> bool {
        self.tape.hooked.is_some() && self.tape.hooked == self.write()
    }

    /// Whether the write was faster.
    fn is_late(&self) -> bool {
        let hooked = self.tape.hooked;
        hooked.is_none_or(|hooked| self.write().is_some_and(|write| write < hooked))
    }
}

fn is_write(call: &Call) -> bool {
    call.method == "PATCH" && call.path.contains("/deployments/") && !call.is_dry_run()
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A namespace with a controller behind a proxy, for all runs of one change.
struct Arena {
    scene: Scene,
    change: Change,
    tape: Arc<Mutex<Tape>>,
    hands: Hands,
    _proxy: Proxy,
}

impl Arena {
    async fn new(change: Change) -> Result<Self> {
        let mut scene = Scene::without_controller(PROGRAM, change.name()).await?;
        let cluster = scene.cluster;
        let proxy = Proxy::start(&cluster.server()?, &cluster.ca()?).await?;
        let through = Some(proxy.url());
        let (system, account) = ("rollback-system", "rollback-controller");
        let direct = scene.kubeconfig.clone();
        scene.kubeconfig = cluster
            .service_account_kubeconfig(system, account, through.as_deref())
            .await?;
        let tape = Arc::<Mutex<Tape>>::default();
        let (reel, namespace) = (Arc::clone(&tape), format!("/namespaces/{}/", scene.ns()));
        proxy.on_call(move |call| listen(&reel, &namespace, call));
        scene.policy(Change::usual_policy()).await?;
        let hands = Hands::new(&scene, change, &direct).await?;
        scene.start_controller().await?;
        let hands = if change == Change::Claimed {
            hands.with_rival(&scene).await?
        } else {
            hands
        };
        Ok(Self {
            scene,
            change,
            tape,
            hands,
            _proxy: proxy,
        })
    }

    /// Deploys two versions, asks, approves, and changes something at the n-th call.
    async fn run(&self, number: usize, nth: usize) -> Result<Run> {
        let (name, request) = (format!("api-{number}"), format!("request-{number}"));
        let run = self.changed_at(nth, &name, &request).await;
        run.with_context(|| format!("{:?}, run {number}, call {nth}", self.change))
    }

    async fn changed_at(&self, nth: usize, name: &str, request: &str) -> Result<Run> {
        let hands = self.hands.at(name);
        let old = self.scene.deploy(at_rest(name, "v1")).await?;
        let new = self.scene.deploy(at_rest(name, "v2")).await?;
        hands.note(&new)?;
        self.change.prepare(&self.scene, &hands).await?;
        let previous = json!({"previous": {}});
        self.scene.ask(request, name, previous).await?;
        let plan = self.scene.plan(request).await?;
        let (stopped, is_stopped) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let (approve, approved) = watch::channel(false);
        *locked(&self.tape) = Tape {
            trap: Some(Trap {
                request: format!("/rollbackrequests/{request}"),
                nth,
                approved,
                caught: Some((stopped, released)),
            }),
            ..Tape::default()
        };
        let changing = async {
            if is_stopped.await.is_ok() {
                let change = self.change.happen(&hands, &plan).await;
                change.context("the change itself failed")?;
                let mut tape = locked(&self.tape);
                tape.done = Some(tape.calls.len());
            }
            drop(release);
            anyhow::Ok(())
        };
        let story = async {
            let (anna, digest) = (User::Approver, &plan.digest);
            self.scene
                .approve_plan(request, anna, PRODUCTION, digest)
                .await?;
            approve.send_replace(true);
            self.over(request, digest).await?;
            // Nothing is stopped any more.
            locked(&self.tape).trap = None;
            anyhow::Ok(())
        };
        futures::try_join!(changing, story)?;
        let tape = std::mem::take(&mut *locked(&self.tape));
        self.change.undo(&self.scene).await?;
        Ok(Run {
            deployment: name.to_owned(),
            plan,
            old: old["spec"]["template"].clone(),
            states: hands.states(),
            tape,
        })
    }

    /// Waits until the request has ended. One that waits for people or for another request is cancelled.
    async fn over(&self, name: &str, digest: &str) -> Result<()> {
        let what = format!("{name} has ended, or waits");
        let ended = eventually(&what, PATIENCE, async || {
            let request = self.scene.request(name).await?;
            let (state, message) = ready(&request);
            let status = request.status.clone().unwrap_or_default();
            if status.outcome.is_some() && request.finalizers().is_empty() {
                return Ok(true);
            }
            let changed = locked(&self.tape).done.is_some();
            let renewed = status.plan.is_some_and(|plan| plan.digest != digest);
            let voided = state == "AwaitingApproval" && renewed && status.approvals.is_empty();
            let waits = message.starts_with("Waiting for RollbackRequest");
            ensure!(changed && (voided || waits), "it is {state}: {message}");
            Ok(false)
        })
        .await?;
        if !ended {
            let rita = User::Requester;
            let cancelled = json!({CANCELLED_BY: rita.as_str()});
            self.scene.annotate(name, rita, cancelled).await?;
            self.scene.wait_for_end(name).await?;
        }
        Ok(())
    }

    /// Every n, or every third one, until the write is faster than the change. The n-th call is nearly always the same one;
    /// that it was the write itself once has to be so. Changes do not begin at the same call, so that together they meet
    /// all of them.
    async fn all(&self) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        let step = testkit::size(1, 3);
        let first = Change::ALL.iter().position(|change| *change == self.change);
        for nth in (1 + first.unwrap_or_default() % step..MOST_CALLS).step_by(step) {
            let run = self.run(nth, nth).await?;
            let write = run.write();
            let over = run.is_late();
            runs.push(run);
            match write {
                Some(_) if over && runs.iter().any(Run::is_at_the_write) => {
                    if first == Some(0) {
                        self.meet_all_kinds(&mut runs).await?;
                    }
                    return Ok(runs);
                }
                Some(write) if over => {
                    let again = self.run(MOST_CALLS + nth, write + 1).await?;
                    runs.push(again);
                }
                Some(_) | None => {}
            }
        }
        bail!("{:?}: no write within {MOST_CALLS} calls", self.change)
    }

    /// One more run for each kind of call before which nothing has changed yet.
    async fn meet_all_kinds(&self, runs: &mut Vec<Run>) -> Result<()> {
        for wanted in BOUNDARIES {
            for _ in 0..TRIES {
                if runs
                    .iter()
                    .any(|run| run.boundary().as_deref() == Some(wanted))
                {
                    break;
                }
                // A run that something early has ended makes only the calls before that.
                let place = |run: &Run| run.tape.calls.iter().position(|call| kind(call) == wanted);
                let Some(place) = runs.iter().rev().find_map(place) else {
                    break;
                };
                let run = self.run(2 * MOST_CALLS + runs.len(), place + 1).await?;
                runs.push(run);
            }
        }
        Ok(())
    }
}

/// Notes the calls about this namespace, and says what happens before which.
fn listen(tape: &Arc<Mutex<Tape>>, namespace: &str, call: &Call) -> Option<Errand> {
    let groups = [
        "/apis/authorization.k8s.io/",
        "/apis/admissionregistration.k8s.io/",
    ];
    let about = groups.iter().any(|group| call.path.starts_with(group));
    if call.is_watch() || !(about || call.path.contains(namespace)) {
        return None;
    }
    let tape = &mut *locked(tape);
    let trap = tape.trap.as_mut()?;
    if tape.calls.is_empty() && !(call.method == "GET" && call.path.ends_with(&trap.request)) {
        return None;
    }
    tape.calls.push(call.clone());
    let mut approved = trap.approved.clone();
    let caught = trap.caught.take_if(|_| tape.calls.len() == trap.nth);
    if caught.is_some() {
        tape.hooked = Some(trap.nth - 1);
    }
    Some(Box::pin(async move {
        // An error means that the run is over, and nobody is there to tell.
        drop(approved.wait_for(|approved| *approved).await);
        if let Some((stopped, released)) = caught {
            let _ = stopped.send(());
            drop(released.await);
        }
    }))
}

/// What all runs of one change came to.
struct Row {
    change: Change,
    runs: usize,
    reverts: usize,
    boundaries: BTreeSet<String>,
    seconds: f64,
}

async fn changed(change: Change) -> Result<Row> {
    let began = Instant::now();
    let arena = Arena::new(change).await?;
    let runs = arena.all().await?;
    let written = writes(&arena.scene)?;
    let mut reverts = 0;
    for run in &runs {
        let at = run
            .tape
            .hooked
            .and_then(|hooked| run.tape.calls.get(hooked));
        let story = || format!("{change:?} before {at:?} of {}", run.deployment);
        reverts += judge(change, run, &written).with_context(story)?;
    }
    ensure!(written.len() == reverts, "{change:?}: other writes");
    let boundaries: BTreeSet<String> = runs.iter().filter_map(Run::boundary).collect();
    // Changed after the write, it is nobody's fault any more: that has to be among the runs, or they ended too early.
    let done = |run: &&Run| written.iter().any(|event| event.name == run.deployment);
    let late = runs
        .iter()
        .filter(|run| run.is_late())
        .any(|run| done(&run));
    ensure!(late, "{change:?}: no run was a rollback");
    Ok(Row {
        change,
        runs: runs.len(),
        reverts,
        boundaries,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Verb and kind, without names.
fn kind(call: &Call) -> String {
    let parts: Vec<&str> = call.path.split('/').collect();
    let kind = match parts.iter().position(|part| *part == "namespaces") {
        Some(at) => parts.get(at + 2),
        None => parts.get(4),
    };
    let status = if call.path.ends_with("/status") {
        "/status"
    } else {
        ""
    };
    let kind = kind.copied().unwrap_or_default();
    format!("{} {kind}{status}", call.method)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_changes_at_whatever_call_only_the_approved_is_written() -> Result<()> {
    let arenas = Change::ALL.map(|change| Box::pin(changed(change)));
    let rows: Vec<Row> = futures::stream::iter(arenas)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    println!(
        "{:<20} {:>5} {:>8} {:>7}",
        "change", "runs", "reverts", "took"
    );
    let mut boundaries = BTreeSet::new();
    for row in &rows {
        let (name, seconds) = (row.change.name(), row.seconds);
        println!(
            "{name:<20} {:>5} {:>8} {seconds:>6.1}s",
            row.runs, row.reverts
        );
        boundaries.extend(row.boundaries.iter().cloned());
    }
    let runs: usize = rows.iter().map(|row| row.runs).sum();
    println!("{runs} runs; something changed before: {boundaries:#?}");
    for wanted in BOUNDARIES {
        ensure!(boundaries.contains(wanted), "never before {wanted}");
    }
    Ok(())
}
