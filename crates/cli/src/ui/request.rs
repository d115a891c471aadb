//! One request: where it stands, its plan, and what I may say to it.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use kube::ResourceExt;
use maud::{Markup, html};
use rollback_api::policy::ChecklistItem;
use rollback_api::status::{Plan, PlannedTarget, RollbackRequestStatus, TargetStatus};
use rollback_api::{PLAN, RequestState, RollbackRequest};
use rollback_core::execution::phase::{TargetPhase, result};
use rollback_core::plan::all_changes;
use rollback_core::report::{Phase, conditions, so_far};
use tokio::time::timeout;

use super::form::Form;
use super::layout::{self, Nav, Place, alert};
use super::{App, Asked, Failure, Filled, Named, Page, Shared};
use crate::command::approve::{self, Approval, plan_of};
use crate::command::report as stored;
use crate::command::say::{self, Decision, is_counted};
use crate::error::Error;
use crate::output::{clean, elapsed, span};
use crate::page::{Tone, numbers, report as report_page, timeline, word};
use crate::show;

/// How long a page waits for what the server says to a rehearsal.
const REHEARSAL: Duration = Duration::from_secs(3);

/// The page of a request.
pub async fn page(State(app): Shared, Path(name): Named, Query(wanted): Asked) -> Page {
    let request = app.cluster.request(&name).await;
    let request = request.map_err(|error| app.failed(error))?;
    if wanted.is_part() {
        let nav = app.nav();
        return Ok(super::html(
            html! { (stands(&nav, &app.me, &request)) (story(&request)) },
        ));
    }
    Ok(super::html(
        whole(&app, &request, None, &Form::default()).await,
    ))
}

/// The page, with what went wrong, and with what was typed still there.
async fn whole(app: &App, request: &RollbackRequest, wrong: Option<&str>, typed: &Form) -> Markup {
    let nav = app.nav();
    let name = request.name_any();
    let plan = plan_of(request).0;
    let said = if let Some(plan) = plan.filter(|_| waits(request)) {
        Box::pin(forms(app, request, plan, typed)).await
    } else {
        html! {}
    };
    let body = html! {
        h1 { (clean(&name)) }
        @if let Some(wrong) = wrong { (alert(wrong)) }
        p.alert id="stale" role="alert" hidden data-shown=(plan_of(request).0.map(|plan| plan.digest.as_str()).unwrap_or_default()) {
            "The plan has changed since this page was loaded. " a href=(nav.request(&name)) { "Read the new one" } "."
        }
        (stands(&nav, &app.me, request))
        @if let Some(plan) = plan { (plan_card(plan)) }
        (said)
        @if request.outcome().is_none() { (cancel_form(&nav, request)) }
        (story(request))
    };
    let events = format!("{}/events", nav.request(&name));
    layout::page(&nav, Place::Requests, &clean(&name), Some(&events), &body)
}

/// Where it stands; this part changes by itself.
fn stands(nav: &Nav, me: &str, request: &RollbackRequest) -> Markup {
    let now = Timestamp::now();
    let (state, message) = show::ready(request);
    let (message, by_kubectl) = show::split(&message);
    let (plan, has_ended) = plan_of(request);
    let (target, to) = show::summary(request);
    let until = request.outcome().map_or(now, |outcome| outcome.at);
    html! {
        div id="live" data-live data-runs[!has_ended] data-waits[waits(request)] data-said[is_said(request, me)] data-plan=(plan.map(|plan| plan.digest.as_str()).unwrap_or_default()) {
            p.state data-announce { (word(Tone::of(show::state(request)), &state)) " " (message) }
            @if let Some(command) = by_kubectl {
                details id="kubectl" { summary { "Without this page" } p { (command) } }
            }
            dl {
                dt { "What" } dd { (target) " → " (to) }
                dt { "Why" } dd { (show::asked(request)) }
                @if let Some(by) = show::approvals(request) { dt { "Approvals" } dd { (by) } }
                @if let Some(plan) = plan.filter(|_| waits(request)) {
                    dt { "Plan" } dd { "expires in " (span(plan.not_after.duration_since(now))) }
                }
                dt { "Since" } dd { (elapsed(show::created(request), until)) }
                @if request.status.as_ref().is_some_and(|it| it.incident.is_some()) {
                    dt { "Report" } dd { a href={(nav.request(&request.name_any())) "/report"} { "The incident report" } }
                }
            }
            @if let Some(status) = &request.status { (targets(nav, status, now)) }
        }
    }
}

/// Whether people are asked something.
fn waits(request: &RollbackRequest) -> bool {
    let state = show::state(request);
    let waits = [
        RequestState::AwaitingApproval,
        RequestState::Blocked,
        RequestState::Frozen,
    ];
    !request.spec.dry_run && state.is_some_and(|state| waits.contains(&state))
}

/// Whether my approval of this plan is counted, or waits for that.
fn is_said(request: &RollbackRequest, me: &str) -> bool {
    let digest = plan_of(request).0.map(|plan| &plan.digest);
    let of = request.annotations().get(PLAN);
    is_counted(request, me) || (say::approver(request) == Some(me) && of == digest)
}

/// What has happened so far; this part changes by itself.
fn story(request: &RollbackRequest) -> Markup {
    let (moments, mut phases) = so_far(request);
    if let (None, Some(first)) = (request.outcome(), moments.first()) {
        let begun: i64 = phases.iter().map(|phase| phase.milliseconds).sum();
        let all = Timestamp::now().duration_since(first.at).as_millis();
        let all = i64::try_from(all).unwrap_or(i64::MAX);
        phases.push(Phase {
            name: format!("{} (now)", show::ready(request).0),
            milliseconds: all.saturating_sub(begun),
        });
    }
    html! {
        section id="story" data-live aria-labelledby="timeline" {
            h2 id="timeline" { "Timeline" }
            (timeline::draw(&moments, &phases))
            (timeline::list(&moments))
        }
    }
}

fn targets(nav: &Nav, status: &RollbackRequestStatus, now: Timestamp) -> Markup {
    if status.targets.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="targets" {
            h2 id="targets" { "Deployments" }
            ul.tree {
                @for (index, progress) in status.targets.iter().enumerate() {
                    li { (one_target(nav, status, index, progress, now)) }
                }
            }
        }
    }
}

fn one_target(
    nav: &Nav,
    status: &RollbackRequestStatus,
    index: usize,
    progress: &TargetStatus,
    now: Timestamp,
) -> Markup {
    let planned = status
        .plan
        .as_ref()
        .and_then(|plan| plan.targets.get(index));
    let ended = result(progress);
    let phase = TargetPhase::of(status, progress);
    let stands = ended.map_or_else(
        || phase.as_str().to_owned(),
        |outcome| format!("{} ({})", outcome.result.as_str(), outcome.reason.as_str()),
    );
    let goes_on = if phase == TargetPhase::Waiting {
        Tone::Waiting
    } else {
        Tone::Busy
    };
    let tone = ended.map_or(goes_on, |outcome| Tone::of(Some(outcome.result)));
    let fallback = progress
        .fallback
        .as_ref()
        .and_then(|it| it.rollout.as_ref());
    let rollout = fallback.or(progress.rollout.as_ref());
    html! {
        h3 {
            a href=(nav.workload(&progress.name)) { (progress.kind) "/" (clean(&progress.name)) }
            @if let Some(planned) = planned { " → " (clean(&conditions::destination(planned))) }
            " " (word(tone, &stands))
        }
        @if let Some(rollout) = rollout {
            @let desired = rollout.desired.max(0);
            p {
                progress max=(desired.max(1)) value=(rollout.updated.clamp(0, desired))
                    aria-label={"Replicas of " (clean(&progress.name)) " with the old template"} {}
                " " (rollout.updated) " of " (desired) " with the old template"
            }
        }
        ul { @for line in show::details(progress, now) { li { (line) } } }
        (numbers::draw(progress))
    }
}

fn plan_card(plan: &Plan) -> Markup {
    html! {
        section.card aria-labelledby="plan" {
            h2 id="plan" { "Plan" }
            p { (show::rules(plan)) }
            @for target in &plan.targets { (planned(target)) }
            @for skipped in &plan.skipped {
                p { (skipped.kind) "/" (clean(&skipped.name)) " is left as it is: " (clean(&skipped.message)) }
            }
            @if let Some(risk) = &plan.data_risk {
                (alert(&format!("Risk for the data: {}", clean(&risk.message))))
            }
            p.soft {
                "Digest " code { (clean(&plan.digest)) }
            }
        }
    }
}

fn planned(target: &PlannedTarget) -> Markup {
    let from = target.from.revision;
    html! {
        h3 {
            (clean(&target.workload.to_string())) ": "
            @match from { Some(from) => { "revision " (from) } None => { "what runs" } }
            " → " (clean(&conditions::destination(target)))
        }
        ul.diff {
            @for change in &all_changes(target) { li { code { (clean(change)) } } }
            @for note in &target.notes { li { "Note: " (clean(note)) } }
            @for risk in &target.risks { li.risk { "Risk (" (risk.kind.as_str()) "): " (clean(&risk.message)) } }
            @for fallback in &target.fallbacks {
                li { "If it does not do (" (fallback.when.as_str()) "): once, " (show::fallback_to(fallback)) }
            }
        }
    }
}

/// What I may say. Whether I may approve, the server is asked beforehand, as the command does.
async fn forms(app: &App, request: &RollbackRequest, plan: &Plan, typed: &Form) -> Markup {
    let nav = app.nav();
    let may = approve::rehearse(&app.cluster, &app.identity, request, plan, false);
    // When the approval of somebody else is not counted yet, it waits; the form can be shown meanwhile.
    let may = timeout(REHEARSAL, may).await.unwrap_or(Ok(()));
    let action = nav.request(&request.name_any());
    html! {
        div.say {
        section.card.ask aria-labelledby="approve" {
            h2 id="approve" { "Approve" }
            @if is_said(request, &app.me) {
                p { "You have approved this plan." }
            } @else if let Err(why) = may {
                p { (why.to_string()) }
            } @else {
                (approve_form(&nav, &action, plan, typed))
            }
        }
        section.card aria-labelledby="deny" {
            h2 id="deny" { "Deny" }
            form method="post" action={(action) "/deny"} {
                (nav.proof())
                label for="reason" { "Why, for whoever asked and for the report" }
                input type="text" id="reason" name="reason" required maxlength="1000" autocomplete="off";
                button.second type="submit" { "Deny" }
            }
        }
        }
    }
}

fn approve_form(nav: &Nav, action: &str, plan: &Plan, typed: &Form) -> Markup {
    html! {
        form method="post" action={(action) "/approve"} {
            (nav.proof())
            input type="hidden" name="plan" value=(plan.digest);
            fieldset {
                legend { "Done before" }
                @for (index, item) in plan.rules.checklist().iter().enumerate() { (tick(index, item, typed)) }
            }
            @if plan.data_risk.is_some() {
                label for="accepts" { "Why the risk for the data is acceptable" }
                input type="text" id="accepts" name="accepts" value=(typed.field("accepts")) maxlength="1000" autocomplete="off";
            }
            label for="confirm" { "Type " code { (clean(plan.rules.confirm_phrase())) } " to approve" }
            input type="text" id="confirm" name="confirm" autocomplete="off" autocapitalize="off" spellcheck="false" maxlength="1000";
            button type="submit" { "Approve this plan" }
        }
    }
}

fn tick(index: usize, item: &ChecklistItem, typed: &Form) -> Markup {
    let is_ticked = typed.all("item").any(|it| it == item.name);
    html! {
        div.item {
            input type="checkbox" id={"item-" (index)} name="item" value=(item.name) checked[is_ticked];
            label for={"item-" (index)} { (clean(&item.text)) }
        }
    }
}

/// Takes an approval of the plan that was shown.
pub async fn approve(
    State(app): Shared,
    Path(name): Named,
    Extension(form): Filled,
) -> Result<Response, Failure> {
    let request = app.cluster.request(&name).await;
    let request = request.map_err(|error| app.failed(error))?;
    let written = match approval(&request, &form) {
        Ok((plan, approval)) => {
            approve::write(&app.cluster, &app.identity, &request, plan, &approval).await
        }
        Err(error) => Err(error),
    };
    Box::pin(answer(&app, &name, written, &form)).await
}

/// What was typed, when it is all there.
fn approval<'a>(request: &'a RollbackRequest, form: &Form) -> Result<(&'a Plan, Approval), Error> {
    let (Some(plan), false) = plan_of(request) else {
        return Err(Error::Refused(approve::OVER.to_owned()));
    };
    if form.field("plan") != plan.digest {
        return Err(approve::changed(
            &request.name_any(),
            form.field("plan"),
            plan,
        ));
    }
    let checklist: Vec<String> = form.all("item").map(str::to_owned).collect();
    let mut items = plan.rules.checklist().iter();
    if let Some(item) = items.find(|item| !checklist.contains(&item.name)) {
        return Err(approve::undone(item));
    }
    let accepts = accepted(plan, form)?;
    let confirm = form.field("confirm").trim();
    let wanted = plan.rules.confirm_phrase();
    if confirm != wanted {
        return Err(Error::Arguments(format!(
            "{}.",
            approve::wrong_phrase(wanted)
        )));
    }
    let approval = Approval {
        confirm: confirm.to_owned(),
        checklist,
        accepts,
        break_glass: None,
    };
    Ok((plan, approval))
}

fn accepted(plan: &Plan, form: &Form) -> Result<Option<String>, Error> {
    let Some(risk) = &plan.data_risk else {
        return Ok(None);
    };
    let why = form.field("accepts").trim();
    if why.is_empty() {
        return Err(Error::Unanswered(format!("{}.", approve::unaccepted(risk))));
    }
    Ok(Some(why.to_owned()))
}

/// Says no.
pub async fn deny(
    State(app): Shared,
    Path(name): Named,
    Extension(form): Filled,
) -> Result<Response, Failure> {
    let decision = Decision::Deny(form.field("reason").trim());
    let written = say::spoken(&app.cluster, &app.me, &name, decision).await;
    Box::pin(answer(&app, &name, written, &form)).await
}

/// To end it, as long as it goes on. One click too many must not do it, so the box has to be ticked as well.
fn cancel_form(nav: &Nav, request: &RollbackRequest) -> Markup {
    let action = nav.request(&request.name_any());
    html! {
        section.card.stop aria-labelledby="cancel" {
            h2 id="cancel" { "Cancel" }
            p.soft { "For who asked, or an approver. The request ends and cannot be taken up again; a Deployment that is begun is finished." }
            form method="post" action={(action) "/cancel"} {
                (nav.proof())
                div.item {
                    input type="checkbox" id="unwanted" name="unwanted" value="yes" required;
                    label for="unwanted" { "It is not wanted any more" }
                }
                button.second type="submit" { "Cancel this request" }
            }
        }
    }
}

/// Ends it.
pub async fn cancel(
    State(app): Shared,
    Path(name): Named,
    Extension(form): Filled,
) -> Result<Response, Failure> {
    let written = if form.field("unwanted") == "yes" {
        say::spoken(&app.cluster, &app.me, &name, Decision::Cancel).await
    } else {
        let why = "Tick that it is not wanted any more. Nothing was cancelled.";
        Err(Error::Unanswered(why.to_owned()))
    };
    Box::pin(answer(&app, &name, written, &form)).await
}

/// Back to the page; or the page with what went wrong, of the request as it is now.
async fn answer(
    app: &Arc<App>,
    name: &str,
    written: Result<RollbackRequest, Error>,
    form: &Form,
) -> Result<Response, Failure> {
    let Err(error) = written else {
        let back = app.nav().request(name);
        return Ok((StatusCode::SEE_OTHER, [(header::LOCATION, back)]).into_response());
    };
    let Ok(request) = app.cluster.request(name).await else {
        return Err(app.failed(error));
    };
    // What was ticked was about another plan.
    let empty = Form::default();
    let is_of_another = matches!(error, Error::PlanChanged(_));
    let form = if is_of_another { &empty } else { form };
    let page = whole(app, &request, Some(&error.to_string()), form).await;
    Ok((super::status(&error), super::html(page)).into_response())
}

/// The incident report, as `report -o html` prints it.
pub async fn report(State(app): Shared, Path(name): Named) -> Page {
    let read = stored::read(&app.cluster, &name).await;
    let (markdown, data) = read.map_err(|error| app.failed(error))?;
    let nav = app.nav();
    let body = html! {
        div.report { (report_page::body(&markdown, &data)) }
        p.screen { a href=(nav.request(&name)) { "To the request" } }
    };
    let title = report_page::title(&markdown);
    Ok(super::html(layout::page(
        &nav,
        Place::Requests,
        &title,
        None,
        &body,
    )))
}
