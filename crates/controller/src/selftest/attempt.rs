//! The attempts. Nothing here is ever carried out: each write is a dry run.
//!
//! They are made on three objects of the operator's own namespace that are there for nothing else: a Deployment without
//! replicas and a `ConfigMap`, which are installed with the controller, and a request, which it makes itself when it is
//! missing, with a plan, so that an attempt gets as far as it can. Two people of the same cluster share nothing else of
//! it, so that nobody's Deployments, permissions or policies decide whether the approvals of others count.
//!
//! An attempt that would change nothing proves nothing, whoever has written the same before.
//!
//! Who asks and who approves is either written by the API server or compared by it: a forged name or stamp is put right, or
//! refused. Which of the two says whether the policy that writes them has an effect.
//!
//! Some policies refuse the controller nothing, so it cannot try them: status, ledger and finalizer are about everybody
//! else, a `RollbackPolicy` it may not write at all, and of the owners of Deployments there need be none. Those are only compared with what they should be.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use rollback_api::status::Plan;
use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, ARTIFACT_LABEL, CANCELLED_BY,
    CHECKLIST, CONFIRM, DENIED_BY, DENIED_REASON, FIELD_MANAGER, HELD_BY, Identity, PLAN,
    RollbackRequest, WITHDRAWN_BY,
};
use rollback_core::plan::rules::rules;
use rollback_observe::who_am_i;
use serde_json::{Value, json};

use crate::guard::{GuardKind, Place};

/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The operator's own namespace, as the guard knows it.
pub const HOME: &str = "rollback-system";
/// The name of each object that attempts are made on.
pub const NAME: &str = "rollback-selftest";
/// The name that the guard knows this controller by. Whoever runs it under another name is refused what is forged in
/// this one as well.
const CONTROLLER: &str = "system:serviceaccount:rollback-system:rollback-controller";
/// Whose name is forged.
const NOBODY: &str = "nobody@rollback-selftest.invalid";

/// What must not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempt {
    /// A request that is born approved.
    Birth,
    /// A request in the name of somebody else.
    Name,
    /// The best approval that this controller could write.
    Approval,
    /// A denial.
    Denial,
    /// A cancellation in the name of somebody else.
    Cancellation,
    /// The withdrawal of an approval that was never given.
    Withdrawal,
    /// A request that asks for something else than before.
    Spec,
    /// The uid of an approver.
    Stamp,
    /// A `ConfigMap` that becomes a backup, and can be changed later.
    Artifact,
    /// A Deployment that is paused.
    Deployment,
    /// More replicas, along with another template.
    Capacity,
    /// A hold without its mark.
    Hold,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The policy that it was aimed at refused it.
    Refused,
    /// The API server has put in its place what is true.
    PutRight,
    /// The API server would have done it.
    Accepted,
    /// It did not get as far as that policy, or would have changed nothing.
    Untried(String),
    /// The API server did not answer it.
    Unreachable(String),
}

impl Attempt {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Birth,
        Self::Name,
        Self::Approval,
        Self::Denial,
        Self::Cancellation,
        Self::Withdrawal,
        Self::Spec,
        Self::Stamp,
        Self::Artifact,
        Self::Deployment,
        Self::Capacity,
        Self::Hold,
    ];

    /// The policy that it is aimed at.
    pub fn place(self) -> Place {
        Place {
            kind: GuardKind::Validating,
            name: self.policy().to_owned(),
        }
    }

    fn policy(self) -> &'static str {
        match self {
            Self::Birth | Self::Name => "rollback-guard-create",
            Self::Approval => "rollback-guard-approval",
            Self::Denial => "rollback-guard-denial",
            Self::Cancellation => "rollback-guard-cancel",
            Self::Withdrawal => "rollback-guard-withdrawal",
            Self::Spec => "rollback-guard-spec",
            Self::Stamp => "rollback-guard-stamps",
            Self::Artifact => "rollback-guard-artifact",
            Self::Deployment => "rollback-guard-deployment",
            Self::Capacity => "rollback-guard-capacity",
            Self::Hold => "rollback-guard-hold",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Birth => "a request that is born approved",
            Self::Name => "a request in the name of somebody else",
            Self::Approval => "a forged approval",
            Self::Denial => "a forged denial",
            Self::Cancellation => "a forged cancellation",
            Self::Withdrawal => "a forged withdrawal",
            Self::Spec => "a changed spec",
            Self::Stamp => "a forged stamp",
            Self::Artifact => "a backup that can be changed",
            Self::Deployment => "a change of a Deployment that is no rollback",
            Self::Capacity => "a change of replicas along with a rollback",
            Self::Hold => "a hold that does not say whose it is",
        }
    }

    /// What is wrong when it is accepted.
    pub fn sentence(self) -> String {
        let Place { kind, name } = self.place();
        format!("{} {name} lets {} pass", kind.as_str(), self.what())
    }

    /// The same for the log: which policy did not do its work.
    pub fn failure(self) -> String {
        let Place { kind, name } = self.place();
        format!("{} {name} did not reject {}", kind.as_str(), self.what())
    }

    /// What is wrong when it was never answered.
    pub fn untested(self, why: &str) -> String {
        let Place { kind, name } = self.place();
        let kind = kind.as_str();
        format!("whether {kind} {name} holds could not be tried in namespace {HOME} ({why})")
    }

    /// What an error says about the policy.
    fn refusal(self, error: &kube::Error) -> Answer {
        if let kube::Error::Api(status) = error
            && is_told_by(self.policy(), &status.message)
        {
            return Answer::Refused;
        }
        not_made(error)
    }
}

/// What an error says that does not come from the policy.
fn not_made(error: &kube::Error) -> Answer {
    let kube::Error::Api(status) = error else {
        return Answer::Unreachable(error.to_string());
    };
    let message = status.message.clone();
    if [409, 429].contains(&status.code) || status.code >= 500 {
        // Somebody wrote the object meanwhile, or the server is busy: the next round is soon.
        Answer::Unreachable(message)
    } else {
        Answer::Untried(message)
    }
}

/// Whether it is this policy that refuses. The API server tells the first one that does.
fn is_told_by(policy: &str, message: &str) -> bool {
    message.contains(&format!("ValidatingAdmissionPolicy '{policy}' "))
}

/// What attempts are made on, as it is now.
pub struct Stage {
    /// The client of the passes: no writes while somebody else leads.
    client: Client,
    /// Who we are.
    me: Result<Identity, Answer>,
    request: Result<DynamicObject, Answer>,
    deployment: Result<DynamicObject, Answer>,
    config_map: Result<DynamicObject, Answer>,
}

impl Stage {
    /// Reads the objects, and makes the request when it is missing.
    pub async fn set(client: Client) -> Self {
        let api = |resource: &ApiResource| -> Api<DynamicObject> {
            Api::namespaced_with(client.clone(), HOME, resource)
        };
        let (requests, deployments, maps) = (
            api(&request_kind()),
            api(&ApiResource::erase::<Deployment>(&())),
            api(&ApiResource::erase::<ConfigMap>(&())),
        );
        let me = match tokio::time::timeout(LIMIT, who_am_i(&client)).await {
            Ok(Ok(me)) => Ok(me),
            Ok(Err(error)) => Err(Answer::Unreachable(error.to_string())),
            Err(_) => Err(late()),
        };
        let made = async {
            match &me {
                Ok(me) => in_time(request(&requests, me)).await,
                Err(answer) => Err(answer.clone()),
            }
        };
        let (request, deployment, config_map) = futures::join!(
            made,
            in_time(deployments.get(NAME)),
            in_time(maps.get(NAME)),
        );
        Self {
            client,
            me,
            request,
            deployment,
            config_map,
        }
    }

    /// Makes one attempt.
    pub async fn make(&self, attempt: Attempt) -> (Attempt, Answer) {
        let answer = tokio::time::timeout(LIMIT, self.try_out(attempt)).await;
        (attempt, answer.unwrap_or_else(|_| late()))
    }

    async fn try_out(&self, attempt: Attempt) -> Answer {
        let (resource, object) = match attempt {
            Attempt::Birth | Attempt::Name => return self.born(attempt).await,
            Attempt::Approval
            | Attempt::Denial
            | Attempt::Cancellation
            | Attempt::Withdrawal
            | Attempt::Spec
            | Attempt::Stamp => (request_kind(), &self.request),
            Attempt::Artifact => (ApiResource::erase::<ConfigMap>(&()), &self.config_map),
            Attempt::Deployment | Attempt::Capacity | Attempt::Hold => {
                (ApiResource::erase::<Deployment>(&()), &self.deployment)
            }
        };
        let before = match object {
            Ok(object) => object,
            Err(answer) => return answer.clone(),
        };
        let groups = match &self.me {
            Ok(me) => me.groups.join("\n"),
            Err(answer) => return answer.clone(),
        };
        let forged = forgery(attempt, before, &groups);
        let mut patch = forged.clone();
        // Should it change meanwhile, what is forged might be what it already is.
        patch["metadata"]["resourceVersion"] = json!(before.resource_version());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), HOME, &resource);
        match api.patch(NAME, &dry_run(), &Patch::Merge(&patch)).await {
            Ok(after) => came_of(attempt, before, &after, &forged),
            Err(error) => attempt.refusal(&error),
        }
    }

    /// Tries a new request: one that is approved already, or one in the name of somebody else.
    async fn born(&self, attempt: Attempt) -> Answer {
        let me = match &self.me {
            Ok(me) => me,
            Err(answer) => return answer.clone(),
        };
        let is_approved = attempt == Attempt::Birth;
        let mut request = new_request(&Identity {
            username: if is_approved { &me.username } else { NOBODY }.to_owned(),
            ..me.clone()
        });
        if is_approved {
            request
                .annotations_mut()
                .insert(APPROVED_BY.to_owned(), CONTROLLER.to_owned());
        }
        // Another name: the one that is there already would be all that is said of it.
        request.metadata.name = Some(format!("{NAME}-born"));
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), HOME, &request_kind());
        let post = PostParams {
            dry_run: true,
            ..post()
        };
        match api.create(&post, &request).await {
            Ok(born) if is_approved && born.annotations().contains_key(APPROVED_BY) => {
                Answer::Accepted
            }
            Ok(_) if is_approved => changed_on_its_way(),
            Ok(born) if requester(&born) == Some(&me.username) => Answer::PutRight,
            Ok(_) => Answer::Accepted,
            Err(error) => attempt.refusal(&error),
        }
    }
}

fn requester(request: &DynamicObject) -> Option<&str> {
    let name = request.data.pointer("/spec/requestedBy/username");
    name.and_then(Value::as_str)
}

fn request_kind() -> ApiResource {
    ApiResource::erase::<RollbackRequest>(&())
}

fn late() -> Answer {
    Answer::Unreachable("no answer in time".to_owned())
}

async fn in_time(
    read: impl Future<Output = kube::Result<DynamicObject>>,
) -> Result<DynamicObject, Answer> {
    match tokio::time::timeout(LIMIT, read).await {
        Ok(read) => read.map_err(|error| not_made(&error)),
        Err(_) => Err(late()),
    }
}

/// The request that attempts are made on. Only dry runs ask it for anything, and no pass ever looks at it.
async fn request(api: &Api<DynamicObject>, me: &Identity) -> kube::Result<DynamicObject> {
    let found = match api.get_opt(NAME).await? {
        Some(found) => found,
        None => match api.create(&post(), &new_request(me)).await {
            // Another controller was faster.
            Err(kube::Error::Api(status)) if status.is_already_exists() => api.get(NAME).await?,
            created => created?,
        },
    };
    let planned = "/status/plan/rules/approvals/confirmPhrase";
    if found.data.pointer(planned).is_some() {
        return Ok(found);
    }
    let status = json!({"status": status(&found)});
    match api
        .patch_status(NAME, &patching(), &Patch::Merge(&status))
        .await
    {
        Ok(planned) => Ok(planned),
        // Attempts do not get as far then, and prove the same.
        Err(error) => {
            tracing::info!(%error, "the request that the guard is tried on gets no plan");
            Ok(found)
        }
    }
}

fn new_request(by: &Identity) -> DynamicObject {
    let spec = json!({
        "targets": [{"name": NAME, "to": {"previous": {}}}],
        "reason": {"category": "ErrorRate", "summary": "what the guard is tried on; never carried out"},
        "requestedBy": by,
    });
    let mut request = DynamicObject::new(NAME, &request_kind()).data(json!({"spec": spec}));
    request.metadata.namespace = Some(HOME.to_owned());
    request
}

/// A plan for nothing, so that the rules of an approval are asked; and what people read who find this request.
fn status(found: &DynamicObject) -> Value {
    let now = Timestamp::now();
    let request = found.clone().try_parse::<RollbackRequest>();
    let plan = request.ok().map(|request| Plan {
        digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"
            .to_owned(),
        round: 0,
        planned_at: now,
        not_after: now,
        rules: rules(&request, None, false),
        guard: String::new(),
        data_risk: None,
        targets: Vec::new(),
        skipped: Vec::new(),
    });
    json!({
        "plan": plan,
        "conditions": [{
            "type": "Ready", "status": "False", "reason": "SelfTest", "lastTransitionTime": now,
            "message": "The controller tries forged approvals on this request (dryRun=All), to see them refused. \
                        It is never carried out.",
        }],
    })
}

/// What is forged, as a merge patch. Something of it is new in each round: to write the same again changes nothing, and
/// is refused by nobody.
fn forgery(attempt: Attempt, before: &DynamicObject, groups: &str) -> Value {
    let version = before.resource_version().unwrap_or_default();
    let new = format!("{NAME}-{version}");
    let annotations = |annotations: Value| json!({"metadata": {"annotations": annotations}});
    match attempt {
        Attempt::Birth | Attempt::Name => Value::Null,
        Attempt::Approval => annotations(approval(before, &new, groups)),
        Attempt::Denial => annotations(json!({DENIED_BY: CONTROLLER, DENIED_REASON: new})),
        Attempt::Cancellation => annotations(json!({CANCELLED_BY: new})),
        Attempt::Withdrawal => {
            let was = before.annotations().get(WITHDRAWN_BY);
            let is_there = was.is_some_and(|was| was == CONTROLLER);
            annotations(json!({WITHDRAWN_BY: if is_there { new.as_str() } else { CONTROLLER }}))
        }
        Attempt::Spec => json!({"spec": {"reason": {"summary": new}}}),
        // Without an approval beside it: taken off, or refused.
        Attempt::Stamp => annotations(json!({APPROVER_UID: new})),
        Attempt::Artifact => json!({"metadata": {"labels": {ARTIFACT_LABEL: new}}}),
        Attempt::Deployment => {
            let paused = before.data.pointer("/spec/paused").and_then(Value::as_bool);
            json!({"spec": {"paused": !paused.unwrap_or_default()}})
        }
        Attempt::Hold => annotations(json!({HELD_BY: new})),
        // The policy of replicas may grant them alone; beside a template that nobody had before it never does.
        Attempt::Capacity => {
            let replicas = before
                .data
                .pointer("/spec/replicas")
                .and_then(Value::as_i64);
            json!({"spec": {
                "replicas": i32::from(replicas == Some(0)),
                "template": {"metadata": {"annotations": {NAME: new}}},
            }})
        }
    }
}

/// All that an approval needs, but for a person who gives it.
fn approval(request: &DynamicObject, new: &str, groups: &str) -> Value {
    let text = |pointer| request.data.pointer(pointer).and_then(Value::as_str);
    let items = request
        .data
        .pointer("/status/plan/rules/approvals/checklist");
    let items = items.and_then(Value::as_array).into_iter().flatten();
    let items: Vec<&str> = items.filter_map(|item| item["name"].as_str()).collect();
    json!({
        APPROVED_BY: CONTROLLER,
        PLAN: text("/status/plan/digest").unwrap_or_default(),
        CONFIRM: text("/status/plan/rules/approvals/confirmPhrase").unwrap_or_default(),
        CHECKLIST: items.join(","),
        ACCEPT_DATA_RISK: new,
        APPROVER_GROUPS: groups,
    })
}

/// What an attempt that nobody refused came to, by what was there before and what would be there now.
fn came_of(
    attempt: Attempt,
    before: &DynamicObject,
    after: &DynamicObject,
    forged: &Value,
) -> Answer {
    if holds(&whole(before), forged) {
        Answer::Untried("it would have changed nothing".to_owned())
    } else if holds(&whole(after), forged) {
        Answer::Accepted
    } else if attempt == Attempt::Stamp {
        Answer::PutRight
    } else {
        changed_on_its_way()
    }
}

/// Something else in the API server has put right what was forged. Then the policy was not asked.
fn changed_on_its_way() -> Answer {
    Answer::Untried("something changed it on its way".to_owned())
}

fn whole(object: &DynamicObject) -> Value {
    let mut whole = object.data.clone();
    whole["metadata"] = json!({"annotations": object.annotations(), "labels": object.labels()});
    whole
}

/// Whether all of this is there.
fn holds(there: &Value, forged: &Value) -> bool {
    match forged {
        Value::Object(fields) => fields
            .iter()
            .all(|(key, value)| there.get(key).is_some_and(|there| holds(there, value))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            there == forged
        }
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn patching() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn dry_run() -> PatchParams {
    PatchParams {
        dry_run: true,
        ..patching()
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
                Answer::PutRight => "PutRight",
                Answer::Accepted => "Accepted",
                Answer::Untried(_) => "Untried",
                Answer::Unreachable(_) => "Unreachable",
            };
            assert_eq!(answer, expected, "{error}");
        }
    }

    fn object(data: Value) -> DynamicObject {
        let mut whole = data;
        whole["metadata"]["name"] = json!(NAME);
        whole["metadata"]["resourceVersion"] = json!("7");
        serde_json::from_value(whole).unwrap()
    }

    /// What was there before is no proof that it can be written.
    #[test]
    fn an_attempt_that_changes_nothing_is_none() {
        let one = object(json!({"spec": {"replicas": 0}}));
        let forged = forgery(Attempt::Capacity, &one, "");
        let mut other = json!({"spec": {"replicas": 1}});
        other["spec"]["template"] = forged["spec"]["template"].clone();
        let other = object(other);
        let untried = |answer| matches!(answer, Answer::Untried(_));
        assert!(untried(came_of(Attempt::Capacity, &other, &other, &forged)));
        assert!(untried(came_of(Attempt::Capacity, &one, &one, &forged)));
        assert_eq!(
            came_of(Attempt::Capacity, &one, &other, &forged),
            Answer::Accepted
        );
        // A stamp that is taken off is what that policy is there for.
        let forged = forgery(Attempt::Stamp, &one, "");
        assert_eq!(
            came_of(Attempt::Stamp, &one, &one, &forged),
            Answer::PutRight
        );
    }

    /// Whatever somebody has written there, each attempt is a change.
    #[test]
    fn every_attempt_changes_something() {
        for attempt in Attempt::ALL {
            let start = object(json!({"spec": {"replicas": i32::MAX, "paused": true}}));
            let first = forgery(attempt, &start, "crew");
            if [Attempt::Birth, Attempt::Name].contains(&attempt) {
                continue;
            }
            let mut written = serde_json::to_value(&start).unwrap();
            json_patch::merge(&mut written, &first);
            written["metadata"]["resourceVersion"] = json!("8");
            let written: DynamicObject = serde_json::from_value(written).unwrap();
            assert!(holds(&whole(&written), &first), "{attempt:?}");
            assert!(!holds(&whole(&start), &first), "{attempt:?}");
            let again = forgery(attempt, &written, "crew");
            assert!(!holds(&whole(&written), &again), "{attempt:?}");
        }
    }
}
