//! Starting a Job of the policy.

use k8s_openapi::api::batch::v1::Job;
use kube::core::{Request, Status};
use kube::{Api, Resource, ResourceExt};
use rollback_api::status::JobRule;
use rollback_api::{POLICY_NAME, RollbackPolicy, RollbackRequest, WorkloadRef};
use rollback_core::execution::job;
use rollback_core::observed::is_refusal;
use rollback_core::plan::rules;
use rollback_observe::not_granted;
use serde_json::Value;

use super::{Error, namespace, post};
use crate::context::Context;

/// Longest part of what the API server says that is repeated.
const SAID_LIMIT: usize = 600;

/// Creates the Job. One of this name that is there already was us, or the next look tells that it was not. A refusal is
/// remembered, so that the next pass can tell that trying again would not help.
pub async fn run(
    context: &Context,
    request: &RollbackRequest,
    workload: &WorkloadRef,
    name: &str,
    rule: &JobRule,
    image: Option<&str>,
) -> Result<(), Error> {
    let policies: Api<RollbackPolicy> =
        Api::namespaced(context.client.clone(), &namespace(request));
    let policy = policies.get_opt(POLICY_NAME).await.map_err(Error::Policy)?;
    let template = policy
        .as_ref()
        .and_then(|policy| rules::job_template(&policy.spec, rule));
    let Some(template) = template else {
        let why = "it was not started, because RollbackPolicy default has another pod for it by now, or does not name it any more";
        remember(context, request, name, why.to_owned());
        return Ok(());
    };
    let object = job::object(request, workload, rule, template, name, image);
    match create(context, request, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(kube::Error::Api(status)) if is_refusal(status.code) => {
            let why = refusal(&status, &namespace(request), &template.pod_spec);
            remember(context, request, name, why);
            Ok(())
        }
        Err(source) => Err(Error::Job {
            name: name.to_owned(),
            source,
        }),
    }
}

/// As raw JSON: a typed Job would drop the fields of the pod that are newer than it is.
async fn create(context: &Context, request: &RollbackRequest, job: &Value) -> kube::Result<Value> {
    let url = Job::url_path(&(), Some(&namespace(request)));
    let body = serde_json::to_vec(job).map_err(kube::Error::SerdeError)?;
    let http = Request::new(url)
        .create(&post(), body)
        .map_err(kube::Error::BuildRequest)?;
    context.client.request::<Value>(http).await
}

/// Why the API server does not take a Job, without the values that it quotes.
fn refusal(status: &Status, namespace: &str, pod_spec: &Value) -> String {
    if status.is_forbidden() && status.message.contains("cannot create resource \"jobs\"") {
        return not_granted(namespace);
    }
    let said = job::fit(&status.message, &job::hidden(pod_spec), SAID_LIMIT);
    format!(
        "the API server does not take it (HTTP {}): {}",
        status.code,
        said.trim_end_matches('.')
    )
}

fn remember(context: &Context, request: &RollbackRequest, name: &str, why: String) {
    let uid = request.uid().unwrap_or_default();
    context.note(&uid, |memory| {
        memory.refused_jobs.insert(name.to_owned(), why);
    });
}
