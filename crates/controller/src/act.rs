//! Writes: one idempotent write for each step. What it did is learned by looking again.

mod holds;
mod jobs;

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Api, Client, Resource, ResourceExt};
use rollback_api::hold::Hold;
use rollback_api::{FIELD_MANAGER, FINALIZER, RollbackRequest, WorkloadRef};
use rollback_core::approval::MAILBOX;
use rollback_core::execution::artifact::Artifact;
use rollback_core::execution::step::{Revert, Scale, Step};
use rollback_core::history::ledger::name_of;
use rollback_core::observed::{Rejection, is_refusal};
use rollback_observe::Read;
use serde_json::{Value, json};

use crate::context::Context;
use crate::ledger;

/// A write that failed. It is tried again after looking again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger.
    #[error("writing the RevisionLedger")]
    Ledger(#[source] kube::Error),
    /// A ConfigMap.
    #[error("writing ConfigMap {name}")]
    ConfigMap {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The Deployment.
    #[error("writing the old template to {workload}")]
    Revert {
        /// Which.
        workload: WorkloadRef,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The owner of the Deployment.
    #[error("putting {owner} on hold")]
    Hold {
        /// Which.
        owner: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The policy that has the pod of a Job.
    #[error("reading the RollbackPolicy for a Job")]
    Policy(#[source] kube::Error),
    /// A Job.
    #[error("creating Job {name}")]
    Job {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The number of replicas of a Deployment.
    #[error(
        "changing the replicas of {workload}; the ClusterRole rollback-scale-down lets the controller do that"
    )]
    Scale {
        /// Which.
        workload: WorkloadRef,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// A pod that hangs.
    #[error("deleting pod {name} by force")]
    ForceDelete {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The mailbox.
    #[error("putting a counted approval away")]
    Mailbox(#[source] kube::Error),
    /// The finalizer, at the beginning.
    #[error("adding the finalizer")]
    Begin(#[source] kube::Error),
    /// The finalizer, at the end.
    #[error("dropping the finalizer")]
    Finalizer(#[source] kube::Error),
    /// A value that cannot be sent.
    #[error("preparing a write")]
    Prepare(#[from] serde_json::Error),
}

/// How many writes are under way at the same time.
const AT_ONCE: usize = 10;

/// Takes all steps, as far as each can be taken: one that fails keeps no other from being taken. The first error is
/// what is told.
pub async fn act_all(
    context: &Context,
    request: &RollbackRequest,
    read: &Read,
    steps: &[Step],
) -> Result<(), Error> {
    let writes: Vec<_> = steps
        .iter()
        .map(|step| act(context, request, read, step))
        .collect();
    let results: Vec<Result<(), Error>> = futures::stream::iter(writes)
        .buffered(AT_ONCE)
        .collect()
        .await;
    results.into_iter().collect()
}

/// Takes one step.
async fn act(
    context: &Context,
    request: &RollbackRequest,
    read: &Read,
    step: &Step,
) -> Result<(), Error> {
    match step {
        Step::AddFinalizer => add_finalizer(context, request).await.map(drop),
        Step::Claim(spec) | Step::Release(spec) => {
            let old = read.ledgers.get(&name_of(&spec.target_ref));
            ledger::write(&context.client, &namespace(request), old, spec)
                .await
                .map_err(Error::Ledger)
        }
        Step::BackUp(artifact) => create(context, request, artifact).await,
        Step::RunJob {
            workload,
            job,
            rule,
            image,
        } => jobs::run(context, request, workload, job, rule, image.as_deref()).await,
        Step::PlaceHold(place) => holds::place(context, request, place).await,
        Step::Revert(write) | Step::Disown(write) => revert(context, request, write).await,
        Step::ForceDelete { pod, uid, .. } => force_delete(context, request, pod, uid).await,
        Step::Scale(write) => scale(context, request, write).await,
        Step::Publish(artifact) => publish(context, request, artifact).await,
        Step::EmptyMailbox => empty_mailbox(context, request).await,
        Step::DropFinalizer => drop_finalizer(context, request).await,
    }
}

fn namespace(request: &RollbackRequest) -> String {
    request.namespace().unwrap_or_default()
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

/// Ends a hold: puts back what was there before.
pub async fn end_hold(client: &Client, hold: &Hold, patch: &Value) -> kube::Result<()> {
    let written = holds::write(client, hold.means, &hold.object, patch).await;
    written.map(drop)
}

/// Creates a ConfigMap whose name and content follow from the request: if it is there, it was us.
async fn create(
    context: &Context,
    request: &RollbackRequest,
    artifact: &Artifact,
) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace(request));
    let config_map: ConfigMap = serde_json::from_value(artifact.config_map(request))?;
    match api.create(&post(), &config_map).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(Error::ConfigMap {
            name: artifact.name.clone(),
            source,
        }),
    }
}

/// Writes the report. A request that is being deleted is not held for ever by a report that the API
/// server forbids, as it does in a namespace that is being deleted itself.
async fn publish(
    context: &Context,
    request: &RollbackRequest,
    artifact: &Artifact,
) -> Result<(), Error> {
    match create(context, request, artifact).await {
        Err(Error::ConfigMap {
            name,
            source: kube::Error::Api(status),
        }) if status.is_forbidden() && request.metadata.deletion_timestamp.is_some() => {
            tracing::warn!(config_map = name, error = %status.message, "the report cannot be written and the request is deleted without it");
            drop_finalizer(context, request).await
        }
        result => result,
    }
}

/// The one write to a Deployment. A refusal is remembered, so that the next pass can tell a refusal
/// that is final from a race that was lost; so is what the API server made of it.
async fn revert(context: &Context, request: &RollbackRequest, write: &Revert) -> Result<(), Error> {
    let patch: json_patch::Patch = serde_json::from_value(write.patch.clone())?;
    let failed = |source| Error::Revert {
        workload: write.workload.clone(),
        source,
    };
    let parameters = patching();
    let url = Deployment::url_path(&(), Some(&namespace(request)));
    let http = Request::new(url)
        .patch::<()>(&write.workload.name, &parameters, &Patch::Json(patch))
        .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    let uid = request.uid().unwrap_or_default();
    match context.client.request::<Value>(http).await {
        Ok(stored) => {
            let generation = stored.pointer("/metadata/generation");
            if let Some(generation) = generation.and_then(Value::as_i64) {
                let deployment = write.workload.name.clone();
                context.note(&uid, |memory| {
                    memory.accepted.insert(deployment, generation);
                });
            }
            Ok(())
        }
        // Looking again tells: a precondition that no longer holds makes another patch, or none.
        Err(kube::Error::Api(status)) if is_refusal(status.code) => {
            let rejection = Rejection {
                patch: write.patch.clone(),
                code: status.code,
                message: status.message.clone(),
            };
            let deployment = write.workload.name.clone();
            context.note(&uid, |memory| {
                memory.rejections.insert(deployment, rejection);
            });
            Ok(())
        }
        Err(source) => {
            // It may be on its way still: that a later attempt is refused shows nothing about this one.
            if !was_put_off(&source) {
                context.note(&uid, |memory| {
                    memory.intended.remove(&write.workload.name);
                });
            }
            Err(failed(source))
        }
    }
}

/// Whether the API server has not even looked at it.
fn was_put_off(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 429)
}

/// Deletes a pod that hangs. One that is gone meanwhile, or another one of its name, is no trouble; a refusal is
/// remembered, said, and stops nothing.
async fn force_delete(
    context: &Context,
    request: &RollbackRequest,
    pod: &str,
    uid: &str,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace(request));
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(pod, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let uid = request.uid().unwrap_or_default();
            context.note(&uid, |memory| memory.may_not_delete = true);
            Ok(())
        }
        Err(source) => Err(Error::ForceDelete {
            name: pod.to_owned(),
            source,
        }),
    }
}

/// Changes how many replicas a Deployment asks for. A test that fails is looked at again; that this is not allowed is
/// remembered, so that the next pass can say so. What is owed is tried again until it is given back.
async fn scale(context: &Context, request: &RollbackRequest, write: &Scale) -> Result<(), Error> {
    let failed = |source| Error::Scale {
        workload: write.workload.clone(),
        source,
    };
    let patch: json_patch::Patch = serde_json::from_value(write.patch())?;
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace(request));
    let patch = Patch::<Value>::Json(patch);
    // Not its subresource: the guard keeps the controller from those, and asks for this grant when replicas change.
    match api.patch(&write.workload.name, &patching(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 422 => Ok(()),
        Err(kube::Error::Api(status)) if status.is_forbidden() && write.to == 0 => {
            let uid = request.uid().unwrap_or_default();
            let (name, why) = (write.workload.name.clone(), status.message.clone());
            context.note(&uid, |memory| {
                memory.refused_scale.insert(name, why);
            });
            Ok(())
        }
        Err(source) => Err(failed(source)),
    }
}

/// Changes metadata of the request. The `resourceVersion` guards what somebody else has written meanwhile.
async fn patch_metadata(
    context: &Context,
    request: &RollbackRequest,
    mut metadata: Value,
) -> kube::Result<()> {
    metadata["resourceVersion"] = json!(request.resource_version());
    let api: Api<RollbackRequest> = Api::namespaced(context.client.clone(), &namespace(request));
    let patch = Patch::Merge(json!({"metadata": metadata}));
    api.patch_metadata(&request.name_any(), &patching(), &patch)
        .await
        .map(|_| ())
}

/// Puts a counted approval away.
async fn empty_mailbox(context: &Context, request: &RollbackRequest) -> Result<(), Error> {
    let nothing: BTreeMap<&str, Value> = MAILBOX.map(|key| (key, Value::Null)).into();
    patch_metadata(context, request, json!({"annotations": nothing}))
        .await
        .map_err(Error::Mailbox)
}

/// Holds the request, beside the finalizers of others; the request as it is then. `None` when it is gone.
pub async fn add_finalizer(
    context: &Context,
    request: &RollbackRequest,
) -> Result<Option<RollbackRequest>, Error> {
    let mut finalizers = request.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    let metadata = json!({
        "finalizers": finalizers, "resourceVersion": request.resource_version(),
    });
    let api: Api<RollbackRequest> = Api::namespaced(context.client.clone(), &namespace(request));
    let patch = Patch::Merge(json!({"metadata": metadata}));
    match api.patch(&request.name_any(), &patching(), &patch).await {
        Ok(held) => Ok(Some(held)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(Error::Begin(error)),
    }
}

/// Lets the request go, and leaves the finalizers of others.
async fn drop_finalizer(context: &Context, request: &RollbackRequest) -> Result<(), Error> {
    let others: Vec<&String> = request
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    match patch_metadata(context, request, json!({"finalizers": others})).await {
        Ok(()) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::Finalizer(error)),
    }
}
