//! At a terminal, which `script` (util-linux) makes: questions, and a plan that changes while somebody reads.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::json;
use testkit::User::{self, Approver, Requester};
use testkit::scene::PATIENCE;
use testkit::{Scene, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::stage::{PLUGIN, scene, types};

/// A command at a terminal of its own.
pub struct Terminal {
    child: Child,
    seen: String,
}

impl Terminal {
    fn open(scene: &Scene, user: User, words: &str) -> Result<Option<Self>> {
        Self::open_with(scene, user, words, true)
    }

    fn open_with(scene: &Scene, user: User, words: &str, coloured: bool) -> Result<Option<Self>> {
        let words = format!("{} {words}", Self::plugin(scene, user));
        Self::run(scene.cluster.kubeconfig(), &words, coloured)
    }

    /// What is typed for the plugin, in a namespace as this person.
    pub fn plugin(scene: &Scene, user: User) -> String {
        format!("{PLUGIN} --context {} -n {}", user.context(), scene.ns())
    }

    /// Runs what somebody types into a shell. `None` where there is no terminal to be had.
    pub fn run(kubeconfig: &Path, words: &str, coloured: bool) -> Result<Option<Self>> {
        if !Path::new("/usr/bin/script").exists() {
            eprintln!("SKIPPED: script is missing; install the package bsdutils");
            return Ok(None);
        }
        let mut command = Command::new("/usr/bin/script");
        command.args(["-qefc", words, "/dev/null"]);
        let child = command
            .env("KUBECONFIG", kubeconfig)
            .env("TERM", "xterm")
            .env("NO_COLOR", if coloured { "" } else { "1" })
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Some(Self {
            child,
            seen: String::new(),
        }))
    }

    /// Reads until the terminal shows this, and gives what stood before it.
    pub async fn shows(&mut self, text: &str) -> Result<String> {
        while !self.seen.contains(text) {
            let Some(stdout) = self.child.stdout.as_mut() else {
                bail!("no terminal")
            };
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(Duration::from_secs(30), stdout.read(&mut bytes)).await;
            let Ok(Ok(read @ 1..)) = read else {
                bail!("{text:?} never came:\n{}", self.seen)
            };
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        let begin = self.seen.find(text).unwrap_or_default();
        let before = self.seen[..begin].to_owned();
        self.seen.drain(..begin + text.len());
        Ok(before)
    }

    /// What it shows until it ends.
    pub async fn rest(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        if let Some(stdout) = self.child.stdout.as_mut() {
            stdout.read_to_end(&mut bytes).await?;
        }
        Ok(format!("{}{}", self.seen, String::from_utf8_lossy(&bytes)))
    }

    /// Presses keys.
    pub async fn presses(&mut self, keys: &str) -> Result<()> {
        let Some(stdin) = self.child.stdin.as_mut() else {
            bail!("no keyboard")
        };
        stdin.write_all(keys.as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    async fn types(&mut self, line: &str) -> Result<()> {
        types(&mut self.child, line).await
    }

    /// Its exit code.
    pub async fn ends(mut self) -> Result<i32> {
        Ok(self.child.wait().await?.code().unwrap_or(-1))
    }
}

async fn reads_and_ticks(terminal: &mut Terminal) -> Result<()> {
    terminal.shows("Plan     sha256:").await?;
    terminal
        .shows("Is this what you want to approve? [y/N]")
        .await?;
    terminal.types("y").await?;
    for item in [
        "incident-documented: The incident is documented? [y/N]",
        "stakeholders-notified",
    ] {
        terminal.shows(item).await?;
        terminal.types("y").await?;
    }
    terminal
        .shows("Type ROLLBACK PRODUCTION to approve:")
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_checklist_and_the_phrase_are_asked_for() -> Result<()> {
    let scene = scene("terminal").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    a_plan_that_changes_while_somebody_reads_is_not_approved(&scene).await?;
    there_are_no_colours_where_somebody_does_not_want_them(&scene).await?;

    let typed = [
        ("rollback production", "That is not the phrase", 2),
        // Drawn in colours.
        ("ROLLBACK PRODUCTION", "\u{1b}[32mSucceeded", 0),
    ];
    for (phrase, shown, code) in typed {
        let Some(mut terminal) = Terminal::open(&scene, Approver, "approve api-5xx --wait")? else {
            return Ok(());
        };
        reads_and_ticks(&mut terminal).await?;
        terminal.types(phrase).await?;
        terminal.shows(shown).await?;
        ensure!(terminal.ends().await? == code);
    }
    Ok(())
}

async fn a_plan_that_changes_while_somebody_reads_is_not_approved(scene: &Scene) -> Result<()> {
    let before = scene.plan("api-5xx").await?.digest;
    let Some(mut terminal) = Terminal::open(scene, Approver, "approve api-5xx")? else {
        return Ok(());
    };
    reads_and_ticks(&mut terminal).await?;
    scene
        .policy(json!({"rollout": {"timeoutSeconds": 99}}))
        .await?;
    eventually("the plan is another one", PATIENCE, async || {
        let now = scene.plan("api-5xx").await?.digest;
        ensure!(now != before, "it is the same");
        Ok(())
    })
    .await?;
    terminal.types("ROLLBACK PRODUCTION").await?;
    terminal
        .shows("The plan is not the one that was read")
        .await?;
    ensure!(terminal.ends().await? == 7);
    let request = scene.request("api-5xx").await?;
    let annotations = request.metadata.annotations.unwrap_or_default();
    ensure!(
        !annotations.contains_key(rollback_api::APPROVED_BY),
        "{annotations:?}"
    );
    Ok(())
}

async fn there_are_no_colours_where_somebody_does_not_want_them(scene: &Scene) -> Result<()> {
    for coloured in [true, false] {
        let Some(mut terminal) = Terminal::open_with(scene, Requester, "status api-5xx", coloured)?
        else {
            return Ok(());
        };
        let mut all = String::new();
        if let Some(stdout) = terminal.child.stdout.as_mut() {
            stdout.read_to_string(&mut all).await?;
        }
        ensure!(all.contains("\u{1b}[") == coloured, "{all:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_guided_form_asks_for_everything() -> Result<()> {
    let scene = scene("guided").await?;
    scene.two_versions("api").await?;
    let Some(mut terminal) = Terminal::open(&scene, Requester, "create")? else {
        return Ok(());
    };
    terminal.shows("Which? Numbers or names").await?;
    terminal.types("7").await?;
    terminal
        .shows("\"7\" is not in the list. Type its numbers, 1 to 1, or names.")
        .await?;
    ensure!(terminal.ends().await? == 2);
    let Some(mut terminal) = Terminal::open(&scene, Requester, "create --name api-5xx")? else {
        return Ok(());
    };
    let answers = [
        ("Which? Numbers or names", "1"),
        ("Back to what? [previous]:", ""),
        ("What kind of trouble", ""),
        ("What is wrong, in one line?", "5xx above 1 %"),
        ("Ask for the rollback of api", "y"),
    ];
    for (question, answer) in answers {
        terminal.shows(question).await?;
        terminal.types(answer).await?;
    }
    terminal.shows("api-5xx created").await?;
    ensure!(terminal.ends().await? == 0);
    let request = scene.request("api-5xx").await?;
    ensure!(request.spec.reason.summary == "5xx above 1 %");
    Ok(())
}
