//! Events: told after the fact, at least once, and never in the way.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};
use rollback_api::{FIELD_MANAGER, RollbackRequest, RollbackRequestStatus};
use rollback_core::evidence::Returned;
use rollback_core::message::text::plain;
use rollback_core::observed::{Deployment, Guard};
use rollback_core::report::conditions::GUARD_MISSING;
use rollback_core::report::notice::{self, NEWER_VERSION, Notice, notices};
use rollback_core::report::review;
use rollback_observe::newer::Newer;

use crate::context::Context;
use crate::reconcile::backoff;

/// Facts older than this were told by whoever was here before.
const FRESH: SignedDuration = SignedDuration::from_mins(10);
/// Longest text of an Event.
const NOTE_LIMIT: usize = 1000;
/// How long one Event may take.
const LIMIT: Duration = Duration::from_secs(3);

/// Sends the Events of `status` that were not sent yet; whether none is left to send. A failure is logged and tried again
/// with the next pass.
pub async fn send(
    context: &Context,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    now: Timestamp,
) -> bool {
    let Some(uid) = request.uid() else {
        return true;
    };
    let mut all = true;
    let name = request.name_any();
    for notice in notices(status) {
        let event_name = notice.event_name(&name, &uid);
        if now.duration_since(notice.at) > FRESH {
            continue;
        }
        match send_one(context, request, &uid, event_name, notice).await {
            Ok(sent) => all &= sent,
            Err(Slow) => return false,
        }
    }
    all
}

/// Says why a request does not go on, once for each cause: who looks at it would otherwise see a
/// state that does not change and nothing else.
pub async fn stuck(context: &Context, request: &RollbackRequest, attempt: u32, why: &str) {
    let wait = backoff(attempt).as_secs();
    let notice = Notice {
        at: Timestamp::UNIX_EPOCH,
        warning: true,
        reason: "ReconcileFailed",
        action: "Retry",
        note: plain(
            &format!("Reconcile failed (attempt {attempt}, next retry in {wait}s): {why}"),
            NOTE_LIMIT,
        ),
        // Not of the numbers: the next attempt fails for the same cause.
        key: Some(why.to_owned()),
    };
    warn_once(context, request, notice, Timestamp::now()).await;
}

/// Says that no approval of this request counts while the guard is as it is, once for each set of holes.
pub async fn unguarded(
    context: &Context,
    request: &RollbackRequest,
    status: &RollbackRequestStatus,
    guard: &Guard,
    now: Timestamp,
) {
    let is_meant = |condition: &Condition| condition.reason == GUARD_MISSING;
    if guard.holes.is_empty() || !status.conditions.iter().any(is_meant) {
        return;
    }
    let notice = Notice {
        at: Timestamp::UNIX_EPOCH,
        warning: true,
        reason: GUARD_MISSING,
        action: "Approve",
        note: format!(
            "No approval counts until the admission policies are in force: {}",
            guard.holes.join("; ")
        ),
        key: None,
    };
    warn_once(context, request, notice, now).await;
}

/// Says that a newer controller has written the status, once for each thing that this one does not know.
pub async fn newer(context: &Context, newer: &Newer, now: Timestamp) {
    let notice = Notice {
        at: Timestamp::UNIX_EPOCH,
        warning: true,
        reason: NEWER_VERSION,
        action: "Reconcile",
        note: format!(
            "A newer version of the controller has written this status, and this one does not know {}. It writes nothing to the request and its Deployments: run the newer version. Deleting the request gives its claims back.",
            newer.unknown
        ),
        key: None,
    };
    warn_once(context, &newer.request, notice, now).await;
}

/// Says that a request has the name under which the controller's own watch was to ask, and is not what would be asked for.
pub async fn name_taken(context: &Context, request: &RollbackRequest, why: &str, now: Timestamp) {
    let notice = Notice {
        at: Timestamp::UNIX_EPOCH,
        warning: true,
        reason: "NameTaken",
        action: "Ask",
        note: format!(
            "The controller's own watch was to ask under this name for the rollback of a version that is live, and this request is not that: {}. Look at it, and delete it if nobody wants it.",
            plain(why, 400)
        ),
        key: None,
    };
    warn_once(context, request, notice, now).await;
}

/// Says that the review of an incident is overdue, if it is; whether that is settled, because it was told or there is
/// nothing to tell.
pub async fn reminder(context: &Context, request: &RollbackRequest, now: Timestamp) -> bool {
    let (Some(uid), Some(notice)) = (request.uid(), review::reminder(request, now)) else {
        return true;
    };
    let event_name = notice.event_name(&request.name_any(), &uid);
    matches!(
        send_one(context, request, &uid, event_name, notice).await,
        Ok(true)
    )
}

/// Sends a notice that has no time of its own: the same words are the same Event, all of them, however few fit into it.
async fn warn_once(context: &Context, request: &RollbackRequest, notice: Notice, now: Timestamp) {
    let Some(uid) = request.uid() else { return };
    let event_name = notice.event_name(&request.name_any(), &uid);
    let notice = Notice {
        at: now,
        note: plain(&notice.note, NOTE_LIMIT),
        ..notice
    };
    // Whether it was in time makes no difference: this is the last thing that the pass does.
    let _ = send_one(context, request, &uid, event_name, notice).await;
}

/// The API server is too slow for more.
struct Slow;

/// Sends one Event, unless it was sent; whether it is there now.
async fn send_one(
    context: &Context,
    request: &RollbackRequest,
    uid: &str,
    event_name: String,
    notice: Notice,
) -> Result<bool, Slow> {
    if context.remember(uid, |memory| memory.told.contains(&event_name)) {
        return Ok(true);
    }
    let name = request.name_any();
    match create(context, request.object_ref(&()), &event_name, notice).await {
        Ok(()) => {}
        Err(NotSent::Failed(error)) => {
            tracing::warn!(%error, request = %name, "an Event was not sent");
            return Ok(false);
        }
        Err(NotSent::Slow) => {
            tracing::warn!(request = %name, "an Event was not sent in time");
            return Err(Slow);
        }
    }
    context.remember(uid, |memory| memory.told.insert(event_name));
    Ok(true)
}

/// Why an Event is not there.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// The API server did not take it.
    #[error("an Event was not sent")]
    Failed(#[from] kube::Error),
    /// It did not answer in time.
    #[error("an Event was not sent in time")]
    Slow,
}

/// Sends one Event about an object. One of this name that is there already is the same.
pub async fn create(
    context: &Context,
    regarding: ObjectReference,
    name: &str,
    notice: Notice,
) -> Result<(), NotSent> {
    let namespace = regarding.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(context.client.clone(), &namespace);
    let event = event(regarding, name, notice);
    let parameters = PostParams::default();
    match tokio::time::timeout(LIMIT, api.create(&parameters, &event)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => Ok(()),
        Ok(Err(error)) => Err(NotSent::Failed(error)),
        Err(_) => Err(NotSent::Slow),
    }
}

/// Says on a Deployment that somebody has brought back a version in quarantine.
pub async fn returned(
    context: &Context,
    namespace: &str,
    deployment: &Deployment,
    returned: &Returned,
) {
    let workload = deployment.workload();
    let notice = notice::returned(returned, &workload.name, Timestamp::now());
    let name = notice.event_name(&workload.name, &workload.uid);
    let regarding = ObjectReference {
        api_version: workload.kind.api_version().map(str::to_owned),
        kind: Some(workload.kind.as_str().to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(workload.name),
        uid: Some(workload.uid),
        ..ObjectReference::default()
    };
    if let Err(error) = create(context, regarding, &name, notice).await {
        tracing::warn!(%error, namespace, "nobody is told that a version in quarantine came back");
    }
}

fn event(regarding: ObjectReference, name: &str, notice: Notice) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some(notice.action.to_owned()),
        event_time: Some(MicroTime(notice.at)),
        note: Some(notice.note),
        reason: Some(notice.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(rollback_api::GROUP.to_owned() + "/controller"),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}
