//! A cluster in memory: the API server's generations, UIDs and resourceVersions, the Deployment controller as
//! `rollback-semantics.md` describes it, people, several requests at once, and two rollback controllers that die.

mod controller;
mod deployments;
mod laws;
mod people;
pub mod story;

use crate::world::Observed;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::Timestamp;
use rollback_api::status::RollbackRequestStatus;
use rollback_api::{RevisionLedgerSpec, RollbackPolicySpec, RollbackRequest};
use rollback_core::observed::{Deployment, Guard, Rejection};
use serde_json::{Value, json};

use crate::world::{self, at, guard_policy, request};

/// The Deployments that a story may be about.
pub const NAMES: [&str; 4] = ["api", "web", "worker", "cron"];

/// How a pass of a controller ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It does not.
    No,
    /// Decided, but nothing written.
    BeforeCommit,
    /// The status is written, no step is taken.
    BeforeAct,
    /// The steps are taken, what they answered is lost.
    AfterAct,
    /// Some of the steps are taken, by the bits of their places.
    Among(u8),
    /// The writes to Deployments are sent and arrive when somebody else has looked again.
    InFlight,
}

/// How old the view of a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Everything is read now.
    Live,
    /// The request is read now, everything else by the pass of this controller before.
    OldReads,
    /// The controller was the leader once: it goes on from its pass before.
    OldLeader,
}

/// One thing that happens. The first number is the place of the request or of the Deployment.
#[derive(Clone, Debug)]
pub enum Event {
    /// A pass of a controller, with something that happens between its read and its commit, and
    /// something between its commit and its writes.
    Pass {
        /// The request.
        request: usize,
        /// Which of the two controllers.
        controller: usize,
        /// How it dies.
        crash: Crash,
        /// What it sees.
        view: View,
        /// Whether the steps are taken twice.
        twice: bool,
        /// Between the read and the commit.
        early: Option<Box<Event>>,
        /// Between the commit and the writes.
        late: Option<Box<Event>>,
    },
    /// A sync of the Deployment controller.
    Sync(usize),
    /// Seconds go by.
    Tick(i64),
    /// Somebody approves the published plan, properly.
    Approve(usize, &'static str),
    /// Somebody writes an approval that must not count.
    Forge(usize, Forgery),
    /// Somebody takes back what they approved.
    Withdraw(usize, &'static str),
    /// Somebody strips the mailbox.
    Strip(usize),
    /// Somebody denies.
    Deny(usize),
    /// Somebody cancels.
    Cancel(usize),
    /// Somebody deletes the request.
    Delete(usize),
    /// Somebody deploys a version, as CI does that names its change, or as Git does that does not.
    Deploy(usize, &'static str, bool),
    /// Somebody restarts the Deployment.
    Restart(usize),
    /// Somebody undoes the last rollout with kubectl.
    Undo(usize),
    /// Somebody annotates the Deployment.
    Annotate(usize),
    /// An autoscaler works.
    Scale(usize, i64),
    /// Pauses or resumes.
    Pause(usize, bool),
    /// Somebody puts another policy in force.
    Policy(u8),
    /// Somebody touches the guard.
    Guard(u8),
    /// Whether requester and approvers have their permissions.
    Permissions(usize, bool),
    /// The Deployment is deleted, and made again with a version or not.
    Recreate(usize, Option<&'static str>),
    /// Somebody deletes the `ReplicaSets` of v1.
    Prune(usize),
    /// Somebody edits the template of the `ReplicaSets` of v1.
    Poison(usize),
    /// The watch records in the ledger what runs.
    Record(usize),
    /// Somebody lifts the quarantine of v2.
    Lift(usize),
    /// Somebody deletes the ledger.
    LoseLedger(usize),
    /// Whether pods of other versions than v2 become available.
    Well(usize, bool),
    /// Whether checks answer well.
    Healthy(usize, bool),
    /// Whether the API server takes templates of other versions than v2.
    Takes(usize, bool),
    /// Whether a webhook alters every template that is written.
    Webhook(usize, bool),
    /// Whether the Deployment can be read.
    Blind(usize, bool),
    /// A hostile hand writes a template that is known, or none, and any change-cause: also those that a request writes.
    Hand(usize, u8, u8),
    /// The same hand writes any change-cause on a `ReplicaSet`.
    Mark(usize, u8, u8),
}

/// Approvals that must not count.
#[derive(Clone, Copy, Debug)]
pub enum Forgery {
    /// By the requester.
    Own,
    /// With another phrase.
    Phrase,
    /// For another digest.
    Digest,
    /// Without the stamp of the API server.
    Stamp,
    /// By a ServiceAccount.
    Robot,
    /// With items of the checklist left open.
    Unticked,
    /// Alone, where nobody may.
    Alone,
}

/// What a write to a Deployment was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WriteKind {
    /// The old template.
    Revert,
    /// The fallback.
    Fallback,
    /// The template from before.
    Restore,
}

/// One Deployment, and what must be known of its past to judge what was done to it.
#[derive(Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the world"
)]
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// The Deployment.
    pub object: Option<Value>,
    sets: Vec<Value>,
    /// The ledger and its resourceVersion.
    pub ledger: Option<(RevisionLedgerSpec, i64)>,
    lifted: bool,
    allowed: bool,
    well: bool,
    healthy: bool,
    takes: bool,
    webhook: bool,
    blind: bool,
    /// When the Deployment controller last saw progress.
    progressed: i64,
    /// Whether anybody else changed the template, or kept us from doing so.
    meddled: bool,
    /// Whether a ledger of this Deployment was deleted.
    forgetful: bool,
}

/// One request, and what must be known of its past to judge it.
#[derive(Clone)]
pub struct Case {
    /// Its UID.
    pub uid: String,
    /// The request; gone when it is gone.
    pub request: Option<RollbackRequest>,
    /// The last status that was committed; it outlives the request.
    pub last: RollbackRequestStatus,
    /// Who approved which digest so that it counts.
    approvals: BTreeSet<(String, String)>,
    /// Which Deployments were begun upon which plan, while enough people had approved that.
    begun: BTreeSet<(String, String)>,
    /// The Jobs of each plan that was published.
    named: BTreeMap<String, BTreeSet<String>>,
    pinned: Option<Value>,
    /// The successful writes to Deployments.
    pub writes: Vec<(String, WriteKind)>,
    /// The generation that each Deployment had right after the last of them.
    left_at: BTreeMap<String, i64>,
    /// Incident reports as published.
    pub incidents: BTreeSet<String>,
    /// Whether a stale view was used, or a write arrived after the intent to make it was taken back, so that only
    /// safety is promised.
    pub fooled: bool,
}

/// What one controller knows by itself, and loses when it dies.
#[derive(Clone, Default)]
struct Memory {
    rejections: BTreeMap<(usize, String), Rejection>,
    accepted: BTreeMap<(usize, String), i64>,
    intended: BTreeMap<(usize, String), i64>,
    views: BTreeMap<usize, Rc<Seeing>>,
}

/// What a pass has read.
struct Seeing {
    request: RollbackRequest,
    observed: Observed,
    ledgers: BTreeMap<String, Option<i64>>,
}

/// The cluster.
#[derive(Clone)]
pub struct Cluster {
    now: i64,
    version: i64,
    /// The Deployments.
    pub places: Vec<Place>,
    /// The requests.
    pub cases: Vec<Case>,
    config_maps: BTreeMap<String, (i64, Option<Deployment>)>,
    /// The Jobs that were started. Each succeeds.
    jobs: BTreeSet<String>,
    policy: Option<RollbackPolicySpec>,
    guard: Guard,
    controllers: [Memory; 2],
    in_flight: Vec<(usize, String, Value)>,
}

impl Cluster {
    /// Deployments with these histories that run v2, and these requests that nobody has looked at yet.
    pub fn new(histories: &[u8], requests: &[Value], policy: Option<RollbackPolicySpec>) -> Self {
        let cases = requests.iter().enumerate().map(|(index, fields)| {
            let mut request = request(fields);
            let uid = format!("7c9c41d6-{index}");
            request.metadata.name = Some(format!("request-{index}"));
            request.metadata.uid = Some(uid.clone());
            request.metadata.resource_version = Some("1".to_owned());
            // As the API server takes it: nobody has looked at it yet.
            request.metadata.finalizers = None;
            Case {
                uid,
                request: Some(request),
                last: RollbackRequestStatus::default(),
                approvals: BTreeSet::new(),
                begun: BTreeSet::new(),
                named: BTreeMap::new(),
                pinned: None,
                writes: Vec::new(),
                left_at: BTreeMap::new(),
                incidents: BTreeSet::new(),
                fooled: false,
            }
        });
        Self {
            now: 1,
            version: 100,
            places: histories
                .iter()
                .zip(NAMES)
                .map(|(history, name)| Place::new(name, *history))
                .collect(),
            cases: cases.collect(),
            config_maps: BTreeMap::new(),
            jobs: BTreeSet::new(),
            policy,
            guard: Guard {
                present: vec![guard_policy("approvals", 1), guard_policy("spec", 1)],
                holes: Vec::new(),
                typed: false,
            },
            controllers: [Memory::default(), Memory::default()],
            in_flight: Vec::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        at(self.now)
    }

    /// The status of a request as committed.
    pub fn status(&self, case: usize) -> RollbackRequestStatus {
        self.cases[case]
            .request
            .as_ref()
            .and_then(|request| request.status.clone())
            .unwrap_or_default()
    }

    /// Whether nothing is owed to any request any more.
    pub fn is_over(&self) -> bool {
        self.cases.iter().all(Case::is_over)
    }

    fn next_version(&mut self) -> i64 {
        self.version += 1;
        self.version
    }

    fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == name)
    }

    fn place_mut(&mut self, name: &str) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.name == name)
    }

    /// Makes something happen.
    pub fn happen(&mut self, event: &Event) {
        let (places, cases) = (self.places.len(), self.cases.len());
        match event {
            Event::Pass {
                request,
                controller,
                crash,
                view,
                twice,
                early,
                late,
            } => {
                self.pass(
                    request % cases,
                    controller % 2,
                    (*crash, *view, *twice),
                    early.as_deref(),
                    late.as_deref(),
                );
            }
            Event::Sync(place) => {
                self.land();
                self.sync(place % places);
            }
            Event::Tick(seconds) => {
                self.land();
                self.now += seconds;
            }
            Event::Approve(case, who) => self.approve(case % cases, who, None),
            Event::Forge(case, forgery) => {
                self.approve(case % cases, "eve@broxiva.com", Some(*forgery));
            }
            Event::Withdraw(case, who) => self.withdraw(case % cases, who),
            Event::Strip(case) => self.strip(case % cases),
            Event::Deny(case) => self.say(case % cases, people::deny),
            Event::Cancel(case) => self.say(case % cases, people::cancel),
            Event::Delete(case) => self.delete(case % cases),
            Event::Policy(which) => self.policy.clone_from(&policies()[usize::from(*which) % 7]),
            Event::Guard(which) => self.touch_guard(*which),
            Event::Deploy(place, ..)
            | Event::Restart(place)
            | Event::Undo(place)
            | Event::Annotate(place)
            | Event::Scale(place, _)
            | Event::Pause(place, _)
            | Event::Permissions(place, _)
            | Event::Recreate(place, _)
            | Event::Prune(place)
            | Event::Poison(place)
            | Event::Record(place)
            | Event::Lift(place)
            | Event::LoseLedger(place)
            | Event::Well(place, _)
            | Event::Healthy(place, _)
            | Event::Takes(place, _)
            | Event::Webhook(place, _)
            | Event::Hand(place, ..)
            | Event::Mark(place, ..)
            | Event::Blind(place, _) => self.happen_at(place % places, event),
        }
    }
}

impl Case {
    /// Whether nothing is owed to it any more.
    pub fn is_over(&self) -> bool {
        self.request.as_ref().is_none_or(|request| {
            let status = request.status.as_ref();
            let ended = status.is_some_and(|status| status.outcome.is_some());
            ended && !request.holds_finalizer()
        })
    }
}

/// The policies of the simulation; the first is none.
pub fn policies() -> [Option<RollbackPolicySpec>; 7] {
    let job = |name: &str| {
        json!({
            "name": name, "timeoutSeconds": 60,
            "podSpec": {"containers": [{"name": "main", "image": "registry.broxiva.com/tools:1"}]},
        })
    };
    let checks = json!({"timeoutSeconds": 60, "http": [{"name": "live", "port": 1, "path": "/"}]});
    let soaking = json!({"timeoutSeconds": 60, "soakSeconds": 90, "http": [{"name": "live", "port": 1, "path": "/"}]});
    [
        None,
        Some(world::policy(json!({"environment": "staging"}))),
        Some(world::policy(
            json!({"environment": "staging", "verification": checks}),
        )),
        Some(world::policy(json!({
            "environment": "production", "approvals": {"required": 2},
            "rollout": {"timeoutSeconds": 120}, "verification": checks,
        }))),
        Some(world::policy(json!({
            "environment": "staging", "verification": soaking, "ledger": {"soakSeconds": 0},
        }))),
        // Approvals that become too old, and a freeze of every second half hour.
        Some(world::policy(json!({
            "approvals": {"required": 2, "byUrgency": [{"urgency": "Critical", "required": 1}], "validForSeconds": 60},
            "freezeWindows": [{"name": "halves", "schedule": "0 * * * *", "durationMinutes": 30}],
        }))),
        // Everything that may be done besides the write: Jobs and a fallback.
        Some(world::policy(json!({
            "environment": "staging",
            "hooks": {"preRollback": [job("drain")], "postRollback": [job("tell")]},
            "verification": {
                "timeoutSeconds": 60, "onFailure": "TryOlder", "jobs": [job("smoke")],
                "http": [{"name": "live", "port": 1, "path": "/"}],
            },
        }))),
    ]
}
