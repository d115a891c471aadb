//! A real browser, driven by `drive.mjs`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::node;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A browser with one page.
pub struct Browser {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _profile: TempDir,
    pictures: PathBuf,
}

/// What is there: the browser, node, and the packages of `package.json`.
fn parts() -> Result<(PathBuf, PathBuf, PathBuf), String> {
    let program = |name: &str| {
        let folders = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&folders)
            .map(|folder| folder.join(name))
            .find(|it| it.exists());
        found.ok_or_else(|| format!("{name} is missing"))
    };
    let tools = testkit::cache_folder()
        .map_err(|error| error.to_string())?
        .join("browser");
    if !tools.join("node_modules/playwright-core").exists() {
        return Err(
            "playwright-core and axe-core are missing; docs/testing.md says how they are installed"
                .to_owned(),
        );
    }
    Ok((program("chromium")?, program("node")?, tools))
}

impl Browser {
    /// Starts it; `None` where there is none, which is a failure where it has to be there.
    pub async fn start() -> Result<Option<Self>> {
        let (chromium, node, tools) = match parts() {
            Ok(parts) => parts,
            Err(why) if node::is_required() => {
                bail!("{}=1, but there is no browser: {why}", node::REQUIRED)
            }
            Err(why) => {
                node::tell(&format!("SKIPPED here: the tests with a browser; {why}"));
                return Ok(None);
            }
        };
        let profile = TempDir::new()?;
        let drive = testkit::workspace().join("tests/scenarios/ui/drive.mjs");
        let mut child = Command::new(node)
            .args([&drive, &tools, &chromium, &profile.path().to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("no input")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no output")?);
        let mut ready = String::new();
        stdout.read_line(&mut ready).await?;
        ensure!(!ready.is_empty(), "the browser did not start");
        let pictures = testkit::target_folder().join("ui-pictures");
        std::fs::create_dir_all(&pictures)?;
        Ok(Some(Self {
            _child: child,
            stdin,
            stdout,
            _profile: profile,
            pictures,
        }))
    }

    /// Has it do something, and says what came of it.
    pub async fn does(&mut self, what: &str, with: Value) -> Result<Value> {
        let mut wanted = with;
        wanted["do"] = json!(what);
        self.stdin
            .write_all(format!("{wanted}\n").as_bytes())
            .await?;
        self.stdin.flush().await?;
        let mut line = String::new();
        self.stdout.read_line(&mut line).await?;
        let answer: Value =
            serde_json::from_str(&line).with_context(|| format!("{what}: {line}"))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{wanted}: {error}");
        }
        Ok(answer["is"].clone())
    }

    /// Opens a page; its address in the end.
    pub async fn open(&mut self, url: &str) -> Result<String> {
        let there = self.does("open", json!({"url": url})).await?;
        Ok(there.as_str().unwrap_or_default().to_owned())
    }

    /// Clicks what has this role and name.
    pub async fn click(&mut self, role: &str, name: &str) -> Result<()> {
        self.does("click", json!({"role": role, "name": name}))
            .await
            .map(|_| ())
    }

    /// Waits until the page shows this.
    pub async fn shows(&mut self, text: &str) -> Result<()> {
        self.does("wait", json!({"text": text, "seconds": 60}))
            .await
            .map(|_| ())
    }

    /// Looks at the page in both themes and on a narrow screen: nothing is too wide, and nothing keeps anybody out.
    pub async fn look(&mut self, name: &str) -> Result<()> {
        for (look, scheme, width) in [
            ("light", "light", 1200),
            ("dark", "dark", 1200),
            ("narrow", "light", 360),
        ] {
            self.does(
                "look",
                json!({"scheme": scheme, "media": "screen", "width": width}),
            )
            .await?;
            self.shot(&format!("{name}-{look}.png")).await?;
            let overflow = self.does("overflow", json!({})).await?;
            ensure!(overflow == 0, "{name}, {look}: {overflow} pixels too wide");
            if look == "narrow" {
                continue;
            }
            let barriers = self.does("axe", json!({})).await?;
            ensure!(barriers == json!([]), "{name}, {look}: {barriers:#}");
        }
        self.does(
            "look",
            json!({"scheme": "light", "media": "screen", "width": 1200}),
        )
        .await
        .map(|_| ())
    }

    /// Takes a picture.
    pub async fn shot(&mut self, name: &str) -> Result<()> {
        let file = self.picture(name);
        self.does("shot", json!({"file": file})).await.map(|_| ())
    }

    /// Where a picture is.
    pub fn picture(&self, name: &str) -> PathBuf {
        Path::new(&self.pictures).join(name)
    }

    /// What the pages have tried that they should not have.
    pub async fn has_no_problems(&mut self) -> Result<()> {
        let problems = self.does("problems", json!({})).await?;
        ensure!(problems == json!([]), "{problems:#}");
        Ok(())
    }
}
