//! What people read when they are refused, kept in `messages.txt`: each message once, whomever and whatever it names.
//! After a change on purpose:
//! `UPDATE_MESSAGES=1 cargo test -p rollback-controller --test attacks refused`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use crate::attack::Attempt;
use crate::fire::Answer;
use crate::people::Way;

const GOLDEN: &str = "messages.txt";
/// What is said only where people write who they are.
const TYPED: &str = "messages-typed.txt";

/// Categories and urgencies.
const KINDS: [&str; 11] = [
    "Low",
    "Medium",
    "High",
    "Critical",
    "Immediate",
    "HealthCheck",
    "ErrorRate",
    "Latency",
    "BusinessLogic",
    "Security",
    "Feature",
];

/// How wide a line is.
const WIDTH: usize = 110;

/// Every message once, under the attempt that was the first to be told it.
pub struct Page {
    namespace: String,
    text: String,
    family: &'static str,
    known: BTreeSet<String>,
}

impl Page {
    /// An empty one for this namespace.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            text: "What is said to those who are refused: each message once, under the first attempt that is told it.\n".to_owned(),
            family: "",
            known: BTreeSet::new(),
        }
    }

    /// Writes it down, unless somebody was told the same.
    pub fn add(&mut self, attempt: &Attempt, answer: &Answer) -> Result<()> {
        // Kubernetes says this in one of two ways.
        if matches!(attempt.who.way, Way::Through(..)) {
            return Ok(());
        }
        // Everything else is said in the same words everywhere.
        if testkit::typed::is_on() && !attempt.family.starts_with("identity") {
            return Ok(());
        }
        // Another one each time.
        if attempt.what.pointer("/metadata/generateName").is_some() {
            return Ok(());
        }
        let message = normal(&answer.message.replace(&self.namespace, "shop"));
        if !self.known.insert(shape(&message, attempt)) {
            return Ok(());
        }
        if self.family != attempt.family {
            self.family = attempt.family;
            write!(self.text, "\n# {}\n", attempt.family)?;
        }
        write!(
            self.text,
            "\n{} (HTTP {})\n{}\n",
            attempt.id,
            answer.code,
            wrapped(&message)
        )?;
        Ok(())
    }

    /// Compares it with what is known, or writes that anew.
    pub fn compare(&self) -> Result<()> {
        let golden = if testkit::typed::is_on() {
            TYPED
        } else {
            GOLDEN
        };
        let path = testkit::workspace()
            .join("tests/scenarios/attacks")
            .join(golden);
        if std::env::var_os("UPDATE_MESSAGES").is_some() {
            std::fs::write(path, &self.text)?;
            return Ok(());
        }
        let known = std::fs::read_to_string(path).context("nothing to compare with")?;
        for (number, (now, then)) in self.text.lines().zip(known.lines()).enumerate() {
            if now != then {
                bail!("{golden}, line {}:\n  was {then}\n  is  {now}", number + 1);
            }
        }
        ensure!(self.text == known, "{golden} is longer or shorter");
        Ok(())
    }
}

/// Without what differs from run to run.
fn normal(message: &str) -> String {
    let mut text = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once("sha256:") {
        let digits = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        text.push_str(before);
        text.push_str(if digits == 64 {
            "sha256:..."
        } else {
            "sha256:"
        });
        rest = &after[if digits == 64 { 64 } else { 0 }..];
    }
    text.push_str(rest);
    text
}

/// What is the same in messages that differ only in whom and what they name.
fn shape(message: &str, attempt: &Attempt) -> String {
    let message = message
        .replace(&attempt.who.name("shop"), "WHO")
        .replace(&attempt.on.slug(), "IT");
    let words = message.split(' ').map(|state| {
        if state.starts_with("rollback.broxiva.com/") {
            "KEY"
        } else if KINDS.contains(&state.trim_matches(|c: char| !c.is_alphabetic())) {
            "KIND"
        } else if state.contains("@broxiva.example") || state.contains("system:serviceaccount:") {
            "WHO"
        } else {
            state
        }
    });
    let mut words: Vec<&str> = words.collect();
    words.dedup();
    words.join(" ")
}

fn wrapped(message: &str) -> String {
    let mut text = String::from("   ");
    let mut width = 0;
    for state in message.split(' ') {
        if width > 0 && width + state.len() > WIDTH {
            text.push_str("\n   ");
            width = 0;
        }
        text.push(' ');
        text.push_str(state);
        width += state.len() + 1;
    }
    text
}
