//! Objects as the API server serves them, and what a reader makes of them.

use super::reads::{Observed, ObservedTarget};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use rollback_api::ledger::{Claim, Evidence, Verdict};
use rollback_api::policy::HttpCheck;
use rollback_api::request::Urgency;
use rollback_api::status::{CheckKind, PlannedTarget, SourceRef, TemplateRef};
use rollback_api::{
    APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, CHECKLIST, CONFIRM, FINALIZER, Identity, PLAN,
    RevisionLedgerSpec, RollbackPolicySpec, RollbackRequest, RollbackRequestSpec, WorkloadRef,
};
use rollback_core::history::template::Template;
use rollback_core::observed::{
    Access, Answer, Deployment, Fetched, Found, Guard, GuardPolicy, HttpAnswer, Reading, ReplicaSet,
};
use serde_json::{Value, json};

use super::{DEPLOYMENT, REQUEST, REQUESTER};

/// Seconds after 2026-11-23 14:00:00 UTC, when the request was created.
pub fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-23T14:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

/// Identity of the Deployment with this name.
pub fn workload(name: &str) -> WorkloadRef {
    WorkloadRef::deployment(name, &uid_of(name))
}

/// UID of the Deployment with this name.
pub fn uid_of(name: &str) -> String {
    if name == "api" {
        DEPLOYMENT.to_owned()
    } else {
        format!("d-{name}")
    }
}

/// The pod template of a version of `api`.
pub fn template(version: &str) -> Value {
    template_in("api", version)
}

/// The pod template of a version of a Deployment.
pub fn template_in(name: &str, version: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [{
                "name": name,
                "image": format!("registry.broxiva.com/shop/{name}:{version}"),
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

/// Digest of the template of a version of `api`.
pub fn digest(version: &str) -> String {
    Template::of(&template(version)).digest()
}

/// Digest of the template of a version of a Deployment.
pub fn digest_in(name: &str, version: &str) -> String {
    Template::of(&template_in(name, version)).digest()
}

/// A complete rollout of `template` by `api`.
pub fn deployment_of(template: &Value) -> Value {
    deployment_in("api", template)
}

/// A complete rollout of `template` with three replicas, generation 4.
pub fn deployment_in(name: &str, template: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": uid_of(name),
            "resourceVersion": "100",
            "generation": 4,
            "creationTimestamp": "2026-11-01T00:00:00Z",
            "labels": {"app": name},
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
            "selector": {"matchLabels": {"app": name}},
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

/// A `ReplicaSet` of `api` that holds `template`, as revision `revision`.
pub fn replica_set_of(name: &str, revision: &str, template: &Value) -> Value {
    replica_set_in("api", name, revision, template)
}

/// A `ReplicaSet` of a Deployment that holds `template`, as revision `revision`.
pub fn replica_set_in(deployment: &str, name: &str, revision: &str, template: &Value) -> Value {
    let mut template = template.clone();
    template["metadata"]["labels"]["pod-template-hash"] = json!(name);
    let uid = if deployment == "api" {
        format!("rs-{name}")
    } else {
        format!("rs-{deployment}-{name}")
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{deployment}-{name}"),
            "namespace": "shop",
            "uid": uid,
            "generation": 1,
            "labels": {"app": deployment, "pod-template-hash": name},
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": uid_of(deployment),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": deployment, "pod-template-hash": name}}, "template": template},
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
pub fn seen(value: Value) -> Fetched<Deployment> {
    Fetched::Found(Deployment(value))
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
    annotate(request, CONFIRM, plan.rules.confirm_phrase());
    annotate(request, PLAN, &plan.digest);
    let items = plan.rules.checklist().iter();
    let ticked: Vec<&str> = items.map(|item| item.name.as_str()).collect();
    annotate(request, CHECKLIST, &ticked.join(","));
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
    world_of([quiet("api")])
}

/// The quiet world with these Deployments in it.
pub fn world_of(targets: impl IntoIterator<Item = ObservedTarget>) -> Observed {
    Observed {
        policy: Fetched::Absent,
        guard: Guard {
            present: vec![guard_policy("approvals", 1), guard_policy("spec", 1)],
            holes: Vec::new(),
            typed: false,
        },
        opted_in: Fetched::Found(true),
        expedite: Fetched::Found(true),
        targets: targets.into_iter().collect(),
        incident: Fetched::Absent,
        ..Observed::default()
    }
}

/// A Deployment that runs v2 and ran v1, and that nobody works on.
pub fn quiet(name: &str) -> ObservedTarget {
    let replica_set =
        |version, revision| replica_set_in(name, version, revision, &template_in(name, version));
    ObservedTarget {
        name: name.to_owned(),
        deployment: seen(deployment_in(name, &template_in(name, "v2"))),
        replica_sets: sets([replica_set("v1", "1"), replica_set("v2", "2")]),
        ledger: Fetched::Absent,
        rival: Fetched::Absent,
        access: Fetched::Found(Access::Allowed),
        backup: Fetched::Absent,
        ..ObservedTarget::default()
    }
}

/// An answer of a pod.
pub fn answer(pod: &str, code: u16) -> Answer {
    Answer {
        pod: pod.to_owned(),
        result: Ok(heard(code)),
    }
}

/// A status code, and no body that anybody asked for.
pub fn heard(status: u16) -> HttpAnswer {
    HttpAnswer {
        status,
        body_matches: None,
    }
}

/// A round of a check with these answers.
pub fn reading(check: &str, when: Timestamp, answers: Vec<Answer>) -> Reading {
    Reading {
        kind: CheckKind::Http,
        check: check.to_owned(),
        at: when,
        found: Found::Answers(answers),
    }
}

/// The planned target of `v2 -> v1`.
pub fn planned_target() -> PlannedTarget {
    PlannedTarget {
        workload: workload("api"),
        from: TemplateRef {
            revision: Some(2),
            digest: digest("v2"),
        },
        to: TemplateRef {
            revision: Some(1),
            digest: digest("v1"),
        },
        source_ref: Some(SourceRef {
            name: "api-v1".to_owned(),
            uid: Some("rs-v1".to_owned()),
        }),
        ..PlannedTarget::default()
    }
}

/// A ledger of `api` that a request holds.
pub fn claimed_by(request: &str, uid: &str) -> RevisionLedgerSpec {
    RevisionLedgerSpec {
        target_ref: workload("api"),
        claim: Some(Claim {
            request: request.to_owned(),
            request_uid: uid.to_owned(),
            urgency: rollback_api::open_enum::OrNewer::Known(Urgency::High),
        }),
        ..RevisionLedgerSpec::default()
    }
}

/// A ledger of `api` that knows these templates, the one that ran last at the end.
pub fn ledger_of(templates: impl IntoIterator<Item = Evidence>) -> RevisionLedgerSpec {
    RevisionLedgerSpec {
        target_ref: workload("api"),
        templates: templates.into_iter().collect(),
        ..RevisionLedgerSpec::default()
    }
}

/// What is known of a template that ran once.
pub fn evidence(template: &Value, verdict: Verdict) -> Evidence {
    Evidence {
        digest: Template::of(template).digest(),
        last_live: at(-9000),
        verdict,
        ..Evidence::default()
    }
}

/// The same of one that the ledger keeps whole.
pub fn kept(template: &Value, verdict: Verdict) -> Evidence {
    Evidence {
        template: Some(Template::of(template).as_json().to_string()),
        ..evidence(template, verdict)
    }
}
