//! From a line of the table to an HTTP request, as the person of that line, and what is answered.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Map, Value, json};
use testkit::{Cluster, User};

use crate::attack::{How, Verb};
use crate::people::{ACCOUNTS, CONTROLLER, Person, RECEIVER, Way};

/// What the API server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The message of a refusal.
    pub message: String,
    /// The object, when there is one.
    pub body: Value,
}

impl Answer {
    /// Whether it was done.
    pub fn passed(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// Clients of everybody.
pub struct Clients {
    tokens: BTreeMap<String, Client>,
}

impl Clients {
    /// Everybody in this namespace, whose `ServiceAccount`s are there.
    pub async fn new(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let mut tokens = BTreeMap::new();
        for user in User::ALL {
            tokens.insert(user.as_str().to_owned(), cluster.client(user).await?);
        }
        let accounts = ACCOUNTS.iter().map(|who| (*who, namespace));
        let system = [CONTROLLER, RECEIVER]
            .into_iter()
            .map(|who| (who, "rollback-system"));
        for (who, home) in accounts.chain(system) {
            let path = cluster
                .service_account_kubeconfig(home, account(who), None)
                .await?;
            let options = KubeConfigOptions::default();
            let file = Kubeconfig::read_from(path)?;
            let config = Config::from_custom_kubeconfig(file, &options).await?;
            tokens.insert(who.name(namespace), testkit::typed::client(config)?);
        }
        Ok(Self { tokens })
    }

    /// Sends this as this person.
    pub async fn send(
        &self,
        who: Person,
        namespace: &str,
        mut request: Request<Vec<u8>>,
    ) -> Result<Answer> {
        let user = match who.way {
            Way::Token(user) => user.as_str().to_owned(),
            Way::Account(_) | Way::System(_) => who.name(namespace),
            Way::Played(name, groups) => {
                impersonate(&mut request, name, groups)?;
                let uid = HeaderValue::from_str(&format!("uid-{}", who.slug))?;
                request.headers_mut().insert("impersonate-uid", uid);
                User::Admin.as_str().to_owned()
            }
            Way::Voice(user, _) => {
                impersonate(&mut request, &who.name(namespace), &[])?;
                user.as_str().to_owned()
            }
            Way::Through(user, name, groups) => {
                impersonate(&mut request, name, groups)?;
                user.as_str().to_owned()
            }
        };
        let client = self.tokens.get(&user).context("nobody of that name")?;
        match client.request_text(request).await {
            Ok(text) => Ok(Answer {
                code: 200,
                message: String::new(),
                body: serde_json::from_str(&text).unwrap_or_default(),
            }),
            Err(kube::Error::Api(status)) => Ok(Answer {
                code: status.code,
                message: status.message.clone(),
                body: Value::Null,
            }),
            Err(error) => Err(error).context("the request did not come through"),
        }
    }
}

fn account(who: Person) -> &'static str {
    match who.way {
        Way::Account(name) | Way::System(name) => name,
        Way::Token(_) | Way::Voice(..) | Way::Played(..) | Way::Through(..) => who.slug,
    }
}

/// A name may have letters that are not ASCII, which `HeaderValue` takes only as bytes.
fn impersonate(request: &mut Request<Vec<u8>>, name: &str, groups: &[&str]) -> Result<()> {
    let headers = request.headers_mut();
    headers.insert(
        "impersonate-user",
        HeaderValue::from_bytes(name.as_bytes())?,
    );
    for group in groups {
        headers.append("impersonate-group", HeaderValue::from_str(group)?);
    }
    Ok(())
}

/// Where an object is, and what it says that it is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The path of the collection.
    pub collection: String,
    /// The name of the object; empty for a path that is no object of ours.
    pub name: String,
    /// `apiVersion` and `kind`.
    pub kind: (&'static str, &'static str),
}

impl Place {
    /// The path of the object.
    pub fn path(&self) -> String {
        if self.name.is_empty() {
            self.collection.clone()
        } else {
            format!("{}/{}", self.collection, self.name)
        }
    }
}

/// The request that does `what` to what is there now (`current`; for a creation, to a good new object).
pub fn request(how: How, place: &Place, current: &Value, what: &Value) -> Result<Request<Vec<u8>>> {
    let object = place.path();
    let (method, path, kind, body) = match how.verb {
        Verb::Create => {
            let path = place.collection.clone();
            (
                Method::POST,
                path,
                "application/json",
                merged(current, what),
            )
        }
        Verb::Put => (
            Method::PUT,
            object,
            "application/json",
            merged(current, what),
        ),
        Verb::Merge => (
            Method::PATCH,
            object,
            "application/merge-patch+json",
            what.clone(),
        ),
        Verb::Strategic => (
            Method::PATCH,
            object,
            "application/strategic-merge-patch+json",
            what.clone(),
        ),
        Verb::Json => (
            Method::PATCH,
            object,
            "application/json-patch+json",
            json_patch(current, what),
        ),
        Verb::Apply => (
            Method::PATCH,
            object,
            "application/apply-patch+yaml",
            applied(place, current, what),
        ),
        Verb::Delete => (Method::DELETE, object, "application/json", Value::Null),
        Verb::DeleteAll => {
            let path = place.collection.clone();
            (Method::DELETE, path, "application/json", Value::Null)
        }
        Verb::Get => (Method::GET, object, "application/json", Value::Null),
    };
    let sub = if how.sub.is_empty() {
        String::new()
    } else {
        format!("/{}", how.sub)
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(&body)?
    };
    let uri = format!("{path}{sub}?{}", query(how, place));
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(CONTENT_TYPE, kind);
    Ok(request.body(body)?)
}

fn query(how: How, place: &Place) -> String {
    let mut query = vec!["fieldManager=attacker"];
    if how.dry {
        query.push("dryRun=All");
    }
    if how.orphans {
        query.push("propagationPolicy=Orphan");
    }
    if how.verb == Verb::Apply {
        query.push("force=true");
    }
    if how.verb == Verb::DeleteAll && place.kind.1 == "ConfigMap" {
        query.push("labelSelector=rollback.broxiva.com%2Fartifact");
    }
    if how.verb == Verb::Get || matches!(how.verb, Verb::Delete | Verb::DeleteAll) {
        query.retain(|part| !part.starts_with("fieldManager"));
    }
    query.join("&")
}

/// What a merge patch makes of an object.
pub fn merged(current: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut object = current.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            let old = object.get(key).cloned().unwrap_or_default();
            object.insert(key.clone(), merged(&old, value));
        }
    }
    Value::Object(object)
}

/// The JSON patch that does what a merge patch would do.
fn json_patch(current: &Value, patch: &Value) -> Value {
    let mut operations = Vec::new();
    walk(current, patch, "", &mut operations);
    Value::Array(operations)
}

fn walk(current: &Value, patch: &Value, under: &str, operations: &mut Vec<Value>) {
    let Some(map) = patch.as_object() else { return };
    for (key, value) in map {
        let place = format!("{under}/{}", key.replace('~', "~0").replace('/', "~1"));
        match (current.get(key), value) {
            (None, Value::Null) => {}
            (Some(_), Value::Null) => operations.push(json!({"op": "remove", "path": place})),
            (Some(inner), Value::Object(_)) if inner.is_object() => {
                walk(inner, value, &place, operations);
            }
            _ => operations
                .push(json!({"op": "add", "path": place, "value": merged(&Value::Null, value)})),
        }
    }
}

/// What is applied: what a person would have in a file. Without what is taken away, which is what this manager never had.
fn applied(place: &Place, current: &Value, what: &Value) -> Value {
    let (api_version, kind) = place.kind;
    let mut object =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": place.name}});
    // Of an object that is not there yet, the whole is applied.
    if current.pointer("/metadata/uid").is_none() {
        object = merged(current, &object);
    }
    merged(&object, what)
}

/// Puts names into the places that are kept for them.
pub fn filled(value: &Value, names: &[(&str, String)]) -> Value {
    match value {
        Value::String(text) => {
            let text = names.iter().fold(text.clone(), |text, (place, name)| {
                text.replace(place, name)
            });
            Value::String(text)
        }
        Value::Array(list) => list.iter().map(|one| filled(one, names)).collect(),
        Value::Object(map) => {
            let map: Map<String, Value> = map
                .iter()
                .map(|(key, one)| (key.clone(), filled(one, names)))
                .collect();
            Value::Object(map)
        }
        other => other.clone(),
    }
}
