//! The history of a Deployment, as a strip of versions coloured by verdict.

use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use maud::{Markup, html};
use rollback_api::ledger::Verdict;
use serde::Deserialize;

use super::layout::{self, Nav, Place};
use super::{Named, Page, Shared};
use crate::command::{diff, history};
use crate::output::{clean, elapsed};
use crate::page::{Tone, word};
use crate::versions::{CarriedOut, Version, Versions, deployments};

/// What `diff` calls the version that runs.
const CURRENT: &str = "current";

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
        (choose(&nav, &name, &versions.list(now), &Pair::default()))
    };
    Ok(super::html(layout::page(
        &nav,
        Place::Workloads,
        &name,
        None,
        &body,
    )))
}

/// Two revisions, as they are typed.
#[derive(Deserialize, Default)]
pub struct Pair {
    /// From which.
    #[serde(default)]
    from: String,
    /// To which.
    #[serde(default)]
    to: String,
}

/// What differs between two revisions.
pub async fn diff(State(app): Shared, Path(name): Named, Query(pair): Query<Pair>) -> Page {
    let versions = Versions::read(&app.cluster, &name).await;
    let versions = versions.map_err(|error| app.failed(error))?;
    let changes = diff::changes(&versions, &pair.from, &pair.to);
    let changes = changes.map_err(|error| app.failed(error))?;
    let nav = app.nav();
    let title = format!(
        "{}: {} to {}",
        clean(&name),
        called(&pair.from),
        called(&pair.to)
    );
    let body = html! {
        h1 { (title) }
        p { "What differs, from the first to the second. Values that may be secret are never shown." }
        @if changes.is_empty() { p { (diff::SAME) } }
        ul.diff { @for change in &changes { li { code { (change) } } } }
        (choose(&nav, &name, &versions.list(Timestamp::now()), &pair))
        p { a href=(nav.workload(&name)) { "All versions of " (clean(&name)) } }
    };
    let page = layout::page(&nav, Place::Workloads, &title, None, &body);
    Ok(super::html(page))
}

/// How a revision is called that was typed as a number, or as what runs.
fn called(word: &str) -> String {
    if word == CURRENT {
        "what runs".to_owned()
    } else {
        format!("revision {}", clean(word))
    }
}

/// The form that asks for two revisions; first what runs and the newest other one.
fn choose(nav: &Nav, name: &str, versions: &[Version], chosen: &Pair) -> Markup {
    let numbers: Vec<String> = versions
        .iter()
        .filter_map(|version| version.revision)
        .map(|number| number.to_string())
        .collect();
    let mut others = versions.iter().filter(|version| !version.runs);
    let other = others.find_map(|version| version.revision);
    let other = other.map(|number| number.to_string()).unwrap_or_default();
    let or = |word: &str, usual: &str| if word.is_empty() { usual } else { word }.to_owned();
    let pair = [
        ("from", "From", or(&chosen.from, CURRENT)),
        ("to", "To", or(&chosen.to, &other)),
    ];
    html! {
        form.pair method="get" action={(nav.workload(name)) "/diff"} {
            @for (id, label, selected) in &pair {
                div {
                    label for=(id) { (label) }
                    select id=(id) name=(id) {
                        option value=(CURRENT) selected[selected == CURRENT] { "what runs" }
                        @for number in &numbers {
                            option value=(number) selected[selected == number] { "revision " (number) }
                        }
                    }
                }
            }
            button.second type="submit" { "Show what differs" }
        }
    }
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
