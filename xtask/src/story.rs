//! Telling a story on a terminal: what a person types, and what comes back.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use anyhow::{Result, ensure};
use testkit::{Cluster, User};

/// A story on one namespace of a cluster.
pub struct Story<'a> {
    cluster: &'a Cluster,
    namespace: String,
    started: Instant,
    colour: bool,
}

impl<'a> Story<'a> {
    /// Begins now.
    pub fn new(cluster: &'a Cluster, namespace: &str) -> Self {
        Self {
            cluster,
            namespace: namespace.to_owned(),
            started: Instant::now(),
            colour: std::io::stdout().is_terminal(),
        }
    }

    /// A new chapter.
    pub fn chapter(&self, title: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        Self::print(&format!(
            "\n{}",
            self.paint("1", &format!("== {title}  [{seconds:.1}s]"))
        ));
    }

    /// A remark of the narrator.
    pub fn say(&self, remark: &str) {
        Self::print(&self.paint("2", &format!("# {remark}")));
    }

    /// Prints a text as it is.
    pub fn print(text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader who has closed the pipe wants no more of the story.
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// Somebody types a kubectl command that works. What it prints is shown.
    pub async fn types(&self, user: User, arguments: &[&str]) -> Result<String> {
        self.types_with(user, arguments, "").await
    }

    /// The same, with a manifest on standard input.
    pub async fn types_with(&self, user: User, arguments: &[&str], input: &str) -> Result<String> {
        self.show_prompt(user, arguments, input);
        let printed = self.quietly(user, arguments, input).await?;
        Self::print(printed.trim_end());
        Ok(printed)
    }

    /// Somebody types a kubectl command that the API server must refuse. What it says is shown.
    pub async fn is_refused(&self, user: User, arguments: &[&str]) -> Result<()> {
        self.show_prompt(user, arguments, "");
        let output = self.cluster.kubectl(user, &self.scoped(arguments)).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        Self::print(said.trim_end());
        ensure!(
            !output.status.success(),
            "this must be refused, and was not"
        );
        ensure!(
            said.contains("Forbidden"),
            "this must be refused as Forbidden"
        );
        Ok(())
    }

    /// A kubectl command that is not part of the story.
    pub async fn quietly(&self, user: User, arguments: &[&str], input: &str) -> Result<String> {
        self.cluster
            .kubectl_ok(user, &self.scoped(arguments), input)
            .await
    }

    fn scoped<'b>(&'b self, arguments: &[&'b str]) -> Vec<&'b str> {
        [&["--namespace", self.namespace.as_str()], arguments].concat()
    }

    fn show_prompt(&self, user: User, arguments: &[&str], input: &str) {
        let (arguments, input) = testkit::typed::kubectl(user, arguments, input);
        let typed: Vec<String> = arguments.iter().map(|argument| shell(argument)).collect();
        let prompt = format!("{} $ kubectl {}", user.context(), typed.join(" "));
        Self::print(&self.paint("36", &prompt));
        if !input.is_empty() {
            Self::print(input.trim_end());
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// An argument as a person would quote it.
fn shell(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    if argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{argument}'")
    }
}
