//! What somebody tries, and what the API server says to it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use crate::stage::{APP, REQUEST};

/// A write: what it is, the arguments of kubectl, and what it reads.
pub struct Attempt {
    /// What it is.
    pub what: &'static str,
    arguments: Vec<String>,
    input: String,
}

/// What the API server says to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is refused, with the words of the quarantine.
    Refused,
    /// It is accepted, with a warning.
    Warned,
    /// It is accepted.
    Accepted,
}

impl Attempt {
    /// kubectl with these arguments, which reads nothing.
    pub fn kubectl(what: &'static str, arguments: &[&str]) -> Self {
        Self::reading(what, arguments, "")
    }

    /// kubectl with these arguments, which reads an object.
    pub fn object(what: &'static str, arguments: &[&str], object: &Value) -> Self {
        let reading = [arguments, &["-f", "-"]].concat();
        Self::reading(what, &reading, &object.to_string())
    }

    /// A patch of the pods' spec.
    pub fn patch(what: &'static str, spec: &Value) -> Self {
        let patch = json!({"spec": {"template": {"spec": spec}}}).to_string();
        Self::kubectl(what, &["patch", "deployment", APP, "-p", &patch])
    }

    fn reading(what: &'static str, arguments: &[&str], input: &str) -> Self {
        Self {
            what,
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            input: input.to_owned(),
        }
    }

    /// What the API server says, without anything being stored.
    pub async fn try_out(&self, scene: &Scene) -> Result<(Answer, String)> {
        self.run(scene, &["--dry-run=server"]).await
    }

    /// Does it.
    pub async fn carry_out(&self, scene: &Scene) -> Result<(Answer, String)> {
        self.run(scene, &[]).await
    }

    async fn run(&self, scene: &Scene, more: &[&str]) -> Result<(Answer, String)> {
        let mut arguments = vec!["-n", scene.ns()];
        arguments.extend(self.arguments.iter().map(String::as_str));
        arguments.extend(more);
        let output = scene
            .cluster
            .kubectl_with_input(User::Admin, &arguments, &self.input)
            .await?;
        let said = String::from_utf8(output.stderr)?;
        let about = said.contains("rollback-quarantine") && said.contains(REQUEST);
        let answer = match (output.status.success(), about) {
            (false, true) => Answer::Refused,
            (true, true) => Answer::Warned,
            (true, false) => Answer::Accepted,
            (false, false) => anyhow::bail!("{}: kubectl failed: {said}", self.what),
        };
        Ok((answer, said))
    }
}

/// Waits until this is said to an attempt: the API server learns of a ledger a moment after it is written.
pub async fn wait_for(scene: &Scene, attempt: &Attempt, expected: Answer) -> Result<String> {
    eventually("the API server knows", PATIENCE, async || {
        let (answer, said) = attempt.try_out(scene).await?;
        ensure!(answer == expected, "{}: {answer:?} {said}", attempt.what);
        Ok(said)
    })
    .await
}
