//! Ends holds: those that a person releases, and those of requests that rolled nothing back. It works from the ledgers
//! alone: the requests may be gone by then.
//!
//! Ledgers with a hold have a label, and only those are watched. One look decides one write (`rollback_core::hold::release`);
//! what came of it is seen by the next look.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use rollback_api::hold::Hold;
use rollback_api::{HOLDS_LABEL, RELEASE, RELEASED_BY, RevisionLedger, WorkloadRef};
use rollback_core::hold::release::{self, NextWrite, Over, ReleaseAnnotations};
use rollback_core::observed::is_refusal;
use rollback_core::report::notice::Notice;
use rollback_observe::{self as observe, holds};
use tokio::time::Instant;

use crate::context::Context;
use crate::reconcile::{backoff, chain};
use crate::watch::WATCH_SECONDS;
use crate::{act, events, ledger};

/// After how long a ledger is looked at again though nothing changed: an owner may be gone.
const AGAIN: Duration = Duration::from_mins(10);
/// How long one look may take, whatever hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a hold was not looked at or ended. All of it is tried again.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Something could not be read.
    #[error("observing failed")]
    Observe(#[from] observe::Error),
    /// The ledger could not be written.
    #[error("writing the RevisionLedger")]
    Ledger(#[source] kube::Error),
    /// The object could not be written.
    #[error("ending the hold on {owner}")]
    Lift {
        /// Whose.
        owner: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// It took too long.
    #[error("the look did not end within {} seconds", LIMIT.as_secs())]
    TimedOut,
}

impl Error {
    /// Whether somebody else wrote first. Nothing is wrong then: look again.
    fn is_race(&self) -> bool {
        let error = match self {
            Self::Ledger(error) | Self::Lift { source: error, .. } => error,
            Self::Observe(_) | Self::TimedOut => return false,
        };
        matches!(error, kube::Error::Api(status) if status.is_conflict() || status.is_not_found())
    }
}

/// The ledger of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    namespace: String,
    name: String,
}

/// When which ledger is looked at, and how often that has failed.
#[derive(Default)]
struct Due(HashMap<Name, (Instant, u32)>);

impl Due {
    fn next(&self) -> Option<(Name, Instant)> {
        let all = self.0.iter().map(|(name, (at, _))| (name.clone(), *at));
        all.min_by_key(|(_, at)| *at)
    }

    fn at(&mut self, name: Name, wait: Duration, failures: u32) {
        self.0.insert(name, (Instant::now() + wait, failures));
    }
}

/// Ends holds while this controller leads. Never ends.
pub async fn run(context: Arc<Context>, watches: Client, namespace: Option<String>) {
    if !context.leader.elected().await {
        std::future::pending::<()>().await;
    }
    let api: Api<PartialObjectMeta<RevisionLedger>> = match namespace {
        Some(namespace) => Api::namespaced(watches, &namespace),
        None => Api::all(watches),
    };
    let config = watcher::Config::default()
        .labels(HOLDS_LABEL)
        .timeout(WATCH_SECONDS)
        .streaming_lists();
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut due = Due::default();
    loop {
        let next = due.next();
        tokio::select! {
            Some(event) = events.next() => take(event, &mut due),
            () = until(next.as_ref()) => {
                if let Some((name, _)) = next {
                    let failures = due.0.get(&name).map_or(0, |(_, failures)| *failures);
                    look(&context, &name, &mut due, failures).await;
                }
            }
        }
    }
}

async fn until(next: Option<&(Name, Instant)>) {
    match next {
        Some((_, at)) => tokio::time::sleep_until(*at).await,
        None => std::future::pending().await,
    }
}

fn take(event: watcher::Result<Event<PartialObjectMeta<RevisionLedger>>>, due: &mut Due) {
    let name = |ledger: &PartialObjectMeta<RevisionLedger>| Name {
        namespace: ledger.namespace().unwrap_or_default(),
        name: ledger.name_any(),
    };
    match event {
        Ok(Event::Init | Event::InitDone) => {}
        Ok(Event::InitApply(ledger) | Event::Apply(ledger)) => {
            due.at(name(&ledger), Duration::ZERO, 0);
        }
        Ok(Event::Delete(ledger)) => {
            due.0.remove(&name(&ledger));
        }
        Err(error) => {
            tracing::warn!(%error, kind = "RevisionLedger", "a watch failed and is made anew");
        }
    }
}

async fn look(context: &Context, name: &Name, due: &mut Due, failures: u32) {
    let result = tokio::time::timeout(LIMIT, visit(context, name)).await;
    match result.unwrap_or(Err(Error::TimedOut)) {
        Ok(Next::Again) => due.at(name.clone(), Duration::ZERO, 0),
        Ok(Next::Later) => due.at(name.clone(), AGAIN, 0),
        Ok(Next::Never) => {
            due.0.remove(name);
        }
        Err(error) if error.is_race() => due.at(name.clone(), backoff(1), failures),
        Err(error) => {
            let failures = failures.saturating_add(1);
            let wait = backoff(failures);
            tracing::warn!(
                namespace = name.namespace,
                ledger = name.name,
                why = chain(&error),
                requeue_after = ?wait,
                "a hold could not be looked at, or not be ended"
            );
            due.at(name.clone(), wait, failures);
        }
    }
}

/// What follows a look.
enum Next {
    /// Something was written: look again.
    Again,
    /// Nothing is to be done now.
    Later,
    /// Nothing is held any more.
    Never,
}

async fn visit(context: &Context, name: &Name) -> Result<Next, Error> {
    let client = &context.client;
    let api: Api<RevisionLedger> = Api::namespaced(client.clone(), &name.namespace);
    let found = observe::reading("the RevisionLedger", api.get_opt(&name.name).await)?;
    let Some(found) = found.filter(|ledger| !ledger.spec.holds.is_empty()) else {
        return Ok(Next::Never);
    };
    let reads = found
        .spec
        .holds
        .iter()
        .map(|hold| holds::object(client, hold.means, &hold.object));
    let objects = futures::future::join_all(reads).await;
    let others = if found.spec.holds.iter().any(release::is_due) {
        holds::held_by_others(client, &name.namespace, &name.name).await?
    } else {
        BTreeSet::new()
    };
    let shared = found
        .spec
        .holds
        .iter()
        .map(|hold| others.contains(&hold.object.uid));
    let shared: Vec<bool> = shared.collect();
    let now = Timestamp::now();
    match release::next_write(
        &name.namespace,
        &found.spec,
        annotations(&found),
        &objects,
        &shared,
        now,
    ) {
        NextWrite::Nothing => Ok(Next::Later),
        NextWrite::Ledger { next, over } => {
            ledger::write(client, &name.namespace, Some(&found), &next)
                .await
                .map_err(Error::Ledger)?;
            if let Some((hold, over)) = over {
                tell(
                    context,
                    name,
                    &found.spec.target_ref,
                    &hold,
                    ended(&hold, over, now),
                )
                .await;
            }
            Ok(Next::Again)
        }
        NextWrite::Lift { index, patch } => {
            let Some(hold) = found.spec.holds.get(index) else {
                return Ok(Next::Again);
            };
            match act::end_hold(client, hold, &patch).await {
                Ok(()) => Ok(Next::Again),
                Err(source) => {
                    if let kube::Error::Api(status) = &source
                        && is_refusal(status.code)
                    {
                        let stuck = stuck(hold, &status.message, now);
                        tell(context, name, &found.spec.target_ref, hold, stuck).await;
                    }
                    Err(Error::Lift {
                        owner: hold.owner.clone(),
                        source,
                    })
                }
            }
        }
    }
}

/// What a person wrote on the ledger.
fn annotations(ledger: &RevisionLedger) -> Option<ReleaseAnnotations<'_>> {
    let annotations = ledger.metadata.annotations.as_ref()?;
    Some(ReleaseAnnotations {
        request: annotations.get(RELEASE)?,
        by: annotations.get(RELEASED_BY)?,
    })
}

fn ended(hold: &Hold, over: Over, now: Timestamp) -> Notice {
    let (warning, reason) = match over {
        Over::Released | Over::Shared => (false, "HoldReleased"),
        Over::Changed => (true, "HoldChanged"),
        Over::Gone => (true, "HoldLost"),
    };
    Notice {
        at: now,
        warning,
        reason,
        action: "Release",
        note: release::told_over(hold, over),
        key: Some(format!("{} {}", hold.request_uid, hold.object.uid)),
    }
}

fn stuck(hold: &Hold, why: &str, now: Timestamp) -> Notice {
    Notice {
        at: now,
        warning: true,
        reason: "HoldNotReleased",
        action: "Release",
        note: release::told_stuck(hold, why),
        key: Some(format!("{} {}", hold.request_uid, hold.object.uid)),
    }
}

/// An Event on the workload. It is told after the fact, and stops nothing.
async fn tell(context: &Context, name: &Name, workload: &WorkloadRef, hold: &Hold, notice: Notice) {
    let event = notice.event_name(&workload.name, &workload.uid);
    tracing::info!(
        namespace = name.namespace,
        workload = %workload,
        request = hold.request,
        reason = notice.reason,
        note = notice.note,
        "a hold"
    );
    let regarding = ObjectReference {
        api_version: workload.kind.api_version().map(str::to_owned),
        kind: Some(workload.kind.as_str().to_owned()),
        namespace: Some(name.namespace.clone()),
        name: Some(workload.name.clone()),
        uid: Some(workload.uid.clone()),
        ..ObjectReference::default()
    };
    if let Err(error) = events::create(context, regarding, &event, notice).await {
        tracing::warn!(%error, namespace = name.namespace, "an Event about a hold was not sent");
    }
}
