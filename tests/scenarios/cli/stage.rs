//! How the plugin is run, and what it says.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{Scene, User};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// The plugin.
pub const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-rollback");
/// What an approver types besides the name of the request.
pub const APPROVAL: [&str; 4] = [
    "--checklist",
    "incident-documented,stakeholders-notified",
    "--confirm",
    "ROLLBACK PRODUCTION",
];
/// Why, as a requester types it.
pub const WHY: [&str; 4] = [
    "--category",
    "ErrorRate",
    "--reason",
    "5xx above 1 % since 14:02",
];

/// A request to go back, with its plan.
pub async fn asked(name: &str) -> Result<Scene> {
    let scene = scene(name).await?;
    scene.two_versions_and_a_plan("api-5xx", "api").await?;
    Ok(scene)
}

/// What a command has said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// That it ended so.
    pub fn ended(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == code,
            "exit code {} and not {code}:\n{}{}",
            self.code,
            self.out,
            self.err
        );
        Ok(self)
    }

    /// That standard output has these texts.
    pub fn prints(self, texts: &[&str]) -> Result<Self> {
        for text in texts {
            ensure!(self.out.contains(text), "{text:?} is not in:\n{}", self.out);
        }
        Ok(self)
    }

    /// That standard error has these texts.
    pub fn complains(self, texts: &[&str]) -> Result<Self> {
        for text in texts {
            ensure!(self.err.contains(text), "{text:?} is not in:\n{}", self.err);
        }
        Ok(self)
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out)
            .with_context(|| format!("no JSON:\n{}{}", self.out, self.err))
    }
}

/// A namespace with a controller.
pub async fn scene(name: &str) -> Result<Scene> {
    Scene::new(
        testkit::target_folder().join("debug/rollback-controller"),
        name,
    )
    .await
}

/// The plugin as this person, in the namespace of the scene, ready for its arguments.
pub fn plugin(scene: &Scene, user: User) -> Command {
    plugin_in(scene.cluster.kubeconfig(), user.context(), scene.ns())
}

/// The same anywhere.
pub fn plugin_in(kubeconfig: &Path, context: &str, namespace: &str) -> Command {
    let mut command = Command::new(PLUGIN);
    command
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECTL_ROLLBACK_CONFIG", "/nonexistent/config.yaml")
        .args(["--context", context, "-n", namespace])
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the plugin.
pub async fn run(scene: &Scene, user: User, arguments: &[&str]) -> Result<Said> {
    said(plugin(scene, user).args(arguments).spawn()?).await
}

/// The same with a configuration of environments.
pub async fn run_with(
    scene: &Scene,
    config: &Path,
    user: User,
    arguments: &[&str],
) -> Result<Said> {
    let mut command = plugin(scene, user);
    command.env("KUBECTL_ROLLBACK_CONFIG", config);
    said(command.args(arguments).spawn()?).await
}

/// What a child says until it ends.
pub async fn said(child: Child) -> Result<Said> {
    let output = child.wait_with_output().await?;
    Ok(Said {
        code: output.status.code().context("it was killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Types a line into a child.
pub async fn types(child: &mut Child, line: &str) -> Result<()> {
    let stdin = child.stdin.as_mut().context("nobody can type")?;
    stdin.write_all(format!("{line}\n").as_bytes()).await?;
    Ok(stdin.flush().await?)
}
