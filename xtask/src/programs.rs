//! The test programs of the workspace: built by cargo, then run from here, so that what is quick and telling comes first
//! and what mostly waits does so side by side.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use serde_json::Value;
use tokio::process::Command;

use crate::cargo;

/// One built test program.
pub struct Program {
    /// `package: target`, as people know it.
    pub name: String,
    executable: PathBuf,
    /// The folder of its package, in which cargo would run it.
    folder: PathBuf,
    /// Whether it needs the cluster.
    pub scenario: bool,
    /// Which of its tests; all when it says nothing.
    parts: Vec<String>,
}

impl Program {
    /// Only those of its tests whose names have one of these words.
    pub fn only(&self, parts: &[&str]) -> Self {
        Self {
            name: self.name.clone(),
            executable: self.executable.clone(),
            folder: self.folder.clone(),
            scenario: self.scenario,
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
        }
    }
}

/// What one program took.
struct Took {
    name: String,
    time: Duration,
    passed: bool,
}

/// Builds every test program of the workspace, and lists them.
pub async fn build() -> Result<Vec<Program>> {
    let mut command = cargo::command(&[
        "test",
        "--locked",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let output = command
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo")?
        .wait_with_output()
        .await?;
    ensure!(output.status.success(), "the tests do not compile");
    let mut programs: Vec<Program> = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| program(&serde_json::from_str(line).ok()?))
        .collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// A test program, if this message of cargo is about one.
fn program(message: &Value) -> Option<Program> {
    let is_test = message["profile"]["test"].as_bool()?;
    let executable = PathBuf::from(message["executable"].as_str().filter(|_| is_test)?);
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let target = &message["target"];
    let source = target["src_path"].as_str()?;
    let package = folder.file_name()?.to_string_lossy();
    Some(Program {
        name: format!("{package}: {}", target["name"].as_str()?),
        executable,
        folder: folder.to_owned(),
        scenario: source.contains("/tests/scenarios/") || source.contains("/testkit/tests/"),
        parts: Vec::new(),
    })
}

/// Runs `programs`, so many at a time, and prints each one's output when it has ended. All of them run, whichever fails.
pub async fn run(
    programs: &[&Program],
    at_once: usize,
    environment: &[(&str, &OsStr)],
) -> Result<()> {
    let runs = programs.iter().map(|program| one(program, environment));
    let mut took: Vec<Took> = Vec::new();
    let mut ending = futures::stream::iter(runs).buffer_unordered(at_once);
    while let Some(ended) = ending.next().await {
        took.push(ended?);
    }
    took.sort_by_key(|one| std::cmp::Reverse(one.time));
    eprintln!("\nlongest:");
    for one in took.iter().take(20) {
        eprintln!("  {:>4} s  {}", one.time.as_secs(), one.name);
    }
    let failed: Vec<&str> = took
        .iter()
        .filter(|one| !one.passed)
        .map(|one| one.name.as_str())
        .collect();
    if !failed.is_empty() {
        bail!("tests failed in {}", failed.join(", "));
    }
    Ok(())
}

async fn one(program: &Program, environment: &[(&str, &OsStr)]) -> Result<Took> {
    let started = Instant::now();
    let output = Command::new(&program.executable)
        .args(&program.parts)
        .current_dir(&program.folder)
        .envs(environment.iter().copied())
        .env("CARGO", OsString::from(env!("CARGO")))
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("running {}", program.executable.display()))?;
    let took = Took {
        name: program.name.clone(),
        time: started.elapsed(),
        passed: output.status.success(),
    };
    println!(
        "\n     Running {} ({} s)\n{}{}",
        took.name,
        took.time.as_secs(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(took)
}
