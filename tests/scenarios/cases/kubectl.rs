//! What the real kubectl does in the situation of a case.
//!
//! It works on a twin: a Deployment of the same name and the same history, in a namespace of its own
//! that no controller looks after.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::proxy::Proxy;
use testkit::scene::PATIENCE;
use testkit::{Scene, User};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout};

use crate::stage::{APP, PROGRAM, number, template, text};

/// What `kubectl rollout status` says in the end.
pub const SUCCESS: &str = "successfully rolled out";

/// A namespace in which kubectl rolls back and nobody else.
pub async fn twin(name: &str) -> Result<Scene> {
    Scene::without_controller(PROGRAM, &format!("{name}-kubectl")).await
}

/// Does the same in both namespaces, at the same time.
pub async fn both<T>(
    ours: &Scene,
    twin: &Scene,
    act: impl AsyncFn(&Scene) -> Result<T>,
) -> Result<(T, T)> {
    tokio::try_join!(act(ours), act(twin))
}

/// A kubectl command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// Everything that it said.
    pub fn said(&self) -> String {
        [self.stdout.trim(), self.stderr.trim()]
            .join("\n")
            .trim()
            .to_owned()
    }

    /// It succeeded, and said this among other things.
    pub fn ensure_ok(&self, text: &str) -> Result<()> {
        ensure!(
            self.code == 0 && self.said().contains(text),
            "expected {text:?} of {self:?}"
        );
        Ok(())
    }

    /// It failed, and complained about this among other things.
    pub fn ensure_error(&self, text: &str) -> Result<()> {
        ensure!(
            self.code != 0 && self.stderr.contains(text),
            "expected an error with {text:?} of {self:?}"
        );
        Ok(())
    }

    /// Its last word on what went wrong, for a sentence.
    pub fn complaint(&self) -> String {
        let last = self.stderr.trim().lines().last().unwrap_or_default();
        format!("`{last}`")
    }
}

/// Runs kubectl as the administrator in the namespace of the scene.
pub async fn kubectl(scene: &Scene, arguments: &[&str]) -> Result<Ran> {
    kubectl_with_input(scene, arguments, "").await
}

/// The same, with something to read.
pub async fn kubectl_with_input(scene: &Scene, arguments: &[&str], input: &str) -> Result<Ran> {
    let arguments = [&["--namespace", scene.ns()], arguments].concat();
    let start = Instant::now();
    let output = scene
        .cluster
        .kubectl_with_input(User::Admin, &arguments, input)
        .await?;
    Ok(Ran {
        code: output.status.code().context("kubectl was killed")?,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: start.elapsed(),
    })
}

/// What `kubectl rollout undo` did to the Deployment.
#[derive(Debug)]
pub struct Undo {
    /// The command.
    pub ran: Ran,
    /// The Deployment before it.
    pub before: Value,
    /// The Deployment after it.
    pub after: Value,
}

/// `kubectl rollout undo`, with more arguments.
pub async fn undo(twin: &Scene, arguments: &[&str]) -> Result<Undo> {
    let before = twin.deployment(APP).await?;
    let name = format!("deployment/{APP}");
    let arguments = [&["rollout", "undo", &name], arguments].concat();
    let ran = kubectl(twin, &arguments).await?;
    let after = twin.deployment(APP).await?;
    Ok(Undo { ran, before, after })
}

/// `kubectl rollout status`, which waits this long at most; with more arguments.
pub async fn status(twin: &Scene, timeout: Duration, arguments: &[&str]) -> Result<Ran> {
    let name = format!("deployment/{APP}");
    let timeout = format!("--timeout={}s", timeout.as_secs());
    kubectl(
        twin,
        &[&["rollout", "status", &name, &timeout], arguments].concat(),
    )
    .await
}

/// A `kubectl rollout status` that has begun to wait.
pub struct Watching {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: String,
    start: Instant,
}

/// Starts `kubectl rollout status`, with more arguments, and comes back once it waits.
pub async fn watch(twin: &Scene, arguments: &[&str]) -> Result<Watching> {
    let start = Instant::now();
    let mut child = twin
        .cluster
        .kubectl_command(User::Admin)
        .args(["--namespace", twin.ns(), "rollout", "status"])
        .arg(format!("deployment/{APP}"))
        .arg(format!("--timeout={}s", PATIENCE.as_secs()))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run kubectl")?;
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut said = String::new();
    tokio::time::timeout(PATIENCE, stdout.read_line(&mut said)).await??;
    ensure!(said.contains("Waiting for deployment"), "it says {said:?}");
    Ok(Watching {
        child,
        stdout,
        said,
        start,
    })
}

impl Watching {
    /// Waits until it has ended.
    pub async fn end(mut self) -> Result<Ran> {
        self.stdout.read_to_string(&mut self.said).await?;
        let output = self.child.wait_with_output().await?;
        Ok(Ran {
            code: output.status.code().context("kubectl was killed")?,
            stdout: self.said,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: self.start.elapsed(),
        })
    }
}

impl Undo {
    /// The tag of the image that the Deployment has now.
    pub fn tag(&self) -> &str {
        let image = text(&self.after, "/spec/template/spec/containers/0/image");
        image.rsplit_once(':').map_or(image, |(_, tag)| tag)
    }

    /// Whether the pod template is another one now.
    pub fn has_changed(&self) -> bool {
        template(&self.before) != template(&self.after)
    }

    /// It says that it rolled back, and the Deployment has this tag.
    pub fn ensure_to(&self, tag: &str) -> Result<()> {
        ensure!(
            self.ran.code == 0 && self.has_changed() && self.tag() == tag,
            "expected {tag}, but it is {self:?}"
        );
        Ok(())
    }

    /// It failed like this and changed nothing.
    pub fn ensure_error(&self, text: &str) -> Result<()> {
        self.ran.ensure_error(text)?;
        self.ensure_untouched()
    }

    /// The Deployment is as it was.
    pub fn ensure_untouched(&self) -> Result<()> {
        let generation = |object| number(object, "/metadata/generation");
        ensure!(
            generation(&self.before) == generation(&self.after),
            "it wrote: {self:?}"
        );
        Ok(())
    }

    /// What came of it, for a sentence.
    pub fn outcome(&self) -> String {
        if self.ran.code != 0 {
            return self.ran.complaint();
        }
        if self.has_changed() {
            return format!("back to {}", self.tag());
        }
        let said = self.ran.stdout.trim();
        // `deployment.apps/NAME skipped rollback (...)`
        let said = said.split_once(' ').map_or(said, |(_, said)| said);
        format!("`{said}`")
    }
}

/// `kubectl rollout undo` knows revision numbers and nothing else to name a version by.
pub async fn ensure_takes_numbers_only(scene: &Scene) -> Result<()> {
    let help = kubectl(scene, &["rollout", "undo", "--help"]).await?;
    help.ensure_ok("--to-revision=0")?;
    let options: Vec<&str> = help
        .stdout
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"))
        .filter_map(|option| option.split_once('=').map(|(name, _)| name))
        .collect();
    let naming = |name: &&str| {
        ["image", "version", "container", "to-"]
            .iter()
            .any(|state| name.contains(state))
    };
    let naming: Vec<&str> = options.into_iter().filter(naming).collect();
    ensure!(naming == ["to-revision"], "it also takes {naming:?}");
    Ok(())
}

/// A proxy in front of the API server, for kubectl's `--server`.
pub async fn proxy(twin: &Scene) -> Result<Proxy> {
    let cluster = twin.cluster;
    Proxy::start_as(User::Admin, &cluster.server()?, &cluster.ca()?).await
}

/// Neither `kubectl rollout undo` nor `kubectl rollout status` has an option to ask the application
/// how it is.
pub async fn ensure_no_checks(scene: &Scene) -> Result<()> {
    for command in ["undo", "status"] {
        let help = kubectl(scene, &["rollout", command, "--help"]).await?;
        help.ensure_ok("Usage:")?;
        for state in ["health", "probe", "check"] {
            ensure!(!help.stdout.contains(state), "{command} knows {state}");
        }
    }
    Ok(())
}
