//! `ui`: pages on loopback, in the identity of whoever started it. Each page is made anew by the same functions as the
//! commands; nothing is kept but the session. What keeps others out is in [`guard`].

mod board;
mod events;
mod form;
mod guard;
mod layout;
mod request;
mod reviews;
mod session;
mod workload;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use kube::api::ListParams;
use maud::Markup;
use rollback_api::{Identity, RollbackRequest};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::Ending;
use crate::arguments::{Format, Ui};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::{self, remark, say};
use crate::page::STYLE;
use form::Form;
use session::Session;

/// The script of the pages: it fetches what has changed, and nothing else.
const SCRIPT: &str = include_str!("ui/live.js");

/// What every page needs.
pub struct App {
    cluster: Cluster,
    me: String,
    /// The same with uid and groups.
    identity: Identity,
    session: Session,
}

/// What stands behind the question mark of an address.
#[derive(Deserialize, Default)]
pub struct Wanted {
    /// Only the part of a page that changes.
    #[serde(default)]
    part: Option<String>,
    /// Only what has this text in it.
    #[serde(default)]
    q: Option<String>,
    /// Everything that has ended, not only the newest.
    #[serde(default)]
    all: Option<String>,
}

impl Wanted {
    fn is_part(&self) -> bool {
        self.part.is_some()
    }
}

/// Serves the pages until it is stopped.
pub async fn run(cluster: Cluster, format: Option<Format>, wanted: &Ui) -> Result<Ending, Error> {
    // Who may not look, or where nothing is installed, hears it here and not in a browser.
    let identity = cluster.identity().await?;
    let one = ListParams::default().limit(1);
    cluster.api::<RollbackRequest>().list_metadata(&one).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted.port)).await;
    let listener = listener.map_err(|error| unusable(wanted.port, &error))?;
    let session = Session::new(listener.local_addr()?.port())?;
    let link = session.link();
    if !output::data(format, &json!({"url": link}))? {
        say(&link)?;
    }
    remark(
        "This address lets whoever opens it first act as you, so do not pass it on; it works once. Ctrl-C ends it.",
    );
    let app = Arc::new(App {
        cluster,
        me: identity.username.clone(),
        identity,
        session,
    });
    if !wanted.no_open && open::that_detached(&link).is_err() {
        remark("No browser could be opened: open the address yourself.");
    }
    axum::serve(listener, router(app)).await?;
    Ok(Ending::Done)
}

fn unusable(port: u16, error: &std::io::Error) -> Error {
    Error::Refused(format!(
        "Port {port} of 127.0.0.1 cannot be used: {error}. Name another one with --port, or leave it out."
    ))
}

fn router(app: Arc<App>) -> Router {
    let pages = Router::new()
        .route("/", get(board::page))
        .route("/app.css", get(style))
        .route("/live.js", get(script))
        .route("/events", get(events::any))
        .route("/requests/{name}", get(request::page))
        .route("/requests/{name}/events", get(events::one))
        .route("/requests/{name}/report", get(request::report))
        .route("/requests/{name}/approve", post(request::approve))
        .route("/requests/{name}/deny", post(request::deny))
        .route("/requests/{name}/cancel", post(request::cancel))
        .route("/requests/{name}/reviewed", post(reviews::held))
        .route("/workloads", get(workload::list))
        .route("/workloads/{name}", get(workload::page))
        .route("/workloads/{name}/diff", get(workload::diff))
        .route("/reviews", get(reviews::page));
    Router::new()
        .nest(app.session.base(), pages)
        // `nest` takes the path without its last slash only.
        .route(&app.session.to("/"), get(board::page))
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

async fn script() -> Response {
    let kind = "text/javascript; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], SCRIPT).into_response()
}

type Page = Result<Html<String>, Failure>;
type Shared = State<Arc<App>>;
type Named = Path<String>;
type Asked = Query<Wanted>;
type Filled = Extension<Arc<Form>>;

fn html(markup: Markup) -> Html<String> {
    Html(markup.into_string())
}

/// What went wrong, as a page: in the words of the command.
pub struct Failure {
    error: Error,
    nav: layout::Nav,
}

impl App {
    fn nav(&self) -> layout::Nav {
        layout::Nav::of(self)
    }

    /// The same, of what went wrong.
    fn failed(&self, error: Error) -> Failure {
        Failure {
            error,
            nav: self.nav(),
        }
    }

    /// Back to a page, after something was written.
    fn go(&self, path: &str) -> Redirect {
        Redirect::to(&self.session.to(path))
    }
}

/// The status that says the same as the exit code.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::Arguments(_) | Error::Environments(_) | Error::Unanswered(_) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::Refused(_) | Error::PlanChanged(_) => StatusCode::CONFLICT,
        Error::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
        Error::Kubeconfig(_)
        | Error::Login(_)
        | Error::Unreachable(_)
        | Error::Input(_)
        | Error::Output(_)
        | Error::Format(_)
        | Error::Runtime(_) => StatusCode::BAD_GATEWAY,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let page = layout::failed(&self.nav, &self.error.to_string());
        (status(&self.error), html(page)).into_response()
    }
}
