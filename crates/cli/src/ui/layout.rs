//! What stands around every page.

use maud::{DOCTYPE, Markup, html};
use url::form_urlencoded;

use super::App;
use crate::output::clean;

/// Whose pages they are, and where.
pub struct Nav {
    base: String,
    me: String,
    namespace: String,
    csrf: String,
}

impl Nav {
    /// Of these pages.
    pub fn of(app: &App) -> Self {
        Self {
            base: app.session.base().to_owned(),
            me: clean(&app.me),
            namespace: clean(&app.cluster.namespace),
            csrf: app.session.csrf().to_owned(),
        }
    }

    /// The address of a page.
    pub fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The address of a request.
    pub fn request(&self, name: &str) -> String {
        self.to(&format!("/requests/{}", encoded(name)))
    }

    /// The address of a Deployment.
    pub fn workload(&self, name: &str) -> String {
        self.to(&format!("/workloads/{}", encoded(name)))
    }

    /// The field by which a form is known to be ours.
    pub fn proof(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.csrf); }
    }
}

/// A name as a part of an address.
fn encoded(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

/// Which entry of the menu a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The board, and each request.
    Requests,
    /// Deployments.
    Workloads,
    /// Reviews.
    Reviews,
    /// None.
    Nowhere,
}

/// A page. `live` is where the script hears that something has changed.
pub fn page(nav: &Nav, place: Place, title: &str, live: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " - " (nav.namespace) " - kubectl rollback" }
                link rel="stylesheet" href=(nav.to("/app.css"));
                script src=(nav.to("/live.js")) defer {}
            }
            body data-events=[live] {
                a.skip href="#main" { "Skip to the content" }
                header.bar { (menu(nav, place)) }
                main id="main" tabindex="-1" {
                    @if live.is_some() {
                        p.alert id="lost" role="alert" hidden {
                            "The connection was lost, so this page is not up to date. It is tried again; if this stays so, look whether kubectl rollback ui still runs."
                        }
                    }
                    (body)
                    p.hidden id="announce" role="status" aria-live="polite" {}
                }
            }
        }
    }
}

fn menu(nav: &Nav, place: Place) -> Markup {
    let entries = [
        (Place::Requests, "/", "Requests"),
        (Place::Workloads, "/workloads", "Deployments"),
        (Place::Reviews, "/reviews", "Reviews"),
    ];
    html! {
        nav.top aria-label="Pages" {
            @for (entry, path, name) in entries {
                a href=(nav.to(path)) aria-current=[(entry == place).then_some("page")] { (name) }
            }
            span.me { "You are " b { (nav.me) } " in namespace " b { (nav.namespace) } }
        }
    }
}

/// What went wrong.
pub fn failed(nav: &Nav, message: &str) -> Markup {
    let body = html! {
        h1 { "That did not work" }
        (alert(message))
        p { a href=(nav.to("/")) { "To the requests" } }
    };
    page(nav, Place::Nowhere, "That did not work", None, &body)
}

/// Something that has to be read.
pub fn alert(message: &str) -> Markup {
    html! { div.alert role="alert" { strong { "Stop: " } (message) } }
}
