//! A request and what is observed of it; steps are taken on the spot, and nothing else happens.

use super::reads::{Observed, ObservedTarget};
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollback_api::status::{Outcome, RollbackRequestStatus};
use rollback_api::{FINALIZER, Reason, RequestState, RollbackRequest, WorkloadKind};
use rollback_core::approval::MAILBOX;
use rollback_core::decide::decide;
use rollback_core::execution::artifact::{self, backup_name};
use rollback_core::execution::intent;
use rollback_core::execution::phase::{Phase, TargetPhase};
use rollback_core::execution::step::{Decision, Next, Revert, Step};
use rollback_core::health;
use rollback_core::observed::{Deployment, Fetched, JobState, ObservedJob, Rehearsal};
use serde_json::{Value, json};

use super::{
    answer, approve, at, observed, patch, policy, quiet, reading, reason_of, request, set_counts,
    world_of,
};

/// What one pass over a request with one target asks for.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and patterns reach into it"
)]
pub enum Move {
    /// A write; then the next pass looks what became of it.
    Write(Step),
    /// Only the status moved on.
    Again,
    /// Nothing before something changes, or until then.
    Wait {
        /// When to look again though nothing changed.
        until: Option<Timestamp>,
    },
    /// Nothing is owed any more.
    Done,
}

impl Move {
    /// The move of a decision about a single target, of which there is at most one.
    pub fn of(decision: &Decision) -> Self {
        match (decision.steps.as_slice(), decision.next) {
            ([], Next::Again) => Self::Again,
            ([], Next::Wait { until }) => Self::Wait { until },
            ([], Next::Done) => Self::Done,
            ([Step::DropFinalizer], Next::Done) => Self::Write(Step::DropFinalizer),
            ([step], Next::Again) => Self::Write(step.clone()),
            (steps, next) => panic!("{steps:?} {next:?}"),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Write(Step::AddFinalizer) => "Hold",
            Self::Write(Step::Claim { .. }) => "Claim",
            Self::Write(Step::BackUp(_)) => "BackUp",
            Self::Write(Step::RunJob { .. }) => "RunJob",
            Self::Write(Step::PlaceHold(_)) => "PlaceHold",
            Self::Write(Step::Scale(_)) => "Scale",
            Self::Write(Step::Revert(_)) => "Revert",
            Self::Write(Step::Disown(_)) => "Disown",
            Self::Write(Step::ForceDelete { .. }) => "ForceDelete",
            Self::Write(Step::Publish(_)) => "Publish",
            Self::Write(Step::Release { .. }) => "Release",
            Self::Write(Step::EmptyMailbox) => "EmptyMailbox",
            Self::Write(Step::DropFinalizer) => "DropFinalizer",
            Self::Again => "Again",
            Self::Wait { .. } => "Wait",
            Self::Done => "Done",
        }
    }
}

/// A request and what is observed of it.
#[derive(Clone)]
pub struct Scene {
    /// The request.
    pub request: RollbackRequest,
    /// What the next pass reads.
    pub observed: Observed,
    /// The Deployments in the backups of the namespace, by the name of the backup.
    pub backups: BTreeMap<String, Deployment>,
    /// What a webhook makes of every Deployment that is written.
    pub webhook: Option<fn(&mut Value)>,
    /// The time of the next pass.
    pub now: Timestamp,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new(&json!({}))
    }
}

impl Scene {
    /// The quiet world, five seconds after a request with these fields.
    pub fn new(fields: &Value) -> Self {
        Self {
            request: request(fields),
            observed: observed(),
            backups: BTreeMap::new(),
            webhook: None,
            now: at(5),
        }
    }

    /// A request for these Deployments by name, each to its previous version, with more fields.
    pub fn many(names: &[&str], fields: &Value) -> Self {
        let targets: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "to": {"previous": {}}}))
            .collect();
        let mut all = json!({"targets": targets});
        for (key, value) in fields.as_object().unwrap() {
            all[key] = value.clone();
        }
        let mut scene = Self::new(&all);
        scene.observed = world_of(
            names
                .iter()
                .enumerate()
                .map(|(asked, name)| ObservedTarget {
                    asked,
                    ..quiet(name)
                }),
        );
        scene
    }

    /// A request for the Deployments whose names start with a prefix, of which these are found.
    pub fn prefixed(prefix: &str, names: &[&str], fields: &Value) -> Self {
        let mut all = json!({"targets": [{"namePrefix": prefix, "to": {"previous": {}}}]});
        for (key, value) in fields.as_object().unwrap() {
            all[key] = value.clone();
        }
        let mut scene = Self::new(&all);
        scene.observed = world_of(names.iter().map(|name| quiet(name)));
        scene
    }

    /// Staging: the requester may approve.
    pub fn staging() -> Self {
        let mut scene = Self::default();
        scene.observed.policy = Fetched::Found(policy(json!({"environment": "staging"})));
        scene
    }

    /// Puts a policy in force.
    #[must_use]
    pub fn with_policy(mut self, value: Value) -> Self {
        self.observed.policy = Fetched::Found(policy(value));
        self
    }

    /// What was read of the only target.
    pub fn seen(&mut self) -> &mut ObservedTarget {
        &mut self.observed.targets[0]
    }

    /// What was read of the Deployment with this name.
    pub fn of(&mut self, name: &str) -> &mut ObservedTarget {
        let mut targets = self.observed.targets.iter_mut();
        targets.find(|seen| seen.name == name).expect("it is read")
    }

    /// The same, to look at.
    pub fn target(&self, name: &str) -> &ObservedTarget {
        let mut targets = self.observed.targets.iter();
        targets.find(|seen| seen.name == name).expect("it is read")
    }

    /// What a pass reads: the backup that is asked for, and before the plan what a dry run would say.
    fn look(&self) -> Observed {
        let mut observed = self.observed.clone();
        let status = self.status();
        let planned = status.plan.filter(|_| self.phase() != Phase::Planning);
        let Some(plan) = planned else {
            self.look_before_the_plan(&mut observed);
            return observed;
        };
        for (target, progress) in plan.targets.iter().zip(&status.targets) {
            let mut seen = observed.targets.iter_mut();
            let Some(seen) = seen.find(|seen| seen.name == target.workload.name) else {
                continue;
            };
            let restoring = TargetPhase::of(&self.status(), progress) == TargetPhase::Restoring;
            let backup = if restoring {
                progress
                    .backup
                    .as_ref()
                    .map(|backup| backup.config_map.clone())
            } else {
                target.source_name().map(str::to_owned)
            };
            if seen.kept == Fetched::Unknown {
                let kept = backup.and_then(|backup| self.backups.get(&backup).cloned());
                seen.kept = kept.map_or(Fetched::Absent, Fetched::Found);
            }
        }
        observed
    }

    fn look_before_the_plan(&self, observed: &mut Observed) {
        for seen in &mut observed.targets {
            let asked = self.request.spec.targets.get(seen.asked);
            if let (Fetched::Unknown, Some(name)) =
                (&seen.kept, asked.and_then(|asked| asked.to.backup.as_ref()))
            {
                let kept = self.backups.get(name).cloned();
                seen.kept = kept.map_or(Fetched::Absent, Fetched::Found);
            }
        }
        let proposed = observed.proposed(&self.request, self.now);
        for proposed in proposed.unwrap_or_default() {
            let Ok(choice) = proposed.choice else {
                continue;
            };
            let mut seen = observed.targets.iter_mut();
            let seen = seen.find(|seen| seen.name == proposed.name && seen.asked == proposed.asked);
            let seen = seen.expect("it is one of them");
            if seen.rehearsal == Fetched::Unknown {
                let prospect = choice.prospect(&self.request);
                let mut stored = choice.deployment.0;
                patch::apply(&mut stored, &prospect.patch).expect("a dry run has no preconditions");
                self.webhook.inspect(|alter| alter(&mut stored));
                seen.rehearsal = Fetched::Found(Rehearsal::Stored(Deployment(stored)));
            }
        }
    }

    /// Decides without committing or acting.
    pub fn decide_all(&self) -> Decision {
        let view = self.look().view(&self.request, self.now);
        let decision = decide(&self.request, &view, self.now);
        let again = decide(&self.request, &view, self.now);
        assert_eq!(decision, again, "a decision is a function of its input");
        decision
    }

    /// The move that is decided for the only target, without committing or acting.
    pub fn decide(&self) -> Move {
        Move::of(&self.decide_all())
    }

    /// The write to the only Deployment that is decided.
    pub fn revert(&self) -> Revert {
        match self.decide() {
            Move::Write(Step::Revert(revert)) => revert,
            other => panic!("{other:?}"),
        }
    }

    /// Checks that it waits, and looks again after so many seconds.
    pub fn waits(&self, seconds: i64) {
        let until = Some(self.now + SignedDuration::from_secs(seconds));
        assert_eq!(self.decide(), Move::Wait { until });
    }

    /// The status that is decided, without committing or acting.
    pub fn decided(&self) -> RollbackRequestStatus {
        self.decide_all().status
    }

    /// Decides and commits.
    pub fn commit_all(&mut self) -> Decision {
        let decision = self.decide_all();
        let before = self.request.status.replace(decision.status.clone());
        for (name, generation) in intent::stored(before.as_ref(), &decision.status) {
            self.of(name).intended = Some(generation);
        }
        decision
    }

    /// Decides and commits.
    pub fn commit(&mut self) -> Move {
        Move::of(&self.commit_all())
    }

    /// One whole pass.
    pub fn pass_all(&mut self) -> Decision {
        let decision = self.commit_all();
        for step in &decision.steps {
            self.act(step);
        }
        decision
    }

    /// One whole pass.
    pub fn pass(&mut self) -> Move {
        Move::of(&self.pass_all())
    }

    /// Takes the step of a move.
    pub fn take(&mut self, taken: &Move) {
        if let Move::Write(step) = taken {
            self.act(step);
        }
    }

    /// Takes a step.
    pub fn act(&mut self, step: &Step) {
        match step {
            Step::Claim(ledger) | Step::Release(ledger) => {
                self.of(&ledger.target_ref.name).ledger = Fetched::Found(ledger.clone());
            }
            Step::BackUp(artifact) => {
                let kept = artifact::backed_up(&artifact.data).expect("a backup is one");
                let name = kept.name().to_owned();
                assert_eq!(
                    artifact.name,
                    backup_name(&self.request, WorkloadKind::Deployment, &name)
                );
                self.backups.insert(artifact.name.clone(), kept);
                let now = self.now;
                self.of(&name).backup = Fetched::Found(now);
            }
            Step::PlaceHold(place) => {
                let uid = &place.hold.object.uid;
                let seen = self.of(&place.workload.name);
                if let Fetched::Found(Deployment(object)) = &mut seen.deployment
                    && object["metadata"]["uid"] == json!(uid)
                {
                    patch::apply(object, &place.patch).expect("the preconditions hold");
                }
                for (_, owner) in &mut seen.surroundings.owners {
                    if let Fetched::Found(object) = owner
                        && object["metadata"]["uid"] == json!(uid)
                    {
                        patch::apply(object, &place.patch).expect("the preconditions hold");
                    }
                }
            }
            Step::RunJob { workload, job, .. } => {
                let seen = self.of(&workload.name);
                // A Job that is there already is not started again.
                if seen.job.found().is_none_or(|seen| seen.name != *job) {
                    seen.job = Fetched::Found(ObservedJob {
                        name: job.clone(),
                        state: JobState::Running,
                    });
                }
            }
            Step::Publish(_) => self.observed.incident = Fetched::Found(self.now),
            // No world here has pods, nor Deployments that are scaled down.
            Step::ForceDelete { .. } | Step::Scale(_) => {}
            Step::Revert(revert) | Step::Disown(revert) => {
                let webhook = self.webhook;
                let Fetched::Found(Deployment(object)) =
                    &mut self.of(&revert.workload.name).deployment
                else {
                    panic!("a revert without a Deployment");
                };
                let before = object["spec"].clone();
                patch::apply(object, &revert.patch).expect("the preconditions hold");
                if let (Step::Revert(_), Some(alter)) = (step, webhook) {
                    alter(object);
                }
                if matches!(step, Step::Revert(_)) || before != object["spec"] {
                    let generation = object["metadata"]["generation"].as_i64().unwrap();
                    object["metadata"]["generation"] = json!(generation + 1);
                    self.of(&revert.workload.name).accepted = Some(generation + 1);
                }
            }
            Step::EmptyMailbox => {
                let annotations = self.request.metadata.annotations.get_or_insert_default();
                annotations.retain(|key, _| !MAILBOX.contains(&key.as_str()));
            }
            Step::AddFinalizer => {
                let finalizers = self.request.metadata.finalizers.get_or_insert_default();
                finalizers.push(FINALIZER.to_owned());
            }
            Step::DropFinalizer => self.request.metadata.finalizers = None,
        }
    }

    /// Message of a condition.
    pub fn message(&self, kind: &str) -> String {
        let conditions = self.status().conditions;
        let mut found = conditions.into_iter().filter(|it| it.type_ == kind);
        found.next().map_or_else(String::new, |it| it.message)
    }

    /// Passes until nothing moves any more; when it would look again.
    pub fn settle_all(&mut self) -> Next {
        for _ in 0..200 {
            let before = self.request.clone();
            let decision = self.pass_all();
            let idle = decision.steps.is_empty() && decision.next != Next::Again;
            if idle && before == self.request {
                return decision.next;
            }
        }
        panic!("it never comes to rest: {:?}", self.state());
    }

    /// Passes until nothing moves any more; the last move.
    pub fn settle(&mut self) -> Move {
        match self.settle_all() {
            Next::Again => Move::Again,
            Next::Wait { until } => Move::Wait { until },
            Next::Done => Move::Done,
        }
    }

    /// Passes until the phase is reached.
    pub fn until(&mut self, phase: Phase) {
        for _ in 0..50 {
            if self.phase() >= phase {
                break;
            }
            self.pass_all();
        }
        assert_eq!(self.phase(), phase, "{:?}", self.status().outcome);
    }

    /// A published plan, approved in time by somebody else.
    #[must_use]
    pub fn approved(mut self) -> Self {
        self.until(Phase::AwaitingApproval);
        approve(&mut self.request, "bob@broxiva.com");
        self.until(Phase::BackingUp);
        self
    }

    /// Claimed, saved, and the intent stored; the Deployment is as it was.
    #[must_use]
    pub fn intended(mut self) -> Self {
        self = self.approved();
        for _ in 0..5 {
            let taken = self.commit();
            if matches!(taken, Move::Write(Step::Revert(_))) {
                return self;
            }
            self.take(&taken);
        }
        panic!("no revert");
    }

    /// The same with several Deployments: the intents of those whose turn it is are stored.
    #[must_use]
    pub fn intended_many(mut self) -> Self {
        self = self.approved();
        for _ in 0..5 {
            let decision = self.commit_all();
            if matches!(decision.steps.as_slice(), [Step::Revert(_), ..]) {
                return self;
            }
            for step in &decision.steps {
                self.act(step);
            }
        }
        panic!("no revert");
    }

    /// The Deployment has the old template, and the status says so.
    #[must_use]
    pub fn reverted(mut self) -> Self {
        self = self.approved();
        self.until(Phase::RollingOut);
        self
    }

    /// The old version is up.
    #[must_use]
    pub fn rolled_out(mut self) -> Self {
        self = self.reverted();
        self.roll_out();
        self.until(Phase::Verifying);
        self
    }

    /// The Deployment controller is done with the template that the Deployment has.
    pub fn roll_out(&mut self) {
        let name = self.observed.targets[0].name.clone();
        self.roll_out_of(&name);
    }

    /// The Deployment controller is done with the template that this Deployment has.
    pub fn roll_out_of(&mut self, name: &str) {
        self.edit_of(name, |object| {
            let replicas = object["spec"]["replicas"].as_i64().unwrap();
            object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
            set_counts(object, replicas, replicas, replicas);
        });
    }

    /// Somebody else edits the Deployment.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let name = self.observed.targets[0].name.clone();
        self.edit_of(&name, edit);
    }

    /// Somebody else edits this Deployment.
    pub fn edit_of(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        let Fetched::Found(Deployment(object)) = &mut self.of(name).deployment else {
            panic!("no Deployment to edit");
        };
        edit(object);
    }

    /// Somebody else deploys a template, as a client does that bumps the generation.
    pub fn deploy(&mut self, template: &Value) {
        let name = self.observed.targets[0].name.clone();
        self.deploy_to(&name, template);
    }

    /// Somebody else deploys a template to this Deployment.
    pub fn deploy_to(&mut self, name: &str, template: &Value) {
        self.edit_of(name, |object| {
            object["spec"]["template"] = template.clone();
            let generation = object["metadata"]["generation"].as_i64().unwrap();
            object["metadata"]["generation"] = json!(generation + 1);
        });
    }

    /// The Deployment as it is.
    pub fn deployment(&self) -> &Value {
        &self.observed.targets[0].deployment.found().unwrap().0
    }

    /// This Deployment as it is.
    pub fn deployment_of(&self, name: &str) -> &Value {
        &self.target(name).deployment.found().unwrap().0
    }

    /// Every check that is due gets this code from one pod.
    pub fn probe(&mut self, code: u16) {
        let (status, now) = (self.status(), self.now);
        let Some(plan) = &status.plan else { return };
        for progress in &status.targets {
            let fallback = progress.fallback.as_ref();
            let verification = match fallback {
                Some(fallback) => &fallback.verification,
                None => &progress.verification,
            };
            let Some(verification) = verification else {
                continue;
            };
            self.of(&progress.name).readings = health::due(&plan.rules, verification, now)
                .map(|check| reading(check.name(), now, vec![answer("api-1", code)]))
                .collect();
        }
    }

    /// The status as committed.
    pub fn status(&self) -> RollbackRequestStatus {
        self.request.status.clone().unwrap_or_default()
    }

    /// The phase as committed.
    pub fn phase(&self) -> Phase {
        Phase::of(&self.status())
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        self.status().outcome.expect("it has ended")
    }

    /// How it ended, in two words; the words of the Ready condition before that.
    pub fn state(&self) -> String {
        let status = self.status();
        match &status.outcome {
            Some(outcome) => format!("{}/{}", outcome.result.as_str(), outcome.reason.as_str()),
            None => reason_of(&status, "Ready"),
        }
    }

    /// How each target ended, in two words, or its phase: `api Succeeded/Unverified`.
    pub fn words(&self) -> Vec<String> {
        let status = self.status();
        let state = |progress: &rollback_api::status::TargetStatus| {
            let phase = TargetPhase::of(&status, progress);
            let end = rollback_core::execution::phase::result(progress);
            end.filter(|_| phase == TargetPhase::Ended).map_or_else(
                || format!("{phase:?}"),
                |end| format!("{}/{}", end.result.as_str(), end.reason.as_str()),
            )
        };
        status
            .targets
            .iter()
            .map(|progress| format!("{} {}", progress.name, state(progress)))
            .collect()
    }

    /// Passes to the end and checks which it is.
    pub fn ends(&mut self, state: RequestState, reason: Reason) -> Outcome {
        self.settle_all();
        let outcome = self.outcome();
        assert_eq!(
            (outcome.result, outcome.reason),
            (state, reason),
            "{outcome:?}"
        );
        outcome
    }
}
