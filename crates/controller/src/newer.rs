//! A request whose status a newer controller has written: this one would guess what it means, and lose what it does not
//! know. It writes nothing of it, and says so once. When the request is deleted it must not hang: what is sure to be ours,
//! the claims and the finalizer, is given back.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use rollback_core::execution::step::Step;
use rollback_core::report::unread::unread;
use rollback_observe::Read;
use rollback_observe::newer::{Newer, claimed};

use crate::context::Context;
use crate::reconcile::Error;
use crate::{act, events, ledger};

/// Leaves it alone, unless it is to go.
pub async fn leave_alone(context: &Context, newer: &Newer) -> Result<Action, Error> {
    say(context, newer).await;
    if newer.is_going() {
        let_go(context, newer).await?;
        context.forget(&newer.request.uid().unwrap_or_default());
    }
    // A controller that knows more begins anew; until then nothing changes by waiting.
    Ok(Action::await_change())
}

async fn say(context: &Context, newer: &Newer) {
    let uid = newer.request.uid().unwrap_or_default();
    let said = context.remember(&uid, |memory| memory.newer.replace(newer.unknown.clone()));
    if said.as_ref() == Some(&newer.unknown) {
        return;
    }
    tracing::warn!(
        namespace = newer.request.namespace(),
        request = newer.request.name_any(),
        unknown = %newer.unknown,
        "a newer version of the controller has written the status of a request; this one leaves it alone"
    );
    events::newer(context, newer, Timestamp::now()).await;
}

/// The report, the claims, the finalizer, in this order: each may fail, and is tried again then.
async fn let_go(context: &Context, newer: &Newer) -> Result<(), Error> {
    let request = &newer.request;
    let deleted_at = request.metadata.deletion_timestamp.as_ref();
    let deleted_at = deleted_at.map_or_else(Timestamp::now, |time| time.0);
    let report = unread(request, &newer.status, &newer.unknown, deleted_at);
    act::act_all(context, request, &Read::default(), &[Step::Publish(report)]).await?;
    let uid = request.uid().unwrap_or_default();
    let namespace = newer.namespace();
    for claim in claimed(&context.client, &namespace, &uid).await? {
        let given_back = ledger::without_claim(&context.client, &namespace, claim).await;
        given_back.map_err(act::Error::Ledger)?;
    }
    act::act_all(context, request, &Read::default(), &[Step::DropFinalizer]).await?;
    Ok(())
}
