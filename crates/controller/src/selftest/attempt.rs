//! The attempts. Nothing here is ever carried out: each write is a dry run.
//!
//! Some policies refuse the controller nothing, so it cannot try them: status, ledger and finalizer are about everybody
//! else, stamps is about what only the API server could get wrong, and a `RollbackPolicy` it may not write at all.
//! Those are only compared with what they should be.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use rollback_api::{
    APPROVED_BY, APPROVER_UID, ARTIFACT_LABEL, CANCELLED_BY, CHECKLIST, CONFIRM, DENIED_BY,
    DENIED_REASON, FIELD_MANAGER, PLAN, RollbackRequest, WITHDRAWN_BY,
};
use serde_json::{Value, json};

use crate::observe::guard::{Kind, Place};

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The name that the guard knows this controller by. Whoever runs it under another name is refused what is forged in
/// this one as well.
const CONTROLLER: &str = "system:serviceaccount:rollback-system:rollback-controller";
/// What is written where anything would do, and the name of what is created.
const FORGED: &str = "rollback-selftest";
/// The policy that finds what `rollback-guard-stamp` should have taken off.
const STAMPS: &str = "rollback-guard-stamps";

/// What must not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// A request that is born approved.
    Birth,
    /// The best approval that this controller could write.
    Approval,
    /// A denial.
    Denial,
    /// A cancellation by who did not ask.
    Cancellation,
    /// The withdrawal of an approval that was never given.
    Withdrawal,
    /// A request that asks for something else than before.
    Spec,
    /// The uid of an approver.
    Stamp,
    /// A backup that could be changed later.
    Artifact,
    /// A Deployment that is paused.
    Deployment,
    /// More replicas, along with another template.
    Room,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The policy that it was aimed at refused it.
    Refused,
    /// The API server would have done it.
    Accepted,
    /// There is nothing yet to try it on.
    Idle,
    /// It did not get as far as that policy.
    Untried(String),
    /// The API server did not answer it.
    Unreachable(String),
}

impl Attempt {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Birth,
        Self::Approval,
        Self::Denial,
        Self::Cancellation,
        Self::Withdrawal,
        Self::Spec,
        Self::Stamp,
        Self::Artifact,
        Self::Deployment,
        Self::Room,
    ];

    /// The policy that it is aimed at.
    pub fn place(self) -> Place {
        let kind = match self {
            Self::Stamp => Kind::Mutating,
            Self::Birth
            | Self::Approval
            | Self::Denial
            | Self::Cancellation
            | Self::Withdrawal
            | Self::Spec
            | Self::Artifact
            | Self::Deployment
            | Self::Room => Kind::Validating,
        };
        let name = self.policy().to_owned();
        Place { kind, name }
    }

    fn policy(self) -> &'static str {
        match self {
            Self::Birth => "rollback-guard-create",
            Self::Approval => "rollback-guard-approval",
            Self::Denial => "rollback-guard-denial",
            Self::Cancellation => "rollback-guard-cancel",
            Self::Withdrawal => "rollback-guard-withdrawal",
            Self::Spec => "rollback-guard-spec",
            Self::Stamp => "rollback-guard-stamp",
            Self::Artifact => "rollback-guard-artifact",
            Self::Deployment => "rollback-guard-deployment",
            Self::Room => "rollback-guard-room",
        }
    }

    fn forgery(self) -> &'static str {
        match self {
            Self::Birth => "a request that is born approved",
            Self::Approval => "a forged approval",
            Self::Denial => "a forged denial",
            Self::Cancellation => "a forged cancellation",
            Self::Withdrawal => "a forged withdrawal",
            Self::Spec => "a changed spec",
            Self::Stamp => "a forged stamp",
            Self::Artifact => "a backup that can be changed",
            Self::Deployment => "a change of a Deployment that is no rollback",
            Self::Room => "a change of replicas along with a rollback",
        }
    }

    /// What is wrong when it is accepted.
    pub fn sentence(self) -> String {
        let Place { kind, name } = self.place();
        format!("{} {name} lets {} pass", kind.as_str(), self.forgery())
    }

    /// What an error says about the policy.
    fn refusal(self, error: &kube::Error) -> Answer {
        let kube::Error::Api(status) = error else {
            return Answer::Unreachable(error.to_string());
        };
        let message = status.message.clone();
        if is_told_by(self.policy(), &message) {
            Answer::Refused
        } else if [409, 429].contains(&status.code) || status.code >= 500 {
            // Somebody wrote the object meanwhile, or the server is busy: the next round is soon.
            Answer::Unreachable(message)
        } else {
            Answer::Untried(message)
        }
    }
}

/// Whether it is this policy that refuses. The API server tells the first one that does.
fn is_told_by(policy: &str, message: &str) -> bool {
    message.contains(&format!("ValidatingAdmissionPolicy '{policy}' "))
}

/// What attempts are made with.
pub struct Stage<'a> {
    /// The client of the passes: no writes while somebody else leads.
    pub client: Client,
    /// Where a forged request is created.
    pub namespace: &'a str,
    /// What other attempts are made on.
    pub request: Option<&'a RollbackRequest>,
}

impl Stage<'_> {
    /// Makes one attempt.
    pub async fn make(&self, attempt: Attempt) -> (Attempt, Answer) {
        let answer = tokio::time::timeout(LIMIT, self.try_out(attempt)).await;
        let late = || Answer::Unreachable("no answer in time".to_owned());
        (attempt, answer.unwrap_or_else(|_| late()))
    }

    async fn try_out(&self, attempt: Attempt) -> Answer {
        let Some(request) = self.request else {
            return if attempt == Attempt::Birth {
                self.birth().await
            } else {
                Answer::Idle
            };
        };
        match attempt {
            Attempt::Birth => self.birth().await,
            Attempt::Approval => self.mailbox(attempt, request, approval(request)).await,
            Attempt::Denial => {
                let denial = json!({DENIED_BY: CONTROLLER, DENIED_REASON: FORGED});
                self.mailbox(attempt, request, denial).await
            }
            Attempt::Cancellation => {
                let cancellation = json!({CANCELLED_BY: CONTROLLER});
                self.mailbox(attempt, request, cancellation).await
            }
            Attempt::Withdrawal => {
                let withdrawal = json!({WITHDRAWN_BY: CONTROLLER});
                self.mailbox(attempt, request, withdrawal).await
            }
            Attempt::Spec => self.spec(request).await,
            Attempt::Stamp => self.stamp(request).await,
            Attempt::Artifact => self.artifact(request).await,
            Attempt::Deployment => self.deployment(attempt, request, paused).await,
            Attempt::Room => self.deployment(attempt, request, more_replicas).await,
        }
    }

    async fn birth(&self) -> Answer {
        let resource = ApiResource::erase::<RollbackRequest>(&());
        let spec = json!({
            "targets": [{"name": FORGED, "to": {"previous": {}}}],
            "reason": {"category": "ErrorRate", "summary": "whether the guard refuses this"},
        });
        let mut request = DynamicObject::new(FORGED, &resource).data(json!({"spec": spec}));
        let born = BTreeMap::from([(APPROVED_BY.to_owned(), CONTROLLER.to_owned())]);
        request.metadata.annotations = Some(born);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), self.namespace, &resource);
        match api.create(&post(), &request).await {
            Ok(born) => accepted(born.annotations().contains_key(APPROVED_BY)),
            Err(error) => Attempt::Birth.refusal(&error),
        }
    }

    async fn mailbox(&self, attempt: Attempt, request: &RollbackRequest, forged: Value) -> Answer {
        if holds(request.annotations(), &forged) {
            return written_before();
        }
        match self.annotate(request, &forged).await {
            Ok(annotations) => accepted(holds(&annotations, &forged)),
            Err(error) => attempt.refusal(&error),
        }
    }

    /// A stamp is not refused but taken off, or put right.
    async fn stamp(&self, request: &RollbackRequest) -> Answer {
        let forged = json!({APPROVER_UID: FORGED});
        if holds(request.annotations(), &forged) {
            return written_before();
        }
        match self.annotate(request, &forged).await {
            Ok(annotations) if holds(&annotations, &forged) => Answer::Accepted,
            Ok(_) => Answer::Refused,
            Err(kube::Error::Api(status)) if is_told_by(STAMPS, &status.message) => {
                Answer::Accepted
            }
            Err(error) => Attempt::Stamp.refusal(&error),
        }
    }

    /// The annotations as they would be.
    async fn annotate(
        &self,
        request: &RollbackRequest,
        forged: &Value,
    ) -> kube::Result<BTreeMap<String, String>> {
        let patch = json!({"metadata": {"annotations": forged}});
        let answered = self
            .requests(request)
            .patch_metadata(&request.name_any(), &dry_run(), &Patch::Merge(&patch))
            .await?;
        Ok(answered.metadata.annotations.unwrap_or_default())
    }

    async fn spec(&self, request: &RollbackRequest) -> Answer {
        // Whoever asked may have written the very words: they must not be taken for a change that was accepted.
        let forged = if request.spec.reason.summary == FORGED {
            CONTROLLER
        } else {
            FORGED
        };
        let patch = json!({"spec": {"reason": {"summary": forged}}});
        let answered = self
            .requests(request)
            .patch(&request.name_any(), &dry_run(), &Patch::Merge(&patch))
            .await;
        match answered {
            Ok(changed) => accepted(changed.spec.reason.summary == forged),
            Err(error) => Attempt::Spec.refusal(&error),
        }
    }

    async fn artifact(&self, request: &RollbackRequest) -> Answer {
        let labels = BTreeMap::from([(ARTIFACT_LABEL.to_owned(), "backup".to_owned())]);
        let changeable = ConfigMap {
            metadata: ObjectMeta {
                name: Some(FORGED.to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace(request));
        match api.create(&post(), &changeable).await {
            Ok(created) => {
                let is_artifact = created.labels().contains_key(ARTIFACT_LABEL);
                accepted(is_artifact && created.immutable != Some(true))
            }
            Err(error) => Attempt::Artifact.refusal(&error),
        }
    }

    /// On the first Deployment of the plan.
    async fn deployment(
        &self,
        attempt: Attempt,
        request: &RollbackRequest,
        forge: fn(&Deployment) -> Value,
    ) -> Answer {
        let plan = request
            .status
            .as_ref()
            .and_then(|status| status.plan.as_ref());
        let Some(target) = plan.and_then(|plan| plan.targets.first()) else {
            return Answer::Idle;
        };
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace(request));
        let read = match api.get(&target.name).await {
            Ok(deployment) => deployment,
            Err(error) => return attempt.refusal(&error),
        };
        // Should it change meanwhile, what is forged might be what it already is.
        let version = &read.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": forge(&read)});
        let answered = api
            .patch_metadata(&target.name, &dry_run(), &Patch::Merge(&patch))
            .await;
        answered.map_or_else(|error| attempt.refusal(&error), |_| Answer::Accepted)
    }

    fn requests(&self, request: &RollbackRequest) -> Api<RollbackRequest> {
        Api::namespaced(self.client.clone(), &namespace(request))
    }
}

/// The other way round than it is.
fn paused(read: &Deployment) -> Value {
    let paused = read.spec.as_ref().and_then(|spec| spec.paused);
    json!({"paused": !paused.unwrap_or_default()})
}

/// The policy of replicas may grant them alone; beside a template that nobody had before it never does.
fn more_replicas(read: &Deployment) -> Value {
    let replicas = read.spec.as_ref().and_then(|spec| spec.replicas);
    json!({
        "replicas": replicas.unwrap_or_default().saturating_add(1),
        "template": {"metadata": {"annotations": {FORGED: read.metadata.resource_version}}},
    })
}

/// Whether all of these annotations are there.
fn holds(annotations: &BTreeMap<String, String>, forged: &Value) -> bool {
    let is_there = |(key, value): (&String, &Value)| {
        annotations.get(key).map(String::as_str) == value.as_str()
    };
    let forged = forged.as_object();
    forged.is_some_and(|forged| forged.iter().all(is_there))
}

/// To write it again changes nothing, and is refused by nobody.
fn written_before() -> Answer {
    Answer::Untried("somebody has written the same before".to_owned())
}

/// Something else in the API server may have put right what was forged. Then the policy was not asked.
fn accepted(still_forged: bool) -> Answer {
    if still_forged {
        Answer::Accepted
    } else {
        Answer::Untried("something changed it on its way".to_owned())
    }
}

/// All that an approval needs, but for a person who gives it.
fn approval(request: &RollbackRequest) -> Value {
    let plan = request
        .status
        .as_ref()
        .and_then(|status| status.plan.as_ref());
    let items = plan.into_iter().flat_map(|plan| &plan.rules.checklist);
    let items: Vec<&str> = items.map(|item| item.name.as_str()).collect();
    json!({
        APPROVED_BY: CONTROLLER,
        PLAN: plan.map_or("", |plan| &plan.digest),
        CONFIRM: plan.map_or("", |plan| &plan.rules.confirm_phrase),
        CHECKLIST: items.join(","),
    })
}

fn namespace(request: &RollbackRequest) -> String {
    request.namespace().unwrap_or_default()
}

fn post() -> PostParams {
    PostParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    }
}

fn dry_run() -> PatchParams {
    PatchParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        }))
    }

    #[test]
    fn only_the_policy_that_is_meant_proves_anything() {
        let told = |policy: &str| {
            format!(
                "rollbackrequests.rollback.broxiva.com \"x\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: no"
            )
        };
        let rbac = "rollbackrequests.rollback.broxiva.com \"x\" is forbidden: User \"y\" cannot patch resource";
        let table = [
            (answered(403, &told("rollback-guard-spec")), "Refused"),
            (answered(403, &told("rollback-guard-specs")), "Untried"),
            (answered(403, &told("rollback-guard-approval")), "Untried"),
            (answered(403, rbac), "Untried"),
            (answered(404, "not found"), "Untried"),
            (answered(409, "the object has been modified"), "Unreachable"),
            (answered(429, "slower"), "Unreachable"),
            (answered(503, "etcd"), "Unreachable"),
            (kube::Error::LinesCodecMaxLineLengthExceeded, "Unreachable"),
        ];
        for (error, expected) in table {
            let answer = match Attempt::Spec.refusal(&error) {
                Answer::Refused => "Refused",
                Answer::Accepted => "Accepted",
                Answer::Idle => "Idle",
                Answer::Untried(_) => "Untried",
                Answer::Unreachable(_) => "Unreachable",
            };
            assert_eq!(answer, expected, "{error}");
        }
    }
}
