//! The guard without the policy that writes who asks and who approves (`deploy/21-guard-stamp.yaml`): servers before 1.36
//! do not have it, and `ROLLBACK_GUARD_TYPED` withholds it from newer ones. Then the people of the tests write who they are
//! as the plugin does: whatever they send through a client of [`client`] or through kubectl says so, unless it says something
//! else already.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::{Client, Config};
use rollback_api::{
    ACCEPT_DATA_RISK, APPROVED_BY, APPROVER_GROUPS, BREAK_GLASS, CHECKLIST, CONFIRM, PLAN,
};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::User;

/// The environment variable that withholds the policy.
pub const TYPED: &str = "ROLLBACK_GUARD_TYPED";

/// What stands where nothing is said, and nothing is to be added.
pub const UNSAID: &str = "$UNSAID";

/// Where requests are.
const REQUESTS: &str = "/rollbackrequests";
/// What makes a write an approval.
const MAILBOX: [&str; 6] = [
    APPROVED_BY,
    CONFIRM,
    PLAN,
    CHECKLIST,
    BREAK_GLASS,
    ACCEPT_DATA_RISK,
];

/// Whether the people write who they are.
pub fn is_on() -> bool {
    crate::variant().typed
}

/// A client that says who it is, where people do.
pub fn client(config: Config) -> Result<Client> {
    let namespace = config.default_namespace.clone();
    let inner = Client::try_from(config)?;
    if !is_on() {
        return Ok(inner);
    }
    let known: Known = Arc::default();
    let service = tower::service_fn(move |request| {
        let (inner, known) = (inner.clone(), known.clone());
        async move { send(&inner, &known, request).await }
    });
    Ok(Client::new(service, namespace))
}

/// Who somebody is, by whom they pass for.
type Known = Arc<Mutex<HashMap<String, Value>>>;

async fn send(
    inner: &Client,
    known: &Known,
    request: Request<Body>,
) -> kube::Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    let is_written = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    let of_requests = path
        .split_once(REQUESTS)
        .map(|(_, rest)| rest.trim_start_matches('/'));
    match of_requests {
        Some(rest) if is_written && !rest.contains('/') => {}
        Some(_) | None => return inner.send(request).await,
    }
    let (parts, body) = request.into_parts();
    let bytes = body.collect_bytes().await?;
    let Ok(mut said) = serde_json::from_slice::<Value>(&bytes) else {
        return inner
            .send(Request::from_parts(parts, Body::from(bytes)))
            .await;
    };
    let me = who(inner, known, &parts.headers).await?;
    let kind = parts.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match (&parts.method, kind) {
        (&Method::POST, _) => ask(&mut said, &me),
        (_, "application/apply-patch+yaml") => {
            // A file that is applied again says who asked.
            match there(inner, &parts.headers, &path).await? {
                Some(there) if there.is_object() => ask(&mut said, &there),
                Some(_) => {}
                None => ask(&mut said, &me),
            }
            approve(&mut said, &me);
        }
        _ => approve(&mut said, &me),
    }
    let body = serde_json::to_vec(&said).map_err(kube::Error::SerdeError)?;
    inner
        .send(Request::from_parts(parts, Body::from(body)))
        .await
}

/// The same credentials.
fn as_the_same(headers: &HeaderMap, mut request: Request<Body>) -> Request<Body> {
    for (name, value) in headers {
        if name.as_str().starts_with("impersonate-") {
            request.headers_mut().append(name, value.clone());
        }
    }
    request
}

/// Who asked for what is there; `None` when nothing is.
async fn there(inner: &Client, headers: &HeaderMap, path: &str) -> kube::Result<Option<Value>> {
    let request = Request::get(path).body(Body::empty());
    let request = request.map_err(kube::Error::HttpError)?;
    let answer = inner.send(as_the_same(headers, request)).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let bytes = answer.into_body().collect_bytes().await?;
    let there: Value = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
    Ok(Some(there["spec"]["requestedBy"].clone()))
}

async fn who(inner: &Client, known: &Known, headers: &HeaderMap) -> kube::Result<Value> {
    let voice: Vec<&[u8]> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("impersonate-"))
        .map(|(_, value)| value.as_bytes())
        .collect();
    let voice = String::from_utf8_lossy(&voice.join(&b'\n')).into_owned();
    if let Some(me) = known.lock().await.get(&voice) {
        return Ok(me.clone());
    }
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(review.to_string().into_bytes()))
        .map_err(kube::Error::HttpError)?;
    let answer = inner.send(as_the_same(headers, request)).await?;
    let bytes = answer.into_body().collect_bytes().await?;
    let answer: Value = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
    let info = &answer["status"]["userInfo"];
    let me = json!({"username": info["username"], "groups": info["groups"]});
    if info["username"].is_string() {
        known.lock().await.insert(voice, me.clone());
    }
    Ok(me)
}

/// Who asks, unless the request says it.
fn ask(request: &mut Value, me: &Value) {
    if let Some(spec) = request.get_mut("spec").and_then(Value::as_object_mut) {
        spec.entry("requestedBy").or_insert_with(|| me.clone());
        spec.retain(|_, value| value != UNSAID);
    }
}

fn groups(me: &Value) -> String {
    let groups = me["groups"].as_array().into_iter().flatten();
    let groups: Vec<&str> = groups.filter_map(Value::as_str).collect();
    groups.join("\n")
}

/// Who approves, where something of an approval is written, unless that says it.
fn approve(said: &mut Value, me: &Value) {
    let mine = groups(me);
    if let Some(operations) = said.as_array_mut() {
        return approve_by_steps(operations, &mine);
    }
    let annotations = said.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        say(annotations, &mine);
    }
}

fn say(annotations: &mut Map<String, Value>, mine: &str) {
    let approves = MAILBOX
        .iter()
        .any(|key| annotations.get(*key).is_some_and(Value::is_string));
    if approves && !annotations.contains_key(APPROVER_GROUPS) {
        annotations.insert(APPROVER_GROUPS.to_owned(), json!(mine));
    }
    annotations.retain(|_, value| value != UNSAID);
}

/// The same in a JSON patch.
fn approve_by_steps(operations: &mut Vec<Value>, mine: &str) {
    let place = |key: &str| format!("/metadata/annotations/{}", key.replace('/', "~1"));
    let groups = place(APPROVER_GROUPS);
    let (mut approves, mut says) = (false, false);
    for operation in operations.iter_mut() {
        let path = operation["path"].as_str().unwrap_or_default().to_owned();
        if path == "/metadata/annotations"
            && let Some(annotations) = operation["value"].as_object_mut()
        {
            say(annotations, mine);
        }
        approves |= MAILBOX.iter().any(|key| path == place(key)) && operation["op"] != "remove";
        says |= path == groups;
    }
    if approves && !says {
        operations.push(json!({"op": "add", "path": groups, "value": mine}));
    }
    operations.retain(|operation| operation["value"] != UNSAID);
}

/// Who this user is, as kubectl is told it.
fn of(user: User, args: &[&str]) -> Value {
    let after = |flag: &str| {
        let mut found: Vec<String> = Vec::new();
        for (number, arg) in args.iter().enumerate() {
            if *arg == flag {
                found.extend(args.get(number + 1).map(|value| (*value).to_owned()));
            } else if let Some(value) = arg
                .strip_prefix(flag)
                .and_then(|rest| rest.strip_prefix('='))
            {
                found.push(value.to_owned());
            }
        }
        found
    };
    let played = after("--as").into_iter().next();
    let mut groups = after("--as-group");
    if played.is_none() {
        groups = user.groups().iter().map(|group| (*group).into()).collect();
    }
    let name = played.unwrap_or_else(|| user.as_str().to_owned());
    if let Some((namespace, _)) = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    groups.push("system:authenticated".to_owned());
    json!({"username": name, "groups": groups})
}

/// What kubectl is told and reads, by somebody who says who they are.
pub fn kubectl(user: User, args: &[&str], input: &str) -> (Vec<String>, String) {
    let mut now: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    if !is_on() {
        return (now, input.to_owned());
    }
    let me = of(user, args);
    let has = |key: &str| args.iter().any(|arg| arg.starts_with(&format!("{key}=")));
    if args.contains(&"annotate") && MAILBOX.iter().any(|key| has(key)) && !has(APPROVER_GROUPS) {
        now.push(format!("{APPROVER_GROUPS}={}", groups(&me)));
    }
    let makes = ["create", "apply"].iter().any(|verb| args.contains(verb));
    if !makes || !input.contains("RollbackRequest") {
        return (now, input.to_owned());
    }
    let Ok(mut documents) = serde_saphyr::from_multiple::<Value>(input) else {
        return (now, input.to_owned());
    };
    for document in &mut documents {
        let of_list = document.get_mut("items").and_then(Value::as_array_mut);
        match of_list {
            Some(items) => items.iter_mut().for_each(|item| ask_if(item, &me)),
            None => ask_if(document, &me),
        }
    }
    let documents: Vec<String> = documents.iter().map(Value::to_string).collect();
    (now, documents.join("\n---\n"))
}

fn ask_if(object: &mut Value, me: &Value) {
    if object["kind"] != "RollbackRequest" {
        return;
    }
    // What is applied to a request that is there has no spec, or the one that it was asked for with.
    ask(object, me);
    approve(object, me);
}
