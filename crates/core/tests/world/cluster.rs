//! A cluster in memory: the API server's generations, UIDs and resourceVersions, the Deployment
//! controller as `rollback-semantics.md` describes it, people, and a rollback controller that dies.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rollback_api::ledger::Claim;
use rollback_api::status::RollbackRequestStatus;
use rollback_api::{
    APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, CANCELLED_BY, CONFIRM, DENIED_BY, FINALIZER, PLAN,
    RevisionLedgerSpec, RollbackPolicySpec, RollbackRequest,
};
use rollback_core::artifact::{backup_name, incident_name};
use rollback_core::decide::decide;
use rollback_core::health;
use rollback_core::ledger::{Holder, holder};
use rollback_core::observed::{
    Access, Answer, Deployment, Guard, Observed, Reading, Rejection, ReplicaSet, Rival, Seen,
};
use rollback_core::plan;
use rollback_core::step::{Decision, Phase, Step};
use rollback_core::template::Template;
use serde_json::{Value, json};

use super::{
    DEPLOYMENT, REQUEST, REQUESTER, annotate, at, deployment, guard_policy, patch, progressing,
    replica_set, request, restarted, template,
};

/// How a pass of the controller ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It does not.
    No,
    /// Decided, but nothing written.
    BeforeCommit,
    /// The status is written, the step is not taken.
    BeforeAct,
    /// The step is taken, what it answered is lost.
    AfterAct,
    /// The revert is sent and arrives when somebody else has looked again.
    InFlight,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A pass of the controller, with something that happens between its read and its commit, and
    /// something between its commit and its write.
    Pass {
        /// How it dies.
        crash: Crash,
        /// Whether it reads what the pass before it has read.
        stale: bool,
        /// Whether the step is taken twice.
        twice: bool,
        /// Between the read and the commit.
        early: Option<Box<Event>>,
        /// Between the commit and the write.
        late: Option<Box<Event>>,
    },
    /// A sync of the Deployment controller.
    Sync,
    /// Seconds go by.
    Tick(i64),
    /// Somebody approves the published plan, properly.
    Approve(&'static str),
    /// Somebody writes an approval that must not count.
    Forge(Forgery),
    /// Somebody strips the mailbox.
    Strip,
    /// Somebody denies.
    Deny,
    /// Somebody cancels.
    Cancel,
    /// Somebody deletes the request.
    Delete,
    /// Somebody deploys a version, as CI does that names its change, or as Git does that does not.
    Deploy(&'static str, bool),
    /// Somebody restarts the Deployment.
    Restart,
    /// Somebody undoes the last rollout with kubectl.
    Undo,
    /// Somebody annotates the Deployment.
    Annotate,
    /// An autoscaler works.
    Scale(i64),
    /// Pauses or resumes.
    Pause(bool),
    /// Somebody puts another policy in force.
    Policy(u8),
    /// Somebody touches the guard.
    Guard(u8),
    /// Whether requester and approvers have their permissions.
    Permissions(bool),
    /// The Deployment is deleted, and made again with a version or not.
    Recreate(Option<&'static str>),
    /// Somebody deletes the `ReplicaSet` of v1.
    Prune,
    /// Somebody edits the template of the `ReplicaSet` of v1.
    Poison,
    /// Another request claims the Deployment when nobody holds it, or ends.
    Rival(bool),
    /// Somebody deletes the ledger.
    LoseLedger,
    /// Whether pods of v1 become available.
    Well(bool),
    /// Whether checks answer well.
    Healthy(bool),
    /// Whether the API server takes the revert.
    Takes(bool),
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
}

/// The cluster, and what must be known of its past to judge it.
#[derive(Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the world"
)]
pub struct Cluster {
    now: i64,
    version: i64,
    /// The request; gone when it is gone.
    pub request: Option<RollbackRequest>,
    /// The Deployment.
    pub deployment: Option<Value>,
    replica_sets: Vec<Value>,
    /// The ledger and its resourceVersion.
    pub ledger: Option<(RevisionLedgerSpec, i64)>,
    config_maps: BTreeMap<String, i64>,
    policy: Option<RollbackPolicySpec>,
    guard: Guard,
    allowed: bool,
    rival_active: bool,
    well: bool,
    healthy: bool,
    takes: bool,
    /// When the Deployment controller last saw progress.
    progressed: i64,
    rejection: Option<Rejection>,
    in_flight: Option<Value>,
    cache: Option<(Observed, Option<i64>)>,
    /// Who approved which digest so that it counts.
    approvals: BTreeSet<(String, String)>,
    /// Our successful writes to the Deployment.
    pub reverts: Vec<i64>,
    /// Whether a stale read was used or the ledger was lost, so that only safety is promised.
    pub fooled: bool,
    /// Incident reports as published.
    pub incidents: BTreeSet<String>,
    pinned: Option<Value>,
    /// The last status that was committed; it outlives the request.
    last: RollbackRequestStatus,
}

impl Cluster {
    /// v2 runs, v1 and v0 are in the history, nobody has looked at the request yet.
    pub fn new(fields: &Value, policy: Option<RollbackPolicySpec>) -> Self {
        let mut object = deployment("v2");
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("3");
        let mut request = request(fields);
        request.metadata.resource_version = Some("1".to_owned());
        Self {
            now: 1,
            version: 100,
            request: Some(request),
            deployment: Some(object),
            replica_sets: vec![
                replica_set("v0", "1"),
                replica_set("v1", "2"),
                replica_set("v2", "3"),
            ],
            ledger: None,
            config_maps: BTreeMap::new(),
            policy,
            guard: Guard {
                present: vec![guard_policy("approvals", 1), guard_policy("spec", 1)],
                missing: Vec::new(),
            },
            allowed: true,
            rival_active: false,
            well: true,
            healthy: true,
            takes: true,
            progressed: 0,
            rejection: None,
            in_flight: None,
            cache: None,
            approvals: BTreeSet::new(),
            reverts: Vec::new(),
            fooled: false,
            incidents: BTreeSet::new(),
            pinned: None,
            last: RollbackRequestStatus::default(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        at(self.now)
    }

    /// The status of the request as committed.
    pub fn status(&self) -> RollbackRequestStatus {
        self.request
            .as_ref()
            .and_then(|request| request.status.clone())
            .unwrap_or_default()
    }

    /// Whether nothing is owed to the request any more.
    pub fn is_over(&self) -> bool {
        self.request.as_ref().is_none_or(|request| {
            let held = request.metadata.finalizers.as_ref();
            held.is_none_or(Vec::is_empty)
        })
    }

    /// Makes something happen.
    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Pass {
                crash,
                stale,
                twice,
                early,
                late,
            } => {
                self.pass(*crash, *stale, *twice, early.as_deref(), late.as_deref());
            }
            Event::Sync => {
                self.land();
                self.sync();
            }
            Event::Tick(seconds) => {
                self.land();
                self.now += seconds;
            }
            Event::Approve(who) => self.approve(who, None),
            Event::Forge(forgery) => self.approve("eve@broxiva.com", Some(*forgery)),
            Event::Strip => self.say(|request| request.metadata.annotations = None),
            Event::Deny => self.say(|request| annotate(request, DENIED_BY, "dan@broxiva.com")),
            Event::Cancel => self.say(|request| annotate(request, CANCELLED_BY, REQUESTER)),
            Event::Delete => self.delete(),
            Event::Deploy(version, named) => {
                // Named so before the Deployment controller has looked, nothing tells what was before.
                if *named {
                    self.sync();
                }
                // Nor does it when the old version is deployed under another name: its `ReplicaSet` is the
                // witness of our write and would forget it.
                if *named && *version == "v1" && !self.reverts.is_empty() {
                    return;
                }
                let cause = named.then(|| format!("deploy {version}"));
                self.deploy(&template(version), cause.as_deref());
            }
            Event::Restart => self.restart(),
            Event::Undo => {
                self.sync();
                self.undo();
            }
            Event::Annotate => self.edit(|object| {
                let count = object["metadata"]["generation"].clone();
                object["metadata"]["annotations"]["example.com/touched"] = json!(count.to_string());
            }),
            Event::Scale(replicas) => {
                self.edit(|object| object["spec"]["replicas"] = json!(replicas));
            }
            Event::Pause(paused) => self.edit(|object| object["spec"]["paused"] = json!(paused)),
            Event::Policy(which) => self.policy.clone_from(&policies()[usize::from(*which) % 4]),
            Event::Guard(which) => self.touch_guard(*which),
            Event::Permissions(allowed) => self.allowed = *allowed,
            Event::Recreate(version) => self.recreate(*version),
            Event::Prune => {
                // It is the witness of our write: without it nobody can tell.
                self.fooled |= !self.reverts.is_empty();
                self.replica_sets
                    .retain(|set| set["metadata"]["name"] != "api-v1");
            }
            Event::Poison => {
                for set in &mut self.replica_sets {
                    if set["metadata"]["name"] == "api-v1" {
                        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
                    }
                }
            }
            Event::Rival(claims) => self.rival(*claims),
            Event::LoseLedger => {
                self.fooled = true;
                self.ledger = None;
            }
            Event::Well(well) => self.well = *well,
            Event::Healthy(healthy) => self.healthy = *healthy,
            Event::Takes(takes) => self.takes = *takes,
        }
    }

    fn next_version(&mut self) -> i64 {
        self.version += 1;
        self.version
    }

    // === people

    fn say(&mut self, change: impl FnOnce(&mut RollbackRequest)) {
        let version = self.next_version();
        if let Some(request) = &mut self.request {
            change(request);
            request.metadata.resource_version = Some(version.to_string());
        }
    }

    fn approve(&mut self, who: &str, forgery: Option<Forgery>) {
        let Some(plan) = self.status().plan else {
            return;
        };
        let who = match forgery {
            Some(Forgery::Own) => REQUESTER,
            Some(Forgery::Robot) => "system:serviceaccount:shop:robot",
            _ => who,
        };
        let digest = match forgery {
            Some(Forgery::Digest) => format!("{}0", plan.digest),
            _ => plan.digest.clone(),
        };
        let phrase = match forgery {
            Some(Forgery::Phrase) => "ROLL BACK",
            _ => plan.rules.confirm_phrase.as_str(),
        };
        let groups = match forgery {
            Some(Forgery::Stamp) => "",
            _ => "sre\nsystem:authenticated",
        };
        // The requester's own approval is one where four eyes are not asked for.
        if matches!(forgery, None | Some(Forgery::Own)) {
            self.approvals.insert((who.to_owned(), digest.clone()));
        }
        self.say(|request| {
            annotate(request, APPROVED_BY, who);
            annotate(request, CONFIRM, phrase);
            annotate(request, PLAN, &digest);
            annotate(request, APPROVER_UID, "u-1");
            annotate(request, APPROVER_GROUPS, groups);
        });
    }

    fn delete(&mut self) {
        let when = Time(self.now());
        self.say(|request| {
            request.metadata.deletion_timestamp.get_or_insert(when);
        });
        self.collect();
    }

    /// The API server removes a deleted request that nothing holds any more.
    fn collect(&mut self) {
        let gone = self.request.as_ref().is_some_and(|request| {
            request.metadata.deletion_timestamp.is_some()
                && request
                    .metadata
                    .finalizers
                    .as_ref()
                    .is_none_or(Vec::is_empty)
        });
        if gone {
            self.request = None;
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let version = self.next_version();
        if let Some(object) = &mut self.deployment {
            let before = (object["spec"].clone(), object["metadata"].clone());
            edit(object);
            if before != (object["spec"].clone(), object["metadata"].clone()) {
                let generation = object["metadata"]["generation"].as_i64().unwrap();
                object["metadata"]["generation"] = json!(generation + 1);
                object["metadata"]["resourceVersion"] = json!(version.to_string());
            }
        }
    }

    fn deploy(&mut self, template: &Value, cause: Option<&str>) {
        self.edit(|object| {
            object["spec"]["template"] = template.clone();
            if let Some(cause) = cause {
                object["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(cause);
            }
        });
    }

    fn restart(&mut self) {
        let when = self.now().to_string();
        self.edit(|object| {
            object["spec"]["template"]["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/restartedAt": when});
        });
    }

    /// `kubectl rollout undo`: the second-highest number, with the annotations of that `ReplicaSet`.
    fn undo(&mut self) {
        let mut numbered: Vec<(i64, Value)> = self
            .owned()
            .iter()
            .map(|set| (revision(set), set.clone()))
            .collect();
        numbered.sort_by_key(|(number, _)| *number);
        let Some((_, set)) = numbered.iter().rev().nth(1) else {
            return;
        };
        let cause = set["metadata"]["annotations"]["kubernetes.io/change-cause"].clone();
        let template = Template::of(&set["spec"]["template"]).as_json().clone();
        self.edit(|object| {
            object["spec"]["template"] = template;
            let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
            if cause.is_null() {
                annotations.remove("kubernetes.io/change-cause");
            } else {
                annotations.insert("kubernetes.io/change-cause".to_owned(), cause);
            }
        });
    }

    fn touch_guard(&mut self, which: u8) {
        match which % 4 {
            0 => self.guard.present[0].generation += 1,
            1 => {
                self.guard.missing = vec!["spec".to_owned()];
                self.guard.present.truncate(1);
            }
            2 => self.guard.missing = vec!["a policy that is new".to_owned()],
            _ => {
                self.guard.missing.clear();
                self.guard.present.truncate(1);
                let mut again = guard_policy("spec", 1);
                again.uid = format!("made at {}", self.now);
                self.guard.present.push(again);
            }
        }
    }

    fn recreate(&mut self, version: Option<&str>) {
        let uid = format!("d-{}", self.next_version());
        self.replica_sets.clear();
        // The ledger is owned by the Deployment.
        self.ledger = None;
        self.deployment = version.map(|version| {
            let mut object = deployment(version);
            object["metadata"]["uid"] = json!(uid);
            object["metadata"]["annotations"] = json!({});
            object["status"] = json!({});
            object["metadata"]["generation"] = json!(1);
            object
        });
    }

    fn rival(&mut self, claims: bool) {
        if !claims {
            self.rival_active = false;
            return;
        }
        let Some(uid) = self.deployment_uid() else {
            return;
        };
        let version = self.next_version();
        let mut spec = self
            .ledger
            .clone()
            .map(|(spec, _)| spec)
            .unwrap_or_default();
        if spec.deployment_uid != uid {
            spec = RevisionLedgerSpec {
                deployment_uid: uid,
                ..RevisionLedgerSpec::default()
            };
        }
        if spec.claim.is_none() {
            spec.claim = Some(Claim {
                request: "rival".to_owned(),
                request_uid: "r-2".to_owned(),
            });
            self.rival_active = true;
            self.ledger = Some((spec, version));
        }
    }

    fn deployment_uid(&self) -> Option<String> {
        Some(
            self.deployment.as_ref()?["metadata"]["uid"]
                .as_str()?
                .to_owned(),
        )
    }

    // === the Deployment controller

    fn owned(&self) -> Vec<Value> {
        let uid = self.deployment_uid();
        self.replica_sets
            .iter()
            .filter(|set| set["metadata"]["ownerReferences"][0]["uid"].as_str() == uid.as_deref())
            .cloned()
            .collect()
    }

    /// One sync. A reused `ReplicaSet` is renumbered, and that sync does no more.
    fn sync(&mut self) {
        let Some(mut object) = self.deployment.clone() else {
            return;
        };
        let generation = object["metadata"]["generation"].clone();
        let paused = object["spec"]["paused"] == json!(true);
        let wanted = Template::of(&object["spec"]["template"]);
        let uid = object["metadata"]["uid"].clone();
        let newest = self.owned().iter().map(revision).max().unwrap_or(0);
        let found = self.replica_sets.iter().position(|set| {
            set["metadata"]["ownerReferences"][0]["uid"] == uid
                && Template::of(&set["spec"]["template"]) == wanted
        });
        let annotations = object["metadata"]["annotations"].clone();
        if let (false, Some(index)) = (paused, found) {
            let set = &mut self.replica_sets[index];
            let old = revision(set);
            if old < newest {
                let history =
                    set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"]
                        .as_str()
                        .map_or_else(|| old.to_string(), |before| format!("{before},{old}"));
                copy_annotations(set, &annotations);
                set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
                    json!((newest + 1).to_string());
                set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] =
                    json!(history);
                return;
            }
            copy_annotations(set, &annotations);
        }
        if let (false, None) = (paused, found) {
            let name = format!("n{}", self.next_version());
            let mut set = super::replica_set_of(
                &name,
                &(newest + 1).to_string(),
                &object["spec"]["template"],
            );
            set["metadata"]["ownerReferences"][0]["uid"] = uid;
            copy_annotations(&mut set, &annotations);
            self.replica_sets.push(set);
            self.progressed = self.now;
            object["status"]["conditions"] = json!([
                {},
                progressing("True", "NewReplicaSetCreated", &self.now().to_string())
            ]);
        }
        let (desired, well) = (
            object["spec"]["replicas"].as_i64().unwrap(),
            self.well || wanted.digest() == super::digest("v2"),
        );
        let before = object["status"]["updatedReplicas"].as_i64().unwrap_or(0);
        object["status"]["observedGeneration"] = generation;
        if !paused {
            let available = if well { desired } else { 0 };
            // Progress is made in two syncs: pods first, then their availability.
            let (updated, available) = if before < desired && found.is_some() {
                self.progressed = self.now;
                (desired, 0)
            } else {
                (desired, available)
            };
            let updated = if found.is_some() { updated } else { 0 };
            let extra = i64::from(!well);
            super::set_counts(
                &mut object,
                updated.max(desired) + extra,
                updated,
                available,
            );
            let complete = well && updated == desired && available == desired;
            let deadline = object["spec"]["progressDeadlineSeconds"].as_i64().unwrap();
            let said = object["status"]["conditions"][1]["reason"].clone();
            if complete && said != "NewReplicaSetAvailable" {
                object["status"]["conditions"][1] =
                    progressing("True", "NewReplicaSetAvailable", &self.now().to_string());
            } else if !complete
                && self.now - self.progressed > deadline
                && said != "NewReplicaSetAvailable"
            {
                object["status"]["conditions"][1] =
                    progressing("False", "ProgressDeadlineExceeded", &self.now().to_string());
            }
        }
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
            json!(newest.to_string());
        self.deployment = Some(object);
    }

    // === the rollback controller

    /// Reads everything live.
    pub fn observe(&self) -> Observed {
        let request = self.request.as_ref().unwrap();
        let status = self.status();
        let plan = status.plan.as_ref();
        let deployment = self
            .deployment
            .clone()
            .map_or(Seen::Absent, |object| Seen::Found(Deployment(object)));
        let ledger = self
            .ledger
            .clone()
            .map_or(Seen::Absent, |(spec, _)| Seen::Found(spec));
        let uid = self.deployment_uid().unwrap_or_default();
        let rival = match holder(ledger.found(), &uid, REQUEST) {
            Holder::Other(claim) => Seen::Found(Rival {
                name: claim.request.clone(),
                active: self.rival_active,
            }),
            Holder::Nobody | Holder::Us => Seen::Unknown,
        };
        let access = if self.allowed {
            Access::Allowed
        } else {
            Access::Denied {
                who: REQUESTER.to_owned(),
                what: "patch deployments.apps/api".to_owned(),
            }
        };
        let there = |name: String| {
            self.config_maps
                .get(&name)
                .map_or(Seen::Absent, |when| Seen::Found(at(*when)))
        };
        let incident = status.outcome.as_ref().map_or(Seen::Unknown, |outcome| {
            there(incident_name(request, outcome))
        });
        let readings = plan
            .zip(
                status
                    .targets
                    .first()
                    .and_then(|target| target.verification.as_ref()),
            )
            .map_or_else(Vec::new, |(plan, verification)| {
                health::due(&plan.rules, verification, self.now())
                    .map(|check| Reading {
                        check: check.name.clone(),
                        at: self.now(),
                        answers: vec![Answer {
                            pod: "api-1".to_owned(),
                            result: Ok(if self.healthy { 200 } else { 500 }),
                        }],
                    })
                    .collect()
            });
        Observed {
            policy: self.policy.clone().map_or(Seen::Absent, Seen::Found),
            guard: self.guard.clone(),
            opted_in: Seen::Found(true),
            deployment,
            replica_sets: self.replica_sets.iter().cloned().map(ReplicaSet).collect(),
            ledger,
            rival,
            access: Seen::Found(access),
            backup: there(backup_name(request, "api")),
            incident,
            rejection: self.rejection.clone(),
            readings,
        }
    }

    /// One pass; the step that was decided.
    pub fn pass(
        &mut self,
        crash: Crash,
        stale: bool,
        twice: bool,
        early: Option<&Event>,
        late: Option<&Event>,
    ) -> Step {
        let Some(request) = self.request.clone() else {
            return Step::Done;
        };
        let live = (
            self.observe(),
            self.ledger.as_ref().map(|(_, version)| *version),
        );
        let (observed, ledger_version) = match (&self.cache, stale) {
            (Some(old), true) => {
                if old.0 != live.0 {
                    self.fooled = true;
                }
                old.clone()
            }
            _ => live.clone(),
        };
        self.cache = Some(live);
        let now = self.now();
        let Decision { status, step } = decide(&request, &observed, now);
        if self.version % 4 == 0 {
            let again = decide(&request, &observed, now);
            assert!(
                again.status == status && again.step == step,
                "not a function"
            );
        }
        self.judge(&request, &status, &step, &observed);
        if crash == Crash::BeforeCommit {
            self.rejection = None;
            return step;
        }
        if let Some(event) = early {
            self.happen(event);
        }
        if !self.commit(&request, &status) {
            return step;
        }
        if crash == Crash::BeforeAct {
            self.rejection = None;
            return step;
        }
        if let Some(event) = late {
            self.happen(event);
        }
        if let (Crash::InFlight, Step::Revert(revert)) = (crash, &step) {
            self.in_flight = Some(revert.patch.clone());
            return step;
        }
        for _ in 0..=u8::from(twice) {
            self.act(&step, ledger_version);
        }
        if crash == Crash::AfterAct {
            self.rejection = None;
        }
        step
    }

    /// Replaces the status if the request is still the one that was read.
    fn commit(&mut self, read: &RollbackRequest, status: &RollbackRequestStatus) -> bool {
        let version = self.next_version();
        let Some(current) = &mut self.request else {
            return false;
        };
        if read.status.as_ref() == Some(status) {
            return true;
        }
        if current.metadata.resource_version != read.metadata.resource_version {
            return false;
        }
        current.status = Some(status.clone());
        self.last = status.clone();
        if let Some(plan) = &status.plan {
            let targets = serde_json::to_value(&plan.targets).unwrap();
            let pinned = self.pinned.get_or_insert(targets.clone());
            assert_eq!(*pinned, targets, "resolved twice");
        }
        current.metadata.resource_version = Some(version.to_string());
        true
    }

    fn act(&mut self, step: &Step, ledger_version: Option<i64>) {
        match step {
            Step::Wait { .. } | Step::Again | Step::Done => {}
            Step::Claim { ledger, .. } | Step::Release { ledger, .. } => {
                let current = self.ledger.as_ref().map(|(_, version)| *version);
                if current == ledger_version {
                    let version = self.next_version();
                    self.ledger = Some((ledger.clone(), version));
                }
            }
            Step::BackUp(artifact) => {
                self.config_maps
                    .entry(artifact.name.clone())
                    .or_insert(self.now);
            }
            Step::Publish(artifact) => {
                self.incidents
                    .insert(format!("{} {:?}", artifact.name, artifact.data));
                self.config_maps
                    .entry(artifact.name.clone())
                    .or_insert(self.now);
            }
            Step::Revert(revert) => self.revert(&revert.patch),
            Step::DropFinalizer => {
                self.say(|request| {
                    if let Some(finalizers) = &mut request.metadata.finalizers {
                        finalizers.retain(|finalizer| finalizer != FINALIZER);
                    }
                });
                self.collect();
            }
        }
    }

    /// What was sent arrives, if it was not lost on the way.
    fn land(&mut self) {
        if let Some(operations) = self.in_flight.take() {
            // Who withdrew meanwhile was told that nothing was changed.
            self.fooled |= Phase::of(&self.status()) != Phase::Reverting;
            self.revert(&operations);
            self.rejection = None;
        }
    }

    fn revert(&mut self, operations: &Value) {
        let Some(before) = self.deployment.clone() else {
            return;
        };
        let mut after = before.clone();
        if patch::apply(&mut after, operations).is_err() {
            return;
        }
        if !self.takes {
            self.rejection = Some(Rejection {
                patch: operations.clone(),
                code: 422,
                message: "spec.template: Invalid value".to_owned(),
            });
            return;
        }
        self.judge_write(&before, &after);
        if before["spec"]["template"] != after["spec"]["template"] {
            self.reverts.push(self.now);
        }
        let generation = before["metadata"]["generation"].as_i64().unwrap();
        let version = self.next_version();
        after["metadata"]["generation"] = json!(generation + 1);
        after["metadata"]["resourceVersion"] = json!(version.to_string());
        self.deployment = Some(after);
    }

    // === the laws

    /// What every decision must keep.
    fn judge(
        &mut self,
        request: &RollbackRequest,
        next: &RollbackRequestStatus,
        step: &Step,
        observed: &Observed,
    ) {
        let old = request.status.clone().unwrap_or_default();
        if let Step::Revert(_) = step {
            let plan = next.plan.as_ref().unwrap();
            let people: BTreeSet<&str> = self
                .approvals
                .iter()
                .filter(|(who, digest)| {
                    *digest == plan.digest && !(plan.rules.four_eyes && who == REQUESTER)
                })
                .map(|(who, _)| who.as_str())
                .collect();
            let required = usize::try_from(plan.rules.approvals_required).unwrap();
            assert!(
                people.len() >= required,
                "a write without approvals: {people:?}"
            );
            let rules = plan::rules(observed.policy.found());
            let digest = plan::digest(REQUEST, &rules, &observed.guard.present, &plan.targets);
            assert_eq!(digest, plan.digest, "a write under other rules");
            assert!(
                observed.guard.missing.is_empty(),
                "a write without the guard"
            );
            assert_eq!(observed.access, Seen::Found(Access::Allowed));
            assert!(
                next.targets[0].revert.is_some() && next.targets[0].backup.is_some(),
                "a write without intent and backup"
            );
            let claim = observed
                .ledger
                .found()
                .and_then(|ledger| ledger.claim.as_ref());
            assert_eq!(
                claim.map(|claim| claim.request_uid.as_str()),
                Some(REQUEST),
                "a write without the claim"
            );
        }
        if let Step::Claim { ledger, .. } = step {
            let taken = observed
                .ledger
                .found()
                .and_then(|ledger| ledger.claim.as_ref());
            let theirs = taken.is_some_and(|claim| claim.request_uid != REQUEST)
                && observed.ledger.found().map(|ledger| &ledger.deployment_uid)
                    == Some(&ledger.deployment_uid);
            assert!(
                !(theirs && matches!(&observed.rival, Seen::Found(rival) if rival.active)),
                "the claim of another one is taken away"
            );
        }
        // Nothing goes back after the revert, and no deadline moves.
        if let Some(before) = old
            .targets
            .first()
            .filter(|target| target.reverted_at.is_some())
        {
            assert!(
                Phase::of(next) >= Phase::of(&old),
                "{:?} -> {:?}",
                Phase::of(&old),
                Phase::of(next)
            );
            let after = &next.targets[0];
            assert_eq!(before.reverted_at, after.reverted_at);
            let deadline = |target: &rollback_api::status::TargetStatus| {
                (
                    target.rollout.as_ref().map(|rollout| rollout.deadline),
                    target.backup.clone(),
                )
            };
            assert_eq!(
                deadline(before),
                deadline(after),
                "a fact was written twice"
            );
        }
        // An ended request stays as it ended.
        if old.outcome.is_some() {
            let mut expected = old.clone();
            expected.observed_generation = next.observed_generation;
            expected.incident = old.incident.clone().or_else(|| next.incident.clone());
            expected.conditions.clone_from(&next.conditions);
            assert_eq!(*next, expected, "it has ended");
            for condition in &old.conditions {
                assert!(next.conditions.contains(condition), "{}", condition.type_);
            }
        }
        if let Step::Wait { until: Some(until) } = step {
            let asks = next
                .targets
                .first()
                .is_some_and(|t| t.verification.is_some());
            assert!(*until > self.now() || asks, "a hot loop");
        }
    }

    /// What the write to the Deployment may change.
    fn judge_write(&self, before: &Value, after: &Value) {
        let status = &self.last;
        let target = &status.plan.as_ref().unwrap().targets[0];
        assert_eq!(
            Template::of(&before["spec"]["template"]).digest(),
            target.from_digest,
            "a foreign edit is overwritten"
        );
        assert_eq!(
            Template::of(&after["spec"]["template"]).digest(),
            target.to_digest
        );
        assert_eq!(before["metadata"]["uid"], json!(target.uid));
        let strip = |object: &Value| {
            let mut object = object.clone();
            object["spec"]["template"] = Value::Null;
            if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
                annotations.remove("kubernetes.io/change-cause");
            }
            object
        };
        assert_eq!(
            strip(before),
            strip(after),
            "more than the template changed"
        );
        let cause = after["metadata"]["annotations"]["kubernetes.io/change-cause"].as_str();
        assert!(cause.unwrap().contains(REQUEST));
    }

    /// Lets time go by until nothing is owed any more, and judges the end.
    pub fn settle(&mut self) -> RollbackRequestStatus {
        let limit = self.now + 3600 + 300 + 120 + 1000;
        for round in 0..3000 {
            let Some(request) = self.request.clone() else {
                break;
            };
            let step = self.pass(Crash::No, false, false, None, None);
            self.sync();
            let held = request
                .metadata
                .finalizers
                .is_some_and(|list| !list.is_empty());
            match step {
                Step::Done if !held => break,
                Step::Wait { until } => {
                    let status = self.status();
                    assert!(self.now < limit, "it does not end: {:?}", status.conditions);
                    if round > 20 {
                        self.rival_active = false;
                    }
                    // Nobody needs to see every minute of an hour in which nothing happens.
                    let jump = if round > 40 { 600 } else { 0 };
                    let until = until.map_or(60, |until| until.as_second() - at(0).as_second());
                    self.now = until.clamp(self.now + 1, self.now + 60) + jump;
                }
                _ => {}
            }
        }
        let last = self.last.clone();
        self.judge_end(&last);
        last
    }

    fn judge_end(&self, last: &RollbackRequestStatus) {
        let outcome = last.outcome.as_ref().expect("it ends");
        let claim = self
            .ledger
            .as_ref()
            .and_then(|(spec, _)| spec.claim.as_ref());
        assert_ne!(
            claim.map(|claim| claim.request_uid.as_str()),
            Some(REQUEST),
            "the claim is not given back"
        );
        assert!(
            self.reverts.len() <= 1,
            "reverted {} times",
            self.reverts.len()
        );
        assert!(self.incidents.len() <= 1, "{:?}", self.incidents);
        assert_eq!(
            self.incidents.len(),
            usize::from(last.plan.is_some()),
            "one report for each plan"
        );
        if self.fooled {
            return;
        }
        if !self.reverts.is_empty() {
            assert!(
                !outcome.message.contains("Nothing was changed"),
                "the template was written: {}",
                outcome.message
            );
            let recorded = self.ledger.as_ref().is_some_and(|(spec, _)| {
                spec.rollbacks
                    .iter()
                    .any(|rollback| rollback.request_uid == REQUEST)
            });
            let same = self.deployment_uid().as_deref() == Some(DEPLOYMENT);
            assert!(recorded || !same, "the rollback is forgotten: {outcome:?}");
        }
    }
}

fn revision(set: &Value) -> i64 {
    set["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        .as_str()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn copy_annotations(set: &mut Value, annotations: &Value) {
    for (key, value) in annotations.as_object().into_iter().flatten() {
        if !key.starts_with("deployment.kubernetes.io/") {
            set["metadata"]["annotations"][key] = value.clone();
        }
    }
}

/// The policies of the simulation; the first is none.
pub fn policies() -> [Option<RollbackPolicySpec>; 4] {
    let checks = json!({"timeoutSeconds": 60, "http": [{"name": "live", "port": 1, "path": "/"}]});
    [
        None,
        Some(super::policy(json!({"environment": "staging"}))),
        Some(super::policy(
            json!({"environment": "staging", "verification": checks}),
        )),
        Some(super::policy(json!({
            "environment": "production", "approvals": {"required": 2},
            "rollout": {"timeoutSeconds": 120}, "verification": checks,
        }))),
    ]
}

/// A template that nobody planned.
pub fn odd() -> Value {
    restarted("v3", "2026-11-23T14:00:00Z")
}
