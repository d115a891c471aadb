//! Kubeconfig files: one context for each user, whatever the cluster.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::user::User;

/// For a cluster whose tokens are ours.
pub(crate) fn embedded(server: &str, ca: &Path) -> Value {
    let cluster = json!({ "server": server, "certificate-authority": ca });
    let user = |user: User| json!({ "token": user.token() });
    with_contexts(&cluster, user)
}

/// For a cluster that somebody else runs: the administrator is the user of that kubeconfig, and
/// plays everybody else by impersonation. `view` is a minified kubeconfig.
pub(crate) fn impersonating(view: &Value) -> Result<Value> {
    let cluster = view
        .pointer("/clusters/0/cluster")
        .context("the kubeconfig has no cluster for this context")?;
    let me = view
        .pointer("/users/0/user")
        .context("the kubeconfig has no user for this context")?;
    Ok(with_contexts(cluster, |user| {
        let mut entry = me.clone();
        if user != User::Admin {
            entry["as"] = json!(user.as_str());
            entry["as-uid"] = json!(user.uid());
            entry["as-groups"] = json!(user.groups());
        }
        entry
    }))
}

/// For one bearer token; `server` may be a proxy that speaks plain HTTP.
pub(crate) fn for_token(cluster: &Value, server: Option<&str>, token: &str) -> Value {
    let mut cluster = cluster.clone();
    if let Some(server) = server {
        cluster["server"] = json!(server);
        if let (true, Some(entry)) = (server.starts_with("http:"), cluster.as_object_mut()) {
            entry.retain(|key, _| key == "server");
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "cluster", "cluster": cluster }],
        "users": [{ "name": "me", "user": { "token": token } }],
        "contexts": [{ "name": "me", "context": { "cluster": "cluster", "user": "me" } }],
        "current-context": "me",
    })
}

fn with_contexts(cluster: &Value, user: impl Fn(User) -> Value) -> Value {
    let users: Vec<Value> = User::ALL
        .into_iter()
        .map(|who| json!({ "name": who.context(), "user": user(who) }))
        .collect();
    let contexts: Vec<Value> = User::ALL
        .into_iter()
        .map(|who| {
            let context = json!({ "cluster": "cluster", "user": who.context() });
            json!({ "name": who.context(), "context": context })
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "cluster", "cluster": cluster }],
        "users": users,
        "contexts": contexts,
        "current-context": User::Admin.context(),
    })
}
