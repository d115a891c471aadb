//! The laws: what every decision, every commit, every write and every end must keep.

use crate::world::Observed;
use std::collections::BTreeSet;

use rollback_api::request::{OnFailure, Urgency};
use rollback_api::status::{Effect, Outcome, Plan, PlannedTarget, TargetStatus};
use rollback_api::{
    CANCELLED_BY, DENIED_BY, Reason, RequestState, RollbackRequest, RollbackRequestStatus,
    WITHDRAWN_BY,
};
use rollback_core::execution::phase::{TargetPhase, has_begun, result};
use rollback_core::execution::step::{Decision, Next, PlaceHold, Scale, Step};
use rollback_core::history::ledger::bad_templates;
use rollback_core::history::template::Template;
use rollback_core::observed::{Access, Fetched};
use rollback_core::plan;
use serde_json::{Value, json};

use super::{Case, Cluster, WriteKind};
use crate::world::REQUESTER;

/// A target that a status knows, by name.
fn progress_of<'a>(status: &'a RollbackRequestStatus, name: &str) -> Option<&'a TargetStatus> {
    status.targets.iter().find(|progress| progress.name == name)
}

fn target_of<'a>(status: &'a RollbackRequestStatus, name: &str) -> Option<&'a PlannedTarget> {
    let plan = status.plan.as_ref()?;
    plan.targets
        .iter()
        .find(|target| target.workload.name == name)
}

impl Cluster {
    /// What every decision must keep.
    pub(super) fn judge(
        &self,
        case: usize,
        request: &RollbackRequest,
        decision: &Decision,
        observed: &Observed,
    ) {
        let old = request.status.clone().unwrap_or_default();
        let next = &decision.status;
        let mut touched = BTreeSet::new();
        for progress in &next.targets {
            if begins(&old, progress) {
                self.judge_beginning(request, next, progress, observed);
            }
        }
        for step in &decision.steps {
            let deployment = match step {
                Step::Revert(revert) => {
                    self.judge_intent(case, next, &revert.workload.name, observed);
                    revert.workload.name.as_str()
                }
                Step::Claim(ledger) => {
                    let deployment = &ledger.target_ref.name;
                    self.judge_taking(case, next, deployment, observed);
                    deployment
                }
                Step::Disown(revert) => revert.workload.name.as_str(),
                Step::ForceDelete { workload, .. } | Step::RunJob { workload, .. } => {
                    &workload.name
                }
                Step::Scale(scale) => scale.workload.name.as_str(),
                Step::PlaceHold(place) => place.workload.name.as_str(),
                Step::Release(ledger) => ledger.target_ref.name.as_str(),
                Step::BackUp(artifact) | Step::Publish(artifact) => artifact.name.as_str(),
                Step::AddFinalizer | Step::EmptyMailbox | Step::DropFinalizer => "",
            };
            assert!(
                touched.insert(deployment),
                "two writes to {deployment} in one pass"
            );
        }
        for step in &decision.steps {
            self.judge_consent(case, next, step);
        }
        judge_hold(request, decision);
        judge_facts(&old, next);
        for progress in &next.targets {
            judge_ours(progress);
        }
        if old.outcome.is_some() {
            judge_ended(&old, next);
        }
        match decision.next {
            Next::Wait { until: Some(until) } => {
                let asks = next.targets.iter().any(|one| one.verification.is_some());
                assert!(until > self.now() || asks, "a hot loop");
            }
            Next::Again => assert!(
                !decision.steps.is_empty() || *next != old,
                "a hot loop: {:?}",
                next.conditions
            ),
            Next::Wait { until: None } | Next::Done => {}
        }
    }

    /// What has to be so whenever a Deployment is begun, the first one and every other.
    fn judge_beginning(
        &self,
        request: &RollbackRequest,
        next: &RollbackRequestStatus,
        progress: &TargetStatus,
        observed: &Observed,
    ) {
        let plan = next.plan.as_ref().unwrap();
        let begun = progress.begun.as_ref().unwrap();
        let name = &progress.name;
        assert_eq!(begun.plan_digest, plan.digest, "{name}: another plan");
        assert!(progress.revert.is_some(), "{name} is begun without intent");
        let before = request.status.clone().unwrap_or_default();
        let in_time = plan.not_after > self.now() || has_begun(&before);
        assert!(in_time, "{name} is begun too late");
        assert!(observed.guard.holes.is_empty(), "{name}: without the guard");
        let open = before.stopped.is_none() && next.outcome.is_none();
        assert!(open, "{name} is begun after a stop");
        let said = request.metadata.annotations.clone().unwrap_or_default();
        let unwanted = [DENIED_BY, CANCELLED_BY].map(|key| said.contains_key(key));
        assert_eq!(unwanted, [false; 2], "{name} is begun against a person");
        let is_deleted = request.metadata.deletion_timestamp.is_some();
        assert!(!is_deleted, "{name} is begun for a request that goes");
        let counted = next
            .approvals
            .iter()
            .filter(|approval| approval.plan_digest == plan.digest);
        let people: BTreeSet<&str> = counted
            .map(|approval| approval.by.username.as_str())
            .collect();
        let required = usize::try_from(plan.rules.approvals.required).unwrap();
        assert!(people.len() >= required, "{name} is begun on {people:?}");
        if let Some(withdrawn) = said.get(WITHDRAWN_BY) {
            assert!(
                !people.contains(withdrawn.as_str()),
                "{name} is begun on an approval that was taken back"
            );
        }
        self.judge_moment(next, plan);
    }

    /// Nothing but records is written for a Deployment that was not begun, and nothing that its plan does not name.
    fn judge_consent(&self, case: usize, next: &RollbackRequestStatus, step: &Step) {
        let plan = next.plan.as_ref();
        // Begun before, or by this very decision, which has been judged.
        let upon = |deployment: &str| {
            let progress = progress_of(next, deployment)?;
            let begun = progress.begun.as_ref()?;
            let key = (deployment.to_owned(), begun.plan_digest.clone());
            let case = &self.cases[case];
            let before = case.begun.contains(&key);
            let now = case
                .last
                .targets
                .iter()
                .all(|last| last.name != deployment || last.begun.as_ref() != Some(begun));
            assert!(before || now, "{deployment} was never begun upon that plan");
            Some(begun.plan_digest.clone())
        };
        match step {
            Step::Claim(_)
            | Step::BackUp(_)
            | Step::Publish(_)
            | Step::AddFinalizer
            | Step::EmptyMailbox
            | Step::DropFinalizer => {}
            Step::Release(ledger) => {
                let deployment = &ledger.target_ref.name;
                let uid = &self.cases[case].uid;
                let ours = ledger.rollbacks.iter().any(|one| one.request_uid == *uid);
                assert!(
                    !ours || upon(deployment).is_some(),
                    "a rollback of {deployment} is remembered that was not begun"
                );
            }
            Step::Revert(write) | Step::Disown(write) => {
                let begun = upon(&write.workload.name).is_some();
                assert!(begun, "{} is written and not begun", write.workload.name);
            }
            Step::ForceDelete { workload, .. }
            | Step::Scale(Scale { workload, .. })
            | Step::PlaceHold(PlaceHold { workload, .. }) => {
                panic!("{workload}: no policy of the stories allows that")
            }
            Step::RunJob { workload, rule, .. } => {
                let deployment = &workload.name;
                let progress = progress_of(next, deployment).unwrap();
                let written = progress.revert.is_some() || progress.reverted_at.is_some();
                let digest = if written {
                    upon(deployment).expect("a Job for a Deployment that was not begun")
                } else {
                    let plan = plan.unwrap();
                    let people: BTreeSet<&str> = next
                        .approvals
                        .iter()
                        .filter(|approval| approval.plan_digest == plan.digest)
                        .map(|approval| approval.by.username.as_str())
                        .collect();
                    let required = usize::try_from(plan.rules.approvals.required).unwrap();
                    assert!(people.len() >= required, "a Job without approvals");
                    self.judge_moment(next, plan);
                    plan.digest.clone()
                };
                let named = self.cases[case].named.get(&digest);
                assert!(
                    named.is_some_and(|jobs| jobs.contains(&rule.name)),
                    "Job {} is not in the plan {digest} that was approved",
                    rule.name
                );
            }
        }
    }

    /// Nothing is begun on approvals that are too old, nor in a freeze without an emergency.
    fn judge_moment(&self, next: &RollbackRequestStatus, plan: &Plan) {
        for approval in &next.approvals {
            let age = self.now().duration_since(approval.at).as_secs();
            let valid = i64::from(plan.rules.approvals.valid_for_seconds);
            assert!(age < valid, "an approval of {age} seconds");
        }
        let emergency = plan.rules.expedited && plan.rules.urgency >= Urgency::Critical;
        let minute = self.now().to_zoned(jiff::tz::TimeZone::UTC).minute();
        let frozen = !plan.rules.freeze_windows.is_empty() && minute < 30;
        assert!(emergency || !frozen, "a write in a freeze");
    }

    /// A write that is decided: for the revert rules, guard, access, claim, intent and backup; for the fallback its own
    /// intent and a first try; for the way back a failure, and its own intent.
    fn judge_intent(
        &self,
        case: usize,
        next: &RollbackRequestStatus,
        deployment: &str,
        observed: &Observed,
    ) {
        let plan = next.plan.as_ref().unwrap();
        let progress = progress_of(next, deployment).unwrap();
        if TargetPhase::of(next, progress) == TargetPhase::Restoring {
            let restore = progress.restore.as_ref().unwrap();
            assert!(restore.intent.is_some(), "a way back without intent");
            assert!(
                progress.reverted_at.is_some(),
                "a way back without a way there"
            );
            assert!(
                next.stopped
                    .as_ref()
                    .is_some_and(|stopped| stopped.result == RequestState::Restored),
                "a way back without a failure"
            );
            return;
        }
        if let Some(fallback) = &progress.fallback {
            assert!(
                fallback.intent.is_some() && progress.reverted_at.is_some(),
                "a fallback without intent, or without a first try"
            );
            return;
        }
        let request = self.cases[case].request.as_ref().unwrap();
        let rules = plan::rules::rules(
            request,
            observed.policy.found(),
            observed.expedite == Fetched::Found(true),
        );
        let digest = plan::digest(
            &self.cases[case].uid,
            plan.round,
            &rules,
            &observed.guard.digest(),
            plan.data_risk.as_ref(),
            &plan.targets,
        );
        assert_eq!(digest, plan.digest, "a write under other rules");
        assert!(observed.guard.holes.is_empty(), "a write without the guard");
        let seen = observed.targets.iter().find(|seen| seen.name == deployment);
        let seen = seen.unwrap();
        assert_eq!(seen.access, Fetched::Found(Access::Allowed));
        assert!(
            progress.revert.is_some() && progress.backup.is_some(),
            "a write without intent and backup"
        );
        let claim = seen.ledger.found().and_then(|ledger| ledger.claim.as_ref());
        assert_eq!(
            claim.map(|claim| claim.request_uid.as_str()),
            Some(self.cases[case].uid.as_str()),
            "a write without the claim"
        );
    }

    /// A claim is taken from nobody who needs it, unless they are less urgent and have not stored their intent.
    fn judge_taking(
        &self,
        case: usize,
        next: &RollbackRequestStatus,
        deployment: &str,
        observed: &Observed,
    ) {
        let urgency = next.plan.as_ref().unwrap().rules.urgency;
        let seen = observed.targets.iter().find(|seen| seen.name == deployment);
        let seen = seen.unwrap();
        let (Some(ledger), Some(there)) = (seen.ledger.found(), seen.deployment.found()) else {
            return;
        };
        let Some(claim) = ledger
            .claim
            .as_ref()
            .filter(|claim| claim.request_uid != self.cases[case].uid)
            .filter(|_| ledger.target_ref.uid == there.uid())
        else {
            return;
        };
        let free = match &seen.rival {
            Fetched::Absent => true,
            Fetched::Unknown => false,
            Fetched::Found(rival) => {
                !rival.active
                    || (!rival.committed
                        && rollback_core::history::ledger::takes_over(urgency, claim))
            }
        };
        assert!(free, "the claim of another one is taken away");
    }

    /// The claim is ours when the write is made and nobody came between.
    pub(super) fn judge_claim(&self, case: usize, deployment: &str) {
        let status = self.status(case);
        let progress = progress_of(&status, deployment).unwrap();
        if TargetPhase::of(&status, progress) == TargetPhase::Restoring
            || progress.fallback.is_some()
        {
            return;
        }
        let ledger = self
            .place(deployment)
            .and_then(|place| place.ledger.clone());
        let claim = ledger.and_then(|(spec, _)| spec.claim);
        assert_eq!(
            claim.map(|claim| claim.request_uid),
            Some(self.cases[case].uid.clone()),
            "a write without the claim"
        );
    }

    /// The plan is resolved once; waves, parallelism and a stop are kept when an intent is stored.
    pub(super) fn judge_commit(&mut self, case: usize, next: &RollbackRequestStatus) {
        let old = self.status(case);
        let case = &mut self.cases[case];
        let Some(plan) = &next.plan else { return };
        let jobs = plan.rules.jobs.iter().map(|job| job.name.clone()).collect();
        case.named.entry(plan.digest.clone()).or_insert(jobs);
        for progress in next
            .targets
            .iter()
            .filter(|progress| begins(&old, progress))
        {
            let people: BTreeSet<&str> = case
                .approvals
                .iter()
                .filter(|(who, digest)| {
                    *digest == plan.digest && !(plan.rules.four_eyes() && who == REQUESTER)
                })
                .map(|(who, _)| who.as_str())
                .collect();
            let required = usize::try_from(plan.rules.approvals.required).unwrap();
            assert!(
                people.len() >= required,
                "{} is begun without approvals: {people:?}",
                progress.name
            );
            let begun = (progress.name.clone(), plan.digest.clone());
            case.begun.insert(begun);
        }
        let targets = serde_json::to_value(&plan.targets).unwrap();
        let pinned = case.pinned.get_or_insert(targets.clone());
        assert_eq!(*pinned, targets, "resolved twice");
        let request = case.request.as_ref().unwrap();
        let most = usize::try_from(request.rollout().parallelism).unwrap();
        let phases: Vec<TargetPhase> = next
            .targets
            .iter()
            .map(|progress| TargetPhase::of(next, progress))
            .collect();
        let begun = |old: Option<&TargetStatus>, new: &TargetStatus| {
            new.revert.is_some() && old.is_none_or(|old| old.revert.is_none())
        };
        // Said here without asking the engine what it holds for a failure.
        let goes_on = request.rollout().on_failure == OnFailure::Continue;
        let harmless = [
            Reason::NotLive,
            Reason::RolledBackByAnother,
            Reason::NotBegun,
        ];
        let failed = old.targets.iter().find(|progress| {
            progress.outcome.as_ref().is_some_and(|outcome| {
                outcome.result != RequestState::Succeeded && !harmless.contains(&outcome.reason)
            })
        });
        for (index, progress) in next.targets.iter().enumerate() {
            let before = old.targets.get(index);
            if begun(before, progress) {
                assert!(
                    old.stopped.is_none(),
                    "{} is begun after a stop",
                    progress.name
                );
                assert!(
                    goes_on || failed.is_none(),
                    "{} is begun after {failed:?} failed",
                    progress.name
                );
                let wave = plan.targets[index].wave;
                for (other, phase) in phases.iter().enumerate() {
                    assert!(
                        plan.targets[other].wave >= wave || *phase == TargetPhase::Ended,
                        "{} is begun before wave {}",
                        progress.name,
                        plan.targets[other].wave
                    );
                }
                let under_way = next
                    .targets
                    .iter()
                    .filter(|progress| progress.revert.is_some() && progress.outcome.is_none())
                    .filter(|progress| progress.fallback.is_none())
                    .count();
                assert!(
                    under_way <= most,
                    "{under_way} at the same time instead of {most}"
                );
            }
        }
        let restoring = next
            .targets
            .iter()
            .filter_map(|progress| progress.restore.as_ref())
            .filter(|restore| restore.intent.is_some() && restore.outcome.is_none())
            .count();
        assert!(
            restoring <= most,
            "{restoring} on their way back at the same time instead of {most}"
        );
    }

    /// What a write to a Deployment may change, and over what it may be made.
    pub(super) fn judge_write(
        &mut self,
        case: usize,
        deployment: &str,
        before: &Value,
        after: &Value,
    ) {
        let uid = self.cases[case].uid.clone();
        let status = self.cases[case].last.clone();
        let target = target_of(&status, deployment).unwrap();
        let begun = &self.cases[case].begun;
        assert!(
            begun.iter().any(|(name, _)| name == deployment),
            "{deployment} is written, and was never begun"
        );
        let digest = |object: &Value| Template::of(&object["spec"]["template"]).digest();
        let reason = after["metadata"]["annotations"]["kubernetes.io/change-cause"].as_str();
        let reason = reason.unwrap();
        assert!(reason.contains(&uid));
        let kind = if reason.starts_with("restore of backup ") {
            WriteKind::Restore
        } else if reason.starts_with("fallback: ") {
            WriteKind::Fallback
        } else {
            WriteKind::Revert
        };
        let generation = before["metadata"]["generation"].as_i64().unwrap();
        match kind {
            WriteKind::Revert => {
                assert_eq!(
                    digest(before),
                    target.from.digest,
                    "a foreign edit is overwritten"
                );
                assert_eq!(digest(after), target.to.digest);
            }
            WriteKind::Fallback => {
                assert!(
                    target.is_restored_by(&digest(before)),
                    "a foreign edit is overwritten by the fallback"
                );
                let named = target.fallbacks.iter().map(|one| &one.to.digest);
                assert!(named.into_iter().any(|known| *known == digest(after)));
            }
            WriteKind::Restore => {
                // As a webhook left it, when nobody wrote since.
                let as_left = self.cases[case]
                    .left_at
                    .get(deployment)
                    .is_some_and(|left| *left == generation);
                assert!(
                    digest(before) == target.restored_digest()
                        || (target.fallbacks.iter()).any(|one| one.to.digest == digest(before))
                        || as_left,
                    "a foreign edit is overwritten by the way back"
                );
                assert_eq!(digest(after), target.from.digest);
            }
        }
        assert_eq!(before["metadata"]["uid"], json!(target.workload.uid));
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
        let write = (deployment.to_owned(), kind);
        let case = &mut self.cases[case];
        assert!(!case.writes.contains(&write), "{write:?} twice");
        case.writes.push(write);
        case.left_at.insert(deployment.to_owned(), generation + 1);
    }

    /// What must be true when nothing is owed any more.
    pub(super) fn judge_end(&self) {
        for place in &self.places {
            let claim = place
                .ledger
                .as_ref()
                .and_then(|(spec, _)| spec.claim.clone());
            assert_eq!(claim, None, "the claim on {} is not given back", place.name);
        }
        for (index, case) in self.cases.iter().enumerate() {
            self.judge_end_of(index, case);
        }
    }

    fn judge_end_of(&self, index: usize, case: &Case) {
        let last = &case.last;
        if case.request.is_none() && *last == RollbackRequestStatus::default() {
            // It was deleted before anybody saw it: nothing was written for it.
            assert!(case.writes.is_empty() && case.incidents.is_empty());
            return;
        }
        let outcome = last.outcome.as_ref().expect("it ends");
        let planned = last.plan.is_some() && outcome.reason != Reason::DryRun;
        assert_eq!(
            case.incidents.len(),
            usize::from(planned),
            "one report for each plan: {:?}",
            case.incidents
        );
        if outcome.reason == Reason::DryRun {
            assert!(case.writes.is_empty(), "a dry run writes");
        }
        if has_begun(last) {
            for progress in &last.targets {
                assert!(result(progress).is_some(), "{} has no end", progress.name);
            }
        }
        for (target, progress) in last
            .plan
            .iter()
            .flat_map(|plan| &plan.targets)
            .zip(&last.targets)
        {
            self.judge_memory(index, target);
            if case.fooled {
                continue;
            }
            let written = case
                .writes
                .iter()
                .any(|(name, _)| *name == target.workload.name);
            for end in result(progress).into_iter().chain([outcome]) {
                judge_effect(written, end, progress, last.targets.len() == 1);
            }
            if written {
                self.judge_remembered(case, target, progress);
            }
            self.judge_restored(case, target, progress);
        }
    }

    /// A rollback is in the memory of the Deployment.
    fn judge_remembered(&self, case: &Case, target: &PlannedTarget, progress: &TargetStatus) {
        let place = self.place(&target.workload.name).unwrap();
        if place.forgetful || place.uid() != Some(target.workload.uid.as_str()) {
            return;
        }
        let recorded = place.ledger.as_ref().is_some_and(|(spec, _)| {
            let mut rollbacks = spec.rollbacks.iter();
            rollbacks.any(|rollback| rollback.request_uid == case.uid)
        });
        assert!(
            recorded,
            "the rollback of {} is forgotten: {:?}",
            target.workload.name,
            result(progress)
        );
    }

    /// What was rolled back, and not brought back or rolled back to since, is in quarantine.
    fn judge_memory(&self, case: usize, target: &PlannedTarget) {
        let place = self.place(&target.workload.name).unwrap();
        let Some((spec, _)) = &place.ledger else {
            return;
        };
        let uid = &self.cases[case].uid;
        let ours = spec
            .rollbacks
            .iter()
            .position(|rollback| rollback.request_uid == *uid);
        let Some(ours) =
            ours.filter(|ours| spec.rollbacks[*ours].outcome != RequestState::Restored)
        else {
            return;
        };
        let rehabilitated = spec.rollbacks[ours + 1..]
            .iter()
            .any(|rollback| rollback.to_digest == target.from.digest);
        let bad = bad_templates(Some(spec), &spec.target_ref.uid, None, self.now());
        assert!(
            rehabilitated || bad.contains(&target.from.digest),
            "what was rolled back is not remembered as bad"
        );
    }

    /// Where a failure is to be undone, every Deployment that was written has what it had, unless somebody else
    /// changed it or kept it from that.
    fn judge_restored(&self, case: &Case, target: &PlannedTarget, progress: &TargetStatus) {
        let place = self.place(&target.workload.name).unwrap();
        let restoring = case
            .last
            .stopped
            .as_ref()
            .is_some_and(|stopped| stopped.result == RequestState::Restored);
        let written_by_others = self.cases.iter().any(|other| {
            other.uid != case.uid
                && other
                    .writes
                    .iter()
                    .any(|(name, _)| *name == target.workload.name)
        });
        if !restoring
            || progress.reverted_at.is_none()
            || place.meddled
            || written_by_others
            || case
                .writes
                .iter()
                .all(|(name, _)| *name != target.workload.name)
        {
            return;
        }
        let end = result(progress).unwrap();
        let doubtful = end.message.contains("nobody can tell");
        assert!(
            end.result == RequestState::Restored || doubtful,
            "{} is not brought back: {end:?}",
            target.workload.name
        );
        assert!(
            doubtful || place.digest().as_deref() == Some(target.from.digest.as_str()),
            "{} has not what it had",
            target.workload.name
        );
    }
}

/// Whether a target is begun now, for the first time or upon another plan.
fn begins(old: &RollbackRequestStatus, progress: &TargetStatus) -> bool {
    let before = progress_of(old, &progress.name).and_then(|old| old.begun.as_ref());
    progress
        .begun
        .as_ref()
        .is_some_and(|begun| before.is_none_or(|before| before.plan_digest != begun.plan_digest))
}

/// Nothing is ours that was not begun.
fn judge_ours(progress: &TargetStatus) {
    let fallback = progress.fallback.as_ref();
    let ours = progress.revert.is_some()
        || progress.reverted_at.is_some()
        || progress.rollout.is_some()
        || progress.verification.is_some()
        || progress.restore.is_some()
        || fallback.is_some();
    assert!(
        !ours || progress.begun.is_some(),
        "{} is taken for ours and was never begun: {progress:?}",
        progress.name
    );
    if let Some(fallback) = fallback {
        assert!(
            fallback.reverted_at.is_none() || fallback.intent.is_some(),
            "{}: the fallback of somebody else is taken for ours",
            progress.name
        );
    }
    let restored = progress.restore.as_ref();
    let back = restored.filter(|restore| restore.restored_at.is_some());
    assert!(
        back.is_none_or(|restore| restore.intent.is_some()),
        "{}: the way back of somebody else is taken for ours",
        progress.name
    );
    if let Some(Reason::RolledBack | Reason::Unverified | Reason::TemplateMutated) =
        progress.outcome.as_ref().map(|outcome| outcome.reason)
    {
        assert!(progress.begun.is_some(), "{}", progress.name);
    }
}

/// Nothing is written for a request that nothing holds, not even its plan.
fn judge_hold(request: &RollbackRequest, decision: &Decision) {
    let old = request.status.clone().unwrap_or_default();
    if request.holds_finalizer() || old.outcome.is_some() {
        return;
    }
    assert_eq!(decision.status, old, "a plan without the finalizer");
    let only = decision
        .steps
        .iter()
        .all(|step| *step == Step::AddFinalizer);
    assert!(only, "a write without the finalizer: {:?}", decision.steps);
}

/// What was stored once is never stored again.
fn judge_facts(old: &RollbackRequestStatus, next: &RollbackRequestStatus) {
    if old.stopped.is_some() {
        assert_eq!(old.stopped, next.stopped, "a stop was taken back");
    }
    for before in &old.targets {
        let Some(after) = progress_of(next, &before.name) else {
            panic!("{} is forgotten", before.name);
        };
        if let Some(begun) = &before.begun {
            let after = after.begun.as_ref().expect("what was begun is forgotten");
            assert_eq!((begun.at, begun.generation), (after.at, after.generation));
        }
        if before.reverted_at.is_some() {
            assert_eq!(before.reverted_at, after.reverted_at, "a fact twice");
            let deadline =
                |progress: &TargetStatus| progress.rollout.as_ref().map(|rollout| rollout.deadline);
            assert_eq!(deadline(before), deadline(after), "a deadline moved");
        }
        if before.backup.is_some() {
            assert_eq!(before.backup, after.backup, "a fact twice");
        }
        if before.outcome.is_some() {
            assert_eq!(before.outcome, after.outcome, "it has ended twice");
        }
        let (Some(before), after) = (&before.restore, &after.restore) else {
            continue;
        };
        let after = after.as_ref().expect("a way back is forgotten");
        if before.restored_at.is_some() {
            assert_eq!(before.restored_at, after.restored_at, "a fact twice");
        }
        if before.outcome.is_some() {
            assert_eq!(before.outcome, after.outcome, "it has ended twice");
        }
    }
}

/// An ended request stays as it ended.
fn judge_ended(old: &RollbackRequestStatus, next: &RollbackRequestStatus) {
    let mut expected = old.clone();
    expected.observed_generation = next.observed_generation;
    expected.incident = old.incident.clone().or_else(|| next.incident.clone());
    expected.conditions.clone_from(&next.conditions);
    assert_eq!(*next, expected, "it has ended");
    for condition in &old.conditions {
        assert!(next.conditions.contains(condition), "{}", condition.type_);
    }
}

/// What an end says of its effect is never less than what was written. `end` is that of the Deployment, or of the whole
/// request.
fn judge_effect(written: bool, end: &Outcome, progress: &TargetStatus, is_only: bool) {
    let own = progress.outcome.as_ref() == Some(end);
    let says_nothing = end.message.contains("Nothing was changed");
    match end.effect {
        Effect::None => {
            assert!(!written, "{} was written: {end:?}", progress.name);
            assert!(says_nothing, "{end:?}");
        }
        // The end of several repeats what is said of each.
        Effect::Possible | Effect::Written | Effect::Newer(_) => {
            assert!(!says_nothing || !(own || is_only), "{end:?}");
        }
    }
}
