//! Objects as the API server serves them, and the plainest world that takes the steps of a request.
//!
//! The Deployment `api` in namespace `shop` runs `v2` (revision 2, bad) and ran `v1` (revision 1).

#![allow(dead_code, reason = "every test file uses a part of this")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use rollback_api::Identity;
use rollback_api::policy::HttpCheck;
use rollback_api::status::{GuardPolicy, Outcome, PlannedTarget, RollbackRequestStatus};
use rollback_api::{
    APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, CONFIRM, FINALIZER, PLAN, Reason,
    RollbackPolicySpec, RollbackRequest, RollbackRequestSpec, Word,
};
use rollback_core::decide::decide;
use rollback_core::health;
use rollback_core::observed::{
    Access, Answer, Deployment, Guard, Observed, Reading, ReplicaSet, Seen,
};
use rollback_core::step::{Decision, Phase, Step};
use rollback_core::template::Template;
use serde_json::{Value, json};

pub mod cluster;
pub mod kstatus;
pub mod patch;

/// UID of the Deployment.
pub const DEPLOYMENT: &str = "d-1";
/// UID of the request.
pub const REQUEST: &str = "7c9c41d6-8a9c-4c0e-9d3b-5d9b6f1f2a10";
/// Who asks.
pub const REQUESTER: &str = "ann@broxiva.com";

/// Seconds after 2026-11-23 14:00:00 UTC, when the request was created.
pub fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-23T14:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

/// The pod template of a version.
pub fn template(version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "api"}},
        "spec": {
            "containers": [{
                "name": "api",
                "image": format!("registry.broxiva.com/shop/api:{version}"),
                "env": [{"name": "VERSION", "value": version}],
                "fieldOfTheFuture": {"kept": true},
            }],
            "terminationGracePeriodSeconds": 30,
        }
    })
}

/// The same, after `kubectl rollout restart`.
pub fn restarted(version: &str, when: &str) -> Value {
    let mut template = template(version);
    template["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": when});
    template
}

/// Digest of the template of a version.
pub fn digest(version: &str) -> String {
    Template::of(&template(version)).digest()
}

/// A complete rollout of `template` with three replicas, generation 4.
pub fn deployment_of(template: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "api",
            "namespace": "shop",
            "uid": DEPLOYMENT,
            "resourceVersion": "100",
            "generation": 4,
            "creationTimestamp": "2026-11-01T00:00:00Z",
            "labels": {"app": "api"},
            "annotations": {
                "deployment.kubernetes.io/revision": "2",
                "kubernetes.io/change-cause": "deploy v2",
                "meta.helm.sh/release-name": "shop",
            },
        },
        "spec": {
            "replicas": 3,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "api"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": template,
        },
        "status": {
            "observedGeneration": 4,
            "replicas": 3,
            "updatedReplicas": 3,
            "readyReplicas": 3,
            "availableReplicas": 3,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "Deployment has minimum availability."},
                progressing("True", "NewReplicaSetAvailable", "2026-11-23T13:50:00Z"),
            ],
        },
    })
}

/// The Deployment with a version.
pub fn deployment(version: &str) -> Value {
    deployment_of(&template(version))
}

/// A `Progressing` condition.
pub fn progressing(status: &str, reason: &str, updated: &str) -> Value {
    json!({
        "type": "Progressing",
        "status": status,
        "reason": reason,
        "message": format!("ReplicaSet \"api\" says {reason}."),
        "lastUpdateTime": updated,
        "lastTransitionTime": updated,
    })
}

/// Sets the `Progressing` condition of a Deployment.
pub fn set_progressing(deployment: &mut Value, status: &str, reason: &str, updated: &str) {
    deployment["status"]["conditions"][1] = progressing(status, reason, updated);
}

/// Sets the counts: `replicas`, `updatedReplicas`, `availableReplicas`.
pub fn set_counts(deployment: &mut Value, replicas: i64, updated: i64, available: i64) {
    for (field, count) in [
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", available),
        ("availableReplicas", available),
    ] {
        let status = deployment["status"].as_object_mut().unwrap();
        // The API server leaves zero out.
        if count == 0 {
            status.remove(field);
        } else {
            status.insert(field.to_owned(), json!(count));
        }
    }
}

/// A `ReplicaSet` of the Deployment that holds `template`, as revision `revision`.
pub fn replica_set_of(name: &str, revision: &str, template: &Value) -> Value {
    let mut template = template.clone();
    template["metadata"]["labels"]["pod-template-hash"] = json!(name);
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("api-{name}"),
            "namespace": "shop",
            "uid": format!("rs-{name}"),
            "generation": 1,
            "labels": {"app": "api", "pod-template-hash": name},
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": DEPLOYMENT,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "api", "pod-template-hash": name}}, "template": template},
        "status": {"replicas": 0},
    })
}

/// A `ReplicaSet` of the Deployment with a version; named after it.
pub fn replica_set(version: &str, revision: &str) -> Value {
    replica_set_of(version, revision, &template(version))
}

/// Wraps JSON as observed `ReplicaSets`.
pub fn sets(values: impl IntoIterator<Item = Value>) -> Vec<ReplicaSet> {
    values.into_iter().map(ReplicaSet).collect()
}

/// Wraps JSON as an observed Deployment.
pub fn seen(value: Value) -> Seen<Deployment> {
    Seen::Found(Deployment(value))
}

/// A person.
pub fn person(name: &str) -> Identity {
    Identity {
        username: name.to_owned(),
        uid: Some(format!("uid of {name}")),
        groups: vec!["sre".to_owned(), "system:authenticated".to_owned()],
    }
}

/// A spec, with the given fields over `{targets: [{name: api, to: {previous: {}}}], reason: ErrorRate}`.
pub fn spec(fields: &Value) -> RollbackRequestSpec {
    let mut spec = json!({
        "targets": [{"kind": "Deployment", "name": "api", "to": {"previous": {}}}],
        "reason": {"category": "ErrorRate", "summary": "5xx above 1 % since 14:02"},
        "requestedBy": person(REQUESTER),
    });
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

/// A request as the API server stored it at [`at`]`(0)`.
pub fn request(fields: &Value) -> RollbackRequest {
    RollbackRequest {
        metadata: ObjectMeta {
            name: Some("api-5xx".to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some(REQUEST.to_owned()),
            generation: Some(1),
            creation_timestamp: Some(Time(at(0))),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: spec(fields),
        status: None,
    }
}

/// Sets or removes an annotation.
pub fn annotate(request: &mut RollbackRequest, key: &str, value: &str) {
    let annotations = request.metadata.annotations.get_or_insert_default();
    if value.is_empty() {
        annotations.remove(key);
    } else {
        annotations.insert(key.to_owned(), value.to_owned());
    }
}

/// An approval of the published plan as a person types it and the API server stamps it.
pub fn approve(request: &mut RollbackRequest, by: &str) {
    let plan = request.status.clone().unwrap_or_default().plan.unwrap();
    annotate(request, APPROVED_BY, by);
    annotate(request, CONFIRM, &plan.rules.confirm_phrase);
    annotate(request, PLAN, &plan.digest);
    annotate(request, APPROVER_UID, &format!("uid of {by}"));
    annotate(request, APPROVER_GROUPS, "sre\nsystem:authenticated");
}

/// A policy from JSON.
pub fn policy(value: Value) -> RollbackPolicySpec {
    serde_json::from_value(value).unwrap()
}

/// A check that the policy of [`Scene`] does not have by itself.
pub fn check(name: &str) -> HttpCheck {
    serde_json::from_value(json!({"name": name, "port": 8080, "path": format!("/health/{name}")}))
        .unwrap()
}

/// One admission policy of the guard.
pub fn guard_policy(name: &str, generation: i64) -> GuardPolicy {
    GuardPolicy {
        kind: "ValidatingAdmissionPolicy".to_owned(),
        name: name.to_owned(),
        uid: format!("uid of {name}"),
        generation,
    }
}

/// A quiet world: v2 runs, v1 is in the history, the guard is complete, nobody holds the ledger.
pub fn observed() -> Observed {
    Observed {
        policy: Seen::Absent,
        guard: Guard {
            present: vec![guard_policy("approvals", 1), guard_policy("spec", 1)],
            missing: Vec::new(),
        },
        opted_in: Seen::Found(true),
        deployment: seen(deployment("v2")),
        replica_sets: sets([replica_set("v1", "1"), replica_set("v2", "2")]),
        ledger: Seen::Absent,
        rival: Seen::Absent,
        access: Seen::Found(Access::Allowed),
        backup: Seen::Absent,
        incident: Seen::Absent,
        rejection: None,
        readings: Vec::new(),
    }
}

/// An answer of a pod.
pub fn answer(pod: &str, code: u16) -> Answer {
    Answer {
        pod: pod.to_owned(),
        result: Ok(code),
    }
}

/// A round of a check with these answers.
pub fn reading(check: &str, when: Timestamp, answers: Vec<Answer>) -> Reading {
    Reading {
        check: check.to_owned(),
        at: when,
        answers,
    }
}

/// The planned target of `v2 -> v1`.
pub fn planned_target() -> PlannedTarget {
    PlannedTarget {
        name: "api".to_owned(),
        uid: DEPLOYMENT.to_owned(),
        from_digest: digest("v2"),
        from_revision: Some(2),
        to_revision: 1,
        to_digest: digest("v1"),
        replica_set: "api-v1".to_owned(),
        replica_set_uid: "rs-v1".to_owned(),
        images: Vec::new(),
        notes: Vec::new(),
    }
}

/// A request and what is observed of it; steps are taken on the spot, and nothing else happens.
#[derive(Clone)]
pub struct Scene {
    /// The request.
    pub request: RollbackRequest,
    /// What the next pass reads.
    pub observed: Observed,
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
            now: at(5),
        }
    }

    /// Staging: the requester may approve.
    pub fn staging() -> Self {
        let mut scene = Self::default();
        scene.observed.policy = Seen::Found(policy(json!({"environment": "staging"})));
        scene
    }

    /// Puts a policy in force.
    #[must_use]
    pub fn with_policy(mut self, value: Value) -> Self {
        self.observed.policy = Seen::Found(policy(value));
        self
    }

    /// Decides without committing or acting.
    pub fn decide(&self) -> Decision {
        let decision = decide(&self.request, &self.observed, self.now);
        let again = decide(&self.request, &self.observed, self.now);
        assert_eq!(decision, again, "a decision is a function of its input");
        decision
    }

    /// Decides and commits.
    pub fn commit(&mut self) -> Step {
        let Decision { status, step } = self.decide();
        self.request.status = Some(status);
        step
    }

    /// One whole pass.
    pub fn pass(&mut self) -> Step {
        let step = self.commit();
        self.act(&step);
        step
    }

    /// Takes a step.
    pub fn act(&mut self, step: &Step) {
        match step {
            Step::Wait { .. } | Step::Again | Step::Done => {}
            Step::Claim { ledger, .. } | Step::Release { ledger, .. } => {
                self.observed.ledger = Seen::Found(ledger.clone());
            }
            Step::BackUp(_) => self.observed.backup = Seen::Found(self.now),
            Step::Publish(_) => self.observed.incident = Seen::Found(self.now),
            Step::Revert(revert) => {
                let Seen::Found(Deployment(object)) = &mut self.observed.deployment else {
                    panic!("a revert without a Deployment");
                };
                patch::apply(object, &revert.patch).expect("the preconditions hold");
                let generation = object["metadata"]["generation"].as_i64().unwrap();
                object["metadata"]["generation"] = json!(generation + 1);
            }
            Step::DropFinalizer => self.request.metadata.finalizers = None,
        }
    }

    /// Passes until nothing moves any more; the last step.
    pub fn settle(&mut self) -> Step {
        for _ in 0..50 {
            let before = self.request.clone();
            let step = self.pass();
            let idle = matches!(step, Step::Wait { .. } | Step::Done);
            if idle && before == self.request {
                return step;
            }
        }
        panic!("it never comes to rest: {:?}", self.word());
    }

    /// Passes until the phase is reached.
    pub fn until(&mut self, phase: Phase) {
        for _ in 0..50 {
            if self.phase() >= phase {
                break;
            }
            self.pass();
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
            let step = self.commit();
            if matches!(step, Step::Revert(_)) {
                return self;
            }
            self.act(&step);
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
        self.edit(|object| {
            let replicas = object["spec"]["replicas"].as_i64().unwrap();
            object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
            set_counts(object, replicas, replicas, replicas);
        });
    }

    /// Somebody else edits the Deployment.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let Seen::Found(Deployment(object)) = &mut self.observed.deployment else {
            panic!("no Deployment to edit");
        };
        edit(object);
    }

    /// Somebody else deploys a template, as a client does that bumps the generation.
    pub fn deploy(&mut self, template: &Value) {
        self.edit(|object| {
            object["spec"]["template"] = template.clone();
            let generation = object["metadata"]["generation"].as_i64().unwrap();
            object["metadata"]["generation"] = json!(generation + 1);
        });
    }

    /// The Deployment as it is.
    pub fn deployment(&self) -> &Value {
        &self.observed.deployment.found().unwrap().0
    }

    /// Every check that is due gets this code from one pod.
    pub fn probe(&mut self, code: u16) {
        let status = self.status();
        let (Some(plan), Some(verification)) = (
            &status.plan,
            status
                .targets
                .first()
                .and_then(|target| target.verification.as_ref()),
        ) else {
            return;
        };
        self.observed.readings = health::due(&plan.rules, verification, self.now)
            .map(|check| reading(&check.name, self.now, vec![answer("api-1", code)]))
            .collect();
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
    pub fn word(&self) -> String {
        let status = self.status();
        match &status.outcome {
            Some(outcome) => format!("{}/{}", outcome.word.as_str(), outcome.reason.as_str()),
            None => reason_of(&status, "Ready"),
        }
    }

    /// Passes to the end and checks which it is.
    pub fn ends(&mut self, word: Word, reason: Reason) -> Outcome {
        self.settle();
        let outcome = self.outcome();
        assert_eq!(
            (outcome.word, outcome.reason),
            (word, reason),
            "{outcome:?}"
        );
        outcome
    }
}

/// Reason of a condition.
pub fn reason_of(status: &RollbackRequestStatus, kind: &str) -> String {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map_or_else(String::new, |condition| condition.reason.clone())
}

/// `type -> (status, reason)` of all conditions.
pub fn condition_map(status: &RollbackRequestStatus) -> BTreeMap<String, (String, String)> {
    status
        .conditions
        .iter()
        .map(|condition| {
            (
                condition.type_.clone(),
                (condition.status.clone(), condition.reason.clone()),
            )
        })
        .collect()
}
