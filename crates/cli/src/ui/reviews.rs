//! The reviews that are still to be held.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use kube::ResourceExt;
use maud::{Markup, html};

use super::layout::{self, Nav, Place};
use super::{Failure, Filled, Named, Page, Shared};
use crate::command::report::{Open, ended, review_held, reviews};
use crate::output::clean;
use crate::page::{Tone, time, word};

/// The page.
pub async fn page(State(app): Shared) -> Page {
    let open = reviews(&app.cluster)
        .await
        .map_err(|error| app.failed(error))?;
    let nav = app.nav();
    let now = Timestamp::now();
    let overdue = open.iter().filter(|it| it.due <= now).count();
    let body = html! {
        h1 { "Reviews" }
        p { "To be held: " (open.len()) ". Overdue: " (overdue) "." }
        @if !open.is_empty() {
            table.board {
                thead { tr {
                    th scope="col" { "Request" } th scope="col" { "Outcome" } th scope="col" { "Review due" } th scope="col" { "Held" }
                } }
                tbody { @for it in &open { (row(&nav, it, now)) } }
            }
        }
    };
    Ok(super::html(layout::page(
        &nav,
        Place::Reviews,
        "Reviews",
        None,
        &body,
    )))
}

fn row(nav: &Nav, open: &Open, now: Timestamp) -> Markup {
    let name = open.request.name_any();
    html! {
        tr {
            th scope="row" { a href={(nav.request(&name)) "/report"} { (clean(&name)) } }
            td { (ended(&open.request)) }
            td {
                @if open.due <= now { (word(Tone::Bad, "overdue")) " " }
                (time(open.due))
            }
            td {
                form method="post" action={(nav.request(&name)) "/reviewed"} {
                    (nav.proof())
                    button.second type="submit" { "I have held it" span.hidden { ": the review of " (clean(&name)) } }
                }
            }
        }
    }
}

/// I have held one. Who I am is said by the server; the form has nothing but its proof.
pub async fn held(
    State(app): Shared,
    Path(name): Named,
    Extension(_proof): Filled,
) -> Result<Response, Failure> {
    let held = review_held(&app.cluster, &app.me, &name).await;
    held.map_err(|error| app.failed(error))?;
    Ok(app.go("/reviews").into_response())
}
