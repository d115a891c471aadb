//! A namespace for one test, with the people in their places.

use std::{
    fmt,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    core::v1::{Namespace as Object, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};

use super::{Cluster, kubectl_now, user::User};
use crate::poll::eventually;

const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace that no other test uses. On somebody else's cluster dropping it deletes it; an
/// embedded cluster is thrown away as a whole.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    cleanup: Option<(PathBuf, Vec<String>)>,
}

impl Namespace {
    /// The name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl AsRef<str> for Namespace {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some((kubectl, args)) = self.cleanup.take() {
            kubectl_now(&kubectl, args);
        }
    }
}

impl Cluster {
    /// Creates a namespace that has opted in to rollbacks: the controller may execute them, Rita and
    /// the `GitOps` tool may ask for them, Anna and Omar may approve them, Olga may look.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace> {
        let client = self.client(User::Admin).await?;
        let namespace = self.empty_namespace(&client, prefix).await?;
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace.name());
        for binding in bindings_of_everybody() {
            let binding = serde_json::from_value(binding)?;
            bindings.create(&PostParams::default(), &binding).await?;
        }
        wait_until_usable(&client, namespace.name()).await?;
        Ok(namespace)
    }

    async fn empty_namespace(&self, client: &Client, prefix: &str) -> Result<Namespace> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let generate = format!("{prefix}-{number}-");
        let object = json!({ "metadata": {
            "generateName": generate,
            "labels": { "testkit.broxiva.com/test": "true" },
        } });
        let namespaces: Api<Object> = Api::all(client.clone());
        let created = namespaces
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        let name = created
            .metadata
            .name
            .context("a namespace without a name")?;
        let cleanup = self.existing.then(|| {
            let mut args = self.kubectl_options(User::Admin);
            args.extend(["delete", "namespace", &name, "--wait=false"].map(String::from));
            (self.binaries.kubectl(), args)
        });
        Ok(Namespace { name, cleanup })
    }
}

fn bindings_of_everybody() -> Vec<Value> {
    let controller = json!({
        "kind": "ServiceAccount",
        "namespace": "rollback-system",
        "name": "rollback-controller",
    });
    let people = |users: &[User]| -> Vec<Value> {
        let one = |user: &User| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.as_str() });
        users.iter().map(one).collect()
    };
    let requesters = people(&[User::Requester, User::Gitops]);
    let approvers = people(&[User::Approver, User::SecondApprover]);
    let editors = [requesters.clone(), approvers.clone()].concat();
    vec![
        binding("rollback-executor", &json!([controller])),
        binding("rollback-requester", &json!(requesters)),
        binding("rollback-approver", &json!(approvers)),
        binding("view", &json!(people(&[User::Outsider]))),
        // Last, because `wait_until_usable` looks for this one.
        binding("edit", &json!(editors)),
    ]
}

fn binding(role: &str, subjects: &Value) -> Value {
    json!({
        "metadata": { "name": format!("test-{role}") },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        },
        "subjects": subjects,
    })
}

/// Pods need the default `ServiceAccount`, and the authorizer learns of new bindings a moment later.
async fn wait_until_usable(client: &Client, namespace: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let review: SubjectAccessReview = serde_json::from_value(json!({ "spec": {
        "user": User::Approver.as_str(),
        "resourceAttributes": {
            "namespace": namespace, "verb": "patch", "group": "apps", "resource": "deployments",
        },
    } }))?;
    eventually("the new namespace is usable", PATIENCE, async || {
        accounts.get("default").await?;
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        ensure!(allowed, "the approver may not edit Deployments yet");
        Ok(())
    })
    .await
}
