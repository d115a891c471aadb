//! The Job that a target waits for.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Resource, ResourceExt};
use rollback_api::status::{JobRule, Plan, PlannedTarget, TargetStatus};
use rollback_core::execution::job::{self, Ended, Standing};
use rollback_core::observed::{Fetched, JobState, ObservedJob};
use serde_json::Value;

use super::{Error, Pass, raw, reading};

/// Label that the Job controller gives the pods of a Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// How many pods of one Job are looked at.
const MAX_PODS: u32 = 10;
/// Bytes of a log that are read for each line that is wanted.
const BYTES_PER_LINE: i64 = 4096;
/// How long a node may take to give a log.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// What keeps the controller from running Jobs, and who can change that.
pub fn not_granted(namespace: &str) -> String {
    format!(
        "the controller may not run Jobs in namespace {namespace}; an administrator of the namespace allows it by a RoleBinding of the ClusterRole rollback-run-jobs to the ServiceAccount rollback-controller of rollback-system"
    )
}

impl Pass<'_> {
    /// The Job of this target that was begun and has not been seen to end.
    pub(super) async fn job(
        &self,
        plan: &Plan,
        target: &PlannedTarget,
        progress: &TargetStatus,
    ) -> Result<Fetched<ObservedJob>, Error> {
        let Some((rule, status)) = job::open(self.scope.request, plan, target, progress) else {
            return Ok(Fetched::Unknown);
        };
        let state = self.state_of(rule, &status.job).await?;
        Ok(state.map_or(Fetched::Absent, |state| {
            Fetched::Found(ObservedJob {
                name: status.job.clone(),
                state,
            })
        }))
    }

    async fn state_of(&self, rule: &JobRule, name: &str) -> Result<Option<JobState>, Error> {
        let url = Job::url_path(&(), Some(self.scope.namespace));
        let object = match raw::get(self.scope.reader.client, url, name, self.scope.budget).await {
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                return Ok(Some(JobState::Refused(not_granted(self.scope.namespace))));
            }
            found => reading("a Job", found)?,
        };
        let uid = self.scope.request.uid().unwrap_or_default();
        let Some(object) = object else {
            let refusal = self.knowledge.memory.refused_jobs.get(name).cloned();
            return Ok(refusal.map(JobState::Refused));
        };
        let standing = job::standing(&object, &uid);
        match standing {
            Standing::Foreign => Ok(Some(JobState::Refused(job::foreign()))),
            Standing::Running => Ok(Some(JobState::Running)),
            Standing::Succeeded | Standing::Failed(..) => {
                let pods = self.pods_of(name).await?;
                let telling = job::telling(&object, &pods);
                let log = self.log(rule, &object, telling.as_ref()).await;
                let telling = telling.as_ref();
                Ok(Some(job::ended(rule, &object, &standing, telling, log)))
            }
        }
    }

    async fn pods_of(&self, job: &str) -> Result<Vec<Value>, Error> {
        let labelled = ListParams::default()
            .labels(&format!("{JOB_NAME_LABEL}={job}"))
            .limit(MAX_PODS);
        let url = Pod::url_path(&(), Some(self.scope.namespace));
        reading(
            "the pods of a Job",
            raw::list(self.scope.reader.client, url, &labelled, self.scope.budget).await,
        )
    }

    /// The last lines of the log of the container that tells. A log that cannot be had stops nothing.
    async fn log(&self, rule: &JobRule, job: &Value, telling: Option<&Ended>) -> Vec<String> {
        let lines = i64::from(rule.log_tail_lines);
        let Some(telling) = telling.filter(|_| lines > 0) else {
            return Vec::new();
        };
        let limit = lines.saturating_mul(BYTES_PER_LINE);
        let parameters = LogParams {
            container: Some(telling.container.clone()),
            tail_lines: Some(lines),
            limit_bytes: Some(limit),
            ..LogParams::default()
        };
        let pods: Api<Pod> = Api::namespaced(self.scope.client(), self.scope.namespace);
        let read = tokio::time::timeout(LOG_PATIENCE, pods.logs(&telling.pod, &parameters)).await;
        match read {
            Ok(Ok(text)) => {
                let is_cut = i64::try_from(text.len()).unwrap_or(i64::MAX) >= limit;
                job::log_lines(&text, is_cut, job)
            }
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                vec![format!(
                    "(The log could not be read: {}.)",
                    not_granted(self.scope.namespace)
                )]
            }
            Ok(Err(_)) => vec!["(The log could not be read.)".to_owned()],
            Err(_) => vec!["(The log could not be read in time.)".to_owned()],
        }
    }
}
