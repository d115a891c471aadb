//! Installing this project on a cluster, as a user would: `crds/` first, then `deploy/`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use kube::api::PostParams;
use serde_json::{Value, json};

use super::{Cluster, user::User};
use crate::{poll::eventually, shop};

const PATIENCE: Duration = Duration::from_secs(45);

impl Cluster {
    /// Applies everything under `crds/` and `deploy/` except the Deployments that run something (tests
    /// run that as processes), and waits until the admission policies are enforced.
    pub async fn install(&self) -> Result<()> {
        self.install_guard(crate::typed::is_on()).await
    }

    /// The same, without the policy that writes who asks and who approves, which newer servers could carry.
    pub async fn install_typed(&self) -> Result<()> {
        self.install_guard(true).await
    }

    /// Takes that policy away, for the rest of this cluster's life.
    pub async fn withhold_stamp(&self) -> Result<()> {
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            let delete = ["delete", kind, "rollback-guard-stamp"];
            self.kubectl_ok(User::Admin, &delete, "").await?;
        }
        self.wait_for_admission(true).await
    }

    async fn install_guard(&self, typed: bool) -> Result<()> {
        let mut documents = documents()?;
        if typed {
            documents.retain(|document| !is_stamp(document));
        }
        let (first, rest): (Vec<Value>, Vec<Value>) = documents.into_iter().partition(|document| {
            let kind = &document["kind"];
            kind == "Namespace" || kind == "CustomResourceDefinition"
        });
        self.apply_all(&first).await?;
        let crds: Vec<&str> = first
            .iter()
            .filter(|document| document["kind"] == "CustomResourceDefinition")
            .filter_map(|document| document.pointer("/metadata/name")?.as_str())
            .collect();
        ensure!(
            !crds.is_empty(),
            "no CustomResourceDefinition under crds/ or deploy/"
        );
        let mut wait = vec![
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd",
        ];
        wait.extend(crds);
        self.kubectl_ok(User::Admin, &wait, "").await?;
        self.apply_all(&rest).await?;
        self.wait_for_admission(typed).await
    }

    async fn apply_all(&self, documents: &[Value]) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": documents }).to_string();
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.kubectl_ok(User::Admin, &apply, &list).await?;
        Ok(())
    }

    /// The API server takes up policies some time after it has accepted them, in the order in which
    /// they came. So two things are looked for, by requests that leave nothing behind: a request is
    /// stamped with who asked for it, or refused with another name, and a validating policy that was added last is enforced.
    async fn wait_for_admission(&self, typed: bool) -> Result<()> {
        let namespace = self.namespace("install-probe").await?;
        let name = namespace.name();
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let client = self.client(User::Requester).await?;
        let requests = shop::api(
            &client,
            name,
            "rollback.broxiva.com/v1alpha1",
            "RollbackRequest",
        );
        // Where nothing writes who asks, a name is only compared, and this one is refused until it is not.
        let forged = json!({ "username": "nobody@broxiva.example" });
        let by = if typed { forged } else { Value::Null };
        let request = serde_json::from_value(json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1",
            "kind": "RollbackRequest",
            "metadata": { "name": "install-probe" },
            "spec": {
                "targets": [{ "name": "install-probe", "to": { "previous": {} } }],
                "reason": { "category": "ErrorRate", "summary": "is admission in force?" },
                "requestedBy": by,
            },
        }))?;
        eventually("who asks is known", PATIENCE, async || {
            let answer = match requests.create(&dry_run, &request).await {
                Err(kube::Error::Api(status)) if typed => {
                    let says = "spec.requestedBy must say who you are";
                    ensure!(status.message.contains(says), "{}", status.message);
                    return Ok(());
                }
                answer => answer?,
            };
            ensure!(!typed, "another name passes, or is put right");
            let stamp = answer.data.pointer("/spec/requestedBy/username");
            let expected = Some(&json!(User::Requester.as_str()));
            ensure!(stamp == expected, "spec.requestedBy.username is {stamp:?}");
            Ok(())
        })
        .await?;

        let sentinel = sentinel(name);
        self.apply_all(&sentinel).await?;
        let config_maps = shop::api(&client, name, "v1", "ConfigMap");
        let config_map = serde_json::from_value(json!({ "metadata": { "name": "probe" } }))?;
        eventually("the last policy is enforced", PATIENCE, async || {
            let answer = config_maps.create(&dry_run, &config_map).await;
            let refused = matches!(answer, Err(kube::Error::Api(status)) if status.is_invalid());
            ensure!(refused, "it lets pass what it forbids");
            Ok(())
        })
        .await?;
        let kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding";
        self.kubectl_ok(User::Admin, &["delete", kinds, name], "")
            .await?;
        Ok(())
    }
}

/// Whether it writes who asks and who approves.
fn is_stamp(document: &Value) -> bool {
    let kind = document["kind"].as_str();
    kind.is_some_and(|kind| kind.starts_with("MutatingAdmissionPolicy"))
}

/// A policy, named like the namespace it is for, that forbids `ConfigMap`s there.
fn sentinel(namespace: &str) -> [Value; 2] {
    let only_here = json!({ "matchLabels": { "kubernetes.io/metadata.name": namespace } });
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": namespace },
        "spec": {
            "matchConstraints": {
                "namespaceSelector": only_here,
                "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["configmaps"],
                }],
            },
            "validations": [{ "expression": "false" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": namespace },
        "spec": { "policyName": namespace, "validationActions": ["Deny"] },
    });
    [policy, binding]
}

/// Every object that is to be installed, in the order of the file names.
fn documents() -> Result<Vec<Value>> {
    let mut files = Vec::new();
    for folder in ["crds", "deploy"] {
        let folder = crate::workspace().join(folder);
        list(&folder, &mut files)
            .with_context(|| format!("nothing to install in {}", folder.display()))?;
    }
    let mut documents = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let parsed: Vec<Value> = serde_saphyr::from_multiple(&text)
            .with_context(|| format!("cannot read {}", file.display()))?;
        for document in parsed {
            match document["kind"].as_str() {
                Some("Deployment") if document.pointer("/spec/replicas") != Some(&json!(0)) => {}
                Some("Kustomization") => {}
                Some(_) => documents.push(document),
                None if document.is_null() => {}
                None => bail!("an object without a kind in {}", file.display()),
            }
        }
    }
    Ok(documents)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|kind| kind == "yaml" || kind == "yml")
        {
            files.push(path);
        }
    }
    Ok(())
}
