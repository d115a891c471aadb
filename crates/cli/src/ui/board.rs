//! The board: what waits for me, what waits for others, what runs, what has ended.

use axum::extract::{Query, State};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use maud::{Markup, html};
use rollback_api::{GROUP, RequestState, RollbackRequest};
use url::form_urlencoded;

use super::layout::{self, Nav, Place};
use super::{App, Asked, Page, Shared, Wanted};
use crate::command::approve::plan_of;
use crate::command::say::is_counted;
use crate::error::Error;
use crate::output::{clean, elapsed};
use crate::page::{Tone, word};
use crate::show;

/// How many of the requests that have ended are shown first.
const NEWEST: usize = 50;

/// Where a request stands on the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lane {
    Me,
    Others,
    Runs,
    Ended,
}

/// The board.
pub async fn page(State(app): Shared, Query(wanted): Asked) -> Page {
    let found = read(&app).await.map_err(|error| app.failed(error))?;
    let nav = app.nav();
    let board = board(&app, &nav, &found, &wanted);
    if wanted.is_part() {
        return Ok(super::html(board));
    }
    let body = html! {
        h1 { "Requests" }
        (filter(&nav, &wanted))
        (board)
    };
    let events = nav.to("/events");
    let page = layout::page(&nav, Place::Requests, "Requests", Some(&events), &body);
    Ok(super::html(page))
}

/// The requests of the namespace, and whether I may approve any.
struct Found {
    requests: Vec<RollbackRequest>,
    may_approve: bool,
}

async fn read(app: &App) -> Result<Found, Error> {
    let api = app.cluster.api::<RollbackRequest>();
    let mut requests = app.cluster.list(&api, ListParams::default()).await?;
    requests.sort_by_key(|request| std::cmp::Reverse(show::created(request)));
    Ok(Found {
        requests,
        may_approve: may_approve(app).await?,
    })
}

/// Whether I may approve here at all. The server is asked, and stores nothing.
async fn may_approve(app: &App) -> Result<bool, Error> {
    let asked = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        namespace: Some(app.cluster.namespace.clone()),
        resource: Some("rollbackrequests".to_owned()),
        subresource: Some("approval".to_owned()),
        verb: Some("approve".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(asked),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(app.cluster.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Where a request stands, for me.
fn lane(request: &RollbackRequest, me: &str, may_approve: bool) -> Lane {
    let (plan, has_ended) = plan_of(request);
    if has_ended {
        return Lane::Ended;
    }
    let awaits = matches!(
        show::state(request),
        Some(RequestState::AwaitingApproval | RequestState::Blocked)
    );
    let Some(plan) = plan.filter(|_| awaits && !request.spec.dry_run) else {
        return Lane::Runs;
    };
    let asked = request.spec.requested_by.as_ref();
    let is_mine = asked.is_some_and(|by| by.username == me) && plan.rules.four_eyes();
    if may_approve && !is_mine && !is_counted(request, me) {
        Lane::Me
    } else {
        Lane::Others
    }
}

fn filter(nav: &Nav, wanted: &Wanted) -> Markup {
    html! {
        form method="get" action=(nav.to("/")) role="search" {
            label for="q" { "Only those with this text" }
            div.find {
                input type="search" id="q" name="q" value=(wanted.q.as_deref().unwrap_or_default()) maxlength="200";
                @if wanted.all.is_some() { input type="hidden" name="all" value="1"; }
                button.second type="submit" { "Find" }
            }
        }
    }
}

fn board(app: &App, nav: &Nav, found: &Found, wanted: &Wanted) -> Markup {
    let text = wanted
        .q
        .as_deref()
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    let is_wanted = |request: &&RollbackRequest| text.is_empty() || has_text(request, &text);
    let of = |lane_wanted: Lane| -> Vec<&RollbackRequest> {
        let all = found.requests.iter().filter(is_wanted);
        all.filter(|it| lane(it, &app.me, found.may_approve) == lane_wanted)
            .collect()
    };
    let (mine, runs, others) = (of(Lane::Me), of(Lane::Runs), of(Lane::Others));
    let ended = of(Lane::Ended);
    let shown = if wanted.all.is_some() {
        ended.len()
    } else {
        NEWEST
    };
    let now = Timestamp::now();
    html! {
        div id="live" data-live data-runs[!runs.is_empty()] {
            p.soft data-announce { "Waiting for you: " (mine.len()) ". For others: " (others.len()) ". Running: " (runs.len()) ". Ended: " (ended.len()) "." }
            (rows(nav, "me", "Waits for me", &mine, now))
            (rows(nav, "runs", "Runs", &runs, now))
            (rows(nav, "others", "Waits for others", &others, now))
            (rows(nav, "ended", "Ended", ended.get(..shown).unwrap_or(&ended), now))
            @if shown < ended.len() {
                @let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("q", wanted.q.as_deref().unwrap_or_default())
                    .append_pair("all", "1")
                    .finish();
                p { a href=(nav.to(&format!("/?{query}"))) { "Show all " (ended.len()) " that have ended" } }
            }
        }
    }
}

/// Whether a text is in what the board shows of a request.
fn has_text(request: &RollbackRequest, text: &str) -> bool {
    let (target, to) = show::summary(request);
    let by = request
        .spec
        .requested_by
        .as_ref()
        .map(|by| by.username.clone());
    let all = [
        request.name_any(),
        show::ready(request).0,
        target,
        to,
        by.unwrap_or_default(),
        request.spec.reason.summary.clone(),
    ];
    all.iter().any(|it| it.to_lowercase().contains(text))
}

fn rows(nav: &Nav, id: &str, title: &str, requests: &[&RollbackRequest], now: Timestamp) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) " (" (requests.len()) ")" }
            @if requests.is_empty() {
                p.soft { "None." }
            } @else {
                table.board {
                    thead { tr {
                        th scope="col" { "Request" } th scope="col" { "State" } th scope="col" { "Target" }
                        th scope="col" { "To" } th scope="col" { "Age" } th scope="col" { "Why" }
                    } }
                    tbody { @for request in requests { (row(nav, request, now)) } }
                }
            }
        }
    }
}

fn row(nav: &Nav, request: &RollbackRequest, now: Timestamp) -> Markup {
    let name = request.name_any();
    let (target, to) = show::summary(request);
    let (state, _) = show::ready(request);
    html! {
        tr {
            th scope="row" { a href=(nav.request(&name)) { (clean(&name)) } }
            td { (word(Tone::of(show::state(request)), &state)) }
            td { (target) }
            td { (to) }
            td { (elapsed(show::created(request), now)) }
            td { (clean(&request.spec.reason.summary)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(state: &str, ended: bool, plan: &Value) -> RollbackRequest {
        let mut status = json!({"conditions": [{"type": "Ready", "status": "False", "reason": state, "message": "",
            "lastTransitionTime": "2026-11-30T14:00:00Z"}]});
        if !plan.is_null() {
            status["plan"] = plan.clone();
        }
        if ended {
            status["outcome"] = json!({"result": "Denied", "reason": "DeniedByApprover", "message": "", "at": "2026-11-30T14:00:00Z"});
        }
        serde_json::from_value(json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest", "metadata": {"name": "api-5xx"},
            "spec": {"targets": [{"name": "api", "to": {"previous": {}}}], "requestedBy": {"username": "rita"},
                "reason": {"category": "ErrorRate", "summary": "5xx"}},
            "status": status,
        }))
        .unwrap()
    }

    fn plan() -> Value {
        let report: Value =
            serde_json::from_str(include_str!("../../../../docs/example-report.json")).unwrap();
        report["plan"].clone()
    }

    #[test]
    fn each_request_waits_for_whom_it_waits() {
        let waits = request("AwaitingApproval", false, &plan());
        assert_eq!(lane(&waits, "bob", true), Lane::Me);
        assert_eq!(lane(&waits, "bob", false), Lane::Others);
        assert_eq!(lane(&waits, "rita", true), Lane::Others);
        let mut counted = waits;
        let approval = json!({"by": {"username": "bob"}, "planDigest": plan()["digest"], "at": "2026-11-30T14:00:00Z"});
        counted.status.as_mut().unwrap().approvals =
            vec![serde_json::from_value(approval).unwrap()];
        assert_eq!(lane(&counted, "bob", true), Lane::Others);
        assert_eq!(
            lane(&request("Planning", false, &Value::Null), "bob", true),
            Lane::Runs
        );
        assert_eq!(
            lane(&request("RollingOut", false, &plan()), "bob", true),
            Lane::Runs
        );
        assert_eq!(
            lane(&request("Denied", true, &plan()), "bob", true),
            Lane::Ended
        );
    }
}
