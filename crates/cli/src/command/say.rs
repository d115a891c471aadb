//! `deny`, `cancel`, `withdraw`, `ack`: a person's decision, as annotations in the own name. Whether it may be said the server
//! says.

use rollback_api::{
    ACCEPT_DATA_RISK, ACKNOWLEDGED_BY, APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, BREAK_GLASS,
    CANCELLED_BY, CHECKLIST, CONFIRM, DENIED_BY, DENIED_REASON, PLAN, RollbackRequest,
    WITHDRAWN_BY,
};
use rollback_core::message::shell;
use serde_json::{Value, json};

use crate::Ending;
use crate::arguments::Format;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{self, clean};

/// Says no.
pub async fn deny(
    cluster: &Cluster,
    format: Option<Format>,
    name: &str,
    reason: &str,
) -> Result<Ending, Error> {
    let decision = Decision::Deny(reason);
    speak(cluster, format, name, "denied", decision).await
}

/// Ends it.
pub async fn cancel(
    cluster: &Cluster,
    format: Option<Format>,
    name: &str,
) -> Result<Ending, Error> {
    speak(cluster, format, name, "cancelled", Decision::Cancel).await
}

/// Takes the own approval back: out of the mailbox, and when it is counted already by name.
pub async fn withdraw(
    cluster: &Cluster,
    format: Option<Format>,
    name: &str,
) -> Result<Ending, Error> {
    speak(cluster, format, name, "withdrawn", Decision::Withdraw).await
}

/// Says that I see to it. Of a request that has ended too: a failure asks for people as well.
pub async fn acknowledge(
    cluster: &Cluster,
    format: Option<Format>,
    name: &str,
) -> Result<Ending, Error> {
    let me = cluster.who().await?;
    let annotations = |_: &RollbackRequest| Ok(json!({ACKNOWLEDGED_BY: me}));
    let written = cluster.annotate(name, annotations).await?;
    told(format, &written, "acknowledged")?;
    Ok(Ending::Done)
}

/// A person's decision.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// No, for this reason.
    Deny(&'a str),
    /// The request is not wanted any more.
    Cancel,
    /// The own approval is taken back.
    Withdraw,
}

async fn speak(
    cluster: &Cluster,
    format: Option<Format>,
    name: &str,
    what: &str,
    decision: Decision<'_>,
) -> Result<Ending, Error> {
    let written = spoken(cluster, &cluster.who().await?, name, decision).await?;
    told(format, &written, what)?;
    Ok(Ending::Done)
}

/// Writes a decision in the own name, while there is anything left to say.
pub async fn spoken(
    cluster: &Cluster,
    me: &str,
    name: &str,
    decision: Decision<'_>,
) -> Result<RollbackRequest, Error> {
    let annotations = |request: &RollbackRequest| {
        open(request).map(|()| match decision {
            Decision::Deny(reason) => json!({DENIED_BY: me, DENIED_REASON: reason}),
            Decision::Cancel => json!({CANCELLED_BY: me}),
            Decision::Withdraw => withdrawal(request, me),
        })
    };
    cluster.annotate(name, annotations).await
}

/// Whether there is anything left to say. The server would take the same decision again without a word.
fn open(request: &RollbackRequest) -> Result<(), Error> {
    let Some(outcome) = request.outcome() else {
        return Ok(());
    };
    let name = request.metadata.name.as_deref().unwrap_or_default();
    Err(Error::Refused(format!(
        "The request {} has ended ({}), so nothing that you say changes it any more. To undo a rollback, type kubectl rollback create --to backup-of={}{}.",
        clean(name),
        outcome.result.as_str(),
        shell::name(name, "REQUEST"),
        flags_to_here()
    )))
}

fn withdrawal(request: &RollbackRequest, me: &str) -> Value {
    let is_mine = approver(request) == Some(me);
    let mut annotations = if is_mine { empty_mailbox() } else { json!({}) };
    // With nothing of mine anywhere the server says so.
    if is_counted(request, me) || !is_mine {
        annotations[WITHDRAWN_BY] = json!(me);
    }
    annotations
}

/// Who stands in the mailbox.
pub fn approver(request: &RollbackRequest) -> Option<&str> {
    let annotations = request.metadata.annotations.as_ref()?;
    annotations.get(APPROVED_BY).map(String::as_str)
}

/// Whether an approval of the present plan by this person is counted.
pub fn is_counted(request: &RollbackRequest, who: &str) -> bool {
    let status = request.status.as_ref();
    status.is_some_and(|status| {
        let digest = status.plan.as_ref().map(|plan| &plan.digest);
        let mut counted = status.approvals.iter();
        counted.any(|it| it.by.username == who && Some(&it.plan_digest) == digest)
    })
}

/// A mailbox without anything.
pub fn empty_mailbox() -> Value {
    json!({
        APPROVED_BY: null, CONFIRM: null, PLAN: null, CHECKLIST: null, BREAK_GLASS: null,
        ACCEPT_DATA_RISK: null, APPROVER_UID: null, APPROVER_GROUPS: null,
    })
}

/// Says what was written, and how to see what becomes of it.
pub fn told(format: Option<Format>, request: &RollbackRequest, what: &str) -> Result<(), Error> {
    if output::written(format, request, what)? {
        let name = request.metadata.name.as_deref().unwrap_or_default();
        output::remark(&format!(
            "What becomes of it: kubectl rollback status {} -w{}",
            clean(name),
            flags_to_here()
        ));
    }
    Ok(())
}
