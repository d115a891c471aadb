//! The rollback controller, as far as it does not decide: it reads, commits, writes, and dies.

use crate::world::{Observed, ObservedTarget};
use std::collections::BTreeMap;
use std::rc::Rc;

use rollback_api::{FINALIZER, RollbackRequest, RollbackRequestStatus, WorkloadKind};
use rollback_core::approval::MAILBOX;
use rollback_core::approval::consent::{self, Plans};
use rollback_core::decide::{decide, fallback};
use rollback_core::execution::artifact::{self, backup_name, incident_name};
use rollback_core::execution::phase::{Phase, TargetPhase};
use rollback_core::execution::step::{Decision, Next, Step};
use rollback_core::execution::{intent, job};
use rollback_core::health;
use rollback_core::history::ledger::{Holder, holder};
use rollback_core::observed::{
    Access, Answer, Deployment, Fetched, Found, HttpAnswer, JobState, ObservedJob, Reading,
    Rehearsal, Rejection, ReplicaSet, Rival,
};
use serde_json::{Value, json};

use super::{Cluster, Crash, Event, Memory, Place, Seeing, View};
use crate::world::{REQUESTER, at, digest_in, patch};

impl Cluster {
    /// Reads everything live.
    fn observe(&self, case: usize, controller: usize) -> Seeing {
        let request = self.cases[case].request.clone().unwrap();
        let status = request.status.clone().unwrap_or_default();
        let incident = status.outcome.as_ref().map_or(Fetched::Unknown, |outcome| {
            self.there(&incident_name(&request, outcome.at))
        });
        let mut observed = Observed {
            policy: self.policy.clone().map_or(Fetched::Absent, Fetched::Found),
            guard: self.guard.clone(),
            opted_in: Fetched::Found(true),
            expedite: Fetched::Found(case.is_multiple_of(2)),
            targets: Vec::new(),
            incident,
            ..Observed::default()
        };
        let planned = Phase::of(&status) != Phase::Planning;
        observed.targets = match status.plan.as_ref().filter(|_| planned) {
            Some(plan) => plan
                .targets
                .iter()
                .enumerate()
                .map(|(index, target)| {
                    self.look(case, controller, &target.workload.name, Some(index))
                })
                .collect(),
            None => self.find(case, controller, &request),
        };
        if !planned {
            self.rehearse(&request, &mut observed);
        }
        let ledgers = observed.targets.iter().map(|seen| {
            let held = self
                .place(&seen.name)
                .and_then(|place| place.ledger.as_ref());
            (seen.name.clone(), held.map(|(_, version)| *version))
        });
        Seeing {
            ledgers: ledgers.collect(),
            request,
            observed,
        }
    }

    /// The Deployments that a request finds.
    fn find(
        &self,
        case: usize,
        controller: usize,
        request: &RollbackRequest,
    ) -> Vec<ObservedTarget> {
        let mut found = Vec::new();
        for (asked, target) in request.spec.targets.iter().enumerate() {
            let names: Vec<String> = match (&target.name, &target.name_prefix) {
                (Some(name), _) => vec![name.clone()],
                (None, prefix) => {
                    let prefix = prefix.as_deref().unwrap_or_default();
                    let there = |place: &&Place| place.object.is_some() || place.blind;
                    self.places
                        .iter()
                        .filter(there)
                        .filter(|place| place.name.starts_with(prefix))
                        .map(|place| place.name.to_owned())
                        .collect()
                }
            };
            found.extend(names.iter().map(|name| ObservedTarget {
                asked,
                ..self.look(case, controller, name, None)
            }));
        }
        found
    }

    fn there(&self, name: &str) -> Fetched<jiff::Timestamp> {
        self.config_maps
            .get(name)
            .map_or(Fetched::Absent, |(when, _)| Fetched::Found(at(*when)))
    }

    /// Reads one Deployment and what is around it.
    fn look(
        &self,
        case: usize,
        controller: usize,
        name: &str,
        planned: Option<usize>,
    ) -> ObservedTarget {
        let Some(place) = self.place(name) else {
            return ObservedTarget {
                name: name.to_owned(),
                deployment: Fetched::Absent,
                ledger: Fetched::Absent,
                ..ObservedTarget::default()
            };
        };
        if place.blind {
            return ObservedTarget {
                name: name.to_owned(),
                ledger: place
                    .ledger
                    .clone()
                    .map_or(Fetched::Absent, |(spec, _)| Fetched::Found(spec)),
                ..ObservedTarget::default()
            };
        }
        let request = self.cases[case].request.as_ref().unwrap();
        let status = self.status(case);
        let target = planned.and_then(|index| status.plan.as_ref()?.targets.get(index));
        let progress = planned.and_then(|index| status.targets.get(index));
        let ledger = place
            .ledger
            .clone()
            .map_or(Fetched::Absent, |(spec, _)| Fetched::Found(spec));
        let uid = place.uid().unwrap_or_default();
        let rival = match holder(ledger.found(), uid, &self.cases[case].uid) {
            Holder::Other(claim) => self.rival(&claim.request_uid, name),
            Holder::Nobody | Holder::Us => Fetched::Unknown,
        };
        let access = if place.allowed {
            Access::Allowed
        } else {
            Access::Denied {
                who: REQUESTER.to_owned(),
                what: format!("patch deployments.apps/{name}"),
            }
        };
        let restoring = progress
            .is_some_and(|progress| TargetPhase::of(&status, progress) == TargetPhase::Restoring);
        let kept = if restoring {
            progress.and_then(|progress| Some(progress.backup.as_ref()?.config_map.clone()))
        } else {
            target.and_then(|target| Some(target.source_name()?.to_owned()))
        };
        let kept = kept.and_then(|kept| self.config_maps.get(&kept)?.1.clone());
        let verification = progress.and_then(|progress| match &progress.fallback {
            Some(fallback) => fallback.verification.as_ref(),
            None => progress.verification.as_ref(),
        });
        let readings = verification
            .zip(progress.and_then(|progress| consent::rules(&status, progress)))
            .map_or_else(Vec::new, |(verification, rules)| {
                health::due(rules, verification, self.now())
                    .map(|check| Reading {
                        kind: check.kind(),
                        check: check.name().to_owned(),
                        at: self.now(),
                        found: Found::Answers(vec![Answer {
                            pod: "pod-1".to_owned(),
                            result: Ok(HttpAnswer {
                                status: if place.healthy { 200 } else { 500 },
                                body_matches: None,
                            }),
                        }]),
                    })
                    .collect()
            });
        ObservedTarget {
            name: name.to_owned(),
            deployment: place
                .object
                .clone()
                .map_or(Fetched::Absent, |object| Fetched::Found(Deployment(object))),
            replica_sets: place
                .replica_sets()
                .iter()
                .cloned()
                .map(ReplicaSet)
                .collect(),
            ledger,
            lifted: place.lifted.then(|| digest_in(name, "v2")),
            rival,
            access: Fetched::Found(access),
            backup: self.there(&backup_name(request, WorkloadKind::Deployment, name)),
            kept: kept.map_or(Fetched::Absent, Fetched::Found),
            job: self.job(request, &status, planned),
            rejection: self.controllers[controller]
                .rejections
                .get(&(case, name.to_owned()))
                .cloned(),
            accepted: self.controllers[controller]
                .accepted
                .get(&(case, name.to_owned()))
                .copied(),
            intended: self.controllers[controller]
                .intended
                .get(&(case, name.to_owned()))
                .copied(),
            readings,
            ..ObservedTarget::default()
        }
    }

    /// The Job of a target that was begun and has not been seen to end.
    fn job(
        &self,
        request: &RollbackRequest,
        status: &RollbackRequestStatus,
        planned: Option<usize>,
    ) -> Fetched<ObservedJob> {
        let open = planned.zip(status.plan.as_ref()).and_then(|(index, plan)| {
            let (target, progress) = (plan.targets.get(index)?, status.targets.get(index)?);
            let plans = Plans::of(plan, status);
            let target = fallback::target(target, progress);
            let (_, open) = job::open(request, plans.plan_for(progress), &target, progress)?;
            Some(open.job.clone())
        });
        let Some(name) = open else {
            return Fetched::Unknown;
        };
        if !self.jobs.contains(&name) {
            return Fetched::Absent;
        }
        Fetched::Found(ObservedJob {
            name,
            state: JobState::Ended {
                succeeded: true,
                exit_code: Some(0),
                message: "it succeeded".to_owned(),
                log: Vec::new(),
            },
        })
    }

    /// The request that holds the claim.
    fn rival(&self, uid: &str, deployment: &str) -> Fetched<Rival> {
        let other = self.cases.iter().find(|other| other.uid == uid);
        let Some(request) = other.and_then(|other| other.request.as_ref()) else {
            return Fetched::Absent;
        };
        let status = request.status.clone().unwrap_or_default();
        let committed = status
            .targets
            .iter()
            .any(|progress| progress.name == deployment && progress.revert.is_some());
        Fetched::Found(Rival {
            name: request.metadata.name.clone().unwrap(),
            active: status.outcome.is_none(),
            committed,
            unknown: None,
        })
    }

    /// A dry run of each write.
    fn rehearse(&self, request: &RollbackRequest, observed: &mut Observed) {
        let proposed = observed.proposed(request, self.now());
        for proposed in proposed.unwrap_or_default() {
            let (Some(place), Ok(choice)) = (self.place(&proposed.name), proposed.choice) else {
                continue;
            };
            let prospect = choice.prospect(request);
            let mut stored = choice.deployment.0;
            patch::apply(&mut stored, &prospect.patch).unwrap();
            let rehearsal = if place.takes(&Deployment(stored.clone()).template()) {
                place.admit(&mut stored);
                Rehearsal::Stored(Deployment(stored))
            } else {
                Rehearsal::Refused {
                    code: 422,
                    message: "spec.template: Invalid value".to_owned(),
                }
            };
            let mut seen = observed.targets.iter_mut();
            let seen = seen.find(|seen| seen.name == proposed.name && seen.asked == proposed.asked);
            seen.unwrap().rehearsal = Fetched::Found(rehearsal);
        }
    }

    /// One pass; what was decided, if the request is still there.
    pub fn pass(
        &mut self,
        case: usize,
        controller: usize,
        (crash, view, twice): (Crash, View, bool),
        early: Option<&Event>,
        late: Option<&Event>,
    ) -> Option<Decision> {
        self.cases[case].request.as_ref()?;
        let live = Rc::new(self.observe(case, controller));
        let before = self.controllers[controller]
            .views
            .insert(case, live.clone());
        let seeing = match (before, view) {
            (Some(old), View::OldReads) => {
                self.cases[case].fooled |= old.observed != live.observed;
                Rc::new(Seeing {
                    request: live.request.clone(),
                    observed: old.observed.clone(),
                    ledgers: old.ledgers.clone(),
                })
            }
            (Some(old), View::OldLeader) => {
                let same = old.observed == live.observed && old.request == live.request;
                self.cases[case].fooled |= !same;
                old
            }
            (None, View::OldReads | View::OldLeader) | (_, View::Live) => live,
        };
        let (request, observed, now) = (&seeing.request, &seeing.observed, self.now());
        let seen = observed.view(request, now);
        let decision = decide(request, &seen, now);
        if self.version % 8 == 0 {
            assert_eq!(decide(request, &seen, now), decision, "not a function");
        }
        self.judge(case, request, &decision, observed);
        let dead = |memory: &mut Memory| {
            memory.rejections.retain(|(other, _), _| *other != case);
            memory.accepted.retain(|(other, _), _| *other != case);
            memory.intended.retain(|(other, _), _| *other != case);
        };
        if crash == Crash::BeforeCommit {
            dead(&mut self.controllers[controller]);
            return Some(decision);
        }
        // One controller makes one pass over a request at a time.
        let cases = self.cases.len();
        let may_be = |event: &&Event| {
            !matches!(event, Event::Pass { request, controller: other, .. }
                if request % cases == case && other % 2 == controller)
        };
        let (early, late) = (early.filter(may_be), late.filter(may_be));
        if let Some(event) = early {
            self.happen(event);
        }
        let Some(committed) = self.commit(case, request, &decision.status) else {
            return Some(decision);
        };
        for (name, generation) in intent::stored(request.status.as_ref(), &decision.status) {
            let memory = &mut self.controllers[controller];
            memory.intended.insert((case, name.to_owned()), generation);
        }
        if crash == Crash::BeforeAct {
            dead(&mut self.controllers[controller]);
            return Some(decision);
        }
        if let Some(event) = late {
            self.happen(event);
        }
        let quiet = early.is_none() && late.is_none() && view == View::Live;
        for (place, step) in decision.steps.iter().enumerate() {
            match (crash, step) {
                (Crash::InFlight, Step::Revert(revert)) => {
                    let sent = (case, revert.workload.name.clone(), revert.patch.clone());
                    self.in_flight.push(sent);
                    continue;
                }
                (Crash::Among(mask), _) if mask & (1 << (place % 8)) == 0 => continue,
                _ => {}
            }
            if quiet && let Step::Revert(revert) = step {
                self.judge_claim(case, &revert.workload.name);
            }
            self.act(case, controller, step, &seeing.ledgers, &committed);
            if twice {
                // What the second time is answered tells nothing about the first.
                let remembered = self.controllers[controller].rejections.clone();
                self.act(case, controller, step, &seeing.ledgers, &committed);
                self.controllers[controller].rejections = remembered;
            }
        }
        if matches!(crash, Crash::AfterAct | Crash::Among(_) | Crash::InFlight) {
            dead(&mut self.controllers[controller]);
        }
        Some(decision)
    }

    /// Replaces the status if the request is still the one that was read; its resourceVersion then.
    fn commit(
        &mut self,
        case: usize,
        read: &RollbackRequest,
        status: &RollbackRequestStatus,
    ) -> Option<String> {
        if read.status.clone().unwrap_or_default() == *status {
            return read.metadata.resource_version.clone();
        }
        let version = self.next_version().to_string();
        let current = self.cases[case].request.as_ref()?;
        if current.metadata.resource_version != read.metadata.resource_version {
            return None;
        }
        self.judge_commit(case, status);
        let current = self.cases[case].request.as_mut()?;
        current.status = Some(status.clone());
        current.metadata.resource_version = Some(version.clone());
        self.cases[case].last = status.clone();
        Some(version)
    }

    fn act(
        &mut self,
        case: usize,
        controller: usize,
        step: &Step,
        ledgers: &BTreeMap<String, Option<i64>>,
        committed: &str,
    ) {
        match step {
            Step::Claim(ledger) | Step::Release(ledger) => {
                let deployment = &ledger.target_ref.name;
                let version = self.next_version();
                let read = ledgers.get(deployment).copied().flatten();
                let Some(place) = self.place_mut(deployment) else {
                    return;
                };
                if place.ledger.as_ref().map(|(_, version)| *version) == read {
                    place.ledger = Some((ledger.clone(), version));
                }
            }
            Step::BackUp(artifact) => {
                let kept = artifact::backed_up(&artifact.data);
                let now = self.now;
                self.config_maps
                    .entry(artifact.name.clone())
                    .or_insert((now, kept));
            }
            Step::Publish(artifact) => {
                let now = self.now;
                self.cases[case]
                    .incidents
                    .insert(format!("{} {:?}", artifact.name, artifact.data));
                self.config_maps
                    .entry(artifact.name.clone())
                    .or_insert((now, None));
            }
            Step::Revert(revert) => {
                let writes = self.cases[case].writes.len();
                let refused = self.write(case, &revert.workload.name, &revert.patch);
                let key = (case, revert.workload.name.clone());
                let memory = &mut self.controllers[controller];
                if let Some(rejection) = refused {
                    memory.rejections.insert(key, rejection);
                } else if self.cases[case].writes.len() > writes {
                    let stored = self.cases[case].left_at[&revert.workload.name];
                    memory.accepted.insert(key, stored);
                }
            }
            Step::RunJob { job, .. } => {
                self.jobs.insert(job.clone());
            }
            Step::Disown(_) | Step::ForceDelete { .. } | Step::Scale(_) | Step::PlaceHold(_) => {}
            Step::EmptyMailbox => {
                let current = self.cases[case].request.as_ref();
                let version = current.and_then(|current| current.metadata.resource_version.clone());
                if version.as_deref() == Some(committed) {
                    self.say(case, |request| {
                        let annotations = request.metadata.annotations.get_or_insert_default();
                        annotations.retain(|key, _| !MAILBOX.contains(&key.as_str()));
                    });
                }
            }
            Step::AddFinalizer => {
                let current = self.cases[case].request.as_ref();
                let is_live = |request: &&RollbackRequest| {
                    let version = request.metadata.resource_version.as_deref();
                    version == Some(committed) && request.metadata.deletion_timestamp.is_none()
                };
                if current.as_ref().is_some_and(is_live) {
                    self.say(case, |request| {
                        let finalizers = request.metadata.finalizers.get_or_insert_default();
                        finalizers.push(FINALIZER.to_owned());
                    });
                }
            }
            Step::DropFinalizer => {
                let current = self.cases[case].request.as_ref();
                let version = current.and_then(|current| current.metadata.resource_version.clone());
                if version.as_deref() != Some(committed) {
                    return;
                }
                self.say(case, |request| {
                    if let Some(finalizers) = &mut request.metadata.finalizers {
                        finalizers.retain(|finalizer| finalizer != FINALIZER);
                    }
                });
                self.collect(case);
            }
        }
    }

    /// What was sent arrives, if it was not lost on the way.
    pub(super) fn land(&mut self) {
        for (case, deployment, operations) in std::mem::take(&mut self.in_flight) {
            // Who withdrew meanwhile was told that nothing was changed.
            let status = self.status(case);
            let intended = status
                .targets
                .iter()
                .find(|progress| progress.name == deployment)
                .is_some_and(|progress| progress.revert.is_some());
            self.cases[case].fooled |= !intended || status.outcome.is_some();
            self.write(case, &deployment, &operations);
        }
    }

    /// The API server takes the patch, or says why not.
    fn write(&mut self, case: usize, deployment: &str, operations: &Value) -> Option<Rejection> {
        let version = self.next_version();
        let place = self.place(deployment)?;
        let before = place.object.clone()?;
        let mut after = before.clone();
        let rejection = |message: String| {
            Some(Rejection {
                patch: operations.clone(),
                code: 422,
                message,
            })
        };
        if let Err(operation) = patch::apply(&mut after, operations) {
            return rejection(format!("the test did not hold: {operation}"));
        }
        if !place.takes(&Deployment(after.clone()).template()) {
            return rejection("spec.template: Invalid value".to_owned());
        }
        self.judge_write(case, deployment, &before, &after);
        self.place(deployment)?.admit(&mut after);
        let generation = before["metadata"]["generation"].as_i64().unwrap();
        after["metadata"]["generation"] = json!(generation + 1);
        after["metadata"]["resourceVersion"] = json!(version.to_string());
        self.place_mut(deployment)?.object = Some(after);
        None
    }

    /// Lets time go by until nothing is owed any more, and judges the ends.
    pub fn settle(&mut self) {
        let limit = self.now + 40_000;
        for place in &mut self.places {
            place.blind = false;
        }
        self.run(3000, limit);
        assert!(
            self.is_over(),
            "it does not end: {:?}",
            self.cases
                .iter()
                .map(|case| &case.last.conditions)
                .collect::<Vec<_>>()
        );
        self.judge_end();
    }

    /// Lets time go by for at most so many rounds, or until then.
    pub fn run(&mut self, rounds: usize, limit: i64) {
        let mut idle_rounds = 0;
        for _ in 0..rounds {
            if self.is_over() || self.now > limit {
                return;
            }
            let mut wake: Option<i64> = None;
            let mut idle = true;
            for case in 0..self.cases.len() {
                if self.cases[case].is_over() {
                    continue;
                }
                let decision = self.pass(case, 0, (Crash::No, View::Live, false), None, None);
                match decision.map(|decision| decision.next) {
                    Some(Next::Again) => idle = false,
                    Some(Next::Wait { until: Some(until) }) => {
                        let until = until.as_second() - at(0).as_second();
                        wake = Some(wake.map_or(until, |wake| wake.min(until)));
                    }
                    Some(Next::Wait { until: None } | Next::Done) | None => {}
                }
            }
            self.land();
            for place in 0..self.places.len() {
                self.sync(place);
            }
            if idle {
                idle_rounds += 1;
                // Nobody needs to see every minute of an hour in which nothing happens.
                let jump = if idle_rounds > 24 { 600 } else { 0 };
                let wake = wake.unwrap_or(self.now + 60);
                self.now = wake.clamp(self.now + 1, self.now + 60) + jump;
            }
        }
    }
}
