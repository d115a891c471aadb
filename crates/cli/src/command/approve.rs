//! `approve`: shows the plan, runs the checklist, asks for the phrase, and writes an approval of exactly the plan that
//! was shown.

use jiff::{SignedDuration, Timestamp};
use rollback_api::policy::ChecklistItem;
use rollback_api::status::{DataRisk, Plan};
use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, APPROVER_GROUPS, BREAK_GLASS, CHECKLIST, CONFIRM, Identity,
    PLAN, RollbackRequest, WITHDRAWN_BY,
};
use rollback_core::message::shell;
use serde_json::{Value, json};

use super::say::{approver, empty_mailbox, is_counted, told};
use super::status::{self, Follower};
use crate::arguments::{Approve, Format, Place};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::here::flags_to_here;
use crate::output::{self, Paint, clean, remark, remark_all};
use crate::{Ending, follow, prompt, show};

/// How long a plan may be on its way, and the approval of somebody else in the mailbox.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// What is said of a request that has ended.
pub const OVER: &str = "The request has ended, so there is nothing to approve. Ask again with another name: kubectl rollback create.";
/// What a rehearsal says where a person gives a reason. It is never stored.
const REHEARSED: &str = "whether this may be approved at all";

/// Approves.
pub async fn run(cluster: &Cluster, place: &Place, approve: &Approve) -> Result<Ending, Error> {
    let patience = approve.timeout.unwrap_or(PATIENCE);
    let found = follow::until(cluster.api(), &approve.name, patience, |request| {
        let (plan, has_ended) = plan_of(request);
        (plan.is_some() || has_ended).then(|| request.clone())
    })
    .await?;
    let (Some(plan), false) = plan_of(&found) else {
        return over(place.output, &found);
    };
    is_meant(approve, plan)?;
    let me = cluster.identity().await?;
    rehearse(cluster, &me, &found, plan, approve.break_glass.is_some()).await?;
    show_plan(place.output, &found, plan)?;
    let approval = ask(approve, &me.username, plan)?;
    let written = write(cluster, &me, &found, plan, &approval).await?;
    if approve.wait {
        let follower = Follower {
            format: place.output,
            every: false,
            logs: false,
        };
        return Box::pin(follower.follow(cluster, &approve.name, approve.timeout)).await;
    }
    told(place.output, &written, "approved")?;
    Ok(Ending::Done)
}

/// The plan, and whether there is nothing to approve any more.
pub fn plan_of(request: &RollbackRequest) -> (Option<&Plan>, bool) {
    let plan = request.status.as_ref().and_then(|it| it.plan.as_ref());
    (plan, request.outcome().is_some())
}

/// A request that has ended is shown as it is, and is not approved.
fn over(format: Option<Format>, request: &RollbackRequest) -> Result<Ending, Error> {
    if !output::request(format, request)? {
        output::say_all(&show::tree(request, Timestamp::now(), Paint::new()))?;
    }
    output::complain(OVER);
    Ok(match status::ending(request) {
        Ending::Done => Ending::NotDone,
        ending @ (Ending::NotDone | Ending::Failed | Ending::Findings | Ending::Interrupted) => {
            ending
        }
    })
}

fn is_meant(approve: &Approve, plan: &Plan) -> Result<(), Error> {
    match &approve.plan {
        Some(digest) if *digest != plan.digest => Err(changed(&approve.name, digest, plan)),
        Some(_) | None => Ok(()),
    }
}

/// The plan is not the one that was shown.
pub fn changed(name: &str, was: &str, plan: &Plan) -> Error {
    Error::PlanChanged(format!(
        "The plan is not the one that was read: it was {}, and is {} now. Nothing was approved. Read it again: kubectl rollback approve {}{}.",
        clean(was),
        clean(&plan.digest),
        shell::name(name, "REQUEST"),
        flags_to_here()
    ))
}

/// Asks the server whether I may approve this plan at all, before I am asked anything: it stores nothing.
pub async fn rehearse(
    cluster: &Cluster,
    me: &Identity,
    request: &RollbackRequest,
    plan: &Plan,
    alone: bool,
) -> Result<(), Error> {
    let approval = Approval {
        confirm: plan.rules.confirm_phrase().to_owned(),
        checklist: plan
            .rules
            .checklist()
            .iter()
            .map(|item| item.name.clone())
            .collect(),
        accepts: plan.data_risk.as_ref().map(|_| REHEARSED.to_owned()),
        break_glass: alone.then(|| REHEARSED.to_owned()),
    };
    let request = mailbox(cluster, &me.username, request).await?;
    match cluster
        .write(&request, &annotations(me, plan, &approval), true)
        .await
    {
        // Somebody was faster; what is written in the end is checked again.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        said => said.map(|_| ()).map_err(Error::from),
    }
}

/// The request as soon as the approval of somebody else is out of the mailbox. The controller takes it out when it has
/// counted it.
async fn mailbox(
    cluster: &Cluster,
    me: &str,
    request: &RollbackRequest,
) -> Result<RollbackRequest, Error> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let is_free = |request: &RollbackRequest| {
        let (plan, has_ended) = plan_of(request);
        let annotations = request.metadata.annotations.as_ref();
        let of = annotations.and_then(|all| all.get(PLAN));
        let is_void = of != plan.map(|plan| &plan.digest);
        has_ended || is_void || approver(request).is_none_or(|by| by == me)
    };
    if is_free(request) {
        return Ok(request.clone());
    }
    remark("The approval of somebody else is being counted; yours is next.");
    follow::until(cluster.api(), name, PATIENCE, |request| {
        is_free(request).then(|| request.clone())
    })
    .await
}

fn show_plan(format: Option<Format>, request: &RollbackRequest, plan: &Plan) -> Result<(), Error> {
    let is_data = !matches!(format, None | Some(Format::Wide));
    let paint = if is_data { Paint::off() } else { Paint::new() };
    let lines = show::plan(request, plan, Timestamp::now(), paint);
    if is_data {
        // Standard output is for whoever reads the data.
        remark_all(&lines);
        return Ok(());
    }
    output::say_all(&lines)
}

/// What the approver says.
pub struct Approval {
    /// The phrase.
    pub confirm: String,
    /// The items that are done.
    pub checklist: Vec<String>,
    /// Why the risk for the data is acceptable.
    pub accepts: Option<String>,
    /// Why alone.
    pub break_glass: Option<String>,
}

fn ask(approve: &Approve, me: &str, plan: &Plan) -> Result<Approval, Error> {
    if prompt::is_person() && approve.confirm.is_none() && !approve.yes {
        remark(&format!("You are {}. Read the plan above.", clean(me)));
        if !prompt::agrees("Is this what you want to approve?")? {
            return Err(Error::Unanswered("Nothing was approved.".to_owned()));
        }
    }
    let checklist = match &approve.break_glass {
        Some(_) => approve.checklist.clone(),
        None => ticked(approve, plan)?,
    };
    let accepts = accepted(approve, plan)?;
    Ok(Approval {
        confirm: phrase(approve, plan)?,
        checklist,
        accepts,
        break_glass: approve.break_glass.clone(),
    })
}

/// The items that are done: those that were typed, and those that are answered by yes.
fn ticked(approve: &Approve, plan: &Plan) -> Result<Vec<String>, Error> {
    let mut done = approve.checklist.clone();
    let open = |item: &&ChecklistItem| !approve.checklist.contains(&item.name);
    for item in plan.rules.checklist().iter().filter(open) {
        if !prompt::is_person() {
            return Err(unticked(approve, plan));
        }
        if !prompt::agrees(&format!("{}: {}?", clean(&item.name), clean(&item.text)))? {
            return Err(undone(item));
        }
        done.push(item.name.clone());
    }
    Ok(done)
}

/// An item of the checklist is not done.
pub fn undone(item: &ChecklistItem) -> Error {
    Error::Unanswered(format!(
        "{} is not done, so nothing was approved. Do it, then approve again.",
        clean(&item.name)
    ))
}

fn unticked(approve: &Approve, plan: &Plan) -> Error {
    let items = plan.rules.checklist();
    let texts: Vec<String> = items
        .iter()
        .map(|item| format!("{} ({})", clean(&item.name), clean(&item.text)))
        .collect();
    let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
    Error::Unanswered(format!(
        "The plan asks for a checklist, and nobody is there to be asked: {}. When all of it is done, type kubectl rollback approve {} --checklist {} --confirm {}{}.",
        texts.join(", "),
        shell::name(&approve.name, "REQUEST"),
        shell::word(&names.join(",")),
        shell::quoted(plan.rules.confirm_phrase()),
        flags_to_here()
    ))
}

/// Why the risk for the data is accepted, where there is one.
fn accepted(approve: &Approve, plan: &Plan) -> Result<Option<String>, Error> {
    let Some(risk) = &plan.data_risk else {
        return Ok(None);
    };
    if let Some(why) = &approve.accept_data_risk {
        return Ok(Some(why.clone()));
    }
    if prompt::is_person() {
        return prompt::line("Why is the risk for the data acceptable?").map(Some);
    }
    Err(Error::Unanswered(format!(
        "{}: add --accept-data-risk 'WHY'.",
        unaccepted(risk)
    )))
}

/// What is said when nobody says why a risk for the data is acceptable.
pub fn unaccepted(risk: &DataRisk) -> String {
    let message = clean(&risk.message);
    format!("{message} Whoever approves says why that is acceptable")
}

/// The phrase, typed. Nothing stands for it, and a wrong one is not tried on the server.
fn phrase(approve: &Approve, plan: &Plan) -> Result<String, Error> {
    let wanted = plan.rules.confirm_phrase();
    let typed = match &approve.confirm {
        Some(typed) => typed.clone(),
        None if prompt::is_person() => prompt::line(&format!("Type {wanted} to approve:"))?,
        None => {
            return Err(Error::Unanswered(format!(
                "The phrase is missing, and nobody is there to type it. Add --confirm {}.",
                shell::quoted(wanted)
            )));
        }
    };
    if typed == wanted {
        return Ok(typed);
    }
    Err(Error::Arguments(format!(
        "{}: --confirm {}.",
        wrong_phrase(wanted),
        shell::quoted(wanted)
    )))
}

/// What is said of a wrong phrase.
pub fn wrong_phrase(wanted: &str) -> String {
    let wanted = clean(wanted);
    format!("That is not the phrase, so nothing was approved. It is {wanted}, letter by letter")
}

fn annotations(me: &Identity, plan: &Plan, approval: &Approval) -> Value {
    let mut annotations = empty_mailbox();
    annotations[APPROVED_BY] = json!(me.username);
    // Where the API server does not write it, it compares it.
    annotations[APPROVER_GROUPS] = json!(me.groups.join("\n"));
    annotations[CONFIRM] = json!(approval.confirm);
    annotations[PLAN] = json!(plan.digest);
    annotations[WITHDRAWN_BY] = Value::Null;
    if !approval.checklist.is_empty() {
        annotations[CHECKLIST] = json!(approval.checklist.join(","));
    }
    if let Some(why) = &approval.accepts {
        annotations[ACCEPT_DATA_RISK] = json!(why);
    }
    if let Some(why) = &approval.break_glass {
        annotations[BREAK_GLASS] = json!(why);
    }
    annotations
}

/// Writes the approval of the plan that was shown, while that is the plan.
pub async fn write(
    cluster: &Cluster,
    me: &Identity,
    shown: &RollbackRequest,
    plan: &Plan,
    approval: &Approval,
) -> Result<RollbackRequest, Error> {
    let name = shown.metadata.name.as_deref().unwrap_or_default();
    if is_counted(shown, &me.username) && approval.break_glass.is_none() {
        remark("Your approval of this plan is counted already.");
        return Ok(shown.clone());
    }
    mailbox(cluster, &me.username, shown).await?;
    cluster
        .annotate(name, |request| match plan_of(request).0 {
            Some(now) if now.digest == plan.digest => Ok(annotations(me, plan, approval)),
            Some(now) => Err(changed(name, &plan.digest, now)),
            None => Err(Error::PlanChanged(format!(
                "The plan is gone, so nothing was approved. Read what there is now: kubectl rollback status {}{}.",
                shell::name(name, "REQUEST"),
                flags_to_here()
            ))),
        })
        .await
}
