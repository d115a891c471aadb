//! Who is let in. A server on loopback is reached by every page of every site that the user visits, and by every user
//! of the machine; so each request has to show that it comes from our own pages, in the browser that opened the link.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::form_urlencoded;

use super::App;
use super::form::Form;

/// Longest form, in bytes.
const FORM_LIMIT: usize = 64 * 1024;
/// What a page may do: be styled, run our script, ask us and send us forms.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Headers of every answer, besides that policy.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not no-referrer: with that, browsers say null for the origin of our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];
const FETCH_SITE: &str = "sec-fetch-site";

/// Why somebody is not let in.
type Refusal = (StatusCode, &'static str);

/// Lets a request in, or not; either way with the headers of every answer.
pub async fn guard(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let mut answer = match enter(&app, request).await {
        Ok(Entered::In(request)) => next.run(request).await,
        Ok(Entered::Answer(answer)) => answer,
        Err((status, why)) => (status, format!("{why}\n")).into_response(),
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(POLICY));
    answer
}

enum Entered {
    In(Request<Body>),
    Answer(Response),
}

async fn enter(app: &App, request: Request<Body>) -> Result<Entered, Refusal> {
    let headers = request.headers();
    let host = own_host(app, headers)?;
    from_our_pages(headers, host, is_strict(&request))?;
    let cookies = headers.get_all(header::COOKIE).iter();
    let is_mine = cookies
        .filter_map(|it| it.to_str().ok())
        .any(|it| app.session.is_mine(it));
    if let Some(token) = token(app, request.uri()) {
        return logged_in(app, &token, is_mine).map(Entered::Answer);
    }
    if !is_mine {
        return Err((
            StatusCode::FORBIDDEN,
            "You are not let in. Open the address that kubectl rollback ui has printed; it works once, in one browser. For another one start it again.",
        ));
    }
    if !is_plain(request.uri().path()) {
        return Err((StatusCode::NOT_FOUND, "There is no such page."));
    }
    if request.method() == Method::POST {
        return with_form(app, request).await.map(Entered::In);
    }
    Ok(Entered::In(request))
}

/// The host, when it is ours. A name that somebody points at this machine is not.
fn own_host<'a>(app: &App, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|it| it.to_str().ok());
    host.filter(|host| app.session.is_host(host) && hosts.next().is_none())
        .ok_or((
            StatusCode::MISDIRECTED_REQUEST,
            "This is not the name of this server.",
        ))
}

/// Whether a request has to prove that it comes from our own pages: what writes, and what is asked by a script.
fn is_strict(request: &Request<Body>) -> bool {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    !is_read || request.uri().path().ends_with("/events")
}

/// Browsers say where a request comes from, in `Origin` or in `Sec-Fetch-Site`; where they say it, it has to be us.
fn from_our_pages(headers: &HeaderMap, host: &str, strict: bool) -> Result<(), Refusal> {
    let foreign = (
        StatusCode::FORBIDDEN,
        "This comes from a page of somebody else.",
    );
    let origins: Vec<_> = headers.get_all(header::ORIGIN).iter().collect();
    let is_ours = |origin: &&HeaderValue| {
        origin
            .to_str()
            .is_ok_and(|it| it == format!("http://{host}"))
    };
    if !origins.iter().all(is_ours) {
        return Err(foreign);
    }
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    match site {
        Some(b"same-origin") => Ok(()),
        // Typed, or opened from a terminal.
        Some(b"none") if !strict => Ok(()),
        Some(_) => Err(foreign),
        None if strict && origins.is_empty() => Err(foreign),
        None => Ok(()),
    }
}

/// Whether a path has nothing in it but what names of Kubernetes have: a name becomes a part of the path that the API
/// server is asked for.
fn is_plain(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '.');
    path.chars().all(is_plain) && !path.split('/').any(|part| part == "." || part == "..")
}

/// The token, of the one page that takes it.
fn token(app: &App, uri: &Uri) -> Option<String> {
    if uri.path() != app.session.to("/") {
        return None;
    }
    let mut pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    pairs
        .find(|(key, _)| key == "token")
        .map(|(_, token)| token.into_owned())
}

/// Changes the token for a cookie, and takes it out of the address.
fn logged_in(app: &App, token: &str, is_mine: bool) -> Result<Response, Refusal> {
    let home = app.go("/");
    if is_mine {
        return Ok(home.into_response());
    }
    if !app.session.takes(token) {
        return Err((
            StatusCode::FORBIDDEN,
            "This address was used already, or is not right. If it was not you, stop kubectl rollback ui; then start it again.",
        ));
    }
    Ok(([(header::SET_COOKIE, app.session.set_cookie())], home).into_response())
}

/// Reads the form, and lets only one of ours through. No page that writes can forget it.
async fn with_form(app: &App, request: Request<Body>) -> Result<Request<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, FORM_LIMIT).await;
    let body = body.map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "The form is too long."))?;
    let form = Form::read(&body);
    if !app.session.is_form(form.field("csrf")) {
        return Err((
            StatusCode::FORBIDDEN,
            "This form is not of this session. Load the page again.",
        ));
    }
    let mut request = Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(Arc::new(form));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_names_in_it_and_nothing_else() {
        assert!(is_plain("/0a/requests/api-5xx.v2/report"));
        for path in [
            "/0a/requests/..",
            "/0a/requests/a%2Fb",
            "/0a/./x",
            "/a?b",
            "/a b",
            "/a_b",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
