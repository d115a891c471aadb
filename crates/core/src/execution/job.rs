//! The Jobs of a policy: their names, their objects, and what is read of how they ended.

mod runs;

use jiff::Timestamp;
use rollback_api::policy::JobTemplate;
use rollback_api::status::{JobEnd, JobRule, JobStatus, Plan, PlannedTarget, TargetStatus};
use rollback_api::{
    FIELD_MANAGER, REQUEST_NAME_ANNOTATION, REQUEST_UID_LABEL, RollbackRequest,
    WORKLOAD_KIND_LABEL, WORKLOAD_NAME_ANNOTATION, WorkloadRef,
};
use serde_json::{Map, Value, json};

use crate::history::template;
use crate::message::redact::redact;
use crate::message::text::plain;
use crate::observed::{JobState, ObservedJob};
use crate::time;

pub use runs::{image, other_images, pod_of, sentence, told};

/// Seconds that a Job gets to be scheduled and cleared away, besides its own time.
pub const JOB_SLACK_SECONDS: i64 = 30;
/// Seconds for which a Job that has ended is kept, for whoever wants to see its log.
const KEPT_SECONDS: i64 = 86_400;
/// Shortest value of a variable that is looked for in what a Job says: shorter ones are in every text.
const SHORTEST_HIDDEN: usize = 4;
/// Longest line of a log that is kept.
const LINE_LIMIT: usize = 500;
/// Longest reason that is repeated.
const REASON_LIMIT: usize = 600;
/// Where the containers of a pod are.
const LISTS: [&str; 2] = ["initContainers", "containers"];

/// Name of the Job object. It follows from the request, the two versions and the rule alone, so that starting it again
/// after a crash starts nothing, and another pod or another version to try is another Job.
pub fn name(request: &RollbackRequest, target: &PlannedTarget, rule: &JobRule) -> String {
    let identity = json!([
        request.metadata.uid,
        target.workload.kind,
        target.workload.name,
        target.to.digest,
        rule.stage.as_str(),
        rule.name,
        rule.pod_digest,
        rule.image_of,
    ]);
    let digest = template::digest(&identity);
    let short: String = digest
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect();
    format!("rollback-{}-{short}", rule.name)
}

/// What the status says of the Job of a rule, if it is about exactly that Job.
pub fn status_of<'a>(
    request: &RollbackRequest,
    target: &PlannedTarget,
    progress: &'a TargetStatus,
    rule: &JobRule,
) -> Option<&'a JobStatus> {
    let name = name(request, target, rule);
    progress
        .jobs
        .iter()
        .find(|status| status.stage == rule.stage && status.name == rule.name && status.job == name)
}

/// How a Job ended, with its exit code, in at most so many characters and the code.
pub fn said(end: &JobEnd, limit: usize) -> String {
    let code = end
        .exit_code
        .map_or_else(String::new, |code| format!(" (exit code {code})"));
    format!("{}{code}", plain(&end.message, limit))
}

/// The Job that was begun and whose end has not been seen.
pub fn open<'a>(
    request: &RollbackRequest,
    plan: &'a Plan,
    target: &PlannedTarget,
    progress: &'a TargetStatus,
) -> Option<(&'a JobRule, &'a JobStatus)> {
    plan.rules.jobs.iter().find_map(|rule| {
        let status = status_of(request, target, progress, rule)?;
        status.end.is_none().then_some((rule, status))
    })
}

/// When a Job that has not ended by itself counts as failed.
pub fn deadline(rule: &JobRule, status: &JobStatus) -> Timestamp {
    let seconds = i64::from(rule.timeout_seconds) + JOB_SLACK_SECONDS;
    time::after(status.intended_at, seconds)
}

/// The Job object. The request owns it, so that it goes when the request goes, and the controller need not be able to
/// delete anything; what a withdrawn request has begun ends by its own deadline.
pub fn object(
    request: &RollbackRequest,
    workload: &WorkloadRef,
    rule: &JobRule,
    policy: &JobTemplate,
    name: &str,
    image: Option<&str>,
) -> Value {
    let labels = json!({
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        REQUEST_UID_LABEL: request.metadata.uid,
        WORKLOAD_KIND_LABEL: workload.kind,
    });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": request.metadata.namespace,
            "labels": labels,
            "annotations": {
                REQUEST_NAME_ANNOTATION: request.metadata.name,
                WORKLOAD_NAME_ANNOTATION: workload.name,
            },
            "ownerReferences": [{
                "apiVersion": "rollback.broxiva.com/v1alpha1",
                "kind": "RollbackRequest",
                "name": request.metadata.name,
                "uid": request.metadata.uid,
            }],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": rule.timeout_seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod(rule, &policy.pod_spec, image)},
        },
    })
}

fn pod(rule: &JobRule, spec: &Value, image: Option<&str>) -> Value {
    let mut spec = spec.clone();
    for list in LISTS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        let nameless = containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
            .filter(|container| has_no_image(container));
        for container in nameless {
            if let Some(image) = image {
                container.insert("image".to_owned(), image.into());
            }
        }
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.insert("restartPolicy".to_owned(), "Never".into());
        // As the plan says, also where the policy leaves it to the API server.
        if let Some(account) = &rule.service_account {
            fields.remove("serviceAccount");
            fields.insert("serviceAccountName".to_owned(), account.as_str().into());
        }
    }
    spec
}

fn has_no_image(container: &Map<String, Value>) -> bool {
    let image = container.get("image").and_then(Value::as_str);
    image.is_none_or(str::is_empty)
}

/// What the object with the name of a Job says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not of this request.
    Foreign,
    /// It has not ended.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed; reason and message of its condition.
    Failed(String, String),
}

/// What the object with the name of a Job says by itself.
pub fn standing(object: &Value, request_uid: &str) -> Standing {
    let label = object
        .pointer("/metadata/labels")
        .and_then(|labels| labels.get(REQUEST_UID_LABEL))
        .and_then(Value::as_str);
    if label != Some(request_uid) {
        return Standing::Foreign;
    }
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let holds = |kind: &str| {
        conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == kind && one["status"] == "True")
    };
    let text = |condition: &Value, field: &str| {
        let text = condition[field].as_str().unwrap_or_default();
        text.to_owned()
    };
    match (holds("Failed"), holds("Complete")) {
        (Some(failed), _) => Standing::Failed(text(failed, "reason"), text(failed, "message")),
        (None, Some(_)) => Standing::Succeeded,
        (None, None) => Standing::Running,
    }
}

/// One container that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Name of its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// Its exit code.
    pub exit_code: i32,
    /// The kubelet's word for it, for example `OOMKilled`.
    pub reason: String,
}

/// The container that tells how a Job ended: the first that failed, else the last that ended. Pods that the Job does not
/// own say nothing, whatever their labels.
pub fn telling(job: &Value, pods: &[Value]) -> Option<Ended> {
    let uid = job.pointer("/metadata/uid").and_then(Value::as_str)?;
    let ended: Vec<Ended> = pods
        .iter()
        .filter(|pod| {
            let owners = pod
                .pointer("/metadata/ownerReferences")
                .and_then(Value::as_array);
            owners
                .into_iter()
                .flatten()
                .any(|owner| owner["uid"] == uid)
        })
        .flat_map(ended_in)
        .collect();
    let failed = ended.iter().find(|one| one.exit_code != 0).cloned();
    failed.or_else(|| ended.into_iter().next_back())
}

fn ended_in(pod: &Value) -> Vec<Ended> {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str);
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|list| pod.pointer("/status")?.get(list)?.as_array())
        .flatten()
        .filter_map(|status| {
            let ended = status.pointer("/state/terminated")?;
            let code = ended.get("exitCode").and_then(Value::as_i64)?;
            Some(Ended {
                pod: name?.to_owned(),
                container: status.get("name")?.as_str()?.to_owned(),
                exit_code: i32::try_from(code).unwrap_or(-1),
                reason: ended["reason"].as_str().unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

/// How a Job ended, in words.
pub fn ended(
    rule: &JobRule,
    job: &Value,
    standing: &Standing,
    telling: Option<&Ended>,
    log: Vec<String>,
) -> JobState {
    let values = hidden(job.pointer("/spec/template/spec").unwrap_or(&Value::Null));
    let exit_code = telling.map(|ended| ended.exit_code);
    let failed_container = telling.filter(|ended| ended.exit_code != 0);
    let message = match (standing, failed_container) {
        (Standing::Foreign, _) => return JobState::Refused(foreign()),
        (Standing::Running, _) => return JobState::Running,
        (Standing::Succeeded, _) => "it succeeded".to_owned(),
        (Standing::Failed(reason, _), _) if reason == "DeadlineExceeded" => {
            format!("it did not end within {} seconds", rule.timeout_seconds)
        }
        (Standing::Failed(..), Some(ended)) => {
            let container = plain(&ended.container, 63);
            let reason =
                Some(plain(&ended.reason, 60)).filter(|it| it != "Error" && !it.is_empty());
            let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
            format!("its container {container} failed{reason}")
        }
        (Standing::Failed(reason, message), None) => {
            let words = fit(message, &values, REASON_LIMIT);
            format!("it failed: {} {words}", plain(reason, 60))
                .trim_end_matches(['.', ' '])
                .to_owned()
        }
    };
    JobState::Ended {
        succeeded: *standing == Standing::Succeeded,
        exit_code,
        message,
        log,
    }
}

/// Why a Job of the right name is of no use.
pub fn foreign() -> String {
    "a Job of its name is there already and is not of this request; somebody has to look at it and delete it".to_owned()
}

/// The lines of a log, made fit to be kept. A log that was cut off in the middle of its last line loses that line: half
/// a secret is not found.
pub fn log_lines(text: &str, is_cut: bool, job: &Value) -> Vec<String> {
    let values = hidden(job.pointer("/spec/template/spec").unwrap_or(&Value::Null));
    let mut lines: Vec<&str> = text.lines().collect();
    if is_cut && !text.ends_with('\n') {
        lines.pop();
    }
    // A value of several lines is hidden only as a whole, so the whole is looked at first.
    hide(&lines.join("\n"), &values)
        .lines()
        .map(|line| plain(&redact(line), LINE_LIMIT))
        .collect()
}

/// Words of others about a Job, without the values of its variables and without what looks like a secret.
pub fn fit(text: &str, values: &[String], limit: usize) -> String {
    plain(&redact(&hide(text, values)), limit)
}

fn hide(text: &str, values: &[String]) -> String {
    values.iter().fold(text.to_owned(), |text, value| {
        text.replace(value, "[hidden]")
    })
}

/// The values that a pod gives its variables, the longest first, and each line of those that have several.
pub fn hidden(pod_spec: &Value) -> Vec<String> {
    let mut values: Vec<String> = LISTS
        .iter()
        .filter_map(|list| pod_spec.get(list)?.as_array())
        .flatten()
        .filter_map(|container| container.get("env")?.as_array())
        .flatten()
        .filter_map(|variable| variable.get("value")?.as_str())
        .flat_map(|value| std::iter::once(value).chain(value.lines()))
        .filter(|value| value.chars().count() >= SHORTEST_HIDDEN)
        .map(str::to_owned)
        .collect();
    values.sort();
    values.dedup();
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values
}

/// A Job as it was seen.
pub fn seen(status: &JobStatus, state: JobState) -> ObservedJob {
    ObservedJob {
        name: status.job.clone(),
        state,
    }
}
