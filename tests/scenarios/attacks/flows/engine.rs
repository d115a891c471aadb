//! A flow is a list of steps; each has to work.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use rollback_api::{APPROVED_BY, RequestState};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, request};
use testkit::{User, eventually};
use tokio::io::AsyncWriteExt as _;

use crate::attack::{How, POST, Thing};
use crate::fire::{filled, merged};
use crate::people::{Person, REQUESTER, Way};
use crate::stage::Stage;

/// A few steps that belong together.
#[derive(Clone)]
pub struct Flow {
    /// What it is called; its request is called the same.
    pub name: &'static str,
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step. What is said of the request means that of the flow.
#[derive(Clone)]
pub enum Step {
    /// Somebody asks, with this in the specification.
    Asks(Person, How, Value),
    /// The plan is there.
    Planned,
    /// Somebody does something to the request.
    Does(Person, How, Value),
    /// Somebody does something to something else.
    To(Person, How, Thing, Value),
    /// Somebody uses kubectl, with this to read.
    Kubectl(User, &'static [&'static str], Value),
    /// Somebody uses kubectl edit, with this instruction for sed.
    Edits(User, &'static str),
    /// So many approvals are counted.
    Counted(usize),
    /// This place holds this.
    Holds(Thing, &'static str, Value),
    /// The request has ended like this.
    Ends(RequestState),
    /// This is gone.
    Gone(Thing),
}

impl Flow {
    /// Takes all steps.
    pub async fn run(&self, stage: &Stage) -> Result<()> {
        for (number, step) in self.steps.iter().enumerate() {
            self.take(stage, step)
                .await
                .with_context(|| format!("step {number}"))?;
        }
        Ok(())
    }

    fn itself(&self) -> Thing {
        Thing::Called(self.name)
    }

    async fn take(&self, stage: &Stage, step: &Step) -> Result<()> {
        match step {
            Step::Asks(who, how, spec) => {
                // The whole, as it is in a file: so it can be applied again.
                let whole = request(self.name, json!([{"name": "api", "to": {"previous": {}}}]));
                let named = merged(&whole, &json!({"spec": spec}));
                let on = if how.verb == POST.verb {
                    Thing::NewRequest
                } else {
                    self.itself()
                };
                does(stage, *who, *how, on, &named).await
            }
            Step::Planned => stage.scene.plan(self.name).await.map(drop),
            Step::Does(who, how, what) => does(stage, *who, *how, self.itself(), what).await,
            Step::To(who, how, on, what) => does(stage, *who, *how, *on, what).await,
            Step::Kubectl(user, arguments, input) => {
                self.kubectl(stage, *user, arguments, input).await
            }
            Step::Edits(user, instruction) => self.edit(stage, *user, instruction).await,
            Step::Counted(wanted) => {
                eventually("it is counted", PATIENCE, async || {
                    let request = stage.scene.request(self.name).await?;
                    let mailbox = request.annotations().contains_key(APPROVED_BY);
                    let counted = request.status.unwrap_or_default().approvals;
                    ensure!(counted.len() == *wanted, "{counted:?}");
                    ensure!(!mailbox, "it is not put away yet");
                    Ok(())
                })
                .await
            }
            Step::Holds(on, place, value) => holds(stage, *on, place, value).await,
            Step::Ends(result) => {
                let (_, outcome) = stage.scene.wait_for_end(self.name).await?;
                ensure!(outcome.result == *result, "{outcome:?}");
                Ok(())
            }
            Step::Gone(on) => {
                eventually("it is gone", PATIENCE, async || {
                    let left = stage.look(*on, &json!({})).await?;
                    ensure!(left.is_null(), "{left}");
                    Ok(())
                })
                .await
            }
        }
    }

    async fn names(&self, stage: &Stage, user: User) -> Result<Vec<(&'static str, String)>> {
        let person = Person {
            slug: "",
            way: Way::Token(user),
            roles: &[],
        };
        let mut names = stage.names(person, self.itself()).await?.to_vec();
        names.push(("$NAME", self.name.to_owned()));
        Ok(names)
    }

    async fn kubectl(
        &self,
        stage: &Stage,
        user: User,
        arguments: &[&str],
        input: &Value,
    ) -> Result<()> {
        let names = self.names(stage, user).await?;
        let arguments = filled(&json!(arguments), &names);
        let arguments: Vec<&str> = arguments
            .as_array()
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let input = filled(input, &names).to_string();
        let cluster = stage.scene.cluster;
        cluster.kubectl_ok(user, &arguments, &input).await?;
        Ok(())
    }

    async fn edit(&self, stage: &Stage, user: User, instruction: &str) -> Result<()> {
        let names = self.names(stage, user).await?;
        let instruction = filled(&json!(instruction), &names);
        let editor = format!("sed -i '{}'", instruction.as_str().unwrap_or_default());
        let mut kubectl = stage
            .scene
            .cluster
            .kubectl_command(user)
            .args(["edit", "rbr", self.name, "-n", stage.ns()])
            .env("KUBE_EDITOR", editor)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        kubectl.stdin.take().context("no stdin")?.shutdown().await?;
        let output = kubectl.wait_with_output().await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }
}

/// Does it; once more when the controller has written something meanwhile.
async fn does(stage: &Stage, who: Person, how: How, on: Thing, what: &Value) -> Result<()> {
    eventually("nobody is in the way", PATIENCE, async || {
        let answer = stage.fire(who, how, on, what).await?;
        ensure!(answer.code != 409, "{}", answer.message);
        Ok(answer)
    })
    .await
    .and_then(|answer| {
        ensure!(
            answer.passed(),
            "{who:?} {how}: HTTP {} {}",
            answer.code,
            answer.message
        );
        Ok(())
    })
}

async fn holds(stage: &Stage, on: Thing, place: &str, value: &Value) -> Result<()> {
    eventually("it holds", PATIENCE, async || {
        let object = stage.look(on, &json!({})).await?;
        let found = object.pointer(place).cloned().unwrap_or_default();
        let wanted = filled(value, &[("$NS", stage.ns().to_owned())]);
        ensure!(found == wanted, "{place} is {found}");
        Ok(())
    })
    .await
}

/// An approval by these means.
pub fn approves(who: Person, how: How, what: Value) -> Vec<Step> {
    vec![Step::Planned, Step::Does(who, how, what), Step::Counted(1)]
}

/// A request of another Deployment.
pub fn of(deployment: &str) -> Value {
    json!({"targets": [{"name": deployment, "to": {"previous": {}}}]})
}

/// The same, and this besides.
pub fn of_and(deployment: &str, more: &Value) -> Value {
    merged(&of(deployment), more)
}

/// Steps under one name.
pub fn flow(name: &'static str, steps: Vec<Step>) -> Flow {
    Flow { name, steps }
}

/// The requester asks, and then.
pub fn asked(name: &'static str, then: Vec<Step>) -> Flow {
    asked_for(name, REQUESTER, json!({}), then)
}

/// Somebody asks, and then.
pub fn asked_for(name: &'static str, who: Person, spec: Value, then: Vec<Step>) -> Flow {
    let mut steps = vec![Step::Asks(who, POST, spec)];
    steps.extend(then);
    flow(name, steps)
}
