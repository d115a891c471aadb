//! The real Helm.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::build;

/// The namespace that the guard is written for.
pub const HOME: &str = "rollback-system";
/// A version of Kubernetes that the chart is for.
pub const VERSION: &str = "1.37.2";

/// The oldest one.
pub const OLDEST: &str = "1.35.4";
/// What the servers have that the chart has more for.
const STAMPING: &str = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy";

/// The folder of the chart.
pub fn chart() -> PathBuf {
    testkit::workspace().join("charts/rollback-operator")
}

/// Helm, with folders of its own.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Without a cluster; `None` where it has not been built.
    pub async fn new() -> Result<Option<Self>> {
        let Some(program) = tokio::task::spawn_blocking(build::helm).await?? else {
            return Ok(None);
        };
        Ok(Some(Self {
            program,
            home: TempDir::new()?,
            kubeconfig: None,
        }))
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// For the administrator of a cluster.
    pub fn on(mut self, cluster: &testkit::Cluster) -> Self {
        self.kubeconfig = Some(cluster.kubeconfig().to_owned());
        self
    }

    /// Runs it; what it says is the caller's to judge.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::new(&self.program);
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, self.home.path());
        }
        let nowhere = self.home.path().join("no-kubeconfig");
        let kubeconfig = self.kubeconfig.as_deref().unwrap_or(&nowhere);
        command
            .env("KUBECONFIG", kubeconfig)
            .args(arguments)
            .kill_on_drop(true);
        Ok(command.output().await?)
    }

    /// Runs it; it has to succeed.
    pub async fn ok(&self, arguments: &[impl AsRef<OsStr> + AsRef<str>]) -> Result<String> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let output = self.run(&arguments).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "helm {}: {errors}",
            arguments.join(" ")
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What the chart renders in its namespace.
    pub async fn rendered(&self, settings: &[&str]) -> Result<Vec<Value>> {
        self.rendered_for(VERSION, settings).await
    }

    /// The same for a version of Kubernetes.
    pub async fn rendered_for(&self, version: &str, settings: &[&str]) -> Result<Vec<Value>> {
        let output = self.template(HOME, version, settings).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{errors}");
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&String::from_utf8(output.stdout)?)?;
        Ok(documents
            .into_iter()
            .filter(|document| !document.is_null())
            .collect())
    }

    /// `helm template`.
    pub async fn template(
        &self,
        namespace: &str,
        version: &str,
        settings: &[&str],
    ) -> Result<Output> {
        let folder = chart().display().to_string();
        let mut arguments = vec!["template", "rollback-operator", &folder, "-n", namespace];
        arguments.extend(["--kube-version", version]);
        if version == VERSION {
            arguments.extend(["--api-versions", STAMPING]);
        }
        arguments.extend(settings.iter().flat_map(|setting| ["--set-json", setting]));
        self.run(&arguments).await
    }
}
