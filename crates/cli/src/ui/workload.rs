//! The history of a Deployment, as a strip of versions coloured by verdict.

use axum::extract::{Path, State};
use jiff::Timestamp;
use maud::{Markup, html};
use rollback_api::ledger::Verdict;

use super::layout::{self, Nav, Place};
use super::{Named, Page, Shared};
use crate::command::history;
use crate::output::{clean, elapsed};
use crate::page::{Tone, word};
use crate::versions::{CarriedOut, Version, Versions, deployments};

/// The Deployments of the namespace.
pub async fn list(State(app): Shared) -> Page {
    let names = deployments(&app.cluster)
        .await
        .map_err(|error| app.failed(error))?;
    let nav = app.nav();
    let body = html! {
        h1 { "Deployments" }
        @if names.is_empty() { p { "There is none in this namespace." } }
        ul { @for name in &names { li { a href=(nav.workload(name)) { (clean(name)) } } } }
    };
    Ok(super::html(layout::page(
        &nav,
        Place::Workloads,
        "Deployments",
        None,
        &body,
    )))
}

/// One of them.
pub async fn page(State(app): Shared, Path(name): Named) -> Page {
    let versions = Versions::read(&app.cluster, &name).await;
    let versions = versions.map_err(|error| app.failed(error))?;
    let versions = versions.with_people(&app.cluster).await;
    let nav = app.nav();
    let now = Timestamp::now();
    let name = clean(&name);
    let body = html! {
        h1 { "Deployment " (name) }
        p { "Newest first. The colour and the word above each version say what it is held for." }
        ol.strip { @for version in versions.list(now) { (card(&nav, &version, now)) } }
    };
    Ok(super::html(layout::page(
        &nav,
        Place::Workloads,
        &name,
        None,
        &body,
    )))
}

fn card(nav: &Nav, version: &Version, now: Timestamp) -> Markup {
    let (class, tone) = look(&version.verdict);
    let class = if version.runs {
        format!("{class} runs")
    } else {
        class.to_owned()
    };
    html! {
        li class=(class) {
            h2 { "Revision " (history::number(version)) }
            p { (word(tone, &history::verdict(version, now))) }
            dl {
                @for (container, image) in &version.images { dt { (clean(container)) } dd { code { (clean(image)) } } }
                @if let Some(at) = version.created_at { dt { "Age" } dd { (elapsed(at, now)) } }
                @if let Some(cause) = &version.change_cause { dt { "Change-cause" } dd { (cause) } }
                @if let Some(by) = &version.judged_by { dt { "Judged by" } dd { (by) } }
                (requests(nav, "Rolled back by", &version.rolled_back_by))
                (requests(nav, "Brought back by", &version.brought_back_by))
            }
        }
    }
}

fn requests(nav: &Nav, title: &str, rollbacks: &[CarriedOut]) -> Markup {
    html! {
        @if !rollbacks.is_empty() {
            dt { (title) }
            dd {
                @for it in rollbacks {
                    a href=(nav.request(&it.request)) { (it.request) }
                    (history::people(it)) " "
                }
            }
        }
    }
}

fn look(verdict: &str) -> (&'static str, Tone) {
    if verdict == Verdict::Good.as_str() {
        ("is-good", Tone::Good)
    } else if verdict == Verdict::Bad.as_str() {
        ("is-bad", Tone::Bad)
    } else {
        ("is-unknown", Tone::Waiting)
    }
}
